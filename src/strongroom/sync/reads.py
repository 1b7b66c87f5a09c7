"""Reads of one store, shared: one request for all who want the same at the same time.

What was read a moment ago is not read again, unless the change feed says that it changed; what
several want of a store that reads in batches goes out in one request.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from strongroom.model.clock import Clock
from strongroom.model.errors import Refusal, Unavailable
from strongroom.sync.pace import Pace
from strongroom.sync.providers.contract import Change, Fetched, Find, History, Provider
from strongroom.sync.spec import RemoteRef

FRESH_SECONDS: Final = 1.0
# What a read is told apart by: key, version, metadata, and the property where it is asked for.
Place = tuple[str, str, bool, str]
# Called with the kind of call, and whether it went well.
Counted = Callable[[str, bool], None]


@dataclass(slots=True)
class _Flight:
    ref: RemoteRef
    landing: asyncio.Future[Fetched]
    # How many changes were known when it began: it may have missed the next.
    changes: int


class SharedReads:
    """One provider for all that read through it."""

    def __init__(
        self,
        provider: Provider,
        clock: Clock,
        pace: Pace,
        counted: Counted = lambda _call, _well: None,
        uid: str = "",
    ) -> None:
        self.uid = uid
        # The store as people call it, for the log.
        self.name = ""
        self.provider = provider
        self.pace = pace
        self.on_back: Callable[[], None] = lambda: None
        self._clock = clock
        self._counted = counted
        self._flights: dict[Place, _Flight] = {}
        self._waiting: list[_Flight] = []
        # Of landed flights: their places by path, and in the order of their landing.
        self._paths: dict[str, set[Place]] = {}
        self._landed: deque[tuple[float, str, Place, _Flight]] = deque()
        self._changes = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def fetch(self, ref: RemoteRef) -> Fetched:
        """One secret, whole; raises what the provider raises, or that the store is down."""
        return await asyncio.shield(self.begin(ref))

    def begin(self, ref: RemoteRef) -> asyncio.Future[Fetched]:
        """Have it read, without waiting."""
        self._forget_old()
        place = self._place(ref)
        flight = self._flights.get(place)
        if flight is None or (flight.changes != self._changes and not flight.landing.done()):
            landing = asyncio.get_running_loop().create_future()
            flight = self._flights[place] = _Flight(ref, landing, self._changes)
            self._take_off(flight, place)
        return flight.landing

    async def find(self, wanted: Find) -> Mapping[str, Fetched]:
        """All that a `find` wants."""
        async with self.asked("find"):
            return await self.provider.find(wanted)

    def changed(self, path: str) -> None:
        """Forget what was read of a path; nobody from now on shares what is being read."""
        self._changes += 1
        for place in self._paths.pop(path, ()):
            self._flights.pop(place, None)

    def changed_all(self) -> None:
        """Forget everything: changes may have been missed."""
        self._flights.clear()
        self._paths.clear()
        self._landed.clear()

    def _place(self, ref: RemoteRef) -> Place:
        asked = ref.property if self.provider.traits.by_property else ""
        return ref.key, ref.version, ref.metadata, asked

    def _forget_old(self) -> None:
        """What landed a while ago is no news, and takes memory."""
        fresh = self._clock.monotonic() - FRESH_SECONDS
        while self._landed and self._landed[0][0] < fresh:
            _, path, place, flight = self._landed.popleft()
            if self._flights.get(place) is not flight:
                continue
            del self._flights[place]
            places = self._paths.get(path, set())
            places.discard(place)
            if not places:
                self._paths.pop(path, None)

    def _take_off(self, flight: _Flight, place: Place) -> None:
        if self.provider.traits.batch <= 1:
            self._start(self._one(flight, place), [flight])
            return
        self._waiting.append(flight)
        if len(self._waiting) == 1:
            # At the next turn of the loop, when all that is ready has asked.
            asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        size = self.provider.traits.batch
        for start in range(0, len(waiting), size):
            flights = waiting[start : start + size]
            self._start(self._many(flights), flights)

    def _start(self, work: Coroutine[Any, Any, None], flights: Sequence[_Flight]) -> None:
        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if task.cancelled():
                # Who waits for it waits for nothing else.
                gone = Unavailable("store-changed", "the store was edited or deleted meanwhile")
                for each in flights:
                    self._land(each, self._place(each.ref), gone)

        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(ended)

    async def _one(self, flight: _Flight, place: Place) -> None:
        try:
            async with self.asked("fetch"):
                found: Fetched | BaseException = await self.provider.fetch(flight.ref)
        except Exception as error:  # noqa: BLE001 - it belongs to those who wait
            found = _refusal(error)
        self._land(flight, place, found)

    async def _many(self, flights: Sequence[_Flight]) -> None:
        answers: Sequence[Fetched | BaseException]
        try:
            async with self.asked("fetch_many"):
                answers = await self.provider.fetch_many([each.ref for each in flights])
        except Exception as error:  # noqa: BLE001 - it belongs to those who wait
            answers = [_refusal(error)] * len(flights)
        for flight, answer in zip(flights, answers, strict=True):
            self._land(flight, self._place(flight.ref), answer)

    def _land(self, flight: _Flight, place: Place, found: Fetched | BaseException) -> None:
        if isinstance(found, Fetched):
            if self._flights.get(place) is flight:
                self._keep(flight, place, found.path)
            if not flight.landing.done():
                flight.landing.set_result(found)
            return
        if self._flights.get(place) is flight:
            del self._flights[place]
        if not flight.landing.done():
            flight.landing.set_exception(found)
            # Nobody may be left who waits for it.
            flight.landing.exception()

    def _keep(self, flight: _Flight, place: Place, path: str) -> None:
        """Share for a moment what was read, unless something changed meanwhile."""
        if flight.changes != self._changes:
            del self._flights[place]
            return
        self._paths.setdefault(path, set()).add(place)
        self._landed.append((self._clock.monotonic(), path, place, flight))

    def asked(self, call: str) -> "_Asked":
        """A context for one call to the provider itself, in its turn and counted."""
        return _Asked(self, call)

    def changes(self, since: str = "") -> AsyncIterator[Change | History]:
        """The provider's change feed."""
        return self.provider.changes(since)

    async def close(self) -> None:
        """Let go of the provider."""
        for task in self._tasks:
            task.cancel()
        await self.provider.close()


class _Asked:
    """One call to the provider: waits for its turn, and tells pace and metrics how it went."""

    def __init__(self, reads: SharedReads, call: str) -> None:
        self._reads = reads
        self._call = call

    async def __aenter__(self) -> None:
        await self._reads.pace.turn()

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._reads._counted(self._call, error is None)  # noqa: SLF001 - one thing in two classes
        if isinstance(error, Unavailable):
            self._reads.pace.refused(error)
        elif error is not None and not isinstance(error, Exception):
            # A read that was cancelled says nothing of the store.
            self._reads.pace.dropped()
        elif self._reads.pace.answered():
            self._reads.on_back()


def _refusal(error: Exception) -> Refusal:
    """A provider's own bug is the trouble of whoever it meets, and says nothing of the store."""
    if isinstance(error, Refusal):
        return error
    return Unavailable("provider-bug", f"the provider failed with {type(error).__name__}")
