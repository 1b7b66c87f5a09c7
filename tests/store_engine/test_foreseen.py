"""Units of work that say what they are about: as right as others, and run on rows read before."""

import asyncio
import contextlib
import functools
import random
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest

from strongroom.crypto.aead import Tampered
from strongroom.crypto.keyring import KeyRing
from strongroom.model.errors import Conflict
from strongroom.store.engine._store_rows import StoreRows
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.contract import (
    About,
    Engine,
    EventRow,
    KvMetadata,
    KvVersionInfo,
    Transaction,
)
from strongroom.store.engine.postgres import PostgresEngine
from strongroom.store.engine.sqlite import SqliteEngine

KEPT = 3
Work = Callable[[Transaction], int]


def next_version(path: str, *, also: Callable[[Transaction], object] | None = None) -> Work:
    """Adds a version as the settings of the mount want it; its number. `also` comes last."""

    def work(each: Transaction) -> int:
        kept = (each.document("m", "config", "") or {}).get("kept", KEPT)
        old = each.kv_metadata("m", path) or KvMetadata("m", path, 1.0, 1.0)
        number = old.current_version + 1
        versions = (*old.versions, KvVersionInfo(number, 1.0))[-kept:]
        each.put_kv_metadata(
            msgspec.structs.replace(old, current_version=number, versions=versions)
        )
        each.put_kv_data("m", path, number, b"%d" % number)
        each.append_event(EventRow(0, 1.0, path, "write", number, "m/"))
        if also:
            also(each)
        return number

    return work


async def write(engine: Engine, path: str, **other: Any) -> int:
    return await engine.transact(next_version(path, **other), about=About("m", path, "config"))


def reads(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., Any]:
    """The test may read the view wherever it stands, as handlers of requests may."""

    @functools.wraps(test)
    async def run(engine: Engine, **others: Any) -> None:
        await engine.waiting(test(engine, **others))

    return run


def refuse(_: Transaction) -> None:
    raise Conflict("no", "no")


@reads
async def test_every_write_sees_what_those_before_it_have_left(engine: Engine) -> None:
    chosen = random.Random(7)
    written: dict[str, list[int]] = {}
    for _ in range(8):
        paths = [chosen.choice(("a", "b/c", "b/d", "e")) for _ in range(30)]
        numbers = await asyncio.gather(
            *(
                write(engine, path)
                if chosen.random() < 0.8
                else engine.transact(next_version(path))
                for path in paths
            )
        )
        for path, number in zip(paths, numbers, strict=True):
            written.setdefault(path, []).append(number)
    for path, mine in written.items():
        last = len(mine)
        assert sorted(mine) == list(range(1, last + 1))
        row = engine.view.kv_metadata("m", path)
        assert row is not None
        assert [each.version for each in row.versions] == [last - 2, last - 1, last]
        data = [engine.view.kv_data("m", path, number) for number in range(1, last + 1)]
        assert data == [None] * (last - KEPT) + [b"%d" % n for n in (last - 2, last - 1, last)]
    events = engine.view.events_after(0, 1000)
    assert len(events) == 8 * 30
    for path, mine in written.items():
        assert [each.version for each in events if each.path == path] == sorted(mine)


@reads
async def test_a_version_that_is_dropped_by_the_group_that_wrote_it_leaves_no_data(
    engine: Engine,
) -> None:
    await write(engine, "a")
    await asyncio.gather(*(write(engine, "a") for _ in range(9)))
    found = [engine.view.kv_data("m", "a", number) for number in range(1, 11)]
    assert found == [None] * 7 + [b"8", b"9", b"10"]


@reads
async def test_settings_are_those_that_were_committed_before(engine: Engine) -> None:
    await asyncio.gather(*(write(engine, "a") for _ in range(4)))
    await engine.transact(lambda each: each.put_document("m", "config", "", {"kept": 1}))
    await write(engine, "a")
    row = engine.view.kv_metadata("m", "a")
    assert row is not None
    assert [each.version for each in row.versions] == [5]


