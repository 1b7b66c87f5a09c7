"""From what a provider returned to the bytes of a Secret's keys. Pure.

Order and rules: https://external-secrets.io/latest/guides/getallsecrets/ and the API reference.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final

import orjson

from strongroom.model.errors import Invalid, NotFound
from strongroom.sync.spec import KEY, RemoteRef

_ALLOWED: Final = frozenset("-._abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")


def as_bytes(value: Any) -> bytes:  # noqa: ANN401 - JSON
    """A string as it is, anything else as JSON text."""
    return value.encode() if isinstance(value, str) else orjson.dumps(value)


def pick(data: Mapping[str, Any], ref: RemoteRef) -> bytes:
    """One value: the whole object as JSON, or its property; raises NotFound(`no-property`).

    An exact key goes before a dotted path; a path also steps into lists and JSON text.
    """
    if not ref.property:
        return decode(as_bytes(dict(data)), ref)
    if ref.property in data:
        return decode(as_bytes(data[ref.property]), ref)
    value: Any = data
    for step in ref.property.split("."):
        if isinstance(value, str):
            value = _parsed(value)
        if isinstance(value, Mapping) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            raise NotFound("no-property", f"cannot find the property {ref.property} in {ref.key}")
    return decode(as_bytes(value), ref)


def extract(data: Mapping[str, Any], ref: RemoteRef) -> dict[str, bytes]:
    """Every key of an object; of the property's object when one is named."""
    source: Any = data
    if ref.property:
        source = _parsed(pick(data, RemoteRef(ref.key, ref.property)).decode(errors="replace"))
    if not isinstance(source, Mapping):
        raise Invalid("not-an-object", f"{ref.key} does not hold an object")
    found: dict[str, bytes] = {}
    for name, value in source.items():
        key = convert(str(name), ref.conversion)
        if key in found:
            raise Invalid("key-collision", f"two keys of {ref.key} become {key!r}")
        found[key] = decode(as_bytes(value), ref)
    return found


def convert(name: str, strategy: str) -> str:
    """A key that a Secret can have; raises Invalid for one that is too long or empty."""
    if strategy == "Unicode":
        key = "".join(each if each in _ALLOWED else f"_U{ord(each):04x}_" for each in name)
    else:
        key = "".join(each if each in _ALLOWED else "_" for each in name)
    if not KEY.fullmatch(key):
        raise Invalid("bad-key", f"{name!r} cannot be a key of a Secret")
    return key


def decode(value: bytes, ref: RemoteRef) -> bytes:
    """Apply the decoding strategy; raises Invalid(`bad-encoding`) without showing the value."""
    if ref.decoding == "Base64":
        value = _base64(value, ref)
    elif ref.decoding == "Base64URL":
        value = _base64(value.translate(bytes.maketrans(b"-_", b"+/")), ref)
    elif ref.decoding == "Auto":
        value = _guess(value)
    if ref.refuse_null_bytes and b"\0" in value:
        raise Invalid("null-byte", f"the value of {ref.key} has a null byte")
    return value


def _base64(value: bytes, ref: RemoteRef) -> bytes:
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except binascii.Error:
        raise Invalid("bad-encoding", f"the value of {ref.key} is not base64") from None


def _guess(value: bytes) -> bytes:
    for text in (value, value.translate(bytes.maketrans(b"-_", b"+/"))):
        try:
            return base64.b64decode(text, validate=True)
        except binascii.Error:
            continue
    return value


def _parsed(text: str) -> Any:  # noqa: ANN401 - JSON
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
