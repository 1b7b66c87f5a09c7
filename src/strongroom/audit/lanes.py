"""A thread for each device that may block: one write at a time, what comes meanwhile is the next.

The event loop never waits for a device, and a device that answers in time is never taken for one
that hangs, however much comes while it writes.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Final

from strongroom.model.errors import Unavailable

# A timer that comes so late says that the process, or its machine, stood still meanwhile.
FROZEN_SECONDS: Final = 0.5

Write = Callable[[bytes], None]
Settled = Callable[[Unavailable | None], None]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Batch:
    """Whole lines of one flush, and who wants to hear of them; `asked` is the loop's time."""

    lines: bytes
    settled: Settled
    asked: float


class Lane:
    """The way to one device, from one event loop.

    A write has `deadline` seconds from when its first line was asked for. One that passes it is
    settled as `audit-slow` with all that waits behind it, and until it comes back whatever is
    asked is settled so at once: nobody queues behind a device that hangs.
    """

    def __init__(self, name: str, write: Write, deadline: float) -> None:
        self._write: Final = write
        self._deadline: Final = deadline
        self._slow: Final = Unavailable(
            "audit-slow", f"the audit device {name} did not answer in {deadline:g} s"
        )
        self._writing: list[_Batch] = []
        self._waiting: list[_Batch] = []
        self._hangs = False
        self._had_more_time = False
        self._ending = False
        self._timer: asyncio.Handle | None = None
        # When it is due: uvloop's timer for a time that has passed does not say.
        self._due = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        # The process does not wait for it when it ends.
        threading.Thread(target=self._run, daemon=True, name=f"audit-{name}").start()

    def submit(self, lines: bytes, settled: Settled) -> None:
        """Write whole lines; `settled` hears None, or what is wrong, in the event loop."""
        if self._hangs:
            settled(self._slow)
            return
        loop = self._loop = asyncio.get_running_loop()
        self._waiting.append(_Batch(lines, settled, loop.time()))
        if not self._writing:
            self._begin(loop)

    def end(self) -> None:
        """No more; the thread ends when it is through."""
        self._ending = True
        if not self._writing and not self._hangs:
            self._queue.put(None)

    # the event loop

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._writing, self._waiting = self._waiting, []
        self._had_more_time = False
        self._call_at(loop, self._writing[0].asked + self._deadline)
        self._queue.put(b"".join(each.lines for each in self._writing))

    def _call_at(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self._due = due
        self._timer = loop.call_at(due, self._late)

    def _late(self) -> None:
        if self._begun_anew():
            return
        self._hangs = True
        given_up = self._writing + self._waiting
        self._writing, self._waiting = [], []
        for each in given_up:
            each.settled(self._slow)

    def _begun_anew(self) -> bool:
        """After a freeze the device has its time again: it has had none of it, or has written."""
        loop = self._loop
        if loop is None or loop.time() - self._due < FROZEN_SECONDS:
            return False
        if self._had_more_time:
            return False  # A loop that is always late would never call a device slow.
        self._had_more_time = True
        self._call_at(loop, loop.time() + self._deadline)
        return True

    def _finished(self, error: Unavailable | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._hangs = False
        done, self._writing = self._writing, []
        if self._waiting and self._loop is not None:
            self._begin(self._loop)
        elif self._ending:
            self._queue.put(None)
        for each in done:
            each.settled(error)

    # the thread

    def _run(self) -> None:
        while (lines := self._queue.get()) is not None:
            error = self._written(lines)
            # A loop that has been closed waits for nothing.
            with contextlib.suppress(RuntimeError):
                if self._loop is not None:
                    self._loop.call_soon_threadsafe(self._finished, error)

    def _written(self, lines: bytes) -> Unavailable | None:
        try:
            self._write(lines)
        except Unavailable as error:
            return error
        except Exception as error:  # noqa: BLE001 - the next record needs the thread
            what = type(error).__name__
            _log.error("an audit device failed unforeseen: %s", what)
            return Unavailable("audit-unwritable", f"an audit device failed unforeseen: {what}")
        return None
