"""AES-256-GCM with the nonce in front: the one authenticated cipher everything is sealed with.

Format: 12 random bytes of nonce, then ciphertext and 16-byte tag (NIST SP 800-38D). One key
seals at most 2**32 messages; the key ring rotates long before that.
"""

import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from strongroom.model.errors import Refusal

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
RESTORE: Final = "restore the row from a backup; it was changed, moved, or sealed by another key"


class Tampered(Refusal):
    """A sealed value does not open: wrong key, changed bytes, or moved to another place."""

    def __init__(self, what: str = "a sealed value", *, hint: str = RESTORE) -> None:
        super().__init__("tampered", f"{what} does not open under its key and place", hint=hint)


def new_key() -> bytes:
    """Return 32 fresh random bytes."""
    return os.urandom(KEY_BYTES)


class Aead:
    """One key; `seal` and `open` bind the associated data to the ciphertext."""

    __slots__ = ("_cipher",)

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, plaintext: bytes, aad: bytes) -> bytes:
        """Encrypt under a fresh random nonce."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plaintext, aad)

    def open(self, sealed: bytes, aad: bytes) -> bytes:
        """Decrypt; raises Tampered when bytes, key or associated data differ."""
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], aad)
        except (InvalidTag, ValueError):
            raise Tampered from None
