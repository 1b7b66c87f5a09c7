"""Tokens: how long they live, what a new one looks like, and how they are described. Pure.

Rules: https://developer.hashicorp.com/vault/docs/concepts/tokens.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from strongroom.model.clock import rfc3339
from strongroom.model.errors import Invalid
from strongroom.store.call import go_duration
from strongroom.store.engine.contract import ConsumerRow, MountRow, TokenRow, View

DEFAULT_TTL: Final = 768 * 3600
MAX_TTL: Final = 768 * 3600
SERVICE: Final = "service"
BATCH: Final = "batch"
ROOT: Final = "root"
# How the texts of tokens begin, other than of those that somebody has chosen.
TEXTS: Final = ("hvs.", "hvb.", "hvr.")
# What the store gives to tokens of its own; nobody may ask for them.
INTERNAL_POLICIES: Final = frozenset({"response-wrapping", "control-group"})
# Each is read when a token is first used: one with 900,000 held up its process for minutes.
MOST_POLICIES: Final = 2_000


def without_tokens(path: str, hide: Callable[[str], str] = lambda _: "TOKEN") -> str:
    """A path as it may be shown: older clients write a token into one, and people by mistake."""
    if "hv" not in path:
        return path
    return "/".join(hide(part) if part.startswith(TEXTS) else part for part in path.split("/"))


@dataclass(frozen=True, slots=True)
class Bounds:
    """What mount and system allow a token, in seconds."""

    default_ttl: int = DEFAULT_TTL
    max_ttl: int = MAX_TTL


def bounds_of(mount: MountRow, system: Bounds) -> Bounds:
    """A mount's own times, where it is tuned, else the system's."""
    most = int(mount.config.get("max_lease_ttl") or 0) or system.max_ttl
    usual = int(mount.config.get("default_lease_ttl") or 0) or system.default_ttl
    return Bounds(min(usual, most), most)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a login or a parent grants a new token. Durations in seconds, 0 for not set.

    `mount` is the uuid of the auth method: a token does not outlive it. `internal` is kept with
    the token and never shown, such as the key a certificate login is bound to. `maker` is the
    token's, see `TokenRow`.
    """

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
    type: str = SERVICE
    entity_id: str = ""
    mount: str = ""
    internal: Mapping[str, str] = field(default_factory=dict)
    maker: str = ""


def clean_policies(names: Iterable[str], *, with_default: bool = True) -> tuple[str, ...]:
    """Lower-case, sorted, unique; `default` joins unless root is there or it is not wanted.

    Raises Invalid when root stands beside others, or where there are too many.
    """
    found = {name.strip().lower() for name in names if name.strip()}
    # A token that has `default` besides may hand on what it has.
    if len(found - {"default"}) > MOST_POLICIES:
        raise Invalid("too-many-policies", f"at most {MOST_POLICIES:,} policies")
    if ROOT in found:
        if len(found - {"default"}) > 1:
            raise Invalid("root-alone", "root tokens may not have other policies")
        return (ROOT,)
    for name in sorted(found & INTERNAL_POLICIES):
        raise Invalid("internal-policy", f'cannot assign policy "{name}"')
    return tuple(sorted(found | ({"default"} if with_default else set())))


def lifetime(
    grant: Grant, bounds: Bounds, asked: int = 0, age: int = 0
) -> tuple[int, tuple[str, ...]]:
    """Seconds a token lives from now on, and warnings where that is less than was asked.

    What is asked, granted or usual is cut at the maximum counted from the creation, `age` seconds
    ago; a period is not, and ends only at the explicit maximum.
    """
    most = min(each for each in (bounds.max_ttl, grant.max_ttl, grant.explicit_max_ttl) if each)
    warnings: list[str] = []
    if grant.period:
        wanted = min(grant.period, most)
        if wanted < grant.period:
            warnings.append(_capped("Period", "Period value", grant.period, most))
        end = grant.explicit_max_ttl
    else:
        wanted, end = asked or grant.ttl or bounds.default_ttl, most
    left = max(0, end - age) if end else wanted
    if left < wanted:
        warnings.append(_capped("TTL", "TTL value", wanted, left))
    return min(wanted, left), tuple(warnings)


