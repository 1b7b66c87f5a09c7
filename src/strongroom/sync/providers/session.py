"""A login that concurrent reads share: made once, renewed before it ends, dropped when refused."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Generic, TypeVar

from strongroom.model.clock import Clock
from strongroom.model.errors import Denied, NotFound, Unavailable

RENEW_AT: Final = 0.66
# A login younger than this is not to blame for a refusal, so refusals do not become logins.
BLAME_SECONDS: Final = 10.0
# The same for what was refused to a fresh login before.
KNOWN_BLAME_SECONDS: Final = 60.0
MOST_REFUSED: Final = 10_000
# A renewal that had no answer is tried again after this, or when whoever gives it says.
AGAIN_SECONDS: Final = 10.0
T = TypeVar("T")
R = TypeVar("R")


class Session(Generic[T]):
    """`login` gives what a session consists of, and the seconds it lives (0: for ever)."""

    def __init__(self, login: Callable[[], Awaitable[tuple[T, float]]], clock: Clock) -> None:
        self._login = login
        self._clock = clock
        self._lock = asyncio.Lock()
        self._held: T | None = None
        self._renew_after = 0.0
        self._ends = 0.0
        self._since = 0.0
        # What a fresh login was refused, and has not been let into since.
        self._refused: set[Hashable] = set()

    async def enter(self) -> T:
        """The session; many callers at once make one login. Raises what the login raises.

        While whoever gives a new one is away, the one that is held serves until its end. A login
        that finds nothing is an Unavailable(`no-login`): only what is asked for with a session can
        be not there.
        """
        async with self._lock:
            if self._held is None or self._clock.monotonic() >= self._renew_after:
                try:
                    self._held, seconds = await self._login()
                except NotFound as refusal:
                    raise Unavailable(
                        "no-login",
                        f"there is nothing to log in to: {refusal.message}",
                        hint="is the path of the auth method right, and is it enabled?",
                    ) from None
                except Unavailable as refusal:
                    now = self._clock.monotonic()
                    if self._held is None or now >= self._ends:
                        raise
                    asked = getattr(refusal, "retry_after", None) or 0.0
                    self._renew_after = min(self._ends, now + max(asked, AGAIN_SECONDS))
                else:
                    self._since = self._clock.monotonic()
                    life = seconds or math.inf
                    self._renew_after = self._since + life * RENEW_AT
                    self._ends = self._since + life
            return self._held

    async def use(self, work: Callable[[T], Awaitable[R]], what: Hashable = None) -> R:
        """Do something with the session; a refusal is tried once more after a fresh login.

        The login may have been revoked or its credentials replaced: a second refusal means that
        the identity may not. `what` is what the work asks for: where it was refused to a fresh
        login, its next refusals are no reason to drop what all others use.
        """
        held = await self.enter()
        try:
            return self._let_in(what, await work(held))
        except Denied:
            if self._held is held:
                if self._clock.monotonic() - self._since < self._blameless(what):
                    raise
                self._held = None
        try:
            return self._let_in(what, await work(await self.enter()))
        except Denied:
            if what is not None and len(self._refused) < MOST_REFUSED:
                self._refused.add(what)
            raise

    def _blameless(self, what: Hashable) -> float:
        """How old a login is at least that may be to blame for a refusal."""
        return KNOWN_BLAME_SECONDS if what in self._refused else BLAME_SECONDS

    def _let_in(self, what: Hashable, found: R) -> R:
        self._refused.discard(what)
        return found
