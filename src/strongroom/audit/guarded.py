"""Regular files that may hang: those of a network's file systems, and any that is given a deadline.

A write to a disk of this machine ends in the page cache and is done in place. A server that is
away, or a file system that is frozen, holds whoever writes for as long as it likes, and no signal
ends that; so such a file is touched by threads alone that the process need not wait for.
"""

import contextlib
import threading
from collections.abc import Callable
from pathlib import PurePath
from typing import Final, Generic, TypeVar

from strongroom.audit.devices import FileDevice
from strongroom.model.errors import Unavailable

# Of disks and of memory, by their names in /proc/self/mountinfo (proc(5)); others may hang.
LOCAL: Final = frozenset(
    {
        "bcachefs", "btrfs", "devtmpfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "jfs", "nilfs2",
        "overlay", "ramfs", "reiserfs", "rootfs", "tmpfs", "vfat", "xfs", "zfs",
    }
)  # fmt: skip
MOUNTS: Final = "/proc/self/mountinfo"
T = TypeVar("T")


def file_system_of(path: str, mounts: str) -> str:
    """The type of the file system an absolute path lies on, "" for none. Pure.

    `mounts` is the text of mountinfo; of several at one place the last is the one seen.
    """
    best, found = -1, ""
    for line in mounts.splitlines():
        fields = line.split()
        if "-" not in fields or len(fields) < fields.index("-") + 2:
            continue
        # Spaces and the like are written in octal.
        point = fields[4].encode().decode("unicode_escape")
        parts = len(PurePath(point).parts)
        if parts >= best and PurePath(path).is_relative_to(point):
            best, found = parts, fields[fields.index("-") + 1]
    return found


def may_hang(path: str, mounts: str) -> bool:
    """Whether writing there may take as long as somebody else likes; unknown types may."""
    return file_system_of(path, mounts) not in LOCAL


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

    def __init__(self, file: FileDevice) -> None:
        self.name = file.name
        self.blocking = True
        self._file = file
        self._stale = False

    def write(self, lines: bytes) -> None:
        """Append; raises Unavailable(`audit-unwritable`)."""
        if self._stale:
            self._stale = False
            # As without a guard: a path that cannot be opened keeps the old file.
            with contextlib.suppress(Unavailable):
                self._file.reopen()
        self._file.write(lines)

    def reopen(self) -> None:
        """Open anew before the next write."""
        self._stale = True

    def close(self) -> None:
        """Let it go; closing may hang as well."""
        threading.Thread(target=self._file.close, daemon=True, name="audit-close").start()
