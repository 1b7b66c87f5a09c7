"""`policy fmt`: white space alone changes, whatever the text was."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.access.hcl_format import format_hcl
from strongroom.access.policy import parse_policy
from strongroom.model.errors import Invalid

UNTIDY = """

# What the shop reads.
path   "secret/data/shop/*" { capabilities=["read" ,"list"] }
path "secret/data/{{identity.entity.name}}" {   // one's own
capabilities = [
"create", # new
      "update"]


    min_wrapping_ttl="1s"
  max_wrapping_ttl   =  "1h"
  allowed_parameters = {
      "*"=[]
    "zone" = ["a","b # no comment"]
  }

}
path "x" {}
"""
TIDY = """# What the shop reads.
path "secret/data/shop/*" {
  capabilities = ["read", "list"]
}
path "secret/data/{{identity.entity.name}}" { // one's own
  capabilities = [
    "create", # new
    "update"]

  min_wrapping_ttl = "1s"
  max_wrapping_ttl = "1h"
  allowed_parameters = {
    "*"    = []
    "zone" = ["a", "b # no comment"]
  }
}
path "x" {}
"""


def test_an_untidy_policy_becomes_a_tidy_one() -> None:
    assert format_hcl(UNTIDY) == TIDY
    assert format_hcl(TIDY) == TIDY


@pytest.mark.parametrize("text", ["", "# alone\n", '{"path": {"a":   {"policy": "read"}}}'])
def test_what_has_no_layout_of_ours_stays(text: str) -> None:
    assert format_hcl(text) == text


def test_a_heredoc_is_kept_to_the_letter() -> None:
    text = 'name =   <<-EOF\n    a\n      b\n  EOF\npath "a" {policy="read"}\n'
    expected = 'name = <<-EOF\n    a\n      b\n  EOF\npath "a" {\n  policy = "read"\n}\n'
    assert format_hcl(text) == expected


def test_what_cannot_be_read_is_refused_with_its_place() -> None:
    with pytest.raises(Invalid, match="line 1, column 6"):
        format_hcl('path "a')
    with pytest.raises(Invalid, match="line 1"):
        format_hcl("path = ")


_SPACE = st.sampled_from(["", " ", "\n", "\n\n\n", "\t", " # note\n", " /* note */ "])
_WORD = st.sampled_from(["read", "list", "a # b", "{{x}}", "] }"])


@st.composite
def _policies(draw: st.DrawFn) -> str:
    """Rules with white space and comments between any two tokens."""
    text = ""
    for _ in range(draw(st.integers(0, 3))):
        words = draw(st.lists(_WORD, max_size=3))
        tokens = ["path", f'"{draw(st.sampled_from("abc"))}"', "{", "capabilities", "=", "["]
        for word in words:
            tokens += [f'"{word}"', ","]
        tokens += ["]", "\n", "comment", "=", '"x"', "}"]
        text += "".join(f" {each}{draw(_SPACE)}" for each in tokens)
    return text


@given(_policies())
def test_formatting_is_idempotent_and_says_the_same(text: str) -> None:
    once = format_hcl(text)
    assert format_hcl(once) == once
    assert once.count("note") == text.count("note")


def test_a_formatted_policy_has_the_same_rules() -> None:
    first, second = parse_policy("p", UNTIDY), parse_policy("p", TIDY)
    assert first.rules == second.rules
