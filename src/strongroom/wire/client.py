"""The HTTP client of every room that calls out: aiohttp behind one small door.

Replies are bounded, time-outs are always set, and no error carries a header or body. Nothing is
retried here but what only looks, once, by aiohttp: the other side may have closed a connection
that waited for its next request. aiohttp is 15 MB of a process: it is imported by whoever calls
out first.
"""

import asyncio
import contextlib
import errno
import io
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Self

from strongroom.model.errors import TooLarge, Unanswered, Unavailable
from strongroom.wire.http import READS, Response
from strongroom.wire.tls import ClientPem, client_context

if TYPE_CHECKING:
    import aiohttp

REPLY_BYTES: Final = 64 * 1024 * 1024
TIMEOUT_SECONDS: Final = 30.0
STREAMED_BYTES: Final = 512 * 1024
LINE_BYTES: Final = 16 * 1024 * 1024
CONNECTIONS: Final = 64
# Turns of the event loop until it has heard which kept connections were closed: two suffice.
_HEARS: Final = 3
NOT_PLAIN: Final = "https:// in place of http://, or another port?"


@dataclass(frozen=True, slots=True)
class Route:
    """How the other side is reached, where its address alone does not say it.

    `server_name` is what TLS asks for and what the certificate must name (default: the address's
    host), `proxy` the URL of an HTTP proxy, `timeout` a request's seconds where the call names
    none; 0 is for ever. `reply_bytes` is how large the reply to a `request` may be. With
    `one_connection` the client never opens a second one: once the first is closed, requests are
    an Unavailable(`connection-closed`).
    """

    server_name: str = ""
    proxy: str = ""
    timeout: float = TIMEOUT_SECONDS
    reply_bytes: int = REPLY_BYTES
    one_connection: bool = False
    # Addresses that are not connected to, whatever name has led there.
    shuns: Callable[[str], bool] | None = None

    def socket(self, found: tuple[Any, Any, int, str, tuple[Any, ...]]) -> socket.socket:
        """A socket for an address that a name was found to have; raises OSError for a shunned."""
        family, kind, protocol, _, address = found
        if self.shuns is not None and self.shuns(str(address[0])):
            raise OSError(errno.EACCES, "that address is not asked")
        return socket.socket(family, kind, protocol)

    @property
    def way(self) -> dict[str, Any]:
        """What each call of aiohttp is told."""
        return {"server_hostname": self.server_name or None, "proxy": self.proxy or None}


def load() -> None:
    """Load aiohttp now. Half of the time reads the system's authorities, without the interpreter.

    So a program that calls out at once has it loaded by a thread, beside its own modules.
    """
    with contextlib.suppress(ImportError):
        import aiohttp  # noqa: F401 - whoever calls out will say that it is missing


