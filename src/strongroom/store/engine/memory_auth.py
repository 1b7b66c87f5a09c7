"""The fake engine's rows of identity and logins, beside those in `memory`."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from strongroom.store.engine.auth_contract import FailedLoginRow, SecretIdRow
from strongroom.store.engine.contract import MountRow
from strongroom.store.engine.identity_contract import AliasRow, EntityRow, GroupRow
from strongroom.store.engine.listed import Listed


@dataclass
class AuthState:
    """The rows by key, and the generation they move."""

    generation: int = 0
    entities: dict[str, EntityRow] = field(default_factory=dict)
    aliases: dict[str, AliasRow] = field(default_factory=dict)
    groups: dict[str, GroupRow] = field(default_factory=dict)
    members: dict[tuple[str, str], str] = field(default_factory=dict)
    secret_ids: dict[tuple[str, bytes], SecretIdRow] = field(default_factory=dict)
    failed: dict[tuple[str, str], FailedLoginRow] = field(default_factory=dict)


class MemoryAuthRows:
    """View and transaction over them."""

    state: AuthState

    def forget_logins(self, mount: str) -> None:
        """What logins have left under the uuid of a mount that is removed."""
        state = self.state
        state.secret_ids = {key: each for key, each in state.secret_ids.items() if key[0] != mount}
        state.failed = {key: each for key, each in state.failed.items() if key[0] != mount}

    def forget_aliases(self, row: MountRow) -> None:
        """A mount is removed, and with it who logged in by it."""
        state, gone = self.state, row.accessor
        state.aliases = {key: each for key, each in state.aliases.items() if each.mount != gone}

    # identity

    def entity(self, entity_id: str) -> EntityRow | None:
        return self.state.entities.get(entity_id)

    def entity_by_name(self, name: str) -> EntityRow | None:
        rows = self.state.entities.values()
        return next((row for row in rows if row.name.lower() == name.lower()), None)

    def entities(self) -> Listed[EntityRow]:
        return Listed(self.state.entities[key] for key in sorted(self.state.entities))

    def entity_count(self) -> int:
        return len(self.state.entities)

    def new_entity(self, row: EntityRow, alias: AliasRow) -> None:
        self.state.entities[row.id] = row
        self.state.aliases[alias.id] = alias

    def put_entity(self, row: EntityRow) -> None:
        self.state.generation += row.id in self.state.entities
        self.state.entities[row.id] = row

    def delete_entity(self, entity_id: str) -> None:
        self.state.entities.pop(entity_id, None)
        self._forget(entity_id)

    def _forget(self, row_id: str) -> None:
        state = self.state
        state.generation += 1
        state.aliases = {key: each for key, each in state.aliases.items() if each.owner != row_id}
        state.members = {key: each for key, each in state.members.items() if row_id not in key}

    def alias(self, alias_id: str) -> AliasRow | None:
        return self.state.aliases.get(alias_id)

    def alias_by_name(self, mount: str, name: str, *, group: bool = False) -> AliasRow | None:
        wanted = (mount, name, group)
        rows = self.state.aliases.values()
        return next((row for row in rows if (row.mount, row.name, row.group) == wanted), None)

    def aliases_of(self, owner: str) -> Sequence[AliasRow]:
        rows = self.state.aliases.values()
        return sorted((row for row in rows if row.owner == owner), key=lambda row: row.id)

    def aliases(self, *, group: bool = False) -> Listed[AliasRow]:
        rows = self.state.aliases.values()
        return Listed(sorted((row for row in rows if row.group == group), key=lambda row: row.id))

    def put_alias(self, row: AliasRow) -> None:
        self.state.generation += 1
        self.state.aliases[row.id] = row

    def delete_alias(self, alias_id: str) -> None:
        self.state.generation += 1
        self.state.aliases.pop(alias_id, None)

    def group(self, group_id: str) -> GroupRow | None:
        return self.state.groups.get(group_id)

    def group_by_name(self, name: str) -> GroupRow | None:
        rows = self.state.groups.values()
        return next((row for row in rows if row.name.lower() == name.lower()), None)

    def groups(self) -> Listed[GroupRow]:
        return Listed(self.state.groups[key] for key in sorted(self.state.groups))

    def put_group(self, row: GroupRow) -> None:
        self.state.generation += row.id in self.state.groups
        self.state.groups[row.id] = row

    def delete_group(self, group_id: str) -> None:
        self.state.groups.pop(group_id, None)
        self._forget(group_id)

    def groups_of(self, member: str) -> Sequence[str]:
        return sorted(group for group, each in self.state.members if each == member)

    def members(self, group_id: str, kind: str) -> Sequence[str]:
        rows = self.state.members.items()
        return sorted(who for (group, who), of in rows if (group, of) == (group_id, kind))

    def add_member(self, group_id: str, member: str, kind: str) -> None:
        self.state.generation += 1
        self.state.members[group_id, member] = kind

    def remove_member(self, group_id: str, member: str) -> None:
        self.state.generation += 1
        self.state.members.pop((group_id, member), None)

    # secret ids

    def secret_id(self, mount: str, secret_id: bytes) -> SecretIdRow | None:
        return self.state.secret_ids.get((mount, secret_id))

    def secret_id_by_accessor(self, mount: str, accessor: str) -> SecretIdRow | None:
        rows = self.state.secret_ids.values()
        return next((row for row in rows if (row.mount, row.accessor) == (mount, accessor)), None)

    def secret_id_accessors(self, mount: str, role: str) -> Sequence[str]:
        rows = self.state.secret_ids.values()
        return sorted(row.accessor for row in rows if (row.mount, row.role) == (mount, role))

    def put_secret_id(self, row: SecretIdRow) -> None:
        self.state.secret_ids[row.mount, row.id] = row

    def delete_secret_id(self, mount: str, secret_id: bytes) -> None:
        self.state.secret_ids.pop((mount, secret_id), None)

    def delete_secret_ids(self, mount: str, role: str) -> None:
        rows = self.state.secret_ids.items()
        self.state.secret_ids = {
            key: row for key, row in rows if (row.mount, row.role) != (mount, role)
        }

    def use_secret_id(self, mount: str, secret_id: bytes) -> bool:
        row = self.secret_id(mount, secret_id)
        if row is None or row.uses_left <= 0:
            return False
        left = -1 if row.uses_left == 1 else row.uses_left - 1
        self.state.secret_ids[mount, secret_id] = replace(row, uses_left=left)
        return True

    def delete_spent_secret_ids(self, now: float, limit: int) -> int:
        spent = [
            key
            for key, row in self.state.secret_ids.items()
            if row.uses_left < 0 or (row.expires is not None and row.expires <= now)
        ][:limit]
        for key in spent:
            del self.state.secret_ids[key]
        return len(spent)

    # failed logins

    def failed_login(self, mount: str, name: str) -> FailedLoginRow | None:
        return self.state.failed.get((mount, name))

    def failed_logins(self) -> Listed[FailedLoginRow]:
        return Listed(self.state.failed[key] for key in sorted(self.state.failed))

    def put_failed_login(self, row: FailedLoginRow) -> None:
        self.state.failed[row.mount, row.name] = row

    def delete_failed_login(self, mount: str, name: str) -> None:
        self.state.failed.pop((mount, name), None)

    def forget_failed_logins(self, before: float, limit: int) -> int:
        gone = [key for key, row in self.state.failed.items() if row.lapses < before][:limit]
        return self._remove_failed(gone)

    def trim_failed_logins(self, mount: str, kept: int, limit: int) -> int:
        rows = [row for row in self.state.failed.values() if row.mount == mount]
        rows.sort(key=lambda each: each.lapses, reverse=True)
        return self._remove_failed([(mount, each.name) for each in rows[kept : kept + limit]])

    def _remove_failed(self, gone: Sequence[tuple[str, str]]) -> int:
        for key in gone:
            del self.state.failed[key]
        return len(gone)
