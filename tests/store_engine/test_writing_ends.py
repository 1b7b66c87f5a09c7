"""Nobody waits for ever for a write, however writing ends; and it goes on where it can."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.store_engine.opened import opened

from strongroom.app.server import Opened, _followed, no_writes
from strongroom.model.clock import SimulatedClock
from strongroom.model.errors import Unavailable
from strongroom.store.clock_watch import ClockWatch
from strongroom.store.engine.contract import Engine, Transaction
from strongroom.store.engine.postgres import TURN, PostgresEngine
from strongroom.store.engine.sqlite import SqliteEngine
from strongroom.store.notices import Notices
from strongroom.store.seal.cluster import ClusterSeal, SealSetting

SECONDS = 60.0  # of a wait that ends when it should


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.component)])
async def written(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Engine]:
    """An engine that writes to a database."""
    made: Engine
    if request.param == "sqlite":
        made = SqliteEngine(tmp_path / "db", opened())
    else:
        made = await PostgresEngine.open(request.getfixturevalue("postgres_url"), opened())
    yield made
    async with asyncio.timeout(SECONDS):
        await made.close()


def put(name: str) -> Any:
    return lambda each: each.put_policy(name, "text")


async def names(engine: Engine) -> list[str]:
    async def asked() -> list[str]:
        return list(engine.view.policy_names())

    return await engine.waiting(asked())


async def ends(*waiting: "asyncio.Future[Any]") -> list[str]:
    """The codes of their refusals, "" of those that were done."""
    _, pending = await asyncio.wait(waiting, timeout=SECONDS)
    assert not pending, "somebody waits for ever"
    found = []
    for each in waiting:
        error = each.exception()
        assert error is None or isinstance(error, Unavailable)
        found.append("" if error is None else error.code)
    return found


@pytest.mark.parametrize("alone", [False, True])
async def test_what_ends_a_unit_of_work_otherwise_than_by_an_error_ends_its_group_alone(
    written: Engine, *, alone: bool
) -> None:
    def cancelled(each: Transaction) -> None:
        each.put_policy("half", "text")
        raise asyncio.CancelledError

    if alone and isinstance(written, PostgresEngine):
        # It has a task of its own, which ends with it.
        with pytest.raises(asyncio.CancelledError):
            await written.transact_alone(cancelled)
    else:
        ask = written.transact_alone if alone else written.transact
        group = [
            asyncio.ensure_future(each) for each in (ask(cancelled), written.transact(put("a")))
        ]
        assert (await ends(*group))[0] == "write-broken-off"
    assert await ends(asyncio.ensure_future(written.transact(put("after")))) == [""]
    assert "half" not in await names(written)
    assert no_writes(written) == {}


async def test_who_asks_a_closed_engine_for_a_write_is_refused(engine: Engine) -> None:
    await engine.transact(put("a"))
    engine.check_writes()
    await engine.close()
    with pytest.raises(Unavailable, match="writes nothing to the database any more"):
        engine.check_writes()
    refused = [
        asyncio.ensure_future(ask(put("b"))) for ask in (engine.transact, engine.transact_alone)
    ]
    assert await ends(*refused) == ["writing-ended"] * 2


@pytest.mark.component
async def test_a_writer_that_is_cancelled_refuses_all_who_wait_and_all_who_come(
    postgres_url: str,
) -> None:
    engine = await PostgresEngine.open(postgres_url, opened())
    other = await PostgresEngine.open(postgres_url, opened())
    holds, free = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        """Somebody else has the turn, so that a group waits for it."""
        async with other._connections.lend(SECONDS) as connection:
            await connection.execute(TURN)
            holds.set()
            await free.wait()
            await connection.execute("ROLLBACK")

    holding = asyncio.create_task(hold())
    await holds.wait()
    first = asyncio.ensure_future(engine.transact(put("a")))
    await asyncio.sleep(0)  # It is queued.
    while engine._queue:
        await asyncio.sleep(0)
    second = asyncio.ensure_future(engine.transact(put("b")))
    await asyncio.sleep(0)
    assert len(engine._queue) == 1
    assert engine._writer is not None
    engine._writer.cancel()
    assert await ends(first, second) == ["write-broken-off", "writing-ended"]
    third = asyncio.ensure_future(engine.transact(put("c")))
    assert await ends(third) == ["writing-ended"]
    assert list(no_writes(engine)) == ["database writer"]
    free.set()
    await holding
    assert await names(engine) == []
    async with asyncio.timeout(SECONDS):
        await engine.close()
        await other.close()


def break_lock(engine: SqliteEngine) -> None:
    """Put something in the place of the lock's file that no lock can be taken of, or given back."""
    broken = os.open("/", os.O_PATH)
    os.dup2(broken, engine._writer._turn)
    os.close(broken)


async def test_a_turn_that_cannot_be_taken_is_a_refusal_and_writing_goes_on(
    tmp_path: Path,
) -> None:
    engine = SqliteEngine(tmp_path / "db", opened())
    kept = os.dup(engine._writer._turn)
    break_lock(engine)
    assert await ends(asyncio.ensure_future(engine.transact(put("a")))) == ["storage-unavailable"]
    os.dup2(kept, engine._writer._turn)
    os.close(kept)
    assert await ends(asyncio.ensure_future(engine.transact(put("b")))) == [""]
    assert await names(engine) == ["b"]
    await engine.close()


# That a thread dies is what this is about.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_thread_that_dies_leaves_nobody_waiting_and_says_so(tmp_path: Path) -> None:
    barrier, clock = opened(), SimulatedClock()
    engine = SqliteEngine(tmp_path / "db", barrier)

    def first(each: Transaction) -> None:
        each.put_policy("a", "text")
        break_lock(engine)
        for _ in range(2):
            waiting.append(asyncio.ensure_future(engine.transact(put("b"))))

    waiting = [asyncio.ensure_future(engine.transact(first))]
    assert await ends(waiting[0]) == ["write-broken-off"]
    assert await ends(*waiting[1:]) == ["writing-ended"] * 2
    assert await ends(asyncio.ensure_future(engine.transact(put("c")))) == ["writing-ended"]
    assert list(no_writes(engine)) == ["database writer"]
    # The look at the database that readiness comes from.
    seal = ClusterSeal(engine, barrier, SealSetting(), clock)
    with pytest.raises(Unavailable, match="writes nothing to the database any more"):
        await _followed(Opened(barrier, engine, seal), ClockWatch(clock, Notices()))
    await engine.close()
