"""Leaders, key terms and resealing, and what the barrier says of rows that were tampered with."""

import dataclasses
import operator
import re
import sqlite3
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from strongroom.crypto.aead import Tampered
from strongroom.crypto.keyring import KeyRing, term_of
from strongroom.store.engine._sealed_tables import TABLES
from strongroom.store.engine._upkeep_rows import DAMAGED_NAMED
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.contract import (
    ClusterRow,
    ConsumerRow,
    Engine,
    EventRow,
    KvMetadata,
    KvVersionInfo,
    MountRow,
    TokenRow,
    Transaction,
    View,
)
from strongroom.store.engine.identity_contract import EntityRow, GroupRow
from strongroom.store.engine.postgres import PostgresEngine
from strongroom.store.engine.schema import STEPS
from strongroom.store.engine.sqlite import SqliteEngine
from strongroom.store.engine.upkeep_contract import ServerRow
from strongroom.store.upkeep import Step, old_terms

SECRET = b'{"k":"v"}'


async def ask(engine: Engine, question: Callable[[View], Any]) -> Any:
    async def asked() -> Any:
        return question(engine.view)

    return await engine.waiting(asked())


@dataclass
class Database:
    """An engine, its barrier, and the same database by hand, `?` for values."""

    engine: Engine
    barrier: Barrier
    ring: KeyRing
    place: str

    async def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        if not self.place.startswith("postgresql"):
            with sqlite3.connect(self.place) as connection:
                return connection.execute(statement, values).fetchall()
        places = iter(range(1, len(values) + 1))
        numbered = re.sub(r"\?", lambda _: f"${next(places)}", statement)
        connection = await asyncpg.connect(self.place)
        try:
            return [tuple(row) for row in await connection.fetch(numbered, *values)]
        finally:
            await connection.close()

    async def rotate(self) -> int:
        """What `sys/rotate` does, with a ring kept here: the cluster row only says which."""
        self.ring = self.ring.rotated(0.0)
        term = self.ring.current_term

        def work(transaction: Transaction) -> None:
            transaction.replace_ring(str(term).encode())
            transaction.begin_reseal(term, 5.0)

        await self.engine.transact(work)
        return term


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.component)])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    barrier, ring = Barrier(), KeyRing.new(0.0)
    engine: Engine
    if request.param == "sqlite":
        place = str(tmp_path / "db")
        engine = SqliteEngine(tmp_path / "db", barrier)
    else:
        place = request.getfixturevalue("postgres_url")
        engine = await PostgresEngine.open(place, barrier)
    made = Database(engine, barrier, ring, place)
    barrier.unseal(ring, lambda _: made.ring)
    row = ClusterRow("c", "n", "static", b"1", 1.0)
    await engine.transact(lambda each: each.put_cluster(row))
    yield made
    await engine.close()


def one_of_each(transaction: Transaction) -> None:
    transaction.put_mount(MountRow("secret", "kv/", "kv", "m", "kv_1"))
    transaction.put_policy("p", "text")
    transaction.put_token(
        TokenRow(b"t" * 32, "a", None, ("p",), "t", "auth/token/create", 1.0, 60, None)
    )
    transaction.put_document("m", "config", "x", {"y": 1})
    for path in ("a/b", "c"):
        transaction.put_kv_metadata(
            KvMetadata("m", path, 1.0, 1.0, 1, versions=(KvVersionInfo(1, 1.0),))
        )
        transaction.put_kv_data("m", path, 1, SECRET)
    transaction.put_consumer(
        ConsumerRow("p", "actor", "pod", "n", "s", "x", "u", "node", "j", 1, 1.0, None)
    )
    transaction.append_event(EventRow(0, 5.0, "kv/data/c", "write", 1, "kv/"))


def everything(view: View) -> list[Any]:
    return [
        view.mounts(), view.policy("p"), view.token(b"t" * 32), view.document("m", "config", "x"),
        view.kv_metadata("m", "a/b"), view.kv_data("m", "a/b", 1), view.kv_data("m", "c", 1),
        view.consumers("p"), view.events_after(0, 10),
    ]  # fmt: skip


def test_every_table_with_sealed_rows_is_resealed() -> None:
    statements = ";".join(step.statements for step in STEPS).split(";")
    made = [each for each in statements if "body {bytes}" in each]
    sealed = {each.split("CREATE TABLE ")[1].split()[0] for each in made}
    assert {each.name for each in TABLES} == sealed


async def test_rows_follow_a_new_term_a_page_at_a_time_and_it_says_when_all_have(
    database: Database,
) -> None:
    await database.engine.transact(one_of_each)
    before = await ask(database.engine, everything)
    term = await database.rotate()
    # Old rows are read as before, new ones are sealed under the new term at once.
    assert await ask(database.engine, everything) == before
    await database.engine.transact(lambda each: each.put_policy("q", "new"))
    [(body,)] = await database.sql("SELECT body FROM policy WHERE name = 'q'")
    assert term_of(bytes(body)) == term
    pages = 1
    while await database.engine.transact(lambda each: each.reseal_page(2, 9.0)):
        pages += 1
        assert pages < 50
    found = await ask(database.engine, lambda view: view.reseal())
    assert (found.finished, found.damaged) == (9.0, ())
    assert found.resealed >= 9
    assert pages > 5
    for table in TABLES:
        rows = await database.sql(f"SELECT body FROM {table.name} WHERE body IS NOT NULL")
        assert {term_of(bytes(body)) for (body,) in rows} <= {term}
    assert await ask(database.engine, everything) == before
    assert not await database.engine.transact(lambda each: each.reseal_page(2, 10.0))


