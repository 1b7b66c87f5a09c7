"""The whole decision against a second writing of Vault's rules, on generated policies and requests.

The reference shares no code with the engine: it works on the policies as they were generated, a
rule at a time, and knows neither the parser's values nor the engine's tables.
"""

import fnmatch
import json
import re
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from strongroom.access.engine import Acl
from strongroom.access.policy import parse_policy

CAPABILITIES = ("create", "read", "update", "patch", "delete", "list", "scan", "sudo", "deny")
Lists = dict[str, list[Any]]


@dataclass(frozen=True)
class Rule:
    """One path block, as it is written."""

    path: str
    capabilities: frozenset[str]
    allowed: Lists = field(default_factory=dict)
    denied: Lists = field(default_factory=dict)
    required: tuple[str, ...] = ()
    least: int = 0
    most: int = 0

    def text(self) -> str:
        lines = [f"  capabilities = {json.dumps(sorted(self.capabilities))}"]
        for name, lists in (("allowed", self.allowed), ("denied", self.denied)):
            if lists:
                inner = ", ".join(f"{json.dumps(k)} = {json.dumps(v)}" for k, v in lists.items())
                lines.append(f"  {name}_parameters = {{ {inner} }}")
        if self.required:
            lines.append(f"  required_parameters = {json.dumps(list(self.required))}")
        if self.least:
            lines.append(f"  min_wrapping_ttl = {self.least}")
        if self.most:
            lines.append(f"  max_wrapping_ttl = {self.most}")
        return f"path {json.dumps(self.path)} {{\n" + "\n".join(lines) + "\n}\n"


# Few, so that rules of several policies meet on one path and are joined there.
PATHS = st.sampled_from(
    [
        "a",
        "a",
        "a",
        "a/*",
        "a/+",
        "a/b",
        "a/",
        "a*",
        "+",
        "+/b",
        "a/+/b",
        "a/+/*",
        "+/+",
        "A",
        "*",
        "ab",
    ]
)
VALUES = st.sampled_from(["x", "xy", "root", "", 1, 2, True, False, "1"])
LISTS = st.dictionaries(
    st.sampled_from(["p", "p", "Q", "*"]),
    st.lists(VALUES | st.sampled_from(["x*", "*y", "r*t"]), max_size=2),
    max_size=2,
)
NONE: Any = st.just({})
FEW: Any = st.sampled_from([True, False, False, False])
RULES = st.builds(
    Rule,
    PATHS,
    st.frozensets(st.sampled_from(CAPABILITIES[:-1]), min_size=1, max_size=6)
    | st.just(frozenset({"deny", "read"})),
    FEW.flatmap(lambda some: LISTS if some else NONE),
    FEW.flatmap(lambda some: LISTS if some else NONE),
    st.just(()) | st.just(()) | st.lists(st.sampled_from(["p", "Q"]), max_size=1).map(tuple),
    FEW.flatmap(lambda some: st.sampled_from([60, 120]) if some else st.just(0)),
    FEW.flatmap(lambda some: st.sampled_from([120, 300]) if some else st.just(0)),
)
POLICIES = st.lists(st.lists(RULES, max_size=5), min_size=1, max_size=3)
SEGMENTS = st.sampled_from(["a", "b", "ab", "A", "abc"])


@st.composite
def cases(draw: Any) -> tuple[list[list[Rule]], str, str, dict[str, Any], int]:
    """Policies, and a request that one of their rules is likely to be about."""
    policies = draw(POLICIES)
    rules = [rule for policy in policies for rule in policy]
    sent, seconds = draw(REQUESTS), draw(st.sampled_from([0, 0, 0, 59, 60, 120, 300, 301]))
    if not rules:
        return policies, "a", "read", sent, seconds
    about = draw(st.sampled_from(rules))
    path = re.sub(r"\+", lambda _: draw(SEGMENTS), about.path)
    path = path.removesuffix("*") + (draw(SEGMENTS | st.just("")) if path.endswith("*") else "")
    path += draw(st.sampled_from(["", "", "", "/", "/b"]))
    known = sorted(about.capabilities & set(CAPABILITIES[:7])) or ["read"]
    operation = draw(st.sampled_from(known) | st.sampled_from(CAPABILITIES[:7]))
    return policies, path or "a", operation, sent, seconds


REQUESTS = st.dictionaries(st.sampled_from(["p", "P", "q", "Q", "r"]), VALUES, max_size=3)


def pattern_of(path: str) -> re.Pattern[str]:
    """A path of a policy as a regular expression over request paths."""
    body = path.removesuffix("*")
    parts = ["[^/]*" if part == "+" else re.escape(part) for part in body.split("/")]
    return re.compile("/".join(parts) + (".*" if path.endswith("*") else ""), re.DOTALL)


def is_wild(path: str) -> bool:
    return path.endswith("*") or "+" in path.split("/")


def rank(path: str) -> tuple[Any, ...]:
    """Vault's five points, the larger the more specific."""
    body = path.removesuffix("*")
    parts = body.split("/")
    places = [
        len("/".join(parts[:index])) + (1 if index else 0)
        for index, part in enumerate(parts)
        if part == "+"
    ]
    return min([*places, len(body)]), not path.endswith("*"), -len(places), len(body), body


