"""From what a provider returned to the bytes of a Secret's keys. Pure.

Order and rules: https://external-secrets.io/latest/guides/getallsecrets/ and the API reference.
"""

import base64
import binascii
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, Protocol

import orjson

from strongroom.model.errors import Invalid, NotFound
from strongroom.sync.json_path import ABSENT, lookup
from strongroom.sync.raw_json import fixed, has_text, loads, marshalled, raw_text
from strongroom.sync.spec import KEY, RemoteRef

_ALLOWED: Final = frozenset("-._abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")
# Go's decoder passes over these wherever they stand.
_LINE_ENDS: Final = b"\r\n"
# An object of named values, or one value whose bytes may be JSON or anything else. Parts of such
# a JSON text are given as they stand in it; what is an object is written as Go does.
Data = Mapping[str, Any] | bytes


class Escaped(dict[str, Any]):
    """Named values whose JSON text has `<`, `>` and `&` escaped, as the other controller's has."""


class Parsed(bytes):
    """A JSON text that the other controller parses before it takes parts of it."""


class Marks(dict[str, Mapping[str, str]]):
    """Labels and annotations, whose names may have dots: `labels.app.kubernetes.io/name`."""

    def within(self, place: str) -> Any:  # noqa: ANN401 - JSON
        """What lies at a path whose second part is a whole name, or `ABSENT`."""
        part, _, name = place.partition(".")
        return self.get(part, {}).get(name, ABSENT)


class Tags(dict[str, str]):
    """Tags of a secret of Azure, which `extract` gives the secret's name in front."""

    def __init__(self, name: str, tags: Mapping[str, str]) -> None:
        super().__init__(tags)
        self.name = name

    def within(self, place: str) -> Any:  # noqa: ANN401 - JSON
        """What `TAG.KEY` means where KEY has dots itself, or `ABSENT`."""
        tag, _, key = place.partition(".")
        held = _parsed(self.get(tag, "").encode())
        return held.get(key, ABSENT) if isinstance(held, dict) else ABSENT

    def spread(self) -> dict[str, bytes]:
        """All of them; of one that is a JSON object of texts each of these."""
        found: dict[str, bytes] = {}
        for tag, value in self.items():
            held = _parsed(value.encode())
            if isinstance(held, dict) and all(isinstance(each, str) for each in held.values()):
                found |= {f"{self.name}_{tag}_{key}": each.encode() for key, each in held.items()}
            else:
                found[f"{self.name}_{tag}"] = value.encode()
        return found


class Decoding(Protocol):
    """The parts of a reference that say how values and keys are read."""

    @property
    def conversion(self) -> str:
        """Default or Unicode."""

    @property
    def decoding(self) -> str:
        """None, Base64, Base64URL or Auto."""

    @property
    def refuse_null_bytes(self) -> bool:
        """Whether a value with a null byte is an error."""


def as_bytes(value: Any) -> bytes:  # noqa: ANN401 - JSON, with bytes in it
    """Text and bytes as they are, nothing for null, numbers in digits, the rest as JSON text."""
    plain = _scalar(value)
    return marshalled(value) if plain is None else plain


def _scalar(value: Any) -> bytes | None:  # noqa: ANN401 - JSON, with bytes in it
    """The text of a value that is no object or list, None for one that is."""
    if isinstance(value, bytes):
        return value
    if value is None:
        return b""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if isinstance(value, int):
        return str(value).encode()
    return fixed(value) if isinstance(value, float) else None


def whole(data: Data) -> bytes:
    """A fetched secret as one value: its bytes, or its object as JSON."""
    if isinstance(data, bytes):
        return bytes(data)
    return marshalled(dict(data), escaped=isinstance(data, Escaped))


def pick(data: Data, ref: RemoteRef) -> bytes:
    """One value: the whole secret, or its property; raises NotFound(`no-property`).

    An exact key goes before a path (`json_path`).
    """
    if not ref.property:
        return decode(whole(data), ref, ref.key)
    held = _parsed(data) if isinstance(data, bytes) else data
    found = _property(held, ref.property)
    # What modifiers make has the text of its parts too.
    if isinstance(data, bytes) and (
        isinstance(found, Mapping | list | float) or "@" in ref.property
    ):
        found = _property(_noted(data), ref.property)
    if found is ABSENT:
        raise NotFound(
            "no-property",
            f"cannot find the property {ref.property} in {ref.key}",
            hint="the property is a key of the secret, or a path within it",
        )
    value = _scalar(found)
    if value is None:
        if isinstance(data, bytes) or has_text(found):
            value = raw_text(found)
        else:
            value = marshalled(found, escaped=isinstance(data, Escaped))
    return decode(value, ref, ref.key)


def _property(held: Any, name: str) -> Any:  # noqa: ANN401 - JSON
    if isinstance(held, Mapping) and name in held:
        return held[name]
    found = lookup(held, name)
    return held.within(name) if found is ABSENT and isinstance(held, Marks | Tags) else found


