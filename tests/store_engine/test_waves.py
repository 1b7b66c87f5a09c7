"""Writes that wait together: every one sees what those before it left, on every engine."""

import asyncio
import gc
import random
import weakref
from collections.abc import Callable

import asyncpg
import msgspec
import pytest
from tests.store_engine.opened import reads

from strongroom.crypto.keyring import KeyRing
from strongroom.model.errors import Conflict
from strongroom.store.engine._footprints import Form, form_of
from strongroom.store.engine._locks import Locks, Owner
from strongroom.store.engine._postgres_sql import change_over_arrays
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.contract import (
    Engine,
    EventRow,
    KvMetadata,
    KvVersionInfo,
    Transaction,
)
from strongroom.store.engine.postgres import PostgresEngine


def next_version(path: str, *, refuse: bool = False) -> Callable[[Transaction], int]:
    """A unit of work that adds a version to a secret, and returns its number."""

    def work(each: Transaction) -> int:
        old = each.kv_metadata("m", path) or KvMetadata("m", path, 1.0, 1.0)
        number = old.current_version + 1
        versions = (*old.versions, KvVersionInfo(number, 1.0))
        each.put_kv_metadata(
            msgspec.structs.replace(old, current_version=number, versions=versions[-3:])
        )
        each.put_kv_data("m", path, number, b"%d" % number)
        each.append_event(EventRow(0, 1.0, path, "write", number, "m/"))
        if refuse:
            raise Conflict("no", "no")
        return number

    return work


@reads
async def test_no_version_is_lost_when_many_write_the_same_secrets(engine: Engine) -> None:
    chosen = random.Random(5)
    paths = [chosen.choice(("a", "b/c", "b/d", "e")) for _ in range(60)]
    numbers = await asyncio.gather(*(engine.transact(next_version(path)) for path in paths))
    for path in set(paths):
        mine = sorted(n for n, of in zip(numbers, paths, strict=True) if of == path)
        assert mine == list(range(1, len(mine) + 1))
        assert engine.view.kv_data("m", path, len(mine)) == b"%d" % len(mine)
        assert engine.view.kv_data("m", path, len(mine) - 3) is None
    assert len(engine.view.events_after(0, 100)) == 60


@reads
async def test_new_secrets_of_a_new_folder_made_at_once_are_all_there(engine: Engine) -> None:
    paths = [f"new/folder/s{number:02}" for number in range(30)]
    await asyncio.gather(*(engine.transact(next_version(path)) for path in paths))
    assert engine.view.kv_list("m", "new") == ["folder/"]
    assert engine.view.kv_list("m", "new/folder") == [f"s{number:02}" for number in range(30)]


@reads
async def test_a_refused_write_among_many_leaves_nothing(engine: Engine) -> None:
    works = [next_version(f"s{n}", refuse=n % 5 == 0) for n in range(20)]
    results = await asyncio.gather(*map(engine.transact, works), return_exceptions=True)
    assert [isinstance(each, Conflict) for each in results] == [n % 5 == 0 for n in range(20)]
    names = sorted(f"s{n}" for n in range(20) if n % 5)
    assert engine.view.kv_list("m", "") == names
    assert len(engine.view.events_after(0, 100)) == 16


class Value:
    """What a write is called with."""


def holding(path: str, held: list[weakref.ref[Value]], *, refuse: bool) -> Callable[..., int]:
    """A unit of work that has a value in hand while it waits."""
    value, work = Value(), next_version(path, refuse=refuse)
    held.append(weakref.ref(value))

    def run(each: Transaction) -> int:
        number = work(each)
        assert value
        return number

    return run


async def test_nothing_is_kept_of_writes_whose_group_was_undone(engine: Engine) -> None:
    """They wait in greenlets then, and what is held there no look for garbage finds."""
    held: list[weakref.ref[Value]] = []
    works = [holding(f"s{n}/t{n}", held, refuse=n == 0) for n in range(10)]
    refused, *_ = await asyncio.gather(*map(engine.transact, works), return_exceptions=True)
    assert isinstance(refused, Conflict)
    del works, refused, _
    # Of the last group a thread that waits for the next may still have something.
    await engine.transact(next_version("other"))
    await asyncio.sleep(0)
    gc.collect()
    assert [n for n, each in enumerate(held) if each()] == []


