"""Azure Key Vault, an RSA key: it wraps a fresh key, under which the secret is sealed with its AAD.

Key Vault's wrapKey takes no associated data, so it is bound one step further in.
API: https://learn.microsoft.com/rest/api/keyvault/keys/wrap-key.
"""

import base64
import struct
from collections.abc import Mapping
from typing import Any, Final

import orjson

from strongroom.crypto.aead import Aead, Tampered, new_key
from strongroom.model.errors import Denied, Invalid
from strongroom.wire.client import HttpClient
from strongroom.wire.oauth import BearerToken
from strongroom.wire.rest import refusal_of

API_VERSION: Final = "7.4"
ALGORITHM: Final = "RSA-OAEP-256"
_LENGTHS: Final = struct.Struct(">HH")


class AzureKeyWrapper:
    """One key of one vault; wraps under its newest version and remembers which."""

    def __init__(
        self, name: str, vault: str, key: str, token: BearerToken, http: HttpClient
    ) -> None:
        self.name = name
        self._vault = vault.rstrip("/")
        self._key = key
        self._token = token
        self._http = http

    async def _call(self, method: str, path: str, body: Mapping[str, str] | None = None) -> Any:  # noqa: ANN401 - JSON
        headers = {**await self._token.header(), "Content-Type": "application/json"}
        content = None if body is None else orjson.dumps(body)
        url = f"{self._vault}/keys/{path}?api-version={API_VERSION}"
        reply = await self._http.request(method, url, headers=headers, body=content)
        if reply.status == 401:
            self._token.refused()
        if reply.status != 200:
            raise refusal_of(reply, "azure")
        return orjson.loads(reply.body)

    async def _version(self) -> str:
        found = await self._call("GET", self._key)
        if not found.get("attributes", {}).get("enabled", True):
            raise Denied("key-disabled", f"the key {self._key} is disabled")
        return str(found["key"]["kid"]).rpartition("/")[2]

    async def identity(self) -> str:
        return f"azure/{self._vault}/{self._key}/{await self._version()}"

    async def wrap(self, secret: bytes, aad: bytes) -> bytes:
        version, inner = await self._version(), new_key()
        body = {"alg": ALGORITHM, "value": _b64url(inner)}
        found = await self._call("POST", f"{self._key}/{version}/wrapkey", body)
        wrapped, named = _unb64url(found["value"]), version.encode()
        head = _LENGTHS.pack(len(named), len(wrapped))
        return head + named + wrapped + Aead(inner).seal(secret, aad)

    async def unwrap(self, wrapped: bytes, aad: bytes) -> bytes:
        try:
            named, length = _LENGTHS.unpack_from(wrapped)
            rest = wrapped[_LENGTHS.size :]
            version = rest[:named].decode("ascii")
            body = {"alg": ALGORITHM, "value": _b64url(rest[named : named + length])}
            found = await self._call("POST", f"{self._key}/{version}/unwrapkey", body)
            return Aead(_unb64url(found["value"])).open(rest[named + length :], aad)
        except Invalid as refusal:
            raise Denied(
                "not-unwrapped", f"Key Vault does not open this: {refusal.message}"
            ) from None
        except (struct.error, ValueError, Tampered):
            raise Denied("not-unwrapped", "Key Vault does not open this") from None

    async def close(self) -> None:
        await self._http.close()


def _b64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _unb64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
