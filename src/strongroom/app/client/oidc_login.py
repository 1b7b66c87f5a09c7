"""Logging in by a browser: a listener on this machine waits for the person to come back.

The authorization URL is opened, or printed for a person to open; the code that comes back is handed
to the store with a nonce that only this process knows (RFC 8252). It comes in the address, or in
the body of a POST where the mount asks for that (OAuth 2.0 Form Post Response Mode).
"""

import asyncio
import contextlib
import html
import secrets
import sys
import webbrowser
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

from strongroom.model.digits import whole_number
from strongroom.model.errors import Denied, Invalid, Unavailable
from strongroom.wire.daemon_threads import in_daemon_thread

if TYPE_CHECKING:
    from strongroom.app.client.session import Session

PORT: Final = "8250"
PATH: Final = "/oidc/callback"
WAIT_SECONDS: Final = 300.0
# What one request of a browser may have: bytes, and seconds until all of it is there.
MAX_HEAD: Final = 16 * 1024
MAX_FORM: Final = 64 * 1024
REQUEST_SECONDS: Final = 15.0
MAX_FIELDS: Final = 50
MAX_SAID: Final = 300
_FORM: Final = "application/x-www-form-urlencoded"
_PAGE: Final = """<!doctype html><html lang="en" style="color-scheme: light dark">
<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Strongroom</title>
<body style="font: 1em sans-serif; margin: 4em auto; max-width: 40em; padding: 0 1em;
 overflow-wrap: anywhere">
<h1>{title}</h1><p>{text}</p></body></html>
"""


@dataclass(slots=True)
class ExpectedLogin:
    """The one login that is waited for; `state` is what its way back must carry."""

    back: "asyncio.Future[Mapping[str, str]]"
    state: str = ""


class _Unread(Exception):
    """A request that is not read to its end, and the status that says why."""


async def oidc_login(
    session: "Session",
    mount: str,
    given: Mapping[str, Any],
    open_browser: Callable[[str], bool] = webbrowser.open,
) -> dict[str, Any]:
    """The `auth` object of the person who came back.

    `given` may have role, port, callbackmethod, callbackport, callbackhost, listenaddress,
    skip_browser, abort_on_error and timeout. Raises Invalid when the port is taken, Denied when the
    issuer let nobody in, Unavailable when nobody comes back in time.
    """
    seconds, method = _seconds(given.get("timeout")), str(given.get("callbackmethod", "http"))
    skip, abort = _flag(given, "skip_browser"), _flag(given, "abort_on_error")
    nonce = secrets.token_urlsafe(20)
    login = ExpectedLogin(asyncio.get_running_loop().create_future())
    address, port = str(given.get("listenaddress", "127.0.0.1")), str(given.get("port", PORT))
    try:
        server = await asyncio.start_server(
            lambda reader, writer: serve(reader, writer, login),
            address,
            int(port),
            limit=MAX_HEAD,
        )
    except (OSError, ValueError) as error:
        raise Invalid(
            "port-taken", f"cannot listen on {address}:{port}", hint="port=8251, and allow it"
        ) from error
    # A browser opens connections that it says nothing on; none of them is waited for at the end.
    with contextlib.closing(server):
        host = given.get("callbackhost", "localhost")
        shown = given.get("callbackport", server.sockets[0].getsockname()[1])
        body = {
            "role": str(given.get("role", "")),
            "redirect_uri": f"{method}://{host}:{shown}{PATH}",
            "client_nonce": nonce,
        }
        asked = session.unwrapped()  # -wrap-ttl is meant for the token.
        reply = await asked.ask("PUT", f"auth/{mount.strip('/')}/oidc/auth_url", body)
        url = str(reply.data.get("auth_url") or "")
        login.state = parse_qs(urlsplit(url).query).get("state", [""])[0]
        opening = _send_there(url, None if skip else open_browser)
        if abort and not await opening:
            raise Unavailable("no-browser", "no browser can be opened", hint="skip_browser=true")
        back = await _come_back(login, seconds)
        query = {name: back[name] for name in ("state", "code") if name in back}
        path = f"auth/{mount.strip('/')}/oidc/callback"
        reply = await session.ask("GET", path, query={**query, "client_nonce": nonce})
    auth = reply.body.get("auth")
    if not isinstance(auth, dict):
        raise Unavailable("no-auth", "the store gave no token")
    return auth


