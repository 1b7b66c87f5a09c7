"""The functions of text/template itself. Rules: https://pkg.go.dev/text/template (Functions)."""

from collections.abc import Sequence
from typing import Final
from urllib.parse import quote_plus

from strongroom.template.errors import CallFailed
from strongroom.template.formatting import sprint, sprintln
from strongroom.template.printf import sprintf
from strongroom.template.registry import BY_BYTES, Run, Table
from strongroom.template.values import (
    Map,
    Object,
    Slice,
    Uint8,
    Value,
    is_integer,
    is_nil,
    is_unsigned,
    kind_name,
    truth,
    type_name,
    zero,
)

BUILTINS: Final = Table("Go text/template")
_HTML: Final = {'"': "&#34;", "'": "&#39;", "&": "&amp;", "<": "&lt;", ">": "&gt;", "\0": "\ufffd"}
_JS: Final = {"\\": "\\\\", "'": "\\'", '"': '\\"', "<": "\\u003C", ">": "\\u003E",
              "&": "\\u0026", "=": "\\u003D"}  # fmt: skip


@BUILTINS("and or", "value, value...")
def _shortcut(*_: Value) -> Value:
    """The first empty (and) or non-empty (or) argument; the rest is not evaluated."""
    raise CallFailed("and, or are evaluated in place")


@BUILTINS("not", "value")
def _not(value: Value) -> Value:
    """Whether the argument is empty."""
    return not truth(value)


@BUILTINS("call", "value, value...")
def _call(*_: Value) -> Value:
    """Calls a function value; there are none in a Secret's data, so it always fails."""
    raise CallFailed("non-function cannot be called")


@BUILTINS("print", "any...")
def _print(run: Run, *values: Value) -> Value:
    """The arguments as text, with spaces between two that are no strings."""
    return sprint(values, run.budget)


@BUILTINS("println", "any...")
def _println(run: Run, *values: Value) -> Value:
    """The arguments as text with spaces, and a newline."""
    return sprintln(values, run.budget)


@BUILTINS("printf", "string, any...")
def _printf(run: Run, form: bytes, *values: Value) -> Value:
    """Formatted text, with Go's verbs."""
    return sprintf(form, values, run.budget)


@BUILTINS("len", "value")
def _len(value: Value) -> Value:
    """Bytes of a string, elements of a list or map."""
    if isinstance(value, Slice | Map):
        return len(value.items)
    if isinstance(value, bytes):
        return len(value)
    raise CallFailed("len of nil" if value is None else f"len of type {type_name(value)}")


@BUILTINS("index", "value, value...")
def _index(value: Value, *indexes: Value) -> Value:
    """An element by its indexes or keys; a key that is missing gives the zero value."""
    if value is None:
        raise CallFailed("index of untyped nil")
    for index in indexes:
        if isinstance(value, Map):
            value = _by_key(value, index)
        elif isinstance(value, Slice | bytes):
            size = len(value) if isinstance(value, bytes) else len(value.items)
            at = _offset(index, size)
            if at == size:
                raise CallFailed(f"index out of range: {at}")
            value = Uint8(value[at]) if isinstance(value, bytes) else value.items[at]
        else:
            raise CallFailed(
                "index of nil pointer" if value is None
                else f"can't index item of type {type_name(value)}"
            )  # fmt: skip
    return value


def _by_key(value: Map, index: Value) -> Value:
    if index is None or type_name(index) != value.key:
        raise CallFailed(f"value has type {type_name(index)}; should be {value.key}")
    return value.items.get(index, zero(value.elem))


def _offset(index: Value, size: int) -> int:
    if not is_integer(index):
        raise CallFailed(f"cannot index slice/array with type {type_name(index)}")
    if not 0 <= index <= size:
        raise CallFailed(f"index out of range: {int(index)}")
    return int(index)


@BUILTINS("slice", "value, value...")
def _slice(value: Value, *indexes: Value) -> Value:
    """Part of a string or list, from one index up to another."""
    if not isinstance(value, Slice | bytes):
        what = "slice of untyped nil" if value is None else "can't slice item of this type"
        raise CallFailed(what)
    if len(indexes) > 3:
        raise CallFailed(f"too many slice indexes: {len(indexes)}")
    if isinstance(value, bytes) and len(indexes) == 3:
        raise CallFailed("cannot 3-index slice a string")
    size = len(value) if isinstance(value, bytes) else len(value.items)
    bounds = [0, size, size]
    for place, index in enumerate(indexes):
        bounds[place] = _offset(index, size)
    if not bounds[0] <= bounds[1] <= bounds[2]:
        raise CallFailed("invalid slice index: the first is after the last")
    if isinstance(value, bytes):
        return value[bounds[0] : bounds[1]]
    return Slice(value.elem, value.items[bounds[0] : bounds[1]])


