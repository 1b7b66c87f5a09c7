"""What goes wrong under a store: each case says what the caller reads, and that nothing is lost."""

import asyncio
import re
import sqlite3
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from strongroom.store.engine.sqlite import use_log

OPENS = """
import asyncio, sys
from pathlib import Path
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.sqlite import SqliteEngine
sys.stdin.readline()
engine = SqliteEngine(Path(sys.argv[1]), Barrier())
async def write():
    await engine.transact(lambda each: each.count_seals(1, 1))
asyncio.run(write())
asyncio.run(engine.close())
"""


async def sql(store: Any, statement: str, *values: object) -> Any:
    """What somebody does to the database behind the store's back."""
    return await store.engine.transact(lambda each: each._sql.one(statement, *values))


async def put(store: Any, name: str, value: str) -> int:
    status, _ = await store.ask("POST", f"secret/data/{name}", {"data": {"k": value}})
    return int(status)


async def get(store: Any, name: str, version: int = 0) -> tuple[int, Any]:
    query = f"?version={version}" if version else ""
    status, body = await store.ask("GET", f"secret/data/{name}{query}")
    return status, body["data"]["data"]["k"] if status == 200 else "".join(body["errors"])


async def nodes_of(store: Any) -> list[int]:
    rows = await store.engine.transact(
        lambda each: each._sql.all("SELECT DISTINCT node FROM kv_version ORDER BY node")
    )
    return [int(node) for (node,) in rows]


async def test_a_damaged_row_is_refused_and_named_and_the_others_are_served(store: Any) -> None:
    await put(store, "a", "one")
    await put(store, "b", "two")
    node, _ = await nodes_of(store)
    await sql(
        store,
        "UPDATE kv_version SET body = ? WHERE node = ? RETURNING node",
        b"\x00\x00\x00\x01" + bytes(60),
        node,
    )
    status, said = await get(store, "a")
    assert status == 500
    assert re.search(rf"the row {node} \(version 1\) of kv_version does not open", said)
    assert await get(store, "b") == (200, "two")
    # It is replaced as any other.
    assert await put(store, "a", "again") == 200
    assert await get(store, "a") == (200, "again")


async def test_two_rows_that_changed_places_are_both_refused(store: Any) -> None:
    await put(store, "a", "one")
    await put(store, "b", "two")
    first, second = await nodes_of(store)
    for old, new in ((first, -1), (second, first), (-1, second)):
        await sql(store, "UPDATE kv_version SET node = ? WHERE node = ? RETURNING node", new, old)
    for name, node in (("a", first), ("b", second)):
        status, said = await get(store, name)
        assert (status, f"the row {node} (version 1) of kv_version" in said) == (500, True)


async def test_an_old_value_put_under_a_new_version_is_refused(store: Any) -> None:
    await put(store, "a", "old")
    await put(store, "a", "new")
    await sql(
        store,
        "UPDATE kv_version SET body = (SELECT body FROM kv_version WHERE version = 1)"
        " WHERE version = 2 RETURNING node",
    )
    status, said = await get(store, "a")
    assert (status, "(version 2) of kv_version" in said) == (500, True)
    assert await get(store, "a", 1) == (200, "old")


async def test_an_old_row_put_back_whole_is_refused(store: Any) -> None:
    """A policy as it was, under the number of the newest: what it allowed is not allowed again."""
    path = "sys/policies/acl/p"
    wide = 'path "secret/*" { capabilities = ["read"] }'
    await store.ask("PUT", path, {"policy": wide})
    _, made = await store.ask("POST", "auth/token/create", {"policies": ["p"]})
    token = made["auth"]["client_token"]
    await put(store, "a", "v")
    (body,) = await sql(store, "SELECT body FROM policy WHERE name = ?", "p")
    await store.ask("PUT", path, {"policy": 'path "none" { capabilities = ["read"] }'})
    await sql(store, "UPDATE policy SET body = ? WHERE name = ? RETURNING name", body, "p")
    status, answer = await store.ask("GET", path)
    assert (status, "(version 2) of policy" in answer["errors"][0]) == (500, True)
    assert (await store.ask("GET", "secret/data/a", token=token))[0] == 500


