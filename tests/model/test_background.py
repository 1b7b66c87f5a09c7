"""Work that is begun again."""

import asyncio

from strongroom.model.background import STEADY_SECONDS, keep_running
from strongroom.model.clock import SimulatedClock


async def test_work_that_fails_is_told_of_and_begun_again_after_pauses_that_grow() -> None:
    clock, told = SimulatedClock(), []
    begun: list[float] = []

    async def fails() -> None:
        begun.append(clock.monotonic())
        if len(begun) == 9:
            await clock.sleep(STEADY_SECONDS)
        raise KeyError("what it met")

    def failed(error: Exception, pause: float) -> None:
        told.append((type(error), pause))

    task = asyncio.create_task(keep_running(fails, clock, failed))
    await clock.advance(1000)
    task.cancel()
    pauses = [1, 2, 4, 8, 16, 32, 60, 60]
    assert [pause for _, pause in told[:8]] == pauses
    assert begun[:9] == [sum(pauses[:number]) for number in range(9)]
    # After it ran well for long, as at first.
    assert told[8] == (KeyError, 1)


async def test_work_that_returns_is_over_and_what_is_cancelled_ends() -> None:
    clock, told = SimulatedClock(), []

    async def once() -> None:
        told.append("once")

    await keep_running(once, clock, lambda *_: told.append("failed"))
    assert told == ["once"]
    task = asyncio.create_task(
        keep_running(lambda: clock.sleep(STEADY_SECONDS), clock, lambda *_: None)
    )
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
