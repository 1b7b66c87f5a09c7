"""A file that grows is written to disk as it grows, and not all of it at once half a minute later.

Linux leaves what was appended in memory for 30 s and then writes all of it: of 25 MB a second that
is a burst in which the disk answers nobody, and an append waits for it as well, since the file
system finds room for the file only now. `POSIX_FADV_DONTNEED` (posix_fadvise(2)) begins to write a
range and does not wait for it; pages that are being written stay in memory for who reads them.
"""

import contextlib
import os
import threading
from collections.abc import Callable
from typing import Final

EVERY_BYTES: Final = 1 << 20

# A handle, where the range begins, and its bytes.
Begin = Callable[[int, int, int], None]


def begin_to_write(handle: int, begin: int, length: int) -> None:
    """Have the range of the file written; nothing where the system has no such call."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(handle, begin, length, os.POSIX_FADV_DONTNEED)


class Writeback:
    """For one file that a thread appends to; it has a thread of its own, for the call may block.

    While one range is asked for, no other is: the next is as long as what has come meanwhile.
    """

    def __init__(self, begin: Begin) -> None:
        self._begin: Final = begin
        self._grown = 0
        # Where the last range ended.
        self._end: int | None = None
        self._thread: threading.Thread | None = None

    def grown(self, handle: int, by: int) -> None:
        """The file behind the handle, which stands at its end, has grown by so many bytes."""
        self._grown += by
        if self._grown < EVERY_BYTES or (self._thread is not None and self._thread.is_alive()):
            return
        # No regular file, or one that is closed: there is nothing to write ahead.
        with contextlib.suppress(OSError):
            end = os.lseek(handle, 0, os.SEEK_CUR)
            if not end:
                self._grown = 0  # A device that keeps nothing, as /dev/null does.
                return
            begin = max(0, end - self._grown)
            if self._end is not None:
                # Others append to it as well. After a rotation it is another file, and shorter.
                begin = min(begin, self._end)
            self._grown, self._end = 0, end
            # The file may be closed meanwhile, and its number be another's.
            ours = os.dup(handle)
            thread = threading.Thread(
                target=self._run, args=(ours, begin, end - begin), daemon=True, name="writeback"
            )
            try:
                thread.start()
            except RuntimeError:
                os.close(ours)  # No more threads are to be had: the system writes it later.
            else:
                self._thread = thread

    def _run(self, handle: int, begin: int, length: int) -> None:
        try:
            with contextlib.suppress(OSError):
                self._begin(handle, begin, length)
        finally:
            os.close(handle)
