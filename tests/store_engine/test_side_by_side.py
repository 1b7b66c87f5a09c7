"""Functions that read, run side by side: what they ask is asked together, and none holds another up."""

import asyncio
import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from greenlet import getcurrent

from strongroom.store.engine._greenlets import (
    Asking,
    answer_of,
    drive,
    leave_with,
    run_parked,
    run_side_by_side,
)
from strongroom.store.engine.contract import Engine, KvMetadata


class Asked:
    """What was asked, in rounds that are answered together."""

    def __init__(self) -> None:
        self.rounds: list[list[str]] = []
        self._open: dict[str, asyncio.Future[str]] = {}

    def ask(self, what: str) -> str:
        loop = asyncio.get_running_loop()
        if not self._open:
            loop.call_soon(self._answer)
        self._open[what] = loop.create_future()
        return answer_of(self._open[what])

    def _answer(self) -> None:
        self.rounds.append(sorted(self._open))
        answered, self._open = self._open, {}
        for what, future in answered.items():
            if what == "bad":
                future.set_exception(LookupError(what))
            else:
                future.set_result(what.upper())


async def test_each_step_of_all_is_one_round() -> None:
    asked, found = Asked(), list[str]()

    def work(name: str, steps: int) -> None:
        found.extend([asked.ask(f"{name}{step}") for step in range(steps)])

    works = [partial(work, name, steps) for name, steps in (("a", 1), ("b", 3), ("c", 0), ("d", 2))]
    await run_side_by_side(works)
    assert asked.rounds == [["a0", "b0", "d0"], ["b1", "d1"], ["b2"]]
    assert sorted(found) == ["A0", "B0", "B1", "B2", "D0", "D1"]


async def test_an_answer_that_is_an_error_is_its_own_alone() -> None:
    asked, found = Asked(), list[str]()

    def work(name: str) -> None:
        try:
            found.append(asked.ask(name))
        except LookupError as error:
            found.append(f"no {error.args[0]}")

    await run_side_by_side([partial(work, name) for name in ("a", "bad", "c")])
    assert sorted(found) == ["A", "C", "no bad"]


async def test_whoever_is_parked_when_all_are_cancelled_ends() -> None:
    ended = list[str]()

    def work(name: str) -> None:
        try:
            answer_of(asyncio.get_running_loop().create_future())
        finally:
            ended.append(name)

    task = asyncio.create_task(run_side_by_side([partial(work, name) for name in "abc"]))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(ended) == ["a", "b", "c"]


async def test_a_greenlet_that_is_done_is_used_again_and_holds_nothing() -> None:
    class Value:
        pass

    seen, gone = list[object](), list[weakref.ref[Value]]()

    def work(*, fails: bool) -> Value:
        value = Value()
        gone.append(weakref.ref(value))
        seen.append(getcurrent())
        if fails:
            raise LookupError(value)
        return value

    with pytest.raises(LookupError):
        await run_parked(partial(work, fails=True))
    await run_parked(partial(work, fails=False))
    gc.collect()
    assert seen[0] is seen[1]
    assert [each() for each in gone] == [None, None]


async def test_a_new_greenlet_keeps_nothing_of_its_first_function() -> None:
    class Value:
        pass

    def kept() -> bool:
        value = Value()
        gone = weakref.ref(value)
        asyncio.run(run_parked(partial(str, value)))
        del value
        gc.collect()
        return gone() is not None

    with ThreadPoolExecutor(1) as thread:  # It has no greenlets yet.
        assert not thread.submit(kept).result()


async def test_whoever_is_let_go_ends_where_it_waits_and_nobody_else() -> None:
    asked, ended = Asked(), list[str]()

    def work(name: str) -> str:
        try:
            return leave_with(name)
        finally:
            ended.append(name)

    done, waits = Asking(partial(work, "done")), Asking(partial(work, "waits"))
    assert (done.go_on(), done.go_on("found")) == ("done", "found")
    # It has the greenlet of the one that is done.
    other = asyncio.create_task(run_parked(partial(asked.ask, "other")))
    await asyncio.sleep(0)
    assert waits.go_on() == "waits"
    for each in (done, waits, waits):
        each.let_go()
    assert (ended, waits.done) == (["done", "waits"], True)
    assert await other == "OTHER"


async def test_greenlets_of_one_thread_are_no_other_s() -> None:
    def ask() -> str:
        return answer_of(asyncio.sleep(0, "here"))

    async def nested() -> str:
        return await run_parked(ask) + await drive(asyncio.to_thread(asyncio.run, run_parked(ask)))

    assert await nested() == "herehere"
    assert await drive(nested()) == "herehere"


async def test_every_engine_reads_side_by_side(engine: Engine) -> None:
    def put(name: str) -> None:
        found.append((name, engine.view.kv_exists("m", name)))

    await engine.transact(lambda each: each.put_kv_metadata(KvMetadata("m", "here", 1.0, 1.0)))
    found = list[tuple[str, bool]]()
    await engine.side_by_side([partial(put, name) for name in ("here", "gone", "here")])
    assert sorted(found) == [("gone", False), ("here", True), ("here", True)]
