"""How much structure a JSON body may have, found out before it is parsed. Pure.

The listener bounds the bytes. A small body can still become very much memory, or a number that
no longer is what was sent. Bounds as in Vault 1.20, whole documents instead of single objects.
"""

import re
from typing import Final

from strongroom.model.errors import Invalid, TooLarge

MAX_DEPTH: Final = 300
MAX_ELEMENTS: Final = 250_000
MAX_STRING_BYTES: Final = 8 * 1024 * 1024

_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_STRUCTURE: Final = bytes(each for each in range(256) if each not in b"[]{},")
# More digits than 64 bits hold, as a whole number: a parser would round it without a word.
_WIDE: Final = re.compile(rb"(?<![\w.+-])-?\d{19,}(?![\w.])")
_WIDEST, _NARROWEST = 2**64 - 1, -(2**63)
# Every digit as a nought, so that one search finds whether the pattern can match at all: it looks
# behind at each byte, which takes longer than parsing.
_NOUGHTS: Final = bytes.maketrans(b"123456789", b"000000000")
_WIDE_DIGITS: Final = b"0" * 19


def check_json(text: bytes) -> None:
    """Raises TooLarge(`json-too-complex`) or Invalid(`number-too-wide`)."""
    # To look whether there is any takes a tenth of counting, and most bodies have no list.
    opened = text.count(b"{") + (text.count(b"[") if b"[" in text else 0)
    deep = opened > MAX_DEPTH
    counted = opened + text.count(b",") if len(text) > MAX_ELEMENTS else 0
    wide = _WIDE_DIGITS in text.translate(_NOUGHTS) and _WIDE.search(text) is not None
    if counted <= MAX_ELEMENTS and not deep and not wide and len(text) <= MAX_STRING_BYTES:
        return
    # Something may be beyond a bound, or just look so inside a string.
    bare = _STRING.sub(b"", text)
    if len(text) > MAX_STRING_BYTES and any(
        each.end() - each.start() - 2 > MAX_STRING_BYTES for each in _STRING.finditer(text)
    ):
        raise _too_complex(f"a string has over {MAX_STRING_BYTES} bytes")
    structure = bare.translate(None, _STRUCTURE)
    if structure.count(b",") + structure.count(b"[") + structure.count(b"{") > MAX_ELEMENTS:
        raise _too_complex(f"there are over {MAX_ELEMENTS} elements")
    if _depth(structure) > MAX_DEPTH:
        raise _too_complex(f"objects and lists are nested over {MAX_DEPTH} deep")
    for number in _WIDE.findall(bare):
        if len(number) > 20 or not _NARROWEST <= int(number) <= _WIDEST:
            raise Invalid(
                "number-too-wide",
                "a whole number is beyond 64 bits and would be stored rounded",
                hint="send it as a string",
            )


def _depth(structure: bytes) -> int:
    depth = deepest = 0
    for each in structure:
        if each in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif each in b"]}":
            depth -= 1
    return deepest


def _too_complex(what: str) -> TooLarge:
    return TooLarge("json-too-complex", f"failed to parse JSON input: {what}")