def _send_there(url: str, open_browser: Callable[[str], bool] | None) -> "asyncio.Task[bool]":
    """Show the person the way; what is returned says whether a browser was opened, or not to be.

    Some browsers stay until their last window is closed: it is not waited for, since meanwhile the
    person comes back, and the command ends.
    """
    if not url.startswith(("https://", "http://")):
        raise Invalid("no-auth-url", "the store gave no address to log in at", hint="role=...")
    words = "Open in a browser:" if open_browser is None else "Launching browser to:"
    print(f"Complete the login via your OIDC provider. {words}\n\n    {url}\n\n", file=sys.stderr)
    print("Waiting for OIDC authentication to complete...", file=sys.stderr, flush=True)

    async def opened() -> bool:
        with contextlib.suppress(webbrowser.Error, OSError):
            if open_browser is None or await in_daemon_thread(partial(open_browser, url)):
                return True
        print("No browser can be opened here: open the address yourself.", file=sys.stderr)
        return False

    return asyncio.create_task(opened())


def _flag(given: Mapping[str, Any], name: str) -> bool:
    said = str(given.get(name, "false")).lower()
    if said not in ("true", "t", "1", "false", "f", "0"):
        raise Invalid("bad-flag", f"{name} is true or false")
    return said in ("true", "t", "1")


def _seconds(given: object) -> float:
    from strongroom.sync.durations import parse_duration

    text = str(given or "")
    number = whole_number(text)
    if number is None:
        return parse_duration(text, "timeout") or WAIT_SECONDS
    return float(number)


async def _come_back(login: ExpectedLogin, seconds: float) -> Mapping[str, str]:
    try:
        back = await asyncio.wait_for(login.back, seconds)
    except TimeoutError:
        raise Unavailable(
            "nobody-came",
            f"timed out: nobody came back from the issuer within {seconds:g} seconds",
            hint="log in again; timeout=10m waits longer",
        ) from None
    if "error" in back:
        said = back.get("error_description", "")
        raise Denied(
            "login-refused",
            f"the issuer let nobody in: {printable(back['error'])}"
            + (f" ({printable(said)})" if said else ""),
        )
    return back


def printable(text: str) -> str:
    """What a stranger said, without what would steer a terminal."""
    return "".join(each if each.isprintable() else "?" for each in text[:MAX_SAID])


async def serve(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    login: ExpectedLogin,
    seconds: float = REQUEST_SECONDS,
) -> None:
    """One request of the browser; only the callback of this login counts, and only the first.

    It must be there whole within `seconds`.
    """
    try:
        async with asyncio.timeout(seconds):
            path, found = await _request(reader)
    except _Unread as refusal:
        writer.write(page(refusal.args[0], "Not understood", "This is not the end of a login."))
        writer.close()
        return
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError, ValueError):
        # OSError is also what the time is over by.
        writer.close()
        return
    if path != PATH or login.back.done():
        answer = page(404, "Nothing here", "This address waits for one login alone.")
    elif not login.state or not secrets.compare_digest(
        found.get("state", "").encode(), login.state.encode()
    ):
        # Any page in the browser can send somebody here; the login goes on waiting.
        answer = page(400, "Another login", "This is not the login that the terminal waits for.")
    else:
        login.back.set_result(found)
        answer = answer_page(found)
    writer.write(answer)
    await writer.drain()
    writer.close()


async def _request(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]]:
    """The path that is asked for and the fields that came: of the address, or of a POST's body.

    Raises _Unread for what no browser sends at the end of a login, ValueError for what is not HTTP.
    """
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *lines = head.splitlines()
    method, target, _ = line.split(" ", 2)
    parts = urlsplit(target)
    if method == "GET":
        return parts.path, fields(parts.query)
    if method != "POST":
        raise _Unread(405)
    pairs = (each.partition(":") for each in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    size = form_size(headers)
    # What stands in the address beside a form is nobody's answer.
    return parts.path, fields((await reader.readexactly(size)).decode("latin-1"))


def form_size(headers: Mapping[str, str]) -> int:
    """How many bytes of a form follow; raises _Unread where it is none, or its size is not said."""
    if headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise _Unread(415)
    length = headers.get("content-length", "")
    if "transfer-encoding" in headers or not (length.isascii() and length.isdigit()):
        raise _Unread(411)
    if len(length) > len(str(MAX_FORM)) or int(length) > MAX_FORM:
        raise _Unread(413)
    return int(length)


def fields(text: str) -> dict[str, str]:
    """The first value of each field of a query or a form; raises ValueError for very many."""
    return {key: each[0] for key, each in parse_qs(text, max_num_fields=MAX_FIELDS).items()}


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
