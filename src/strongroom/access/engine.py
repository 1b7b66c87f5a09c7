"""The decision: which rule governs a path, and what it allows. Pure; enforcer and explainer.

Order, as Vault has it: a rule that names the path exactly; for LIST the path without its final
slash too; then, among the patterns that match, the one (1) whose first wildcard comes later,
(2) that does not end in `*`, (3) with fewer `+`, (4) that is longer, (5) that is lexicographically
larger. Rules on the same path string of several policies are joined, and `deny` wins there.

For LIST the patterns are asked about both forms of the path as well. Of the two that win, the
more specific one that denies or grants listing decides: a rule that only says who may read below
a folder takes from nobody the list of it, and a broader one lets nobody past a denial
(CVE-2026-63131), be it that of a third rule.
"""

import dataclasses
import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from strongroom.access.policy import PathRule, Policy
from strongroom.model.decision import Decision

CACHE_ENTRIES: Final = 4096
# Longer paths, which may have megabytes, are not remembered.
LONGEST_KEPT: Final = 512
# What decides about a list: one of the two that grant it, or that it is denied.
_LISTING: Final = frozenset({"list", "scan", "deny"})
_ORDER: Final = ("sudo", "create", "read", "update", "patch", "delete", "list", "scan", "subscribe")


@dataclass(frozen=True, slots=True)
class Grant:
    """The joined rules of one path string, and the policy that each of them came from."""

    path: str
    rules: tuple[PathRule, ...]
    origins: tuple[str, ...]
    capabilities: frozenset[str]
    # How a decision cites it.
    name: str = field(init=False, compare=False)
    # Whether a rule says anything of parameters, and of how a reply is wrapped.
    bounds_parameters: bool = field(init=False, compare=False)
    bounds_wrapping: bool = field(init=False, compare=False)
    _allowed: dict[str, Decision] = field(init=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        cited = f'path "{self.path}" of {", ".join(self.policies)}'
        parameters = any(
            each.required_parameters or each.denied_parameters or each.allowed_parameters
            for each in self.rules
        )
        wrapping = any(each.min_wrapping_ttl or each.max_wrapping_ttl for each in self.rules)
        object.__setattr__(self, "name", cited)
        object.__setattr__(self, "bounds_parameters", parameters)
        object.__setattr__(self, "bounds_wrapping", wrapping)

    @property
    def policies(self) -> tuple[str, ...]:
        """The policies, each once."""
        return tuple(dict.fromkeys(self.origins))

    def allowed(self, capability: str) -> Decision:
        """What is decided where nothing is refused; made when it is first asked for."""
        decision = self._allowed.get(capability)
        if decision is None:
            both = zip(self.origins, self.rules, strict=True)
            names = dict.fromkeys(name for name, rule in both if capability in rule.capabilities)
            decision = Decision(True, "allowed", self.name, policies=tuple(names))
            self._allowed[capability] = decision
        return decision


class Acl:
    """The compiled rules of a token's policies."""

    def __init__(self, policies: Sequence[Policy]) -> None:
        self._policies = policies
        self._lowered: dict[int, Acl] = {}
        grants = self.grants = tuple(_join(policies))
        self._exact = {grant.path: grant for grant in grants if not _is_pattern(grant.rules[0])}
        self._prefixes = {
            grant.rules[0].pattern: grant
            for grant in grants
            if grant.rules[0].prefix and "+" not in grant.rules[0].segments
        }
        self._prefix_lengths = sorted({len(pattern) for pattern in self._prefixes}, reverse=True)
        wild = [grant for grant in grants if "+" in grant.rules[0].segments]
        self._segmented = sorted(wild, key=lambda grant: _priority(grant.rules[0]), reverse=True)
        self._cache: dict[tuple[str, bool], Grant | None] = {}

    def lowered(self, kept: int) -> "Acl":
        """The same rules for a path whose names mean the same in any case behind `kept` segments.

        Such a path comes in lower case from there on, and a rule may have been written otherwise.
        """
        if not kept:
            return self
        found = self._lowered.get(kept)
        if found is None:
            policies = [_lowered(each, kept) for each in self._policies]
            same = all(mine is other for mine, other in zip(policies, self._policies, strict=True))
            found = self._lowered[kept] = self if same else Acl(policies)
        return found

    def governing(self, path: str, *, listing: bool = False) -> Grant | None:
        """The one grant that decides about a path, or None."""
        if len(path) > LONGEST_KEPT:
            return self._find(path, listing=listing)
        key = (path, listing)
        try:
            return self._cache[key]
        except KeyError:
            pass
        if len(self._cache) >= CACHE_ENTRIES:
            self._cache.clear()
        grant = self._cache[key] = self._find(path, listing=listing)
        return grant

    def _find(self, path: str, *, listing: bool) -> Grant | None:
        exact = self._exact.get(path)
        if exact is None and listing:
            exact = self._exact.get(path.removesuffix("/"))
        if exact is not None:
            return exact
        best = self._best(path)
        if not listing or not path.endswith("/"):
            return best
        both = [each for each in (best, self._best(path.removesuffix("/"))) if each is not None]
        both.sort(key=lambda grant: _priority(grant.rules[0]), reverse=True)
        about_lists = [grant for grant in both if grant.capabilities & _LISTING]
        if not about_lists or about_lists[0] is both[0]:
            return next(iter(both), None)
        # Behind the one that says nothing of lists may be a denial of what is below the folder.
        least, forms = _priority(about_lists[0].rules[0]), (path, path.removesuffix("/"))
        denials = [
            grant
            for grant in (*self._prefixes.values(), *self._segmented)
            if "deny" in grant.capabilities
            and _priority(grant.rules[0]) > least
            and any(_matches(grant.rules[0], form) for form in forms)
        ]
        return denials[0] if denials else about_lists[0]

    def _best(self, path: str) -> Grant | None:
        """Of the patterns that match, the most specific."""
        best = self._longest_prefix(path)
        for grant in self._segmented:
            if _matches(grant.rules[0], path):
                if best is None or _priority(grant.rules[0]) > _priority(best.rules[0]):
                    best = grant
                break
        return best

    def _longest_prefix(self, path: str) -> Grant | None:
        for length in self._prefix_lengths:
            if length <= len(path):
                grant = self._prefixes.get(path[:length])
                if grant is not None:
                    return grant
        return None

    def matching(self, path: str, *, listing: bool = False) -> list[Grant]:
        """Every grant whose pattern fits, the one that governs first; for explanations."""
        paths = {path, path.removesuffix("/")} if listing else {path}
        fit = [
            grant
            for grant in self.grants
            if (
                any(_matches(grant.rules[0], each) for each in paths)
                if _is_pattern(grant.rules[0])
                else grant.path in paths
            )
        ]
        governing = self.governing(path, listing=listing)
        return sorted(fit, key=lambda each: (each is not governing, each.path))

    def allows(self, path: str, capability: str) -> bool:
        """Whether the capability is granted, parameters aside."""
        grant = self.governing(path, listing=capability in ("list", "scan"))
        return grant is not None and capability in grant.capabilities

    def touches(self, prefix: str) -> bool:
        """Whether anything under a prefix, such as a mount, may be granted."""
        return any(
            grant.capabilities - {"deny"} and _may_reach(grant.rules[0], prefix)
            for grant in (*self._exact.values(), *self._prefixes.values(), *self._segmented)
        )

    def decide(
        self,
        path: str,
        capability: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        wrap_seconds: float | None = None,
    ) -> Decision:
        """Allow or deny, citing the rule and what is missing.

        `wrap_seconds` is how long the reply will be kept wrapped, 0 for not wrapped, None when
        that is not the question.
        """
        grant = self.governing(path, listing=capability in ("list", "scan"))
        if grant is None:
            return Decision(False, "no rule matches the path", missing=f"{capability} on {path}")
        if "deny" in grant.capabilities:
            return Decision(False, "the rule denies the path", grant.name, capability)
        if capability not in grant.capabilities:
            return Decision(False, "the rule lacks the capability", grant.name, capability)
        if (
            grant.bounds_parameters
            and parameters is not None
            and capability in ("create", "update", "patch", "read")
        ):
            problem = _parameter_problem(grant.rules, parameters)
            if problem:
                return Decision(False, problem, grant.name, capability)
        if grant.bounds_wrapping and wrap_seconds is not None:
            problem = _wrapping_problem(grant.rules, wrap_seconds)
            if problem:
                return Decision(False, problem, grant.name, "wrapping")
        return grant.allowed(capability)

    def capabilities(self, path: str) -> tuple[str, ...]:
        """What `sys/capabilities` says of a path: `("deny",)` when nothing is granted."""
        # A slash at the end is that of a list: other requests have lost it before they are decided.
        grant = self.governing(path, listing=True)
        if grant is None or "deny" in grant.capabilities or not grant.capabilities:
            return ("deny",)
        return tuple(name for name in _ORDER if name in grant.capabilities)


def _lowered(policy: Policy, kept: int) -> Policy:
    rules = tuple(_lowered_rule(each, kept) for each in policy.rules)
    same = all(mine is other for mine, other in zip(rules, policy.rules, strict=True))
    return policy if same else dataclasses.replace(policy, rules=rules)


def _lowered_rule(rule: PathRule, kept: int) -> PathRule:
    parts = rule.segments
    pattern = "/".join((*parts[:kept], *(each.lower() for each in parts[kept:])))
    if pattern == rule.pattern:
        return rule
    path = pattern + "*" if rule.prefix else pattern
    return dataclasses.replace(rule, path=path, pattern=pattern)


def _join(policies: Iterable[Policy]) -> list[Grant]:
    by_path: dict[str, list[tuple[str, PathRule]]] = {}
    for policy in policies:
        for rule in policy.rules:
            by_path.setdefault(rule.path, []).append((policy.name, rule))
    grants = []
    for path, entries in by_path.items():
        capabilities = frozenset().union(*(rule.capabilities for _, rule in entries))
        grants.append(
            Grant(
                path,
                tuple(rule for _, rule in entries),
                tuple(name for name, _ in entries),
                frozenset({"deny"}) if "deny" in capabilities else capabilities,
            )
        )
    return grants


def _is_pattern(rule: PathRule) -> bool:
    return rule.prefix or "+" in rule.segments


def _priority(rule: PathRule) -> tuple[int, bool, int, int, str]:
    # Only a whole segment `+` is a wildcard; inside a name it is a character.
    before = 0
    for segment in rule.segments:
        if segment == "+":
            break
        before += len(segment) + 1
    first = min(before, len(rule.pattern))
    return first, not rule.prefix, -rule.segments.count("+"), len(rule.pattern), rule.pattern


def _matches(rule: PathRule, path: str) -> bool:
    wanted = rule.segments
    # No further than the rule reaches: a path may have any number of segments.
    given = path.split("/", len(wanted))
    if len(given) < len(wanted) or (len(given) > len(wanted) and not rule.prefix):
        return False
    for index, segment in enumerate(wanted):
        last = rule.prefix and index == len(wanted) - 1
        if segment != "+" and not (
            given[index].startswith(segment) if last else given[index] == segment
        ):
            return False
    return True


def _may_reach(rule: PathRule, prefix: str) -> bool:
    literal, wild, _ = rule.pattern.partition("+")
    return literal.startswith(prefix) or (
        prefix.startswith(literal) and (rule.prefix or bool(wild))
    )


def _parameter_problem(rules: Sequence[PathRule], parameters: Mapping[str, Any]) -> str:
    """Why the parameters are refused, or "". Several rules of one path join their lists."""
    # Pairs, and no mapping: "a" and "A" may both be there, and the handler reads one of them.
    given = [(name.lower(), value) for name, value in parameters.items()]
    # As it is written: a handler reads no other spelling, so "TTL" would be no "ttl" that is kept.
    required = {name for rule in rules for name in rule.required_parameters}
    for name in sorted(required):
        if name not in parameters and name.lower() not in parameters:
            return f"the parameter {name.lower()!r} is required"
    denied = _joined(rule.denied_parameters for rule in rules)
    for name, value in given:
        listed = name in denied and (not denied[name] or _listed(value, denied[name]))
        if "*" in denied or listed:
            return f"the parameter {name!r} is denied"
    # A rule without the list adds nothing to the lists of the others, as in Vault: it loosens none.
    allowed = _joined(rule.allowed_parameters for rule in rules)
    if not allowed:
        return ""
    for name, value in given:
        values = allowed.get(name, allowed.get("*"))
        if values is None or (values and not _listed(value, values)):
            return f"the parameter {name!r} is not allowed"
    return ""


def _wrapping_problem(rules: Sequence[PathRule], seconds: float) -> str:
    """Why the reply may not leave wrapped like this; either bound makes wrapping mandatory."""
    least = min((rule.min_wrapping_ttl for rule in rules if rule.min_wrapping_ttl), default=0.0)
    most = min((rule.max_wrapping_ttl for rule in rules if rule.max_wrapping_ttl), default=0.0)
    if (least or most) and not seconds:
        return "the reply has to be wrapped"
    if least and seconds < least:
        return f"the reply has to be wrapped for at least {least:g} seconds"
    if most and seconds > most:
        return f"the reply may be wrapped for at most {most:g} seconds"
    return ""


def _joined(lists: Iterable[Mapping[str, tuple[Any, ...]] | None]) -> dict[str, tuple[Any, ...]]:
    joined: dict[str, tuple[Any, ...]] = {}
    for entry in lists:
        for name, values in (entry or {}).items():
            # An empty list means any value, and stays so whatever it is joined with.
            both = joined.get(name)
            joined[name] = (
                values if both is None else (() if not both or not values else both + values)
            )
    return joined


def _listed(value: Any, values: tuple[Any, ...]) -> bool:  # noqa: ANN401 - JSON values
    for candidate in values:
        if isinstance(candidate, str) and isinstance(value, str):
            if fnmatch.fnmatchcase(value, candidate.replace("[", "[[]").replace("?", "[?]")):
                return True
        elif candidate == value and isinstance(candidate, bool) == isinstance(value, bool):
            return True
    return False
