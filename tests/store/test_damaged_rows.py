"""Rows that were damaged behind the store's back: what they hold up is what they are about."""

import asyncio
import logging
from collections import Counter
from typing import Any

import pytest

from strongroom.model.errors import Invalid, Unavailable
from strongroom.model.secret import Secret
from strongroom.store.assembly import upkeep
from strongroom.store.notices import Notices
from strongroom.store.upkeep import AGAIN_SECONDS, LATE_SECONDS, Chore, Upkeep
from strongroom.wire.vault import VaultClient

GARBAGE = b"\x00\x00\x00\x01" + bytes(60)


async def sql(store: Any, statement: str, *values: object) -> Any:
    """What somebody does to the database behind the store's back."""
    return await store.engine.transact(lambda each: each._sql.one(statement, *values))


async def turn(store: Any) -> None:
    """One process's background work, once."""
    keeping = upkeep(store.engine, store.barrier, store.clock, store.seal)
    await store.engine.waiting(keeping.turn())


async def counted(store: Any, part: str) -> float:
    _, text = await store.ask("GET", "sys/metrics?format=prometheus")
    lines = [
        line
        for line in str(text).splitlines()
        if line.startswith("strongroom_background_failures_total") and f'part="{part}"' in line
    ]
    return sum(float(line.split()[-1]) for line in lines)


async def damage_mount(store: Any, kind: str, path: str) -> None:
    await sql(
        store,
        "UPDATE mount SET body = ? WHERE kind = ? AND path = ? RETURNING path",
        GARBAGE, kind, path,
    )  # fmt: skip
    # What changes a mount moves the generation, so that every node reads them anew.
    await store.engine.transact(lambda each: each.move_generation())


async def test_a_damaged_mount_refuses_alone_and_is_named(
    store: Any, caplog: pytest.LogCaptureFixture
) -> None:
    await store.ask("POST", "sys/mounts/other", {"type": "kv", "options": {"version": "2"}})
    await store.ask("POST", "other/data/a", {"data": {"k": "kept"}})
    (before,) = await sql(store, "SELECT body FROM mount WHERE path = ?", "other/")
    with caplog.at_level(logging.ERROR, "strongroom.store"):
        await damage_mount(store, "secret", "other/")
        named = "the row secret/other/ (version 1) of mount does not open under its key and place"
        hint = "restore the newest snapshot, or the row from a backup; other mounts are served"
        for method, path in (
            ("GET", "other/data/a"),
            ("POST", "other/data/a"),
            ("LIST", "other/metadata"),
            ("GET", "other/config"),
        ):
            status, said = await store.ask(method, path, {"data": {}})
            assert (status, said) == (500, {"errors": [f"{named}; {hint}"]})
        # Whoever may not ask for it is told nothing of it.
        token = await store.token_with('path "secret/*" { capabilities = ["read"] }')
        assert (await store.ask("GET", "other/data/a", token=token))[0] == 403
    assert len([each for each in caplog.messages if named in each]) == 1
    assert await counted(store, "mount row") >= 1
    # All else is served.
    assert (await store.ask("POST", "secret/data/a", {"data": {"k": "v"}}))[0] == 200
    assert (await store.ask("GET", "secret/data/a", token=token))[0] == 200
    _, mounts = await store.ask("GET", "sys/mounts")
    assert "secret/" in mounts["data"]
    # Nothing is mounted over it, for its secrets are still there.
    for path in ("other", "other/below"):
        status, said = await store.ask("POST", f"sys/mounts/{path}", {"type": "kv"})
        assert (status, said["errors"]) == (400, ["path is already in use at other/"])
    status, _ = await store.ask("POST", "sys/remount", {"from": "secret", "to": "other"})
    assert status == 400
    # The row from a backup, and all of it is there.
    await sql(store, "UPDATE mount SET body = ? WHERE path = ? RETURNING path", before, "other/")
    await store.engine.transact(lambda each: each.move_generation())
    _, found = await store.ask("GET", "other/data/a")
    assert found["data"]["data"] == {"k": "kept"}


async def test_a_mount_keeps_what_it_has_while_its_row_is_put_back(store: Any) -> None:
    """That is taken out and put in again; background work in between took all its secrets."""
    await store.ask("POST", "secret/data/a", {"data": {"k": "kept"}})
    taken = "DELETE FROM mount WHERE kind = 'secret' AND path = 'secret/' RETURNING version, body"
    version, body = await sql(store, taken)
    await turn(store)
    store.clock.step_wall(2 * LATE_SECONDS)
    await turn(store)
    put_in = "INSERT INTO mount VALUES ('secret', 'secret/', ?, ?) RETURNING path"
    await sql(store, put_in, version, bytes(body))
    await store.engine.transact(lambda each: each.move_generation())
    assert (await store.ask("GET", "secret/data/a"))[1]["data"]["data"] == {"k": "kept"}


