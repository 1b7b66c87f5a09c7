"""Key files: one base64 line of 32 random bytes, an optional second line the key before it.

The file is the root of trust on a machine without a KMS, so it is created 0600 and refused when
anybody else can read it.
"""

import base64
import binascii
import hashlib
import os
import stat
from pathlib import Path
from typing import Final

from strongroom.crypto.aead import KEY_BYTES, Aead, Tampered, new_key
from strongroom.model.errors import Conflict, Denied, Invalid, NotFound, Unavailable

KEY_ID_BYTES: Final = 8
MAX_FILE_BYTES: Final = 4096


class WrappingKey:
    """The current key of a file, and the previous ones for what they wrapped.

    A wrapped secret is the key's id (8 bytes of SHA-256 over a label and the key), then the
    AEAD message.
    """

    __slots__ = ("_ciphers", "_current", "key_id")

    def __init__(self, keys: list[bytes]) -> None:
        self._ciphers = {_key_id(key): Aead(key) for key in reversed(keys)}
        self._current = _key_id(keys[0])
        self.key_id: Final = self._current.hex()

    def wrap(self, secret: bytes, aad: bytes) -> bytes:
        """Seal under the current key."""
        return self._current + self._ciphers[self._current].seal(secret, aad)

    def unwrap(self, wrapped: bytes, aad: bytes) -> bytes:
        """Open what any key of the file wrapped; raises Denied(`wrong-key`) or Tampered."""
        cipher = self._ciphers.get(wrapped[:KEY_ID_BYTES])
        if cipher is None:
            raise Denied(
                "wrong-key",
                f"wrapped by key {wrapped[:KEY_ID_BYTES].hex()}, which is not in the key file",
                hint="give the key file it was made with, or add its key as the second line",
            )
        return cipher.open(wrapped[KEY_ID_BYTES:], aad)


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"strongroom key id" + key).digest()[:KEY_ID_BYTES]


def create_key_file(path: Path) -> None:
    """Write a fresh key, mode 0600, durable.

    Raises Conflict rather than overwrite, and Unavailable(`key-file-unwritable`).
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise Conflict(
            "key-file-exists",
            f"{path} is there already",
            hint="a lost key file cannot be made again",
        ) from None
    except OSError as error:
        raise Unavailable(
            "key-file-unwritable",
            f"cannot write the key file {path}: {error.strerror}",
            hint="make its folder first, writable for this user alone",
        ) from error
    with os.fdopen(handle, "wb") as out:
        out.write(base64.b64encode(new_key()) + b"\n")
        out.flush()
        os.fsync(out.fileno())


def load_key_file(path: Path) -> WrappingKey:
    """Read a key file.

    Raises NotFound (no file), Denied (`key-file-open`: others can read it) or Invalid
    (not one or two lines of base64 of 32 bytes).
    """
    try:
        with path.open("rb") as source:
            mode = os.fstat(source.fileno()).st_mode
            text = source.read(MAX_FILE_BYTES)
    except FileNotFoundError:
        raise NotFound(
            "no-key-file",
            f"there is no key file {path}",
            hint="restore it, or point to the right one",
        ) from None
    except OSError as error:
        raise Denied("key-file-unreadable", f"cannot read {path}: {error.strerror}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise Denied(
            "key-file-open",
            f"{path} can be read by others (mode {stat.S_IMODE(mode):04o})",
            hint=f"chmod 600 {path}",
        )
    return WrappingKey([_decode(line, path) for line in _lines(text, path)])


def _lines(text: bytes, path: Path) -> list[bytes]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not 1 <= len(lines) <= 2:
        raise Invalid("bad-key-file", f"{path} does not hold one or two keys")
    return lines


def _decode(line: bytes, path: Path) -> bytes:
    try:
        key = base64.b64decode(line, validate=True)
    except binascii.Error:
        key = b""
    if len(key) != KEY_BYTES:
        raise Invalid(
            "bad-key-file",
            f"a line of {path} is not base64 of {KEY_BYTES} bytes",
            hint=f"openssl rand -base64 {KEY_BYTES} makes one",
        )
    return key


__all__ = ["Tampered", "WrappingKey", "create_key_file", "load_key_file"]
