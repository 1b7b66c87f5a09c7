"""What the store asks of an engine about identity: entities, aliases, groups and members.

Every write touches the row it is about and no other. A change that could matter to a token that
is there moves the engine's generation; a new entity with its first alias does not, for nobody
holds a token of it yet.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from strongroom.store.engine.listed import Listed


@dataclass(frozen=True, slots=True)
class EntityRow:
    """Somebody, whatever way they log in. Names are unique without regard to case."""

    id: str
    name: str
    metadata: dict[str, str] = field(default_factory=dict)
    policies: tuple[str, ...] = ()
    disabled: bool = False
    created: float = 0.0
    updated: float = 0.0
    merged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AliasRow:
    """What an auth method calls an entity, or, with `group`, what it calls an outside group.

    `owner` is the entity's or group's id, `mount` the accessor of the auth method. A method and
    a name have one alias.
    """

    id: str
    owner: str
    mount: str
    name: str
    metadata: dict[str, str] = field(default_factory=dict)
    custom_metadata: dict[str, str] = field(default_factory=dict)
    created: float = 0.0
    updated: float = 0.0
    group: bool = False
    merged_from: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GroupRow:
    """A group; the members of an "external" one are what an auth method says at each login.

    `modify_index` counts its writes.
    """

    id: str
    name: str
    type: str = "internal"
    policies: tuple[str, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    created: float = 0.0
    updated: float = 0.0
    modify_index: int = 1


class IdentityView(Protocol):
    """Reads. Absent rows are None."""

    def entity(self, entity_id: str) -> EntityRow | None:
        """By id."""

    def entity_by_name(self, name: str) -> EntityRow | None:
        """By name, without regard to case."""

    def entities(self) -> Listed[EntityRow]:
        """All that open, by id."""

    def entity_count(self) -> int:
        """How many there are."""

    def alias(self, alias_id: str) -> AliasRow | None:
        """By id, of an entity or a group."""

    def alias_by_name(self, mount: str, name: str, *, group: bool = False) -> AliasRow | None:
        """By the auth method's accessor and its name for the entity or group."""

    def aliases_of(self, owner: str) -> Sequence[AliasRow]:
        """Aliases of an entity or group, by id."""

    def aliases(self, *, group: bool = False) -> Listed[AliasRow]:
        """All that open, of entities or of groups, by id."""

    def group(self, group_id: str) -> GroupRow | None:
        """By id."""

    def group_by_name(self, name: str) -> GroupRow | None:
        """By name, without regard to case."""

    def groups(self) -> Listed[GroupRow]:
        """All that open, by id."""

    def groups_of(self, member: str) -> Sequence[str]:
        """Ids of the groups an entity or group is a direct member of, sorted."""

    def members(self, group_id: str, kind: str) -> Sequence[str]:
        """Ids of a group's direct members of a kind, "entity" or "group", sorted."""


class IdentityTransaction(IdentityView, Protocol):
    """Writes."""

    def new_entity(self, row: EntityRow, alias: AliasRow) -> None:
        """Insert an entity that nobody has a token of, with its first alias."""

    def put_entity(self, row: EntityRow) -> None:
        """Insert or replace."""

    def delete_entity(self, entity_id: str) -> None:
        """Remove with its aliases and memberships; no error when absent."""

    def put_alias(self, row: AliasRow) -> None:
        """Insert or replace."""

    def delete_alias(self, alias_id: str) -> None:
        """Remove; no error when absent."""

    def put_group(self, row: GroupRow) -> None:
        """Insert or replace."""

    def delete_group(self, group_id: str) -> None:
        """Remove with its aliases and memberships; no error when absent."""

    def add_member(self, group_id: str, member: str, kind: str) -> None:
        """Make an "entity" or a "group" a direct member; no error when it is one."""

    def remove_member(self, group_id: str, member: str) -> None:
        """Take a member out; no error when it is none."""
