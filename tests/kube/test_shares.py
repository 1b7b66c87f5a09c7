"""No group of keys takes every worker of a queue."""

import asyncio
import random
from operator import itemgetter

from strongroom.kube.controller import Controller, Key
from strongroom.kube.queue import Lane, WorkQueue
from strongroom.model.clock import SimulatedClock


def queue_of(workers: int) -> WorkQueue[str]:
    queue: WorkQueue[str] = WorkQueue(SimulatedClock(), itemgetter(0))
    queue.workers = workers
    return queue


async def taken(queue: WorkQueue[str]) -> list[str]:
    """What can be taken at this moment."""
    found = []
    while True:
        taking = asyncio.create_task(queue.take())
        for _ in range(3):
            await asyncio.sleep(0)
        if not taking.done():
            taking.cancel()
            return found
        found.append(taking.result())


async def test_a_group_has_fewer_workers_than_it_leaves_free() -> None:
    queue = queue_of(8)
    for number in range(9):
        queue.add(f"a{number}")
    assert await taken(queue) == ["a0", "a1", "a2", "a3"]
    for number in range(9):
        queue.add(f"b{number}")
    assert await taken(queue) == ["b0", "b1"]
    queue.add("c0")
    queue.add("d0")
    assert await taken(queue) == ["c0", "d0"]
    assert len(queue) == 12


async def test_what_is_set_aside_comes_in_its_turn_once_there_is_room() -> None:
    queue = queue_of(3)
    for name in ("a0", "a1", "a2", "a3"):
        queue.add(name, Lane.EVENT)
    assert await taken(queue) == ["a0", "a1"]
    queue.add("a4", Lane.CHANGED)
    assert await taken(queue) == []
    queue.done("a0")
    assert await taken(queue) == ["a4"]
    # Somebody else takes the place that a4 leaves; a2 stays before what comes later.
    queue.done("a4")
    queue.add("a5", Lane.EVENT)
    queue.add("b0", Lane.CHANGED)
    assert await taken(queue) == ["b0"]
    for name, following in (("b0", "a2"), ("a2", "a3"), ("a3", "a5")):
        queue.done(name)
        assert await taken(queue) == [following]


async def test_what_is_set_aside_waits_once_and_may_be_put_off() -> None:
    queue = queue_of(2)
    for name in ("a0", "a1", "a2"):
        queue.add(name, Lane.PERIODIC)
    assert await taken(queue) == ["a0"]
    queue.add("a1", Lane.PERIODIC)
    queue.add("a2", Lane.CHANGED)
    assert queue.lengths() == {Lane.CHANGED: 1, Lane.EVENT: 0, Lane.PERIODIC: 1}
    assert isinstance(queue.clock, SimulatedClock)
    await queue.clock.advance(3)
    assert await taken(queue) == []
    assert queue.oldest() == 3
    queue.put_off("a1", 60.0)
    queue.done("a0")
    assert await taken(queue) == ["a2"]
    queue.done("a2")
    assert await taken(queue) == []
    assert len(queue) == 0


async def test_the_place_of_what_is_put_off_is_anothers() -> None:
    queue = queue_of(2)
    for name in ("a0", "a1", "a2"):
        queue.add(name, Lane.PERIODIC)
    assert await taken(queue) == ["a0"]
    queue.done("a0")
    queue.put_off("a1", 60.0)
    assert await taken(queue) == ["a2"]


async def test_every_key_is_worked_on_whatever_order_they_come_and_end_in() -> None:
    draw = random.Random(7)
    for _ in range(200):
        workers = draw.randint(1, 6)
        queue = queue_of(workers)
        wanted, busy = set(), []
        for _ in range(60):
            if draw.random() < 0.6:
                key = f"{draw.choice('abc')}{draw.randint(0, 5)}"
                queue.add(key, draw.choice(list(Lane)))
                wanted.add(key)
            if len(busy) < workers and draw.random() < 0.7:
                taking = asyncio.create_task(queue.take())
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                if taking.done():
                    busy.append(taking.result())
                    wanted.discard(taking.result())
                taking.cancel()
            if busy and draw.random() < 0.5:
                queue.done(busy.pop(draw.randrange(len(busy))))
            assert len(set(busy)) == len(busy)
        while busy or len(queue):
            for key in busy:
                queue.done(key)
            # Where nobody is at work each group has room.
            busy = [await asyncio.wait_for(queue.take(), 5)] if len(queue) else []
            wanted -= set(busy)
        assert not wanted


async def test_a_namespace_whose_work_hangs_keeps_nobody_else_waiting() -> None:
    queue: WorkQueue[Key] = WorkQueue(SimulatedClock(), itemgetter(0))
    answer, done = asyncio.Event(), []

    async def reconcile(key: Key) -> None:
        if key[0] == "hangs":
            await answer.wait()
        done.append(key)

    for number in range(100):
        queue.add(("hangs", str(number)))
    working = asyncio.create_task(Controller("x", queue, reconcile).run(8))
    await asyncio.sleep(0)
    queue.add(("other", "one"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert done == [("other", "one")]
    answer.set()
    while len(done) < 101:
        await asyncio.sleep(0)
    working.cancel()