async def test_a_page_in_the_same_group_of_writes_as_the_rotation_leaves_no_row_behind(
    database: Database,
) -> None:
    """The group seals under the term before: what it resealed would be called done, and is not."""
    engine, now = database.engine, 9.0
    await engine.transact(one_of_each)
    await database.rotate()

    async def page() -> Step:
        async def prepared() -> Step:
            return await old_terms(engine.view, now)

        return await engine.waiting(prepared())

    step, term = await page(), database.ring.current_term + 1

    def group(transaction: Transaction) -> bool:
        database.ring = database.ring.rotated(0.0)
        transaction.replace_ring(str(term).encode())
        transaction.begin_reseal(term, 5.0)
        return step(transaction, now)

    assert await engine.transact(group)
    while await engine.transact(partial(await page(), now=now)):
        pass
    assert (await ask(engine, lambda view: view.reseal())).finished == now
    for table in TABLES:
        rows = await database.sql(f"SELECT body FROM {table.name} WHERE body IS NOT NULL")
        assert {term_of(bytes(body)) for (body,) in rows} <= {term}


async def test_a_process_that_did_not_hear_of_a_term_reads_and_writes_with_it(
    database: Database,
) -> None:
    late = Barrier()
    late.unseal(database.ring, lambda _: database.ring)
    other: Engine = (
        await PostgresEngine.open(database.place, late)
        if database.place.startswith("postgresql")
        else SqliteEngine(Path(database.place), late)
    )
    try:
        term = await database.rotate()
        await database.engine.transact(lambda each: each.put_policy("p", "under the new term"))
        assert await ask(other, lambda view: view.policy("p")) == "under the new term"
        await database.rotate()
        await other.transact(lambda each: each.put_policy("q", "x"))
        [(body,)] = await database.sql("SELECT body FROM policy WHERE name = 'q'")
        assert term_of(bytes(body)) == term + 1
    finally:
        await other.close()


async def test_a_row_moved_or_rolled_back_by_hand_is_refused_and_named(
    database: Database,
) -> None:
    engine = database.engine
    await engine.transact(lambda each: each.put_policy("weak", "old"))
    [(old,)] = await database.sql("SELECT body FROM policy")
    await engine.transact(lambda each: each.put_policy("weak", "new"))
    await engine.transact(lambda each: each.put_policy("strong", "x"))
    await database.sql("UPDATE policy SET body = ? WHERE name = 'weak'", bytes(old))
    with pytest.raises(Tampered, match=r"weak \(version 2\) of policy"):
        await ask(engine, lambda view: view.policy("weak"))
    await database.sql("UPDATE policy SET body = (SELECT body FROM policy WHERE name = 'strong')")
    with pytest.raises(Tampered, match="weak"):
        await ask(engine, lambda view: view.policy("weak"))
    # Resealing names it and goes on with the others.
    await database.rotate()
    while await engine.transact(lambda each: each.reseal_page(100, 9.0)):
        pass
    found = await ask(engine, lambda view: view.reseal())
    assert len(found.damaged) == 1
    assert "weak" in found.damaged[0]
    assert await ask(engine, lambda view: view.policy("strong")) == "x"


async def test_a_value_moved_to_the_row_of_the_same_key_in_another_table_is_refused_and_named(
    database: Database,
) -> None:
    engine = database.engine

    def write(transaction: Transaction) -> None:
        transaction.put_entity(EntityRow("same", "n"))
        transaction.put_group(GroupRow("same", "n"))

    await engine.transact(write)
    assert await ask(engine, lambda view: view.group("same"))
    await database.sql("UPDATE identity_group SET body = (SELECT body FROM entity)")
    with pytest.raises(Tampered, match=r"same \(version 1\) of identity_group"):
        await ask(engine, lambda view: view.group("same"))


async def test_resealing_names_and_counts_rows_that_claim_a_newer_term_and_goes_on(
    database: Database,
) -> None:
    engine = database.engine

    def fill(each: Transaction) -> None:
        for number in range(30):
            each.put_policy(f"p{number:02}", "x")

    await engine.transact(fill)
    term = await database.rotate()
    for number in range(1, 25):
        claimed = struct.pack(">I", term + number) + bytes(60)
        await database.sql("UPDATE policy SET body = ? WHERE name = ?", claimed, f"p{number:02}")
    # No term at all.
    await database.sql("UPDATE policy SET body = ? WHERE name = ?", b"\xff", "p25")
    while await engine.transact(lambda each: each.reseal_page(7, 9.0)):
        pass
    found = await ask(engine, lambda view: view.reseal())
    assert (found.finished, found.damaged_rows, len(found.damaged)) == (9.0, 25, DAMAGED_NAMED)
    assert found.damaged[0] == (
        "the row p01 (version 1) of policy does not open under its key and place"
    )
    for name in ("p00", "p26", "p29"):
        assert await ask(engine, operator.methodcaller("policy", name)) == "x"
        [(body,)] = await database.sql("SELECT body FROM policy WHERE name = ?", name)
        assert term_of(bytes(body)) == term


