"""Keys waiting for work: three lanes, each key once, never two workers on the same key.

A key that is added while it is being worked on comes again afterwards. A group of keys, as those of
a namespace, is worked on by fewer workers than it leaves free, so that one whose work hangs keeps
nobody else waiting: of 48 the first such has 24, the next 12, and so on. Keys of a group that has
its share are set aside until it has room.
"""

import asyncio
import heapq
import itertools
import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from enum import IntEnum
from typing import Any, Final, Generic, TypeVar

from strongroom.model.clock import Clock

K = TypeVar("K", bound=Hashable)
FIRST_BACKOFF: Final = 0.25
LAST_BACKOFF: Final = 300.0


class Lane(IntEnum):
    """Why a key waits; the lower goes first."""

    CHANGED = 0
    EVENT = 1
    PERIODIC = 2


_Lanes = dict[Lane, OrderedDict[K, float]]


def _no_lanes() -> _Lanes[K]:
    return {lane: OrderedDict() for lane in Lane}


class WorkQueue(Generic[K]):
    """One queue for one event loop; `group` says whose a key is, without it each is its own."""

    def __init__(self, clock: Clock, group: Callable[[K], Hashable] = lambda key: key) -> None:
        self.clock = clock
        # How many work on it at a time.
        self.workers = math.inf
        self._group = group
        self._lanes: _Lanes[K] = _no_lanes()
        # Keys of groups that have their share, by group.
        self._aside: dict[Hashable, _Lanes[K]] = {}
        self._brought_back: set[K] = set()
        self._shares: Counter[Hashable] = Counter()
        # Since when each is worked on.
        self._busy: dict[K, float] = {}
        self._last_done = clock.monotonic()
        # Called with each key when the work on it has ended, and the seconds that it took.
        self.on_done: Callable[[K, float], None] = lambda _key, _seconds: None
        self._again: dict[K, Lane] = {}
        self._failures: dict[K, int] = {}
        self._later: list[tuple[float, int, K, Lane]] = []
        self._due: dict[K, float] = {}
        self._order = itertools.count()
        self._ready = asyncio.Event()

    def add(self, key: K, lane: Lane = Lane.CHANGED) -> None:
        """Have the key worked on; an earlier lane wins."""
        if key in self._busy:
            self._again[key] = min(lane, self._again.get(key, lane))
            return
        for lanes in self._lanes_of(key):
            for other in Lane:
                if key in lanes[other]:
                    if other <= lane:
                        return
                    del lanes[other][key]
        self._lanes[lane][key] = self.clock.monotonic()
        self._ready.set()

    def _lanes_of(self, key: K) -> list[_Lanes[K]]:
        """Where a key may wait."""
        aside = self._aside.get(self._group(key))
        return [self._lanes] if aside is None else [self._lanes, aside]

    def add_after(self, key: K, seconds: float, lane: Lane = Lane.PERIODIC) -> None:
        """Add once that time has passed; only the earliest of several counts."""
        at = self.clock.monotonic() + max(0.0, seconds)
        if self._due.get(key, float("inf")) <= at:
            return
        self._due[key] = at
        heapq.heappush(self._later, (at, next(self._order), key, lane))
        self._ready.set()

    def put_off(self, key: K, seconds: float) -> None:
        """Have the key worked on once that time has passed, whatever was said before.

        But not where it waits for another reason than that it is its turn.
        """
        waited = [lanes[Lane.PERIODIC].pop(key, None) for lanes in self._lanes_of(key)]
        if key in self._brought_back and waited[0] is not None:
            # Another of its group has its place: it may be that nothing else ends soon.
            self._brought_back.remove(key)
            self._bring_back()
        self._due.pop(key, None)
        self.add_after(key, seconds)

    def failed(self, key: K, least: float = 0.0, most: float = LAST_BACKOFF) -> float:
        """Add again after a pause that doubles with each failure in a row; returns it.

        The pause is `most` seconds at most, and `least` at least: what a server asked for wins.
        """
        count = self._failures[key] = min(64, self._failures.get(key, 0) + 1)
        pause: float = max(least, min(most, FIRST_BACKOFF * 2 ** (count - 1)))
        self.add_after(key, pause, Lane.PERIODIC if count > 1 else Lane.EVENT)
        return pause

    def succeeded(self, key: K) -> None:
        """The next failure is the first again."""
        self._failures.pop(key, None)

    async def take(self) -> K:
        """The next key; `done` must follow."""
        while True:
            self._move_due()
            for lane in Lane:
                while self._lanes[lane]:
                    key, since = self._lanes[lane].popitem(last=False)
                    if self._has_room(self._group(key)):
                        self._busy[key] = self.clock.monotonic()
                        self._shares[self._group(key)] += 1
                        self._brought_back.discard(key)
                        return key
                    self._set_aside(key, lane, since)
            self._ready.clear()
            await self._wait()

    def _has_room(self, group: Hashable) -> bool:
        return self._shares[group] < self.workers - len(self._busy)

    def _set_aside(self, key: K, lane: Lane, since: float) -> None:
        waiting = self._aside.setdefault(self._group(key), _no_lanes())[lane]
        waiting[key] = since
        if key in self._brought_back:
            # Somebody else has taken the place that it was to have; it goes on being the first.
            waiting.move_to_end(key, last=False)
            self._brought_back.remove(key)

    def _bring_back(self) -> None:
        """One key of each group that has room, to the front of its lane."""
        for group in [each for each in self._aside if self._has_room(each)]:
            lanes = self._aside[group]
            lane = next((each for each in Lane if lanes[each]), None)
            if lane is None:
                del self._aside[group]
                continue
            key, since = lanes[lane].popitem(last=False)
            self._lanes[lane][key] = since
            self._lanes[lane].move_to_end(key, last=False)
            self._brought_back.add(key)
            self._ready.set()

    async def _wait(self) -> None:
        waits: set[asyncio.Future[Any]] = {asyncio.ensure_future(self._ready.wait())}
        if self._later:
            pause = self._later[0][0] - self.clock.monotonic()
            waits.add(asyncio.ensure_future(self.clock.sleep(max(0.0, pause))))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()

    def _move_due(self) -> None:
        now = self.clock.monotonic()
        while self._later and self._later[0][0] <= now:
            at, _, key, lane = heapq.heappop(self._later)
            if self._due.get(key) == at:
                del self._due[key]
                self.add(key, lane)

    def done(self, key: K) -> None:
        """The work on a taken key has ended."""
        now = self._last_done = self.clock.monotonic()
        self.on_done(key, now - self._busy.pop(key, now))
        group = self._group(key)
        self._shares[group] -= 1
        if self._shares[group] <= 0:
            del self._shares[group]
        if key in self._again:
            self.add(key, self._again.pop(key))
        self._bring_back()

    def oldest(self) -> float:
        """Seconds for which the key that has waited longest is due, its group's share or not."""
        waiting = [lane for lanes in self._everywhere() for lane in lanes.values() if lane]
        since = [next(iter(lane.values())) for lane in waiting]
        return self.clock.monotonic() - min(since) if since else 0.0

    def idle(self) -> float:
        """Seconds since the work on a key has ended."""
        return self.clock.monotonic() - self._last_done

    def longest(self) -> float:
        """Seconds for which the key that is worked on longest has been."""
        return self.clock.monotonic() - min(self._busy.values()) if self._busy else 0.0

    def lengths(self) -> dict[Lane, int]:
        """How many keys wait in each lane."""
        return {lane: sum(len(each[lane]) for each in self._everywhere()) for lane in Lane}

    def _everywhere(self) -> tuple[_Lanes[K], ...]:
        return (self._lanes, *self._aside.values())

    def __len__(self) -> int:
        return sum(self.lengths().values())
