"""Base64, base32, hexadecimal and checksums. Source: https://masterminds.github.io/sprig/encoding.html.

What cannot be decoded gives Go's message as the result, as sprig does it; templates test for it.
"""

import base64
import hashlib
import zlib
from collections.abc import Callable
from typing import Final

from strongroom.template.registry import BY_BYTES, Table

ENCODING: Final = Table("Encoding and checksums")
_BASE64: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
_BASE32: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
_NEWLINES: Final = b"\r\n"


class Corrupt(Exception):
    """Input that cannot be decoded, at a byte."""


@ENCODING("b64enc", "string")
def _b64enc(value: bytes) -> bytes:
    """Base64."""
    return base64.b64encode(value)


@ENCODING("b64dec", "string", bytes_in_a_step=BY_BYTES)
def _b64dec(value: bytes) -> bytes:
    """The bytes of base64; Go's message if it is none."""
    try:
        return decode_base64(value)
    except Corrupt as error:
        return f"illegal base64 data at input byte {error}".encode()


@ENCODING("b32enc", "string")
def _b32enc(value: bytes) -> bytes:
    """Base32."""
    return base64.b32encode(value)


@ENCODING("b32dec", "string", bytes_in_a_step=BY_BYTES)
def _b32dec(value: bytes) -> bytes:
    """The bytes of base32; Go's message if it is none."""
    try:
        return _decode_base32(value)
    except Corrupt as error:
        return f"illegal base32 data at input byte {error}".encode()


@ENCODING("hexdec", "string", bytes_in_a_step=BY_BYTES)
def _hexdec(value: bytes) -> bytes:
    """The bytes of hexadecimal; Go's message if it is none."""
    digits = b"0123456789abcdefABCDEF"
    for at in range(len(value) // 2 * 2):
        if value[at] not in digits:
            return _bad_hex(value[at])
    if len(value) % 2:
        last = value[-1]
        return b"encoding/hex: odd length hex string" if last in digits else _bad_hex(last)
    return bytes.fromhex(value.decode("ascii"))


def _bad_hex(byte: int) -> bytes:
    shown = f" {chr(byte)!r}" if chr(byte).isprintable() else ""
    return f"encoding/hex: invalid byte: U+{byte:04X}{shown}".encode()


def decode_base64(value: bytes) -> bytes:
    """Go's StdEncoding: newlines anywhere, padding needed; raises Corrupt with the byte."""
    at, size = 0, len(value)
    while at < size:
        start, count = at, 0
        while count < 4:
            if at == size:
                if count == 0:
                    break
                raise Corrupt(at - count)
            byte = value[at]
            at += 1
            if byte in _BASE64:
                count += 1
            elif byte not in _NEWLINES:
                _check_padding(value, at, count, byte)
                return _plain_base64(value)
        if at == start:
            break
    return _plain_base64(value)


def _plain_base64(value: bytes) -> bytes:
    return base64.b64decode(value.translate(None, _NEWLINES))


def _check_padding(value: bytes, at: int, count: int, byte: int) -> None:
    """Padding from the byte before `at` on is all that may follow; raises Corrupt."""
    if byte != ord("=") or count < 2:
        raise Corrupt(at - 1)

    def after_newlines(at: int) -> int:
        while at < len(value) and value[at] in _NEWLINES:
            at += 1
        return at

    if count == 2:
        at = after_newlines(at)
        if at == len(value):
            raise Corrupt(at)
        if value[at] != ord("="):
            raise Corrupt(at - 1)
        at += 1
    at = after_newlines(at)
    if at < len(value):
        raise Corrupt(at)


def _decode_base32(value: bytes) -> bytes:
    value = value.translate(None, _NEWLINES)
    at, size = 0, len(value)
    while at < size:
        for count in range(8):
            if at == size:
                raise Corrupt(size - count)
            byte = value[at]
            at += 1
            left = size - at
            if byte == ord("=") and count >= 2 and left < 8:
                _check_base32_padding(value, at, count)
                return base64.b32decode(value)
            if byte not in _BASE32:
                raise Corrupt(at - 1)
    return base64.b32decode(value)


def _check_base32_padding(value: bytes, at: int, count: int) -> None:
    size, left = len(value), len(value) - at
    if left + count < 7:
        raise Corrupt(size)
    for extra in range(7 - count):
        if left > extra and value[at + extra] != ord("="):
            raise Corrupt(at + extra - 1)
    if count in (1, 3, 6):
        raise Corrupt(at - 1)


def _digest(name: str) -> Callable[[bytes], bytes]:
    def digest(value: bytes) -> bytes:
        return hashlib.new(name, value, usedforsecurity=False).hexdigest().encode()

    digest.__doc__ = f"The {name.upper()} of the bytes, in hexadecimal."
    return digest


for _name in ("sha1", "sha256", "sha512"):
    ENCODING(f"{_name}sum", "string")(_digest(_name))


@ENCODING("adler32sum", "string")
def _adler32sum(value: bytes) -> bytes:
    """The Adler-32 checksum, in decimal."""
    return b"%d" % zlib.adler32(value)
