"""Numbers as Go's strconv writes and reads them. Source: https://pkg.go.dev/strconv."""

import math
import re
from typing import Final

_FLOAT: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_HEX_FLOAT: Final = re.compile(
    r"[+-]?0[xX]([0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)[pP][+-]?[0-9]+"
)
_SPECIAL: Final = re.compile(r"[+-]?(inf|infinity)|nan", re.IGNORECASE)


def format_float(value: float, verb: str = "g", precision: int = -1) -> str:
    """FormatFloat(value, verb, precision, 64); a precision of -1 is the shortest that is exact."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if verb in "xX":
        return _hexadecimal(value, verb, precision)
    if verb == "b":
        return _binary(value)
    lower = verb.lower()
    if lower == "g":
        text = _general(value, precision)
    elif precision >= 0:
        text = f"{value:.{precision}{lower}}"
    else:
        sign, digits, point = shortest_digits(value)
        text = sign + (_exponent(digits, point) if lower == "e" else _plain(digits, point))
    return text.upper() if verb in "EG" else text


def shortest_digits(value: float) -> tuple[str, str, int]:
    """Sign, the fewest digits that read back as the value, and where the point stands in them."""
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = whole + fraction
    point = len(whole) + int(exponent or 0)
    stripped = digits.lstrip("0")
    point -= len(digits) - len(stripped)
    stripped = stripped.rstrip("0")
    sign = "-" if math.copysign(1, value) < 0 else ""
    return (sign, stripped, point) if stripped else (sign, "0", 1)


def _general(value: float, precision: int) -> str:
    sign, digits, point = shortest_digits(value)
    threshold = 6
    if precision >= 0:
        precision = precision or 1
        mantissa, _, exponent = f"{abs(value):.{precision - 1}e}".partition("e")
        digits = mantissa.replace(".", "").rstrip("0") or "0"
        point = int(exponent) + 1 if value else 1
        threshold = precision
        if threshold > len(digits) >= point:
            threshold = len(digits)
    if point - 1 < -4 or point - 1 >= threshold:
        return sign + _exponent(digits, point)
    return sign + _plain(digits, point)


def _exponent(digits: str, point: int) -> str:
    exponent = 0 if digits == "0" else point - 1
    mantissa = digits[0] + ("." + digits[1:] if len(digits) > 1 else "")
    return f"{mantissa}e{'-' if exponent < 0 else '+'}{abs(exponent):02}"


def _plain(digits: str, point: int) -> str:
    if point <= 0:
        return "0." + "0" * -point + digits
    if point >= len(digits):
        return digits + "0" * (point - len(digits))
    return digits[:point] + "." + digits[point:]


def _hexadecimal(value: float, verb: str, precision: int) -> str:
    sign = "-" if math.copysign(1, value) < 0 else ""
    mantissa, _, exponent = float.hex(abs(value)).partition("p")
    lead, _, fraction = mantissa[2:].partition(".")
    fraction = fraction.rstrip("0")
    power = int(exponent)
    if value and lead == "0":  # Go writes subnormal numbers with a leading one.
        bits = int("0" + fraction, 16) << 4
        shift = len(fraction) * 4 + 4
        top = bits.bit_length() - 1
        power += top - shift
        fraction = f"{(bits - (1 << top)) << (-top % 4):x}".rjust((top + 3) // 4, "0").rstrip("0")
        lead = "1"
    if 0 <= precision < len(fraction):
        whole = int(lead + fraction, 16)
        cut = 4 * (len(fraction) - precision)
        half, rest = 1 << (cut - 1), whole & ((1 << cut) - 1)
        whole >>= cut
        whole += rest > half or (rest == half and whole & 1)
        if whole >> (4 * precision) >= 2:
            whole >>= 1
            power += 1
        lead, fraction = "1", f"{whole:x}"[1:]
    elif precision > len(fraction):
        fraction = fraction.ljust(precision, "0")
    text = f"0x{lead}{'.' if fraction else ''}{fraction}p{'-' if power < 0 else '+'}{abs(power):02}"
    return sign + (text.upper() if verb == "X" else text)


def _binary(value: float) -> str:
    if not value:
        return ("-" if math.copysign(1, value) < 0 else "") + "0p-1074"
    mantissa, exponent = math.frexp(value)
    shift = min(53, exponent + 1074)
    return f"{int(mantissa * (1 << shift))}p{exponent - shift:+d}"


def parse_int(text: str, base: int = 10) -> int:
    """ParseInt(text, base, 64); raises ValueError."""
    body = text[1:] if text[:1] in ("+", "-") else text
    if not body or body[0] in "+-" or (base and "_" in body):
        raise ValueError("invalid syntax")
    if not body.isascii() or body != body.strip():
        raise ValueError("invalid syntax")
    if base and body[:2].lower() in ("0x", "0o", "0b") and base < 34:
        raise ValueError("invalid syntax")
    if base == 0 and len(body) > 1 and body[0] == "0" and body[1] in "01234567_":
        body = "0o" + body[1:]
    value = int(body, base)
    value = -value if text[0] == "-" else value
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError("value out of range")
    return value


def parse_float(text: str) -> float:
    """ParseFloat(text, 64); raises ValueError, also for a number that is out of range."""
    if _SPECIAL.fullmatch(text):
        return float(text)
    if "_" in text and not _underscores_stand_well(text):
        raise ValueError("invalid syntax")
    plain = text.replace("_", "")
    if _HEX_FLOAT.fullmatch(plain):
        value = float.fromhex(plain)
    elif _FLOAT.fullmatch(plain):
        value = float(plain)
    else:
        raise ValueError("invalid syntax")
    if math.isinf(value):
        raise ValueError("value out of range")
    return value


def _underscores_stand_well(text: str) -> bool:
    """Between digits, or between a prefix and a digit, and nowhere else."""
    body = text.lstrip("+-").lower()
    is_hex = body.startswith("0x")
    digits = "0123456789abcdef" if is_hex else "0123456789"
    body = "0" + body[2:] if body[:2] in ("0x", "0b", "0o") else body
    before = ""
    for char in body:
        if char == "_" and before != "digit":
            return False
        if before == "_" and char not in digits:
            return False
        before = "_" if char == "_" else "digit" if char in digits else "other"
    return before != "_"
