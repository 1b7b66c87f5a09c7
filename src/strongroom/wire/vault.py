"""A client of the Vault HTTP API, for Strongroom's own store, Vault and OpenBao alike.

Status codes become the error families; an error keeps the server's sentence, never a body.
API: https://developer.hashicorp.com/vault/api-docs.
"""

import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final
from urllib.parse import quote, urlencode

import orjson

from strongroom.model.errors import (
    Conflict,
    Denied,
    Invalid,
    NotFound,
    Refusal,
    Throttled,
    Unavailable,
)
from strongroom.model.secret import Secret
from strongroom.wire.client import HttpClient
from strongroom.wire.fields import Fields, read_fields
from strongroom.wire.http import Response, retry_after

_FAMILIES: Final[dict[int, tuple[type[Refusal], str]]] = {
    400: (Invalid, "store-invalid"),
    403: (Denied, "store-denied"),
    404: (NotFound, "store-not-found"),
    405: (Invalid, "store-unsupported"),
    409: (Conflict, "store-conflict"),
    412: (Conflict, "store-precondition"),
    413: (Invalid, "store-too-large"),
    429: (Throttled, "store-busy"),
}

# A query, whose names may come more than once.
Query = Mapping[str, str] | Sequence[tuple[str, str]]
# What Vault puts before a sentence.
_WRAPPED: Final = re.compile(r"^\d+ errors? occurred:\s*")
# A 404 that says nothing of what is stored: the mount is not there, or is of another kind; or the
# namespace is not there (Vault's sentence, OpenBao's, and our own).
_NO_ROUTE: Final = re.compile("no handler for route|unsupported path|Invalid path for a versioned")
_NO_NAMESPACE: Final = re.compile("no such namespace|namespace (does )?not (found|exist)")


@dataclass(frozen=True, slots=True)
class LoginResult:
    """A token obtained by a login; durations in seconds."""

    token: Secret
    accessor: str
    lease_duration: int
    renewable: bool
    policies: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KvVersion:
    """One version of a KV v2 secret. `data` is empty when it was deleted or destroyed."""

    data: dict[str, Any]
    version: int
    created_time: str
    deletion_time: str
    destroyed: bool

    def __repr__(self) -> str:
        return f"KvVersion(version={self.version}, keys={sorted(self.data)})"


