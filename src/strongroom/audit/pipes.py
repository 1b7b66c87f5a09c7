"""Devices that somebody must read: a named pipe, a terminal, standard output.

They are opened so that neither opening nor writing blocks (fifo(7), pipe(7)); who does not read
within the deadline has failed, and the thread that wrote comes back. A pipe takes up to 4096 bytes
as one; longer lines of several processes are kept apart by a lock on the file.
"""

import fcntl
import os
import select
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from strongroom.audit.devices import DEADLINE_SECONDS, unwritable
from strongroom.model.clock import SystemClock
from strongroom.model.errors import Unavailable

_LOCK_PAUSE: Final = 0.002


class PipeDevice:
    """What `opened` opens, at the first write and after `reopen`; `deadline` in seconds."""

    def __init__(
        self, name: str, opened: Callable[[], int], deadline: float = DEADLINE_SECONDS
    ) -> None:
        self.name = name
        self.blocking = True
        self.longest = 0
        self._opened = opened
        self._deadline = deadline
        # A deadline on the outside world, kept in a thread: there is no other clock to wait by.
        self._monotonic = SystemClock().monotonic
        self._handle = -1
        self._torn = False
        self._stale = False
        # Who did not read in time is not waited for again until there is room.
        self._late = False

    def write(self, lines: bytes) -> None:
        """Write all of it before the deadline; after a torn line the next begins a new one."""
        end = self._monotonic() + self._deadline
        try:
            if self._stale:
                self.close()
            if self._handle < 0:
                self._handle = self._opened()
                self._stale = False
            self._lock(end)
            try:
                self._write(b"\n" + lines if self._torn else lines, end)
            finally:
                fcntl.flock(self._handle, fcntl.LOCK_UN)
            self._late = False
        except TimeoutError:
            self._late = True
            raise Unavailable(
                "audit-slow", f"the audit device {self.name} did not answer in {self._deadline:g} s"
            ) from None
        except OSError as error:
            self._stale = True
            raise unwritable(self.name, error) from error

    def _lock(self, end: float) -> None:
        while True:
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if self._monotonic() >= end:
                    raise TimeoutError from None
                time.sleep(_LOCK_PAUSE)
            else:
                return

    def _write(self, lines: bytes, end: float) -> None:
        view, written = memoryview(lines), 0
        poll = select.poll()
        poll.register(self._handle, select.POLLOUT)
        if self._late and not poll.poll(0):
            raise TimeoutError
        try:
            while written < len(view):
                left = end - self._monotonic()
                if left <= 0 or not poll.poll(1000 * left):
                    raise TimeoutError
                try:
                    written += os.write(self._handle, view[written : written + select.PIPE_BUF])
                except BlockingIOError:
                    continue
            self._torn = False
        finally:
            self._torn = self._torn or 0 < written < len(view)

    def reopen(self) -> None:
        """Open anew at the next write; a thread may be writing now."""
        self._stale = True

    def close(self) -> None:
        """Let it go."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def named_pipe(path: Path, deadline: float) -> PipeDevice:
    """A named pipe or a character device; a pipe that nobody reads refuses each record."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC
    return PipeDevice(str(path), lambda: os.open(path, flags), deadline)


def standard_output(deadline: float = DEADLINE_SECONDS, handle: int = 1) -> PipeDevice:
    """Standard output under a description of our own: whoever shares it must not get our flags."""

    def opened() -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            return os.open(f"/proc/self/fd/{handle}", flags)
        except OSError:
            # A socket has no path. Polled before each write, it takes a piece without blocking.
            return os.dup(handle)

    return PipeDevice("stdout", opened, deadline)
