"""Key-encryption keys: made here, wrapped by the key file, kept in a small state file.

The file is JSON: `{"version": 1, "current": ID, "keks": [{"id", "created", "wrapped"}]}`.
"""

import base64
import binascii
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from strongroom.crypto.aead import Aead, Tampered, new_key
from strongroom.crypto.keyfile import WrappingKey
from strongroom.crypto.tokens import BASE62, random_text
from strongroom.model.errors import Denied, Invalid, NotFound

ID_CHARACTERS: Final = 24
_PURPOSE: Final = b"strongroom kms kek\x1f"


@dataclass(frozen=True, slots=True)
class Keks:
    """An immutable set of keys, one of which encrypts."""

    current: str
    ciphers: Mapping[str, Aead]

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        """The id of the key used, and the sealed bytes."""
        return self.current, self.ciphers[self.current].seal(plaintext, self.current.encode())

    def decrypt(self, key_id: str, sealed: bytes) -> bytes:
        """Open; raises NotFound(`unknown-key-id`) or Denied(`not-authentic`)."""
        cipher = self.ciphers.get(key_id)
        if cipher is None:
            raise NotFound(
                "unknown-key-id",
                "no key of this id",
                hint="restore the state file that was used when it was written",
            )
        try:
            return cipher.open(sealed, key_id.encode())
        except Tampered:
            raise Denied("not-authentic", "the sealed seed was changed") from None


def new_key_id() -> str:
    """An opaque id that is never used again."""
    return random_text(ID_CHARACTERS, BASE62)


def load_or_create(path: Path, wrapping: WrappingKey, now: float) -> Keks:
    """Read the state file, or make the first key when there is none.

    Raises Denied when the key file does not fit, Invalid when the state is damaged.
    """
    try:
        state = json.loads(path.read_bytes())
    except FileNotFoundError:
        state = _added({"version": 1, "keks": []}, wrapping, now)
        _write(path, state)
    except (OSError, ValueError):
        raise Invalid("bad-kms-state", f"cannot read the KMS state {path}") from None
    return _opened(state, wrapping, path)


def rotate(path: Path, wrapping: WrappingKey, now: float) -> Keks:
    """Add a key and make it the current one; older ones still open. Durable before it returns."""
    try:
        state = json.loads(path.read_bytes())
    except (OSError, ValueError):
        raise Invalid("bad-kms-state", f"cannot read the KMS state {path}") from None
    _opened(state, wrapping, path)
    state = _added(state, wrapping, now)
    _write(path, state)
    return _opened(state, wrapping, path)


def _added(state: dict[str, Any], wrapping: WrappingKey, now: float) -> dict[str, Any]:
    key_id = new_key_id()
    wrapped = wrapping.wrap(new_key(), _PURPOSE + key_id.encode())
    entry = {"id": key_id, "created": now, "wrapped": base64.b64encode(wrapped).decode()}
    return {**state, "current": key_id, "keks": [*state["keks"], entry]}


def _opened(state: dict[str, Any], wrapping: WrappingKey, path: Path) -> Keks:
    try:
        ciphers = {}
        for entry in state["keks"]:
            wrapped = base64.b64decode(entry["wrapped"], validate=True)
            key = wrapping.unwrap(wrapped, _PURPOSE + entry["id"].encode())
            ciphers[entry["id"]] = Aead(key)
        if state["current"] not in ciphers:
            raise KeyError
    except (KeyError, TypeError, AttributeError, binascii.Error, Tampered):
        raise Invalid("bad-kms-state", f"the KMS state {path} is damaged") from None
    return Keks(state["current"], ciphers)


def _write(path: Path, state: dict[str, Any]) -> None:
    scratch = path.with_name(path.name + ".new")
    handle = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w") as out:
        json.dump(state, out, indent=1)
        out.flush()
        os.fsync(out.fileno())
    scratch.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