async def test_settings_that_are_damaged_keep_no_token_alive(store: Any) -> None:
    await store.ask("POST", "secret/data/a", {"data": {"k": "v"}})
    await store.ask("POST", "sys/loggers/strongroom.store", {"level": "warn"})
    allowed = 'path "secret/*" { capabilities = ["read"] }'
    await store.ask("PUT", "sys/policies/acl/reader", {"policy": allowed})
    _, made = await store.ask("POST", "auth/token/create", {"policies": ["reader"]})
    token = made["auth"]["client_token"]
    assert (await store.ask("GET", "secret/data/a", token=token))[0] == 200
    # Of the process's own settings, which it reads when anything changes.
    statement = "UPDATE document SET body = ? WHERE kind = ? RETURNING 1"
    await sql(store, statement, GARBAGE, "loggers")
    # What another node does.
    denied = 'path "secret/*" { capabilities = ["deny"] }'
    await store.engine.transact(lambda each: each.put_policy("reader", denied))
    for _ in range(2):
        assert (await store.ask("GET", "secret/data/a", token=token))[0] == 403
    assert (await store.ask("GET", "secret/data/a"))[0] == 200
    assert await counted(store, "damaged row") >= 1


async def test_a_damaged_auth_method_lets_nobody_in_and_others_work(store: Any) -> None:
    await store.ask("POST", "sys/auth/userpass", {"type": "userpass"})
    await store.ask("POST", "auth/userpass/users/ada", {"password": "p"})
    _, made = await store.ask("POST", "auth/userpass/login/ada", {"password": "p"}, token="")
    token = made["auth"]["client_token"]
    assert (await store.ask("GET", "auth/token/lookup-self", token=token))[0] == 200
    await damage_mount(store, "auth", "userpass/")
    status, _ = await store.ask("POST", "auth/userpass/login/ada", {"password": "p"}, token="")
    assert status in (403, 500)
    assert (await store.ask("GET", "auth/token/lookup-self", token=token))[0] == 403
    assert (await store.ask("GET", "auth/token/lookup-self"))[0] == 200
    status, said = await store.ask("GET", "auth/userpass/users/ada")
    assert (status, "the row auth/userpass/" in said["errors"][0]) == (500, True)


@pytest.mark.parametrize(
    ("table", "paths"),
    [
        ("entity", ("identity/entity/id", "identity/entity/name")),
        ("alias", ("identity/entity-alias/id", "identity/entity/id")),
        ("identity_group", ("identity/group/id", "identity/group/name")),
        ("failed_login", ("sys/locked-users",)),
    ],
)
async def test_a_list_shows_what_opens_and_names_what_does_not(
    store: Any, table: str, paths: tuple[str, ...]
) -> None:
    await store.ask("POST", "sys/auth/userpass", {"type": "userpass"})
    for name in ("ada", "bob"):
        await store.ask("POST", f"auth/userpass/users/{name}", {"password": "p"})
        await store.ask("POST", f"auth/userpass/login/{name}", {"password": "p"}, token="")
        await store.ask("POST", f"auth/userpass/login/{name}", {"password": "x"}, token="")
        await store.ask("POST", "identity/group", {"name": name})
    (before,) = await sql(store, f"SELECT COUNT(*) FROM {table}")
    key = "name" if table == "failed_login" else "id"
    where = f"{key} = (SELECT {key} FROM {table} ORDER BY {key} LIMIT 1)"
    await sql(store, f"UPDATE {table} SET body = ? WHERE {where} RETURNING version", GARBAGE)
    assert before == 2
    for path in paths:
        method = "GET" if path.startswith("sys/") else "LIST"
        status, said = await store.ask(method, path)
        assert status == 200
        (warning,) = said["warnings"]
        assert warning.startswith("the row ")
        assert warning.endswith(
            f" of {table} does not open under its key and place, and is left out of this list"
        )
        if method == "LIST":
            assert len(said["data"]["keys"]) == (
                2 if path == "identity/entity/id" and table == "alias" else 1
            )
            # Whoever reads it in pages is not told that there is nothing.
            status, page = await store.ask(method, f"{path}?limit=1&after=z")
            assert (status, page["data"]["keys"], page["warnings"]) == (200, [], [warning])
    assert await counted(store, "damaged row") == sum(
        1 + (not each.startswith("sys/")) for each in paths
    )


