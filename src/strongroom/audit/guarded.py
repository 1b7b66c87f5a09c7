"""A regular file as an audit device: a thread alone touches it, under a deadline.

A file system that is frozen, or whose server is away, holds whoever writes for as long as it likes,
and no signal ends that; so the process never waits for such a file itself.
"""

import logging
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from strongroom.audit.devices import FileDevice
from strongroom.audit.writeback import Begin, Writeback, begin_to_write
from strongroom.model.errors import Unavailable

T = TypeVar("T")

_log = logging.getLogger(__name__)


class _Attempt(Generic[T]):
    """What a thread made of some work."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self.result: T | None = None
        self.error: Exception | None = None

    def __call__(self) -> None:
        try:
            self.result = self._work()
        except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
            self.error = error


def within(seconds: float, name: str, work: Callable[[], T]) -> T:
    """The result of work that may hang; raises Unavailable(`audit-slow`) when it does."""
    attempt = _Attempt(work)
    thread = threading.Thread(target=attempt, daemon=True, name="audit-open")
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise Unavailable(
            "audit-slow",
            f"the audit device {name} did not answer in {seconds:g} s",
            hint="see whether the file system it lies on can be reached",
        )
    if attempt.error is not None:
        raise attempt.error
    return attempt.result  # type: ignore[return-value]


class GuardedFile:
    """A file that only a thread touches once it is open; see `FileDevice`."""

    def __init__(self, file: FileDevice, begin: Begin = begin_to_write) -> None:
        """`begin` is how what was appended is sent to disk, a MiB at a time."""
        self.name = file.name
        self.blocking = True
        self.longest = 0
        self._file = file
        self._writeback = Writeback(begin)
        self._stale = False

    def write(self, lines: bytes) -> None:
        """Append; raises Unavailable(`audit-unwritable`)."""
        if self._stale:
            self._stale = False
            # As without a guard: a path that cannot be opened keeps the old file.
            try:
                self._file.reopen()
            except Unavailable as error:
                _log.error("%s; the file that was open is written on", error.message)
        self._file.write(lines)
        self._writeback.grown(self._file.handle, len(lines))

    def reopen(self) -> None:
        """Open anew before the next write."""
        self._stale = True

    def close(self) -> None:
        """Let it go; closing may hang as well."""
        threading.Thread(target=self._file.close, daemon=True, name="audit-close").start()
