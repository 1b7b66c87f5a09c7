"""One command's conversation with the store: requests, errors in Vault's words, exit statuses.

Exit status: 0 done, 1 misuse of the command, 2 the store refused or did not answer.
"""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Final
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import orjson

from strongroom.app.client.dry_run import Shown, as_curl, as_policy
from strongroom.app.client.flags import check_format
from strongroom.app.client.hints import IS_IT_THE_STORE, NO_STORES, hint_for, hint_of, unanswered
from strongroom.app.client.output import error_text, print_reply
from strongroom.app.store_address import StoreAddress, check_sendable, store_address
from strongroom.model.errors import Invalid, NotFound, Refusal, Unanswered, Unavailable
from strongroom.model.secret import Secret
from strongroom.wire.fields import Fields, read_fields

if TYPE_CHECKING:
    from strongroom.wire.client import HttpClient
    from strongroom.wire.http import Response


# What people call these headers.
_SPOKEN: Final = {
    "X-Vault-Token": "the token",
    "X-Vault-Namespace": "the namespace",
    "X-Vault-Wrap-TTL": "-wrap-ttl (VAULT_WRAP_TTL)",
}


# What is written there is given back wrapped, for so long unless told otherwise, as from Vault.
_WRAP: Final = "sys/wrapping/wrap"
_USUAL_WRAP_TTL: Final = "5m"


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply; `body` is the envelope, {} when there was none."""

    status: int
    body: Fields = field(repr=False)
    raw: bytes = field(repr=False)

    @property
    def data(self) -> Fields:
        """The envelope's data."""
        return self.body.get("data") or Fields({}, self.body.path)

    @property
    def keys(self) -> list[str]:
        """The names of a LIST, [] where there are none."""
        return [str(each) for each in self.data.get("keys") or ()]


class Wrapped(Exception):
    """A reply that holds a wrapping token in place of what was asked for."""

    def __init__(self, body: Fields, raw: bytes) -> None:
        super().__init__("the reply is wrapped")
        self.body, self.raw = body, raw


class NoJson(Unavailable):
    """A reply that says done and is no JSON object; `raw` are its bytes."""

    def __init__(self, address: str, raw: bytes) -> None:
        super().__init__("no-store", f"what answers at {address} is no store", hint=IS_IT_THE_STORE)
        self.raw = raw


class ApiError(Exception):
    """A reply that is an error; the sentences are the server's own, the hint is not."""

    def __init__(self, method: str, url: str, status: int, errors: list[str]) -> None:
        super().__init__(f"{method} {url}: {status}")
        self.method, self.url, self.status, self.errors = method, url, status, errors
        self.hint = ""

    @property
    def is_absence(self) -> bool:
        """Whether nothing is there, which is no mistake: the store has no sentence about it."""
        return self.status == 404 and not self.errors

    @property
    def text(self) -> str:
        """As Vault's command line writes it."""
        lines = "\n".join(f"* {each}" for each in self.errors)
        head = f"Error making API request.\n\nURL: {self.method} {self.url}\nCode: {self.status}."
        return f"{head} Errors:\n\n{lines}" if lines else head


