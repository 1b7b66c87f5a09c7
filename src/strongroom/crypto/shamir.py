"""Shamir's secret sharing over GF(2**8): any `threshold` of the shares give the secret back.

A share is one byte for each byte of the secret, then the byte x it was taken at; the field is
AES's (0x11b), as in Vault. Source: A. Shamir, "How to Share a Secret", 1979.
"""

import os
from collections.abc import Iterable, Sequence
from typing import Final

from strongroom.model.errors import Invalid

MOST_SHARES: Final = 255
_EXP: Final = bytearray(510)
_LOG: Final = bytearray(256)


def _fill_tables() -> None:
    value = 1
    for power in range(255):
        _EXP[power] = _EXP[power + 255] = value
        _LOG[value] = power
        # Times the generator 3: doubled, reduced by the field's polynomial, plus itself.
        value ^= (value << 1) ^ (0x11B if value & 0x80 else 0)
        value &= 0xFF


_fill_tables()


def _times(left: int, right: int) -> int:
    return _EXP[_LOG[left] + _LOG[right]] if left and right else 0


def _over(left: int, right: int) -> int:
    return _EXP[_LOG[left] + 255 - _LOG[right]] if left else 0


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
