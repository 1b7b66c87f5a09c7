"""Side by side, told in order."""

import asyncio
from contextlib import aclosing

import pytest

from strongroom.app.in_order import in_order


class Desk:
    """Work that ends when it is told to."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.cut: list[int] = []
        self.ends = {each: asyncio.Event() for each in range(5)}

    async def work(self, item: int) -> int:
        self.begun.append(item)
        try:
            await self.ends[item].wait()
        except asyncio.CancelledError:
            self.cut.append(item)
            raise
        if item == 3:
            raise ValueError("three")
        return item * 10


async def test_each_is_told_as_soon_as_those_before_it_are_made() -> None:
    desk = Desk()
    async with aclosing(in_order(desk.work, range(5), 2)) as found:
        desk.ends[1].set()
        first = asyncio.create_task(anext(found))
        for _ in range(20):
            await asyncio.sleep(0)
        assert (desk.begun, first.done()) == ([0, 1], False)
        desk.ends[0].set()
        assert await first == 0
        assert await anext(found) == 10


async def test_what_fails_is_raised_in_its_turn_and_ends_the_others() -> None:
    desk = Desk()
    for each in (0, 1, 2, 3):
        desk.ends[each].set()
    found = in_order(desk.work, range(5), 3)
    assert [await anext(found) for _ in range(3)] == [0, 10, 20]
    with pytest.raises(ValueError, match="three"):
        await anext(found)
    assert desk.cut == [4]
    assert [each async for each in found] == []


async def test_who_stops_listening_ends_the_others() -> None:
    desk = Desk()
    desk.ends[0].set()
    async with aclosing(in_order(desk.work, range(5), 3)) as found:
        assert await anext(found) == 0
    assert desk.cut == [1, 2]


async def test_nothing_makes_nothing() -> None:
    assert [each async for each in in_order(Desk().work, (), 3)] == []