async def test_a_damaged_entity_is_removed_by_its_id_and_made_anew_at_the_next_login(
    store: Any,
) -> None:
    await store.ask("POST", "sys/auth/userpass", {"type": "userpass"})
    await store.ask("POST", "auth/userpass/users/ada", {"password": "p"})
    login = ("POST", "auth/userpass/login/ada", {"password": "p"})
    _, made = await store.ask(*login, token="")
    entity = made["auth"]["entity_id"]
    await sql(store, "UPDATE entity SET body = ? RETURNING version", GARBAGE)
    await store.engine.transact(lambda each: each.move_generation())
    token = made["auth"]["client_token"]
    for request in (login, ("GET", "auth/token/lookup-self", None)):
        status, said = await store.ask(*request, token=token if request[0] == "GET" else "")
        assert (status, f"the row {entity} (version 1) of entity" in said["errors"][0]) == (
            500,
            True,
        )
    assert (await store.ask("DELETE", f"identity/entity/id/{entity}"))[0] == 204
    # Whom it was about is not known any more: the token of that time is no one's.
    assert (await store.ask("GET", "auth/token/lookup-self", token=token))[0] == 403
    status, again = await store.ask(*login, token="")
    assert (status, again["auth"]["entity_id"] == entity) == (200, False)


async def test_a_damaged_count_of_failed_logins_refuses_that_user_until_it_is_unlocked(
    store: Any,
) -> None:
    await store.ask("POST", "sys/auth/userpass", {"type": "userpass"})
    for name in ("ada", "bob"):
        await store.ask("POST", f"auth/userpass/users/{name}", {"password": "p"})
    await store.ask("POST", "auth/userpass/login/ada", {"password": "x"}, token="")
    key, _ = await sql(store, "UPDATE failed_login SET body = ? RETURNING name, version", GARBAGE)
    _, methods = await store.ask("GET", "sys/auth")
    mount = methods["data"]["userpass/"]
    for password in ("p", "x"):
        body = {"password": password}
        status, said = await store.ask("POST", "auth/userpass/login/ada", body, token="")
        assert (status, said["errors"]) == (500, [
            f"the row {mount['uuid']}/{key.hex()} (version 1) of failed_login does not open under"
            " its key and place; how often this login has failed is not known, so it is refused;"
            " to forget it and let the user try again, write"
            f" sys/locked-users/{mount['accessor']}/unlock/ada"
        ])  # fmt: skip
        body = {"password": "p"}
        assert (await store.ask("POST", "auth/userpass/login/bob", body, token=""))[0] == 200
    unlock = f"sys/locked-users/{mount['accessor']}/unlock/ada"
    assert (await store.ask("POST", unlock, {}))[0] == 204
    assert (await store.ask("POST", "auth/userpass/login/ada", body, token=""))[0] == 200


async def test_a_damaged_name_refuses_the_list_of_its_folder_and_nothing_else(store: Any) -> None:
    for name in ("a", "b", "c/d"):
        await store.ask("POST", f"secret/data/{name}", {"data": {"k": name}})
        await store.ask("POST", f"cubbyhole/{name}", {"k": name})
    node = {}
    for table in ("node", "cubbyhole"):
        key = "id" if table == "node" else "name"
        (first,) = await sql(store, f"SELECT {key} FROM {table} ORDER BY {key} LIMIT 1")
        await sql(
            store, f"UPDATE {table} SET name = ? WHERE {key} = ? RETURNING {key}", bytes(32), first
        )
        node[table] = first
    hint = (
        "restore the row from a backup; the other names of the folder can be read and written,"
        " only its list cannot be made"
    )
    status, said = await store.ask("LIST", "secret/metadata")
    named = f"the name of the row {node['node']} of node does not open under its key and place"
    assert (status, said) == (500, {"errors": [f"{named}; {hint}"]})
    status, said = await store.ask("LIST", "cubbyhole")
    assert status == 500
    assert said["errors"][0].startswith("the name of the row ")
    assert (await store.ask("LIST", "secret/metadata/c"))[1]["data"]["keys"] == ["d"]
    for path in ("secret/data/b", "secret/data/c/d"):
        assert (await store.ask("GET", path))[0] == 200
    assert (await store.ask("POST", "secret/data/new", {"data": {"k": "v"}}))[0] == 200


