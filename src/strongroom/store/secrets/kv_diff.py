"""What changed between two versions of a secret, without the values. Pure.

Keys are JSON pointers (RFC 6901). A fingerprint is a keyed hash of the value's JSON text under a
key that never leaves the store, so equal values are seen to be equal and short ones cannot be
guessed.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson

Fingerprint = Callable[[bytes], str]


def leaves(value: Any, pointer: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - JSON
    """Every value that is not a non-empty object, by its pointer; a list is one value."""
    if isinstance(value, Mapping) and (value or not pointer):
        for key, each in value.items():
            yield from leaves(each, f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}")
    else:
        yield pointer, value


def difference(
    before: Mapping[str, Any], after: Mapping[str, Any], fingerprint: Fingerprint
) -> dict[str, Any]:
    """Keys that were added, removed, changed or are the same, with fingerprints of both sides."""
    old, new = (
        {
            key: fingerprint(orjson.dumps(value, option=orjson.OPT_SORT_KEYS))
            for key, value in leaves(side)
        }
        for side in (before, after)
    )
    return {
        "added": {key: new[key] for key in sorted(new.keys() - old.keys())},
        "removed": {key: old[key] for key in sorted(old.keys() - new.keys())},
        "changed": {
            key: {"from": old[key], "to": new[key]}
            for key in sorted(new.keys() & old.keys())
            if old[key] != new[key]
        },
        "unchanged": sorted(key for key in new.keys() & old.keys() if old[key] == new[key]),
    }