def _comparable(value: Value) -> str:
    """The basic kind, "" for what has no order."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, bytes):
        return "string"
    if is_integer(value):
        return "uint" if is_unsigned(value) else "int"
    if isinstance(value, float):
        return "float"
    return "complex" if isinstance(value, complex) else ""


def _same(first: Value, second: Value) -> bool:
    one, other = _comparable(first), _comparable(second)
    if one != other and {one, other} != {"int", "uint"}:
        if first is None or second is None:
            return False
        raise CallFailed(
            f"incompatible types for comparison: {type_name(first)} and {type_name(second)}"
        )
    if one:
        return bool(first == second)
    if kind_name(first) != kind_name(second) and first is not None and second is not None:
        raise CallFailed(f"non-comparable types {type_name(first)} and {type_name(second)}")
    if is_nil(first) or is_nil(second):
        return is_nil(first) == is_nil(second)
    if not isinstance(second, Object):
        raise CallFailed(f"non-comparable type {type_name(second)}")
    return type_name(first) == type_name(second) and first.identity() == second.identity()


def _less(first: Value, second: Value) -> bool:
    one, other = _comparable(first), _comparable(second)
    if not one or not other:
        raise CallFailed("invalid type for comparison")
    if one != other and {one, other} != {"int", "uint"}:
        raise CallFailed(
            f"incompatible types for comparison: {type_name(first)} and {type_name(second)}"
        )
    if one in ("bool", "complex"):
        raise CallFailed("invalid type for comparison")
    return bool(first < second)


@BUILTINS("eq", "value, value...")
def _eq(first: Value, *others: Value) -> Value:
    """Whether the first argument equals one of the others."""
    if not others:
        raise CallFailed("missing argument for comparison")
    return any(_same(first, other) for other in others)


@BUILTINS("ne", "value, value")
def _ne(first: Value, second: Value) -> Value:
    """Whether two values differ."""
    return not _same(first, second)


@BUILTINS("lt", "value, value")
def _lt(first: Value, second: Value) -> Value:
    """Whether the first is less than the second."""
    return _less(first, second)


@BUILTINS("le", "value, value")
def _le(first: Value, second: Value) -> Value:
    """Whether the first is at most the second."""
    return _less(first, second) or _same(first, second)


@BUILTINS("gt", "value, value")
def _gt(first: Value, second: Value) -> Value:
    """Whether the first is more than the second."""
    return not _less(first, second) and not _same(first, second)


@BUILTINS("ge", "value, value")
def _ge(first: Value, second: Value) -> Value:
    """Whether the first is at least the second."""
    return not _less(first, second)


def _joined(run: Run, values: Sequence[Value]) -> bytes:
    return values[0] if len(values) == 1 and isinstance(values[0], bytes) else sprint(
        [b"<no value>" if value is None else value for value in values], run.budget
    )  # fmt: skip


@BUILTINS("html", "any...", bytes_in_a_step=BY_BYTES)
def _html(run: Run, *values: Value) -> Value:
    """The text escaped for HTML."""
    text = _joined(run, values).decode("utf-8", "surrogateescape")
    escaped = "".join(_HTML.get(char, char) for char in text)
    return escaped.encode("utf-8", "surrogateescape")


@BUILTINS("js", "any...", bytes_in_a_step=BY_BYTES)
def _js(run: Run, *values: Value) -> Value:
    """The text escaped for JavaScript."""
    out = []
    for char in _joined(run, values).decode("utf-8", "surrogateescape"):
        if char in _JS:
            out.append(_JS[char])
        elif char < " ":
            out.append(f"\\u{ord(char):04X}")
        elif char.isascii() or char.isprintable() or "\udc80" <= char <= "\udcff":
            out.append(char)
        else:
            out.append(f"\\u{ord(char):04X}")
    return "".join(out).encode("utf-8", "surrogateescape")


@BUILTINS("urlquery", "any...", bytes_in_a_step=BY_BYTES)
def _urlquery(run: Run, *values: Value) -> Value:
    """The text escaped for a URL's query."""
    return quote_plus(_joined(run, values)).encode()
