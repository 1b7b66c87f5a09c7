"""How fast one store is asked: a token bucket, its Retry-After, and a breaker when it is down.

Nobody waits here for long: a read that would have to wait is refused with the time to come back,
so that workers stay free for other stores.
"""

import math
import re
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import Final

from strongroom.model.clock import Clock
from strongroom.model.errors import Throttled, Unavailable
from strongroom.sync.providers.contract import ClusterAway

READS_PER_SECOND: Final = 500.0
BURST: Final = 1000.0
# A wait up to this is slept; a longer one is refused.
SLEPT_SECONDS: Final = 0.25
FAILURES_TO_OPEN: Final = 3
FIRST_PAUSE: Final = 1.0
LAST_PAUSE: Final = 30.0
DEFAULT_RETRY_AFTER: Final = 5.0
# In so many seconds after its return a store is asked as fast as any other.
RAMP_SECONDS: Final = 10.0
# So many of those that wait for a store look again together, and the next so much later: however
# many there are, they cost little. But each does after so long.
LOOKS_AT_ONCE: Final = 40
LOOK_SECONDS: Final = 1.0
LAST_LOOK: Final = 300.0

_ADDRESS: Final = re.compile(r"no answer from \w+://[^/\s]+")
_STATUS: Final = re.compile(r" \(status \d{3}\)$")


@dataclass(frozen=True, slots=True)
class Rate:
    """Reads that a store takes: steadily, and at once."""

    per_second: float = READS_PER_SECOND
    burst: float = BURST


