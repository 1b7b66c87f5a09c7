"""The fake of a Vault server: KV v1 and v2, and logins that compare what they were sent.

A listener's handler. It has no policies: a token that it gave may do everything until `revoked`.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import orjson

from strongroom.model.clock import rfc3339
from strongroom.wire.http import Request, Response
from strongroom.wire.listener import Exchange

Accepts = Callable[[Mapping[str, Any], Request], bool]
_CREATED: Final = rfc3339(0)


class VaultFake:
    """`mounts` says which version a KV mount has; `logins` what each login path accepts."""

    def __init__(self) -> None:
        self.mounts = {"secret": "v2", "old": "v1"}
        self.logins: dict[str, Accepts] = {}
        # Auth methods that are not enabled.
        self.absent: set[str] = set()
        self.tokens: set[str] = {"fake-root"}
        self.requests: list[Request] = []
        self.lease_seconds = 3600
        self.answer_with: Response | None = None
        # How many writes this node has seen, which replies say; a replica may be behind.
        self.writes = 0
        self.unseen = 0
        self._data: dict[str, list[dict[str, Any]]] = {}
        self._metadata: dict[str, dict[str, str]] = {}
        self._numbers = itertools.count(1)

    def __call__(self, request: Request, exchange: Exchange) -> None:
        self.requests.append(request)
        exchange.reply(self.answer_with or self._indexed(request))

    def _indexed(self, request: Request) -> Response:
        """A replica that is asked for more than it has seen refuses, as Vault's does."""
        wanted = int(request.headers.get("x-vault-index", "0"))
        forwards = request.headers.get("x-vault-inconsistent") == "forward-active-node"
        if wanted > self.writes - self.unseen and not forwards:
            return _said(412, errors=["required index state not present"])
        if request.method != "GET":
            self.writes += 1
        reply = self._answer(request)
        return replace(reply, headers=(*reply.headers, ("X-Vault-Index", str(self.writes))))

    @property
    def paths(self) -> list[str]:
        """What was asked for, without the version of the API."""
        return [each.target.removeprefix("/v1/") for each in self.requests]

    def _answer(self, request: Request) -> Response:
        path, _, query = request.target.removeprefix("/v1/").partition("?")
        body = orjson.loads(request.body) if request.body else {}
        if path.startswith("auth/") and path != "auth/token/lookup-self":
            return self._logged_in(path, body, request)
        if request.headers.get("x-vault-token") not in self.tokens:
            return _said(403, errors=["permission denied"])
        mount, _, rest = path.partition("/")
        if path == "auth/token/lookup-self":
            return _said(200, data={"ttl": self.lease_seconds})
        if mount not in self.mounts:
            return _no_route(path)
        kind, _, name = rest.partition("/")
        if self.mounts[mount] == "v1":
            kind, name = "v1", rest
        if "list=true" in query:
            return self._listed(f"{mount}/{name}")
        if kind == "data" and request.method == "GET":
            return self._v2_read(f"{mount}/{name}", query.removeprefix("version="))
        work = {"v1": self._v1, "data": self._v2_write, "metadata": self._v2_metadata}.get(kind)
        return (work or _unknown)(request.method, f"{mount}/{name}", body)

    def _logged_in(self, path: str, body: Mapping[str, Any], request: Request) -> Response:
        accepts = self.logins.get(path)
        if accepts is None and path.split("/")[1] in self.absent:
            return _no_route(path)
        if accepts is None or not accepts(body, request):
            return _said(403, errors=["permission denied"])
        token = f"fake-{next(self._numbers)}"
        self.tokens.add(token)
        auth = {"client_token": token, "lease_duration": self.lease_seconds, "renewable": True}
        return _said(200, auth=auth)

    def _listed(self, folder: str) -> Response:
        start = folder if folder.endswith("/") else folder + "/"
        below = {each.removeprefix(start) for each in self._data if each.startswith(start)}
        keys = sorted({f"{head}/" if rest else head for head, rest in map(_split, below)})
        return _said(200, data={"keys": keys}) if keys else _said(404, errors=[])

    def _v1(self, method: str, path: str, body: dict[str, Any]) -> Response:
        if method == "DELETE":
            self._data.pop(path, None)
            return Response(204)
        if method != "GET":
            self._data[path] = [body]
            return Response(204)
        return (
            _said(200, data=self._data[path][-1]) if path in self._data else _said(404, errors=[])
        )

    def _v2_read(self, path: str, asked: str) -> Response:
        versions = self._data.get(path) or []
        number = int(asked or len(versions))
        if not 1 <= number <= len(versions):
            return _said(404, errors=[])
        return _said(200, data={"data": versions[number - 1], "metadata": _envelope(number)})

    def _v2_write(self, method: str, path: str, body: dict[str, Any]) -> Response:  # noqa: ARG002
        versions = self._data.setdefault(path, [])
        if (body.get("options") or {}).get("cas", len(versions)) != len(versions):
            said = "check-and-set parameter did not match the current version"
            return _said(400, errors=[said])
        versions.append(body["data"])
        return _said(200, data=_envelope(len(versions)))

    def _v2_metadata(self, method: str, path: str, body: dict[str, Any]) -> Response:
        if method == "DELETE":
            self._data.pop(path, None)
            self._metadata.pop(path, None)
            return Response(204)
        if method != "GET":
            self._metadata[path] = body["custom_metadata"]
            return Response(204)
        if path not in self._data:
            return _said(404, errors=[])
        said = {
            "created_time": _CREATED,
            "current_version": len(self._data[path]),
            "delete_version_after": "0s",
            "custom_metadata": self._metadata.get(path),
        }
        return _said(200, data=said)


def _split(name: str) -> tuple[str, str]:
    head, _, rest = name.partition("/")
    return head, rest


def _envelope(number: int) -> dict[str, Any]:
    return {
        "version": number,
        "created_time": _CREATED,
        "deletion_time": "",
        "destroyed": False,
    }


def _unknown(method: str, path: str, body: dict[str, Any]) -> Response:  # noqa: ARG001
    return _said(405, errors=["unsupported operation"])


def _no_route(path: str) -> Response:
    return _said(404, errors=[f'no handler for route "{path}". route entry not found.'])


def _said(status: int, **fields: Any) -> Response:  # noqa: ANN401 - JSON
    return Response(status, orjson.dumps(fields))
