"""The fake of Cloud KMS: a listener's handler that the official client accepts as well.

It knows one key ring's keys, versions, associated data and disabled keys, and one bearer token.
"""

import base64
from typing import Any, Final

import orjson

from strongroom.crypto.aead import Aead, Tampered, new_key
from strongroom.wire.http import Request, Response
from strongroom.wire.listener import Exchange

TOKEN: Final = "google-fake-token"  # noqa: S105 - a fake's


class GoogleKmsFake:
    """Keys by resource name; made with `add`, given new versions with `rotate`."""

    def __init__(self) -> None:
        self.keys: dict[str, list[Aead]] = {}
        self.enabled = True
        self.down = False
        self.token = TOKEN  # What it takes; a token that was given before has ended then.

    def add(self, name: str) -> None:
        """A key with one version."""
        self.keys[name] = [Aead(new_key())]

    def rotate(self, name: str) -> None:
        """One more version, which is the primary one from now on."""
        self.keys[name].append(Aead(new_key()))

    def __call__(self, request: Request, exchange: Exchange) -> None:
        exchange.reply(self._answer(request))

    def _answer(self, request: Request) -> Response:
        path = request.target.partition("?")[0]
        if self.down:
            return _error(503, "UNAVAILABLE")
        if path == "/token" and request.method == "POST":
            good = b"assertion=" in request.body
            said = {"access_token": self.token, "expires_in": 3600, "token_type": "Bearer"}
            return Response(200, orjson.dumps(said)) if good else _error(400, "INVALID_ARGUMENT")
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return _error(401, "UNAUTHENTICATED")
        name, _, verb = path.removeprefix("/v1/").partition(":")
        versions = self.keys.get(name.partition("/cryptoKeyVersions/")[0])
        if versions is None:
            return _error(404, "NOT_FOUND")
        if not verb:
            return Response(200, orjson.dumps(self._described(name, versions)))
        if not self.enabled:
            return _error(400, "FAILED_PRECONDITION")
        body = orjson.loads(request.body)
        aad = base64.b64decode(body.get("additionalAuthenticatedData", ""))
        if verb == "encrypt":
            return self._encrypt(name, versions, body, aad)
        return self._decrypt(versions, body, aad)

    def _described(self, name: str, versions: list[Aead]) -> dict[str, Any]:
        primary = {
            "name": f"{name}/cryptoKeyVersions/{len(versions)}",
            "state": "ENABLED" if self.enabled else "DISABLED",
        }
        return {"name": name, "purpose": "ENCRYPT_DECRYPT", "primary": primary}

    def _encrypt(
        self, name: str, versions: list[Aead], body: dict[str, Any], aad: bytes
    ) -> Response:
        number = len(versions)
        sealed = bytes([number]) + versions[-1].seal(base64.b64decode(body["plaintext"]), aad)
        said = {
            "name": f"{name}/cryptoKeyVersions/{number}",
            "ciphertext": base64.b64encode(sealed).decode(),
        }
        return Response(200, orjson.dumps(said))

    def _decrypt(self, versions: list[Aead], body: dict[str, Any], aad: bytes) -> Response:
        sealed = base64.b64decode(body["ciphertext"])
        try:
            plain = versions[sealed[0] - 1].open(sealed[1:], aad)
        except (Tampered, IndexError):
            return _error(400, "INVALID_ARGUMENT")
        said = {"plaintext": base64.b64encode(plain).decode(), "usedPrimary": True}
        return Response(200, orjson.dumps(said))


def _error(status: int, name: str) -> Response:
    said = {"error": {"code": status, "message": name.lower(), "status": name}}
    return Response(status, orjson.dumps(said))
