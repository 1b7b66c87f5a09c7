"""One HTTP request and one reply, as values: what every handler sees and returns."""

import http
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate, parsedate_to_datetime
from functools import lru_cache
from typing import BinaryIO, Final

REASONS: Final = {status.value: status.phrase for status in http.HTTPStatus} | {
    472: "Disaster Recovery Secondary",
    473: "Performance Standby",
}

# What changes nothing, and may be asked again; two of them are Vault's.
READS: Final = frozenset({"GET", "HEAD", "LIST", "OPTIONS", "SCAN"})

# Sent twice, these would let two readers of the same request see two different ones.
SINGLE_HEADERS: Final = frozenset(
    {
        "host",
        "content-length",
        "content-type",
        "x-vault-token",
        "authorization",
        "x-vault-namespace",
    }
)

# The names of nearly every request, as clients spell them.
SPELLED: Final = {
    spelled.encode(): name
    for name in (*SINGLE_HEADERS, "accept", "accept-encoding", "connection", "user-agent")
    for spelled in (name, name.title())
}

# What clients send to a proxy, and every server takes (RFC 9112, 3.2.2): the host is in it too.
_ABSOLUTE: Final = re.compile(rb"https?://[^/?#]+", re.IGNORECASE)


def origin_form(target: bytes) -> str:
    """The path and query of a target, whichever way it was sent."""
    if not target.startswith(b"/") and (found := _ABSOLUTE.match(target)):
        rest = target[found.end() :]
        target = rest if rest.startswith(b"/") else b"/" + rest
    return target.decode("latin-1")


_UPGRADE_HEADERS: Final = frozenset({"upgrade", "connection", "http2-settings"})


def plain_head(method: bytes, target: bytes, headers: Mapping[str, str]) -> bytes:
    """The head of a request without its wish for another protocol."""
    lines = [b"%b %b HTTP/1.1" % (method, target)]
    for name, value in headers.items():
        if name not in _UPGRADE_HEADERS:
            lines.append(f"{name}: {value}".encode("latin-1"))
    if "close" in headers.get("connection", "").lower():
        lines.append(b"connection: close")
    return b"\r\n".join((*lines, b"", b""))


@dataclass(slots=True)
class Request:
    """A whole request. `target` is the raw path and query as sent; header names are lower-case.

    `client_chain` are the certificates that the peer sent beside its own (DER, nearest first),
    which nobody has looked at. `opens` is what the listener it came in by opens to everybody, in
    its handler's words. A body that waited on disk is `file`, at its beginning, and open until the
    request is answered. `port` is the connection's, also where a proxy has named its client.
    """

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""
    peer: str = ""
    client_certificate: bytes | None = None
    client_chain: tuple[bytes, ...] = ()
    opens: frozenset[str] = frozenset()
    file: BinaryIO | None = field(default=None, repr=False)
    port: int = 0


@dataclass(slots=True)
class Response:
    """A whole reply; `headers` come after the ones every reply has.

    What is left of `file` is sent after the body, a piece in memory at a time, and closed.
    """

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = "application/json"
    close: bool = field(default=False, kw_only=True)
    file: BinaryIO | None = field(default=None, kw_only=True, repr=False)


# A server that wants to be left alone for longer is asked whether it still does.
LONGEST_WISH: Final = 3600.0


def retry_after(response: Response, now: float | None = None) -> float | None:
    """Seconds of a Retry-After header (RFC 9110, 10.2.3), an hour at most; None without one.

    A date counts only when the wall-clock time is given.
    """
    for name, value in response.headers:
        if name.lower() == "retry-after":
            if value.strip().isascii() and value.strip().isdigit():
                return min(float(value), LONGEST_WISH)
            if now is None:
                return None
            try:
                wish = parsedate_to_datetime(value).timestamp() - now
                return min(max(0.0, wish), LONGEST_WISH)
            except (ValueError, OverflowError):
                return None
    return None


NO_CONTENT: Final = 204
_HEADS: dict[tuple[int, str], bytes] = {}


@lru_cache(maxsize=4)
def http_date(seconds: int) -> bytes:
    """The line that says when a reply was made (RFC 9110, 6.6.1)."""
    return f"Date: {formatdate(seconds, usegmt=True)}\r\n".encode()


def encode_response(response: Response, *, head_only: bool, keep_alive: bool, now: float) -> bytes:
    """The bytes of a reply (RFC 9112) of `now` in epoch seconds; nothing may be stored by caches.

    Vault Agent and Vault Proxy fail at what they keep themselves when it has no date.
    """
    # Vault's 204 has a type too, without which clients of Java take it for another server's.
    empty = response.status == NO_CONTENT
    typed = response.body or response.file or empty
    key = (response.status, response.content_type if typed else "")
    head = _HEADS.get(key)
    if head is None:
        kind = f"Content-Type: {key[1]}\r\n" if key[1] else ""
        reason = REASONS.get(response.status, "Status")
        head = _HEADS[key] = (
            f"HTTP/1.1 {response.status} {reason}\r\nCache-Control: no-store\r\n{kind}"
        ).encode("latin-1")
    extra = http_date(int(now))
    if response.headers:
        extra += _extra(response.headers)
    if not keep_alive:
        extra += b"Connection: close\r\n"
    body = b"" if head_only else response.body
    if empty:
        return b"%b%b\r\n%b" % (head, extra, body)
    length = len(response.body)
    if response.file is not None:
        length += _left(response.file)
    return b"%bContent-Length: %d\r\n%b\r\n%b" % (head, length, extra, body)


def _extra(headers: tuple[tuple[str, str], ...]) -> bytes:
    for name, value in headers:
        if "\r" in value or "\n" in value or "\r" in name or "\n" in name:
            raise ValueError("a header with a line break")
    return "".join(f"{name}: {value}\r\n" for name, value in headers).encode("latin-1")


def _left(file: BinaryIO) -> int:
    here = file.tell()
    end = file.seek(0, io.SEEK_END)
    file.seek(here)
    return end - here


def error_response(status: int, *messages: str, close: bool = False) -> Response:
    """Vault's error form: `{"errors": [...]}`."""
    import json

    return Response(status, json.dumps({"errors": list(messages)}).encode(), close=close)
