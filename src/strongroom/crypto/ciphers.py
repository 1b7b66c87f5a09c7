"""Symmetric ciphers by name, with the nonce in front: what transit keys encrypt with.

AES-GCM (NIST SP 800-38D) and ChaCha20-Poly1305 (RFC 8439), both with 12-byte nonces.
"""

import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap_with_padding,
    aes_key_wrap_with_padding,
)

from strongroom.crypto.aead import Tampered
from strongroom.model.errors import Invalid

NONCE_BYTES: Final = 12
KEY_BYTES: Final = {"aes128-gcm96": 16, "aes256-gcm96": 32, "chacha20-poly1305": 32}


def new_symmetric_key(kind: str) -> bytes:
    """Random bytes of the length the cipher wants."""
    return os.urandom(KEY_BYTES[kind])


def check_symmetric_key(kind: str, key: bytes) -> None:
    """Raises Invalid(`bad-key`) for a length the cipher does not have."""
    if len(key) != KEY_BYTES[kind]:
        raise Invalid("bad-key", f"a {kind} key has {KEY_BYTES[kind]} bytes")


def _cipher(kind: str, key: bytes) -> AESGCM | ChaCha20Poly1305:
    return ChaCha20Poly1305(key) if kind == "chacha20-poly1305" else AESGCM(key)


def encrypt(kind: str, key: bytes, plaintext: bytes, aad: bytes, nonce: bytes = b"") -> bytes:
    """Nonce, ciphertext and tag; a nonce is given only where it follows from the plaintext."""
    nonce = nonce or os.urandom(NONCE_BYTES)
    return nonce + _cipher(kind, key).encrypt(nonce, plaintext, aad or None)


def decrypt(kind: str, key: bytes, sealed: bytes, aad: bytes) -> bytes:
    """The plaintext; raises Tampered."""
    try:
        nonce, rest = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        return _cipher(kind, key).decrypt(nonce, rest, aad or None)
    except (InvalidTag, ValueError):
        raise Tampered("a ciphertext") from None


def derive_key(key: bytes, context: bytes, length: int = 32) -> bytes:
    """A key for one context (HKDF-SHA256, RFC 5869)."""
    return HKDF(hashes.SHA256(), length, salt=None, info=context).derive(key)


def wrap_key(kek: bytes, key: bytes) -> bytes:
    """AES key wrap with padding (RFC 5649)."""
    return aes_key_wrap_with_padding(kek, key)


def unwrap_key(kek: bytes, wrapped: bytes) -> bytes:
    """The key again; raises Tampered."""
    try:
        return aes_key_unwrap_with_padding(kek, wrapped)
    except (InvalidUnwrap, ValueError):
        raise Tampered("a wrapped key") from None
