"""Letters' cases one rune at a time, as Go has it; Python's own mapping may give several."""

import unicodedata
from collections.abc import Callable


def upper(char: str) -> str:
    """The simple upper case of one character."""
    found = char.upper()
    if len(found) == 1:
        return found
    found = char.title()
    return found if len(found) == 1 else char


def lower(char: str) -> str:
    """The simple lower case of one character."""
    found = char.lower()
    return found if len(found) == 1 else found[0]


def title(char: str) -> str:
    """The simple title case of one character."""
    found = char.title()
    return found if len(found) == 1 else upper(char)


def is_upper(char: str) -> bool:
    """Whether it is an upper-case letter."""
    return unicodedata.category(char) == "Lu"


def is_lower(char: str) -> bool:
    """Whether it is a lower-case letter."""
    return unicodedata.category(char) == "Ll"


def is_letter(char: str) -> bool:
    """Whether it is a letter."""
    return unicodedata.category(char)[0] == "L"


def is_number(char: str) -> bool:
    """Whether it is a number of any kind."""
    return unicodedata.category(char)[0] == "N"


def is_digit(char: str) -> bool:
    """Whether it is a decimal digit."""
    return unicodedata.category(char) == "Nd"


def is_punctuation(char: str) -> bool:
    """Whether it is punctuation."""
    return unicodedata.category(char)[0] == "P"


def is_space(char: str) -> bool:
    """White space as unicode.IsSpace has it."""
    if ord(char) < 0x100:
        return char in "\t\n\v\f\r \x85\xa0"
    return unicodedata.category(char) in ("Zs", "Zl", "Zp")


def mapped(text: str, change: Callable[[str], str]) -> str:
    """Every character changed by itself."""
    return "".join(change(char) for char in text)
