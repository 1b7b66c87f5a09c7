"""Accepting peers over TLS: each counts from the moment it connects.

An event loop's own server tells nobody of a peer before its handshake is over, so peers that begin
none could take every file that the process may open, those for the database and the audit log too.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from strongroom.wire.listener import Connection

BACKLOG: Final = 1024
# Accepted in one turn of the event loop: places that these take are free in the next one alone.
AT_ONCE: Final = 32
# When nothing more can be accepted, before the next try.
PAUSE_SECONDS: Final = 1.0

_log = logging.getLogger(__name__)


class TlsDoor:
    """Bound sockets whose peers become `create`'s protocols after their handshakes.

    `tls` may be replaced: handshakes that begin later have the new one. `room` says how many may be
    in a handshake now. Who comes when that many are takes the place of the oldest: an honest
    handshake is over in moments, a silent one never.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        create: "Callable[[], Connection]",
        tls: ssl.SSLContext,
        seconds: float,
        room: Callable[[], int],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sockets = tuple(sockets)
        self._create = create
        self.tls = tls
        self._seconds = seconds
        self._room = room
        # Oldest first. One that is through, and so counted as connected, is here for a moment more.
        self._shaking: dict[asyncio.Task[None], Connection] = {}
        self._closed = False
        for each in self._sockets:
            each.setblocking(False)
            each.listen(BACKLOG)
            self._watch(each)

    def close(self) -> None:
        """Accept nobody more, and let go who is in a handshake."""
        self._closed = True
        for each in self._sockets:
            self._loop.remove_reader(each)
            each.close()
        for task in tuple(self._shaking):
            task.cancel()

    def _watch(self, listening: socket.socket) -> None:
        if not self._closed:
            self._loop.add_reader(listening, self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(AT_ONCE):
            try:
                peer, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                _log.error("no peer can be accepted: %s", error.strerror)
                self._loop.remove_reader(listening)
                self._loop.call_later(PAUSE_SECONDS, self._watch, listening)
                return
            self._admit(peer)

    def _admit(self, peer: socket.socket) -> None:
        if len(self._shaking) >= self._room():
            silent = (task for task, each in self._shaking.items() if each.transport is None)
            oldest = next(silent, None)
            if oldest is None:
                peer.close()
                return
            self._shaking.pop(oldest)
            oldest.cancel()
        peer.setblocking(False)
        connection = self._create()
        task = self._loop.create_task(self._shake(peer, connection))
        self._shaking[task] = connection
        task.add_done_callback(lambda done: self._shaking.pop(done, None))

    async def _shake(self, peer: socket.socket, connection: "Connection") -> None:
        # Whoever does not speak TLS, or not in time, is let go; nobody waits for this.
        with contextlib.suppress(OSError):
            await self._loop.connect_accepted_socket(
                lambda: connection, peer, ssl=self.tls, ssl_handshake_timeout=self._seconds
            )
