"""Entities, aliases, groups and members; names are found by a keyed hash and kept sealed."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import orjson

from strongroom.store.engine._sealed_rows import SealedRows, pack
from strongroom.store.engine.identity_contract import AliasRow, EntityRow, GroupRow
from strongroom.store.engine.listed import Listed
from strongroom.store.engine.sql import upsert

PUT_ENTITY: Final = upsert("entity", "id", "name, version, body")
PUT_ALIAS: Final = upsert("alias", "id", "owner, mount, name, of_group, version, body")
PUT_GROUP: Final = upsert("identity_group", "id", "name, version, body")

_Row = EntityRow | AliasRow | GroupRow


class IdentityRows(SealedRows):
    """Identity."""

    def _name_key(self, name: str) -> bytes:
        return self._barrier.mac(b"identity name").digest(name.encode())

    def _opened(self, table: str, row: Any, kind: Any) -> Any:  # noqa: ANN401 - one of three rows
        if row is None:
            return None
        row_id, version, body = row
        fields = orjson.loads(self._barrier.open(table, row_id, version, body))
        return msgspec.convert(fields, kind)

    def _put(self, table: str, statement: str, columns: tuple[Any, ...], row: _Row) -> None:
        row_id = row.id
        version, found = self._next_version(f"SELECT version FROM {table} WHERE id = ?", row_id)  # noqa: S608
        if found:
            self._move_generation()
        body = self._barrier.seal(table, row_id, version, pack(row))
        self._sql.run(statement, row_id, *columns, version, body)

    # entities

    def _entity(self, where: str, value: Any) -> EntityRow | None:  # noqa: ANN401
        row = self._sql.one(f"SELECT id, version, body FROM entity WHERE {where} = ?", value)  # noqa: S608
        found: EntityRow | None = self._opened("entity", row, EntityRow)
        return found

    def entity(self, entity_id: str) -> EntityRow | None:
        return self._entity("id", entity_id)

    def entity_by_name(self, name: str) -> EntityRow | None:
        return self._entity("name", self._name_key(name.lower()))

    def entities(self) -> Listed[EntityRow]:
        rows = self._sql.all("SELECT id, version, body FROM entity ORDER BY id")
        return self._that_open(rows, lambda row: self._opened("entity", row, EntityRow))

    def entity_count(self) -> int:
        return int(self._sql.one("SELECT COUNT(*) FROM entity")[0])

    def new_entity(self, row: EntityRow, alias: AliasRow) -> None:
        self.put_entity(row)
        self._put_alias(alias)

    def put_entity(self, row: EntityRow) -> None:
        self._put("entity", PUT_ENTITY, (self._name_key(row.name.lower()),), row)

    def delete_entity(self, entity_id: str) -> None:
        self._forget("entity", entity_id)

    def _forget(self, table: str, row_id: str) -> None:
        self._move_generation()
        self._sql.run(f"DELETE FROM {table} WHERE id = ?", row_id)  # noqa: S608 - our own names
        self._sql.run("DELETE FROM alias WHERE owner = ?", row_id)
        self._sql.run("DELETE FROM group_member WHERE member = ? OR group_id = ?", row_id, row_id)

    # aliases

    def _alias_rows(self, where: str, *values: Any) -> Sequence[Any]:  # noqa: ANN401
        return self._sql.all(
            f"SELECT id, version, body FROM alias WHERE {where} ORDER BY id",  # noqa: S608
            *values,
        )

    def _alias(self, row: Any) -> AliasRow:  # noqa: ANN401 - columns
        found: AliasRow = self._opened("alias", row, AliasRow)
        return found

    def alias(self, alias_id: str) -> AliasRow | None:
        return next(map(self._alias, self._alias_rows("id = ?", alias_id)), None)

    def alias_by_name(self, mount: str, name: str, *, group: bool = False) -> AliasRow | None:
        found = self._alias_rows(
            "mount = ? AND name = ? AND of_group = ?", mount, self._name_key(name), int(group)
        )
        return self._alias(found[0]) if found else None

    def aliases_of(self, owner: str) -> Sequence[AliasRow]:
        return [self._alias(row) for row in self._alias_rows("owner = ?", owner)]

    def aliases(self, *, group: bool = False) -> Listed[AliasRow]:
        return self._that_open(self._alias_rows("of_group = ?", int(group)), self._alias)

    def put_alias(self, row: AliasRow) -> None:
        self._move_generation()
        self._put_alias(row)

    def _put_alias(self, row: AliasRow) -> None:
        columns = (row.owner, row.mount, self._name_key(row.name), int(row.group))
        self._put("alias", PUT_ALIAS, columns, row)

    def delete_alias(self, alias_id: str) -> None:
        self._move_generation()
        self._sql.run("DELETE FROM alias WHERE id = ?", alias_id)

    # groups

    def _group(self, where: str, value: Any) -> GroupRow | None:  # noqa: ANN401
        row = self._sql.one(
            f"SELECT id, version, body FROM identity_group WHERE {where} = ?",  # noqa: S608
            value,
        )
        found: GroupRow | None = self._opened("identity_group", row, GroupRow)
        return found

    def group(self, group_id: str) -> GroupRow | None:
        return self._group("id", group_id)

    def group_by_name(self, name: str) -> GroupRow | None:
        return self._group("name", self._name_key(name.lower()))

    def groups(self) -> Listed[GroupRow]:
        rows = self._sql.all("SELECT id, version, body FROM identity_group ORDER BY id")
        return self._that_open(rows, lambda row: self._opened("identity_group", row, GroupRow))

    def put_group(self, row: GroupRow) -> None:
        self._put("identity_group", PUT_GROUP, (self._name_key(row.name.lower()),), row)

    def delete_group(self, group_id: str) -> None:
        self._forget("identity_group", group_id)

    def groups_of(self, member: str) -> Sequence[str]:
        rows = self._sql.all(
            "SELECT group_id FROM group_member WHERE member = ? ORDER BY group_id", member
        )
        return [group for (group,) in rows]

    def members(self, group_id: str, kind: str) -> Sequence[str]:
        rows = self._sql.all(
            "SELECT member FROM group_member WHERE group_id = ? AND kind = ? ORDER BY member",
            group_id,
            kind,
        )
        return [member for (member,) in rows]

    def add_member(self, group_id: str, member: str, kind: str) -> None:
        self._move_generation()
        self._sql.run(
            "INSERT INTO group_member (group_id, member, kind) VALUES (?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            group_id,
            member,
            kind,
        )

    def remove_member(self, group_id: str, member: str) -> None:
        self._move_generation()
        self._sql.run(
            "DELETE FROM group_member WHERE group_id = ? AND member = ?", group_id, member
        )
