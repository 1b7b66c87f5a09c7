"""The fake of Key Vault: a listener's handler that the official client accepts as well.

It knows RSA keys with versions, wrapKey and unwrapKey, the 401 challenge, and one bearer token.
"""

import base64
from typing import Any, Final

import orjson

from strongroom.crypto.aead import Tampered
from strongroom.crypto.signatures import new_key_pair, rsa_decrypt, rsa_encrypt, rsa_public_numbers
from strongroom.model.errors import Invalid
from strongroom.wire.http import Request, Response
from strongroom.wire.listener import Exchange

TOKEN: Final = "azure-fake-token"  # noqa: S105 - a fake's
CHALLENGE: Final = (
    'Bearer authorization="https://login.microsoftonline.com/tenant",'
    ' resource="https://vault.azure.net"'
)
RSA: Final = "rsa-2048"
# How an application shows who it is: by a secret, or by a token of an issuer that it trusts.
PROOFS: Final = (b"client_secret=", b"client_assertion=federated-proof")


class AzureVaultFake:
    """Keys by name; `address` is what key ids begin with."""

    def __init__(self) -> None:
        self.address = ""
        self.keys: dict[str, dict[str, bytes]] = {}
        self.enabled = True
        self.down = False
        self.token = TOKEN  # What it takes; a token that was given before has ended then.

    def add(self, name: str) -> None:
        """A key, or a new version of one."""
        versions = self.keys.setdefault(name, {})
        versions[f"{len(versions) + 1:032x}"] = new_key_pair(RSA)

    def __call__(self, request: Request, exchange: Exchange) -> None:
        exchange.reply(self._answer(request))

    def _answer(self, request: Request) -> Response:
        path = request.target.partition("?")[0]
        if self.down:
            return _error(503, "ServiceUnavailable")
        if path.endswith("/oauth2/v2.0/token"):
            good = any(proof in request.body for proof in PROOFS)
            said = {"access_token": self.token, "expires_in": 3600, "token_type": "Bearer"}
            return Response(200, orjson.dumps(said)) if good else _error(400, "invalid_request")
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return Response(401, b"", (("WWW-Authenticate", CHALLENGE),))
        _, _, rest = path.partition("/keys/")
        name, _, rest = rest.partition("/")
        version, _, verb = rest.partition("/")
        versions = self.keys.get(name)
        if not versions or (version and version not in versions):
            return _error(404, "KeyNotFound")
        chosen = version or list(versions)[-1]
        if not verb:
            return Response(200, orjson.dumps(self._described(name, chosen)))
        if not self.enabled:
            return _error(403, "Forbidden")
        return self._used(name, chosen, verb, orjson.loads(request.body))

    def _described(self, name: str, version: str) -> dict[str, Any]:
        modulus, exponent = rsa_public_numbers(self.keys[name][version])
        key = {
            "kid": f"{self.address}/keys/{name}/{version}",
            "kty": "RSA",
            "key_ops": ["wrapKey", "unwrapKey"],
            "n": _b64url(modulus),
            "e": _b64url(exponent),
        }
        return {"key": key, "attributes": {"enabled": self.enabled, "created": 1, "updated": 1}}

    def _used(self, name: str, version: str, verb: str, body: dict[str, Any]) -> Response:
        pair = self.keys[name][version]
        value = _unb64url(body["value"])
        if body.get("alg") != "RSA-OAEP-256" or verb.lower() not in ("wrapkey", "unwrapkey"):
            return _error(400, "BadParameter")
        try:
            work = rsa_encrypt if verb.lower() == "wrapkey" else rsa_decrypt
            made = work(RSA, pair, value)
        except (Tampered, Invalid):
            return _error(400, "BadParameter")
        said = {"kid": f"{self.address}/keys/{name}/{version}", "value": _b64url(made)}
        return Response(200, orjson.dumps(said))


def _error(status: int, code: str) -> Response:
    return Response(status, orjson.dumps({"error": {"code": code, "message": code}}))


def _b64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _unb64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
