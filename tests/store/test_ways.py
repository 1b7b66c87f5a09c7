"""Where a request line leads is remembered; never longer than what was true of it."""

import asyncio
import json
import re
from typing import Any

import pytest

from strongroom.model.errors import NotFound
from strongroom.store.deadlines import Deadlines
from strongroom.store.normalise import normalise_line
from strongroom.store.routing import LONGEST_TARGET, WAYS
from strongroom.wire.http import Request

NOBODY = frozenset[str]()
BODY = {"data": {"k": "v"}}


def known(store, method: str, path: str) -> Any:
    return store.handler._router.known((method, f"/v1/{path}", NOBODY))


async def writer(store, path: str = "secret/data/a") -> str:
    """A token that may write there, and has."""
    rule = f'path "{path}" {{ capabilities = ["create", "update"] }}'
    token = str(await store.token_with(rule))
    for _ in range(2):
        assert (await store.ask("POST", path, BODY, token=token))[0] in (200, 204)
    assert known(store, "POST", path) is not None
    return token


async def test_a_way_is_the_one_that_is_found_anew(store) -> None:
    await store.ask("POST", "secret/data/a", BODY)
    kept = known(store, "POST", "secret/data/a")
    line = normalise_line("POST", "/v1/secret/data/a", "")

    def found(_: object) -> Any:
        return store.handler._router.find(line.path, line.operation)

    assert (kept.line, kept.route) == (line, await store.read(found))
    assert kept.route.path == kept.line.path == "secret/data/a"


async def test_a_way_ends_with_the_policy(store) -> None:
    token = await writer(store)
    _, mine = await store.ask("GET", "sys/policies/acl?list=true")
    (name,) = {*mine["data"]["keys"]} - {"default", "root"}
    text = 'path "secret/data/a" { capabilities = ["read"] }'
    await store.ask("PUT", f"sys/policies/acl/{name}", {"policy": text})
    assert (await store.ask("POST", "secret/data/a", BODY, token=token))[0] == 403
    await store.ask("DELETE", f"sys/policies/acl/{name}")
    assert (await store.ask("POST", "secret/data/a", BODY, token=token))[0] == 403


async def test_a_way_ends_with_the_token(store) -> None:
    revoked, ended = (
        await writer(store),
        await store.token_with(
            'path "secret/data/a" { capabilities = ["create", "update"] }', ttl="60s"
        ),
    )
    assert (await store.ask("POST", "secret/data/a", BODY, token=ended))[0] == 200
    await store.ask("POST", "auth/token/revoke", {"token": revoked})
    assert (await store.ask("POST", "secret/data/a", BODY, token=revoked))[0] == 403
    assert (await store.ask("POST", "secret/data/a", BODY, token=ended))[0] == 200
    store.clock.step_wall(61)
    assert (await store.ask("POST", "secret/data/a", BODY, token=ended))[0] == 403
    assert (await store.ask("POST", "secret/data/a", BODY, token=""))[0] == 403
    assert (await store.ask("POST", "secret/data/a", BODY, token="x"))[0] == 403


async def test_a_way_is_nobody_elses_permission(store) -> None:
    await writer(store)
    other = await store.token_with('path "secret/data/b" { capabilities = ["update"] }')
    assert (await store.ask("POST", "secret/data/a", BODY, token=other))[0] == 403


async def test_a_way_ends_when_its_mount_moves(store) -> None:
    token = await writer(store)
    await store.ask("POST", "sys/remount", {"from": "secret", "to": "moved"})
    assert (await store.ask("POST", "secret/data/a", BODY, token=token))[0] == 404
    assert (await store.ask("POST", "secret/data/a", BODY))[0] == 404
    assert (await store.ask("POST", "moved/data/a", BODY, token=token))[0] == 403
    _, read = await store.ask("GET", "moved/data/a")
    assert read["data"]["metadata"]["version"] == 2


async def test_a_way_ends_when_another_mount_comes_to_its_path(store) -> None:
    await store.ask("POST", "sys/mounts/kv", {"type": "kv", "options": {"version": "2"}})
    token = await writer(store, "kv/data/a")
    before = known(store, "POST", "kv/data/a").route.mount.uuid
    await store.ask("DELETE", "sys/mounts/kv")
    assert (await store.ask("POST", "kv/data/a", BODY))[0] == 404
    await store.ask("POST", "sys/mounts/kv", {"type": "kv", "options": {"version": "1"}})
    assert (await store.ask("POST", "kv/data/a", BODY, token=token))[0] == 204
    assert (await store.ask("GET", "kv/data/a"))[1]["data"] == BODY
    assert known(store, "POST", "kv/data/a").route.mount.uuid != before


