"""JSON as Go's encoding/json writes and reads it. Source: https://pkg.go.dev/encoding/json."""

import base64
import json
import math
from typing import Final

from strongroom.template.budget import Budget, check_depth
from strongroom.template.calendar import Time
from strongroom.template.layouts import format_time
from strongroom.template.numbers import format_float
from strongroom.template.values import (
    Map,
    Object,
    Slice,
    Value,
    any_list,
    any_map,
    is_integer,
    kind_name,
    text_of,
)

_ESCAPES: Final = {
    '"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t",
    "\u2028": "\\u2028", "\u2029": "\\u2029",
}  # fmt: skip
_HTML: Final = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


class NotJson(Exception):
    """A value that JSON cannot hold, or a text that is no JSON. Carries no value."""


def to_json(value: Value, budget: Budget, *, indent: str = "", escape_html: bool = True) -> bytes:
    """The value as JSON; raises NotJson for NaN, infinities and complex numbers."""
    return "".join(_Writer(budget, indent, escape_html=escape_html).write(value, 0)).encode()


class _Writer:
    def __init__(self, budget: Budget, indent: str, *, escape_html: bool) -> None:
        self.budget = budget
        self.indent = indent
        self.escapes = _ESCAPES | (_HTML if escape_html else {})

    def write(self, value: Value, depth: int) -> list[str]:
        self.budget.step()
        check_depth(depth)
        if isinstance(value, Slice | Map | Object):
            return self.container(value, depth)
        if value is None:
            return ["null"]
        if isinstance(value, bool):
            return ["true" if value else "false"]
        if is_integer(value):
            return [str(int(value))]
        if isinstance(value, float):
            return [self.number(value)]
        if isinstance(value, bytes):
            return [self.string(value)]
        raise NotJson(f"unsupported type: {kind_name(value)}")

    def container(self, value: Slice | Map | Object, depth: int) -> list[str]:
        if isinstance(value, Map):
            pairs = [(key, value.items[key]) for key in sorted(value.items)]
            return ["null"] if value.nil else self.pairs(pairs, depth)
        if isinstance(value, Slice):
            if value.nil:
                return ["null"]
            if value.elem == "uint8":
                return [self.string(base64.b64encode(bytes(value.items)))]
            return self.block("[]", [self.write(item, depth + 1) for item in value.items], depth)
        if isinstance(value, Time):
            return [f'"{format_time(value, "2006-01-02T15:04:05.999999999Z07:00")}"']
        if value.kind == "ptr":
            return [self.string(value.text())]
        fields = [(name.encode(), item) for name, item in value.fields().items()]
        return self.pairs(fields, depth)

    def pairs(self, pairs: list[tuple[bytes, Value]], depth: int) -> list[str]:
        between = ": " if self.indent else ":"
        written = [[self.string(key), between, *self.write(item, depth + 1)] for key, item in pairs]
        return self.block("{}", written, depth)

    def block(self, brackets: str, items: list[list[str]], depth: int) -> list[str]:
        if not items:
            return [brackets]
        newline = "\n" + self.indent * (depth + 1) if self.indent else ""
        out = [brackets[0], newline]
        for place, item in enumerate(items):
            if place:
                out += [",", newline]
            out += item
        out += ["\n" + self.indent * depth if self.indent else "", brackets[1]]
        self.budget.produce(sum(len(piece) for piece in out[:2]) + len(out))
        return out

    def string(self, value: bytes) -> str:
        self.budget.produce(len(value))
        text = value.decode("utf-8", "surrogateescape")
        return '"' + "".join(self.char(char) for char in text) + '"'

    def char(self, char: str) -> str:
        if char in self.escapes:
            return self.escapes[char]
        if "\udc80" <= char <= "\udcff":  # a byte that is no UTF-8
            return "\\ufffd"
        return f"\\u{ord(char):04x}" if char < " " else char

    def number(self, value: float) -> str:
        if not math.isfinite(value):
            raise NotJson("unsupported value: not a finite number")
        size = abs(value)
        if size and (size < 1e-6 or size >= 1e21):
            text = format_float(value, "e")
            # e-09 is written e-9.
            return text[:-2] + text[-1] if text[-4:-1] == "e-0" else text
        return format_float(value, "f")


class _Overflow:
    """Remembers that a number was too large for a float64."""

    def __init__(self) -> None:
        self.seen = False

    def number(self, text: str) -> float | None:
        value = float(text)
        if math.isinf(value):
            self.seen = True
            return None
        return value


def from_json(text: bytes, budget: Budget) -> tuple[Value, bool]:
    """The value, and whether all of it could be held; raises NotJson. Numbers are float64."""
    budget.step(len(text) // 8)
    overflow = _Overflow()

    def refuse(_: str) -> None:
        raise ValueError("no JSON")

    try:
        found = json.loads(
            text_of(text),
            parse_int=overflow.number,
            parse_float=overflow.number,
            parse_constant=refuse,
        )
        return from_plain(found, budget), not overflow.seen
    except (ValueError, RecursionError):
        raise NotJson("the text is not JSON") from None


def from_plain(found: object, budget: Budget, depth: int = 0) -> Value:
    """Python's plain values as template values."""
    budget.step()
    check_depth(depth)
    if isinstance(found, str):
        return _encoded(found)
    if isinstance(found, list):
        return any_list([from_plain(item, budget, depth + 1) for item in found])
    if isinstance(found, dict):
        return any_map(
            {_encoded(str(key)): from_plain(item, budget, depth + 1) for key, item in found.items()}
        )
    return found


def _encoded(text: str) -> bytes:
    """UTF-8; half a surrogate pair becomes U+FFFD."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text).encode()
