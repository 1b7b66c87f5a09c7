"""Bodies that wait on disk: too large for memory, and kept only for who may send them.

The listener asks with the head alone. Until the answer is there the peer is not read from; a body
that nobody may send is read and dropped, so that the peer hears the refusal and not a reset. Pieces
are written beside the event loop, one read of the socket at a time.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import BinaryIO, Protocol

from strongroom.wire.http import Request

_log = logging.getLogger(__name__)


class Spool(Protocol):
    """Which bodies go to disk, from whom, and where; `most_bytes` bounds one of them."""

    most_bytes: int

    def wants(self, method: str, target: str) -> bool:
        """Whether the body of such a request goes to disk; asked before anybody is known."""

    async def admits(self, request: Request) -> bool:
        """Whether the sender of this head may do what it asks."""

    def open(self) -> BinaryIO:
        """A file for one body that is gone with the process at the latest; raises OSError."""


class Peer(Protocol):
    """The connection a body comes by."""

    def hold(self) -> None:
        """Read no more for now."""

    def go_on(self) -> None:
        """Read on; the peer has its time anew."""

    def refuse(self, status: int, message: str) -> None:
        """Answer at once and close."""


class Incoming:
    """One body on its way to its file; `deliver` is called with the request when it is whole."""

    def __init__(self, spool: Spool, request: Request, peer: Peer) -> None:
        self._spool = spool
        self._request = request
        self._peer = peer
        self._pieces: list[bytes] = []
        self._bytes = 0
        self._dropping = False
        # Whether its sender may send it, as far as that is known.
        self.is_wanted = False
        self._more = asyncio.Event()
        self._deliver: Callable[[Request], None] | None = None
        self._task = asyncio.get_running_loop().create_task(self._run())
        peer.hold()

    def feed(self, piece: bytes) -> None:
        """The next piece."""
        self._bytes += len(piece)
        if self._bytes > self._spool.most_bytes:
            self._task.cancel()
            self._peer.refuse(413, "the request body is too large")
        elif not self._dropping:
            self._pieces.append(piece)
            self._peer.hold()
            self._more.set()

    def finish(self, deliver: Callable[[Request], None]) -> None:
        """That was all of it."""
        self._deliver = deliver
        if self._dropping:
            deliver(self._request)
        else:
            self._more.set()

    def abandon(self) -> None:
        """The peer has gone."""
        self._task.cancel()

    async def _run(self) -> None:
        try:
            await self._take()
        except Exception as error:  # noqa: BLE001 - the last line of defence; a message may hold a value
            _log.error("internal error with a body on disk: %s", type(error).__name__)
            self._peer.refuse(500, "internal error")

    async def _take(self) -> None:
        if not await self._spool.admits(self._request):
            self._drop()
            return
        self.is_wanted = True
        with contextlib.ExitStack() as stack:
            try:
                file = stack.enter_context(await asyncio.to_thread(self._spool.open))
                await self._write_to(file)
            except OSError as error:
                self._peer.refuse(
                    503, f"the request body cannot be kept on disk: {error.strerror or error}"
                )
                return
            self._request.file = file
            stack.pop_all()
        if self._deliver is not None:
            self._deliver(self._request)

    def _drop(self) -> None:
        self._dropping = True
        self._pieces.clear()
        if self._deliver is not None:
            self._deliver(self._request)
        else:
            self._peer.go_on()

    async def _write_to(self, file: BinaryIO) -> None:
        while True:
            pieces, self._pieces = self._pieces, []
            if pieces:
                await asyncio.to_thread(file.writelines, pieces)
                continue
            if self._deliver is not None:
                break
            self._more.clear()
            self._peer.go_on()
            await self._more.wait()
        await asyncio.to_thread(file.seek, 0)
