"""Two versions on one database: the one before goes on while it can, and says so when it cannot."""

import hashlib
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


# Bodies as version 0.1.0 wrote them, for the rows of ROWS. They are never changed: a field that
# comes later has a default, and what it was renamed from is still read.
WRITTEN_BEFORE = {
    "mount": b'{"kind":"secret","path":"kv/","type":"kv","uuid":"u","accessor":"kv_1",'
    b'"description":"","options":{},"config":{}}',
    "token": b'{"accessor":"74","policies":["p"],"display_name":"t","path":"auth/token/create",'
    b'"created":1.0,"ttl":60,"expires":61.0,"metadata":{},"explicit_max_ttl":0,"period":0,'
    b'"renewable":true,"bound_cidrs":[],"renewed":null,"role":"","type":"service",'
    b'"entity_id":"","mount":"","internal":{}}',
    "lease": b'{"issued":1.0,"expires":2.0,"ttl":1,"max_ttl":0,"renewable":true,"renewed":null,'
    b'"error":"","data":{}}',
    "node": b'{"created":1.0,"updated":1.0,"current_version":1,"oldest_version":0,'
    b'"max_versions":0,"cas_required":false,"delete_version_after":0,"custom":{},'
    b'"versions":[[1,1.0,2.0,false]]}',
    "consumer": b'{"path":"p","actor":"a","kind":"k","namespace":"n","service_account":"s",'
    b'"pod":"pod","pod_uid":"uid","node":"node","token_id":"t","version":1,"acknowledged":1.0,'
    b'"expires":null}',
    "event": b'{"time":1.0,"path":"p","operation":"write","version":1,"mount":"m"}',
    "entity": b'{"id":"e","name":"n","metadata":{},"policies":[],"disabled":false,"created":0.0,'
    b'"updated":0.0,"merged":[]}',
    "alias": b'{"id":"a","owner":"e","mount":"acc","name":"n","metadata":{},'
    b'"custom_metadata":{},"created":0.0,"updated":0.0,"group":false,"merged_from":[]}',
    "identity_group": b'{"id":"g","name":"n","type":"internal","policies":[],"metadata":{},'
    b'"created":0.0,"updated":0.0,"modify_index":1}',
    "secret_id": b'{"role":"r","accessor":"acc","created":1.0,"expires":null,"ttl":0,"uses":0,'
    b'"metadata":{},"cidrs":[],"token_cidrs":[]}',
    "failed_login": b'{"mount":"m","name":"n","failures":1,"lapses":9.0,"locked":null}',
}
# The first sixteen digits of each step's SHA-256, spaces aside. A step that a database somewhere
# has taken is never written anew; another one is added.
TAKEN = (
    "3704848cc6addce8", "0c8df75ce860eb64", "40529b63a257e0f2", "e1331ab69a6c6e22",
    "030a762c9b4ca49f", "fffa5cfc3f28331b", "fa958ef277b76461", "c34b99b12186ec1a",
)  # fmt: skip


async def test_a_row_of_the_version_before_is_read_as_what_it_was(program: Open) -> None:
    engine = await program(STEPS)
    for put, _ in ROWS:
        await engine.transact(put)
    before = [await read(engine, ask) for _, ask in ROWS]

    def put_back(transaction: Any) -> set[str]:
        changed = set()
        for table in TABLES:
            keys = ", ".join(table.keys)
            rows = transaction._sql.all(f"SELECT {keys}, {table.version} FROM {table.name}")
            for *key, version in rows if table.name in WRITTEN_BEFORE else ():
                written = WRITTEN_BEFORE[table.name]
                sealed = transaction._barrier.seal(table.name, table.place(key), version, written)
                transaction._sql.run(table.write(), sealed, *key)
                changed.add(table.name)
        return changed

    assert await engine.transact(put_back) == WRITTEN_BEFORE.keys()
    assert [await read(engine, ask) for _, ask in ROWS] == before


def test_a_step_that_was_taken_somewhere_stays_as_it_is() -> None:
    words = (" ".join(each.statements.split()).encode() for each in STEPS)
    assert tuple(hashlib.sha256(each).hexdigest()[:16] for each in words)[: len(TAKEN)] == TAKEN
    assert len(STEPS) == len(TAKEN), "add the digest of a step that has landed"