async def test_another_spelling_or_verb_is_another_line(store) -> None:
    token = await writer(store)
    ask = store.ask
    assert (await ask("DELETE", "secret/data/a", token=token))[0] == 403
    assert (await ask("GET", "secret/data/a", token=token))[0] == 403
    assert (await ask("PUT", "secret/data/a", BODY, token=token))[0] == 200
    # What is decided about is the canonical path, however it was written.
    assert (await ask("POST", "secret//data/a", BODY, token=token))[0] == 200
    assert known(store, "POST", "secret//data/a").line.path == "secret/data/a"
    for each in ("secret/data/b", "secret/data//b", "secret/data/A", "secret/data/a%2Fb"):
        assert (await ask("POST", each, BODY, token=token))[0] == 403
    assert (await ask("POST", "secret/data/a/", BODY, token=token))[0] == 400
    merge = {"Content_Type": "application/merge-patch+json"}
    assert (await ask("PATCH", "secret/data/a", BODY, **merge))[0] == 200
    assert (await ask("PATCH", "secret/data/a", BODY, Content_Type="application/json"))[0] == 415


async def test_headers_are_looked_at_though_the_way_is_known(store) -> None:
    token = await writer(store)
    assert (await store.ask("POST", "secret/data/a", BODY, token, X_Vault_Namespace="x"))[0] == 404
    assert (await store.ask("POST", "secret/data/a", BODY, token, X_Vault_Wrap_TTL="-1"))[0] == 400
    status, said = await store.ask("POST", "secret/data/a", BODY, token, X_Vault_Wrap_TTL="60")
    assert (status, said["data"]) == (200, None)
    assert said["wrap_info"]["token"]
    await store.ask("POST", "sys/quotas/rate-limit/q", {"path": "secret/", "rate": 1})
    answers = {(await store.ask("POST", "secret/data/a", BODY, token))[0] for _ in range(3)}
    assert answers == {200, 429}


async def test_parameters_of_a_policy_are_looked_at_though_the_way_is_known(store) -> None:
    token = await store.token_with(
        'path "secret/data/a" { capabilities = ["create", "update"]'
        ' denied_parameters = { "options" = [] } }'
    )
    assert (await store.ask("POST", "secret/data/a", BODY, token=token))[0] == 200
    denied = {**BODY, "options": {"cas": 1}}
    assert (await store.ask("POST", "secret/data/a", denied, token=token))[0] == 403
    assert (await store.ask("POST", "secret/data/a", BODY, token=token))[0] == 200


async def test_what_one_request_brings_is_not_the_next_ones(store) -> None:
    for name in ("b", "a"):
        await store.ask("POST", f"secret/data/{name}", BODY)
    lines = [await store.ask("LIST", "secret/metadata?limit=1") for _ in range(2)]
    first, second = (each["data"]["keys"] for _, each in lines)
    assert first == second
    assert len(first) == 1
    kept = known(store, "LIST", "secret/metadata?limit=1")
    assert kept.line.data == {"limit": "1"}
    assert (await store.ask("POST", "secret/data/a", b""))[0] == 400


