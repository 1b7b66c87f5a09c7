"""Policies in the forms people write them, and refusals that say where."""

import time

import pytest
from hcl.parser import HclParser
from hypothesis import given
from hypothesis import strategies as st

from strongroom.access.hcl import Attribute, parse
from strongroom.access.policy import parse_policy
from strongroom.model.errors import Invalid

FORMS = {
    "hcl": 'path "secret/data/app/*" { capabilities = ["read", "list"] }',
    "trailing comma": 'path "secret/data/app/*" { capabilities = ["read", "list",], }',
    "quoted keys": '"path" "secret/data/app/*" { "capabilities" = ["read", "list"] }',
    "assigned": 'path = { "secret/data/app/*" = { capabilities = ["read", "list"] } }',
    "comments": '# a\n// b\n/* c\n d */ path "secret/data/app/*" { # e\ncapabilities=["read","list"]}',
    "leading slash": 'path "/secret/data/app/*" { capabilities = ["list", "read"] }',
    "shorthand": 'path "secret/data/app/*" { policy = "read" }',
    "json": '{"path": {"secret/data/app/*": {"capabilities": ["read", "list"]}}}',
    "json list": '{"path": [{"secret/data/app/*": {"capabilities": ["read", "list"]}}]}',
}


@pytest.mark.parametrize("form", [name for name in FORMS if name != "json list"])
def test_every_form_says_the_same(form) -> None:
    """One rule: prefix secret/data/app/, read and list."""
    (rule,) = parse_policy("p", FORMS[form]).rules
    assert (rule.path, rule.pattern, rule.prefix) == ("secret/data/app/*", "secret/data/app/", True)
    assert rule.capabilities == {"read", "list"}


def test_deny_takes_everything_else_away_and_parameters_are_read() -> None:
    """Parameter names are case-insensitive; wrapping times are seconds."""
    text = """
    path "auth/token/create" {
      capabilities = ["update", "deny"]
    }
    path "x" {
      capabilities = ["create"]
      allowed_parameters = { "TTL" = ["1h", "2h"], "*" = [] }
      denied_parameters { policies = [] }
      required_parameters = ["ttl"]
      min_wrapping_ttl = "1m"
      max_wrapping_ttl = 90
    }"""
    first, second = parse_policy("p", text).rules
    assert first.capabilities == {"deny"}
    assert second.allowed_parameters == {"ttl": ("1h", "2h"), "*": ()}
    assert second.denied_parameters == {"policies": ()}
    assert (second.required_parameters, second.min_wrapping_ttl, second.max_wrapping_ttl) == (
        ("ttl",),
        60,
        90,
    )


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("1h30m", 5400.0), ("1.5h", 5400.0), ("500ms", 0.5), ("2d", 172800.0), ("90", 90.0)],
)
def test_wrapping_times_are_written_as_everywhere(written: str, seconds: float) -> None:
    text = f'path "a" {{ capabilities = ["read"] max_wrapping_ttl = "{written}" }}'
    assert parse_policy("p", text).rules[0].max_wrapping_ttl == seconds


@pytest.mark.parametrize("written", ["", "h", "1x", "-5m", "1h 30m", "1h30", "٣s"])
def test_what_is_no_time_is_refused(written: str) -> None:
    text = f'path "a" {{ capabilities = ["read"] min_wrapping_ttl = "{written}" }}'
    with pytest.raises(Invalid, match="min_wrapping_ttl is a duration"):
        parse_policy("p", text)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('path "a" {\n  capabilities = ["read"\n}', "line 3, column 1"),
        ('path "a" {', "line 1, column 11"),
        ('path "a {}', "line 1, column 6"),
        ('path "a" { capabilities = [read] }', "line 1, column 28"),
        ('\n\npath "a" { capabilities = ["fly"] }', "line 3"),
        ('path "a" { capabilites = ["read"] }', "line 1"),
        ('path "a+*" { capabilities = ["read"] }', "line 1"),
        ('{"path": {"a": {"capabilities": ["read"]}}', "line 1, column 43"),
        ("path " + '"a" {' * 40, "line 1"),
        ('x = <<EOT\nnever ends\n', "line 1, column 5"),
        ("@", "line 1, column 1"),
    ],
)  # fmt: skip
def test_bad_policies_are_refused_with_their_place(text, place) -> None:
    """And never with a stack trace."""
    with pytest.raises(Invalid) as caught:
        parse_policy("p", text)
    assert caught.value.code == "bad-policy"
    assert caught.value.message.startswith(place)


