"""Policy templates: `{{identity.entity.name}}` and its kin in the paths of rules. Pure.

A rule whose template has no value is dropped, and so is one whose value could widen it: a value
with a slash, a wildcard or a control character never becomes part of a path that is granted. A
rule that denies takes every value, since without it more would be allowed.
Names: https://developer.hashicorp.com/vault/docs/concepts/policies#templated-policies.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Final

from strongroom.access.policy import PathRule, Policy

# Without braces inside: each pair that opens would else be tried to the end of the text.
_TEMPLATE: Final = re.compile(r"(?<!\{)\{\{([^{}]*)\}\}")
_HARMFUL: Final = re.compile(r"[+*/,{}\\]|[^\x20-\x7e\xa0-\U0010ffff]")


def is_templated(policy: Policy) -> bool:
    """Whether a rule of the policy depends on who asks."""
    return any("{{" in rule.path for rule in policy.rules)


def unbalanced(policy: Policy) -> str:
    """The path of a rule whose braces do not open and close a template, or ""."""
    return next((rule.path for rule in policy.rules if not _balanced(rule.path)), "")


def _balanced(path: str) -> bool:
    before, *opened = path.split("{{")
    return "}}" not in before and all(part.count("}}") == 1 for part in opened)


def render(policy: Policy, values: Mapping[str, str]) -> Policy:
    """The policy for one caller; `values` has full names such as `identity.entity.id`."""
    rules = (_rendered(rule, values) for rule in policy.rules)
    return Policy(policy.name, tuple(rule for rule in rules if rule is not None), policy.text)


def _rendered(rule: PathRule, values: Mapping[str, str]) -> PathRule | None:
    if "{{" not in rule.path:
        return rule
    denies = "deny" in rule.capabilities
    missing = False

    def value(found: re.Match[str]) -> str:
        nonlocal missing
        said = values.get(found[1].strip(), "")
        harmful = said in (".", "..") or _HARMFUL.search(said)
        if not said or (harmful and not denies):
            missing = True
        return said

    path = _TEMPLATE.sub(value, rule.path)
    if missing or (not denies and ("{{" in path or "}}" in path)):
        return None
    return dataclasses.replace(
        rule, path=path, pattern=path.removesuffix("*"), prefix=path.endswith("*")
    )