class Pace:
    """The pace of one store."""

    def __init__(self, clock: Clock, rate: Rate | None = None) -> None:
        self._clock = clock
        self._rate = rate or Rate()
        self._tokens = self._rate.burst
        self._filled = clock.monotonic()
        self._closed_until = 0.0
        self._why: Unavailable | None = None
        self._probing = False
        # The shortest interval of those who wait, and when one of them has asked last.
        self._shortest, self._wanted = LAST_PAUSE, 0.0
        # When those that wait look again, and how many will then.
        self._next_look, self._looks = 0.0, 0
        self.failures = 0

    @property
    def down(self) -> bool:
        """Whether the store is left alone, or being tried after that."""
        return self.failures >= FAILURES_TO_OPEN or self._clock.monotonic() < self._closed_until

    def wanted_within(self, seconds: float) -> None:
        """Whoever asks has that refresh interval, which no pause for a failure is longer than."""
        if max(seconds, FIRST_PAUSE) <= self._shortest:
            self._shortest, self._wanted = max(seconds, FIRST_PAUSE), self._clock.monotonic()

    async def turn(self) -> None:
        """Return when a read may begin; raises what the store said last, or Throttled."""
        now = self._clock.monotonic()
        if now < self._closed_until and self._why is not None:
            raise self._refusal(self._closed_until - now)
        if self.failures >= FAILURES_TO_OPEN and self._why is not None:
            # One read finds out whether it is back; the others wait for what it finds.
            if self._probing:
                raise self._refusal(FIRST_PAUSE)
            self._probing = True
            return
        self._tokens = min(
            self._rate.burst, self._tokens + (now - self._filled) * self._rate.per_second
        )
        self._filled = now
        self._tokens -= 1
        if self._tokens >= 0:
            return
        wait = -self._tokens / self._rate.per_second
        if wait > SLEPT_SECONDS:
            self._tokens += 1
            raise Throttled(
                "store-busy", "the store is asked as often as it may be", retry_after=wait
            )
        await self._clock.sleep(wait)

    def answered(self) -> bool:
        """Note an answer, of whatever content; True when the store was down before."""
        back = self.failures >= FAILURES_TO_OPEN or self._why is not None
        if back:
            # What was saved up while nobody could ask would fall upon it at once.
            self._tokens, self._filled = min(self._tokens, 0.0), self._clock.monotonic()
        self.failures, self._why, self._closed_until, self._probing = 0, None, 0.0, False
        self._shortest, self._next_look, self._looks = LAST_PAUSE, 0.0, 0
        return back

    def refused(self, refusal: Unavailable) -> None:
        """Note that the store did not answer, or asked to be left alone."""
        self._probing = False
        self.failures += 1
        now = self._clock.monotonic()
        if now - self._wanted > LAST_LOOK + LAST_PAUSE:
            # Whoever had that interval is gone.
            self._shortest = LAST_PAUSE
        if isinstance(refusal, Throttled):
            pause = refusal.retry_after
            self._closed_until = now + (DEFAULT_RETRY_AFTER if pause is None else pause)
            self._why = refusal
        elif self.failures >= FAILURES_TO_OPEN:
            over = min(16, self.failures - FAILURES_TO_OPEN)
            self._closed_until = now + min(self._shortest, FIRST_PAUSE * 2**over)
            self._why = refusal

    def look_after(self) -> float:
        """Seconds after which one more of those that wait looks again, if nobody wakes it before.

        They take turns: the first to come finds out whether the store is back, and then all hear.
        """
        now = self._clock.monotonic()
        if self._next_look < max(self._closed_until, now):
            self._next_look, self._looks = max(self._closed_until, now), 0
        elif self._looks >= LOOKS_AT_ONCE and self._next_look < now + LAST_LOOK:
            self._next_look, self._looks = self._next_look + LOOK_SECONDS, 0
        self._looks += 1
        return self._next_look - now

    def usable(self) -> None:
        """Note that the store was found in order otherwise: the next read finds out at once.

        What a server asked for stands.
        """
        if not isinstance(self._why, Throttled):
            self._closed_until = 0.0

    def after_edit(self) -> "Pace":
        """The pace of the store as it was edited: it may be elsewhere now, where it answers.

        What a server asked for stands.
        """
        pace = copy(self)
        pace.dropped()
        if not isinstance(self._why, Throttled):
            pace.answered()
        return pace

    def dropped(self) -> None:
        """Note that a read was given up before the store has said anything."""
        self._probing = False

    def _refusal(self, seconds: float) -> Unavailable:
        why = self._why
        if why is None:
            return Throttled("store-busy", "asked too often", retry_after=seconds)
        if isinstance(why, ClusterAway):
            said = Unavailable(why.code, told_to_others(why), hint=why.hint)
            return ClusterAway(said, seconds)
        if isinstance(why, Throttled):
            return Throttled(why.code, told_to_others(why), retry_after=seconds)
        said = Unavailable(why.code, told_to_others(why), hint=why.hint)
        return Resting(said, seconds, self.look_after)


def told_to_others(why: Unavailable) -> str:
    """What is said of a refusal to those who did not ask for what was refused. Pure.

    A store may be shared by namespaces, and its own words name what another of them reads.
    """
    address, status = _ADDRESS.match(why.message), _STATUS.search(why.message)
    if why.code == "unreachable" and address:
        return f"{address[0]}: {why.message.rpartition(': ')[2]}"
    said = "asks to be left alone" if isinstance(why, Throttled) else "did not answer another read"
    return f"the store {said}{status[0] if status else ''}"


def turn_at(number: int, per_second: float) -> float:
    """Seconds after the return of a store in which one of those that wait has its turn. Pure.

    `number` counts them from 0. Their rate grows evenly, and is `per_second` from `RAMP_SECONDS`
    on, so the last of n has its turn after 5 + n / `per_second` seconds where n is large.
    """
    growing = per_second * RAMP_SECONDS / 2
    if number < growing:
        return math.sqrt(2 * RAMP_SECONDS * number / per_second)
    return RAMP_SECONDS + (number - growing) / per_second


class Resting(Unavailable):
    """The store did not answer others either; it is asked again in `retry_after` seconds.

    `look_after` gives whoever waits for it the seconds until its turn to look.
    """

    def __init__(
        self, refusal: Unavailable, retry_after: float, look_after: Callable[[], float]
    ) -> None:
        super().__init__(refusal.code, refusal.message, hint=refusal.hint)
        self.retry_after = retry_after
        self.look_after = look_after
