"""Workers on a queue: reconcile a key, come back when it asks, back off when it is refused."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from strongroom.kube.queue import LAST_BACKOFF, Lane, WorkQueue
from strongroom.model.errors import Refusal, Unavailable

# Namespace and name.
Key = tuple[str, str]
# Returns the seconds until the key is due again, or None for "when something changes".
Reconcile = Callable[[Key], Awaitable[float | None]]
WORKERS: Final = 8
# While the API server is away all keys fail alike: that is said once, then how many it were.
ALIKE_SECONDS: Final = 60.0

_log = logging.getLogger(__name__)


def namespace_of(key: Key) -> str:
    """Whose a key is."""
    return key[0]


@dataclass(frozen=True, slots=True)
class Pause:
    """Bounds of the pause after a refusal, in seconds."""

    least: float = 0.0
    most: float = LAST_BACKOFF


# How long to stay away from a key that was refused; None: until something changes.
Patience = Callable[[Key, Refusal], Pause | None]


def _always(_key: Key, _refusal: Refusal) -> Pause:
    return Pause()


class Controller:
    """Runs until cancelled."""

    def __init__(
        self,
        name: str,
        queue: WorkQueue[Key],
        reconcile: Reconcile,
        patience: Patience = _always,
    ) -> None:
        self._name = name
        self._queue = queue
        self._reconcile = reconcile
        self._patience = patience
        self.failures = 0
        # Reasons that were said a moment ago: until when more of them are counted, and how many.
        self._alike: dict[str, tuple[float, int]] = {}

    async def run(self, workers: int = WORKERS) -> None:
        """Work with that many keys at a time."""
        self._queue.workers = workers
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            key = await self._queue.take()
            try:
                again = await self._reconcile(key)
            except Refusal as refusal:
                alike = isinstance(refusal, Unavailable)
                self._failed(key, refusal.code, self._patience(key, refusal), alike=alike)
            except Exception as error:  # noqa: BLE001 - one broken object must not end the others
                self._failed(key, type(error).__name__, Pause())
            except asyncio.CancelledError:
                # Cut off, as when the lead is lost: whoever works on the queue next does it again.
                self._queue.add(key)
                raise
            else:
                self._queue.succeeded(key)
                if again is not None:
                    self._queue.add_after(key, again, Lane.PERIODIC)
            finally:
                self._queue.done(key)
            if self._alike:
                self._tell_the_rest()
            # Ten thousand keys that need nothing would else be gone through without a pause.
            await asyncio.sleep(0)

    def _failed(self, key: Key, reason: str, pause: Pause | None, *, alike: bool = False) -> None:
        self.failures += 1
        if pause is None:
            _log.warning("%s %s/%s: %s; waits for a change", self._name, *key, reason)
            return
        seconds = self._queue.failed(key, pause.least, pause.most)
        # Ten thousand objects of a store that is down would say the same ten thousand times.
        quiet = pause.least or (alike and self._was_said(reason))
        level = logging.DEBUG if quiet else logging.WARNING
        _log.log(level, "%s %s/%s: %s; again in %.1f s", self._name, *key, reason, seconds)

    def _was_said(self, reason: str) -> bool:
        """Whether it was a moment ago; then it is counted."""
        now = self._queue.clock.monotonic()
        until, count = self._alike.get(reason, (now + ALIKE_SECONDS, -1))
        self._alike[reason] = (until, count + 1)
        return count >= 0

    def _tell_the_rest(self) -> None:
        now = self._queue.clock.monotonic()
        for reason, (until, count) in list(self._alike.items()):
            if now >= until:
                del self._alike[reason]
                if count:
                    _log.warning("%s: %d more tries: %s", self._name, count, reason)
