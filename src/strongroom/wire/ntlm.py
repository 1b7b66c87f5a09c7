"""NTLM over HTTP (MS-NTHT): one request, over a connection that its account proves.

The first leg carries a NEGOTIATE message and no body, the server answers 401 with a CHALLENGE, and
the last leg carries the whole request with an AUTHENTICATE message (NTLMv2, MS-NLMP). All go over
one connection, for that is what NTLM proves. The messages are pyspnego's; it is imported by
whoever needs it first. The password itself is never sent, also not where a server offers Basic.
"""

import asyncio
import base64
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Final

from strongroom.model.errors import Denied, Refusal, Unavailable
from strongroom.model.secret import Secret
from strongroom.wire.client import HttpClient
from strongroom.wire.http import Response

if TYPE_CHECKING:
    from spnego import ContextProxy

NTLM: Final = "NTLM"
# Some servers take the same messages under this name only.
NEGOTIATE: Final = "Negotiate"
CODES: Final = frozenset(
    (
        "no-ntlm",
        "ntlm-bad-challenge",
        "ntlm-connection-closed",
        "ntlm-not-asked",
        "ntlm-not-offered",
        "ntlm-refused",
    )
)
_CHALLENGES: Final = re.compile(r'(?:[^,"]|"(?:\\.|[^"\\])*")+')
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,30}")


@dataclass(frozen=True, slots=True)
class Account:
    """Who asks: `name` is DOMAIN\\user or user@domain, or a user of the server's own."""

    name: str
    password: Secret


def need_library() -> ModuleType:
    """The module `spnego`; raises Unavailable(`no-ntlm`) where it is not installed."""
    try:
        import spnego
    except ImportError:
        raise Unavailable(
            "no-ntlm", "NTLM is not installed", hint="pip install 'strongroom[operator]'"
        ) from None
    # It writes the messages into its debug log; the last can be tried against guessed passwords.
    logging.getLogger("spnego").setLevel(logging.INFO)
    module: ModuleType = spnego
    return module


class NtlmClient:
    """Requests of one account. `connect` makes the client of one request: a fresh one each time,
    of a Route with `one_connection`.
    """

    def __init__(self, connect: Callable[[], HttpClient], account: Account) -> None:
        self._connect = connect
        self._account = account

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout: float | None = None,
    ) -> Response:
        """Send one request; `timeout` is for all legs together, in seconds.

        A header Authorization is left out. Raises what HttpClient.request raises, and with CODES:
        Denied when the server offers no NTLM or refuses the account, Unavailable when it breaks
        off, sends nonsense, or does not ask who it is and so was not given the body.
        """
        plain = {
            name: each for name, each in (headers or {}).items() if name.lower() != "authorization"
        }
        try:
            async with asyncio.timeout(timeout or None), self._connect() as http:
                exchange = _Exchange(http, method, url, plain, timeout)
                return await exchange.proven(_context(self._account), body)
        except TimeoutError:
            raise Unavailable("unreachable", "no answer in time") from None
        except Refusal as refusal:
            if refusal.code != "connection-closed":
                raise
            raise Unavailable(
                "ntlm-connection-closed",
                "the server closed the connection before the account was proven on it",
                hint="NTLM needs one connection all the way: is there a proxy between?",
            ) from None


@dataclass(frozen=True, slots=True)
class _Exchange:
    http: HttpClient
    method: str
    url: str
    headers: Mapping[str, str]
    timeout: float | None

    async def proven(self, context: "ContextProxy", body: bytes | None) -> Response:
        opening = context.step() or b""
        scheme = NTLM
        reply = await self._leg(scheme, opening, None)
        offered = offered_by(reply)
        if reply.status == 401 and NTLM not in offered and NEGOTIATE in offered:
            scheme = NEGOTIATE
            reply = await self._leg(scheme, opening, None)
            offered = offered_by(reply)
        if reply.status != 401:
            return _unproven(reply, body)
        if not offered.get(scheme):
            raise _not_offered(offered)
        reply = await self._leg(scheme, _answer(context, offered[scheme]), body)
        if reply.status == 401:
            raise Denied(
                "ntlm-refused",
                "the server refused the account (status 401)",
                hint="are the user, as DOMAIN\\user or user@domain, and the password right?",
            )
        return reply

    async def _leg(self, scheme: str, message: bytes, body: bytes | None) -> Response:
        proof = f"{scheme} {base64.b64encode(message).decode()}"
        headers = {**self.headers, "Authorization": proof}
        return await self.http.request(
            self.method, self.url, headers=headers, body=body, timeout=self.timeout
        )


def _context(account: Account) -> "ContextProxy":
    spnego = need_library()
    # Its own implementation, whatever libraries the machine has.
    made: ContextProxy = spnego.client(
        account.name,
        account.password.reveal_text(),
        service="HTTP",
        protocol="ntlm",
        options=spnego.NegotiateOptions.use_ntlm,
    )
    return made


def _answer(context: "ContextProxy", challenge: str) -> bytes:
    try:
        made = context.step(base64.b64decode(challenge, validate=True))
    except Exception as error:  # noqa: BLE001 - whatever the parser trips over, the server sent it
        raise Unavailable(
            "ntlm-bad-challenge", f"the server's challenge is no NTLM ({type(error).__name__})"
        ) from None
    return made or b""


def offered_by(reply: Response) -> dict[str, str]:
    """The schemes of a reply's WWW-Authenticate headers with what follows each (RFC 9110, 11.6.1).

    NTLM and Negotiate are spelt as here, the others in small letters.
    """
    known = {name.lower(): name for name in (NTLM, NEGOTIATE)}
    found: dict[str, str] = {}
    for name, value in reply.headers:
        if name.lower() != "www-authenticate":
            continue
        for piece in _CHALLENGES.findall(value):
            scheme, _, rest = piece.strip().partition(" ")
            if _SCHEME.fullmatch(scheme):
                found[known.get(scheme.lower(), scheme.lower())] = rest.strip()
    return found


def _unproven(reply: Response, body: bytes | None) -> Response:
    """A reply to the first leg that asks for no proof; raises Unavailable(`ntlm-not-asked`).

    The body was not sent with that leg. And "not there" counts from a server that knows who asks.
    """
    if reply.status == 404 or (reply.status < 300 and body):
        raise Unavailable(
            "ntlm-not-asked",
            f"the server does not ask for an account (status {reply.status})",
            hint="is the address right? If it serves everybody, leave out auth.ntlm",
        )
    return reply


def _not_offered(offered: Mapping[str, str]) -> Denied:
    names = ", ".join(sorted(offered)) or "nothing"
    hint = "is NTLM switched on at the server?"
    if "basic" in offered:
        hint = (
            "Basic hands over the password, so it is never used by itself; if that is meant, "
            "leave out auth.ntlm and make a header Authorization"
        )
    return Denied(
        "ntlm-not-offered", f"the server takes no NTLM (status 401; it offers {names})", hint=hint
    )