class HttpClient:
    """A pool of connections under one trust; an async context manager."""

    def __init__(
        self,
        *,
        ca_file: Path | None = None,
        ca_data: str = "",
        client_certificate: tuple[Path, Path] | None = None,
        client_pem: ClientPem | None = None,
        route: Route = Route(),
        verify: bool = True,
    ) -> None:
        self._route = route
        self._verify = verify
        self._client_certificate = client_certificate
        self._client_pem = client_pem
        self._ca_file = ca_file
        self._ca_data = ca_data
        self._session: aiohttp.ClientSession | None = None
        self._context: ssl.SSLContext | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        if self._session:
            await self._session.close()
            self._session = None

    def _open(self) -> "aiohttp.ClientSession":
        import aiohttp

        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=1 if self._route.one_connection else CONNECTIONS,
                socket_factory=self._route.socket if self._route.shuns else None,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                # What a server gave to one identity is not shown with the next one's request.
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=True,
                skip_auto_headers=("User-Agent",),
                middlewares=(_sent_once,),
                trace_configs=[_stays(), *([_first_alone()] if self._route.one_connection else [])],
            )
        return self._session

    def _way(self, url: str) -> dict[str, Any]:
        """What each call of aiohttp is told; the system's authorities only where they are asked."""
        way = self._route.way
        given = self._ca_file or self._ca_data or self._client_certificate or self._client_pem
        # A URL of yarl's is taken too: its path is sent as it is written.
        if given or way["proxy"] or not str(url).startswith(("http:", "ws:")):
            way["ssl"] = self._trust()
        return way

    def _trust(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = client_context(
                self._ca_file,
                self._ca_data,
                client_certificate=self._client_certificate,
                client_pem=self._client_pem,
                verify=self._verify,
            )
        return self._context

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout: float | None = None,
    ) -> Response:
        """Send one request; redirects are not followed. `timeout` is the route's, if not given.

        Raises Unavailable(`unreachable`), of which Unanswered is one, or
        TooLarge(`reply-too-large`).
        """
        import aiohttp

        seconds = self._route.timeout if timeout is None else timeout
        limit = aiohttp.ClientTimeout(total=seconds or None, connect=min(seconds or 10.0, 10.0))
        try:
            async with self._open().request(
                method,
                url,
                headers=headers,
                data=_payload(body),
                timeout=limit,
                allow_redirects=False,
                **self._way(url),
            ) as reply:
                content = await self._bounded(reply)
                return Response(
                    reply.status, content, tuple(reply.headers.items()), reply.content_type or ""
                )
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise _unreachable(url, error, method) from None

    async def download(
        self,
        url: str,
        into: BinaryIO,
        *,
        headers: Mapping[str, str] | None = None,
        idle: float = 330.0,
    ) -> Response:
        """GET into a file, a piece in memory at a time; `idle` is the longest silence in seconds.

        The reply has a body when it is no 200. Raises Unavailable(`unreachable`).
        """
        import aiohttp

        limit = aiohttp.ClientTimeout(total=None, connect=10.0, sock_read=idle)
        try:
            async with self._open().get(
                url, headers=headers, timeout=limit, allow_redirects=False, **self._way(url)
            ) as reply:
                if reply.status != 200:
                    body = await self._bounded(reply)
                    return Response(reply.status, body, tuple(reply.headers.items()))
                async for part in reply.content.iter_chunked(STREAMED_BYTES):
                    into.write(part)
                return Response(200, b"", tuple(reply.headers.items()))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise _unreachable(url, error) from None

    async def upload(
        self,
        url: str,
        file: BinaryIO,
        *,
        headers: Mapping[str, str] | None = None,
        idle: float = 330.0,
    ) -> Response:
        """POST what is left of a file, a piece in memory at a time.

        The file is closed with the reply. Raises as `download`.
        """
        import aiohttp

        limit = aiohttp.ClientTimeout(total=None, connect=10.0, sock_read=idle)
        try:
            async with self._open().post(
                url,
                headers=headers,
                data=file,
                timeout=limit,
                allow_redirects=False,
                **self._way(url),
            ) as reply:
                content = await self._bounded(reply)
                return Response(reply.status, content, tuple(reply.headers.items()))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise _unreachable(url, error, "POST") from None

    async def _bounded(self, reply: "aiohttp.ClientResponse") -> bytes:
        most = self._route.reply_bytes
        parts: list[bytes] = []
        size = 0
        async for part in reply.content.iter_any():
            size += len(part)
            if size > most:
                raise TooLarge("reply-too-large", f"the reply is over {most} bytes")
            parts.append(part)
        return b"".join(parts)

    async def lines(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        idle: float = 330.0,
    ) -> AsyncIterator[Response | bytes]:
        """Yield the reply's status first (a Response, with the body when it is no 200), then lines.

        `idle` is the longest silence in seconds. Raises Unavailable(`unreachable`).
        """
        import aiohttp

        limit = aiohttp.ClientTimeout(total=None, connect=10.0, sock_read=idle)
        try:
            async with self._open().get(
                url, headers=headers, timeout=limit, allow_redirects=False, **self._way(url)
            ) as reply:
                body = b"" if reply.status == 200 else await self._bounded(reply)
                yield Response(reply.status, body, tuple(reply.headers.items()))
                rest = b""
                async for part in reply.content.iter_any():
                    rest += part
                    *whole, rest = rest.split(b"\n")
                    for line in whole:
                        yield line
                    if len(rest) > LINE_BYTES:
                        raise TooLarge("reply-too-large", f"a line is over {LINE_BYTES} bytes")
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise _unreachable(url, error) from None

    async def messages(
        self, url: str, *, headers: Mapping[str, str] | None = None, heartbeat: float = 15.0
    ) -> AsyncIterator[str]:
        """Yield the text messages of a websocket until it closes.

        Raises Unavailable(`unreachable`) when it cannot be opened or breaks.
        """
        import aiohttp

        limit = aiohttp.ClientWSTimeout(ws_close=2.0)
        try:
            async with self._open().ws_connect(
                url, headers=headers, heartbeat=heartbeat, timeout=limit, **self._way(url)
            ) as socket:
                async for message in socket:
                    if message.type is aiohttp.WSMsgType.TEXT:
                        yield message.data
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise _unreachable(url, error) from None