def governing(rules: list[Rule], path: str, listing: bool) -> list[Rule]:
    """All rules of the one path string that decides."""
    forms = [path] + ([path.removesuffix("/")] if listing else [])
    plain = {rule.path for rule in rules if not is_wild(rule.path)}
    for form in forms:
        if form in plain:
            return [rule for rule in rules if rule.path == form]
    winners = []
    for form in forms:
        fit = {r.path for r in rules if is_wild(r.path) and pattern_of(r.path).fullmatch(form)}
        winners += [max(fit, key=rank)] if fit else []
    if not winners:
        return []
    found = [[rule for rule in rules if rule.path == each] for each in sorted(winners, key=rank)]
    if listing and path.endswith("/"):
        # The one that says nothing of lists leaves it to the other.
        about = {"list", "scan", "deny"}
        speak = [each for each in found if any(rule.capabilities & about for rule in each)]
        chosen = speak[-1] if speak else found[-1]
        # Nor does it open what a third one denies that is more specific than the other.
        denied = [
            rule
            for rule in rules
            if "deny" in rule.capabilities
            and is_wild(rule.path)
            and rank(rule.path) > rank(chosen[0].path)
            and any(pattern_of(rule.path).fullmatch(form) for form in forms)
        ]
        return denied if speak and denied else chosen
    return found[0]


def merged(lists: list[Lists]) -> Lists:
    found: Lists = {}
    for entry in lists:
        for name, values in entry.items():
            key = name.lower()
            if key in found and found[key] and values:
                found[key] = found[key] + values
            elif key in found:
                found[key] = []
            else:
                found[key] = list(values)
    return found


def among(value: Any, values: list[Any]) -> bool:
    if not values:
        return True
    for each in values:
        if isinstance(each, str) and isinstance(value, str):
            if fnmatch.fnmatchcase(value, each):
                return True
        elif type(each) is type(value) and each == value:
            return True
    return False


def fits_parameters(rules: list[Rule], sent: dict[str, Any]) -> bool:
    for rule in rules:
        if any(name not in sent and name.lower() not in sent for name in rule.required):
            return False
    denied = merged([rule.denied for rule in rules])
    allowed = merged([rule.allowed for rule in rules])
    for name, value in sent.items():
        key = name.lower()
        if "*" in denied or (key in denied and among(value, denied[key])):
            return False
        if allowed:
            values = allowed.get(key, allowed.get("*"))
            if values is None or not among(value, values):
                return False
    return True


def fits_wrapping(rules: list[Rule], seconds: int) -> bool:
    least = [rule.least for rule in rules if rule.least]
    most = [rule.most for rule in rules if rule.most]
    if (least or most) and not seconds:
        return False
    return not (least and seconds < min(least)) and not (most and seconds > min(most))


def reference(
    policies: list[list[Rule]], path: str, operation: str, sent: dict[str, Any], seconds: int
) -> bool:
    rules = governing(
        [rule for policy in policies for rule in policy], path, operation in ("list", "scan")
    )
    capabilities = frozenset().union(*(rule.capabilities for rule in rules))
    if not rules or "deny" in capabilities or operation not in capabilities:
        return False
    if operation in ("create", "read", "update", "patch") and not fits_parameters(rules, sent):
        return False
    return fits_wrapping(rules, seconds)


def is_possible(policies: list[list[Rule]]) -> bool:
    return all(not (r.most and r.least > r.most) for policy in policies for r in policy)


@given(cases().filter(lambda case: is_possible(case[0])))
@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@pytest.mark.long
def test_the_decision_is_the_references(case) -> None:
    policies, path, operation, sent, seconds = case
    compiled = Acl(
        [
            parse_policy(f"p{number}", "".join(rule.text() for rule in rules))
            for number, rules in enumerate(policies)
        ]
    )
    wanted = reference(policies, path, operation, sent, seconds)
    decision = compiled.decide(path, operation, sent, wrap_seconds=seconds)
    assert decision.allowed is wanted, decision
    # In whatever order the policies come.
    turned = Acl(
        [
            parse_policy(f"p{number}", "".join(rule.text() for rule in reversed(rules)))
            for number, rules in enumerate(reversed(policies))
        ]
    )
    assert turned.decide(path, operation, sent, wrap_seconds=seconds).allowed is wanted


def test_a_parameter_in_two_spellings_is_judged_in_both() -> None:
    """The second would hide the first, and the first is what the handler reads."""
    policy = parse_policy("p", Rule("a", frozenset({"update"}), denied={"p": ["root"]}).text())
    for sent in ({"p": "root", "P": "x"}, {"P": "x", "p": "root"}):
        assert not Acl([policy]).decide("a", "update", sent).allowed


def test_a_rule_without_a_list_loosens_no_other() -> None:
    bound = Rule("a", frozenset({"update"}), allowed={"p": []})
    free = Rule("a", frozenset({"read"}))
    acl = Acl([parse_policy("p", bound.text()), parse_policy("q", free.text())])
    assert acl.decide("a", "update", {"p": 1}).allowed
    assert not acl.decide("a", "update", {"q": 1}).allowed


DENSE = st.builds(
    Rule,
    st.just("a"),
    st.just(frozenset({"update"})),
    st.just({}) | st.dictionaries(st.sampled_from("pq"), st.lists(VALUES, max_size=1), max_size=1),
    st.just({}) | st.dictionaries(st.sampled_from("pr"), st.lists(VALUES, max_size=1), max_size=1),
    st.just(()),
    st.sampled_from([0, 60, 120]),
    st.sampled_from([0, 120, 300]),
)


@given(st.lists(DENSE, min_size=2, max_size=3), REQUESTS, st.sampled_from([0, 60, 90, 120, 300]))
@settings(max_examples=600, suppress_health_check=[HealthCheck.too_slow])
@pytest.mark.long
def test_rules_of_one_path_join_as_the_references_do(rules, sent, seconds) -> None:
    policies = [[rule] for rule in rules]
    compiled = Acl([parse_policy(f"p{n}", rule.text()) for n, rule in enumerate(rules)])
    decision = compiled.decide("a", "update", sent, wrap_seconds=seconds)
    assert decision.allowed is reference(policies, "a", "update", sent, seconds), decision
