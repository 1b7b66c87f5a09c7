"""The entity of a login: found by the alias, or made at the first one."""

import dataclasses
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from strongroom.model.errors import Denied
from strongroom.store.engine.contract import MountRow, Transaction, View
from strongroom.store.engine.identity_contract import AliasRow, EntityRow

# Methods whose names have no case; the others' are kept apart by it.
FOLDED: Final = frozenset({"userpass", "approle", "kubernetes", "token"})


@dataclass(frozen=True, slots=True)
class LoginAlias:
    """Who an auth method says logs in, and the outside groups it says they are in.

    `groups` None means the method knows nothing of groups.
    """

    name: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    groups: tuple[str, ...] | None = None


def canonical_alias(mount_type: str, name: str) -> str:
    """The one form of an alias name for a method of this type."""
    return name.strip().lower() if mount_type in FOLDED else name


def entity_for(
    transaction: Transaction,
    mount: MountRow,
    login: LoginAlias,
    now: float,
    new_id: Callable[[], uuid.UUID] = uuid.uuid4,
) -> str:
    """The entity's id; raises Denied when it is disabled."""
    name = canonical_alias(mount.type, login.name)
    alias = transaction.alias_by_name(mount.accessor, name)
    if alias is None:
        entity_id = _new_entity(transaction, mount, login, name, now, new_id)
    else:
        entity_id = alias.owner
        entity = transaction.entity(entity_id)
        if entity is None or entity.disabled:
            raise Denied("entity-disabled", "permission denied")
        metadata = dict(login.metadata)
        if alias.metadata != metadata:
            transaction.put_alias(dataclasses.replace(alias, metadata=metadata, updated=now))
    if login.groups is not None:
        _join_groups(transaction, mount, entity_id, login.groups)
    return entity_id


def _new_entity(
    transaction: Transaction,
    mount: MountRow,
    login: LoginAlias,
    name: str,
    now: float,
    new_id: Callable[[], uuid.UUID],
) -> str:
    entity = EntityRow(str(new_id()), f"entity_{new_id().hex[:8]}", created=now, updated=now)
    alias = AliasRow(
        str(new_id()), entity.id, mount.accessor, name, dict(login.metadata),
        created=now, updated=now,
    )  # fmt: skip
    transaction.new_entity(entity, alias)
    return entity.id


def _join_groups(
    transaction: Transaction, mount: MountRow, entity_id: str, names: tuple[str, ...]
) -> None:
    """Make the entity a member of the method's outside groups of these names, and of no other."""
    wanted = set()
    for name in names:
        alias = transaction.alias_by_name(mount.accessor, name, group=True)
        if alias is not None:
            wanted.add(alias.owner)
    current = {
        each for each in transaction.groups_of(entity_id) if _is_of(transaction, each, mount)
    }
    for group in sorted(wanted - current):
        transaction.add_member(group, entity_id, "entity")
    for group in sorted(current - wanted):
        transaction.remove_member(group, entity_id)


def _is_of(view: View, group: str, mount: MountRow) -> bool:
    return any(alias.mount == mount.accessor for alias in view.aliases_of(group))
