"""What another process commits between two reads of one request is no bug, and hides no secret."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.conftest import Store, serving
from tests.store.test_kubernetes_auth import jwt

from strongroom.crypto.keyring import KeyRing
from strongroom.model.clock import SimulatedClock
from strongroom.model.principal import ReviewedToken
from strongroom.store.engine._store_rows import StoreRows
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.contract import KvMetadata
from strongroom.store.engine.sqlite import SqliteEngine
from strongroom.wire.http import Request


class Between:
    """Whatever it stands before, but that `meanwhile` answers first."""

    def __init__(self, behind: Any) -> None:
        self._behind = behind
        self.meanwhile: dict[str, Callable[..., Any]] = {}

    def __getattr__(self, name: str) -> Any:
        return self.meanwhile.pop(name, None) or getattr(self._behind, name)


@pytest.fixture
async def busy(tmp_path: Path) -> AsyncIterator[tuple[Store, Between]]:
    """A store, and its view, that another process may write under."""
    barrier = Barrier()
    engine: Any = Between(SqliteEngine(tmp_path / "db", barrier))
    view = Between(engine.view)
    engine.view = view
    async with serving(engine, barrier, tmp_path / "key", SimulatedClock()) as running:
        yield running, view


@pytest.mark.parametrize(("mount", "version"), [("kv1", "1"), ("kv2", "2")])
async def test_a_secret_that_is_overwritten_while_it_is_read_is_there(
    busy: tuple[Store, Between], mount: str, version: str
) -> None:
    """Its data is removed with the version, where one version is kept."""
    store, view = busy
    path = f"{mount}/a" if version == "1" else f"{mount}/data/a"
    body: dict[str, Any] = {"type": "kv", "options": {"version": version}}
    await store.ask("POST", f"sys/mounts/{mount}", body)
    body = {"k": "v"} if version == "1" else {"data": {"k": "v"}}
    await store.ask("POST", path, body)
    # The row is read, then the data of a version that is gone by now.
    view.meanwhile = {"kv_data": lambda *_: None, "kv_stands": lambda *_: False}
    status, said = await store.ask("GET", path)
    assert (status, said["data"]["k"] if version == "1" else said["data"]["data"]["k"]) == (
        200, "v",
    )  # fmt: skip
    assert view.meanwhile == {}
    # Data that is missing while the row stands is missing.
    view.meanwhile = {"kv_data": lambda *_: None}
    assert (await store.ask("GET", f"{path}?version=1"))[0] == 404


async def test_a_secret_that_is_removed_while_it_is_looked_for_is_not_there(tmp_path: Path) -> None:
    barrier = Barrier()
    barrier.unseal(KeyRing.new(0.0))
    engine = SqliteEngine(tmp_path / "db", barrier)
    await engine.transact(lambda each: each.put_kv_metadata(KvMetadata("m", "a/b", 1.0, 2.0)))
    sql = Between(engine._reads)
    view = StoreRows(sql, barrier)  # type: ignore[arg-type]

    def removed(statement: str, *values: object) -> Any:
        """The walk finds the node, and its row is gone at the next look."""
        if "WHERE id = ?" in statement:
            return None
        sql.meanwhile = {"one": removed}
        return engine._reads.one(statement, *values)

    for ask in (view.kv_exists, view.kv_metadata):
        sql.meanwhile = {"one": removed}
        assert not ask("m", "a/b")
        assert sql.meanwhile == {}
    assert view.kv_exists("m", "a/b")
    await engine.close()


@pytest.mark.parametrize("asked", ["token", "mounts", "policy", "entity"])
async def test_what_is_read_while_something_is_forgotten_is_not_kept(
    busy: tuple[Store, Between], asked: str
) -> None:
    """A read may be older than the commit that another request has just heard of."""
    store, view = busy
    await store.ask("POST", "secret/data/a", {"data": {"k": "v"}})
    await store.ask("POST", "sys/auth/userpass", {"type": "userpass"})
    policy = {"policy": 'path "secret/data/a" { capabilities = ["read"] }'}
    await store.ask("PUT", "sys/policies/acl/team", policy)
    user = {"password": "pw", "token_policies": "team"}
    await store.ask("POST", "auth/userpass/users/ada", user)
    _, said = await store.ask("POST", "auth/userpass/login/ada", {"password": "pw"}, token="")
    token = said["auth"]["client_token"]
    live, read = store.handler._context.sessions, getattr(view, asked)
    live.forget()

    def forgotten(*values: object) -> Any:
        found = read(*values)
        live.forget()
        return found

    view.meanwhile = {asked: forgotten}
    assert (await store.ask("GET", "secret/data/a", token=token))[0] == 200
    assert view.meanwhile == {}
    assert live.known(token) is None
    # Nor what was read; policies are read once more for the rules, after that.
    assert not getattr(live, {"mounts": "_methods", "entity": "_identities"}.get(asked, "_live"))


@pytest.mark.parametrize("method", ["approle", "userpass", "kubernetes"])
async def test_a_login_gives_nothing_by_a_role_or_user_as_it_was_before(
    busy: tuple[Store, Between], method: str
) -> None:
    """A policy that was taken away while somebody was on the way is in no token."""
    store, view = busy
    for each in ("approle", "userpass", "kubernetes"):
        await store.ask("POST", f"sys/auth/{each}", {"type": each})
    await store.ask("POST", "auth/approle/role/r", {"role_id": "rid", "secret_id_num_uses": 1})
    await store.ask("POST", "auth/userpass/users/ada", {"password": "pw"})
    _, made = await store.ask("POST", "auth/approle/role/r/secret-id", {})
    cluster = {"kubernetes_host": "https://cluster", "token_reviewer_jwt": "reviewer"}
    await store.ask("POST", "auth/kubernetes/config", cluster)
    pods = {"bound_service_account_names": "app", "bound_service_account_namespaces": "tour"}
    await store.ask("POST", "auth/kubernetes/role/r", pods)
    store.reviewer.known[jwt("app")] = ReviewedToken("tour", "app", "uid")
    kind, path, login = {
        "approle": ("role", "login", {"role_id": "rid", "secret_id": made["data"]["secret_id"]}),
        "userpass": ("user", "login/ada", {"password": "pw"}),
        "kubernetes": ("role", "login", {"role": "r", "jwt": jwt("app")}),
    }[method]
    read = view.document

    def before(mount: str, asked: str, name: str) -> Any:
        found = read(mount, asked, name)
        if asked == kind:
            return {**found, "token_policies": ["admin"]}
        view.meanwhile["document"] = before
        return found

    view.meanwhile = {"document": before}
    assert (await store.ask("POST", f"auth/{method}/{path}", login, token=""))[0] == 403
    assert view.meanwhile == {}
    # What was refused has used nothing up.
    assert (await store.ask("POST", f"auth/{method}/{path}", login, token=""))[0] == 200


async def test_a_quota_that_is_made_while_quotas_are_read_counts(
    busy: tuple[Store, Between],
) -> None:
    store, view = busy
    await store.ask("POST", "secret/data/a", {"data": {"k": "v"}})
    body = {"rate": 1, "interval": "1h", "path": "secret"}
    await store.ask("POST", "sys/quotas/rate-limit/q", body)
    quotas = store.handler._context.quotas
    quotas.forget()

    def before_it_was_made(*_: object) -> list[str]:
        quotas.forget()
        return []

    view.meanwhile = {"document_names": before_it_was_made}
    statuses = [(await store.ask("GET", "secret/data/a"))[0] for _ in range(3)]
    assert view.meanwhile == {}
    assert statuses[-1] == 429


async def test_a_quota_that_is_removed_while_quotas_are_read_is_no_bug(
    busy: tuple[Store, Between],
) -> None:
    store, view = busy
    assert (await store.ask("GET", "sys/mounts"))[0] == 200
    store.handler._context.quotas.forget()
    view.meanwhile = {"document_names": lambda *_: ["removed"]}
    assert (await store.ask("GET", "sys/mounts"))[0] == 200
    assert view.meanwhile == {}


async def test_a_request_is_not_answered_by_a_look_that_is_older_than_it(
    serve_with: Callable[[], AbstractAsyncContextManager[Store]], tmp_path: Path
) -> None:
    """uvloop reads sockets while a turn is open that the replies before it have begun."""
    async with serve_with() as store:
        token = await store.token_with('path "secret/data/*" { capabilities = ["read", "update"] }')
        await store.ask("POST", "secret/data/a", {"data": {"k": "v"}})
        for _ in range(2):
            assert (await store.ask("GET", "secret/data/a", token=token))[0] == 200
        store.handler._begin_turn()
        # Another worker revokes every token of the same database, and says so before the request.
        with sqlite3.connect(tmp_path / "db") as other:
            other.execute("DELETE FROM token")
            other.execute("UPDATE generation SET value = value + 1")
        other.close()
        answered = asyncio.get_running_loop().create_future()
        exchange: Any = SimpleNamespace(reply=answered.set_result, headers=(), hidden=None)
        store.handler(Request("GET", "/v1/secret/data/a", {"x-vault-token": token}, b""), exchange)
        assert (await answered).status == 403


async def test_an_answer_of_a_session_that_was_forgotten_meanwhile_is_not_counted(
    busy: tuple[Store, Between],
) -> None:
    """Nobody would ever take it out of the count again."""
    store, view = busy
    await store.ask("POST", "secret/data/a", {"data": {"k": "v"}})
    live, read = store.handler._context.sessions, view.kv_data

    def forgotten(*values: object) -> Any:
        live.forget()
        return read(*values)

    view.meanwhile = {"kv_data": forgotten}
    assert (await store.ask("GET", "secret/data/a"))[0] == 200
    assert (view.meanwhile, live.prepared_bytes) == ({}, 0)
    assert (await store.ask("GET", "secret/data/a"))[0] == 200
    assert (await store.ask("GET", "secret/data/a"))[0] == 200
    assert live.prepared_bytes > 0


@pytest.mark.parametrize("kind", ["mounts", "auth"])
async def test_a_mount_that_is_moved_while_it_is_to_be_removed_is_kept(
    busy: tuple[Store, Between], kind: str
) -> None:
    """Its leases are revoked first, which may take long; what is at the new place stays there."""
    store, view = busy
    engine: Any = store.engine
    await store.ask("POST", f"sys/{kind}/old", {"type": "kv" if kind == "mounts" else "userpass"})
    prefix, name = ("", "k") if kind == "mounts" else ("auth/", "users/ada")
    await store.ask("POST", f"{prefix}old/{name}", {"password": "pw"})
    row = next(each for each in view.mounts() if each.path == "old/")

    async def moved(work: Callable[..., Any]) -> Any:
        await engine.transact(lambda each: each.move_mount(row, "new/"))
        return await engine.transact(work)

    engine.meanwhile = {"transact": moved}
    status, said = await store.ask("DELETE", f"sys/{kind}/old")
    assert (status, said["errors"]) == (400, ["'old/' was moved meanwhile; it is kept there"])
    assert engine.meanwhile == {}
    assert (await store.ask("GET", f"{prefix}new/{name}"))[0] == 200
    assert (await store.ask("GET", f"sys/{kind}"))[1]["data"].keys() >= {"new/"}
    assert (await store.ask("DELETE", f"sys/{kind}/new"))[0] == 204
