"""Password hashes and derived passwords: bcrypt, and the Master Password algorithm (Spectre).

Sources: https://www.usenix.org/legacy/events/usenix99/provos/provos.pdf (bcrypt) and
https://gitlab.com/spectre.app/www (version 3 of the algorithm, as sprig has it).
"""

import hashlib
import hmac
from typing import Final

import bcrypt

from strongroom.model.errors import Invalid

BCRYPT_COST: Final = 10
BCRYPT_BYTES: Final = 72
_SEED: Final = b"com.lyndir.masterpassword"
_TEMPLATES: Final[dict[bytes, tuple[str, ...]]] = {
    b"maximum": ("anoxxxxxxxxxxxxxxxxx", "axxxxxxxxxxxxxxxxxno"),
    b"long": (
        "CvcvnoCvcvCvcv",
        "CvcvCvcvnoCvcv",
        "CvcvCvcvCvcvno",
        "CvccnoCvcvCvcv",
        "CvccCvcvnoCvcv",
        "CvccCvcvCvcvno",
        "CvcvnoCvccCvcv",
        "CvcvCvccnoCvcv",
        "CvcvCvccCvcvno",
        "CvcvnoCvcvCvcc",
        "CvcvCvcvnoCvcc",
        "CvcvCvcvCvccno",
        "CvccnoCvccCvcv",
        "CvccCvccnoCvcv",
        "CvccCvccCvcvno",
        "CvcvnoCvccCvcc",
        "CvcvCvccnoCvcc",
        "CvcvCvccCvccno",
        "CvccnoCvcvCvcc",
        "CvccCvcvnoCvcc",
        "CvccCvcvCvccno",
    ),
    b"medium": ("CvcnoCvc", "CvcCvcno"),
    b"short": ("Cvcn",),
    b"basic": ("aaanaaan", "aannaaan", "aaannaaa"),
    b"pin": ("nnnn",),
}
_ALL: Final = "AEIOUaeiouBCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz"
_CHARACTERS: Final = {
    "V": "AEIOU",
    "C": "BCDFGHJKLMNPQRSTVWXYZ",
    "v": "aeiou",
    "c": "bcdfghjklmnpqrstvwxyz",
    "A": "AEIOUBCDFGHJKLMNPQRSTVWXYZ",
    "a": _ALL,
    "n": "0123456789",
    "o": "@&%?,=[]_:-+*$#!'^~;()/.",
    "x": _ALL + "0123456789!@#$%^&*()",
}


def bcrypt_hash(password: bytes) -> bytes:
    """A bcrypt hash ($2a$10$...); raises Invalid for a password beyond 72 bytes."""
    if len(password) > BCRYPT_BYTES:
        raise Invalid("password-too-long", "bcrypt: password length exceeds 72 bytes")
    return bcrypt.hashpw(password, bcrypt.gensalt(BCRYPT_COST, prefix=b"2a"))


def derived_password(counter: int, kind: bytes, password: bytes, user: bytes, site: bytes) -> bytes:
    """A site's password from a master password; raises Invalid for an unknown kind."""
    templates = _TEMPLATES.get(kind)
    if templates is None:
        raise Invalid("unknown-password-kind", "there is no such kind of password")
    salt = _SEED + len(user).to_bytes(4, "big") + user
    key = hashlib.scrypt(password, salt=salt, n=32768, r=8, p=2, dklen=64, maxmem=1 << 27)
    message = _SEED + len(site).to_bytes(4, "big") + site + counter.to_bytes(4, "big")
    seed = hmac.digest(key, message, "sha256")
    template = templates[seed[0] % len(templates)]
    return "".join(
        _CHARACTERS[place][byte % len(_CHARACTERS[place])]
        for place, byte in zip(template, seed[1:], strict=False)
    ).encode()