class Session:
    """Requests with the token, namespace and headers of the command line."""

    def __init__(
        self, where: StoreAddress, http: "HttpClient", wrap_ttl: str = "", show: str = ""
    ) -> None:
        """`show` is "curl" or "policy" where requests are only to be described."""
        self.where = where
        self.token = where.token
        # What to do if a request of this command fails, where the command knows better.
        self.hint = ""
        self._http = http
        self._wrap_ttl = wrap_ttl
        self._show = show

    def unwrapped(self) -> "Session":
        """The same for what a command asks on its way: -wrap-ttl is meant for its last reply."""
        other = type(self)(self.where, self._http, "", self._show)
        other.token = self.token
        return other

    def _headers(self, token: Secret | None) -> dict[str, str]:
        headers = {"X-Vault-Request": "true", **self.where.headers}
        if token:
            headers["X-Vault-Token"] = token.reveal_text()
        if self.where.namespace:
            headers["X-Vault-Namespace"] = self.where.namespace
        if self._wrap_ttl:
            headers["X-Vault-Wrap-TTL"] = self._wrap_ttl
        for name, value in headers.items():
            check_sendable(_SPOKEN.get(name, name), value)
        return headers

    async def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
        *,
        token: Secret | None = None,
    ) -> Reply:
        """Call `/v1/PATH`; raises ApiError for an error status, Unavailable for no answer.

        Raises NoJson for a reply that is not a store's, and Shown instead of calling where
        requests are only to be described.
        """
        url = f"{self.where.address}/v1/{quote(path.strip('/'), safe='/*+@:')}"
        headers = self._headers(token or self.token)
        content = None
        if body is not None:
            content = _written(body)
            if path.strip("/") == _WRAP:
                headers.setdefault("X-Vault-Wrap-TTL", _USUAL_WRAP_TTL)
            merge = "application/merge-patch+json"
            headers["Content-Type"] = merge if method == "PATCH" else "application/json"
        full = f"{url}?{urlencode(query)}" if query else url
        self._only_shown(method, full, path, headers, content)
        return await self._sent(method, full, headers, content)

    async def preflight(self, path: str) -> Reply:
        """A GET that is sent also where the request after it is only to be described."""
        url = f"{self.where.address}/v1/{quote(path.strip('/'), safe='/*+@:')}"
        headers = self._headers(self.token)
        headers.pop("X-Vault-Wrap-TTL", None)
        return await self._sent("GET", url, headers, None)

    async def _sent(
        self, method: str, full: str, headers: dict[str, str], content: bytes | None
    ) -> Reply:
        with _hinting(full):
            reply = await self._http.request(method, full, headers=headers, body=content)
        read = read_fields(reply.body, full)
        found = read or Fields({}, full)
        for each in found.get("warnings") or []:
            print(f"WARNING! {each}", file=sys.stderr)
        if reply.status >= 300 and not _says_what_was(method, reply.status, found):
            raise _error(method, full, reply)
        self._check_is_store(method, reply, read)
        if found.get("wrap_info"):
            raise Wrapped(found, reply.body)
        return Reply(reply.status, found, reply.body)

    async def download(self, path: str, into: BinaryIO, query: Mapping[str, str]) -> None:
        """GET `/v1/PATH` into a file, a piece in memory at a time; raises as `ask`."""
        url = f"{self.where.address}/v1/{path}"
        full = f"{url}?{urlencode(query)}" if query else url
        headers = self._headers(self.token)
        self._only_shown("GET", full, path, headers)
        reply = await self._http.download(full, into, headers=headers)
        if reply.status != 200:
            raise _error("GET", full, reply)

    async def upload(self, path: str, file: BinaryIO) -> Reply:
        """POST a file to `/v1/PATH`; raises as `ask`."""
        url = f"{self.where.address}/v1/{path}"
        headers = {**self._headers(self.token), "Content-Type": "application/octet-stream"}
        self._only_shown("POST", url, path, headers)
        with _hinting(url):
            reply = await self._http.upload(url, file, headers=headers)
        if reply.status >= 300:
            raise _error("POST", url, reply)
        read = read_fields(reply.body, url)
        self._check_is_store("POST", reply, read)
        return Reply(reply.status, read or Fields({}, url), reply.body)

    def _check_is_store(self, method: str, reply: "Response", read: Fields | None) -> None:
        """Raise NoJson for a reply that says done, and that no store gives."""
        # One that has done something and says nothing says 204.
        silent = not reply.body and reply.status == 200 and method != "GET"
        if silent or (reply.body and read is None):
            raise NoJson(self.where.address, reply.body)

    async def messages(self, path: str) -> AsyncIterator[str]:
        """Texts of a websocket until it closes; raises as `ask`."""
        full = f"{self.where.address}/v1/{quote(path, safe='/*')}?json=true"
        headers = self._headers(self.token)
        self._only_shown("GET", full, path, headers)
        try:
            async for text in self._http.messages(full, headers=headers):
                yield text
        except Unavailable:
            # What was wrong with the request is in the reply to a plain one.
            try:
                await self._sent("GET", full, headers, None)
            except ApiError as error:
                if error.status in (403, 404, 503):
                    raise
            raise

    def _only_shown(
        self,
        method: str,
        full: str,
        path: str,
        headers: Mapping[str, str],
        content: bytes | None = None,
    ) -> None:
        if self._show == "curl":
            raise Shown(as_curl(method, full, headers, content, self.where))
        if self._show == "policy":
            listing = "list" in parse_qs(urlsplit(full).query)
            raise Shown(as_policy(method, path.strip("/"), listing=listing))

    async def list(self, path: str) -> Reply:
        """The names under a path; raises ApiError(404) when there are none."""
        return await self.ask("GET", path, query={"list": "true"})


