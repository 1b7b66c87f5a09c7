"""The decision, against Vault's documented examples and an independent reference."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.access.engine import Acl
from strongroom.access.policy import parse_policy


def acl(*texts: str) -> Acl:
    return Acl([parse_policy(f"p{number}", text) for number, text in enumerate(texts)])


def rule(path: str, *capabilities: str) -> str:
    words = ", ".join(f'"{word}"' for word in capabilities)
    return f'path "{path}" {{ capabilities = [{words}] }}\n'


@pytest.mark.parametrize(
    ("rules", "path", "winner"),
    [
        (("secret/*", "secret/a"), "secret/a", "secret/a"),
        (("secret/*", "secret/a*"), "secret/ab", "secret/a*"),
        (("secret/*", "secret/+"), "secret/a", "secret/+"),
        (("secret/+/teamb", "secret/teama/+"), "secret/teama/teamb", "secret/teama/+"),
        (("secret/+/+/c", "secret/+/b/+"), "secret/a/b/c", "secret/+/b/+"),
        (("secret/+/foo*", "secret/+/f*"), "secret/x/foobar", "secret/+/foo*"),
        (("+/a", "*"), "x/a", "+/a"),
        (("+/a/b", "a/+/*"), "a/a/b", "a/+/*"),
        (("secret/a+", "secret/*"), "secret/a+", "secret/a+"),
        (("secret/a+", "secret/*"), "secret/ab", "secret/*"),
        (("secret/+", "none"), "secret/a/b", None),
        (("*",), "anything/at/all", "*"),
        # Whoever asks for a wildcard's own text is told what others are.
        (("secret/*", "secret/+/a*"), "secret/x/ab", "secret/*"),
        (("secret/*", "secret/+/a*"), "secret/+/ab", "secret/*"),
    ],
)
def test_the_most_specific_rule_governs(rules, path, winner) -> None:
    """Vault's order, whatever the order of writing."""
    for texts in (rules, rules[::-1]):
        grant = acl(*(rule(text, "read") for text in texts)).governing(path)
        assert (grant.path if grant else None) == winner


def test_rules_on_one_path_are_joined_and_deny_wins() -> None:
    """Across policies; a less specific deny does not reach a more specific rule."""
    assert acl(rule("a", "read"), rule("a", "update")).capabilities("a") == ("read", "update")
    assert acl(rule("a", "read"), rule("a", "deny")).capabilities("a") == ("deny",)
    both = acl(rule("a/*", "deny"), rule("a/b", "read"))
    assert (both.allows("a/b", "read"), both.allows("a/c", "read")) == (True, False)


def test_listing_a_folder_is_granted_with_or_without_the_slash() -> None:
    """LIST asks for the path with its slash; policies are written both ways."""
    for written in ("secret/metadata/app", "secret/metadata/app/", "secret/metadata/+"):
        assert acl(rule(written, "list")).allows("secret/metadata/app/", "list")
    assert not acl(rule("secret/metadata/app", "read")).allows("secret/metadata/app/", "read")


@pytest.mark.parametrize(
    ("rules", "allowed"),
    [
        # Vault 1.14.8 answers the same to all but the second, the fourth and the fifth.
        ([("secret/metadata/*", "list"), ("secret/metadata/app/*", "read")], True),
        ([("secret/*", "read"), ("secret/metadata/app/*", "list")], True),
        ([("secret/metadata/app*", "list"), ("secret/metadata/app/*", "read")], True),
        ([("secret/metadata/*", "list"), ("secret/metadata/app/*", "deny")], False),
        ([("secret/metadata/+", "deny"), ("secret/metadata/app/*", "list")], True),
        ([("secret/metadata/+/*", "list"), ("secret/metadata/app*", "deny")], False),
        ([("secret/metadata/app/", "read"), ("secret/metadata/*", "list")], False),
        ([("secret/*", "list"), ("secret/metadata/*", "read")], False),
        ([("secret/+/app*", "list"), ("secret/metadata/*", "read")], False),
        (
            [
                ("secret/metadata/*", "list"),
                ("secret/metadata/app/*", "deny"),
                ("secret/metadata/app/+", "read"),
            ],
            False,
        ),
        (
            [
                ("secret/*", "deny"),
                ("secret/metadata/*", "list"),
                ("secret/metadata/app/*", "read"),
            ],
            True,
        ),
        ([("secret/metadata/app", "deny"), ("secret/metadata/app/*", "list")], False),
        ([("secret/metadata/app", "list"), ("secret/metadata/app/*", "deny")], True),
    ],
)
def test_a_list_is_decided_by_the_rule_that_speaks_of_lists(rules, allowed) -> None:
    compiled = acl(*(rule(path, capability) for path, capability in rules))
    assert compiled.allows("secret/metadata/app/", "list") is allowed
    # Who asks beforehand hears the same.
    assert ("list" in compiled.capabilities("secret/metadata/app/")) is allowed


