"""An HTTP/1.1 listener: asyncio.Protocol on httptools (llhttp), with the LIST verb.

A handler is called with each whole request and an `Exchange`; it replies at once or later, so
that a reply can wait for its audit record. Replies leave in the order of their requests.
Grammar and framing: RFC 9112. llhttp knows none of LIST, SCAN and HELP, so at a message boundary
the listener reads `LIST ` as `GET ` and remembers; a pipelined one fails closed with 400.
"""

import asyncio
import logging
import re
import ssl
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, Final, cast

import httptools

from strongroom.model.background import keep_running
from strongroom.model.clock import Clock
from strongroom.wire.addresses import bound, peer_of
from strongroom.wire.exchange import Exchange
from strongroom.wire.http import (
    SINGLE_HEADERS,
    SPELLED,
    Request,
    error_response,
    origin_form,
    plain_head,
)
from strongroom.wire.limits import Limits
from strongroom.wire.places import Places
from strongroom.wire.spool import Incoming, Spool
from strongroom.wire.tls import sent_beside
from strongroom.wire.tls_door import BACKLOG, TlsDoor

if TYPE_CHECKING:
    from strongroom.wire.websocket import WebSocket

__all__ = ("Connection", "Exchange", "Handler", "Listener")

VERBS: Final = (b"LIST ", b"SCAN ", b"HELP ")
VERB_BYTES: Final = 5
# A method of another protocol's: refused as such, where what is no request at all is not.
METHOD: Final = re.compile(rb"[A-Z]{1,20} /")
INVALID: Final = "the request is not valid HTTP"
# Peers that may be in a TLS handshake where all places are taken.
HANDSHAKES: Final = 64
SWEEP_SECONDS: Final = 1.0
# How long what a refused peer goes on sending is dropped, so that it lives to read why.
LINGER_SECONDS: Final = 30.0
# At the end, until peers that ask nothing are closed. Pooled connections that are in use are told
# so with a reply by then: whoever closes one under a request makes a proxy answer 502.
QUIET_SECONDS: Final = 0.1
PIECE_BYTES: Final = 64 * 1024
# A piece of a body that is smaller is put to those before it: by itself it would take many times
# its bytes.
SMALL_BYTES: Final = 1024
# Bytes of framing that a byte of a chunked body may cost: chunks of one byte cost six.
MOST_FRAMING: Final = 16
# How many times as many requests as may be pipelined one packet may bring.
MOST_WAITING: Final = 4

Handler = Callable[[Request, Exchange], None]

_log = logging.getLogger(__name__)


