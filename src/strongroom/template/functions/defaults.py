"""Defaults, and questions about values. Source: https://masterminds.github.io/sprig/defaults.html."""

from typing import Final

from strongroom.template.casting import is_empty
from strongroom.template.errors import CallFailed
from strongroom.template.registry import Table
from strongroom.template.values import Literal, Value, kind_name, type_name

DEFAULTS: Final = Table("Defaults and types")


@DEFAULTS("default", "any, any...")
def _default(fallback: Value, *given: Value) -> Value:
    """The value, or the first argument if it is empty."""
    return fallback if not given or is_empty(given[0]) else given[0]


@DEFAULTS("empty", "any")
def _empty(value: Value) -> bool:
    """Whether it is empty: nil, "", 0, false, no elements."""
    return is_empty(value)


@DEFAULTS("coalesce", "any...")
def _coalesce(*values: Value) -> Value:
    """The first value that is not empty."""
    return next((each for each in values if not is_empty(each)), None)


@DEFAULTS("all", "any...")
def _all(*values: Value) -> bool:
    """Whether none is empty."""
    return not any(is_empty(each) for each in values)


@DEFAULTS("any", "any...")
def _any(*values: Value) -> bool:
    """Whether one is not empty."""
    return any(not is_empty(each) for each in values)


@DEFAULTS("ternary", "any, any, bool")
def _ternary(yes: Value, no: Value, condition: bool) -> Value:  # noqa: FBT001 - the template's
    """The first if the last argument is true, else the second."""
    return yes if condition else no


@DEFAULTS("fail", "string")
def _fail(message: bytes) -> Value:
    """Ends the rendering with an error; the message is told only if the template spells it out."""
    if isinstance(message, Literal):
        raise CallFailed(message.decode(errors="replace"))
    raise CallFailed("the template says fail (its message is computed, so it is not shown)")


@DEFAULTS("typeOf", "any")
def _type_of(value: Value) -> bytes:
    """The Go type."""
    return type_name(value).encode()


@DEFAULTS("typeIs", "string, any")
def _type_is(name: bytes, value: Value) -> bool:
    """Whether it is of the Go type."""
    return name == type_name(value).encode()


@DEFAULTS("typeIsLike", "string, any")
def _type_is_like(name: bytes, value: Value) -> bool:
    """Whether it is of the Go type or a pointer to it."""
    return type_name(value).encode() in (name, b"*" + name)


@DEFAULTS("kindOf", "any")
def _kind_of(value: Value) -> bytes:
    """The Go kind."""
    return kind_name(value).encode()


@DEFAULTS("kindIs", "string, any")
def _kind_is(name: bytes, value: Value) -> bool:
    """Whether it is of the Go kind."""
    return name == kind_name(value).encode()