def extract(data: Data, ref: RemoteRef) -> dict[str, bytes]:
    """Every key of an object, as the provider names it; of the property's when one is named."""
    if not ref.property:
        return data.spread() if isinstance(data, Tags) else _keys(data, ref)
    inner = pick(data, RemoteRef(ref.key, ref.property))
    if isinstance(data, Tags):
        return {f"{data.name}_{ref.property}": inner}
    if isinstance(data, bytes):
        return _keys(inner, ref)
    if isinstance(data, Escaped):
        # As the other controller reads it a second time, it is written by the same rules.
        return _keys(Parsed(inner), ref)
    held = _parsed(inner)
    return _keys(held if isinstance(held, Mapping) else inner, ref)


def _keys(data: Data, ref: RemoteRef) -> dict[str, bytes]:
    source: Any = _parsed(data) if isinstance(data, bytes) else data
    if not isinstance(source, Mapping):
        raise Invalid("not-an-object", f"{ref.key} does not hold an object")
    if isinstance(data, Parsed | Escaped):
        return {str(name): as_bytes(value) for name, value in source.items()}
    write: Callable[[Any], bytes] = partial(marshalled, escaped=False)
    if isinstance(data, bytes):
        write = raw_text
        if any(isinstance(value, Mapping | list | float) for value in source.values()):
            source = _noted(data)
    found: dict[str, bytes] = {}
    for name, value in source.items():
        plain = None if isinstance(value, float) else _scalar(value)
        found[str(name)] = write(value) if plain is None else plain
    return found


def finish(
    found: Mapping[str, bytes], how: Decoding, where: str, *, rewritten: bool
) -> dict[str, bytes]:
    """Convert keys (unless a rewrite has made them), check them, and decode the values.

    A key that a rewrite leaves nothing of is left out, which is how some are chosen.
    """
    data: dict[str, bytes] = {}
    for name, value in found.items():
        if not name:
            continue
        key = name if rewritten else convert(name, how.conversion)
        if not KEY.fullmatch(key):
            hint = "rewrite the key, or leave the rewrite out so that it is converted"
            raise Invalid("bad-key", f"{key!r} cannot be a key of a Secret", hint=hint)
        if key in data:
            raise Invalid("key-collision", f"two keys of {where} become {key!r}")
        data[key] = decode(value, how, where)
    if found and not data:
        # Said rather than taken for a store that has nothing, on which a policy deletes.
        raise Invalid("bad-key", f"the rewrite leaves nothing of any key of {where}")
    return data


def convert(name: str, strategy: str) -> str:
    """A key that a Secret can have; raises Invalid for one that is too long."""
    if strategy == "Unicode":
        key = "".join(each if each in _ALLOWED else f"_U{ord(each):04x}_" for each in name)
    else:
        key = "".join(each if each in _ALLOWED else "_" for each in name)
    if not KEY.fullmatch(key):
        raise Invalid("bad-key", f"{name!r} cannot be a key of a Secret")
    return key


def decode(value: bytes, how: Decoding, where: str) -> bytes:
    """Apply the decoding strategy; raises Invalid(`bad-encoding`) without showing the value."""
    if how.decoding in ("Base64", "Base64URL"):
        value = _base64(value, where, url_safe=how.decoding == "Base64URL")
    elif how.decoding == "Auto":
        value = _guess(value)
    if how.refuse_null_bytes and b"\0" in value:
        raise Invalid("null-byte", f"the value of {where} has a null byte")
    return value


def decode_named(value: bytes, strategy: str, where: str) -> bytes:
    """Apply a strategy that stands alone (`valuesDecodingStrategy`)."""
    return decode(value, RemoteRef(where, decoding=strategy), where)


def _base64(value: bytes, where: str, *, url_safe: bool) -> bytes:
    """As strict as Go's decoder: one alphabet, and padding to a multiple of four."""
    text = value.translate(None, _LINE_ENDS)
    try:
        if not url_safe:
            return _strict(text)
        if b"+" not in text and b"/" not in text:
            return _strict(text.translate(_URL_SAFE))
    except binascii.Error:
        pass
    named, other = ("base64url", "Base64") if url_safe else ("base64", "Base64URL")
    raise Invalid(
        "bad-encoding",
        f"the value of {where} is not {named}",
        hint=f"it needs its padding (=); for the other alphabet use {other}, for plain values None",
    )


def _guess(value: bytes) -> bytes:
    """Decoded by the one alphabet or the other; what mixes the two is a plain value."""
    text = value.translate(None, _LINE_ENDS)
    url_safe = b"+" not in text and b"/" not in text
    for each in (text, text.translate(_URL_SAFE)) if url_safe else (text,):
        try:
            return _strict(each)
        except binascii.Error:
            continue
    return value


def _strict(text: bytes) -> bytes:
    """Decoded; raises binascii.Error, for padding that nothing needs too.

    Python passes over it behind whole groups of four, so a password that ends in `=` would be
    taken for base64.
    """
    if len(text) % 4 or text.endswith(b"==="):
        raise binascii.Error
    return base64.b64decode(text, validate=True)


def _noted(text: bytes) -> Any:  # noqa: ANN401 - JSON
    """Parsed so that each part knows its text; raises Invalid(`too-deep`)."""
    try:
        return loads(text)
    except ValueError:
        raise Invalid("too-deep", "the JSON of a secret is nested too deep") from None


def _parsed(text: bytes) -> Any:  # noqa: ANN401 - JSON
    try:
        return orjson.loads(bytes(text))
    except orjson.JSONDecodeError:
        return None
