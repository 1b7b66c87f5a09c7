"""Escrow: wraps to a public key whose private half lies in a safe, not on this machine."""

import struct
from pathlib import Path
from typing import Final

from strongroom.crypto.aead import Aead, Tampered, new_key
from strongroom.crypto.signatures import rsa_decrypt_with_pem, rsa_encrypt_to_public
from strongroom.model.errors import Denied, Unavailable

_LENGTH: Final = struct.Struct(">H")


class EscrowWrapper:
    """Wraps with the public key; unwraps only in a drill or recovery, with the private one."""

    def __init__(self, name: str, public_key: Path | None, private_key: Path | None = None) -> None:
        self.name = name
        self._public = public_key
        self._private = private_key

    async def identity(self) -> str:
        import hashlib

        return f"escrow/{hashlib.sha256(self._read(self._public).encode()).hexdigest()[:24]}"

    async def wrap(self, secret: bytes, aad: bytes) -> bytes:
        inner = new_key()
        wrapped = rsa_encrypt_to_public(self._read(self._public), inner)
        return _LENGTH.pack(len(wrapped)) + wrapped + Aead(inner).seal(secret, aad)

    async def unwrap(self, wrapped: bytes, aad: bytes) -> bytes:
        if self._private is None:
            raise Unavailable("no-escrow-key", "the private escrow key is not on this machine")
        try:
            (length,) = _LENGTH.unpack_from(wrapped)
            rest = wrapped[_LENGTH.size :]
            inner = rsa_decrypt_with_pem(self._read(self._private), rest[:length])
            return Aead(inner).open(rest[length:], aad)
        except (struct.error, Tampered, ValueError):
            raise Denied("not-unwrapped", "the escrow key does not open this") from None

    async def close(self) -> None:
        """Nothing to let go of."""

    @staticmethod
    def _read(path: Path | None) -> str:
        try:
            return path.read_text() if path else ""
        except OSError as error:
            raise Unavailable("escrow-key", f"cannot read {path}: {error.strerror}") from None
