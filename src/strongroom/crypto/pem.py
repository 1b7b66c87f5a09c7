"""PEM blocks (RFC 7468), found as Go's encoding/pem finds them: text around them is skipped."""

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

_BEGIN: Final = b"-----BEGIN "
_END: Final = b"-----END "
_DASHES: Final = b"-----"
_LINE: Final = 64


@dataclass(frozen=True, slots=True)
class PemBlock:
    """A block: its kind such as CERTIFICATE, its bytes and headers."""

    kind: str
    content: bytes = field(repr=False)
    headers: tuple[tuple[str, str], ...] = ()

    def encode(self) -> bytes:
        """The block as text, lines of 64 characters."""
        text = base64.b64encode(self.content)
        lines = [text[at : at + _LINE] + b"\n" for at in range(0, len(text), _LINE)]
        headers = sorted(self.headers, key=lambda pair: (pair[0] != "Proc-Type", pair[0]))
        head = b"".join(f"{name}: {value}\n".encode() for name, value in headers)
        kind = self.kind.encode()
        return b"".join(
            [_BEGIN + kind + _DASHES + b"\n", head + b"\n" if head else b"", *lines]
        ) + (_END + kind + _DASHES + b"\n")


def next_block(text: bytes) -> tuple[PemBlock | None, bytes]:
    """The first block and what follows it; None and the text where there is none."""
    rest = text
    while True:
        if rest.startswith(_BEGIN):
            rest = rest[len(_BEGIN) :]
        else:
            _, found, rest = rest.partition(b"\n" + _BEGIN)
            if not found:
                return None, text
        kind, rest = _line(rest)
        if kind.endswith(_DASHES):
            block = _block(kind[: -len(_DASHES)], rest)
            if block is not None:
                return block


def blocks(text: bytes) -> Iterator[PemBlock]:
    """All blocks in order."""
    while True:
        block, text = next_block(text)
        if block is None:
            return
        yield block


def _line(text: bytes) -> tuple[bytes, bytes]:
    line, _, rest = text.partition(b"\n")
    return line.removesuffix(b"\r").rstrip(b" \t"), rest


def _block(kind: bytes, rest: bytes) -> tuple[PemBlock, bytes] | None:
    headers: list[tuple[str, str]] = []
    while rest:
        line, following = _line(rest)
        name, colon, value = line.partition(b":")
        if not colon:
            break
        headers.append((name.strip().decode("latin-1"), value.strip().decode("latin-1")))
        rest = following
    if not headers and rest.startswith(_END):
        body, after = b"", rest[len(_END) :]
    else:
        body, found, after = rest.partition(b"\n" + _END)
        if not found:
            return None
    trailer = kind + _DASHES
    if not after.startswith(trailer):
        return None
    blank, rest = _line(after[len(trailer) :])
    if blank:
        return None
    try:
        content = base64.b64decode(body.translate(None, b" \t\r\n"), validate=True)
    except binascii.Error:
        return None
    return PemBlock(kind.decode("latin-1"), content, tuple(headers)), rest
