"""What sprig makes of any value where it wants a number or a string.

Source: https://pkg.go.dev/github.com/spf13/cast (ToInt64, ToFloat64) and sprig's own strval.
"""

import math
import re
from typing import Final

from strongroom.template.budget import Budget
from strongroom.template.formatting import sprint
from strongroom.template.numbers import parse_float, parse_int
from strongroom.template.values import Int64, NamedInt, Object, Slice, Value, is_integer

_ZERO_FRACTION: Final = re.compile(rb"\.0+\Z")
_LOWEST: Final = -(1 << 63)


def to_int64(value: Value) -> int:
    """An integer; 0 for what cannot be one."""
    if isinstance(value, bool) or value is None:
        return int(bool(value))
    if is_integer(value):
        return 0 if isinstance(value, NamedInt) else int(Int64.wrap(value))
    if isinstance(value, float):
        return truncate(value)
    if isinstance(value, bytes):
        try:
            return parse_int(_ZERO_FRACTION.sub(b"", value).decode("latin-1"), 0)
        except ValueError:
            return 0
    return 0


def truncate(value: float) -> int:
    """A float64 as an int64, the way amd64 converts it: out of range is the lowest number."""
    if math.isnan(value) or not -(2.0**63) <= value < 2.0**63:
        return _LOWEST
    return int(value)


def to_float64(value: Value) -> float:
    """A float; 0 for what cannot be one."""
    if isinstance(value, bool) or value is None:
        return float(bool(value))
    if isinstance(value, float):
        return value
    if is_integer(value):
        return 0.0 if isinstance(value, NamedInt) else float(int(value))
    if isinstance(value, bytes):
        try:
            return parse_float(value.decode("latin-1"))
        except ValueError:
            return 0.0
    return 0.0


def to_text(value: Value, budget: Budget) -> bytes:
    """A string as it is, a list of bytes as one, anything else as it prints."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, Slice) and value.elem == "uint8":
        return bytes(value.items)
    if isinstance(value, NamedInt) or (isinstance(value, Object) and value.stringer):
        return value.text()
    return sprint([value], budget)


def to_texts(value: Value, budget: Budget) -> list[bytes]:
    """The elements of a list as strings without nil; anything else is a list of one."""
    if value is None:
        return []
    if isinstance(value, Slice):
        if value.elem == "string":
            return list(value.items)
        budget.step(len(value.items))
        return [to_text(each, budget) for each in value.items if each is not None]
    return [to_text(value, budget)]


def is_empty(value: Value) -> bool:
    """Sprig's idea of empty: zero, no elements, or nil. A struct never is."""
    if value is None:
        return True
    if isinstance(value, Object):
        return False
    return not getattr(value, "items", value)
