"""`rewrite`: what becomes of the keys that one `dataFrom` entry found. Pure.

Rules: https://external-secrets.io/latest/guides/datafrom-rewrite/.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import orjson

from strongroom.model.errors import Invalid, Refusal
from strongroom.sync.patterns import replace_all
from strongroom.sync.raw_json import marshalled
from strongroom.sync.rewrite_spec import (
    MergeRewrite,
    RegexpRewrite,
    Rewrite,
    TransformRewrite,
)
from strongroom.sync.values import as_bytes

# A template and the values it sees, to text.
Render = Callable[[str, Mapping[str, bytes]], bytes]


class Renderer(Protocol):
    """Renders texts, each with a bound of its own."""

    def __call__(self, text: str, values: Mapping[str, bytes]) -> bytes:
        """One text; raises Refusal."""

    def together(self) -> Render:
        """For the texts of one object, which have a bound together as well."""


def rewrite(
    operations: Iterable[Rewrite], found: Mapping[str, bytes], render: Render
) -> dict[str, bytes]:
    """Apply the operations in order; raises Invalid, with names of keys and never a value."""
    data = dict(found)
    for each in operations:
        if isinstance(each, RegexpRewrite):
            data = _renamed(each, data)
        elif isinstance(each, TransformRewrite):
            data = {_transformed(each.template, key, render): data[key] for key in sorted(data)}
        else:
            data = _merged(each, data)
    return data


def _renamed(operation: RegexpRewrite, found: Mapping[str, bytes]) -> dict[str, bytes]:
    # Most operators need no template.
    from strongroom.template.budget import Budget

    # One for all keys together, which a hostile server may have named.
    budget, by = Budget(), (operation.source, operation.target)
    return {replace_all(*by, key, budget): found[key] for key in sorted(found)}


def _transformed(template: str, key: str, render: Render) -> str:
    try:
        return render(template, {"value": key.encode()}).decode()
    except UnicodeDecodeError:
        raise Invalid("bad-rewrite", f"the key {key!r} becomes no text") from None
    except Refusal as refusal:
        raise Invalid("bad-rewrite", f"transform of {key!r}: {refusal.message}") from None


def _merged(operation: MergeRewrite, found: Mapping[str, bytes]) -> dict[str, bytes]:
    merged: dict[str, Any] = {}
    conflicts: set[str] = set()
    ordered = sorted(set(found) - set(operation.priority))
    for key in (*ordered, *operation.priority):
        if key not in found:
            if operation.strict:
                raise Invalid("bad-rewrite", f"merge.priority names {key!r}, which is not there")
            continue
        inner = _object(key, found[key])
        conflicts |= merged.keys() & inner.keys()
        merged |= inner
    if conflicts and operation.refuse_conflicts:
        raise Invalid(
            "merge-conflict", f"keys in more than one value: {', '.join(sorted(conflicts))}"
        )
    if operation.as_json:
        return {**found, operation.into: marshalled(merged, escaped=False)}
    return {key: as_bytes(value) for key, value in merged.items()}


def _object(key: str, value: bytes) -> dict[str, Any]:
    try:
        parsed = orjson.loads(value)
    except orjson.JSONDecodeError:
        parsed = None
    if not isinstance(parsed, dict):
        raise Invalid("not-an-object", f"merge: the value of {key!r} is no JSON object")
    return parsed
