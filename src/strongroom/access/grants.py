"""Who can read a path of the store: policies that allow it, and the tokens and roles with them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from strongroom.access.engine import Acl
from strongroom.access.policy import parse_policy
from strongroom.model.errors import Invalid
from strongroom.model.reach import Reach

ROOT = "root"


@dataclass(frozen=True, slots=True)
class Holder:
    """Somebody who has policies: a live token, or a role that gives them at a login."""

    kind: str
    name: str
    policies: tuple[str, ...]


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
) -> tuple[list[Reach], list[str]]:
    """The holders that may read a path, each with the rule; and policies that cannot be read."""
    unreadable, texts = [], {}
    for name, text in policies.items():
        try:
            texts[name] = parse_policy(name, text)
        except Invalid:
            unreadable.append(name)
    found = []
    for holder in holders:
        if ROOT in holder.policies:
            found.append(Reach(holder.kind, holder.name, "read", "policy root"))
            continue
        # The default policy joins every token; a role's list leaves it out.
        names = dict.fromkeys((*holder.policies, "default"))
        decision = Acl([texts[name] for name in names if name in texts]).decide(path, "read")
        if decision.allowed:
            found.append(Reach(holder.kind, holder.name, "read", decision.rule))
    return sorted(found), sorted(unreadable)