@pytest.mark.parametrize(
    ("value", "allowed"), [(1, True), (True, False), ("1", False), (1.0, True), (0, False)]
)
def test_a_number_is_no_flag_though_python_takes_them_for_equal(value, allowed) -> None:
    """In either direction: `true` is not what a rule about 1 is about."""
    text = 'path "x" { capabilities = ["update"] %s_parameters = { "n" = [%s] } }'
    assert acl(text % ("allowed", "1")).decide("x", "update", {"n": value}).allowed == allowed
    assert acl(text % ("denied", "1")).decide("x", "update", {"n": value}).allowed != allowed
    flag = acl(text % ("allowed", "true")).decide("x", "update", {"n": value})
    assert flag.allowed == (value is True)


PARAMETERS = """path "x" {
  capabilities = ["update"]
  allowed_parameters = { "ttl" = ["1h", "2*"], "name" = [] }
  denied_parameters = { "policies" = ["root"] }
  required_parameters = ["name"]
}"""


@pytest.mark.parametrize(
    ("given_parameters", "problem"),
    [
        ({"name": "n"}, ""),
        ({"name": "n", "ttl": "24h"}, ""),
        ({"name": "n", "TTL": "1h"}, ""),
        ({"ttl": "1h"}, "the parameter 'name' is required"),
        ({"NAME": "n"}, "the parameter 'name' is required"),
        ({"name": "n", "ttl": "3h"}, "the parameter 'ttl' is not allowed"),
        ({"name": "n", "policies": "root"}, "the parameter 'policies' is denied"),
        ({"name": "n", "other": 1}, "the parameter 'other' is not allowed"),
    ],
)
def test_parameters(given_parameters, problem) -> None:
    """The decision says which parameter failed."""
    decision = acl(PARAMETERS).decide("x", "update", given_parameters)
    assert (decision.allowed, decision.reason) == (not problem, problem or "allowed")


@pytest.mark.parametrize(
    "second", ['"n" = ["x"] }', "}\ndenied_parameters = { n = [1] }", '"N" = [1] }']
)
def test_a_second_list_takes_nothing_back_of_a_denial_of_any_value(second) -> None:
    text = f'path "x" {{ capabilities = ["update"]\ndenied_parameters = {{ "n" = []\n {second} }}'
    assert not acl(text).decide("x", "update", {"n": "y"}).allowed


def test_what_one_policy_bounds_another_without_bounds_does_not_loosen() -> None:
    """Though both are about the same path, and a rule that denies it is no rule that lets in."""
    plain = rule("x", "update")
    denies = 'path "x" { capabilities = ["update"] denied_parameters = { "policies" = [] } }'
    wraps = 'path "x" { capabilities = ["update"] min_wrapping_ttl = "1m" }'
    for texts in ((plain, denies, wraps), (wraps, denies, plain)):
        joined = acl(*texts)
        assert not joined.decide("x", "update", {"policies": "root"}).allowed
        assert not joined.decide("x", "update", {}, wrap_seconds=0).allowed
        assert joined.decide("x", "update", {}, wrap_seconds=60).allowed
    assert not acl(rule("x", "deny")).decide("x", "update").allowed


