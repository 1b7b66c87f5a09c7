"""Time as an argument: wall-clock for people and records, monotonic for durations.

`SystemClock` is the only code that asks the operating system; tests use `SimulatedClock`.
"""

import asyncio
import heapq
import itertools
import math
import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol, final


class Clock(Protocol):
    """What a room may know about time. Seconds everywhere."""

    def now(self) -> float:
        """Wall-clock seconds since the epoch; may step in either direction."""

    def monotonic(self) -> float:
        """Seconds that never go back; only differences mean anything."""

    async def sleep(self, seconds: float) -> None:
        """Return after that many seconds of this clock."""


@final
class SystemClock:
    """The machine's clock."""

    # The system's functions themselves: a request asks a dozen times.
    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@final
class SimulatedClock:
    """A clock that moves only when told; sleepers wake in order as it passes their time."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._now = start
        self._monotonic = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        wake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._monotonic + seconds, next(self._order), wake))
        await wake

    @property
    def sleepers(self) -> int:
        """How many wait for it to move on."""
        return sum(not wake.done() for _, _, wake in self._sleepers)

    def step_wall(self, seconds: float) -> None:
        """Step the wall clock alone, as an administrator or NTP does."""
        self._now += seconds

    async def advance(self, seconds: float) -> None:
        """Move both clocks on, waking each sleeper at its own time and letting it run."""
        end = self._monotonic + seconds
        await _settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            at, _, wake = heapq.heappop(self._sleepers)
            self._move_to(max(at, self._monotonic))
            if not wake.done():
                wake.set_result(None)
            await _settle()
        self._move_to(end)

    def _move_to(self, at: float) -> None:
        self._now += at - self._monotonic
        self._monotonic = at


async def _settle(turns: int = 20) -> None:
    """Let tasks that are ready run; twenty turns cover the longest chain the rooms build."""
    for _ in range(turns):
        await asyncio.sleep(0)


def rfc3339(seconds: float) -> str:
    """Format epoch seconds as RFC 3339 UTC with microseconds, `2026-01-02T03:04:05.000006Z`."""
    part, whole = math.modf(seconds)
    microseconds = round(part * 1_000_000)
    carried, microseconds = divmod(microseconds, 1_000_000)
    return f"{_to_the_second(int(whole) + carried)}.{microseconds:06}Z"


@lru_cache(maxsize=64)
def _to_the_second(seconds: int) -> str:
    # Most of what is told happened just now: the same few seconds again and again. The offset is
    # always the last six characters; `strftime` takes ten times as long.
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:-6]


def parse_rfc3339(text: str) -> float:
    """Read an RFC 3339 time into epoch seconds; fractions beyond microseconds are cut.

    Raises ValueError for anything else.
    """
    head, dot, tail = text.partition(".")
    if dot:
        digits = len(tail) - len(tail.lstrip("0123456789"))
        text = f"{head}.{tail[:digits][:6].ljust(6, '0')}{tail[digits:]}"
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"time without a zone: {text!r}")
    return moment.timestamp()
