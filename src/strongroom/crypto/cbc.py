"""AES-256-CBC with PKCS #7 padding and the IV in front: what sprig's encryptAES makes.

It is not authenticated. It is here to read and write what templates of others hold; nothing of
Strongroom's own is sealed with it (see `aead`).
"""

import os
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from strongroom.model.errors import Invalid

BLOCK: Final = 16
KEY_BYTES: Final = 32


def _cipher(password: bytes, iv: bytes) -> Cipher[modes.CBC]:
    key = password[:KEY_BYTES].ljust(KEY_BYTES, b"\0")
    return Cipher(algorithms.AES256(key), modes.CBC(iv))


def encrypt_cbc(password: bytes, plaintext: bytes, iv: bytes = b"") -> bytes:
    """IV and ciphertext under the password's first 32 bytes, filled up with zeros."""
    iv = iv or os.urandom(BLOCK)
    padding = BLOCK - len(plaintext) % BLOCK
    encryptor = _cipher(password, iv).encryptor()
    return iv + encryptor.update(plaintext + bytes([padding]) * padding) + encryptor.finalize()


def decrypt_cbc(password: bytes, sealed: bytes) -> bytes:
    """The plaintext; raises Invalid for what cannot be one."""
    if len(sealed) < 2 * BLOCK or len(sealed) % BLOCK:
        raise Invalid("bad-ciphertext", "the ciphertext is not whole blocks")
    decryptor = _cipher(password, sealed[:BLOCK]).decryptor()
    plain = decryptor.update(sealed[BLOCK:]) + decryptor.finalize()
    if plain[-1] > len(plain):
        raise Invalid("bad-ciphertext", "the ciphertext was made with another password")
    return plain[: len(plain) - plain[-1]]