def test_heredocs_numbers_and_escapes() -> None:
    """As configuration files have them."""
    body = parse(
        'a = <<-EOT\n    x\n      y\n    EOT\nb = 0x1f\nc = -2.5\nd = "\\u00e4\\n"\ne = true\n'
    )
    values = {item.name: item.value for item in body.items if isinstance(item, Attribute)}
    assert values == {"a": "x\n  y\n", "b": 31, "c": -2.5, "d": "ä\n", "e": True}


# Making its tables takes most of the time; it keeps nothing between texts.
PYHCL = HclParser()
NAMES = st.from_regex(r"[a-z][a-z_]{0,8}", fullmatch=True)
TEXTS = st.text(
    st.characters(codec="ascii", categories=["L", "N"], include_characters="/*+-_ ."), max_size=12
)
VALUES = st.one_of(
    TEXTS, st.integers(0, 10**9), st.booleans(), st.lists(TEXTS, min_size=1, max_size=4)
)


@pytest.mark.long
@given(st.dictionaries(NAMES, VALUES, min_size=1, max_size=5))
def test_what_pyhcl_reads_is_what_we_read(values) -> None:
    """pyhcl implements the HCL 1 grammar independently."""

    def written(value: object) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, list):
            return "[" + ", ".join(written(each) for each in value) + "]"
        return f'"{value}"' if isinstance(value, str) else str(value)

    text = "\n".join(f"{name} = {written(value)}" for name, value in values.items())
    ours = {item.name: item.value for item in parse(text).items if isinstance(item, Attribute)}
    assert ours == PYHCL.parse(text) == values


@given(st.text(max_size=80))
def test_any_text_is_parsed_or_refused(text) -> None:
    """No other exception escapes."""
    try:
        parse_policy("p", text)
    except Invalid as refusal:
        assert refusal.message.startswith("line ")


def test_a_long_policy_is_read_in_the_time_of_its_length() -> None:
    """To say its line, the text before each of 20,000 rules was counted: a minute for 900 KB."""
    rules = "".join(f'path "a/{each}" {{\n capabilities = ["read"]\n}}\n' for each in range(9000))
    before = time.process_time()
    assert len(parse_policy("p", rules).rules) == 9000
    assert time.process_time() - before < 2.0


@pytest.mark.parametrize(
    "body",
    [
        'capabilities = ["deny"] capabilities = ["read"]',
        'policy = "deny" policy = "write"',
        'policy = "write" capabilities = ["deny"]',
    ],
)
def test_what_is_denied_first_is_not_granted_by_the_same_key_again(body: str) -> None:
    (rule,) = parse_policy("p", f'path "a" {{ {body} }}').rules
    assert rule.capabilities == {"deny"}


@pytest.mark.parametrize("equals", ["=", ""])
def test_parameters_of_two_blocks_are_all_denied(equals: str) -> None:
    text = f"""path "a" {{
      capabilities = ["update"]
      denied_parameters {equals} {{ "one" = [] "three" = ["x"] }}
      denied_parameters {equals} {{ "two" = [] "three" = ["y"] }}
      required_parameters = ["four"]
      required_parameters = ["five"]
    }}"""
    (rule,) = parse_policy("p", text).rules
    assert rule.denied_parameters == {"one": (), "two": (), "three": ("x", "y")}
    assert rule.required_parameters == ("four", "five")


@pytest.mark.parametrize(
    "text",
    [
        '{"path": {"a": {"min_wrapping_ttl": %s}}}' % ("9" * 5000),
        'path "a" { policy = ["read"] }',
        'path "a\\ud800" { capabilities = ["read"] }',
        '{"path": {"a\\udfff": {"capabilities": ["read"]}}}',
        'path "a" { capabilities { } }',
        'path "a" { required_parameters = "ttl" }',
        'path "a" { required_parameters = [1] }',
        'path "a" { denied_parameters = ["ttl"] }',
        'path "a" { denied_parameters = { ttl = "1h" } }',
        'path "a" { min_wrapping_ttl = "2m" max_wrapping_ttl = "1m" }',
        'path "a" "b" { capabilities = ["deny"] }',
        'pth "a" { capabilities = ["deny"] }',
    ],
    ids=["long-number", "list-of-shorthands", "half-a-character", "half-in-json",
         "block-for-a-list", "text-for-a-list", "list-of-numbers", "list-for-an-object",
         "object-of-texts", "bounds-the-wrong-way", "two-paths", "misspelled-path"],
)  # fmt: skip
def test_what_cannot_be_read_or_shown_is_refused_and_no_bug(text: str) -> None:
    with pytest.raises(Invalid):
        parse_policy("p", text)
