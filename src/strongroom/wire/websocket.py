"""The server's half of a websocket (RFC 6455): text out, pings answered, close understood.

Frames are wsproto's; the handshake is one hash. Slow readers are cut rather than buffered
without bound.
"""

import asyncio
import base64
import contextlib
import hashlib
import socket
from typing import Final

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import CloseConnection, Ping, TextMessage
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from strongroom.model.errors import Invalid

GUID: Final = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
BUFFER_BYTES: Final = 4 * 1024 * 1024
# A peer that has vanished, with its machine or in a network between, is noticed in two minutes.
KEEP_ALIVE: Final = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 20, "TCP_KEEPCNT": 3}


def accept_headers(headers: dict[str, str]) -> bytes:
    """The 101 reply to a handshake; raises Invalid(`not-a-websocket`) for anything else."""
    key = headers.get("sec-websocket-key", "")
    if headers.get("upgrade", "").lower() != "websocket" or not key:
        raise Invalid(
            "not-a-websocket", "this path is a websocket", hint="connect with a websocket client"
        )
    digest = hashlib.sha1(key.encode() + GUID.encode(), usedforsecurity=False).digest()
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}\r\n\r\n"
    ).encode()


class WebSocket:
    """One subscriber."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._frames = Connection(ConnectionType.SERVER)
        # It may hear of nothing for days, and only what is sent shows that nobody takes it.
        connection = transport.get_extra_info("socket")
        # A unix socket has no such options, and some systems have others.
        with contextlib.suppress(OSError, AttributeError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in KEEP_ALIVE.items():
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self.closed = asyncio.Event()

    def send_text(self, text: str) -> bool:
        """Queue a message; False when the peer is gone or reads too slowly and was cut."""
        if self.closed.is_set():
            return False
        if self._transport.get_write_buffer_size() > BUFFER_BYTES:
            self._transport.abort()
            self.closed.set()
            return False
        self._transport.write(self._frames.send(TextMessage(data=text)))
        return True

    def is_behind(self) -> bool:
        """Whether the peer has so much to read that what can wait should."""
        return self._transport.get_write_buffer_size() > BUFFER_BYTES // 4

    def feed(self, data: bytes) -> None:
        """Take bytes from the peer."""
        try:
            self._frames.receive_data(data)
            for event in self._frames.events():
                if isinstance(event, Ping):
                    self._transport.write(self._frames.send(event.response()))
                elif isinstance(event, CloseConnection):
                    if self._frames.state is ConnectionState.REMOTE_CLOSING:
                        self._transport.write(self._frames.send(event.response()))
                    self._end()
        except (RemoteProtocolError, LocalProtocolError):
            self._end()

    def close(self, code: int = 1001) -> None:
        """Say goodbye (1001: going away)."""
        if not self.closed.is_set() and self._frames.state is ConnectionState.OPEN:
            self._transport.write(self._frames.send(CloseConnection(code=code)))
        self._end()

    def peer_left(self) -> None:
        """The connection broke."""
        self.closed.set()

    def _end(self) -> None:
        self.closed.set()
        self._transport.close()
