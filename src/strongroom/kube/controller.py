"""Workers on a queue: reconcile a key, come back when it asks, back off when it is refused."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from strongroom.kube.queue import Lane, WorkQueue
from strongroom.model.errors import Refusal

Key = tuple[str, str]
# Returns the seconds until the key is due again, or None for "when something changes".
Reconcile = Callable[[Key], Awaitable[float | None]]
WORKERS: Final = 8

_log = logging.getLogger(__name__)


class Controller:
    """Runs until cancelled."""

    def __init__(self, name: str, queue: WorkQueue[Key], reconcile: Reconcile) -> None:
        self._name = name
        self._queue = queue
        self._reconcile = reconcile
        self.failures = 0

    async def run(self, workers: int = WORKERS) -> None:
        """Work with that many keys at a time."""
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            key = await self._queue.take()
            try:
                again = await self._reconcile(key)
            except Refusal as refusal:
                self._failed(key, refusal.code)
            except Exception as error:  # noqa: BLE001 - one broken object must not end the others
                self._failed(key, type(error).__name__)
            else:
                self._queue.succeeded(key)
                if again is not None:
                    self._queue.add_after(key, again, Lane.PERIODIC)
            finally:
                self._queue.done(key)

    def _failed(self, key: Key, reason: str) -> None:
        self.failures += 1
        pause = self._queue.failed(key)
        _log.warning("%s %s/%s: %s; again in %.1f s", self._name, *key, reason, pause)
