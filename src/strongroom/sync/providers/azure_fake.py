"""The fake of Azure Key Vault and of Entra's token endpoints; one listener's handler.

It knows secrets, keys and certificates with versions, tags and soft deletion, pages of two, the
401 challenge, and tokens for a client's secret, for an assertion and for the machine. The
official clients accept it.
"""

import base64
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, parse_qsl, urlsplit

import orjson

from strongroom.crypto.pem_keys import leaf_der
from strongroom.wire.http import Request, Response
from strongroom.wire.listener import Exchange

PAGE: Final = 2
RESOURCE: Final = "https://vault.azure.net"
CHALLENGE: Final = (
    f'Bearer authorization="https://login.microsoftonline.com/tenant", resource="{RESOURCE}"'
)
_PRIVATE: Final = ("d", "p", "q", "dp", "dq", "qi", "k")


@dataclass
class FakeObject:
    """The bundles of each version, oldest first; `deleted` while it can be recovered."""

    versions: list[dict[str, Any]] = field(default_factory=list)
    deleted: bool = False


class AzureFake:
    """Objects by collection and name; `address` is what ids begin with.

    `resource` is what tokens are for.
    """

    def __init__(self, resource: str = RESOURCE) -> None:
        self.address = ""
        self.resource = resource
        self.objects: dict[tuple[str, str], FakeObject] = {}
        self.secrets: dict[str, str] = {}
        self.assertions: Callable[[str, str], bool] = lambda client, assertion: False  # noqa: ARG005
        self.machines: set[str] = set()
        self.tokens: dict[str, str] = {}
        self.answer_with: Response | None = None
        self.requests: list[Request] = []
        # How many reads it takes until a recovered secret is there.
        self.recovery_reads = 0
        self._numbers = itertools.count(1)

    def put(self, kind: str, name: str, **bundle: Any) -> None:  # noqa: ANN401 - JSON
        """A new version of an object."""
        known = self.objects.setdefault((kind, name), FakeObject())
        number = f"{len(known.versions) + 1:032x}"
        bundle.setdefault("attributes", {}).setdefault("enabled", True)
        bundle["attributes"] |= {"created": 1_700_000_000, "updated": 1_700_000_000}
        address = f"{self.address}/{kind}/{name}/{number}"
        if kind == "keys":
            bundle["key"] = {**bundle["key"], "kid": address}
        else:
            bundle["id"] = address
        if kind == "certificates":
            # A certificate has a key and a secret of its name.
            bundle |= {
                "kid": address.replace(kind, "keys"),
                "sid": address.replace(kind, "secrets"),
            }
        bundle["tags"] = dict(bundle.get("tags") or {})
        known.versions.append(bundle)

    def token(self, who: str) -> str:
        """A token that the vault accepts."""
        made = f"azure-{next(self._numbers)}"
        self.tokens[made] = who
        return made

    def __call__(self, request: Request, exchange: Exchange) -> None:
        self.requests.append(request)
        exchange.reply(self._answer(request))

    def _answer(self, request: Request) -> Response:
        parts = urlsplit(request.target)
        query = dict(parse_qsl(parts.query))
        if parts.path.endswith("/oauth2/v2.0/token"):
            return self._granted(parts.path.split("/")[1], request)
        if parts.path == "/metadata/identity/oauth2/token":
            return self._machine(request, query)
        if self.answer_with:
            return self.answer_with
        if request.headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
            return Response(401, b"", (("WWW-Authenticate", CHALLENGE),))
        if "api-version" not in query:
            return _error(400, "BadParameter", "api-version is needed")
        body = orjson.loads(request.body) if request.body else {}
        return self._vault(request.method, parts.path.strip("/").split("/"), query, body)

    # who somebody is

    def _granted(self, tenant: str, request: Request) -> Response:
        form = {key: values[0] for key, values in parse_qs(request.body.decode()).items()}
        client = form.get("client_id", "")
        secret, assertion = form.get("client_secret"), form.get("client_assertion")
        good = secret is not None and self.secrets.get(client) == secret
        good = good or (assertion is not None and self.assertions(client, assertion))
        if not good or form.get("scope") != f"{self.resource}/.default":
            said = {"error": "invalid_client", "error_description": "AADSTS7000215"}
            return Response(401, orjson.dumps(said))
        return _said({"access_token": self.token(f"{tenant}/{client}"), "expires_in": 3600})

    def _machine(self, request: Request, query: Mapping[str, str]) -> Response:
        client = query.get("client_id", "")
        if request.headers.get("metadata") != "true" or client not in self.machines:
            return Response(400, b'{"error": "invalid_request"}')
        said = {"access_token": self.token(f"machine {client}"), "expires_in": "3600"}
        return _said(said)

    # objects

    def _vault(
        self, method: str, path: list[str], query: Mapping[str, str], body: dict[str, Any]
    ) -> Response:
        kind, *rest = path
        if not rest:
            return self._listed(kind, query)
        name, verb = rest[0], rest[1] if len(rest) > 1 else ""
        if kind.startswith("deleted"):
            return self._deleted(kind.removeprefix("deleted"), name, verb)
        known = self.objects.get((kind, name))
        if method in ("PUT", "POST"):
            return self._written(kind, name, known, body)
        if known is not None and known.deleted and self.recovery_reads > 0:
            self.recovery_reads -= 1
            if self.recovery_reads == 0:
                known.deleted = False
        if known is None or known.deleted:
            return _error(404, f"{kind.title()}NotFound", f"{name} was not found in this vault")
        if method == "DELETE":
            known.deleted = True
            return _said(
                known.versions[-1] | {"recoveryId": f"{self.address}/deleted{kind}/{name}"}
            )
        if not verb:
            return _said(known.versions[-1])
        found = [each for each in known.versions if _id(each).endswith(f"/{verb}")]
        return _said(found[0]) if found else _error(404, "NotFound", f"{name} has no such version")

    def _deleted(self, kind: str, name: str, verb: str) -> Response:
        known = self.objects.get((kind, name))
        if known is None or not known.deleted:
            return _error(404, "NotFound", f"{name} is not deleted")
        if verb == "recover":
            known.deleted = self.recovery_reads > 0
        return _said(known.versions[-1])

    def _written(
        self, kind: str, name: str, known: FakeObject | None, body: dict[str, Any]
    ) -> Response:
        if known is not None and known.deleted:
            said = {"code": "Conflict", "innererror": {"code": "ObjectIsDeletedButRecoverable"}}
            return Response(409, orjson.dumps({"error": said}))
        if kind == "certificates":
            body = {**body, "cer": _der(body.pop("value"))}
        elif kind == "keys":
            body["key"] = {part: each for part, each in body["key"].items() if part not in _PRIVATE}
        self.put(kind, name, **body)
        return _said(self.objects[kind, name].versions[-1])

    def _listed(self, kind: str, query: Mapping[str, str]) -> Response:
        found = [
            {**each.versions[-1], "id": f"{self.address}/{kind}/{name}", "value": None}
            for (of, name), each in sorted(self.objects.items())
            if of == kind and not each.deleted
        ]
        start = int(query.get("$skiptoken") or 0)
        said: dict[str, Any] = {"value": found[start : start + PAGE]}
        if len(found) > start + PAGE:
            version = query["api-version"]
            more = f"?api-version={version}&$skiptoken={start + PAGE}"
            said["nextLink"] = f"{self.address}/{kind}{more}"
        return _said(said)


def _id(bundle: Mapping[str, Any]) -> str:
    return str(bundle.get("id") or bundle["key"]["kid"])


def _der(value: str) -> str:
    """The certificate of PEM, as it is or in base64, or of a PKCS #12 file; else what came."""
    content = value.encode() if value.startswith("-----") else base64.b64decode(value)
    leaf = leaf_der(content)
    return base64.b64encode(leaf).decode() if leaf else value


def _said(body: Mapping[str, Any]) -> Response:
    return Response(200, orjson.dumps(dict(body)))


def _error(status: int, code: str, message: str) -> Response:
    return Response(status, orjson.dumps({"error": {"code": code, "message": message}}))
