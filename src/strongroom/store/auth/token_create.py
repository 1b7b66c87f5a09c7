"""What a caller may ask of a new token: the decisions behind `auth/token/create`. Pure.

Order and sentences are Vault's, which clients show to people.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from strongroom.model.errors import Invalid
from strongroom.store.auth.role_fields import check_cidrs, covered
from strongroom.store.auth.token_roles import glob_matches, role_policies
from strongroom.store.call import Call, go_duration, parse_pairs
from strongroom.store.engine.contract import TokenRow
from strongroom.store.tokens import (
    BATCH,
    ROOT,
    SERVICE,
    Bounds,
    Grant,
    clean_policies,
    is_eternal,
)

METADATA_BYTES: Final = 512 * 1024
_NAME: Final = re.compile(r"[^a-zA-Z0-9-]+")


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks: the parent token, whether it has sudo on the path, and what the mount allows."""

    row: TokenRow
    powerful: bool
    bounds: Bounds

    @property
    def is_root(self) -> bool:
        """Whether the parent is a root token."""
        return ROOT in self.row.policies


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was decided. `token` is a text of the caller's own, "" for a random one.

    `entity_alias` names the entity that the token is of instead of the parent's, "" for none.
    """

    grant: Grant
    orphan: bool
    token: str
    entity_alias: str
    warnings: tuple[str, ...]


def decide_new_token(
    call: Call, asker: Asker, role: Mapping[str, Any] | None, *, orphan_path: bool
) -> Wanted:
    """Everything about the new token but its entity; raises Invalid."""
    if asker.row.type == BATCH:
        raise Invalid("batch-parent", "batch tokens cannot create more tokens")
    if asker.row.uses_left:
        raise Invalid("limited-parent", "restricted use token cannot generate child tokens")
    kind = _kind(call, role)
    uses = _uses(call, role)
    _check_batch(call, kind, uses)
    orphan = _orphan(call, asker, role, orphan_path=orphan_path)
    policies = _policies(call, asker, role)
    explicit, period, warnings = _times(call, asker, role)
    grant = Grant(
        policies=policies,
        display_name=_display_name(call.text("display_name")),
        path=_path(call, role),
        metadata=_metadata(call),
        ttl=_positive(call, "ttl", "lease"),
        explicit_max_ttl=explicit,
        period=period,
        uses=uses,
        renewable=call.flag("renewable", default=True) and (not role or role["renewable"]),
        bound_cidrs=_cidrs(call, role, () if orphan else asker.row.bound_cidrs),
        role=call.args.get("role_name", "").lower(),
        type=kind,
        entity_id="" if orphan else asker.row.entity_id,
        mount=call.mount.uuid,
        # Root makes tokens for others. Batch tokens are no clients: they have no row.
        maker="" if asker.is_root and kind == SERVICE else asker.row.client,
    )
    _check_root(grant, asker)
    return Wanted(grant, orphan, _own_text(call, asker, kind), _entity_alias(call, role), warnings)


def _kind(call: Call, role: Mapping[str, Any] | None) -> str:
    asked = call.text("type")
    if asked not in ("", SERVICE, BATCH):
        raise Invalid("bad-parameter", f'invalid value "{asked}" for token type')
    if role is None:
        return asked or SERVICE
    of_role = str(role["token_type"])
    # The role's word goes first: Vault's command line names a type in every request.
    if of_role in (SERVICE, BATCH):
        return of_role
    return asked or (BATCH if of_role == "default-batch" else SERVICE)


def _check_batch(call: Call, kind: str, uses: int) -> None:
    if kind != BATCH:
        return
    if call.text("id"):
        raise Invalid("bad-parameter", "batch tokens cannot have custom IDs")
    for name in ("explicit_max_ttl", "period"):
        if call.seconds(name):
            raise Invalid("bad-parameter", f'batch tokens cannot have "{name}" set')
    # Of the role too: nobody counts the uses of a batch token.
    if uses:
        raise Invalid("bad-parameter", 'batch tokens cannot have "num_uses" set')


def _check_root(grant: Grant, asker: Asker) -> None:
    if ROOT not in grant.policies:
        return
    if grant.type == BATCH:
        # Nobody can revoke one: it would have every right until its end.
        raise Invalid("root-batch", "batch tokens cannot be root tokens")
    if is_eternal(grant) and asker.row.expires is not None:
        # Else whoever is root for an hour would be so for good, by an orphan of it.
        raise Invalid(
            "beyond-parent", "expiring root tokens cannot create non-expiring root tokens"
        )


def _orphan(call: Call, asker: Asker, role: Mapping[str, Any] | None, *, orphan_path: bool) -> bool:
    if role is not None:
        return bool(role["orphan"])
    if call.flag("no_parent") and not orphan_path and not asker.powerful:
        raise Invalid("needs-sudo", "root or sudo privileges required to create orphan token")
    return orphan_path or call.flag("no_parent")


def _policies(call: Call, asker: Asker, role: Mapping[str, Any] | None) -> tuple[str, ...]:
    asked = call.texts("policies")
    plain = not call.flag("no_default_policy") and not (role and role["token_no_default_policy"])
    parent = asker.row.policies
    found = role_policies(role, asked, parent, with_default=plain) if role else None
    if found is None:
        found = _of_parent(asked, asker, with_default=plain)
    if ROOT in found and not asker.is_root:
        raise Invalid(
            "beyond-parent", "root tokens may not be created without parent token being root"
        )
    return found


def _of_parent(asked: Sequence[str], asker: Asker, *, with_default: bool) -> tuple[str, ...]:
    parent = asker.row.policies
    if asker.powerful:
        return clean_policies(asked or parent, with_default=with_default)
    # A child has `default` where the parent has it, unless the child is not to.
    with_default = with_default and "default" in parent
    if not asked:
        return clean_policies(
            (each for each in parent if each != "default"), with_default=with_default
        )
    policies = clean_policies(asked, with_default=with_default)
    if not set(policies) <= set(parent):
        raise Invalid("beyond-parent", "child policies must be subset of parent")
    return policies


def _times(
    call: Call, asker: Asker, role: Mapping[str, Any] | None
) -> tuple[int, int, tuple[str, ...]]:
    explicit, period = _positive(call, "explicit_max_ttl"), _positive(call, "period")
    if period and not asker.powerful:
        raise Invalid("needs-sudo", "root or sudo privileges required to create periodic token")
    warnings: tuple[str, ...] = ()
    if role is not None:
        explicit = _smaller(explicit, role["token_explicit_max_ttl"])
        period = _smaller(period, role["token_period"])
    if explicit > asker.bounds.max_ttl:
        warnings = (
            f'Explicit max TTL of "{go_duration(explicit)}" is greater than system/mount allowed'
            f' value; value is being capped to "{go_duration(asker.bounds.max_ttl)}"',
        )
        explicit = asker.bounds.max_ttl
    return explicit, period, warnings


def _smaller(asked: int, of_role: int) -> int:
    """The smaller of two limits of which either may be unset."""
    return min(asked, of_role) if asked and of_role else asked or of_role


def _uses(call: Call, role: Mapping[str, Any] | None) -> int:
    uses = call.integer("num_uses")
    if uses < 0:
        raise Invalid("bad-parameter", "number of uses cannot be negative")
    return _smaller(uses, role["token_num_uses"]) if role else uses


def _positive(call: Call, name: str, older: str = "") -> int:
    seconds = call.seconds(name if name in call.data or not older else older)
    if seconds < 0:
        raise Invalid("bad-parameter", f"{name} must be positive")
    return seconds


def _cidrs(call: Call, role: Mapping[str, Any] | None, parent: Sequence[str]) -> tuple[str, ...]:
    """The role's networks, else the parent's; what is asked for must lie within them.

    A role may lift what binds the parent, as it may give other policies.
    """
    asked = check_cidrs(list(call.texts("bound_cidrs")))
    if role is not None:
        outer, problem = role["token_bound_cidrs"], "the role's token_bound_cidrs"
    else:
        outer, problem = list(parent), "those of the parent token"
    if outer and not covered(asked, outer):
        raise Invalid("beyond-role", f"bound_cidrs must lie within {problem}")
    return tuple(asked or outer)


def _own_text(call: Call, asker: Asker, kind: str) -> str:
    token = call.text("id")
    if not token or kind == BATCH:
        return ""
    if not asker.powerful:
        raise Invalid("needs-sudo", "root or sudo privileges required to specify token id")
    for prefix in ("s.", "hvs.", "hvb.", "b.", "r.", "hvr."):
        if token.startswith(prefix):
            raise Invalid("bad-token-id", f"custom token ID cannot have the '{prefix}' prefix")
    if "." in token:
        raise Invalid("bad-token-id", "custom token ID cannot have a '.' in the value")
    return token


def _entity_alias(call: Call, role: Mapping[str, Any] | None) -> str:
    alias = call.text("entity_alias").lower()
    if not alias:
        return ""
    if role is None:
        raise Invalid(
            "alias-without-role", "'entity_alias' is only allowed in combination with token role"
        )
    if not any(glob_matches(each, alias) for each in role["allowed_entity_aliases"]):
        raise Invalid("alias-not-allowed", "invalid 'entity_alias' value")
    return alias


def _path(call: Call, role: Mapping[str, Any] | None) -> str:
    suffix = role["path_suffix"] if role else ""
    return f"{call.path}/{suffix}" if suffix else call.path


def _display_name(given: str) -> str:
    name = _NAME.sub("-", given).strip("-")
    return f"token-{name}" if name else "token"


def _metadata(call: Call) -> dict[str, str]:
    meta = parse_pairs(call.data.get("meta") or call.data.get("metadata") or {}, "meta")
    if sum(len(key) + len(value) for key, value in meta.items()) > METADATA_BYTES:
        raise Invalid("too-much-metadata", "the token metadata is too large")
    return meta
