"""Whole numbers that somebody wrote. Pure."""

from typing import Final

# What no number of 64 bits needs; and Python refuses to read some thousands of digits.
_MOST_DIGITS: Final = 19
_LAST_PORT: Final = 65535


def whole_number(text: str) -> int | None:
    """What the digits 0 to 9 say; None for any other text, also for digits such as those of `²`.

    None as well where 64 bits do not hold it: `str.isdigit` takes both, and `int` raises.
    """
    if not (text.isascii() and text.isdigit()):
        return None
    digits = text.lstrip("0")
    number = int(digits or "0") if len(digits) <= _MOST_DIGITS else 1 << 63
    return number if number < 1 << 63 else None


def port_number(text: str) -> int | None:
    """The number of a port, 0 for any that is free; None for any other text."""
    number = whole_number(text)
    return None if number is None or number > _LAST_PORT else number