class VaultClient:
    """One address, one token. The token can be replaced after a login.

    `read_your_writes` sends the index of what was written before with each request, so that a
    replica that is behind refuses (412) instead of answering from before.
    """

    def __init__(
        self,
        address: str,
        token: Secret | None,
        http: HttpClient,
        namespace: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        read_your_writes: bool = False,
    ) -> None:
        self.address = address.rstrip("/")
        self.token = token
        self._http = http
        self._namespace = namespace
        self._extra = dict(headers or {})
        self._indexes: list[str] | None = [] if read_your_writes else None

    def in_namespace(self, namespace: str) -> "VaultClient":
        """A client of the same server without a token, for another namespace.

        Indexes are shared: what a login wrote is known to a replica that is read afterwards.
        """
        other = VaultClient(self.address, None, self._http, namespace, headers=self._extra)
        other._indexes = self._indexes
        return other

    def _headers(self) -> dict[str, str]:
        headers = {**self._extra, "X-Vault-Request": "true"}
        if self._indexes:
            headers["X-Vault-Index"] = ",".join(self._indexes)
        if self.token:
            headers["X-Vault-Token"] = self.token.reveal_text()
        if self._namespace:
            headers["X-Vault-Namespace"] = self._namespace
        return headers

    async def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        query: Query = (),
    ) -> Fields:
        """Call `/v1/PATH`; returns the reply's JSON, {} for 204. Raises a Refusal by status."""
        reply = await self._send(method, path, body, query)
        if reply.status >= 300:
            raise refusal_of(reply, path)
        return decode_object(reply, path)

    async def download(self, path: str, into: BinaryIO, query: Query = ()) -> None:
        """GET `/v1/PATH` into a file; raises a Refusal by status."""
        url = f"{self.address}/v1/{quote(path, safe='/')}?{urlencode(query)}"
        reply = await self._http.download(url, into, headers=self._headers())
        if reply.status != 200:
            raise refusal_of(reply, path)

    async def upload(self, path: str, file: BinaryIO) -> dict[str, Any]:
        """POST a file to `/v1/PATH`; the reply's JSON, {} for 204. Raises a Refusal by status."""
        headers = {**self._headers(), "Content-Type": "application/octet-stream"}
        url = f"{self.address}/v1/{quote(path, safe='/')}"
        reply = await self._http.upload(url, file, headers=headers)
        if reply.status >= 300:
            raise refusal_of(reply, path)
        return decode_object(reply, path)

    async def _send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        query: Query = (),
    ) -> Response:
        url = f"{self.address}/v1/{quote(path.strip('/'), safe='/*')}"
        if query:
            url += "?" + urlencode(query)
        headers = self._headers()
        if method == "PATCH":
            headers["Content-Type"] = "application/merge-patch+json"
        elif body is not None:
            headers["Content-Type"] = "application/json"
        content = None if body is None else orjson.dumps(body)
        reply = await self._http.request(method, url, headers=headers, body=content)
        if self._indexes is not None:
            self._note_index(reply)
        return reply

    def _note_index(self, reply: Response) -> None:
        for name, value in reply.headers:
            if name.lower() == "x-vault-index" and self._indexes is not None:
                # The newest of a cluster covers the older ones.
                self._indexes[:] = [value]

    async def login(self, path: str, body: Mapping[str, Any]) -> LoginResult:
        """Log in at `auth/...`; does not change this client's own token.

        Raises Denied, or Unavailable(`bad-reply`) for a reply that holds no token.
        """
        reply = await self.request("POST", path, body)
        try:
            auth = reply["auth"]
            return LoginResult(
                token=Secret(auth["client_token"]),
                accessor=str(auth.get("accessor") or ""),
                lease_duration=int(auth["lease_duration"]),
                renewable=bool(auth.get("renewable")),
                policies=tuple(auth.get("policies") or ()),
            )
        except (KeyError, TypeError, ValueError):
            raise Unavailable("bad-reply", f"the reply to {path} holds no token") from None

    async def kv2_read(self, mount: str, path: str, version: int = 0) -> KvVersion:
        """Read a version (0: the newest).

        A deleted or destroyed version is returned without data; raises NotFound when there
        never was one.
        """
        query = {"version": str(version)} if version else {}
        reply = await self._send("GET", f"{mount}/data/{path}", query=query)
        envelope = read_fields(reply.body, f"{mount}/data/{path}")
        data: Fields | None = envelope.get("data") if envelope else None
        if reply.status not in (200, 404) or data is None or "metadata" not in data:
            raise refusal_of(reply, f"{mount}/data/{path}")
        metadata = data.within("metadata")
        return KvVersion(
            data=data.get("data") or {},
            version=int(metadata["version"]),
            created_time=str(metadata["created_time"]),
            deletion_time=str(metadata.get("deletion_time") or ""),
            destroyed=bool(metadata.get("destroyed")),
        )

    async def kv2_write(
        self, mount: str, path: str, data: Mapping[str, Any], cas: int | None = None
    ) -> int:
        """Write a new version and return its number; `cas` is the version it must follow."""
        body: dict[str, Any] = {"data": dict(data)}
        if cas is not None:
            body["options"] = {"cas": cas}
        reply = await self.request("POST", f"{mount}/data/{path}", body)
        return int(reply.within("data")["version"])

    async def kv2_metadata(self, mount: str, path: str) -> dict[str, Any]:
        """The secret's metadata: current_version, versions, custom_metadata and settings."""
        reply = await self.request("GET", f"{mount}/metadata/{path}")
        return reply.within("data")

    async def kv2_delete(self, mount: str, path: str, versions: tuple[int, ...]) -> None:
        """Delete versions; they can be undeleted."""
        await self.request("POST", f"{mount}/delete/{path}", {"versions": list(versions)})

    async def list(self, path: str) -> list[str]:
        """The names under a path, folders with a trailing slash; [] when there are none."""
        try:
            reply = await self.request("GET", path, query={"list": "true"})
        except NotFound:
            return []
        return [str(key) for key in reply.within("data").listed("keys")]

    async def subscribe(
        self, events: str = "kv*", after: str = ""
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield change-feed events (CloudEvents as JSON) until the connection ends.

        `after` is the id of an event: those since come first, of a server that keeps them. An
        event's `position`, where it has one, also says of which history the event is.
        """
        url = self.address.replace("http", "ws", 1)
        path = f"{url}/v1/sys/events/subscribe/{events}?json=true"
        number, _, mark = after.partition("-")
        path += "&" + urlencode({"after": number}) if number else ""
        path += "&" + urlencode({"mark": mark}) if mark else ""
        async for text in self._http.messages(path, headers=self._headers()):
            event = json.loads(text)
            if isinstance(event, dict):
                yield event


def decode_object(reply: Response, path: str) -> Fields:
    """The reply's JSON object; raises Unavailable(`bad-reply`) when it is none."""
    if not reply.body:
        return Fields({}, path)
    value = read_fields(reply.body, path)
    if value is None:
        raise Unavailable("bad-reply", f"the reply to {path} is not a JSON object")
    return value


def refusal_of(reply: Response, path: str) -> Refusal:
    """The Refusal that a status means, with the server's own sentences.

    NotFound is said by a store alone, of what it could hold. A mount that is not there is an
    Invalid(`store-no-route`), a namespace an Invalid(`store-no-namespace`), a page of somebody
    else's an Unavailable(`bad-reply`).
    """
    envelope = read_fields(reply.body, path)
    if reply.status == 404 and envelope is None:
        return Unavailable(
            "bad-reply",
            f"{path}: a page that no store gives (status 404)",
            hint="is the address the store's own?",
        )
    envelope = envelope or Fields({}, path)
    said = _sentences(envelope.get("errors"))
    about = said or _sentences(envelope.get("warnings"))
    if reply.status == 404 and _NO_NAMESPACE.search(about):
        return Invalid(
            "store-no-namespace",
            f"{path}: {about} (status 404)",
            hint="is the namespace spelled as the server has it?",
        )
    if reply.status == 404 and _NO_ROUTE.search(about):
        return Invalid(
            "store-no-route",
            f"{path}: {about} (status 404)",
            hint="is the mount's path right, and is an engine of that kind and version there?",
        )
    family, code = _FAMILIES.get(reply.status, (Unavailable, "store-unavailable"))
    text = said or ("nothing there" if reply.status == 404 else "refused")
    message = f"{path}: {text} (status {reply.status})"
    if family is Throttled:
        return Throttled(code, message, retry_after=retry_after(reply))
    return family(code, message)


def _sentences(given: Any) -> str:  # noqa: ANN401 - JSON
    """The errors in one line: a server wraps some as `1 error occurred:` over a list of bullets."""
    if not isinstance(given, list):
        return ""
    lines = (_WRAPPED.sub("", str(each)).split("\n") for each in given)
    bare = (line.strip().removeprefix("* ") for several in lines for line in several)
    return "; ".join(line for line in bare if line)