async def test_resealing_leaves_what_was_sealed_under_a_term_after_its_own(
    database: Database,
) -> None:
    engine = database.engine
    term = await database.rotate()
    # The next rotation, whose resealing has not begun.
    database.ring = database.ring.rotated(0.0)
    await engine.transact(lambda each: each.replace_ring(str(term + 1).encode()))
    await engine.transact(lambda each: each.put_policy("p", "newer"))
    [before] = await database.sql("SELECT body FROM policy")
    assert term_of(bytes(before[0])) == term + 1
    while await engine.transact(lambda each: each.reseal_page(100, 9.0)):
        pass
    assert (await ask(engine, lambda view: view.reseal())).damaged == ()
    assert await database.sql("SELECT body FROM policy") == [before]


async def test_secrets_swapped_by_hand_are_refused_and_named(database: Database) -> None:
    await database.engine.transact(one_of_each)
    rows = await database.sql("SELECT node, body FROM kv_version ORDER BY node")
    (one, first), (two, second) = rows
    await database.sql("UPDATE kv_version SET body = ? WHERE node = ?", bytes(second), one)
    await database.sql("UPDATE kv_version SET body = ? WHERE node = ?", bytes(first), two)
    with pytest.raises(Tampered, match="of kv_version"):
        await ask(database.engine, lambda view: view.kv_data("m", "c", 1))


async def test_a_list_names_what_it_leaves_out(database: Database) -> None:
    for name in ("a", "b", "c"):
        row = EntityRow(name, f"entity {name}")
        await database.engine.transact(lambda each, row=row: each.put_entity(row))  # type: ignore[misc]
    await database.sql(
        "UPDATE entity SET body = ? WHERE id = ?", b"\x00\x00\x00\x01" + bytes(60), "b"
    )
    found = await ask(database.engine, lambda view: view.entities())
    assert [row.id for row in found] == ["a", "c"]
    assert found.damaged == (
        "the row b (version 1) of entity does not open under its key and place",
    )


async def test_a_task_has_one_leader_and_a_replaced_one_is_told(engine: Engine) -> None:
    def lead(node: str, now: float) -> Callable[[Transaction], int | None]:
        return lambda each: each.lead("sweep", node, now, 10.0)

    assert await engine.transact(lead("a", 100.0)) == 1
    assert await engine.transact(lead("b", 105.0)) is None
    assert await engine.transact(lead("a", 108.0)) == 1
    assert await engine.transact(lead("b", 118.5)) == 2
    assert not await engine.transact(lambda each: each.leads("sweep", "a", 1))
    assert await engine.transact(lambda each: each.leads("sweep", "b", 2))
    row = await ask(engine, lambda view: view.leader("sweep"))
    assert (row.node, row.epoch, row.expires) == ("b", 2, 128.5)


async def test_nodes_say_that_they_are_there_and_are_forgotten(engine: Engine) -> None:
    def beat(row: ServerRow) -> Callable[[Transaction], None]:
        return lambda each: each.put_server(row)

    one = ServerRow("b", 100.0, "host", "https://b:8200", "", "1.16.0", "0.1")
    assert await ask(engine, lambda view: view.servers()) == []
    before = await ask(engine, lambda view: view.generation())
    for row in (one, ServerRow("a", 50.0), dataclasses.replace(one, seen=130.5)):
        await engine.transact(beat(row))
    found = await ask(engine, lambda view: view.servers())
    assert found == [ServerRow("a", 50.0), dataclasses.replace(one, seen=130.5)]
    await engine.transact(lambda each: each.forget_servers(130.5))
    assert await ask(engine, lambda view: view.servers()) == found[1:]
    # Nobody forgets what it remembers because of it.
    assert await ask(engine, lambda view: view.generation()) == before


async def test_uses_of_a_term_add_up(engine: Engine) -> None:
    for number in (3, 4):
        await engine.transact(lambda each, number=number: each.count_seals(7, number))  # type: ignore[misc]
    assert await ask(engine, lambda view: view.seals_counted(7)) == 7
    assert await ask(engine, lambda view: view.seals_counted(8)) == 0


async def test_resealing_begins_when_it_is_told_and_ends(engine: Engine) -> None:
    assert await ask(engine, lambda view: view.reseal()) is None
    await engine.transact(lambda each: each.begin_reseal(2, 5.0))
    started = await ask(engine, lambda view: view.reseal())
    assert (started.term, started.started, started.finished) == (2, 5.0, None)
    while await engine.transact(lambda each: each.reseal_page(10, 6.0)):
        pass
    ended = await ask(engine, lambda view: view.reseal())
    assert dataclasses.replace(ended, table="") == dataclasses.replace(
        started, table="", finished=6.0
    )
