"""Properties of pushed objects: set one, take one away, look for one. Pure.

A dotted property steps into objects, a backslash keeps a dot: the rules of
https://github.com/tidwall/sjson, which PushSecrets are written against.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from strongroom.model.errors import Invalid

_STEP: Final = re.compile(r"(?:\\.|[^.\\])+")


def steps(name: str) -> list[str]:
    """The keys of a dotted property."""
    return [re.sub(r"\\(.)", r"\1", each) for each in _STEP.findall(name)] or [name]


def object_in(content: bytes | None, key: str) -> dict[str, Any]:
    """The JSON object a secret holds, {} for none; raises Invalid(`not-an-object`)."""
    if not content:
        return {}
    try:
        found = orjson.loads(bytes(content))
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise Invalid(
            "not-an-object",
            f"{key} does not hold a JSON object, so it has no properties",
            hint="push without a property, or push all properties to a new key",
        )
    return found


def pushed_object(value: bytes, key: str) -> dict[str, Any]:
    """What is pushed to a whole secret that holds named values; raises Invalid."""
    try:
        return object_in(value, key)
    except Invalid:
        raise Invalid(
            "not-an-object",
            f"the value for {key} is no JSON object, and named values are kept there",
            hint="name a remoteRef.property, or leave secretKey out to push every key",
        ) from None


def as_value(value: bytes, key: str) -> str:
    """The text of a pushed value; raises Invalid for bytes that no JSON can hold."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Invalid("binary-property", f"a property of {key} can hold text only") from None


def with_property(content: bytes | None, key: str, name: str, value: bytes) -> bytes:
    """The object with one property set; the others stay as they are."""
    whole = object_in(content, key)
    *way, last = steps(name)
    place = whole
    for step in way:
        inner = place.get(step)
        if not isinstance(inner, dict):
            inner = place[step] = {}
        place = inner
    place[last] = as_value(value, key)
    return orjson.dumps(whole)


def without_property(content: bytes, key: str, name: str) -> bytes | None:
    """The object without one property; None when nothing is left."""
    whole = object_in(content, key)
    *way, last = steps(name)
    place: Any = whole
    for step in way:
        place = place.get(step) if isinstance(place, dict) else None
    if isinstance(place, dict):
        place.pop(last, None)
    return orjson.dumps(whole) if whole else None


def has_property(data: Mapping[str, Any] | bytes, key: str, name: str) -> bool:
    """Whether the object has a property."""
    place: Any = object_in(data, key) if isinstance(data, bytes) else data
    if name in place:
        return True
    for step in steps(name):
        if not isinstance(place, Mapping) or step not in place:
            return False
        place = place[step]
    return True
