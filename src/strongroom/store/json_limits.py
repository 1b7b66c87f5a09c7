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

# Read in one pass whatever the body is: nothing is tried again (`++`), and a string without an end
# reaches to the end of the body. Otherwise each of its quotes would be a beginning to try.
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\Z|\\\Z)', re.DOTALL)
# A member of an object has two, its name and its value.
_MOST_STRINGS: Final = 2 * MAX_ELEMENTS + 2
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
    bare, strings = _STRING.subn(b"", text, count=_MOST_STRINGS)
    if strings == _MOST_STRINGS:
        raise _too_complex(f"there are over {MAX_ELEMENTS} elements")
    if len(text) > MAX_STRING_BYTES and any(
        each.end() - each.start() - 2 > MAX_STRING_BYTES for each in _STRING.finditer(text)
    ):
        raise _too_complex(f"a string has over {MAX_STRING_BYTES} bytes")
    structure = bare.translate(None, _STRUCTURE)
    if structure.count(b",") + structure.count(b"[") + structure.count(b"{") > MAX_ELEMENTS:
        raise _too_complex(f"there are over {MAX_ELEMENTS} elements")
    if _is_deep(structure):
        raise _too_complex(f"objects and lists are nested over {MAX_DEPTH} deep")
    for found in _WIDE.finditer(bare) if wide else ():
        number = found[0]
        if len(number) > 20 or not _NARROWEST <= int(number) <= _WIDEST:
            raise Invalid(
                "number-too-wide",
                "a whole number is beyond 64 bits and would be stored rounded",
                hint="send it as a string",
            )


def _is_deep(structure: bytes) -> bool:
    depth = 0
    # Commas are many and say nothing here.
    for each in structure.replace(b",", b""):
        depth += 1 if each in b"[{" else -1
        if depth > MAX_DEPTH:
            return True
        if depth < 0:
            return False  # No JSON, as the parser will say.
    return False


def _too_complex(what: str) -> TooLarge:
    return TooLarge("json-too-complex", f"failed to parse JSON input: {what}")
