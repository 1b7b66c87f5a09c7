"""Objects that are nested deeper than any that means something.

An API server takes ten thousand levels where a definition leaves a field open; the decoder here
reads a thousand, and the encoder writes a quarter of that. One such object, which whoever may
write in a single namespace can make, must not keep all others from being read.
"""

import re
from typing import Any, Final

import orjson

# Definitions with their schemas have some eighty.
MOST_LEVELS: Final = 200
# A string that nobody ends goes to the end of the body: to look for its end from each quote in it
# would take hours, and whoever names a server of their own chooses what it answers.
_TOKENS: Final = re.compile(rb'"[^"\\]*+(?:\\.?[^"\\]*+)*+"?|[\[\]{}]', re.DOTALL)


def decoded(body: bytes) -> Any:  # noqa: ANN401 - JSON
    """JSON, with null for what lies too deep to be read; raises ValueError for what is none."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return orjson.loads(_cut(body))


def _cut(body: bytes) -> bytes:
    depth, start, kept = 0, 0, []
    for token in _TOKENS.finditer(body):
        sign = token[0]
        if sign in (b"{", b"["):
            depth += 1
            if depth == MOST_LEVELS + 1:
                kept += [body[start : token.start()], b"null"]
        elif sign in (b"}", b"]"):
            if depth == MOST_LEVELS + 1:
                start = token.end()
            depth -= 1
    return b"".join([*kept, body[start:]])


def writable(value: Any, levels: int = MOST_LEVELS) -> Any:  # noqa: ANN401 - JSON
    """The same, with null for what lies too deep to be written."""
    if not isinstance(value, dict | list):
        return value
    if not levels:
        return None
    if isinstance(value, list):
        return [writable(each, levels - 1) for each in value]
    return {key: writable(each, levels - 1) for key, each in value.items()}
