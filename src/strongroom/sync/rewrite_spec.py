"""`rewrite` of a `dataFrom` entry as values, checked. Pure.

Fields: https://external-secrets.io/latest/guides/datafrom-rewrite/.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from strongroom.model.errors import Invalid
from strongroom.sync.patterns import compile_pattern

_MERGE: Final = {
    "conflictPolicy": ("Error", "Ignore"),
    "priorityPolicy": ("Strict", "IgnoreNotFound"),
    "strategy": ("Extract", "JSON"),
}


@dataclass(frozen=True, slots=True)
class RegexpRewrite:
    """Every key through Go's ReplaceAllString."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class TransformRewrite:
    """Every key through a template that sees it as `.value`."""

    template: str


@dataclass(frozen=True, slots=True)
class MergeRewrite:
    """The JSON objects that the values hold, joined into one; later in `priority` wins."""

    into: str
    priority: tuple[str, ...]
    strict: bool
    refuse_conflicts: bool
    as_json: bool


Rewrite = RegexpRewrite | TransformRewrite | MergeRewrite


def parse_rewrites(entries: Iterable[Mapping[str, Any]]) -> tuple[Rewrite, ...]:
    """Read and check; raises Invalid."""
    return tuple(_parse(entry) for entry in entries)


def _parse(entry: Mapping[str, Any]) -> Rewrite:
    kinds = [kind for kind in ("regexp", "transform", "merge") if entry.get(kind) is not None]
    if len(kinds) != 1:
        raise Invalid("bad-rewrite", "a rewrite is one of regexp, transform, merge")
    given = entry[kinds[0]]
    if kinds == ["regexp"]:
        compile_pattern(str(given.get("source") or ""))
        return RegexpRewrite(str(given.get("source") or ""), str(given.get("target") or ""))
    if kinds == ["transform"]:
        return TransformRewrite(str(given.get("template") or ""))
    for name, allowed in _MERGE.items():
        if given.get(name, allowed[0]) not in allowed:
            raise Invalid("bad-rewrite", f"merge.{name} is none of {', '.join(allowed)}")
    merge = MergeRewrite(
        into=str(given.get("into") or ""),
        priority=tuple(given.get("priority") or ()),
        strict=given.get("priorityPolicy") != "IgnoreNotFound",
        refuse_conflicts=given.get("conflictPolicy") != "Ignore",
        as_json=given.get("strategy") == "JSON",
    )
    if merge.as_json and not merge.into:
        raise Invalid("bad-rewrite", "merge with strategy JSON needs into")
    return merge
