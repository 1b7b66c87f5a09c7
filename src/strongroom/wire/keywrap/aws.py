"""AWS KMS. The associated data goes in as a hash in the encryption context.

API: https://docs.aws.amazon.com/kms/latest/APIReference/API_Encrypt.html.
"""

import base64
import hashlib
from typing import Any

from strongroom.model.errors import Denied, Invalid
from strongroom.wire.aws import AwsJson
from strongroom.wire.client import HttpClient


class AwsKmsWrapper:
    """One key, by its ARN or alias."""

    def __init__(self, name: str, key: str, api: AwsJson, http: HttpClient) -> None:
        self.name = name
        self._key = key
        self._api = api
        self._http = http

    async def identity(self) -> str:
        found = await self._api.call("TrentService.DescribeKey", {"KeyId": self._key})
        metadata = found["KeyMetadata"]
        if not metadata.get("Enabled", True):
            raise Denied("key-disabled", f"the key is {metadata.get('KeyState', 'disabled')}")
        # The ARN of the key itself: an alias may come to point to another.
        return f"aws/{metadata['Arn']}"

    async def wrap(self, secret: bytes, aad: bytes) -> bytes:
        body = {"KeyId": self._key, "Plaintext": _b64(secret), "EncryptionContext": _context(aad)}
        found = await self._api.call("TrentService.Encrypt", body)
        return base64.b64decode(found["CiphertextBlob"])

    async def unwrap(self, wrapped: bytes, aad: bytes) -> bytes:
        # Without KeyId: what an alias pointed to at the time still opens.
        body: dict[str, Any] = {
            "CiphertextBlob": _b64(wrapped),
            "EncryptionContext": _context(aad),
        }
        try:
            found = await self._api.call("TrentService.Decrypt", body)
        except Invalid as refusal:
            raise Denied("not-unwrapped", refusal.message) from None
        return base64.b64decode(found["Plaintext"])

    async def close(self) -> None:
        await self._http.close()


def _context(aad: bytes) -> dict[str, str]:
    return {"strongroom": hashlib.sha256(aad).hexdigest()}


def _b64(content: bytes) -> str:
    return base64.b64encode(content).decode()
