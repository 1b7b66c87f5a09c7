"""Logging in by a browser: a listener on this machine waits for the person to come back.

The authorization URL is opened, or printed for a person to open; the code that comes back is handed
to the store with a nonce that only this process knows (RFC 8252).
"""

import asyncio
import html
import secrets
import sys
import webbrowser
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

from strongroom.model.errors import Invalid, Unavailable

if TYPE_CHECKING:
    from strongroom.app.client.session import Session

PORT: Final = "8250"
PATH: Final = "/oidc/callback"
WAIT_SECONDS: Final = 300.0
MAX_HEAD: Final = 16 * 1024
_PAGE: Final = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Strongroom</title>
<body style="font-family: sans-serif; margin: 4em auto; max-width: 40em">
<h1>{title}</h1><p>{text}</p></body></html>
"""


async def oidc_login(
    session: "Session",
    mount: str,
    given: Mapping[str, Any],
    open_browser: Callable[[str], bool] = webbrowser.open,
) -> dict[str, Any]:
    """The `auth` object of the person who came back.

    `given` may have role, port, callbackport, callbackhost, listenaddress, skip_browser. Raises
    Invalid when the port is taken, Unavailable when nobody comes back in time.
    """
    nonce = secrets.token_urlsafe(20)
    waiting: asyncio.Future[Mapping[str, str]] = asyncio.get_running_loop().create_future()
    address, port = str(given.get("listenaddress", "127.0.0.1")), str(given.get("port", PORT))
    try:
        server = await asyncio.start_server(
            lambda reader, writer: _serve(reader, writer, waiting),
            address,
            int(port),
            limit=MAX_HEAD,
        )
    except (OSError, ValueError) as error:
        raise Invalid(
            "port-taken", f"cannot listen on {address}:{port}", hint="port=8251, and allow it"
        ) from error
    async with server:
        host = given.get("callbackhost", "localhost")
        shown = given.get("callbackport", server.sockets[0].getsockname()[1])
        body = {
            "role": str(given.get("role", "")),
            "redirect_uri": f"http://{host}:{shown}{PATH}",
            "client_nonce": nonce,
        }
        reply = await session.ask("PUT", f"auth/{mount.strip('/')}/oidc/auth_url", body)
        url = str(reply.data.get("auth_url") or "")
        _send_there(url, given, open_browser)
        back = await _come_back(waiting)
        query = {name: back[name] for name in ("state", "code", "error") if name in back}
        path = f"auth/{mount.strip('/')}/oidc/callback"
        reply = await session.ask("GET", path, query={**query, "client_nonce": nonce})
    auth = reply.body.get("auth")
    if not isinstance(auth, dict):
        raise Unavailable("no-auth", "the store gave no token")
    return auth


def _send_there(url: str, given: Mapping[str, Any], open_browser: Callable[[str], bool]) -> None:
    if not url.startswith(("https://", "http://")):
        raise Invalid("no-auth-url", "the store gave no address to log in at", hint="role=...")
    skip = str(given.get("skip_browser", "")).lower() in ("true", "1")
    opened = False if skip else open_browser(url)
    words = (
        "Complete the login via your OIDC provider. Launching browser to:"
        if opened
        else ("Complete the login via your OIDC provider. Open in a browser:")
    )
    print(f"{words}\n\n    {url}\n\n", file=sys.stderr, flush=True)
    print("Waiting for OIDC authentication to complete...", file=sys.stderr, flush=True)


async def _come_back(waiting: "asyncio.Future[Mapping[str, str]]") -> Mapping[str, str]:
    try:
        return await asyncio.wait_for(waiting, WAIT_SECONDS)
    except TimeoutError:
        raise Unavailable("nobody-came", "timed out waiting for the browser to come back") from None


async def _serve(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    waiting: "asyncio.Future[Mapping[str, str]]",
) -> None:
    """One request of the browser; only the callback counts, and only the first."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        target = head.split(b" ", 2)[1].decode("latin-1")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, IndexError, ConnectionError):
        writer.close()
        return
    parts = urlsplit(target)
    if parts.path != PATH or waiting.done():
        answer = page(404, "Nothing here", "This address waits for one login alone.")
    else:
        found = {key: values[0] for key, values in parse_qs(parts.query).items()}
        waiting.set_result(found)
        answer = answer_page(found)
    writer.write(answer)
    await writer.drain()
    writer.close()


def answer_page(found: Mapping[str, str]) -> bytes:
    """What the person is shown; whatever the issuer said is text, never markup."""
    if "error" in found:
        said = found.get("error_description") or found["error"]
        return page(400, "The login failed", said)
    return page(
        200,
        "Go back to the terminal",
        "It says whether the login worked. This window can be closed.",
    )


def page(status: int, title: str, text: str) -> bytes:
    """A reply with a page that can load and run nothing."""
    body = _PAGE.format(title=html.escape(title), text=html.escape(text)).encode()
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    head = (
        f"HTTP/1.1 {status} X\r\nContent-Type: text/html; charset=utf-8\r\n"
        f"Content-Security-Policy: {policy}\r\nX-Content-Type-Options: nosniff\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
