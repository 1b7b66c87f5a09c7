"""The tasks of a server beside its requests: one that ends by an error is said, and begun again."""

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable
from functools import partial

from strongroom.model.background import STEADY_SECONDS, keep_running
from strongroom.model.clock import Clock
from strongroom.store.notices import Notices, reason_of

_log = logging.getLogger(__name__)


class Background:
    """The tasks of one process."""

    def __init__(self, clock: Clock, notices: Notices) -> None:
        self._clock = clock
        self._notices = notices
        self._tasks: list[asyncio.Task[None]] = []
        # By name: why it ended, and when it will have run long enough again.
        self._ended: dict[str, tuple[str, float]] = {}

    def start(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work` beside everything else until `stop`; `name` is its part in the metrics."""
        self._notices.counts.setdefault(name, 0)
        task = keep_running(work, self._clock, partial(self._failed, name))
        self._tasks.append(asyncio.get_running_loop().create_task(task, name=name))

    def stop(self) -> None:
        """End them all."""
        for task in self._tasks:
            task.cancel()

    @property
    def failing(self) -> dict[str, str]:
        """Why a task ended by itself, by name, until it has run for a minute again."""
        now = self._clock.monotonic()
        return {name: reason for name, (reason, until) in self._ended.items() if now < until}

    def _failed(self, name: str, error: Exception, pause: float) -> None:
        # The kind and the place of an error, never its message: it may hold a value.
        last = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"{reason_of(error)} in {last.name}:{last.lineno}"
        self._notices.counts[name] += 1
        self._ended[name] = reason, self._clock.monotonic() + pause + STEADY_SECONDS
        _log.error("%s ended: %s; it begins again in %g s", name, reason, pause)