async def test_a_damaged_event_is_a_gap_that_subscribers_hear_of_and_the_feed_goes_on(
    store: Any, caplog: pytest.LogCaptureFixture
) -> None:
    client = VaultClient(store.address, Secret(store.root), store.http)

    async def listen(heard: list[dict[str, Any]]) -> None:
        async for event in client.subscribe("kv*"):
            heard.append(event)
            if len(heard) == 2:
                return

    async def listening(number: int) -> None:
        while sum(b"events/subscribe" in line for line in store.device.lines) < number:
            await asyncio.sleep(0.01)

    first: list[dict[str, Any]] = []
    task = asyncio.create_task(listen(first))
    await listening(1)
    await store.ask("POST", "secret/data/a", {"data": {"k": "v"}})
    with caplog.at_level(logging.ERROR, "strongroom.store"):
        (sequence,) = await sql(
            store, "INSERT INTO event (body) VALUES (?) RETURNING sequence", GARBAGE
        )
        await store.ask("POST", "secret/data/b", {"data": {"k": "v"}})
        await asyncio.wait_for(task, 60)
    told, gap = first
    assert told["data"]["event"]["metadata"]["path"] == "secret/data/a"
    assert gap["id"] == f"{sequence:020d}"
    assert gap["data"]["event_type"] == "strongroom/gap"
    named = f"the row {sequence} of event does not open under its key and place"
    assert len([each for each in caplog.messages if named in each]) == 1
    assert await counted(store, "event row") == 1
    # Who asks for what was hears that an entry is missing.
    past = client.subscribe("kv*", after="0")
    told = [await anext(past) for _ in range(3)]
    assert [each.get("whole") for each in told] == [True, False, None]
    assert [each["path"] for each in told[1]["changes"]] == ["secret/data/a", "secret/data/b"]
    await past.aclose()
    # Who connects anew hears what follows.
    second: list[dict[str, Any]] = []
    task = asyncio.create_task(listen(second))
    await listening(3)
    for name in ("c", "d"):
        await store.ask("POST", f"secret/data/{name}", {"data": {"k": "v"}})
    await asyncio.wait_for(task, 60)
    paths = [each["data"]["event"]["metadata"]["path"] for each in second]
    assert paths == ["secret/data/c", "secret/data/d"]


async def test_a_chore_that_fails_is_said_once_and_holds_up_no_other(
    store: Any, caplog: pytest.LogCaptureFixture
) -> None:
    done: list[str] = []
    broken: list[Exception] = [Invalid("bad", "a row that nobody can read"), ValueError("hidden")]

    def fails(transaction: Any, now: float) -> bool:
        done.append("fails")
        if broken:
            raise broken[0]
        return False

    def works(transaction: Any, now: float) -> bool:
        done.append("works")
        return False

    notices = Notices()
    chores = (Chore("first", 600.0, fails), Chore("second", 1.0, works))
    upkeep = Upkeep(store.engine, store.barrier, store.clock, "n", chores, notices=notices)
    with caplog.at_level(logging.WARNING, "strongroom.store"):
        for _ in range(2):
            await store.engine.waiting(upkeep.turn())
            await store.clock.advance(AGAIN_SECONDS)
        broken.pop(0)
        for _ in range(2):
            await store.engine.waiting(upkeep.turn())
            await store.clock.advance(AGAIN_SECONDS)
        broken.clear()
        await store.engine.waiting(upkeep.turn())
    assert done == ["fails", "works"] * 5
    assert caplog.messages == [
        "first: a row that nobody can read",
        "first: internal error: ValueError",
        "first goes on",
    ]
    assert +notices.counts == Counter(first=4)


async def test_a_rotation_says_which_rows_it_could_not_bring_under_the_new_key(
    store: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("kept", "other"):
        await store.ask("PUT", f"sys/policies/acl/{name}", {"policy": 'path "a" {}'})
    await store.ask("PUT", "sys/rotate")
    claims_newer = b"\x00\x00\x00\x09" + bytes(60)
    await sql(
        store, "UPDATE policy SET body = ? WHERE name = ? RETURNING name", claims_newer, "other"
    )
    named = "the row other (version 1) of policy does not open under its key and place"
    notices = Notices()
    keeping = Upkeep(store.engine, store.barrier, store.clock, "n", notices=notices)
    with caplog.at_level(logging.WARNING, "strongroom.store"):
        for _ in range(2):
            await store.engine.waiting(keeping.turn())
            await store.clock.advance(AGAIN_SECONDS)
    assert caplog.messages == [f"damaged row: {named}"]
    assert +notices.counts == Counter({"damaged row": 1})
    done = (await store.ask("GET", "sys/rotate/status"))[1]["data"]
    assert (done["done"], done["damaged"], done["damaged_rows"]) == (True, [named], 1)
    assert (await store.ask("GET", "sys/policies/acl/kept"))[0] == 200


async def test_background_work_outlives_what_it_meets_and_says_it_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    notices = Notices()

    async def gone() -> None:
        raise Unavailable("storage-unavailable", "the database cannot be reached")

    async def sealed() -> None:
        raise Unavailable("sealed", "Vault is sealed")

    async def works() -> None:
        return

    with caplog.at_level(logging.WARNING, "strongroom.store"):
        for work in (sealed, gone, gone, works, gone):
            await notices.attempt("expiration", work)
    said = "expiration: the database cannot be reached"
    assert caplog.messages == [said, "expiration goes on", said]
    assert +notices.counts == Counter(expiration=3)
