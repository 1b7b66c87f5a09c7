"""Strings between quotes, as Go's strconv writes them. Source: https://pkg.go.dev/strconv#Quote."""

from typing import Final

_NAMED: Final = {
    "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v",
    "\\": "\\\\",
}  # fmt: skip


def quote(value: bytes, *, mark: str = '"', ascii_only: bool = False) -> bytes:
    """The value between quotes; bytes that are not UTF-8 become \\xNN."""
    out = [mark]
    for char in value.decode("utf-8", "surrogateescape"):
        if "\udc80" <= char <= "\udcff":
            out.append(f"\\x{ord(char) - 0xDC00:02x}")
        elif char == mark:
            out.append("\\" + char)
        elif char in _NAMED:
            out.append(_NAMED[char])
        elif char.isprintable() and (char.isascii() or not ascii_only):
            out.append(char)
        else:
            out.append(_escaped(ord(char)))
    out.append(mark)
    return "".join(out).encode()


def _escaped(code: int) -> str:
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def can_backquote(value: bytes) -> bool:
    """Whether a raw string can hold it."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return False
    return not any(char in "`\x7f\ufeff" or (char < " " and char != "\t") for char in text)
