"""Who can read a path of the store: policies that allow it, and the tokens and roles with them."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from strongroom.access.engine import Acl
from strongroom.access.policy import Policy, parse_policy
from strongroom.model.errors import Invalid
from strongroom.model.reach import Reach

ROOT = "root"


@dataclass(frozen=True, slots=True)
class Holder:
    """Somebody who has policies: a live token, or a role that gives them at a login."""

    kind: str
    name: str
    policies: tuple[str, ...]
    # What the store itself says of a path, where it could be asked: templates and all.
    reads: bool | None = None


def role_holder(mount: str, name: str, role: Mapping[str, Any]) -> Holder:
    """A role of a Kubernetes auth mount."""

    def joined(field: str) -> str:
        value = role.get(field) or []
        return ",".join(value if isinstance(value, list) else [str(value)])

    accounts = joined("bound_service_account_names") or "*"
    namespaces = joined("bound_service_account_namespaces") or "*"
    policies = role.get("token_policies") or role.get("policies") or []
    said = f"auth/{mount}/role/{name} (ServiceAccount {accounts} of namespace {namespaces})"
    return Holder("role", said, tuple(policies))


def who_can_read(
    path: str, policies: Mapping[str, str], holders: Iterable[Holder]
) -> tuple[list[Reach], list[str], list[str]]:
    """The holders that may read a path, each with the rule.

    Also policies that cannot be read, and those with templates that allow it to some who hold them.
    """
    unreadable, texts = [], {}
    for name, text in policies.items():
        try:
            texts[name] = parse_policy(name, text)
        except Invalid:
            unreadable.append(name)
    found = []
    undecided: set[str] = set()
    for holder in holders:
        if ROOT in holder.policies:
            found.append(Reach(holder.kind, holder.name, "read", "policy root"))
            continue
        # The default policy joins every token; a role's list leaves it out.
        names = dict.fromkeys((*holder.policies, "default"))
        held = [texts[name] for name in names if name in texts]
        acl = Acl(held)
        decision = acl.decide(path, "read")
        depends = sorted(each.name for each in held if _may_read(each, path))
        reads = decision.allowed if holder.reads is None else holder.reads
        if not reads:
            steps = dict(_steps(acl, names))
            found += [Reach(holder.kind, holder.name, how, by, False) for how, by in steps.items()]
            undecided.update(depends if holder.reads is None else ())
        else:
            rule = decision.rule if decision.allowed else _cited(depends, holder)
            found.append(Reach(holder.kind, holder.name, "read", rule))
    return sorted(found), sorted(unreadable), sorted(undecided)


def _steps(acl: Acl, policies: Iterable[str]) -> Iterator[tuple[str, str]]:
    """How a holder gives itself what it has not, each with the rule that lets it."""
    for name in policies:
        for path in (f"sys/policies/acl/{name}", f"sys/policy/{name}"):
            written = acl.decide(path, "update")
            if written.allowed:
                yield "a policy of its own that it writes anew", written.rule
    for path in ("auth/token/create", "auth/token/create-orphan"):
        made = acl.decide(path, "sudo")
        if made.allowed and acl.decide(path, "update").allowed:
            yield "a token with any policy", made.rule


def _cited(depends: list[str], holder: Holder) -> str:
    return f"policies {', '.join(depends or holder.policies)}, as the store decides"


def _may_read(policy: Policy, path: str) -> bool:
    """Whether a rule with templates allows a path to somebody."""
    return any(
        "{{" in rule.path and "read" in rule.capabilities and _pattern(rule.path).fullmatch(path)
        for rule in policy.rules
    )


def _pattern(path: str) -> re.Pattern[str]:
    body = path.removesuffix("*")
    parts = [
        "[^/]+" if part.startswith("{{") or part == "+" else re.escape(part)
        for part in re.split(r"(\{\{[^{}]*\}\}|(?<=/)\+(?=/|$))", body)
    ]
    return re.compile("".join(parts) + (".*" if path.endswith("*") else ""))