@reads
async def test_a_refused_write_leaves_nothing_for_the_next(engine: Engine) -> None:
    await write(engine, "a")
    others = {"also": refuse}
    found = await asyncio.gather(
        *(write(engine, "a", **(others if n % 2 else {})) for n in range(6)),
        return_exceptions=True,
    )
    assert [each for each in found if not isinstance(each, Conflict)] == [2, 3, 4]
    assert engine.view.kv_data("m", "a", 5) is None
    assert len(engine.view.events_after(0, 100)) == 4


@reads
async def test_a_write_that_asks_for_more_than_it_said_is_as_right(engine: Engine) -> None:
    await asyncio.gather(write(engine, "a"), write(engine, "b"))

    def more(each: Transaction) -> None:
        each.put_kv_data("m", "a", 1, each.kv_data("m", "b", 1) or b"")
        each.put_policy("p", "text")

    assert await asyncio.gather(write(engine, "a", also=more), write(engine, "b")) == [2, 2]
    assert engine.view.policy("p") == "text"
    assert engine.view.kv_data("m", "a", 1) == b"1"
    assert len(engine.view.events_after(0, 100)) == 4


@reads
async def test_a_secret_that_was_removed_is_made_anew(engine: Engine) -> None:
    await write(engine, "a/b")
    await engine.transact(lambda each: each.delete_kv("m", "a/b"))
    assert sorted(await asyncio.gather(write(engine, "a/b"), write(engine, "a/b"))) == [1, 2]
    assert list(engine.view.kv_list("m", "a")) == ["b"]


@reads
async def test_a_folder_becomes_a_secret_as_well(engine: Engine) -> None:
    await write(engine, "a")
    await write(engine, "a/b")
    await engine.transact(lambda each: each.delete_kv("m", "a"))
    assert await write(engine, "a") == 1
    assert sorted(engine.view.kv_list("m", "")) == ["a", "a/"]


# what the databases do


def opened(ring: KeyRing) -> Barrier:
    barrier = Barrier()
    barrier.unseal(ring)
    return barrier


@pytest.fixture
async def postgres(postgres_url: str) -> AsyncIterator[PostgresEngine]:
    engine = await PostgresEngine.open(postgres_url, opened(KeyRing.new(0.0)))
    yield engine
    await engine.close()


@pytest.fixture
def sqlite(tmp_path: Path) -> SqliteEngine:
    return SqliteEngine(tmp_path / "db", opened(KeyRing.new(0.0)))


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.component)])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Engine]:
    barrier = opened(KeyRing.new(0.0))
    engine: Engine
    if request.param == "sqlite":
        engine = SqliteEngine(tmp_path / "db", barrier)
    else:
        engine = await PostgresEngine.open(request.getfixturevalue("postgres_url"), barrier)
    yield engine
    await engine.close()


async def test_what_is_foreseen_asks_the_database_nothing(database: Engine) -> None:
    seen: list[Transaction] = []
    await write(database, "a")
    await asyncio.gather(*(write(database, "a", also=seen.append) for _ in range(5)))
    assert len(seen) == 5
    assert not any(isinstance(each, StoreRows) for each in seen)


async def test_more_than_a_statement_should_hold_is_sent_in_parts(database: Engine) -> None:
    large = bytes(5 * 1024 * 1024)

    def fill(each: Transaction) -> None:
        each.put_kv_data("m", "a", 100, large)

    await write(database, "a")
    numbers = await asyncio.gather(*(write(database, "a", also=fill) for _ in range(5)))
    assert numbers == [2, 3, 4, 5, 6]

    async def found() -> list[bytes | None]:
        return [database.view.kv_data("m", "a", number) for number in (1, 2, 3, 4, 5, 6, 100)]

    assert await database.waiting(found()) == [None, None, None, b"4", b"5", b"6", large]


@pytest.mark.component
async def test_another_node_s_writes_are_seen(postgres: PostgresEngine, postgres_url: str) -> None:
    ring = postgres._barrier.ring
    other = await PostgresEngine.open(postgres_url, opened(ring))
    try:
        found = [await write(node, "a") for node in (postgres, other) * 4]
        assert found == list(range(1, 9))
        both = await asyncio.gather(*(write(node, "a") for node in (postgres, other) * 10))
        assert sorted(both) == list(range(9, 29))
    finally:
        await other.close()