def _capped(what: str, value: str, wanted: int, most: int) -> str:
    return (
        f'{what} of "{go_duration(wanted)}" exceeded the effective max_ttl of'
        f' "{go_duration(most)}"; {value} is capped accordingly'
    )


def is_eternal(grant: Grant) -> bool:
    """Whether a token of this grant never ends: root without a time."""
    unset = not (grant.ttl or grant.period or grant.explicit_max_ttl)
    return grant.policies == (ROOT,) and unset and grant.type == SERVICE


def new_row(
    grant: Grant,
    token_id: bytes,
    accessor: str,
    now: float,
    *,
    parent: bytes | None = None,
    bounds: Bounds | None = None,
) -> TokenRow:
    """The row of a fresh token."""
    eternal = is_eternal(grant)
    ttl = 0 if eternal else lifetime(grant, bounds or Bounds())[0]
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
        renewable=grant.renewable and not eternal and grant.type == SERVICE,
        bound_cidrs=grant.bound_cidrs,
        role=grant.role,
        type=grant.type,
        entity_id=grant.entity_id,
        mount=grant.mount,
        internal=dict(grant.internal),
        maker=grant.maker,
    )


def renewed_row(
    row: TokenRow, grant: Grant, bounds: Bounds, increment: int, now: float
) -> tuple[TokenRow, tuple[str, ...]]:
    """The row after a renewal, and warnings; raises Invalid for one that cannot be renewed."""
    if row.type == BATCH:
        raise Invalid("batch-token", "batch tokens cannot be renewed")
    if not row.renewable or row.expires is None:
        raise Invalid("not-renewable", "lease is not renewable")
    # Asked for less than what is there, a renewal never makes a token live longer than allowed.
    ttl, warnings = lifetime(grant, bounds, increment, age=math.ceil(now - row.created))
    if ttl <= 0:
        raise Invalid("past-max-ttl", "past the max TTL, cannot renew")
    return dataclasses.replace(row, expires=now + ttl, ttl=ttl, renewed=now), warnings


def remaining(row: TokenRow, now: float) -> int:
    """Whole seconds left, 0 for a token without an end."""
    return 0 if row.expires is None else max(0, math.ceil(row.expires - now))


def is_over(row: TokenRow, now: float) -> bool:
    """Whether the token's time or its uses have run out."""
    return (row.expires is not None and row.expires <= now) or row.uses_left < 0


def claim_end(view: View, row: ConsumerRow, now: float) -> float | None:
    """When an acknowledgement ends: its token may have been renewed since, or revoked."""
    if row.kind != "token" or not row.actor:
        return row.expires  # A batch token has no accessor and is neither.
    token = view.token_by_accessor(row.actor)
    if token is None or is_over(token, now):
        return now if row.expires is None else min(now, row.expires)
    return token.expires


def describe(
    row: TokenRow, now: float, token: str = "", identity_policies: Sequence[str] = ()
) -> dict[str, Any]:
    """What a lookup says; `id` is "" when the caller knows the accessor alone."""
    said: dict[str, Any] = {
        "accessor": row.accessor,
        "creation_time": int(row.created),
        "creation_ttl": row.ttl,
        "display_name": row.display_name,
        "entity_id": row.entity_id,
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
        "type": row.type,
    }
    if identity_policies:
        said["identity_policies"] = list(identity_policies)
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


def auth_object(
    row: TokenRow, token: str, now: float, identity_policies: Sequence[str] = ()
) -> dict[str, Any]:
    """The `auth` object of a login, creation or renewal."""
    # As Vault leaves it out: there are clients that compare whole answers.
    of_identity = {"identity_policies": list(identity_policies)} if identity_policies else {}
    return {
        "client_token": token,
        "accessor": row.accessor,
        "policies": sorted({*row.policies, *identity_policies}),
        "token_policies": list(row.policies),
        **of_identity,
        "metadata": row.metadata or None,
        "lease_duration": remaining(row, now),
        "renewable": row.renewable,
        "entity_id": row.entity_id,
        "token_type": row.type,
        "orphan": row.parent is None,
        "mfa_requirement": None,
        "num_uses": row.uses_left,
    }
