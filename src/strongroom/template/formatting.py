"""print, println and printf on template values. Source: https://pkg.go.dev/fmt (Printing)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from strongroom.template.budget import Budget, check_depth
from strongroom.template.numbers import format_float
from strongroom.template.quoting import can_backquote, quote
from strongroom.template.values import (
    Map,
    NamedInt,
    Object,
    Slice,
    Value,
    is_integer,
    is_unsigned,
    kind_name,
    sorted_keys,
    text_of,
    type_name,
)

_BASES: Final = {"d": "d", "b": "b", "o": "o", "O": "o", "x": "x", "X": "X", "v": "d"}
_PREFIXES: Final = {"b": "0b", "x": "0x", "X": "0X"}
_METHOD_VERBS: Final = "vsxXq"
_FLOAT_VERBS: Final = "vbgGxXfFeE"


@dataclass(slots=True)
class Flags:
    """What stands between % and the verb."""

    sharp: bool = False
    zero: bool = False
    plus: bool = False
    minus: bool = False
    space: bool = False
    sharp_v: bool = False
    plus_v: bool = False
    width: int | None = None
    precision: int | None = None


def sprint(values: Sequence[Value], budget: Budget) -> bytes:
    """Sprint: spaces between two operands when neither is a string."""
    printer = Printer(budget)
    after_string = False
    for place, value in enumerate(values):
        is_string = kind_name(value) == "string"
        if place and not is_string and not after_string:
            printer.write(b" ")
        printer.value(value, "v")
        after_string = is_string
    return printer.result()


def sprintln(values: Sequence[Value], budget: Budget) -> bytes:
    """Sprintln: spaces between all operands and a newline."""
    printer = Printer(budget)
    for place, value in enumerate(values):
        if place:
            printer.write(b" ")
        printer.value(value, "v")
    printer.write(b"\n")
    return printer.result()


class Printer:
    """Writes values under flags; every byte is charged."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._out: list[bytes] = []
        self._erroring = False
        self.flags = Flags()

    def write(self, piece: bytes) -> None:
        """Append bytes."""
        self._budget.produce(len(piece))
        self._out.append(piece)

    def result(self) -> bytes:
        """Everything written."""
        return b"".join(self._out)

    def value(self, value: Value, verb: str, depth: int = 0) -> None:
        """One operand under a verb."""
        self._budget.step()
        check_depth(depth)
        if value is None and depth:
            self.write(b"interface {}(nil)" if self.flags.sharp_v else b"<nil>")
        elif value is None:
            self._pad(b"<nil>") if verb in "vT" else self.bad_verb(value, verb)
        elif verb == "T" and not depth:
            self._string(type_name(value).encode(), "s")
        elif not self._by_method(value, verb):
            self._by_kind(value, verb, depth)

    def bad_verb(self, value: Value, verb: str) -> None:
        """What Go writes for a verb that a type does not have."""
        self._erroring = True
        self.write(f"%!{verb}(".encode())
        if value is None:
            self.write(b"<nil>")
        else:
            self.write(f"{type_name(value)}=".encode())
            self.value(value, "v")
        self.write(b")")
        self._erroring = False

    def _by_method(self, value: Value, verb: str) -> bool:
        if self._erroring or not isinstance(value, Object | NamedInt):
            return False
        if self.flags.sharp_v or verb not in _METHOD_VERBS:
            return False
        if isinstance(value, Object) and not value.stringer:
            return False
        text = value.text()
        self._string(text, verb)
        return True

    def _by_kind(self, value: Value, verb: str, depth: int) -> None:
        if isinstance(value, bytes):
            self._string(value, verb)
        elif isinstance(value, bool):
            known = verb in "vt"
            self._pad(b"true" if value else b"false") if known else self.bad_verb(value, verb)
        elif is_integer(value):
            self._integer(value, verb)
        elif isinstance(value, float):
            self._float(value, verb, value)
        elif isinstance(value, complex):
            self._complex(value, verb)
        elif isinstance(value, Slice):
            self._slice(value, verb, depth)
        elif isinstance(value, Map):
            self._map(value, verb, depth)
        else:
            self._struct(value, verb, depth)

    # Containers

    def _slice(self, value: Slice, verb: str, depth: int) -> None:
        if value.elem == "uint8" and verb in "sqxX":
            self._string(bytes(value.items), verb)
            return
        if self.flags.sharp_v:
            self._go_syntax(value, len(value.items), lambda at: self.value(
                value.items[at], verb, depth + 1
            ))  # fmt: skip
            return
        self.write(b"[")
        for place, item in enumerate(value.items):
            if place:
                self.write(b" ")
            self.value(item, verb, depth + 1)
        self.write(b"]")

    def _go_syntax(self, value: Slice | Map, count: int, item: Callable[[int], None]) -> None:
        self.write(value.go_type.encode())
        if value.nil:
            self.write(b"(nil)")
            return
        self.write(b"{")
        for place in range(count):
            if place:
                self.write(b", ")
            item(place)
        self.write(b"}")

    def _map(self, value: Map, verb: str, depth: int) -> None:
        keys = sorted_keys(value.items)

        def pair(at: int) -> None:
            self.value(keys[at], verb, depth + 1)
            self.write(b":")
            self.value(value.items[keys[at]], verb, depth + 1)

        if self.flags.sharp_v:
            self._go_syntax(value, len(keys), pair)
            return
        self.write(b"map[")
        for place in range(len(keys)):
            if place:
                self.write(b" ")
            pair(place)
        self.write(b"]")

    def _struct(self, value: Object, verb: str, depth: int) -> None:
        names = self.flags.plus_v or self.flags.sharp_v
        self.write((type_name(value) if self.flags.sharp_v else "").encode() + b"{")
        for place, (name, item) in enumerate(value.fields().items()):
            if place:
                self.write(b", " if self.flags.sharp_v else b" ")
            if names:
                self.write(f"{name}:".encode())
            self.value(item, verb, depth + 1)
        self.write(b"}")

    # Scalars

    def _pad(self, piece: bytes, *, zero: bool | None = None) -> None:
        width = self.flags.width or 0
        missing = width - len(piece.decode("utf-8", "surrogateescape")) if width else 0
        if missing <= 0:
            self.write(piece)
            return
        zero = self.flags.zero if zero is None else zero
        fill = b"0" if zero and not self.flags.minus else b" "
        self._budget.produce(missing)
        self.write(piece + fill * missing if self.flags.minus else fill * missing + piece)

    def _string(self, value: bytes, verb: str) -> None:
        if verb == "v":
            verb = "q" if self.flags.sharp_v else "s"
        if verb in "xX":
            self._hex(value, verb)
            return
        if verb not in "sq":
            self.bad_verb(value, verb)
            return
        if self.flags.precision is not None:
            text = value.decode("utf-8", "surrogateescape")[: self.flags.precision]
            value = text.encode("utf-8", "surrogateescape")
        if verb == "s":
            self._pad(value)
        elif self.flags.sharp and can_backquote(value):
            self._pad(b"`" + value + b"`")
        else:
            self._pad(quote(value, ascii_only=self.flags.plus))

    def _hex(self, value: bytes, verb: str) -> None:
        if self.flags.precision is not None:
            value = value[: self.flags.precision]
        prefix = "0" + verb if self.flags.sharp else ""
        text = value.hex().upper() if verb == "X" else value.hex()
        if self.flags.space:
            pairs = [text[at : at + 2] for at in range(0, len(text), 2)]
            text = " ".join(prefix + pair for pair in pairs)
        elif text:
            text = prefix + text
        self._pad(text.encode())

    def _integer(self, value: int, verb: str) -> None:
        number = int(value)
        if verb == "v" and self.flags.sharp_v and is_unsigned(value):
            self._pad(f"0x{number:x}".encode(), zero=False)
        elif verb in _BASES:
            self._digits(number, verb)
        elif verb == "c":
            self._pad(_rune(number))
        elif verb == "q":
            self._pad(quote(_rune(number), mark="'", ascii_only=self.flags.plus))
        elif verb == "U":
            self._unicode(number)
        else:
            self.bad_verb(value, verb)

    def _digits(self, number: int, verb: str) -> None:
        flags, base = self.flags, _BASES[verb]
        least = flags.precision or 0
        signed = number < 0 or flags.plus or flags.space
        if flags.precision is not None:
            if flags.precision == 0 and number == 0:
                self._pad(b"", zero=False)
                return
        elif flags.zero and not flags.minus and flags.width is not None:
            least = flags.width - (1 if signed else 0)
        self._budget.produce(least)
        text = format(abs(number), base).rjust(least, "0")
        if flags.sharp and base == "o" and text[0] != "0":
            text = "0" + text
        elif flags.sharp:
            text = _PREFIXES.get(base, "") + text
        if verb == "O":
            text = "0o" + text
        sign = "-" if number < 0 else "+" if flags.plus else " " if flags.space else ""
        self._pad((sign + text).encode(), zero=False)

    def _unicode(self, number: int) -> None:
        code = number & 0xFFFFFFFFFFFFFFFF
        text = f"U+{code:0{max(4, self.flags.precision or 0)}X}"
        if self.flags.sharp and code <= 0x10FFFF and chr(code).isprintable():
            text += f" '{chr(code)}'"
        self._pad(text.encode(), zero=False)

    def _float(self, number: float, verb: str, whole: Value) -> None:
        if verb not in _FLOAT_VERBS:
            self.bad_verb(whole, verb)
            return
        flags = self.flags
        kind = {"v": "g", "F": "f"}.get(verb, verb)
        default = 6 if kind in "feE" else -1
        precision = default if flags.precision is None else flags.precision
        self._budget.produce(max(precision, 0))
        text = format_float(number, kind, precision)
        if text[0] not in "+-":
            text = "+" + text
        if flags.space and text[0] == "+" and not flags.plus:
            text = " " + text[1:]
        if text[1] in "IN":
            bare = text[1] == "N" and not flags.space and not flags.plus
            self._pad(text[1:].encode() if bare else text.encode(), zero=False)
            return
        if flags.sharp and kind != "b":
            text = _with_point(text, kind, precision)
        if not flags.plus and text[0] == "+":
            self._pad(text[1:].encode())
        elif flags.zero and not flags.minus and (flags.width or 0) > len(text):
            self._pad_after_sign(text)
        else:
            self._pad(text.encode())

    def _pad_after_sign(self, text: str) -> None:
        missing = (self.flags.width or 0) - len(text)
        self._budget.produce(missing)
        self.write((text[0] + "0" * missing + text[1:]).encode())

    def _complex(self, number: complex, verb: str) -> None:
        if verb not in _FLOAT_VERBS:
            self.bad_verb(number, verb)
            return
        plus = self.flags.plus
        self.write(b"(")
        self._float(number.real, verb, number)
        self.flags.plus = True
        self._float(number.imag, verb, number)
        self.flags.plus = plus
        self.write(b"i)")


def _rune(number: int) -> bytes:
    if not 0 <= number <= 0x10FFFF or 0xD800 <= number < 0xE000:
        return "\ufffd".encode()
    return chr(number).encode()


def _with_point(text: str, kind: str, precision: int) -> str:
    """`%#g` and its like: a point is always there, and zeros are not dropped."""
    digits = 0
    if kind in "gGx":
        digits = 6 if precision == -1 else precision
    mark = "p" if kind in "xX" else "e"
    at = max(text.lower().find(mark), 0) or len(text)
    body, tail = text[:at], text[at:]
    seen = False
    for char in body[1:]:
        if char == ".":
            continue
        seen = seen or char != "0"
        digits -= seen
    if "." not in body:
        if body[1:] == "0":
            digits -= 1
        body += "."
    return body + "0" * max(0, digits) + tail


__all__ = ["Flags", "Printer", "sprint", "sprintln", "text_of"]
