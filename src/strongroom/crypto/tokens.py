"""Random text: tokens, accessors and passwords; and comparison in constant time."""

import hmac
import secrets
import string
from typing import Final

BASE62: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
BODY_CHARACTERS: Final = 24  # 142 bits; with "hvs." the 28 characters clients count on


def new_token() -> str:
    """A fresh token: `hvs.` and 24 base62 characters."""
    return "hvs." + random_text(BODY_CHARACTERS, BASE62)


def new_accessor() -> str:
    """A fresh accessor: 24 base62 characters that name a token without being one."""
    return random_text(BODY_CHARACTERS, BASE62)


def random_text(length: int, alphabet: str) -> str:
    """Characters drawn evenly and independently from the alphabet: a password, or a name."""
    size = len(alphabet)
    width = 1 if size <= 1 << 8 else 4
    # Values beyond it would favour the first characters.
    bound, found = (1 << 8 * width) - (1 << 8 * width) % size, ""
    while len(found) < length:
        fresh = memoryview(secrets.token_bytes(width * (length - len(found))))
        drawn = fresh if width == 1 else fresh.cast("I")
        found += "".join([alphabet[value % size] for value in drawn if value < bound])
    return found


def constant_time_equal(left: bytes, right: bytes) -> bool:
    """Whether two values are equal, in time that depends on the length alone."""
    return hmac.compare_digest(left, right)
