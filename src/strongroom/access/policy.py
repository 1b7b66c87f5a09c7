"""Vault's ACL policies: what a policy's text says, as values.

Rules: https://developer.hashicorp.com/vault/docs/concepts/policies. A rule's path may end in `*`
(everything that begins so) and may have `+` for one whole segment.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final

from strongroom.access.hcl import Attribute, Block, Body, parse
from strongroom.model.errors import Invalid

CODE: Final = "bad-policy"
CAPABILITIES: Final = frozenset(
    {
        "create",
        "read",
        "update",
        "patch",
        "delete",
        "list",
        "scan",
        "sudo",
        "deny",
        "root",
        "subscribe",
    }
)
# The short forms of before 2016 that old policies still have.
SHORTHANDS: Final = {
    "deny": frozenset({"deny"}),
    "read": frozenset({"read", "list"}),
    "write": frozenset({"create", "read", "update", "delete", "list"}),
    "sudo": frozenset({"create", "read", "update", "delete", "list", "sudo"}),
}
# Accepted and without effect here.
_IGNORED: Final = frozenset({"comment", "mfa_methods", "control_group", "subscribe_event_types"})
# Times as Go writes them, "1h30m", and days.
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART: Final = re.compile(r"(\d{1,12}(?:\.\d{1,12})?)(ms|[smhd])")
_TIME: Final = re.compile(rf"(?:{_PART.pattern})+")
# Escapes write it (`\ud800`); what shows the rule could not be encoded.
_HALF: Final = re.compile("[\ud800-\udfff]")

Parameters = Mapping[str, tuple[Any, ...]]
Item = Block | Attribute


@dataclass(frozen=True, slots=True)
class PathRule:
    """What one `path` block grants. `pattern` has no leading slash and no final `*`."""

    path: str
    pattern: str
    prefix: bool
    capabilities: frozenset[str]
    allowed_parameters: Parameters | None = None
    denied_parameters: Parameters | None = None
    required_parameters: tuple[str, ...] = ()
    min_wrapping_ttl: float = 0.0
    max_wrapping_ttl: float = 0.0

    @property
    def segments(self) -> tuple[str, ...]:
        """The pattern cut at slashes."""
        return tuple(self.pattern.split("/"))


@dataclass(frozen=True, slots=True)
class Policy:
    """A named list of rules."""

    name: str
    rules: tuple[PathRule, ...]
    text: str = field(default="", repr=False)


def parse_policy(name: str, text: str) -> Policy:
    """Read a policy in HCL or JSON; raises Invalid(`bad-policy`) with line and column."""
    rules: list[PathRule] = []
    for item in parse(text, code=CODE).items:
        if item_name(item) not in ("path", "name"):
            raise _bad(item.line, f"unknown key {item_name(item)!r} in a policy")
        if item_name(item) == "path":
            rules += _path_rules(item)
    return Policy(name, tuple(rules), text)


def item_name(item: Block | Attribute) -> str:
    """The key of a block or attribute."""
    return item.kind if isinstance(item, Block) else item.name


def _bad(line: int, message: str) -> Invalid:
    hint = 'write path "secret/data/app/*" { capabilities = ["read"] }'
    return Invalid(CODE, f"line {max(line, 1)}, column 1: {message}", hint=hint)


def _path_rules(item: Block | Attribute) -> list[PathRule]:
    if isinstance(item, Block) and len(item.labels) == 1:
        return [_rule(item.labels[0], item.body, item.line)]
    body = item.body if isinstance(item, Block) else item.value
    if (isinstance(item, Block) and item.labels) or not isinstance(body, Body):
        raise _bad(item.line, "a path block has one path")
    rules: list[PathRule] = []
    for entry in body.items:
        if isinstance(entry, Block):
            rules.append(_rule(entry.kind, entry.body, entry.line))
            continue
        bodies = entry.value if isinstance(entry.value, list) else [entry.value]
        for inner in bodies:
            if not isinstance(inner, Body):
                raise _bad(entry.line, "a path holds an object")
            rules.append(_rule(entry.name, inner, entry.line))
    return rules


def _rule(path: str, body: Body, line: int) -> PathRule:
    # A key that is there twice counts twice: the second would else take back what the first denies.
    values: dict[str, list[Item]] = {}
    for item in body.items:
        values.setdefault(item_name(item), []).append(item)
    known = {"capabilities", "policy", "allowed_parameters", "denied_parameters",
             "required_parameters", "min_wrapping_ttl", "max_wrapping_ttl"}  # fmt: skip
    for name, items in values.items():
        if name not in known | _IGNORED:
            raise _bad(items[0].line or line, f"unknown key {name!r} in a path block")
    pattern, prefix = _pattern(path, line)
    least, most = (_ttl(values.get(f"{end}_wrapping_ttl", ()), line) for end in ("min", "max"))
    if most and least > most:
        raise _bad(line, "max_wrapping_ttl is smaller than min_wrapping_ttl")
    return PathRule(
        path=path.removeprefix("/"),
        pattern=pattern,
        prefix=prefix,
        capabilities=_capabilities(values, line),
        allowed_parameters=_parameters(values.get("allowed_parameters", ()), line),
        denied_parameters=_parameters(values.get("denied_parameters", ()), line, denies=True),
        required_parameters=_strings(values.get("required_parameters", ()), line),
        min_wrapping_ttl=least,
        max_wrapping_ttl=most,
    )


def _pattern(path: str, line: int) -> tuple[str, bool]:
    pattern = path.removeprefix("/")
    if "+*" in pattern:
        raise _bad(line, "a path cannot have '+*'")
    if _HALF.search(pattern):
        raise _bad(line, "a path has half a character, which no request can have")
    prefix = pattern.endswith("*")
    return pattern.removesuffix("*"), prefix


def _capabilities(values: Mapping[str, Sequence[Item]], line: int) -> frozenset[str]:
    granted: set[str] = set()
    for old in values.get("policy", ()):
        if not isinstance(old, Attribute):
            continue
        if not isinstance(old.value, str) or old.value not in SHORTHANDS:
            raise _bad(old.line or line, f"unknown policy shorthand {old.value!r}")
        granted |= SHORTHANDS[old.value]
    for capability in _strings(values.get("capabilities", ()), line):
        if capability not in CAPABILITIES or capability == "root":
            raise _bad(line, f"unknown capability {capability!r}")
        granted.add(capability)
    return frozenset({"deny"} if "deny" in granted else granted)


def _strings(items: Sequence[Item], line: int) -> tuple[str, ...]:
    found: list[str] = []
    for item in items:
        value = item.value if isinstance(item, Attribute) else None
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise _bad(item.line or line, f"{item_name(item)} is a list of strings")
        found += value
    return tuple(found)


def _parameters(items: Sequence[Item], line: int, *, denies: bool = False) -> Parameters | None:
    if not items:
        return None
    lists: dict[str, list[tuple[Any, ...]]] = {}
    for item in items:
        body = item.body if isinstance(item, Block) else item.value
        if not isinstance(body, Body):
            raise _bad(item.line or line, f"{item_name(item)} is an object of lists")
        for entry in body.items:
            if not isinstance(entry, Attribute) or not isinstance(entry.value, list):
                raise _bad(entry.line or line, f"{item_name(entry)} in {item_name(item)} is a list")
            lists.setdefault(entry.name.lower(), []).append(tuple(entry.value))
    # An empty list means any value: a second list narrows no denial, and widens nothing allowed.
    return {
        name: () if denies and () in each else tuple(chain.from_iterable(each))
        for name, each in lists.items()
    }


def _ttl(items: Sequence[Item], line: int) -> float:
    if not items:
        return 0.0
    item = items[-1]
    value = item.value if isinstance(item, Attribute) else None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and value.isascii():
        if value.isdigit():
            return float(value)
        if _TIME.fullmatch(value):
            return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(value))
    raise _bad(item.line or line, f'{item_name(item)} is a duration such as "5m"')
