"""Shares of a key as people hand them in: parsed, counted, and put together when there are enough.

Pure values; who keeps them between two requests is not said here.
"""

import base64
import binascii
import json
import uuid
from dataclasses import dataclass, field
from typing import Final

from strongroom.crypto.shamir import MOST_SHARES, combine, split
from strongroom.model.errors import Invalid
from strongroom.store.seal.stored import Split

SHORTEST: Final = 16
LONGEST: Final = 512


@dataclass(frozen=True, slots=True)
class Gathering:
    """Shares given so far under a nonce that names this attempt."""

    nonce: str
    shares: tuple[bytes, ...] = field(default=(), repr=False)

    @classmethod
    def begin(cls) -> "Gathering":
        """An attempt nobody has contributed to."""
        return cls(str(uuid.uuid4()))

    def with_share(self, share: bytes) -> "Gathering":
        """One more share; the same share again counts once."""
        return self if share in self.shares else Gathering(self.nonce, (*self.shares, share))

    def key(self, threshold: int) -> bytes | None:
        """The key, None while shares are missing; wrong shares give wrong bytes or Invalid."""
        if len(self.shares) < threshold:
            return None
        return self.shares[0] if threshold == 1 else combine(self.shares)

    def dumps(self) -> bytes:
        """Key material: to be wrapped before it is stored."""
        return json.dumps([self.nonce, [each.hex() for each in self.shares]]).encode()

    @classmethod
    def loads(cls, data: bytes) -> "Gathering":
        """Read what `dumps` wrote."""
        nonce, shares = json.loads(data)
        return cls(nonce, tuple(bytes.fromhex(each) for each in shares))


def parse_share(text: str) -> bytes:
    """A share as hexadecimal or base64 text; raises Invalid(`bad-key`)."""
    text = text.strip()
    try:
        share = bytes.fromhex(text)
    except ValueError:
        try:
            share = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise Invalid("bad-key", "'key' must be a valid hex or base64 string") from None
    if len(share) < SHORTEST:
        raise Invalid("bad-key", f"key is shorter than minimum {SHORTEST} bytes")
    if len(share) > LONGEST:
        raise Invalid("bad-key", f"key is longer than maximum {LONGEST} bytes")
    return share


def check_split(shares: int, threshold: int) -> Split:
    """A split that Vault would take; raises Invalid(`bad-shares`)."""
    if not 1 <= shares <= MOST_SHARES:
        raise Invalid("bad-shares", f"shares must be between 1 and {MOST_SHARES}")
    if not 1 <= threshold <= shares:
        raise Invalid("bad-shares", "threshold must be between 1 and the number of shares")
    if shares > 1 and threshold == 1:
        raise Invalid("bad-shares", "threshold must be greater than one for multiple shares")
    return Split(shares, threshold)


def split_key(key: bytes, into: Split) -> list[bytes]:
    """The shares of a key; one share is the key itself, as in Vault."""
    return [key] if into.shares == 1 else split(key, into.shares, into.threshold)


def keys_reply(shares: list[bytes], prefix: str = "") -> dict[str, list[str]]:
    """Shares the way the API shows them once."""
    return {
        f"{prefix}keys": [each.hex() for each in shares],
        f"{prefix}keys_base64": [base64.b64encode(each).decode() for each in shares],
    }