@pytest.mark.component
async def test_a_row_that_does_not_open_is_named(
    postgres: PostgresEngine, postgres_url: str
) -> None:
    await asyncio.gather(write(postgres, "a"), write(postgres, "b"))
    direct = await asyncpg.connect(postgres_url)
    try:
        await direct.execute(MIX_UP)
    finally:
        await direct.close()
    await one_is_named(postgres)


async def test_a_row_of_a_file_that_does_not_open_is_named(
    sqlite: SqliteEngine, tmp_path: Path
) -> None:
    await asyncio.gather(write(sqlite, "a"), write(sqlite, "b"))
    beside(tmp_path, MIX_UP)
    await one_is_named(sqlite)
    await sqlite.close()


ONE_LESS = "DELETE FROM kv_version WHERE version = 1 AND node = (SELECT min(id) FROM node)"
ONE_MORE = f"""
    INSERT INTO kv_version (node, version, body)
    SELECT node, {KEPT + 1}, body FROM kv_version
     WHERE version = {KEPT} AND node = (SELECT min(id) FROM node)
"""


@pytest.mark.parametrize("done", [ONE_LESS, ONE_MORE])
async def test_data_that_should_or_should_not_be_there_is_in_nobody_s_way(
    sqlite: SqliteEngine, tmp_path: Path, done: str
) -> None:
    await fill(sqlite)
    beside(tmp_path, done)
    await sqlite.waiting(go_on(sqlite))
    await sqlite.close()


@pytest.mark.component
@pytest.mark.parametrize("done", [ONE_LESS, ONE_MORE])
async def test_nor_on_postgres(postgres: PostgresEngine, postgres_url: str, done: str) -> None:
    await fill(postgres)
    direct = await asyncpg.connect(postgres_url)
    await direct.execute(done)
    await direct.close()
    await postgres.waiting(go_on(postgres))


async def fill(engine: Engine) -> None:
    """As many versions as are kept, of three secrets."""
    for path in ("a", "b", "c"):
        for _ in range(KEPT):
            await write(engine, path)


async def go_on(engine: Engine) -> None:
    """A group that has as many versions go as come."""
    assert await asyncio.gather(*(write(engine, path) for path in "abcbb")) == [4, 4, 4, 5, 6]
    for path, number in {"a": 4, "b": 6, "c": 4}.items():
        found = [engine.view.kv_data("m", path, each) for each in range(1, number + 1)]
        kept = [b"%d" % each for each in range(number - KEPT + 1, number + 1)]
        assert found == [None] * (number - KEPT) + kept


async def test_what_was_foreseen_is_undone_with_its_group(sqlite: SqliteEngine) -> None:
    def broken(each: Transaction) -> None:
        each.put_policy("half", "text")
        raise Conflict("no", "no")

    await write(sqlite, "a")
    found = await asyncio.gather(
        write(sqlite, "a"), sqlite.transact(broken), write(sqlite, "a"), return_exceptions=True
    )
    assert [each for each in found if not isinstance(each, Conflict)] == [2, 3]
    assert sqlite.view.policy("half") is None
    assert len(sqlite.view.events_after(0, 100)) == 3
    await sqlite.close()


MIX_UP = """
    UPDATE node SET body = (SELECT body FROM node ORDER BY id DESC LIMIT 1)
     WHERE id = (SELECT min(id) FROM node)
"""


def beside(folder: Path, statement: str) -> None:
    """What somebody else does to the file."""
    with contextlib.closing(sqlite3.connect(folder / "db")) as direct, direct:
        direct.execute(statement)


async def one_is_named(engine: Engine) -> None:
    """Of two secrets one does not open; the other is written."""
    found = await asyncio.gather(write(engine, "a"), write(engine, "b"), return_exceptions=True)
    damaged = [each for each in found if isinstance(each, Tampered)]
    assert len(damaged) == 1
    assert "of node" in damaged[0].message
    assert 2 in found
