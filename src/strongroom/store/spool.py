"""Which bodies wait on disk: snapshots that are restored, from who may restore them."""

import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import BinaryIO, Final

from strongroom.store.normalise import PREFIX, RAW_BODIES
from strongroom.wire.http import Request

MOST_BYTES: Final = 64 * 1024**3
_TARGETS: Final = frozenset(PREFIX + each for each in RAW_BODIES)


class SnapshotSpool:
    """The listener's spool. Files have no name, mode 0600, and go with the process that wrote them.

    `folder` is where they lie, None for the system's own; `may` says who may send one.
    """

    def __init__(
        self,
        folder: Path | None,
        may: Callable[[Request], Awaitable[bool]],
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self.most_bytes = most_bytes
        self._folder = folder
        self._may = may

    def wants(self, method: str, target: str) -> bool:
        """Whether the request brings a snapshot."""
        return method in ("POST", "PUT") and target.partition("?")[0] in _TARGETS

    async def admits(self, request: Request) -> bool:
        """Whether its sender may restore one."""
        return await self._may(request)

    def open(self) -> BinaryIO:
        """A file for one snapshot; raises OSError."""
        return tempfile.TemporaryFile(dir=self._folder)
