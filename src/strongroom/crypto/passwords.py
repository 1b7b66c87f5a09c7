"""Passwords as Argon2id hashes (RFC 9106) in PHC text, and work for users that are not there.

Parameters are the second choice of OWASP's password storage sheet: 19 MiB, two passes, about
30 ms. They stand in each hash, so that they can be raised without touching the old ones.
"""

import os
from typing import Final

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

MEMORY_KIB: Final = 19 * 1024
PASSES: Final = 2
_SALT_BYTES: Final = 16
_HASH_BYTES: Final = 32
# The hash of random bytes nobody knows: what an unknown user's password is compared with.
NOBODY: Final = (
    f"$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p=1$bnRoaW5naW5wYXJ0aWM"
    "$6DYSnIEu6mNhBMuxAcZVqBfJp0JUQ9oE1aF1pNqhGvo"
)


def hash_password(password: bytes) -> str:
    """A salted hash as PHC text, `$argon2id$v=19$m=...`. Takes tens of milliseconds."""
    return Argon2id(
        salt=os.urandom(_SALT_BYTES),
        length=_HASH_BYTES,
        iterations=PASSES,
        lanes=1,
        memory_cost=MEMORY_KIB,
    ).derive_phc_encoded(password)


def verify_password(password: bytes, hashed: str) -> bool:
    """Whether the password is the one that was hashed; as slow as hashing, whatever the answer."""
    try:
        Argon2id.verify_phc_encoded(password, hashed)
    except InvalidKey:
        return False
    return True
