"""Pages of a snapshot are of one moment, and a restore is one unit of work."""

from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import pytest

from strongroom.crypto.keyring import KeyRing
from strongroom.model.errors import Invalid
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.contract import (
    RESTORED,
    About,
    ClusterRow,
    Engine,
    EventRow,
    KvMetadata,
    KvVersionInfo,
    SecretName,
)
from strongroom.store.engine.memory import MemoryEngine
from strongroom.store.engine.postgres import PostgresEngine
from strongroom.store.engine.snapshot_contract import TablePage
from strongroom.store.engine.sqlite import SqliteEngine


def put(name: str, data: bytes = b'{"k": "v"}') -> Any:
    def work(transaction: Any) -> None:
        entry = (KvVersionInfo(1, 0.0),)
        transaction.kv_metadata("m", name)
        transaction.put_kv_metadata(KvMetadata("m", name, 0.0, 0.0, 1, 1, versions=entry))
        transaction.put_kv_data("m", name, 1, data)

    return work


async def pages(engine: Engine) -> list[TablePage]:
    async with aclosing(cast(Any, engine.pages())) as given:
        return [page async for page in given]


async def names(engine: Engine) -> list[str]:
    async def read() -> list[str]:
        return list(engine.view.kv_list("m", ""))

    return await engine.waiting(read())


async def value_of(engine: Engine, name: str) -> bytes | None:
    """As a request finds it, which looks first whether anything has changed."""

    async def read() -> bytes | None:
        engine.generation_at(engine.revision())
        return engine.view.kv_data("m", name, 1)

    return await engine.waiting(read())


async def known_to(engine: Engine) -> frozenset[SecretName]:
    async def read() -> frozenset[SecretName]:
        return engine.revision_and_known([("m", "a"), ("m", "b")])[1]

    return await engine.waiting(read())


async def test_pages_are_of_one_moment_while_writes_go_on(engine: Engine) -> None:
    if isinstance(engine, MemoryEngine):
        with pytest.raises(Invalid, match="stores no rows"):
            engine.pages()
        return
    await engine.transact(put("a"))
    async with aclosing(cast(Any, engine.pages())) as given:
        found = [await anext(given)]
        await engine.transact(put("b"))
        found += [page async for page in given]
    assert [len(page.rows) for page in found if page.table == "kv_version"] == [1]
    await engine.transact_alone(lambda each: each.replace_rows(found))
    assert await names(engine) == ["a"]
    await engine.transact(put("c"))
    assert await names(engine) == ["a", "c"]


async def test_what_is_put_back_without_a_key_is_told_by_the_feed(engine: Engine) -> None:
    if isinstance(engine, MemoryEngine):
        return
    row = ClusterRow("id", "name", "shamir", b"ring", 0.0)
    await engine.transact_alone(
        lambda each: each.append_event(EventRow(0, 1.0, "a", "write", 1, ""))
    )

    def other(transaction: Any) -> None:
        transaction.replace_cluster(row, 1_700_000_000.25)
        transaction.append_event(EventRow(0, 2.0, "b", "write", 1, ""))
        # Rows of another term are sealed anew, and this one has no seal.
        transaction.begin_reseal(1, 0.0)

    await engine.transact_alone(other)
    while await engine.transact(lambda each: each.reseal_page(10, 3.0)):
        pass

    async def told() -> tuple[list[tuple[int, float, str]], tuple[str, ...]]:
        view = engine.view
        events = [(each.sequence, each.time, each.operation) for each in view.events_after(0, 9)]
        reseal = view.reseal()
        assert reseal
        return events, reseal.damaged

    events, damaged = await engine.waiting(told())
    assert events == [(2, 1_700_000_000.25, RESTORED), (3, 2.0, "write")]
    assert damaged == ()


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.component)])
async def test_a_restore_brings_no_secret_under_the_name_of_another(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """The snapshot is of a database in which the same numbers are those of other secrets.

    What was known of them before, by this process and by another, leads nobody there.
    """
    barrier = Barrier()
    barrier.unseal(KeyRing.new(0.0))

    async def engine_of() -> Engine:
        if kind == "sqlite":
            return SqliteEngine(tmp_path / "db", barrier)
        return await PostgresEngine.open(request.getfixturevalue("postgres_url"), barrier)

    here, beside = await engine_of(), await engine_of()
    other = SqliteEngine(tmp_path / "other", barrier)
    for name in ("a", "b"):
        await here.transact(put(name, name.encode()))
    for name in ("b", "a"):
        await other.transact(put(name, name.encode()))
    found = await pages(other)
    for engine in (here, beside):
        assert [await value_of(engine, name) for name in ("a", "b")] == [b"a", b"b"]
        await engine.transact(put("a", b"a"), about=About("m", "a"))
    await here.transact_alone(lambda each: each.replace_rows(found))
    await beside.transact(put("b", b"B"), about=About("m", "b"))
    for engine in (here, beside):
        assert [await value_of(engine, name) for name in ("a", "b")] == [b"a", b"B"]
        await engine.transact(put("a", b"a"), about=About("m", "a"))
        assert await known_to(engine) <= {("m", "a"), ("m", "b")}
        assert await names(engine) == ["a", "b"]
    for each in (here, beside, other):
        await each.close()


async def test_a_restore_that_fails_in_the_middle_changes_nothing(engine: Engine) -> None:
    if isinstance(engine, MemoryEngine):
        return
    await engine.transact(put("a"))
    found = [*await pages(engine), TablePage("no such table", ("id",), [(1,)])]
    await engine.transact(put("b"))
    with pytest.raises(Invalid, match="no such table"):
        await engine.transact_alone(lambda each: each.replace_rows(found))
    assert await names(engine) == ["a", "b"]
