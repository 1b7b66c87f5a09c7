"""Google Cloud KMS, a symmetric key.

API: https://cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys.
"""

import base64
from collections.abc import Mapping
from typing import Any, Final

import orjson

from strongroom.model.errors import Denied, Invalid
from strongroom.wire.client import HttpClient
from strongroom.wire.oauth import BearerToken
from strongroom.wire.rest import refusal_of

ENDPOINT: Final = "https://cloudkms.googleapis.com"


class GoogleKmsWrapper:
    """One key: `projects/P/locations/L/keyRings/R/cryptoKeys/K`."""

    def __init__(
        self, name: str, key: str, token: BearerToken, http: HttpClient, endpoint: str = ENDPOINT
    ) -> None:
        self.name = name
        self._key = key.strip("/")
        self._token = token
        self._http = http
        self._base = f"{endpoint.rstrip('/')}/v1/{self._key}"

    async def _call(self, method: str, url: str, body: Mapping[str, str] | None = None) -> Any:  # noqa: ANN401 - JSON
        headers = {**await self._token.header(), "Content-Type": "application/json"}
        content = None if body is None else orjson.dumps(body)
        reply = await self._http.request(method, url, headers=headers, body=content)
        if reply.status == 401:
            self._token.refused()
        if reply.status != 200:
            raise refusal_of(reply, "google")
        return orjson.loads(reply.body)

    async def identity(self) -> str:
        found = await self._call("GET", self._base)
        primary = found.get("primary") or {}
        if primary.get("state") != "ENABLED":
            raise Denied("key-disabled", f"the primary version is {primary.get('state')}")
        return f"google/{primary['name']}"

    async def wrap(self, secret: bytes, aad: bytes) -> bytes:
        body = {"plaintext": _b64(secret), "additionalAuthenticatedData": _b64(aad)}
        found = await self._call("POST", f"{self._base}:encrypt", body)
        return base64.b64decode(found["ciphertext"])

    async def unwrap(self, wrapped: bytes, aad: bytes) -> bytes:
        body = {"ciphertext": _b64(wrapped), "additionalAuthenticatedData": _b64(aad)}
        try:
            found = await self._call("POST", f"{self._base}:decrypt", body)
        except Invalid as refusal:
            # A version that was disabled is a 400 as well, and only the sentence says so.
            raise Denied(
                "not-unwrapped", f"Cloud KMS does not open this: {refusal.message}"
            ) from None
        return base64.b64decode(found["plaintext"])

    async def close(self) -> None:
        await self._http.close()


def _b64(content: bytes) -> str:
    return base64.b64encode(content).decode()
