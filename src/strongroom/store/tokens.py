"""Tokens: how long they live, what a new one looks like, and how they are described. Pure.

Rules: https://developer.hashicorp.com/vault/docs/concepts/tokens.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from strongroom.model.clock import rfc3339
from strongroom.model.errors import Invalid
from strongroom.store.engine.contract import TokenRow

DEFAULT_TTL: Final = 768 * 3600
MAX_TTL: Final = 768 * 3600


@dataclass(frozen=True, slots=True)
class Grant:
    """What a login or a parent grants a new token. Durations in seconds, 0 for not set."""

    policies: tuple[str, ...]
    display_name: str
    path: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    ttl: int = 0
    max_ttl: int = 0
    explicit_max_ttl: int = 0
    period: int = 0
    uses: int = 0
    renewable: bool = True
    bound_cidrs: tuple[str, ...] = ()
    role: str = ""


def clean_policies(names: Iterable[str], *, with_default: bool = True) -> tuple[str, ...]:
    """Lower-case, sorted, unique; `default` joins unless root is there or it is not wanted.

    Raises Invalid when root stands beside others.
    """
    found = {name.strip().lower() for name in names if name.strip()}
    if "root" in found:
        if len(found - {"default"}) > 1:
            raise Invalid("root-alone", "root tokens may not have other policies")
        return ("root",)
    return tuple(sorted(found | ({"default"} if with_default else set())))


def lifetime(grant: Grant, asked: int, age: int = 0) -> int:
    """Seconds a token lives from now on; 0 means for ever.

    A period wins over everything but the explicit maximum; else what is asked or granted is cut
    at the maximum counted from the creation, `age` seconds ago.
    """
    limits = [grant.explicit_max_ttl - age] if grant.explicit_max_ttl else []
    if grant.period:
        wanted = grant.period
    else:
        wanted = asked or grant.ttl or DEFAULT_TTL
        limits.append((grant.max_ttl or MAX_TTL) - age)
    return max(0, min([wanted, *limits]))


def new_row(
    grant: Grant, token_id: bytes, accessor: str, now: float, parent: bytes | None = None
) -> TokenRow:
    """The row of a fresh token; root without a ttl never expires."""
    eternal = grant.policies == ("root",) and not grant.ttl and not grant.period
    ttl = 0 if eternal else lifetime(grant, grant.ttl)
    return TokenRow(
        id=token_id,
        accessor=accessor,
        parent=parent,
        policies=grant.policies,
        display_name=grant.display_name,
        path=grant.path,
        created=now,
        ttl=ttl,
        expires=None if eternal else now + ttl,
        metadata=dict(grant.metadata),
        explicit_max_ttl=grant.explicit_max_ttl,
        period=grant.period,
        uses_left=grant.uses,
        renewable=grant.renewable and not eternal,
        bound_cidrs=grant.bound_cidrs,
        role=grant.role,
    )


def renewed_row(row: TokenRow, grant: Grant, increment: int, now: float) -> TokenRow:
    """The row after a renewal; raises Invalid for one that cannot be renewed."""
    if not row.renewable or row.expires is None:
        raise Invalid("not-renewable", "lease is not renewable")
    ttl = lifetime(grant, increment, age=int(now - row.created))
    return dataclasses.replace(row, expires=max(now + ttl, now), ttl=ttl, renewed=now)


def remaining(row: TokenRow, now: float) -> int:
    """Whole seconds left, 0 for a token without an end."""
    return 0 if row.expires is None else max(0, math.ceil(row.expires - now))


def describe(row: TokenRow, now: float, token: str = "") -> dict[str, Any]:
    """What a lookup says; `id` is "" when the caller knows the accessor alone."""
    said: dict[str, Any] = {
        "accessor": row.accessor,
        "creation_time": int(row.created),
        "creation_ttl": row.ttl,
        "display_name": row.display_name,
        "entity_id": "",
        "expire_time": None if row.expires is None else rfc3339(row.expires),
        "explicit_max_ttl": row.explicit_max_ttl,
        "id": token,
        "issue_time": rfc3339(row.created),
        "meta": row.metadata or None,
        "num_uses": row.uses_left,
        "orphan": row.parent is None,
        "path": row.path,
        "policies": list(row.policies),
        "renewable": row.renewable,
        "ttl": remaining(row, now),
        "type": "service",
    }
    if row.period:
        said["period"] = row.period
    if row.role:
        said["role"] = row.role
    if row.bound_cidrs:
        said["bound_cidrs"] = list(row.bound_cidrs)
    if row.renewed is not None:
        said["last_renewal"] = rfc3339(row.renewed)
        said["last_renewal_time"] = int(row.renewed)
    return said


def auth_object(row: TokenRow, token: str, now: float) -> dict[str, Any]:
    """The `auth` object of a login, creation or renewal."""
    return {
        "client_token": token,
        "accessor": row.accessor,
        "policies": list(row.policies),
        "token_policies": list(row.policies),
        "identity_policies": [],
        "metadata": row.metadata or None,
        "lease_duration": remaining(row, now),
        "renewable": row.renewable,
        "entity_id": "",
        "token_type": "service",
        "orphan": row.parent is None,
        "mfa_requirement": None,
        "num_uses": row.uses_left,
    }
