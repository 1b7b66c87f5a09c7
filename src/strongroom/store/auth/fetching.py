"""Bytes from an address that an operator or a trusted authority named: answers and lists.

Nothing else is ever asked for: where a certificate names an address it counts only when a trusted
authority has signed it. Redirects are not followed, time and size have bounds.
"""

from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit

from strongroom.model.errors import Invalid, Unavailable
from strongroom.wire.client import HttpClient, Route, shown_address

TIMEOUT_SECONDS: Final = 4.0
OCSP_REQUEST: Final = "application/ocsp-request"

# (address, what to POST or None for a GET, the most bytes of a reply) to the reply's bytes.
Fetch = Callable[[str, bytes | None, int], Awaitable[bytes]]


async def fetch_over_http(url: str, body: bytes | None, most: int) -> bytes:
    """A reply's bytes; raises Unavailable, or TooLarge beyond `most` bytes."""
    headers = {"Content-Type": OCSP_REQUEST} if body is not None else None
    async with HttpClient(route=Route(timeout=TIMEOUT_SECONDS, reply_bytes=most)) as http:
        verb = "GET" if body is None else "POST"
        reply = await http.request(verb, url, headers=headers, body=body)
    if reply.status != 200:
        where = shown_address(url)
        raise Unavailable("bad-reply", f"{where} answered with status {reply.status}")
    return reply.body


def check_address(url: str, name: str) -> str:
    """The same address; raises Invalid where it is none of HTTP."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise Invalid(
            "bad-address", f"'{name}' must be an address that begins with http:// or https://"
        )
    return url