class Connection(asyncio.Protocol):
    """One peer."""

    def __init__(self, listener: "Listener") -> None:
        self.listener = listener
        self.transport: asyncio.Transport | None = None
        self.draining = False
        self.deadline = 0.0
        self.websocket: WebSocket | None = None
        self._file: BinaryIO | None = None
        self._limits = listener.limits
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Exchange] = deque()
        self._held = b""
        self._peer, self._port = "", 0
        self._certificate: bytes | None = None
        self._chain: tuple[bytes, ...] = ()
        self._idle = True
        self._verb = self._method = ""
        # Whether the request asks for another protocol, which it does not get.
        self._declined = False
        self._closing = False
        # Refused in the middle of what it sends, which is dropped from then on.
        self._refused = self._lingering = False
        self._peer_reads = True
        self._begun = 0
        # Bytes of a body that is not whole, and of replies that wait or that nobody reads.
        self.buffered = self.unread = 0
        self._incoming: Incoming | None = None
        self._spooling: set[Incoming] = set()
        self._owes_continue = False
        self._reset()

    def _reset(self) -> None:
        self.listener.buffered -= self.buffered
        self.buffered = 0
        self._incoming = None
        self._owes_continue = False
        self._target = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes | bytearray] = []
        self._body_bytes = 0
        self._header_bytes = 0
        self._raw_bytes = 0
        self._fields = 0
        self._in_headers = True

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.deadline = self.listener.clock.monotonic() + self._limits.header_seconds
        self._peer, self._port = peer_of(self.transport.get_extra_info("peername"))
        tls = transport.get_extra_info("ssl_object")
        self._certificate = tls.getpeercert(binary_form=True) if tls else None
        self._chain = sent_beside(tls) if self._certificate else ()
        if not self.listener.places.take(self):
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        self.transport = None
        self._reset()
        self._set_unread(0)
        self.listener.places.leave(self)
        self._waiting.clear()
        if self._file is not None:
            self._file.close()
            self._file = None
        for each in self._spooling:
            each.abandon()
        self._spooling.clear()
        if self.websocket:
            self.websocket.peer_left()

    def data_received(self, data: bytes) -> None:
        if self.websocket:
            self.websocket.feed(data)
            return
        if self._closing:
            return
        self.listener.places.heard(self)
        fresh = self._idle
        if fresh:
            data = self._held + data
            self._held = b""
            if len(data) < VERB_BYTES and any(verb.startswith(data) for verb in VERBS):
                self._held = data
                return
            self.deadline = self.listener.clock.monotonic() + self._limits.header_seconds
            if data.startswith(VERBS):
                self._verb = data[: VERB_BYTES - 1].decode()
                data = b"GET " + data[VERB_BYTES:]
        self._begun = 0
        self._parse(data, fresh=fresh)
        if not self._idle and self._begun < 2:
            self._count_raw(len(data))

    def _parse(self, data: bytes, *, fresh: bool) -> None:
        try:
            while data:
                data = self._fed(data)
        except httptools.HttpParserInvalidMethodError:
            # Behind another request it may be anything, such as the rest of a body.
            if fresh and self._begun < 2 and METHOD.match(data):
                self.refuse(405, "unsupported operation")
            else:
                self.refuse(400, INVALID)
        except httptools.HttpParserError:
            self.refuse(400, INVALID)

    def _fed(self, data: bytes) -> bytes:
        """Parse; what is to be parsed next."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._closing or not self._declined:
                self._closing = self.websocket is None
                return b""
            # The parser takes all that comes behind the wish, the body too, for that protocol's.
            head = plain_head(self._parser.get_method(), self._target, self._headers)
            self._parser = httptools.HttpRequestParser(self)
            self._reset()
            self._declined = False
            self._begun -= 1
            return head + data[upgrade.args[0] :]
        return b""

    def _count_raw(self, number: int) -> None:
        """Bound what the callbacks do not see: a field that is not whole, and chunk extensions.

        Of data that holds the end of an earlier request nobody can tell how much is this one's.
        """
        self._raw_bytes += number
        if self._in_headers:
            if self._raw_bytes > self._limits.header_bytes:
                self.refuse(431, "the request headers are too large")
        elif self._raw_bytes > 2 * self._limits.header_bytes + MOST_FRAMING * self._body_bytes:
            self.refuse(400, "the framing of the body is larger than the body")

    def pause_writing(self) -> None:
        self._peer_reads = False
        if self.transport:
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        self._peer_reads = True
        self.listener.places.heard(self)
        self._may_be_kept()
        self._send_file()
        if self.transport and len(self._waiting) < self._limits.pipelined:
            self.transport.resume_reading()

    # httptools callbacks

    def on_message_begin(self) -> None:
        self._idle = False
        self._begun += 1

    def on_url(self, url: bytes) -> None:
        self._target += url
        self._header_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields += 1
        self._header_bytes += len(name) + len(value)
        if (
            self._fields > self._limits.header_fields
            or self._header_bytes > self._limits.header_bytes
        ):
            self.refuse(431, "the request headers are too many or too large")
            return
        if not self._in_headers:
            # A trailer is no header: whoever stands in front has judged the headers alone.
            return
        key = SPELLED.get(name) or name.decode("latin-1").lower()
        # The parser leaves the white space behind a value (RFC 9110, 5.5: no part of it).
        text = value.rstrip(b" \t").decode("latin-1")
        if key in self._headers and key in SINGLE_HEADERS:
            self.refuse(400, f"the header {key} is there twice")
            return
        self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text

    def on_headers_complete(self) -> None:
        self._in_headers = False
        self._method = self._verb or self._parser.get_method().decode("ascii")
        self.deadline = self.listener.clock.monotonic() + self._limits.body_seconds
        if "upgrade" in self._headers and self._parser.should_upgrade():
            # HTTP/2 is wished for in passing, and HTTP/1.1 gone on with (RFC 9110, 7.8).
            self._declined = "websocket" not in self._headers["upgrade"].lower()
            if self._declined:
                return
        if "host" not in self._headers and self._parser.get_http_version() != "1.0":
            self.refuse(400, "the request has no Host header")
        elif "transfer-encoding" in self._headers and self._parser.get_http_version() == "1.0":
            self.refuse(400, "HTTP/1.0 has no Transfer-Encoding")
        elif "content-length" in self._headers or "transfer-encoding" in self._headers:
            self._begin_body()

    def _begin_body(self) -> None:
        spool, method = self.listener.spool, self._method
        spooled = spool is not None and spool.wants(method, origin_form(self._target))
        most = spool.most_bytes if spool and spooled else self._limits.body_bytes
        if int(self._headers.get("content-length") or 0) > most:
            self.refuse(413, "the request body is too large")
            return
        self._owes_continue = self._headers.get("expect", "").lower() == "100-continue"
        if spool and spooled:
            # A hundred continues when it is known who sends.
            self._incoming = Incoming(spool, self._request(method, b""), self)
            self._spooling.add(self._incoming)
        elif not self._waiting:
            self._continue()

    def _continue(self) -> None:
        if self._owes_continue and self.transport:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._owes_continue = False

    def hold(self) -> None:
        """Read no more for now."""
        if self.transport:
            self.transport.pause_reading()

    def go_on(self) -> None:
        """Read on; the peer has its time for the next piece of a body."""
        self.deadline = self.listener.clock.monotonic() + self._limits.body_seconds
        self._continue()
        if self.transport and self._peer_reads and len(self._waiting) < self._limits.pipelined:
            self.transport.resume_reading()

    def on_body(self, body: bytes) -> None:
        if self._closing:
            return
        self._body_bytes += len(body)
        if self._incoming is not None:
            self._incoming.feed(body)
            return
        self.buffered += len(body)
        self.listener.buffered += len(body)
        if self.listener.buffered > self._limits.buffered_bytes:
            # Not whoever comes last: it may have sent a few bytes, and others megabytes.
            most = self.listener.places.most(lambda each: (each.buffered, each is self))
            most.refuse(503, "too many request bodies arrive at once")
        elif self._body_bytes > self._limits.body_bytes:
            self.refuse(413, "the request body is too large")
        if self._closing:
            return
        last = self._body[-1] if self._body and len(body) < SMALL_BYTES else b""
        if isinstance(last, bytearray) and len(last) < PIECE_BYTES:
            last += body
        else:
            self._body.append(bytearray(body) if self._body else body)

    def on_message_complete(self) -> None:
        if self._closing or self._declined:
            return
        if len(self._waiting) >= MOST_WAITING * self._limits.pipelined:
            # All in one packet, so that not reading on did not help.
            self.refuse(429, "too many requests wait for their replies")
            return
        method, incoming = self._method, self._incoming
        request = self._request(method, b"".join(self._body))
        keep_alive = self._parser.should_keep_alive()
        if method == "CONNECT" or ("upgrade" in self._headers and self._parser.should_upgrade()):
            # What comes behind is another protocol's, whatever it is answered.
            keep_alive = False
        exchange = Exchange(self, head_only=method == "HEAD", keep_alive=keep_alive)
        self._verb = ""
        self._idle = True
        self._reset()
        self._waiting.append(exchange)
        self.deadline = float("inf")
        if len(self._waiting) >= self._limits.pipelined and self.transport:
            self.transport.pause_reading()
        if incoming is None:
            self.listener.handler(request, exchange)
        else:
            self.hold()
            incoming.finish(partial(self._deliver, incoming, exchange))

    def _deliver(self, incoming: Incoming, exchange: Exchange, request: Request) -> None:
        self._spooling.discard(incoming)
        exchange.body = request.file
        self.listener.handler(request, exchange)

    def _request(self, method: str, body: bytes) -> Request:
        return Request(
            method=method,
            target=origin_form(self._target),
            headers=self._headers,
            body=body,
            peer=self._peer,
            port=self._port,
            client_certificate=self._certificate,
            client_chain=self._chain,
            opens=self.listener.opens,
        )

    # replies

    def flush(self, close_after: Exchange | None = None) -> None:
        """Write every reply that is ready and whose turn it is."""
        if close_after is not None:
            self._closing = True
        waiting = self._waiting
        ready: list[bytes] = []
        while self._file is None and waiting and waiting[0].encoded is not None:
            exchange = waiting.popleft()
            ready.append(exchange.encoded or b"")
            self._file = exchange.file
        if self.transport is None:
            return
        if ready:
            self.transport.write(ready[0] if len(ready) == 1 else b"".join(ready))
        if (waiting or self.unread or not self._peer_reads) and not self._may_be_kept():
            return
        if self._file is not None:
            self._send_file()
        elif not waiting:
            self._go_on_reading(self.transport)

    def _go_on_reading(self, transport: asyncio.Transport) -> None:
        """Every reply is out: close, or wait for the next request."""
        if self._closing and self.websocket is None:
            if self._refused:
                self._linger(transport)
                return
            self.deadline = self.listener.clock.monotonic() + self._limits.idle_seconds
            transport.close()
        elif self._idle:
            seconds = self._limits.idle_seconds if self.websocket is None else float("inf")
            self.deadline = self.listener.clock.monotonic() + seconds
            if self._peer_reads:
                transport.resume_reading()
        elif self._incoming is None:
            self._continue()

    def _linger(self, transport: asyncio.Transport) -> None:
        """Close only this side, and drop what comes: a connection that is closed before all was
        read is reset, and whoever sends first, as proxies do, never reads the reply."""
        self._lingering = True
        self.deadline = self.listener.clock.monotonic() + LINGER_SECONDS
        if transport.can_write_eof():  # Not over TLS, where the reply says that it is the last.
            transport.write_eof()
        transport.resume_reading()

    def _send_file(self) -> None:
        """Write pieces of the file whose turn it is, as far as the peer reads."""
        while self._file is not None and self.transport is not None and self._peer_reads:
            self.deadline = self.listener.clock.monotonic() + self._limits.body_seconds
            piece = self._file.read(PIECE_BYTES)
            if piece:
                self.transport.write(piece)
                continue
            self._file.close()
            self._file = None
            self.deadline = float("inf")
            self.flush()

    def _may_be_kept(self) -> bool:
        """Count what is kept for the peer among that of all; too much of it cuts somebody off."""
        size = sum(len(each.encoded) for each in self._waiting if each.encoded)
        if self.transport is not None and not self._peer_reads:
            size += self.transport.get_write_buffer_size()
        self._set_unread(size)
        if self.listener.unread > self._limits.unread_bytes:
            self.listener.places.most(lambda each: (each.unread, each is self)).cut()
        return self.transport is not None

    def _set_unread(self, size: int) -> None:
        self.listener.unread += size - self.unread
        self.unread = size

    def cut(self) -> None:
        """Close at once, and keep nothing of what was to be sent."""
        self._closing = True
        self._waiting.clear()
        self._set_unread(0)
        if self.transport is not None:
            self.transport.abort()
            self.transport = None

    def become_websocket(self) -> "WebSocket":
        """Hand the connection over once the reply that switches protocols is out."""
        from strongroom.wire.websocket import WebSocket

        if self.transport is None:
            raise ConnectionResetError("the peer has gone")
        self.websocket = WebSocket(self.transport)
        self.flush()
        return self.websocket

    def expire(self, now: float) -> None:
        """Close when the deadline has passed: 408 in the middle of a request, silence when idle."""
        if now < self.deadline or self.transport is None:
            return
        reads = self._peer_reads and self._file is None
        if not reads or self._lingering or self.transport.is_closing():
            # It reads nothing: what is to be sent would wait for ever. Or it has been told enough.
            self.transport.abort()
        elif self._idle and not self._held:
            self.transport.close()
        else:
            self.refuse(408, "the request did not arrive in time")

    @property
    def is_owed(self) -> bool:
        """Whether it waits for something that it asked for, or is told of as it comes."""
        held = self._file is not None or self.websocket is not None or not self._peer_reads
        return held or bool(self._waiting) or any(each.is_wanted for each in self._spooling)

    def drain(self) -> None:
        """Answer what is under way and what comes meanwhile, then close."""
        self.draining = True
        if self.websocket:
            self.websocket.close()

    def close_if_quiet(self) -> None:
        """Close when nothing is under way."""
        if self.transport is None or self.websocket:
            return
        if self._lingering or (self._idle and not self._waiting and self._file is None):
            self.transport.close()

    def refuse(self, status: int, message: str) -> None:
        """Answer at once and read no more."""
        if self._closing:
            return
        self._closing = self._refused = True
        self._reset()
        exchange = Exchange(self, head_only=False, keep_alive=False)
        self._waiting.append(exchange)
        exchange.reply(error_response(status, message, close=True))


class Listener:
    """Accepts connections and sweeps the slow ones.

    `opens` goes with each request; bodies that `spool` wants are kept on disk.
    """

    def __init__(
        self,
        handler: Handler,
        limits: Limits,
        clock: Clock,
        opens: frozenset[str] = frozenset(),
        spool: Spool | None = None,
    ) -> None:
        self.handler = handler
        self.limits = limits
        self.clock = clock
        self.opens = opens
        self.spool = spool
        # Bytes of bodies that are not whole yet, and of replies that nobody reads.
        self.buffered = 0
        self.unread = 0
        self.places: Places[Connection] = Places(limits.connections)
        self._servers: list[asyncio.Server | TlsDoor] = []
        self._sweeper: asyncio.Task[None] | None = None

    async def start(
        self, host: str, port: int, *, tls: ssl.SSLContext | None = None, reuse_port: bool = False
    ) -> tuple[str, int]:
        """Listen on an address (port 0: any); returns the address taken. Raises OSError."""
        create = partial(Connection, self)
        sockets = await bound(host, port, reuse_port=reuse_port)
        name = sockets[0].getsockname()
        if tls is not None:
            self._started(TlsDoor(sockets, create, tls, self.limits.header_seconds, self._room))
        else:
            loop = asyncio.get_running_loop()
            for each in sockets:
                self._started(await loop.create_server(create, sock=each, backlog=BACKLOG))
        return name[0], name[1]

    def renew_tls(self, tls: ssl.SSLContext) -> None:
        """Have handshakes that begin from now on use another context."""
        for server in self._servers:
            if isinstance(server, TlsDoor):
                server.tls = tls

    async def start_unix(self, path: str) -> None:
        """Listen on a unix socket."""
        loop = asyncio.get_running_loop()
        self._started(await loop.create_unix_server(lambda: Connection(self), path))

    def _started(self, server: asyncio.Server | TlsDoor) -> None:
        self._servers.append(server)
        if self._sweeper is None:
            swept = keep_running(self._sweep, self.clock, _sweep_failed)
            self._sweeper = asyncio.create_task(swept, name="listener-sweep")

    async def _sweep(self) -> None:
        while True:
            await self.clock.sleep(SWEEP_SECONDS)
            now = self.clock.monotonic()
            for connection in self.places:
                connection.expire(now)

    def _room(self) -> int:
        return max(min(HANDSHAKES, self.limits.connections), self.places.free)

    @property
    def connections(self) -> int:
        """How many peers are connected."""
        return len(self.places)

    async def drain(self, seconds: float = 5.0) -> None:
        """Stop accepting, let requests under way finish, then cut what is left."""
        for server in self._servers:
            server.close()
        for connection in self.places:
            connection.drain()
        begun, quiet = self.clock.monotonic(), min(QUIET_SECONDS, seconds / 2)
        while self.places and (past := self.clock.monotonic() - begun) < seconds:
            if past >= quiet:
                for connection in self.places:
                    connection.close_if_quiet()
            await self.clock.sleep(0.01)
        for connection in self.places:
            if connection.transport:
                connection.transport.abort()
        if self._sweeper:
            self._sweeper.cancel()
            self._sweeper = None
        await asyncio.sleep(0)


def _sweep_failed(error: Exception, pause: float) -> None:
    _log.error("looking for idle peers: %s; again in %g s", type(error).__name__, pause)