@contextmanager
def _hinting(url: str) -> Iterator[None]:
    """Says what to do where nobody knows whether a request was done."""
    try:
        yield
    except Unanswered as error:
        path = urlsplit(url).path.partition("/v1/")[2]
        said = f"{error.message}; whether it was done is not known"
        raise Unanswered(error.code, said, hint=unanswered(path, error.hint or "")) from None


def _says_what_was(method: str, status: int, found: Fields) -> bool:
    """Whether a 404 has something to show, as of a deleted version: no error, as in Vault.

    With nothing but a warning it is one, also where Vault's command line goes on with none.
    """
    return method == "GET" and status == 404 and bool(found.get("data"))


def _written(body: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError as error:
        if "surrogates" in str(error):
            raise Invalid(
                "not-text",
                "a value is no text in UTF-8",
                hint="write bytes as base64; under LANG=C.UTF-8 letters are taken as such",
            ) from None
        raise Invalid(
            "bad-value", "a value is a whole number beyond 64 bits", hint="write it as text"
        ) from None


def _error(method: str, url: str, reply: "Response") -> ApiError:
    found = read_fields(reply.body, url)
    errors = found.get("errors") if found else None
    said = [str(each) for each in errors] if isinstance(errors, list) else []
    # Where there is nothing, a store says so with a list of errors, empty or not, or an envelope.
    known = found is not None and (reply.status != 404 or {"errors", "request_id"} & found.keys())
    return ApiError(method, url, reply.status, said if known or not reply.body else [NO_STORES])


def run_call(args: argparse.Namespace) -> int:
    """Run a verb and turn whatever goes wrong into a sentence and a status."""
    try:
        return asyncio.run(_called(args))
    except Shown as shown:
        print(shown)
        return 0
    except Wrapped as wrapped:
        return print_reply(wrapped.body, args.format, args.field, wrapped.raw)
    except ApiError as error:
        print(error_text(error.text), file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return 2
    except NotFound as refusal:
        print(error_text(refusal.message), file=sys.stderr)
        return 2
    except UnicodeError as error:
        return _refused(_no_text(error))
    except Refusal as refusal:
        return _refused(refusal)


def _refused(refusal: Refusal) -> int:
    print(error_text(f"error: {refusal.message} [{refusal.code}]"), file=sys.stderr)
    if hint := hint_of(refusal):
        print(f"hint: {hint}", file=sys.stderr)
    return 1 if isinstance(refusal, Invalid) else 2


def _no_text(error: UnicodeError) -> Refusal:
    """Of bytes that are no text among what was given, or text that cannot be printed here."""
    encoding = str(getattr(error, "encoding", "utf-8"))
    if isinstance(error, UnicodeEncodeError) and encoding != "utf-8":
        return Unavailable(
            "cannot-print",
            f"the answer has characters that {encoding} has not",
            hint="LANG=C.UTF-8, or PYTHONIOENCODING=utf-8",
        )
    return Invalid("not-text", "what was given is not text in UTF-8", hint="write bytes as base64")


def described(args: argparse.Namespace) -> str:
    """As what requests are to be described, or "" where they are sent."""
    if getattr(args, "output_curl_string", False):
        return "curl"
    return "policy" if getattr(args, "output_policy", False) else ""


async def _called(args: argparse.Namespace) -> int:
    check_format()
    where = store_address(args)
    async with where.client() as http:
        session = Session(where, http, getattr(args, "wrap_ttl", "") or "", described(args))
        try:
            status: int = await args.call(session, args)
        except ApiError as error:
            error.hint = (
                error.hint
                or session.hint
                or hint_for(error.status, error.errors, has_token=bool(session.token))
            )
            raise
        return status
