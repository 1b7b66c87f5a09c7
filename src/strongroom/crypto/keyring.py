"""The barrier's key ring: numbered terms, the newest seals, every one opens.

A sealed value is the term as four big-endian bytes, then the AEAD message. Keys that must
survive rotation (names, token hashes, audit HMAC) are derived from a root that never changes.
"""

import base64
import json
import struct
from typing import Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from strongroom.crypto.aead import Aead, Tampered, new_key

_TERM = struct.Struct(">I")


class KeyRing:
    """Immutable; `rotated` returns the next ring."""

    __slots__ = ("_ciphers", "_current", "_keys", "_newest", "_root", "installed")

    def __init__(self, root: bytes, keys: dict[int, bytes], installed: dict[int, float]) -> None:
        self._root = root
        self._keys = keys
        # By the bytes that a sealed value begins with.
        self._ciphers = {_TERM.pack(term): Aead(key) for term, key in keys.items()}
        self._current = max(keys)
        self._newest = _TERM.pack(self._current)
        self.installed = installed

    @classmethod
    def new(cls, now: float) -> Self:
        """A ring with a fresh root and one term."""
        return cls(new_key(), {1: new_key()}, {1: now})

    @property
    def current_term(self) -> int:
        """The term that seals."""
        return self._current

    def rotated(self, now: float) -> "KeyRing":
        """The ring with one more term; `now` is its install time in epoch seconds."""
        term = self._current + 1
        return KeyRing(self._root, {**self._keys, term: new_key()}, {**self.installed, term: now})

    def extends(self, other: "KeyRing") -> bool:
        """Whether it has every key of the other, under the same terms."""
        same = self._root == other._root  # noqa: SLF001 - of its own class
        return same and other._keys.items() <= self._keys.items()  # noqa: SLF001

    def seal(self, plaintext: bytes, aad: bytes) -> bytes:
        """Seal under the newest term."""
        return self._newest + self._ciphers[self._newest].seal(plaintext, aad)

    def open(self, sealed: bytes, aad: bytes) -> bytes:
        """Open a value of any term; raises Tampered."""
        cipher = self._ciphers.get(sealed[: _TERM.size])
        if cipher is None:
            raise Tampered("a value of an unknown key term")
        return cipher.open(sealed[_TERM.size :], aad)

    def knows(self, sealed: bytes) -> bool:
        """Whether the ring has the term that sealed a value."""
        return sealed[: _TERM.size] in self._ciphers

    def derive(self, label: bytes) -> bytes:
        """A 32-byte key for one purpose, the same for the ring's whole life (HKDF, RFC 5869)."""
        return HKDF(hashes.SHA256(), 32, salt=None, info=label).derive(self._root)

    def dumps(self) -> bytes:
        """Serialise; the result is key material and must be wrapped before it is stored."""
        keys = {str(term): _b64(key) for term, key in self._keys.items()}
        installed = {str(term): at for term, at in self.installed.items()}
        ring = {"v": 1, "root": _b64(self._root), "keys": keys, "installed": installed}
        return json.dumps(ring).encode()

    @classmethod
    def loads(cls, data: bytes) -> Self:
        """Read what `dumps` wrote; raises Tampered when it is something else."""
        try:
            ring = json.loads(data)
            keys = {int(term): base64.b64decode(key) for term, key in ring["keys"].items()}
            installed = {int(term): float(at) for term, at in ring["installed"].items()}
            return cls(base64.b64decode(ring["root"]), keys, installed)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Tampered("the key ring") from None


def term_of(sealed: bytes) -> int:
    """The key term that sealed a value; raises Tampered when it is too short to have one."""
    if len(sealed) < _TERM.size:
        raise Tampered
    return int(_TERM.unpack_from(sealed)[0])


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
