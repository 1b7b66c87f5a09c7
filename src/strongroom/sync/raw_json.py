"""JSON whose objects, lists and fractions know the text they were written in. Pure.

Who reads a part of a JSON document in Go, by a path (https://github.com/tidwall/gjson) or as a
`json.RawMessage`, gets the bytes that stand there, with their spaces, order and zeros.
"""

import json
from collections.abc import Callable
from decimal import Decimal
from json import decoder, scanner
from typing import Any, Final

import orjson

from strongroom.model.errors import Invalid

# Go's json.Marshal escapes these wherever they stand, so that a page may hold the text.
_ESCAPED: Final = (
    (b"<", b"\\u003c"), (b">", b"\\u003e"), (b"&", b"\\u0026"),
    ("\u2028".encode(), b"\\u2028"), ("\u2029".encode(), b"\\u2029"),
)  # fmt: skip


class RawObject(dict[str, Any]):
    """An object, and its text."""

    raw: str


class RawList(list[Any]):
    """A list, and its text."""

    raw: str


class RawFloat(float):
    """A number with a fraction or an exponent, and its text."""

    raw: str


def _fraction(text: str) -> RawFloat:
    number = RawFloat(text)
    number.raw = text
    return number


def _no_number(text: str) -> float:
    raise ValueError(text)


class _Decoder(json.JSONDecoder):
    def __init__(self) -> None:
        super().__init__(parse_float=_fraction, parse_constant=_no_number)
        # The scanner in Python alone asks the decoder for its parsers.
        self.parse_object = _noting(decoder.JSONObject, RawObject)  # type: ignore[attr-defined]
        self.parse_array = _noting(decoder.JSONArray, RawList)  # type: ignore[attr-defined]
        self.scan_once = scanner.py_make_scanner(self)  # type: ignore[attr-defined]


def _noting(parse: Callable[..., Any], kind: Callable[[Any], Any]) -> Callable[..., Any]:
    """A parser of the library that is called behind the opening bracket, with the text noted."""

    def run(at: tuple[str, int], *arguments: Any) -> tuple[Any, int]:  # noqa: ANN401 - theirs
        text, start = at
        found, end = parse(at, *arguments)
        made = kind(found)
        made.raw = text[start - 1 : end]
        return made, end

    return run


def loads(text: bytes) -> Any:  # noqa: ANN401 - JSON
    """Parse; raises ValueError for what is no JSON, or is nested too deep to be read so."""
    try:
        return _Decoder().decode(text.decode())
    except RecursionError:
        raise ValueError("nested too deep") from None


def has_text(value: Any) -> bool:  # noqa: ANN401 - JSON
    """Whether it knows the text it was written in."""
    return isinstance(value, RawObject | RawList | RawFloat)


def raw_text(value: Any) -> bytes:  # noqa: ANN401 - JSON
    """A value as it was written; what was put together from several is written without spaces."""
    if isinstance(value, RawObject | RawList | RawFloat):
        return value.raw.encode()
    if isinstance(value, list):
        return b"[%b]" % b",".join(map(raw_text, value))
    if isinstance(value, dict):
        rows = (orjson.dumps(key) + b":" + raw_text(each) for key, each in value.items())
        return b"{%b}" % b",".join(rows)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value).encode()
    return orjson.dumps(value)


def marshalled(value: Any, *, escaped: bool = True) -> bytes:  # noqa: ANN401 - JSON
    """A value as Go writes it: keys in order, no spaces, and `<`, `>` and `&` escaped or not.

    Raises Invalid(`too-deep`).
    """
    try:
        text = orjson.dumps(value, default=_as_text, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        said = "a secret cannot be written as JSON: it is nested too deep, or a number is too large"
        raise Invalid("too-deep", said) from None
    if escaped:
        for each, form in _ESCAPED:
            text = text.replace(each, form)
    return text


def fixed(number: float) -> bytes:
    """A number in digits alone, as few as name it: 1.5, 1000, 0.0000001."""
    text = f"{Decimal(repr(number)):f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).encode()


def _as_text(value: Any) -> Any:  # noqa: ANN401 - what JSON has no form for
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return dict(value)