def scrubbed(lines: list[bytes]) -> list[bytes]:
    """But for the ids, which are random."""
    return [re.sub(rb'"id":"[0-9a-f-]{36}"', b'"id":""', each) for each in lines]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "kv/a", {"k": "v", "since": "2026-01-02T03:04:05Z"}),
        ("POST", "transit/hmac/key", {"input": "dmFsdWU="}),
        ("POST", "transit/nothing/key", {"input": "dmFsdWU="}),
        ("POST", "sys/tools/hash", {"input": "dmFsdWU=", "odd": 1}),
        ("GET", "auth/token/lookup-self", None),
        ("LIST", "kv/", None),
        ("DELETE", "kv/none", None),
        ("POST", "auth/userpass/login/ann", {"password": "wrong"}),
        ("POST", "nowhere/at/all", {}),
    ],
)
async def test_records_are_the_same_with_a_way_that_is_known(store, method, path, body) -> None:
    await store.ask("POST", "sys/mounts/kv", {"type": "kv"})
    await store.ask("POST", "sys/mounts/transit", {"type": "transit"})
    await store.ask("POST", "sys/auth/userpass", {"type": "userpass"})
    await store.ask("POST", "auth/userpass/users/ann", {"password": "right"})
    await store.ask("POST", "transit/keys/key")
    await store.ask("POST", "kv/a", {"k": "v"})
    said: list[Any] = []
    for token in (store.root, await store.token_with('path "*" { capabilities = ["deny"] }')):
        # Whatever was known is forgotten with this, here and in what is remembered of replies.
        text = 'path "other" { capabilities = ["read"] }'
        assert (await store.ask("PUT", "sys/policies/acl/other", {"policy": text}))[0] == 204
        await store.ask("GET", "secret/data/none")
        assert known(store, method, path) is None
        for _ in range(2):
            store.device.lines.clear()
            status, answer = await store.ask(method, path, body, token=token)
            answer.pop("request_id", None) if isinstance(answer, dict) else None
            said.append((status, answer, scrubbed(store.device.lines)))
    assert said[0] == said[1]
    assert said[2] == said[3]
    assert len(said[0][2]) == 2
    assert json.loads(said[0][2][0])["type"] == "request"


async def test_what_a_listener_opens_is_not_open_on_others(store) -> None:
    router = store.handler._router
    line = normalise_line("GET", "/v1/sys/in-flight-req", "")

    def ways(_: object) -> Any:
        opened = router.way(line, ("GET", "/v1/sys/in-flight-req", frozenset({"in-flight"})))
        return opened, router.way(line, ("GET", "/v1/sys/in-flight-req", NOBODY))

    opened, closed = await store.read(ways)
    assert (opened.route.endpoint.public, closed.route.endpoint.public) == (True, False)
    assert router.known(("GET", "/v1/sys/in-flight-req", NOBODY)) is closed
    assert (await store.ask("GET", "sys/in-flight-req", token=""))[0] == 403


async def test_no_more_is_remembered_than_there_is_room_for(store) -> None:
    router = store.handler._router

    def fill(_: object) -> int:
        for number in range(WAYS + 10):
            target = f"/v1/secret/data/{number}"
            router.way(normalise_line("POST", target, ""), ("POST", target, NOBODY))
        long = "/v1/secret/data/" + "x" * LONGEST_TARGET
        router.way(normalise_line("POST", long, ""), ("POST", long, NOBODY))
        assert router.known(("POST", long, NOBODY)) is None
        with pytest.raises(NotFound):
            router.way(normalise_line("POST", "/v1/nowhere", ""), ("POST", "/v1/nowhere", NOBODY))
        assert router.known(("POST", "/v1/nowhere", NOBODY)) is None
        return len(router._ways)

    assert 0 < await store.read(fill) <= WAYS


async def test_who_may_send_a_file_is_asked_each_time(store) -> None:
    async def admits(token: str) -> bool:
        async def ask() -> bool:
            target, headers = "/v1/sys/storage/raft/snapshot", {"x-vault-token": token}
            return bool(store.handler.admits(Request("POST", target, headers)))

        return bool(await store.engine.waiting(ask()))

    assert [await admits(each) for each in (store.root, "", store.root, "x")] == [
        True, False, True, False,
    ]  # fmt: skip


async def test_a_task_that_takes_too_long_is_cancelled_and_told_why() -> None:
    deadlines = Deadlines(0.02)

    async def waits(awaited: asyncio.Future[None]) -> str:
        task, late = asyncio.current_task(), False
        assert task is not None
        deadlines.begin(task, task.cancel)
        try:
            try:
                await awaited
            finally:
                late = deadlines.end(task) and task.uncancel() == 0
        except asyncio.CancelledError:
            return "late" if late else "cancelled"
        return "done"

    loop = asyncio.get_running_loop()
    never, soon = loop.create_future(), loop.create_future()
    soon.set_result(None)
    tasks = [asyncio.create_task(waits(each)) for each in (never, soon, never)]
    tasks[2].cancel()
    assert await tasks[0] == "late"
    assert await tasks[1] == "done"
    with pytest.raises(asyncio.CancelledError):
        await tasks[2]
    # One that begins after the timer has run out of work has its time as well.
    assert await asyncio.create_task(waits(loop.create_future())) == "late"
