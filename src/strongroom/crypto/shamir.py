"""Shamir's secret sharing over GF(2**8): any `threshold` of the shares give the secret back.

A share is one byte for each byte of the secret, then the byte x it was taken at; the field is
AES's (0x11b), as in Vault. Source: A. Shamir, "How to Share a Secret", 1979.
"""

import os
from collections.abc import Iterable, Sequence
from typing import Final

from strongroom.model.errors import Invalid

MOST_SHARES: Final = 255
_REDUCE: Final = 0x1B  # x**8 in the field.


def _times(left: int, right: int) -> int:
    """The product, by the same steps whatever the factors: a table would be read where they say."""
    product = 0
    for _ in range(8):
        product ^= left & -(right & 1)
        left = ((left << 1) & 0xFF) ^ (_REDUCE & -(left >> 7))
        right >>= 1
    return product


def _over(left: int, right: int) -> int:
    """The quotient; the inverse of a number is its 254th power."""
    inverse, square = 1, right
    for _ in range(7):
        square = _times(square, square)
        inverse = _times(inverse, square)
    return _times(left, inverse)


def split(secret: bytes, shares: int, threshold: int) -> list[bytes]:
    """Shares of a secret; raises Invalid(`bad-shares`)."""
    if not secret or not 2 <= threshold <= shares <= MOST_SHARES:
        raise Invalid("bad-shares", "a threshold is between 2 and the number of shares (255)")
    places = list(range(1, shares + 1))
    polynomials = [bytes([byte]) + os.urandom(threshold - 1) for byte in secret]
    return [bytes([*(_at(each, place) for each in polynomials), place]) for place in places]


def _at(polynomial: bytes, place: int) -> int:
    value = 0
    for coefficient in reversed(polynomial):
        value = _times(value, place) ^ coefficient
    return value


def combine(shares: Sequence[bytes]) -> bytes:
    """The secret of enough shares; raises Invalid(`bad-shares`).

    Too few shares, or shares of another secret, give other bytes: who combines must be able to
    tell, as a sealed value can.
    """
    lengths = {len(share) for share in shares}
    places = [share[-1] for share in shares if share]
    if len(shares) < 2 or len(lengths) != 1 or len(set(places)) != len(shares) or 0 in places:
        raise Invalid("bad-shares", "the shares do not belong together")
    weights = [_weight(place, places) for place in places]
    return bytes(
        _sum(_times(share[index], weight) for share, weight in zip(shares, weights, strict=True))
        for index in range(lengths.pop() - 1)
    )


def _weight(place: int, places: Sequence[int]) -> int:
    weight = 1
    for other in places:
        if other != place:
            weight = _times(weight, _over(other, other ^ place))
    return weight


def _sum(values: Iterable[int]) -> int:
    total = 0
    for value in values:
        total ^= value
    return total
