"""Constants as Go writes them: quoted strings, characters, numbers.

Source: https://go.dev/ref/spec (Integer, Floating-point, Imaginary, Rune and String literals).
"""

import re
from dataclasses import dataclass
from typing import Final

from strongroom.template.numbers import parse_float

_SIMPLE: Final = {
    "a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, "'": 39, '"': 34,
}  # fmt: skip
_HEX_LENGTH: Final = {"x": 2, "u": 4, "U": 8}
MAX_INT64: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Number:
    """A constant and everything it may be taken for; Go's constants have no type of their own."""

    text: str
    integer: int | None = None
    real: float | None = None
    imaginary: complex | None = None

    @property
    def int64(self) -> int | None:
        """As a signed integer."""
        if self.integer is None or not -MAX_INT64 - 1 <= self.integer <= MAX_INT64:
            return None
        return self.integer

    @property
    def uint64(self) -> int | None:
        """As an unsigned integer."""
        fits = self.integer is not None and 0 <= self.integer < 1 << 64
        return self.integer if fits and not self.text.startswith("+") else None


def unquote(text: str) -> bytes:
    """The bytes of a quoted or raw string; raises ValueError for an escape Go does not have."""
    if text[0] == "`":
        return text[1:-1].replace("\r", "").encode("utf-8", "surrogateescape")
    out = bytearray()
    at, end = 1, len(text) - 1
    while at < end:
        if text[at] != "\\":
            out += text[at].encode("utf-8", "surrogateescape")
            at += 1
            continue
        code, at, is_byte = _escape(text, at + 1, end, '"')
        out += bytes([code]) if is_byte else chr(code).encode()
    return bytes(out)


def rune(text: str) -> int:
    """The code point of a character constant; raises ValueError."""
    if len(text) < 3:
        raise ValueError("malformed character constant")
    if text[1] != "\\":
        if len(text) != 3 or text[1] == "'":
            raise ValueError("malformed character constant")
        return ord(text[1])
    code, at, _ = _escape(text, 2, len(text) - 1, "'")
    if at != len(text) - 1:
        raise ValueError("malformed character constant")
    return code


def _escape(text: str, at: int, end: int, quote: str) -> tuple[int, int, bool]:
    """Code, the offset after it, and whether it is a byte rather than a code point."""
    letter = text[at]
    if letter in _HEX_LENGTH:
        length = _HEX_LENGTH[letter]
        digits = text[at + 1 : at + 1 + length]
        if len(digits) < length or not re.fullmatch(r"[0-9a-fA-F]+", digits):
            raise ValueError("invalid syntax in an escape")
        code = int(digits, 16)
        if letter != "x" and (code > 0x10FFFF or 0xD800 <= code < 0xE000):
            raise ValueError("an escape is no Unicode character")
        return code, at + 1 + length, letter == "x"
    if letter in "01234567":
        digits = text[at : min(at + 3, end)]
        if not re.fullmatch(r"[0-7]{3}", digits) or int(digits, 8) > 255:
            raise ValueError("invalid syntax in an escape")
        return int(digits, 8), at + 3, True
    if letter not in _SIMPLE or (letter in "'\"" and letter != quote):
        raise ValueError(f"unknown escape \\{letter}")
    return _SIMPLE[letter], at + 1, False


def number(text: str, kind: str) -> Number:
    """Parse a number; `kind` is rune, complex or number. Raises ValueError."""
    if kind == "rune":
        code = rune(text)
        return Number(text, code, float(code))
    if kind == "complex":
        split = max(text.rfind("+"), text.rfind("-"))
        return _imaginary(text, complex(_float(text[:split]), _float(text[split:-1])))
    if text.endswith("i"):
        return _imaginary(text, complex(0, _float(text[:-1])))
    integer, real = _integer(text), None
    if integer is not None and -(1 << 63) <= integer < 1 << 64:
        real = float(integer)
        return Number(text, integer, real)
    real = _float(text)
    if not set(text) & set(".eEpP"):
        raise ValueError("integer overflow")
    whole = int(real) if real.is_integer() and abs(real) < 1 << 63 else None
    return Number(text, whole, real)


def _imaginary(text: str, value: complex) -> Number:
    """A complex number; one without imaginary part counts as a real one as well."""
    if value.imag:
        return Number(text, imaginary=value)
    integer = int(value.real) if value.real.is_integer() else None
    return Number(text, integer, value.real, value)


def _integer(text: str) -> int | None:
    body = text.lstrip("+-")
    if not body or len(text) - len(body) > 1:
        return None
    if body.startswith("0") and len(body) > 1 and body[1] in "01234567_":
        # An old octal.
        body = "0o" + body[1:].removeprefix("_") if not body.startswith("0__") else "0o__"
    try:
        value = int(body, 0)
    except ValueError:
        return None
    return -value if text.startswith("-") else value


def _float(text: str) -> float:
    try:
        return parse_float(text)
    except ValueError as error:
        raise ValueError(f"bad number {text}: {error}") from None
