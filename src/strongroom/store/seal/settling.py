"""Keys that are told once, where the database has not confirmed the write that made them.

They may be in force, and nobody would have them. So the database is asked; where it does not tell
in time the keys are handed out all the same, with a warning: one not in force opens nothing.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from strongroom.model.clock import Clock
from strongroom.model.errors import Refusal, Unavailable
from strongroom.store.engine.contract import Engine, Transaction

T = TypeVar("T")
# What a write may be there after, or not.
UNSURE: Final = frozenset({"storage-unconfirmed", "write-broken-off"})
PAUSE_SECONDS: Final = 1.0
# A commit before it takes four seconds, the last question five and a pause one: clients give up
# after half a minute.
ASK_SECONDS: Final = 15.0
AROUND_SECONDS: Final = 10.0

_log = logging.getLogger(__name__)


def _nothing() -> None:
    """Nobody waits for the end."""


@dataclass(frozen=True, slots=True)
class Settled(Generic[T]):
    """What was written, and whether it is certain that it was."""

    result: T
    certain: bool = True


@dataclass(frozen=True, slots=True)
class Settling:
    """Writes, and asks for up to `seconds`."""

    engine: Engine
    clock: Clock
    seconds: float = ASK_SECONDS

    async def write(
        self,
        work: Callable[[Transaction], T],
        told_once: Callable[[T], bool],
        done: Callable[[Transaction], bool],
        ended: Callable[[], None] = _nothing,
    ) -> Settled[T]:
        """Raises what the write does, unless it may have made what is told once.

        `done` says whether it is there. `ended` is called when the write has, before anybody asks:
        chores of this process would write meanwhile, under keys that may be nobody's.
        """
        written: list[T] = []

        def kept(transaction: Transaction) -> T:
            written.append(work(transaction))
            return written[-1]

        try:
            try:
                return Settled(await self.engine.transact(kept))
            finally:
                ended()
        except Unavailable as refusal:
            if refusal.code not in UNSURE or not written or not told_once(written[-1]):
                raise
            _log.error("new keys were not confirmed; asking the database whether they hold")
            holds = await self._ask(done)
            if holds is False:
                raise
        if holds is None:
            _log.error("the database does not tell whether the new keys hold; they are handed out")
        return Settled(written[-1], certain=holds is True)

    async def _ask(self, done: Callable[[Transaction], bool]) -> bool | None:
        """By a transaction, which waits for the end of one that is still under way."""
        end = self.clock.monotonic() + self.seconds
        while self.clock.monotonic() < end:
            try:
                return await self.engine.transact(done)
            except Refusal:
                await self.clock.sleep(PAUSE_SECONDS)
        return None
