"""What arrives together is taken together, and a group of writes waits for who is on the way."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, cast

from strongroom.store.bursts import Bursts, Known
from strongroom.store.engine.memory import MemoryEngine
from strongroom.wire.http import Request
from strongroom.wire.listener import Exchange

EXCHANGE = cast("Exchange", None)


class Taken:
    """A pipeline that notes what is done."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.fails = False
        self.tasks: list[asyncio.Task[None]] = []
        self.bursts = Bursts(MemoryEngine(), self.check, self.take, self.refuse, self.keep)

    def check(self, requests: Sequence[Request]) -> Known:
        self.said.append("check")
        if self.fails:
            raise LookupError
        return {("m", each.target) for each in requests if each.method == "POST"}

    def take(self, request: Request, _exchange: Exchange, known: Known) -> None:
        there = " is there" if ("m", request.target) in known else ""
        self.said.append(request.target + there)

    def refuse(self, _exchange: Exchange, error: Exception) -> None:
        self.said.append(type(error).__name__)

    def keep(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.ensure_future(work))

    def arrive(self, method: str, target: str) -> None:
        self.bursts.arrive(Request(method, target, {}), EXCHANGE)

    async def settled(self) -> None:
        await turns(3)
        while self.tasks:
            await self.tasks.pop()


async def turns(count: int) -> None:
    """Let the event loop go round."""
    for _ in range(count):
        await asyncio.sleep(0)


async def all_here_at_once(taken: Taken) -> bool:
    """Whether a group would not wait."""
    group = asyncio.ensure_future(taken.bursts.all_here())
    await asyncio.sleep(0)
    found = group.done()
    await group
    return found


async def test_what_arrives_in_one_turn_shares_a_check() -> None:
    taken = Taken()
    taken.arrive("GET", "a")
    taken.arrive("POST", "b")
    await taken.settled()
    taken.arrive("GET", "c")
    await taken.settled()
    assert taken.said == ["check", "a", "b is there", "check", "c"]


async def test_what_arrives_in_the_next_turn_shares_it_too() -> None:
    taken = Taken()
    taken.arrive("GET", "a")
    await turns(1)
    taken.arrive("GET", "b")
    await taken.settled()
    assert taken.said == ["check", "a", "b"]


async def test_a_check_that_fails_is_answered_to_all_and_made_again() -> None:
    taken = Taken()
    taken.fails = True
    taken.arrive("POST", "a")
    taken.arrive("GET", "b")
    await taken.settled()
    taken.fails = False
    assert await all_here_at_once(taken)
    taken.arrive("POST", "c")
    await taken.settled()
    assert taken.said == ["check", "LookupError", "LookupError", "check", "c is there"]


async def test_a_group_waits_for_who_may_write_from_arrival_to_execution() -> None:
    taken = Taken()
    taken.arrive("POST", "a")
    assert not await all_here_at_once(taken)
    await taken.settled()
    assert await all_here_at_once(taken)
    taken.bursts.record()
    assert not await all_here_at_once(taken)
    taken.bursts.follow(lambda: taken.said.append("followed"))
    await taken.bursts.all_here()
    assert taken.said[-1] == "followed"
    await taken.settled()
    assert await all_here_at_once(taken)


async def test_a_group_waits_for_nobody_who_reads_and_for_nobody_too_long() -> None:
    taken = Taken()
    taken.arrive("GET", "a")
    assert await all_here_at_once(taken)
    taken.bursts.record()
    # Whose devices do not answer.
    await taken.bursts.all_here()
