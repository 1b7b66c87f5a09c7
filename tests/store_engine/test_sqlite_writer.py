"""Which thread runs a unit of work on SQLite, and that nobody hangs when the loop is gone."""

import asyncio
import contextlib
import fcntl
import sqlite3
import threading
from pathlib import Path

import pytest

from strongroom.crypto.keyring import KeyRing
from strongroom.model.errors import Conflict
from strongroom.store.engine._sqlite_writer import is_short
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.contract import KvMetadata, KvVersionInfo, Transaction
from strongroom.store.engine.sqlite import SqliteEngine

WRITER = "sqlite-writer"


@pytest.fixture
def engine(tmp_path: Path) -> SqliteEngine:
    barrier = Barrier()
    barrier.unseal(KeyRing.new(0.0))
    return SqliteEngine(tmp_path / "db", barrier)


def where() -> str:
    return threading.current_thread().name


async def test_short_work_runs_on_the_event_loop_and_long_work_does_not(
    engine: SqliteEngine,
) -> None:
    def short(each: Transaction) -> str:
        each.put_policy("p", "text")
        return where()

    def long(each: Transaction) -> tuple[str, list[str]]:
        each.put_policy("q", "text")
        return where(), list(each.policy_names())

    assert await engine.transact(short) == where()
    assert await engine.transact_alone(short) == WRITER
    both = await asyncio.gather(engine.transact(short), engine.transact(long))
    assert both[1] == (WRITER, ["p", "q"])
    await engine.close()


async def test_a_unit_that_fails_after_a_write_is_undone_in_the_thread(
    engine: SqliteEngine,
) -> None:
    seen: list[str] = []

    def broken(each: Transaction) -> None:
        seen.append(where())
        each.put_policy("half", "text")
        raise Conflict("no", "no")

    def refused(each: Transaction) -> None:
        seen.append(f"refused {where()}")
        each.policy("half")
        raise Conflict("no", "no")

    for work in (refused, broken):
        with pytest.raises(Conflict):
            await engine.transact(work)
    assert seen == [f"refused {where()}", where(), WRITER]
    assert engine.view.policy_names() == []
    await engine.close()


def test_a_loop_that_is_gone_does_not_keep_the_writer(engine: SqliteEngine) -> None:
    """What it had queued is done by the thread, and the file is free for the next loop."""

    async def leave() -> None:
        engine_task = asyncio.ensure_future(engine.transact(lambda each: each.put_policy("a", "")))
        await asyncio.sleep(0)
        engine_task.cancel()

    async def go_on() -> list[str]:
        await engine.transact(lambda each: each.put_policy("b", ""))
        names = list(engine.view.policy_names())
        await engine.close()
        return names

    asyncio.run(leave())
    assert asyncio.run(go_on()) == ["a", "b"]


@pytest.mark.parametrize(
    ("statement", "short"),
    [
        ("SELECT version, body FROM node WHERE id = ?", True),
        ("SELECT id FROM node WHERE mount = ? AND parent = ? AND name = ?", True),
        ("INSERT INTO event (body) VALUES (?)", True),
        ("UPDATE OR REPLACE t SET a = ? WHERE b = ? AND a = ? RETURNING b", True),
        ("SELECT kind, path, version, body FROM mount ORDER BY kind, path", True),
        ("SELECT name FROM policy ORDER BY name", False),
        ("DELETE FROM node WHERE mount = ?", False),
        ("UPDATE lease SET due = ?, state = 'revoking' WHERE token = ?", False),
        ("DELETE FROM event WHERE sequence <= ?", False),
    ],
)
def test_what_may_touch_many_rows_is_not_short(statement: str, short: bool) -> None:
    assert is_short(statement) is short


async def until_somebody_waits_for(lock: Path) -> None:
    """Until a lock of the file is asked for that another holds."""
    waiting = f":{lock.stat().st_ino} "
    async with asyncio.timeout(30):
        while not any(
            waiting in line and "->" in line
            for line in Path("/proc/locks").read_text().splitlines()
        ):
            await asyncio.sleep(0.01)


async def test_who_comes_before_the_turn_joins_the_group(
    engine: SqliteEngine, tmp_path: Path
) -> None:
    """One that fails makes all of its group run again; it came after the first had been taken."""
    runs: list[str] = []

    def first(each: Transaction) -> None:
        runs.append("first")
        each.put_policy("p", "text")

    def broken(each: Transaction) -> None:
        each.put_policy("half", "text")
        raise Conflict("no", "no")

    turn = tmp_path / "db.writer"
    with turn.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        begun = asyncio.ensure_future(engine.transact(first))
        await until_somebody_waits_for(turn)
        joined = asyncio.ensure_future(engine.transact(broken))
        await asyncio.sleep(0)
        fcntl.flock(other, fcntl.LOCK_UN)
        await asyncio.wait([begun, joined])
    assert runs == ["first", "first"]
    assert isinstance(joined.exception(), Conflict)
    assert engine.view.policy_names() == ["p"]
    await engine.close()


async def test_a_new_version_takes_the_row_of_one_that_goes(
    engine: SqliteEngine, tmp_path: Path
) -> None:
    """No page more is written; what is missing or in the way of it does no harm."""

    async def write(number: int) -> None:
        infos = tuple(KvVersionInfo(each, 1.0) for each in (number - 1, number) if each)
        row = KvMetadata("m", "a", 1.0, 2.0, current_version=number, versions=infos)
        await engine.transact(lambda each: each.put_kv_version(row, b"%d" % number))

    def rows() -> dict[int, int]:
        return dict(file.execute("SELECT version, rowid FROM kv_version").fetchall())

    with contextlib.closing(sqlite3.connect(tmp_path / "db", isolation_level=None)) as file:
        for number in (1, 2, 3):
            await write(number)
        assert rows() == {2: 2, 3: 1}
        file.execute("DELETE FROM kv_version WHERE version = 2")
        await write(4)
        assert rows().keys() == {3, 4}
        assert engine.view.kv_data("m", "a", 4) == b"4"
        file.execute(
            "INSERT INTO kv_version SELECT node, 5, body FROM kv_version WHERE version = 3"
        )
        await write(5)
        assert rows().keys() == {4, 5}
        assert engine.view.kv_data("m", "a", 5) == b"5"
    await engine.close()
