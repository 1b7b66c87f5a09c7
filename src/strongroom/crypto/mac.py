"""HMAC-SHA256 (RFC 2104) with the key absorbed once.

The two keyed states are copied for each message, which costs a third of keying anew.
"""

import hashlib
import hmac
from typing import Final

from strongroom.model.errors import Invalid

BLOCK_BYTES: Final = 64


class KeyedHmac:
    """One key; many messages."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        if len(key) > BLOCK_BYTES:
            key = hashlib.sha256(key).digest()
        block = key.ljust(BLOCK_BYTES, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def digest(self, data: bytes) -> bytes:
        """32 bytes."""
        inner = self._inner.copy()
        inner.update(data)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()

    def hex(self, data: bytes) -> str:
        """64 hexadecimal digits."""
        return self.digest(data).hex()

    def vault_form(self, data: bytes) -> str:
        """`hmac-sha256:<hex>`, as audit records and `sys/audit-hash` write it."""
        inner = self._inner.copy()
        inner.update(data)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return "hmac-sha256:" + outer.hexdigest()


_HMAC_HASHES: Final = {
    "sha2-224": "sha224", "sha2-256": "sha256", "sha2-384": "sha384", "sha2-512": "sha512",
    "sha3-224": "sha3_224", "sha3-256": "sha3_256", "sha3-384": "sha3_384", "sha3-512": "sha3_512",
}  # fmt: skip


def hmac_of(hash_name: str, key: bytes, message: bytes) -> bytes:
    """HMAC with a hash by its name; raises Invalid(`bad-hash`)."""
    name = _HMAC_HASHES.get(hash_name)
    if name is None:
        raise Invalid("bad-hash", f"unsupported hash algorithm {hash_name!r}")
    return hmac.digest(key, message, name)
