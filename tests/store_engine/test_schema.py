"""Two versions on one database: the one before goes on while it can, and says so when it cannot."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from strongroom.crypto.keyring import KeyRing
from strongroom.model.errors import Unavailable
from strongroom.store.engine._sealed_tables import TABLES
from strongroom.store.engine.auth_contract import FailedLoginRow, SecretIdRow
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.contract import (
    ConsumerRow,
    Engine,
    EventRow,
    KvMetadata,
    KvVersionInfo,
    LeaseRow,
    MountRow,
    TokenRow,
    Transaction,
    View,
)
from strongroom.store.engine.identity_contract import AliasRow, EntityRow, GroupRow
from strongroom.store.engine.postgres import PostgresEngine
from strongroom.store.engine.schema import STEPS, Step
from strongroom.store.engine.sqlite import SqliteEngine

# What a version after this one may do: tables and columns with defaults ...
EXPANDED = (
    *STEPS,
    Step(
        "ALTER TABLE node ADD COLUMN colour {whole} NOT NULL DEFAULT 7;"
        "ALTER TABLE token ADD COLUMN colour {text};"
        "CREATE TABLE later (id {whole} PRIMARY KEY, body {bytes} NOT NULL)"
    ),
)
# ... and what the version after that may do: take away what nothing reads any more.
CONTRACTED = (*EXPANDED, Step("DROP TABLE failed_login", oldest=len(EXPANDED), release="9.9.0"))
TOO_NEW = (
    "the database needs Strongroom 9.9.0 or newer:"
    f" it needs {len(EXPANDED)} steps of the schema, this program knows {len(STEPS)}"
)

Open = Callable[[Sequence[Step]], Awaitable[Engine]]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.component)])
async def program(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Open]:
    """Opens the same database once more, as a program that knows these steps."""
    ring, opened = KeyRing.new(0.0), list[Engine]()
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else ""

    async def start(steps: Sequence[Step]) -> Engine:
        barrier = Barrier()
        barrier.unseal(ring)
        engine: Engine
        if url:
            engine = await PostgresEngine.open(url, barrier, steps)
        else:
            engine = SqliteEngine(tmp_path / "db", barrier, steps)
        opened.append(engine)
        return engine

    yield start
    for engine in opened:
        await engine.close()


async def read(engine: Engine, question: Callable[[View], Any]) -> Any:
    async def ask() -> Any:
        return question(engine.view)

    return await engine.waiting(ask())


def token(name: bytes, **fields: Any) -> TokenRow:
    return TokenRow(
        name, name.hex(), None, ("p",), "t", "auth/token/create", 1.0, 60, 61.0, **fields
    )


async def test_the_version_before_starts_and_writes_beside_the_new_one(program: Open) -> None:
    before = await program(STEPS)
    await before.transact(lambda each: each.put_token(token(b"1")))
    after = await program(EXPANDED)
    again = await program(STEPS)
    secret = KvMetadata("m", "a", 1.0, 1.0, 1, versions=(KvVersionInfo(1, 1.0),))
    for number, writer in enumerate((before, after, again), 2):
        name = str(number).encode()

        def work(each: Transaction, name: bytes = name) -> None:
            each.put_token(token(name))
            each.put_kv_metadata(secret)
            each.put_kv_data("m", "a", 1, name)

        await writer.transact(work)
        for reader in (before, after, again):
            assert await read(reader, lambda view, name=name: view.token(name)) == token(name)
            assert await read(reader, lambda view: view.kv_data("m", "a", 1)) == name
            await read(reader, lambda view: view.check_schema())
    # What the version before leaves out has its default.
    colours = await after.transact(lambda each: each._sql.all("SELECT colour FROM node"))
    assert [tuple(row) for row in colours] == [(7,)]


async def test_a_program_that_is_too_old_stops_and_says_what_is_needed(program: Open) -> None:
    before = await program(STEPS)
    await before.transact(lambda each: each.put_token(token(b"1")))
    revision = await read(before, lambda _: before.revision())
    after = await program(CONTRACTED)
    # It hears of it as of any commit, ...
    assert await read(before, lambda _: before.revision()) != revision
    with pytest.raises(Unavailable) as caught:
        await read(before, lambda view: view.check_schema())
    assert (caught.value.code, caught.value.message) == ("schema-too-new", TOO_NEW)
    # ... writes nothing, however often it tries, ...
    for name in (b"2", b"3"):
        with pytest.raises(Unavailable, match="Strongroom 9"):
            await before.transact(lambda each, name=name: each.put_token(token(name)))
        assert await read(after, lambda view, name=name: view.token(name)) is None
    # ... and does not start again.
    with pytest.raises(Unavailable, match="Strongroom 9"):
        await program(STEPS)
    assert await read(after, lambda view: view.token(b"1")) == token(b"1")
    # The version between knows enough.
    between = await program(EXPANDED)
    await between.transact(lambda each: each.put_token(token(b"4")))
    assert await read(after, lambda view: view.token(b"4")) == token(b"4")


ROWS: Sequence[tuple[Callable[[Transaction], Any], Callable[[View], Any]]] = (
    (
        lambda each: each.put_mount(MountRow("secret", "kv/", "kv", "u", "kv_1")),
        lambda view: view.mounts(),
    ),
    (lambda each: each.put_token(token(b"t")), lambda view: view.token(b"t")),
    (
        lambda each: each.put_lease(LeaseRow("x/1", "m", b"t", 1.0, 2.0, 1, 2.0)),
        lambda view: view.lease("x/1"),
    ),
    (
        lambda each: each.put_kv_metadata(
            KvMetadata("m", "a", 1.0, 1.0, 1, versions=(KvVersionInfo(1, 1.0, 2.0),))
        ),
        lambda view: view.kv_metadata("m", "a"),
    ),
    (
        lambda each: each.put_consumer(
            ConsumerRow("p", "a", "k", "n", "s", "pod", "uid", "node", "t", 1, 1.0, None)
        ),
        lambda view: view.consumers("p"),
    ),
    (
        lambda each: each.append_event(EventRow(0, 1.0, "p", "write", 1, "m")),
        lambda view: view.events_after(0, 9),
    ),
    (lambda each: each.put_entity(EntityRow("e", "n")), lambda view: view.entity("e")),
    (
        lambda each: each.put_alias(AliasRow("a", "e", "acc", "n")),
        lambda view: view.alias("a"),
    ),
    (
        lambda each: each.put_group(GroupRow("g", "n")),
        lambda view: view.group("g"),
    ),
    (
        lambda each: each.put_secret_id(SecretIdRow("m", "r", b"s", "acc", 1.0, None)),
        lambda view: view.secret_id("m", b"s"),
    ),
    (
        lambda each: each.put_failed_login(FailedLoginRow("m", "n", 1, 9.0)),
        lambda view: view.failed_login("m", "n"),
    ),
)


async def test_a_row_with_a_field_of_the_version_after_is_read_without_it(program: Open) -> None:
    engine = await program(STEPS)
    for put, _ in ROWS:
        await engine.transact(put)
    before = [await read(engine, ask) for _, ask in ROWS]
    assert await engine.transact(add_a_field) == {each.name for each in TABLES} - {
        "policy",
        "document",
        "kv_version",
        "cubbyhole",
    }
    assert [await read(engine, ask) for _, ask in ROWS] == before


def add_a_field(transaction: Any) -> set[str]:
    """To the body of every row; the names of the tables that had any."""
    changed = set()
    sql, barrier = transaction._sql, transaction._barrier
    for table in TABLES:
        keys = ", ".join(table.keys)
        for row in sql.all(f"SELECT {keys}, {table.version}, body FROM {table.name}"):
            *key, version, body = row
            place = table.place(key)
            fields = orjson.loads(barrier.open(table.name, place, version, body))
            fields["of_later"] = {"a": 1}
            if "versions" in fields:
                fields["versions"] = [[*each, "later"] for each in fields["versions"]]
            sealed = barrier.seal(table.name, place, version, orjson.dumps(fields))
            sql.run(table.write(), sealed, *key)
            changed.add(table.name)
    return changed