@pytest.mark.parametrize(
    ("seconds", "allowed"),
    [(0, False), (59, False), (60, True), (3600, True), (3601, False), (None, True)],
)
def test_a_reply_is_wrapped_within_the_bounds(seconds, allowed) -> None:
    """Of several rules about the path the shortest times count, as in Vault."""
    texts = [
        f'path "x" {{ capabilities = ["read"] {bound}_wrapping_ttl = "{time}" }}'
        for bound, time in (("min", "1m"), ("min", "2m"), ("max", "1h"), ("max", "2h"))
    ]
    assert acl(*texts).decide("x", "read", wrap_seconds=seconds).allowed == allowed


def test_a_name_in_any_case_is_one_name_behind_its_place() -> None:
    """`auth/userpass/users/Alice` is the user alice, but a mount's name is as it is written."""
    rules = acl(rule("auth/A/users/Alice", "deny"), rule("auth/A/users/*", "read"))
    assert not rules.lowered(3).allows("auth/A/users/alice", "read")
    assert rules.lowered(3).allows("auth/A/users/bob", "read")


def test_a_rule_about_a_mount_itself_reaches_nothing_in_it() -> None:
    assert not acl(rule("secret", "read")).touches("secret/")
    assert acl(rule("sec*", "read")).touches("secret/")
    assert acl(rule("+/a", "read")).touches("secret/")


def test_a_decision_cites_rule_and_policy_and_what_is_missing() -> None:
    """So that explain can print it."""
    decision = acl(rule("secret/*", "read")).decide("secret/a", "delete")
    assert (decision.rule, decision.missing) == ('path "secret/*" of p0', "delete")
    nothing = acl(rule("secret/*", "read")).decide("other", "read")
    assert nothing.missing == "read on other"


# The reference: Vault's rules written down a second time, as slowly and plainly as they read.

SEGMENT = st.sampled_from(["a", "b", "ab", "+"])
PATTERN = st.builds(
    lambda parts, end: "/".join(parts) + end,
    st.lists(SEGMENT, min_size=1, max_size=4),
    st.sampled_from(["", "*", "/*"]),
).filter(lambda text: "+*" not in text)
PATH = st.lists(st.sampled_from(["a", "b", "ab", "abc"]), min_size=1, max_size=5).map("/".join)


def reference(rules: list[tuple[str, frozenset[str]]], path: str) -> frozenset[str]:
    joined: dict[str, set[str]] = {}
    for pattern, capabilities in rules:
        joined.setdefault(pattern, set()).update(capabilities)

    def regex(pattern: str) -> str:
        body = pattern.removesuffix("*")
        parts = ["[^/]*" if part == "+" else re.escape(part) for part in body.split("/")]
        return "/".join(parts) + (".*" if pattern.endswith("*") else "")

    def wild(pattern: str) -> bool:
        return pattern.endswith("*") or "+" in pattern.split("/")

    def key(pattern: str) -> tuple:
        body = pattern.removesuffix("*")
        plus = [
            m.start() + (m.group().startswith("/")) for m in re.finditer(r"(^|/)\+(?=/|$)", body)
        ]
        first = min([*plus, len(body)])
        return first, not pattern.endswith("*"), -len(plus), len(body), body

    if path in joined and not wild(path):
        best = path
    else:
        fitting = [p for p in joined if wild(p) and re.fullmatch(regex(p), path)]
        if not fitting:
            return frozenset()
        best = max(fitting, key=key)
    return frozenset({"deny"}) if "deny" in joined[best] else frozenset(joined[best])


CAPS = st.frozensets(st.sampled_from(["read", "update", "delete", "deny"]), min_size=1, max_size=3)


@given(st.lists(st.tuples(PATTERN, CAPS), min_size=1, max_size=8), PATH)
@settings(max_examples=400)
@pytest.mark.long
def test_the_engine_decides_as_the_reference_does(rules, path) -> None:
    """On generated policies and paths."""
    compiled = acl(*(rule(pattern, *capabilities) for pattern, capabilities in rules))
    grant = compiled.governing(path)
    assert (grant.capabilities if grant else frozenset()) == reference(rules, path)
