"""The change feed for an agent: a websocket (RFC 6455) read with the standard library."""

import base64
import contextlib
import json
import os
import socket
import struct
from typing import Final

from strongroom.deliver.agent.store import StoreClient
from strongroom.model.errors import Unavailable

EVENTS: Final = "/v1/sys/events/subscribe/kv*?json=true"
FRAME_BYTES: Final = 1024 * 1024
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


class Feed:
    """An open subscription."""

    def __init__(self, store: StoreClient) -> None:
        connection = store.connection(10.0)
        try:
            connection.connect()
            self._socket: socket.socket = connection.sock
            key = base64.b64encode(os.urandom(16)).decode()
            lines = [
                f"GET {EVENTS} HTTP/1.1",
                f"Host: {store.address.netloc}",
                "Upgrade: websocket",
                "Connection: Upgrade",
                f"Sec-WebSocket-Key: {key}",
                "Sec-WebSocket-Version: 13",
                *(f"{name}: {value}" for name, value in store.headers().items()),
            ]
            self._socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
            self._buffer = b""
            head = self._read_head()
        except OSError as error:
            connection.close()
            raise Unavailable("no-feed", f"no change feed: {type(error).__name__}") from None
        if not head.startswith(b"HTTP/1.1 101"):
            self.close()
            raise Unavailable("no-feed", "the server has no change feed for this token")

    def _read_head(self) -> bytes:
        while b"\r\n\r\n" not in self._buffer:
            part = self._socket.recv(4096)
            if not part or len(self._buffer) > FRAME_BYTES:
                raise OSError("closed")
            self._buffer += part
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        return head

    def wait(self, seconds: float) -> str | None:
        """The path of the next change, None when none came in time; raises Unavailable."""
        self._socket.settimeout(max(0.01, seconds))
        try:
            while True:
                kind, content = self._frame()
                if kind == PING:
                    self._send(PONG, content)
                elif kind == CLOSE:
                    raise Unavailable("feed-closed", "the change feed was closed")
                elif kind == TEXT:
                    return _path(content)
        except TimeoutError:
            return None
        except OSError as error:
            raise Unavailable(
                "feed-broken", f"the change feed broke: {type(error).__name__}"
            ) from None

    def _frame(self) -> tuple[int, bytes]:
        self._fill(2)
        first, second = self._buffer[0], self._buffer[1]
        length, start = second & 0x7F, 2
        if length == 126:
            self._fill(4)
            (length,), start = struct.unpack(">H", self._buffer[2:4]), 4
        elif length == 127:
            self._fill(10)
            (length,), start = struct.unpack(">Q", self._buffer[2:10]), 10
        if length > FRAME_BYTES:
            raise OSError("a frame beyond the limit")
        self._fill(start + length)
        content, self._buffer = self._buffer[start : start + length], self._buffer[start + length :]
        return first & 0x0F, content

    def _fill(self, count: int) -> None:
        while len(self._buffer) < count:
            part = self._socket.recv(65536)
            if not part:
                raise ConnectionResetError
            self._buffer += part

    def _send(self, kind: int, content: bytes) -> None:
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(content[:125]))
        self._socket.sendall(bytes([0x80 | kind, 0x80 | len(masked)]) + mask + masked)

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(OSError):
            self._socket.close()


def _path(content: bytes) -> str:
    try:
        return str(json.loads(content)["data"]["event"]["metadata"]["data_path"])
    except (ValueError, KeyError, TypeError):
        return ""