@reads
async def test_a_write_reads_what_it_has_written(engine: Engine) -> None:
    def work(each: Transaction) -> tuple[str | None, str | None, list[str]]:
        each.put_policy("p", "one")
        first = each.policy("p")
        each.put_policy("p", "two")
        each.put_policy("q", "other")
        return first, each.policy("p"), list(each.policy_names())

    others = [engine.transact(next_version(f"s{n}")) for n in range(5)]
    found, *_ = await asyncio.gather(engine.transact(work), *others)
    assert found == ("one", "two", ["p", "q"])


@reads
async def test_of_two_writes_of_one_row_the_last_holds(engine: Engine) -> None:
    def work(path: str) -> Callable[[Transaction], None]:
        def twice(each: Transaction) -> None:
            next_version(path)(each)
            each.put_kv_data("m", path, 1, b"other")

        return twice

    await asyncio.gather(*(engine.transact(work(f"s{n}")) for n in range(5)))
    assert [engine.view.kv_data("m", f"s{n}", 1) for n in range(5)] == [b"other"] * 5


@pytest.mark.parametrize(
    ("statement", "types", "changed"),
    [
        (
            "INSERT INTO t (a, b) VALUES (?, ?) ON CONFLICT (a) DO UPDATE SET b = excluded.b",
            ("int8", "bytea"),
            "INSERT INTO t (a, b) SELECT * FROM unnest($1::int8[], $2::bytea[])"
            " ON CONFLICT (a) DO UPDATE SET b = excluded.b",
        ),
        (
            "UPDATE t SET a = ? WHERE id = ?",
            ("text", "int8"),
            "UPDATE t SET a = asked.p1 FROM unnest($1::text[], $2::int8[]) AS asked(p1, p2)"
            " WHERE id = asked.p2",
        ),
        (
            "DELETE FROM t WHERE id = ?",
            ("int8",),
            "DELETE FROM t USING unnest($1::int8[]) AS asked(p1) WHERE id = asked.p1",
        ),
    ],
)
def test_a_write_of_many_rows_is_one_statement(
    statement: str, types: tuple[str, ...], changed: str
) -> None:
    assert change_over_arrays(statement, types) == changed


@pytest.mark.parametrize(
    ("statement", "form"),
    [
        ("SELECT body FROM t WHERE a = ? AND b = ?", ({"t"}, False, (("a", 0), ("b", 1)))),
        ("SELECT body IS NOT NULL FROM t WHERE id = ?", ({"t"}, False, (("id", 0),))),
        ("SELECT a FROM t WHERE b = ? ORDER BY a", ({"t"}, False, ())),
        ("SELECT a FROM t WHERE b > ?", ({"t"}, False, ())),
        ("SELECT a FROM t JOIN u ON t.x = u.x", ({"t", "u"}, False, ())),
        ("INSERT INTO t (a, b) VALUES (?, ?)", ({"t"}, True, (("a", 0), ("b", 1)))),
        (
            "INSERT INTO t (a, b) VALUES (?, ?) ON CONFLICT (a) DO UPDATE SET b = excluded.b",
            ({"t"}, True, (("a", 0),)),
        ),
        ("INSERT INTO t (a, b) VALUES (1, ?)", ({"t"}, True, ())),
        ("UPDATE t SET a = ?, b = ? WHERE id = ?", ({"t"}, True, (("id", 2),))),
        ("UPDATE t SET a = ? WHERE a = ? AND c = ?", ({"t"}, True, (("c", 2),))),
        ("UPDATE t SET a = ? WHERE b = ? RETURNING b", ({"t"}, True, (("b", 1),))),
        ("UPDATE OR REPLACE t SET a = ? WHERE b = ? AND a = ?", ({"t"}, True, (("b", 1),))),
        ("UPDATE t SET a = a + 1", ({"t"}, True, ())),
        ("DELETE FROM t WHERE id = ?", ({"t"}, True, (("id", 0),))),
        ("DELETE FROM t WHERE id <= ?", ({"t"}, True, ())),
        ("DELETE FROM t WHERE a IN (SELECT a FROM u WHERE b = ?)", ({"t", "u"}, True, ())),
    ],
)
def test_a_statement_says_which_rows_it_touches(
    statement: str, form: tuple[set[str], bool, tuple[tuple[str, int], ...]]
) -> None:
    found = form_of(statement)
    assert (found.tables, found.writes, found.columns) == form