async def _sent_once(
    request: "aiohttp.ClientRequest", handler: "aiohttp.ClientHandlerType"
) -> "aiohttp.ClientResponse":
    """Keeps a session from sending once more what may be done by now, as aiohttp does by itself.

    It takes PUT and DELETE for harmless: a node that ended had written, and the next one wrote
    again.
    """
    import aiohttp

    if request.method != "GET":
        # A process that did something else, as wait for a person at a prompt, does not know yet
        # that the other side has closed a connection, and would send into it.
        for _ in range(_HEARS):
            await asyncio.sleep(0)
    try:
        return await handler(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        if request.method in READS:
            raise
        raise _unreachable(str(request.url), error, request.method) from None


def _stays() -> "aiohttp.TraceConfig":
    """Keeps a session from following redirects, also where aiohttp cannot be told: of websockets.

    What lets us in would go along, wherever that is and by whichever way.
    """
    import aiohttp

    async def elsewhere(
        _session: object, _context: object, told: "aiohttp.TraceRequestRedirectParams"
    ) -> None:
        told.response.close()
        where = shown_address(str(told.response.url))
        raise Unavailable("unreachable", f"no answer from {where}: status {told.response.status}")

    watch = aiohttp.TraceConfig()
    watch.on_request_redirect.append(elsewhere)
    return watch


def _first_alone() -> "aiohttp.TraceConfig":
    """Keeps a session from a second connection, also where aiohttp would try again by itself."""
    import aiohttp

    opened: list[bool] = []

    async def opening(*_: object) -> None:
        if opened:
            raise Unavailable("connection-closed", "the other side closed the connection")
        opened.append(True)

    watch = aiohttp.TraceConfig()
    watch.on_connection_create_start.append(opening)
    return watch


def _payload(body: bytes | None) -> bytes | io.BytesIO | None:
    # aiohttp sends a stream in pieces and warns about a large body in one.
    return io.BytesIO(body) if body is not None and len(body) > STREAMED_BYTES else body


def _speaks_plainly(error: BaseException) -> bool:
    """OpenSSL's word for an answer that is no TLS."""
    found = getattr(error, "os_error", error)  # aiohttp keeps it there
    return isinstance(found, ssl.SSLError) and found.reason == "WRONG_VERSION_NUMBER"


def shown_address(url: str) -> str:
    """An address as messages and records have it: without a query, a user and a password."""
    head, mark, rest = url.partition("?")[0].rpartition("://")
    authority, slash, path = rest.partition("/")
    return f"{head}{mark}{authority.rpartition('@')[2]}{slash}{path}"


def _was_sent(error: BaseException) -> bool:
    """Whether a request may have gone out before this."""
    import aiohttp

    before = aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError
    after = (
        aiohttp.ClientOSError,
        aiohttp.ClientPayloadError,
        aiohttp.ServerDisconnectedError,
        TimeoutError,
    )
    return isinstance(error, after) and not isinstance(error, before)


def _unreachable(url: str, error: BaseException, method: str = "GET") -> Unavailable:
    reason, hint = _why(url, error)
    said = f"no answer from {shown_address(url)}: {reason}"
    kind = Unavailable if method in READS or not _was_sent(error) else Unanswered
    return kind("unreachable", said, hint=hint)


def _untrusted(found: BaseException) -> tuple[str, str]:
    why = found.verify_message if isinstance(found, ssl.SSLCertVerificationError) else found
    reason = f"its certificate is not trusted: {why}"
    if "expired" in reason or "not yet valid" in reason:
        return reason, "it has to be renewed, or the clock here or there is wrong"
    return reason, "name the authority that signed it, and the name that it is for"


def _why(url: str, error: BaseException) -> tuple[str, str]:
    """Why there is no answer, and what to do."""
    import aiohttp

    reason = "timed out" if isinstance(error, asyncio.TimeoutError) else type(error).__name__
    hint = "is it running, and the address right?"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        reason, hint = _untrusted(error.certificate_error)
    elif _speaks_plainly(error):
        reason = "it does not speak TLS"
        hint = "http:// in place of https://, or another port?"
    elif isinstance(error, aiohttp.ServerDisconnectedError):
        reason = "the connection was closed without a reply"
        hint = NOT_PLAIN if url.startswith("http:") else hint
    elif isinstance(error, aiohttp.ClientPayloadError):
        reason = "the connection was closed within the reply"
    elif isinstance(error, aiohttp.ClientConnectorError):
        reason = str(error.os_error.strerror or error.os_error)
    elif isinstance(error, aiohttp.ClientOSError):
        reason = "the connection was cut"
    elif isinstance(error, aiohttp.InvalidURL | UnicodeError):
        # A host's name whose parts are empty or too long is found out when it is looked up.
        reason, hint = "that is no address", "http://HOST:PORT or https://HOST:PORT"
    elif isinstance(error, ValueError):
        reason = "the request cannot be sent"
        hint = "is there a line break in a header, such as the one with the token?"
    elif isinstance(error, aiohttp.WSServerHandshakeError):
        reason = f"status {error.status}"
    return reason, hint
