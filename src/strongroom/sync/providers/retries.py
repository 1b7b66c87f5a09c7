"""`retrySettings` of a store: a call without an answer is made again before anybody is told.

Fields: https://external-secrets.io/latest/api/secretstore/. Without them nothing is repeated here:
the pace of the store says when it is asked again. And every call has an end, for a server may
answer each request in time and a list never come to its last page.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from strongroom.model.clock import Clock
from strongroom.model.errors import Invalid, Refusal, Throttled, Unavailable
from strongroom.model.secret import Secret
from strongroom.sync.durations import parse_duration
from strongroom.sync.providers.contract import (
    Change,
    Fetched,
    Find,
    History,
    Provider,
    Pushed,
    PushTarget,
    Traits,
)
from strongroom.sync.providers.fields import Fields
from strongroom.sync.spec import RemoteRef

R = TypeVar("R")
# What counts when one of the two fields stands alone.
USUAL_RETRIES: Final = 2
USUAL_SECONDS: Final = 1.0
# Repetitions of one call end after this, for somebody waits for it.
LONGEST_SECONDS: Final = 60.0
# A store that is away is not asked without a break.
SHORTEST_SECONDS: Final = 0.1
# A worker that all namespaces share waits for a call.
CALL_SECONDS: Final = 300.0
# A find may be thousands of requests.
FIND_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a call is made again, and the seconds between."""

    times: int = 0
    pause: float = 0.0

    @classmethod
    def from_spec(cls, spec: Fields) -> "Retries":
        """Read `retrySettings` of a store or generator; raises Invalid."""
        given = spec.part("retrySettings")
        if given is None or not given.names():
            return cls()
        times = given.number("maxRetries", USUAL_RETRIES)
        if times < 0:
            raise given.bad("maxRetries", "must not be negative")
        text = given.text("retryInterval")
        try:
            pause = parse_duration(text) if text else USUAL_SECONDS
        except Invalid:
            raise given.bad("retryInterval", f"is no duration: {text!r}") from None
        return cls(times, max(pause, SHORTEST_SECONDS))

    async def run(self, clock: Clock, call: Callable[[], Awaitable[R]]) -> R:
        """Make a call until it is answered; raises what the last one raised.

        A server that says when to come back is not asked before: the whole store waits for that.
        """
        began = clock.monotonic()
        for again in range(self.times):
            try:
                return await call()
            except Unavailable as refusal:
                if not worth_another(refusal) or not self.left(again, clock.monotonic() - began):
                    raise
            await clock.sleep(self.pause)
        return await call()

    def left(self, pauses: int, passed: float) -> bool:
        """Whether there is time for one more pause, after so many and so many seconds. Pure."""
        return max(pauses * self.pause, passed) + self.pause <= LONGEST_SECONDS


def worth_another(answer: object) -> bool:
    """Whether it is no answer, and the server has not said when to come back. Pure."""
    if isinstance(answer, Throttled) and answer.retry_after is not None:
        return False
    return isinstance(answer, Unavailable)


@dataclass(frozen=True, slots=True)
class Ends:
    """Seconds after which a call is given up."""

    call: float = CALL_SECONDS
    find: float = FIND_SECONDS


class Persistent:
    """A provider whose calls are made again, and come to an end. Implements Provider."""

    def __init__(
        self, provider: Provider, retries: Retries, clock: Clock, ends: Ends = Ends()
    ) -> None:
        self._provider = provider
        self._retries = retries
        self._clock = clock
        self._ends = ends

    async def _run(self, call: Callable[[], Awaitable[R]]) -> R:
        return await self._ended(self._retries.run(self._clock, call), self._ends.call)

    async def _ended(self, call: Awaitable[R], seconds: float) -> R:
        try:
            async with asyncio.timeout(seconds):
                return await call
        except TimeoutError:
            raise Unavailable(
                "too-long",
                f"the store did not come to an end in {seconds:g} s",
                hint="does its server hang, or is there more to find than is read in that time?",
            ) from None

    @property
    def traits(self) -> Traits:
        return self._provider.traits

    async def validate(self) -> None:
        await self._run(self._provider.validate)

    async def fetch(self, ref: RemoteRef) -> Fetched:
        return await self._run(lambda: self._provider.fetch(ref))

    async def fetch_many(self, refs: Sequence[RemoteRef]) -> Sequence[Fetched | Refusal]:
        return await self._ended(self._fetched(refs), self._ends.call)

    async def _fetched(self, refs: Sequence[RemoteRef]) -> Sequence[Fetched | Refusal]:
        began = self._clock.monotonic()
        found = list(await self._retries.run(self._clock, lambda: self._provider.fetch_many(refs)))
        for again in range(self._retries.times):
            # Of what was asked for together, only what got no answer is asked for again.
            left = [at for at, each in enumerate(found) if worth_another(each)]
            if not left or not self._retries.left(again, self._clock.monotonic() - began):
                break
            await self._clock.sleep(self._retries.pause)
            answers = await self._provider.fetch_many([refs[at] for at in left])
            for at, each in zip(left, answers, strict=True):
                found[at] = each
        return found

    async def find(self, wanted: Find) -> Mapping[str, Fetched]:
        found = self._retries.run(self._clock, lambda: self._provider.find(wanted))
        return await self._ended(found, self._ends.find)

    async def push(self, target: PushTarget, value: Secret) -> Pushed:
        return await self._run(lambda: self._provider.push(target, value))

    async def delete(self, target: PushTarget) -> None:
        await self._run(lambda: self._provider.delete(target))

    async def exists(self, target: PushTarget) -> bool:
        return await self._run(lambda: self._provider.exists(target))

    def changes(self, since: str = "") -> AsyncIterator[Change | History]:
        return self._provider.changes(since)

    async def close(self) -> None:
        await self._provider.close()