@pytest.mark.parametrize("later", [None, 9e9])
async def test_an_end_that_was_moved_by_hand_lets_no_token_live_longer(store: Any, later) -> None:
    """The column is for the index; the end that counts is sealed with the row."""
    token = await store.token_with('path "secret/*" { capabilities = ["read"] }', ttl="60s")
    await put(store, "a", "v")
    await sql(store, "UPDATE token SET expires = ? WHERE expires IS NOT NULL RETURNING id", later)
    await store.ask("POST", "auth/token/create", {})
    _, said = await store.ask("POST", "auth/token/lookup", {"token": token})
    assert said["data"]["ttl"] == 60
    assert (await store.ask("GET", "secret/data/a", token=token))[0] == 200
    store.clock.step_wall(61)
    assert (await store.ask("GET", "secret/data/a", token=token))[0] == 403
    assert (await store.ask("POST", "auth/token/renew-self", {}, token=token))[0] == 403


async def test_a_full_disk_refuses_writes_keeps_reads_and_recovers(store: Any) -> None:
    if store.engine.waits:
        pytest.skip("it bounds the file of SQLite")
    await put(store, "a", "kept")
    (pages,) = await sql(store, "PRAGMA page_count")
    await sql(store, f"PRAGMA max_page_count = {pages}")
    status, body = 200, {}
    for number in range(20):
        status, body = await store.ask(
            "POST", f"secret/data/n{number}", {"data": {"k": "x" * 9000}}
        )
        if status != 200:
            break
    assert status == 503
    assert "SQLITE_FULL" in body["errors"][0]
    assert (await get(store, f"n{number}"))[0] == 404
    assert await get(store, "a") == (200, "kept")
    await sql(store, "PRAGMA max_page_count = 1000000")
    assert await put(store, f"n{number}", "fits") == 200
    assert await get(store, "a") == (200, "kept")


async def test_a_clock_that_is_stepped_ends_no_token_early_and_revives_none(store: Any) -> None:
    await put(store, "a", "v")
    policy = 'path "secret/*" { capabilities = ["read"] }'
    token = await store.token_with(policy, ttl="60s")
    store.clock.step_wall(-3600)
    assert (await store.ask("GET", "secret/data/a", token=token))[0] == 200
    store.clock.step_wall(3600 + 59)
    assert (await store.ask("GET", "secret/data/a", token=token))[0] == 200
    store.clock.step_wall(2)
    assert (await store.ask("GET", "secret/data/a", token=token))[0] == 403
    await store.expire()
    store.clock.step_wall(-3600)
    assert (await store.ask("GET", "secret/data/a", token=token))[0] == 403
    assert await get(store, "a") == (200, "v")


def test_who_opens_a_file_that_another_makes_ready_waits(tmp_path: Path) -> None:
    other, mine = (
        sqlite3.connect(tmp_path / "db", timeout=0.0, isolation_level=None) for _ in range(2)
    )
    other.execute("BEGIN IMMEDIATE")
    waited: list[float] = []

    def pause(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            other.execute("ROLLBACK")

    use_log(mine, pause)
    assert len(waited) == 3
    assert mine.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_who_opens_a_file_that_another_holds_for_long_is_told(tmp_path: Path) -> None:
    other, mine = (
        sqlite3.connect(tmp_path / "db", timeout=0.0, isolation_level=None) for _ in range(2)
    )
    other.execute("BEGIN EXCLUSIVE")
    waited: list[float] = []
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        use_log(mine, waited.append)
    assert 4.9 < sum(waited) < 5.1


class _Recovered:
    """A file whose log another process reads anew, after a crash."""

    tried = 0

    def execute(self, _: str) -> None:
        self.tried += 1
        if self.tried < 3:
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorname = "SQLITE_BUSY_RECOVERY"
            raise error


def test_who_opens_a_file_that_another_recovers_waits() -> None:
    file, waited = _Recovered(), list[float]()
    use_log(cast("sqlite3.Connection", file), waited.append)
    assert (file.tried, len(waited)) == (3, 2)


@pytest.mark.long
async def test_processes_that_open_a_new_file_at_once_make_one_database(tmp_path: Path) -> None:
    path = tmp_path / "db"
    started = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", OPENS, str(path),
            stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )
        for _ in range(6)
    ]  # fmt: skip
    ends = await asyncio.gather(*(each.communicate(b"go\n") for each in started))
    assert [each.returncode for each in started] == [0] * 6, [err.decode() for _, err in ends]
    (counted,) = sqlite3.connect(path).execute("SELECT sealed FROM key_use").fetchone()
    assert counted == 6
