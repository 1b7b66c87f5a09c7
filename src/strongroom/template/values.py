"""The values a template computes with, under their Go types.

A Go string is `bytes`, an int `int`, a float64 `float`, a bool `bool`, nil is `None`. What Python
has no type for is here. Nothing is ever decoded: a value of 256 different bytes stays as it is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

Value = Any  # one of the types named above, or a class of this module

ANY: Final = "interface {}"


class Literal(bytes):
    """A string written in the template itself, which is no secret and may stand in an error."""


class SizedInt(int):
    """An integer of a Go type other than int; `wrap` keeps it inside its bits as Go does."""

    go_type: ClassVar[str] = "int64"
    kind: ClassVar[str] = "int64"
    bits: ClassVar[int] = 64
    signed: ClassVar[bool] = True

    @classmethod
    def wrap(cls, number: int) -> "SizedInt":
        """The value modulo the type's range."""
        number &= (1 << cls.bits) - 1
        if cls.signed and number >> (cls.bits - 1):
            number -= 1 << cls.bits
        return cls(number)


class Int64(SizedInt):
    """int64."""


class Uint32(SizedInt):
    """uint32."""

    go_type = kind = "uint32"
    bits = 32
    signed = False


class Uint8(SizedInt):
    """uint8, what indexing a string gives."""

    go_type = kind = "uint8"
    bits = 8
    signed = False


class Uint64(SizedInt):
    """uint64, what a semantic version's parts are."""

    go_type = kind = "uint64"
    signed = False


@dataclass(eq=False, slots=True)
class Slice:
    """A Go slice; `elem` is the type of its elements. Slices are shared, not copied."""

    elem: str
    items: list[Value] = field(repr=False)
    nil: bool = False

    @property
    def go_type(self) -> str:
        """The type as Go prints it."""
        return f"[]{self.elem}"


@dataclass(eq=False, slots=True)
class Map:
    """A Go map, nearly always with string keys; `elem` is the type of its values."""

    elem: str
    items: dict[Value, Value] = field(repr=False)
    key: str = "string"
    nil: bool = False

    @property
    def go_type(self) -> str:
        """The type as Go prints it."""
        return f"map[{self.key}]{self.elem}"


@dataclass(frozen=True, eq=False, slots=True)
class Method:
    """A method of an object: parameter types (a last one with `...` takes the rest) and code."""

    parameters: tuple[str, ...]
    call: Callable[..., Value]


class Object:
    """A Go struct with methods; `stringer` says whether fmt prints it by its String method."""

    go_type: ClassVar[str]
    kind: ClassVar[str] = "struct"
    stringer: ClassVar[bool] = True

    def fields(self) -> Mapping[str, Value]:
        """Exported fields by name, in the order of their declaration."""
        return {}

    def methods(self) -> Mapping[str, Method]:
        """Methods a template may call."""
        return {}

    def text(self) -> bytes:
        """What String() returns."""
        raise NotImplementedError

    def identity(self) -> object:
        """What two equal ones have in common."""
        return tuple(self.fields().items())


class NamedInt(SizedInt):
    """An integer with methods, such as a duration."""

    def methods(self) -> Mapping[str, Method]:
        """Methods a template may call."""
        return {}

    def text(self) -> bytes:
        """What String() returns."""
        raise NotImplementedError


def any_list(items: list[Value]) -> Slice:
    """[]interface {}."""
    return Slice(ANY, items)


def string_list(items: list[bytes]) -> Slice:
    """[]string."""
    return Slice("string", list(items))


def any_map(items: dict[Value, Value]) -> Map:
    """map[string]interface {}."""
    return Map(ANY, items)


def type_name(value: Value) -> str:
    """The type as `%T` prints it."""
    if value is None:
        return "<nil>"
    if isinstance(value, bytes):
        return "string"
    if isinstance(value, bool):
        return "bool"
    if type(value) is int:
        return "int"
    if isinstance(value, float):
        return "float64"
    if isinstance(value, complex):
        return "complex128"
    return str(value.go_type)


def kind_name(value: Value) -> str:
    """The kind as reflect prints it."""
    if value is None:
        return "invalid"
    if isinstance(value, Slice):
        return "slice"
    if isinstance(value, Map):
        return "map"
    return str(getattr(value, "kind", None) or type_name(value))


def is_integer(value: Value) -> bool:
    """Whether it is of an integer kind (bool is not)."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_unsigned(value: Value) -> bool:
    """Whether it is of an unsigned kind."""
    return isinstance(value, SizedInt) and not value.signed


def truth(value: Value) -> bool:
    """What `if` makes of a value: everything that is empty or zero is false."""
    if value is None:
        return False
    if isinstance(value, Slice | Map):
        return bool(value.items)
    if isinstance(value, bytes | int | float | complex):
        return bool(value)
    return True


def is_nil(value: Value) -> bool:
    """Whether it is nil: nothing, a nil map or a nil slice."""
    return value is None or (isinstance(value, Slice | Map) and value.nil)


def zero(go_type: str) -> Value:
    """The zero value of a type that appears as the element of a map or slice."""
    if go_type == "string":
        return b""
    if go_type.startswith("[]"):
        return Slice(go_type[2:], [], nil=True)
    if go_type.startswith("map[string]"):
        return Map(go_type[11:], {}, nil=True)
    return None


def can_be_nil(go_type: str) -> bool:
    """Whether nil may be passed for a parameter of the type."""
    return go_type in (ANY, "value") or go_type.startswith(("[]", "map["))


def sorted_keys(items: Mapping[Value, Value]) -> list[Value]:
    """Keys in the order Go prints and ranges over them."""
    return sorted(items)


def text_of(value: bytes) -> str:
    """The runes of a Go string: each byte that is not UTF-8 becomes U+FFFD, as in Go."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        found = value.decode("utf-8", "surrogateescape")
        return "".join("\ufffd" if "\udc80" <= each <= "\udcff" else each for each in found)
