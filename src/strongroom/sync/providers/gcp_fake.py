"""The fake of Google Secret Manager and of Google's identity services; one listener's handler.

It knows secrets with labels, versions with states and aliases, pages of two, filters of the forms
we send, and tokens: key assertions, exchanges, bindings, impersonation and the metadata server.
The official client accepts it.
"""

import base64
import itertools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, parse_qsl, unquote, urlsplit

import orjson

from strongroom.model.clock import rfc3339
from strongroom.wire.http import Request, Response
from strongroom.wire.listener import Exchange

PAGE: Final = 2
# The number that Google names a project by in its replies, whatever it was asked for.
NUMBER: Final = "123456"
_FILTER: Final = re.compile(r"labels\.([^=\s]+)=(\S+)|name:(\S+)|state:(\S+)")


@dataclass
class FakeSecret:
    """`versions` are bytes and a state; `aliases` name versions by number."""

    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    versions: list[list[Any]] = field(default_factory=list)
    aliases: dict[str, int] = field(default_factory=dict)
    rest: dict[str, Any] = field(default_factory=dict)


class GcpFake:
    """Secrets by resource name. `subjects` are tokens that the token services change."""

    def __init__(self) -> None:
        self.secrets: dict[str, FakeSecret] = {}
        self.subjects: Callable[[str, str], bool] = lambda token, audience: False  # noqa: ARG005
        self.tokens: dict[str, str] = {}
        self.issuers: set[str] = set()
        self.metadata: dict[str, str] = {}
        self.now: Callable[[], float] = lambda: 0.0
        self.answer_with: Response | None = None
        self.requests: list[Request] = []
        self._numbers = itertools.count(1)

    def put(self, name: str, value: bytes, labels: Mapping[str, str] | None = None) -> None:
        """A new version of a secret by its whole name."""
        secret = self.secrets.setdefault(name, FakeSecret())
        secret.versions.append([value, "ENABLED"])
        if labels is not None:
            secret.labels = dict(labels)

    def token(self, who: str) -> str:
        """A token that the services accept."""
        made = f"google-{next(self._numbers)}"
        self.tokens[made] = who
        return made

    def __call__(self, request: Request, exchange: Exchange) -> None:
        self.requests.append(request)
        exchange.reply(self._answer(request))

    def _answer(self, request: Request) -> Response:
        parts = urlsplit(request.target)
        path, query = parts.path, dict(parse_qsl(parts.query))
        identity = self._identity(request, path)
        if identity is not None:
            return identity
        if self.answer_with:
            return self.answer_with
        if request.headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
            return _error(401, "UNAUTHENTICATED")
        body = orjson.loads(request.body) if request.body else {}
        name = unquote(path.removeprefix("/v1/"))
        if ":generateAccessToken" in name:
            who = name.rpartition("/")[2].partition(":")[0]
            expires = rfc3339(self.now() + 3600)
            return _said({"accessToken": self.token(who), "expireTime": expires})
        if ":signJwt" in name:
            # Good enough for who only looks at the claims; nobody could check a signature.
            claims = base64.urlsafe_b64encode(body["payload"].encode()).decode().rstrip("=")
            return _said({"keyId": "k", "signedJwt": f"e30.{claims}.c2ln"})
        return self._secret_manager(request.method, name, query, body)

    # who somebody is

    def _identity(self, request: Request, path: str) -> Response | None:
        if path.startswith("/computeMetadata/v1/"):
            return self._machine(request, path.removeprefix("/computeMetadata/v1/"))
        if path == "/token":
            return self._key(request)
        if path == "/v1/token":
            form = {key: values[0] for key, values in parse_qs(request.body.decode()).items()}
            return self._exchanged(form)
        if path == "/v1/identitybindingtoken":
            return self._exchanged(orjson.loads(request.body))
        return None

    def _machine(self, request: Request, what: str) -> Response:
        if request.headers.get("metadata-flavor") != "Google":
            return _error(403, "FORBIDDEN")
        if what.endswith("/token"):
            return _said({"access_token": self.token("machine"), "expires_in": 3600})
        if what not in self.metadata:
            return _error(404, "NOT_FOUND")
        return Response(200, self.metadata[what].encode(), content_type="text/plain")

    def _key(self, request: Request) -> Response:
        form = {key: values[0] for key, values in parse_qs(request.body.decode()).items()}
        claims = _claims(form.get("assertion", ".."))
        if claims.get("iss") not in self.issuers:
            return Response(400, b'{"error": "invalid_grant", "error_description": "who?"}')
        return _said({"access_token": self.token(str(claims["iss"])), "expires_in": 3600})

    def _exchanged(self, form: Mapping[str, str]) -> Response:
        if not self.subjects(form.get("subject_token", ""), form.get("audience", "")):
            return Response(400, b'{"error": "invalid_grant", "error_description": "subject"}')
        return _said({"access_token": self.token("federated"), "expires_in": 3600})

    # secrets

    def _secret_manager(
        self, method: str, path: str, query: Mapping[str, str], body: Mapping[str, Any]
    ) -> Response:
        name, _, rest = path.partition("/versions")
        name, _, verb = name.partition(":")
        if name.endswith("/secrets"):
            if method == "POST":
                return self._created(f"{name}/{query['secretId']}", body)
            return self._listed(name, query)
        secret = self.secrets.get(name)
        if secret is None:
            return _error(404, "NOT_FOUND", f"Secret [{name}] not found or has no versions.")
        if rest.endswith(":access"):
            return self._accessed(name, secret, rest[1:].removesuffix(":access"))
        if path.endswith("/versions"):
            return self._versions(name, secret, query)
        if verb == "addVersion":
            secret.versions.append([base64.b64decode(body["payload"]["data"]), "ENABLED"])
            return _said(self._version(name, len(secret.versions)))
        if method == "DELETE":
            return self._deleted(name, secret, query)
        if method == "PATCH":
            for each in query["updateMask"].split(","):
                setattr(secret, each, dict(body.get(each) or {}))
        return _said(self._described(name, secret))

    def _deleted(self, name: str, secret: FakeSecret, query: Mapping[str, str]) -> Response:
        if query.get("etag") not in (None, _etag(secret)):
            return _error(409, "ABORTED", "etag")
        del self.secrets[name]
        return _said({})

    def _created(self, name: str, body: Mapping[str, Any]) -> Response:
        if name in self.secrets:
            return _error(409, "ALREADY_EXISTS")
        if ("/locations/" in name) == ("replication" in body):
            return _error(400, "INVALID_ARGUMENT", "replication goes with global secrets alone")
        rest = {key: value for key, value in body.items() if key in ("replication", "topics")}
        made = FakeSecret(dict(body.get("labels") or {}), dict(body.get("annotations") or {}))
        made.rest = rest
        self.secrets[name] = made
        return _said(self._described(name, made))

    def _accessed(self, name: str, secret: FakeSecret, version: str) -> Response:
        number = secret.aliases.get(version, 0)
        if version == "latest":
            number = len(secret.versions)
        elif version.isdigit():
            number = int(version)
        if not 1 <= number <= len(secret.versions):
            return _error(404, "NOT_FOUND", f"Secret Version [{name}/versions/{version}]")
        value, state = secret.versions[number - 1]
        if state != "ENABLED":
            return _error(400, "FAILED_PRECONDITION", f"the version is in {state} state.")
        payload = {"data": base64.b64encode(value).decode()}
        return _said({"name": self._version(name, number)["name"], "payload": payload})

    def _versions(self, name: str, secret: FakeSecret, query: Mapping[str, str]) -> Response:
        wanted = query.get("filter", "").removeprefix("state:")
        found = [
            {**self._version(name, at), "state": state}
            for at, (_, state) in reversed(list(enumerate(secret.versions, 1)))
            if not wanted or state == wanted
        ]
        return _page("versions", found, query)

    def _listed(self, parent: str, query: Mapping[str, str]) -> Response:
        conditions = _FILTER.findall(query.get("filter", ""))
        found = [
            self._described(name, secret)
            for name, secret in sorted(self.secrets.items())
            if name.startswith(f"{parent}/")
            and all(
                secret.labels.get(label) == value if label else part in name.rpartition("/")[2]
                for label, value, part, _ in conditions
            )
        ]
        return _page("secrets", found, query)

    def _described(self, name: str, secret: FakeSecret) -> dict[str, Any]:
        return {
            "name": _numbered(name),
            "labels": secret.labels,
            "annotations": secret.annotations,
            "etag": _etag(secret),
            **secret.rest,
        }

    @staticmethod
    def _version(name: str, number: int) -> dict[str, Any]:
        return {"name": f"{_numbered(name)}/versions/{number}", "state": "ENABLED"}


def _numbered(name: str) -> str:
    return re.sub(r"^projects/[^/]+", f"projects/{NUMBER}", name)


def _etag(secret: FakeSecret) -> str:
    return f'"{len(secret.versions)}-{len(secret.labels)}"'


def _page(field_name: str, found: list[dict[str, Any]], query: Mapping[str, str]) -> Response:
    start = int(query.get("pageToken") or 0)
    said: dict[str, Any] = {field_name: found[start : start + PAGE]}
    if len(found) > start + PAGE:
        said["nextPageToken"] = str(start + PAGE)
    return _said(said)


def _claims(token: str) -> dict[str, Any]:
    middle = token.split(".")[1]
    try:
        return dict(orjson.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4))))
    except ValueError:
        return {}


def _said(body: Mapping[str, Any]) -> Response:
    return Response(200, orjson.dumps(dict(body)))


def _error(status: int, name: str, message: str = "") -> Response:
    said = {"error": {"code": status, "message": message or name.lower(), "status": name}}
    return Response(status, orjson.dumps(said))
