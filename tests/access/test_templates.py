"""Policy templates: what is filled in, what is dropped, and that no text of one holds others up."""

import pytest

from strongroom.access.policy import parse_policy
from strongroom.access.templates import render, unbalanced
from strongroom.model.errors import Invalid
from strongroom.store.identity.claims import check_template

VALUES = {"identity.entity.name": "ada"}


def rendered(path: str) -> list[str]:
    policy = parse_policy("p", f'path "{path}" {{ capabilities = ["read"] }}')
    return [rule.path for rule in render(policy, VALUES).rules]


@pytest.mark.parametrize(
    ("path", "whole"),
    [
        ("a/b", True),
        ("a/{{identity.entity.name}}/{{identity.entity.id}}", True),
        ("a/{b}", True),
        ("a/{{identity.entity.name", False),
        ("a/identity.entity.name}}", False),
        ("{{identity.entity.name}}}}", False),
        ("{{a}}/{{b", False),
    ],
)
def test_braces_open_and_close_a_template(path, whole) -> None:
    policy = parse_policy("p", f'path "{path}" {{ capabilities = ["deny"] }}')
    assert unbalanced(policy) == ("" if whole else path)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("a/{{identity.entity.name}}/b", ["a/ada/b"]),
        ("{{ identity.entity.name }}", ["ada"]),
        ("{{identity.entity.name}}-{{identity.entity.name}}", ["ada-ada"]),
        ("{{identity.entity.id}}", []),
        ("{{identity.entity.name", []),
        ("identity.entity.name}}", ["identity.entity.name}}"]),
        ("{{a{b}}", []),
        ("{{{identity.entity.name}}", []),
        ("{{identity.entity.name}}}}", []),
    ],
)
def test_a_rule_is_filled_in_or_dropped(path: str, found: list[str]) -> None:
    assert rendered(path) == found


@pytest.mark.timeout(20)
@pytest.mark.parametrize("opens", ["{{" * 200_000, "{{ " * 100_000, "{{" + " " * 200_000])
def test_a_template_that_never_ends_is_read_once(opens: str) -> None:
    """Each pair that opens was tried to the end of the text: one policy stood a server still."""
    assert rendered(opens) == []
    with pytest.raises(Invalid):
        check_template(f'{{"a": {opens}}}')
