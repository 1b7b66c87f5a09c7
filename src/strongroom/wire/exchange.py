"""The reply side of one request.

A listener's connection hands one to its handler with each request, and sends what it is given in
the order of the requests.
"""

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO

from strongroom.model.errors import Invalid, Misuse
from strongroom.wire.http import Request, Response, encode_response, error_response

if TYPE_CHECKING:
    from strongroom.wire.listener import Connection
    from strongroom.wire.websocket import WebSocket

_log = logging.getLogger(__name__)


class Exchange:
    """The reply side of one request; exactly one reply, which carries `headers` whatever it is."""

    __slots__ = (
        "_connection", "_head_only", "_keep_alive", "body", "encoded", "file", "headers", "hidden",
    )  # fmt: skip

    def __init__(self, connection: "Connection", *, head_only: bool, keep_alive: bool) -> None:
        self._connection = connection
        self._head_only = head_only
        self._keep_alive = keep_alive
        self.encoded: bytes | None = None
        self.headers: tuple[tuple[str, str], ...] = ()
        self.file: BinaryIO | None = None
        # The request's, where it waited on disk: with the reply it is done with.
        self.body: BinaryIO | None = None
        # The request's data as a record has it, where making that took long.
        self.hidden: bytes | None = None

    def reply(self, response: Response) -> None:
        """Send the reply once all earlier ones of the connection are out.

        Raises Misuse on a second reply. A peer that is gone is no error.
        """
        if self.encoded is not None:
            raise Misuse("a request was answered twice")
        if self.headers:
            response = replace(response, headers=response.headers + self.headers)
        keep = self._keep_alive and not response.close and not self._connection.draining
        try:
            encoded = self._encoded(response, keep_alive=keep)
        except ValueError:
            _log.error("a reply has a header that cannot be sent; answered with 500")
            response = error_response(500, "internal error")
            encoded = self._encoded(response, keep_alive=keep)
        self.encoded = encoded
        self.file = None if self._head_only else response.file
        if self.body is not None:
            self.body.close()
        self._connection.flush(close_after=None if keep else self)

    def _encoded(self, response: Response, *, keep_alive: bool) -> bytes:
        now = self._connection.listener.clock.now()
        return encode_response(response, head_only=self._head_only, keep_alive=keep_alive, now=now)

    def accept_websocket(self, request: Request) -> "WebSocket":
        """Turn the connection into a websocket (RFC 6455); raises Misuse when it is no upgrade.

        Raises Invalid(`peer-gone`) when nobody is there any more: then it is still to be answered.
        """
        from strongroom.wire.websocket import accept_headers

        if self.encoded is not None:
            raise Misuse("a request was answered twice")
        head = accept_headers(request.headers)
        if self.gone:
            raise Invalid("peer-gone", "the client has gone")
        self.encoded = head
        return self._connection.become_websocket()

    @property
    def gone(self) -> bool:
        """Whether the peer has closed the connection."""
        return self._connection.transport is None
