"""Deterministic encryption of names, so that an index can find what nobody can read.

AES-SIV (RFC 5297): equal names under equal associated data give equal bytes; the associated
data is the parent folder's id, so equal names in different folders do not show.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from strongroom.crypto.aead import Tampered


class NameCipher:
    """A 32-byte key and one name at a time."""

    __slots__ = ("_cipher",)

    def __init__(self, key: bytes) -> None:
        self._cipher = AESSIV(key)

    def seal(self, name: str, aad: bytes) -> bytes:
        """Encrypt a name; the empty name is not one."""
        return self._cipher.encrypt(name.encode(), [aad])

    def open(self, sealed: bytes, aad: bytes) -> str:
        """Decrypt; raises Tampered."""
        try:
            return self._cipher.decrypt(sealed, [aad]).decode()
        except (InvalidTag, ValueError):
            raise Tampered("a name") from None
