"""A codec for the few protobuf messages we speak: varints, bytes, strings and maps.

Encoding: https://protobuf.dev/programming-guides/encoding/. Decoding is bounded and strict about
framing; unknown fields are kept out, as proto3 allows.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from strongroom.model.errors import Invalid

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MAX_VARINT_BYTES: Final = 10
Field = tuple[int, int | bytes]


def encode(fields: Iterable[tuple[int, int | bytes | str | Mapping[str, bytes]]]) -> bytes:
    """A message of numbered fields; zero values are left out, a mapping is a map<string, bytes>."""
    parts: list[bytes] = []
    for number, value in fields:
        if isinstance(value, Mapping):
            for key in sorted(value):
                parts.append(_lengthy(number, encode([(1, key), (2, value[key])])))
        elif isinstance(value, int):
            parts += [_varint(number << 3 | VARINT), _varint(value)] if value else []
        elif value:
            parts.append(_lengthy(number, value.encode() if isinstance(value, str) else value))
    return b"".join(parts)


def _lengthy(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | BYTES) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode(message: bytes) -> Iterator[Field]:
    """The fields in order, numbers as int and the rest as bytes; raises Invalid(`bad-protobuf`)."""
    position = 0
    while position < len(message):
        tag, position = _read_varint(message, position)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise _bad("a field number of 0")
        if kind == VARINT:
            value, position = _read_varint(message, position)
            yield number, value
            continue
        if kind == BYTES:
            length, position = _read_varint(message, position)
        elif kind in (FIXED64, FIXED32):
            length = 8 if kind == FIXED64 else 4
        else:
            raise _bad(f"wire type {kind}")
        if position + length > len(message):
            raise _bad("a field longer than the message")
        yield number, message[position : position + length]
        position += length


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    value = 0
    for index in range(MAX_VARINT_BYTES):
        if position + index >= len(message):
            raise _bad("a varint that ends early")
        byte = message[position + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, position + index + 1
    raise _bad("a varint that is too long")


def bytes_of(value: int | bytes) -> bytes:
    """The field as bytes; raises Invalid when it was a number."""
    if isinstance(value, int):
        raise _bad("a number where bytes belong")
    return value


def text_of(value: int | bytes) -> str:
    """The field as UTF-8 text; raises Invalid."""
    try:
        return bytes_of(value).decode()
    except UnicodeDecodeError:
        raise _bad("text that is not UTF-8") from None


def map_entry(value: int | bytes) -> tuple[str, bytes]:
    """One entry of a map<string, bytes>."""
    key, content = "", b""
    for number, each in decode(bytes_of(value)):
        if number == 1:
            key = text_of(each)
        elif number == 2:
            content = bytes_of(each)
    return key, content


def _bad(what: str) -> Invalid:
    return Invalid("bad-protobuf", f"the message has {what}")