def lock(locks: Locks, owner: Owner, statement: str, *values: object) -> bool:
    return locks.take(owner, form_of(statement), values)


def test_locks_meet_unless_a_column_that_both_know_differs() -> None:
    locks, one, other = Locks(), Owner(), Owner()
    assert lock(locks, one, "SELECT a FROM t WHERE id = ?", 1)
    assert lock(locks, other, "SELECT a FROM t WHERE id = ?", 1)
    assert lock(locks, other, "UPDATE t SET a = ? WHERE id = ?", 0, 2)
    assert not lock(locks, other, "UPDATE t SET a = ? WHERE id = ?", 0, 1)
    assert not lock(locks, one, "SELECT a FROM t WHERE id = ?", 2)
    assert not lock(locks, one, "SELECT b FROM t WHERE name = ?", "x")
    assert not lock(locks, one, "DELETE FROM t WHERE a > ?", 5)
    other.aside = True
    assert lock(locks, one, "SELECT a FROM t WHERE id = ?", 2)
    assert lock(locks, one, "DELETE FROM t WHERE a > ?", 5)


def test_locks_that_know_other_columns_meet_by_those_that_both_know() -> None:
    locks, one, other = Locks(), Owner(), Owner()
    assert lock(locks, one, "SELECT a FROM t WHERE x = ? AND y = ?", 1, 2)
    assert lock(locks, one, "UPDATE t SET a = ? WHERE x = ? AND y = ?", 0, 1, 3)
    assert lock(locks, other, "SELECT a FROM t WHERE y = ? AND x = ?", 2, 1)
    assert lock(locks, other, "DELETE FROM t WHERE x = ?", 2)
    assert not lock(locks, other, "SELECT a FROM t WHERE y = ? AND x = ?", 3, 1)
    assert not lock(locks, other, "SELECT a FROM t WHERE y = ?", 3)
    assert not lock(locks, other, "DELETE FROM t WHERE y = ? AND x = ?", 2, 1)
    assert not lock(locks, other, "DELETE FROM t WHERE x = ?", 1)


def test_a_row_that_gets_its_number_is_no_row_with_a_known_number() -> None:
    locks, one, other = Locks(), Owner(), Owner()
    insert = "INSERT INTO node (mount, parent, name, version) VALUES (?, ?, ?, ?) RETURNING id"
    by_name = "SELECT id FROM node WHERE mount = ? AND parent = ? AND name = ?"
    assert lock(locks, one, "SELECT version FROM node WHERE id = ?", 7)
    assert lock(locks, other, insert, "m", 0, b"x", 0)
    assert lock(locks, one, by_name, "m", 0, b"y")
    assert not lock(locks, one, by_name, "m", 0, b"x")


def test_the_statements_of_a_kv_write_name_their_rows() -> None:
    whole = Form(frozenset({"node"}), True)
    assert form_of("UPDATE node SET version = ?, body = ? WHERE id = ?") != whole
    assert form_of("INSERT INTO event (body) VALUES (?)").columns


@pytest.mark.component
async def test_writes_that_come_before_the_turn_share_one_transaction(postgres_url: str) -> None:
    barrier = Barrier()
    barrier.unseal(KeyRing.new(0.0))
    engine = await PostgresEngine.open(postgres_url, barrier)
    other = await asyncpg.connect(postgres_url)

    async def revision() -> int:
        return engine.revision()

    try:
        before = await engine.waiting(revision())
        holding = other.transaction()
        await holding.start()
        await other.execute("UPDATE generation SET revision = revision")
        writes = [asyncio.ensure_future(engine.transact(next_version("first")))]
        async with asyncio.timeout(4):
            while not await other.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                await asyncio.sleep(0.01)
        writes += [asyncio.ensure_future(engine.transact(next_version(f"s{n}"))) for n in range(9)]
        await asyncio.sleep(0)
        await holding.rollback()
        assert await asyncio.gather(*writes) == [1] * 10
        assert await engine.waiting(revision()) == before + 1
    finally:
        await other.close()
        await engine.close()
