"""Rows of everything but KV on one SQLite connection, sealed by the barrier on the way in.

Used with the reading connection as a view and with the writing one inside a transaction.
"""

import dataclasses
import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec
import orjson

from strongroom.model.errors import Misuse
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.contract import (
    ClusterRow,
    ConsumerRow,
    EventRow,
    MountRow,
    TokenRow,
)

EVENTS_KEPT = 20_000


def _pack(row: Any, *left_out: str) -> bytes:  # noqa: ANN401 - any of the contract's rows
    fields = {name: getattr(row, name) for name in _names(type(row)) if name not in left_out}
    return orjson.dumps(fields)


def _names(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind))


class Rows:
    """Everything but KV."""

    def __init__(self, connection: sqlite3.Connection, barrier: Barrier) -> None:
        self._sql = connection
        self._barrier = barrier

    def _one(self, statement: str, *values: Any) -> Any:  # noqa: ANN401
        return self._sql.execute(statement, values).fetchone()

    def _all(self, statement: str, *values: Any) -> list[Any]:  # noqa: ANN401
        return self._sql.execute(statement, values).fetchall()

    # cluster

    def cluster(self) -> ClusterRow | None:
        row = self._one(
            "SELECT cluster_id, cluster_name, seal_type, wrapped_ring, created FROM cluster"
        )
        return ClusterRow(*row) if row else None

    def put_cluster(self, row: ClusterRow) -> bool:
        done = self._sql.execute(
            "INSERT INTO cluster VALUES (1, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (row.cluster_id, row.cluster_name, row.seal_type, row.wrapped_ring, row.created),
        )
        return done.rowcount == 1

    def replace_ring(self, wrapped: bytes) -> None:
        self._sql.execute("UPDATE cluster SET wrapped_ring = ?", (wrapped,))

    def generation(self) -> int:
        return int(self._one("SELECT value FROM generation")[0])

    def _move_generation(self) -> None:
        self._sql.execute("UPDATE generation SET value = value + 1")

    # mounts

    def mounts(self) -> Sequence[MountRow]:
        rows = self._all("SELECT kind, path, version, body FROM mount ORDER BY kind, path")
        return [
            msgspec.convert(
                orjson.loads(self._barrier.open("mount", f"{kind}/{path}", version, body)), MountRow
            )
            for kind, path, version, body in rows
        ]

    def put_mount(self, row: MountRow) -> None:
        found = self._one(
            "SELECT version FROM mount WHERE kind = ? AND path = ?", row.kind, row.path
        )
        version = (found[0] if found else 0) + 1
        self._move_generation()
        body = self._barrier.seal("mount", f"{row.kind}/{row.path}", version, _pack(row))
        self._sql.execute(
            "INSERT OR REPLACE INTO mount VALUES (?, ?, ?, ?)", (row.kind, row.path, version, body)
        )

    def delete_mount(self, row: MountRow) -> None:
        self._move_generation()
        self._sql.execute("DELETE FROM mount WHERE kind = ? AND path = ?", (row.kind, row.path))
        self._sql.execute("DELETE FROM document WHERE mount = ?", (row.uuid,))
        self._sql.execute(
            "DELETE FROM kv_version WHERE node IN (SELECT id FROM node WHERE mount = ?)",
            (row.uuid,),
        )
        self._sql.execute("DELETE FROM node WHERE mount = ?", (row.uuid,))

    # policies

    def policy(self, name: str) -> str | None:
        row = self._one("SELECT version, body FROM policy WHERE name = ?", name)
        return self._barrier.open("policy", name, row[0], row[1]).decode() if row else None

    def policy_names(self) -> Sequence[str]:
        return [name for (name,) in self._all("SELECT name FROM policy ORDER BY name")]

    def put_policy(self, name: str, text: str) -> None:
        found = self._one("SELECT version FROM policy WHERE name = ?", name)
        version = (found[0] if found else 0) + 1
        self._move_generation()
        body = self._barrier.seal("policy", name, version, text.encode())
        self._sql.execute("INSERT OR REPLACE INTO policy VALUES (?, ?, ?)", (name, version, body))

    def delete_policy(self, name: str) -> None:
        self._move_generation()
        self._sql.execute("DELETE FROM policy WHERE name = ?", (name,))

    # tokens

    def _token(self, where: str, value: Any) -> TokenRow | None:  # noqa: ANN401
        row = self._one(
            f"SELECT id, parent, uses_left, version, body FROM token WHERE {where} = ?",  # noqa: S608
            value,
        )
        if row is None:
            return None
        token_id, parent, uses_left, version, body = row
        fields = orjson.loads(self._barrier.open("token", token_id.hex(), version, body))
        fields["policies"] = tuple(fields["policies"])
        fields["bound_cidrs"] = tuple(fields["bound_cidrs"])
        return TokenRow(id=token_id, parent=parent, uses_left=uses_left, **fields)

    def token(self, token_id: bytes) -> TokenRow | None:
        return self._token("id", token_id)

    def token_by_accessor(self, accessor: str) -> TokenRow | None:
        return self._token("accessor", accessor)

    def accessors(self) -> Sequence[str]:
        return [name for (name,) in self._all("SELECT accessor FROM token ORDER BY accessor")]

    def put_token(self, row: TokenRow) -> None:
        found = self._one("SELECT version FROM token WHERE id = ?", row.id)
        version = (found[0] if found else 0) + 1
        if found:
            self._move_generation()
        packed = _pack(row, "id", "parent", "uses_left")
        body = self._barrier.seal("token", row.id.hex(), version, packed)
        self._sql.execute(
            "INSERT OR REPLACE INTO token VALUES (?, ?, ?, ?, ?, ?, ?)",
            (row.id, row.accessor, row.parent, row.expires, row.uses_left, version, body),
        )

    def delete_token(self, token_id: bytes, *, orphan: bool = False) -> Sequence[bytes]:
        self._move_generation()
        if orphan:
            self._sql.execute("UPDATE token SET parent = NULL WHERE parent = ?", (token_id,))
        family = [
            each
            for (each,) in self._all(
                "WITH RECURSIVE family(id) AS (SELECT ? UNION SELECT token.id FROM token"
                " JOIN family ON token.parent = family.id) SELECT id FROM family",
                token_id,
            )
        ]
        self._sql.executemany("DELETE FROM token WHERE id = ?", [(each,) for each in family])
        return family

    def delete_expired_tokens(self, now: float, limit: int) -> int:
        rows = self._all("SELECT id FROM token WHERE expires <= ? LIMIT ?", now, limit)
        return sum(len(self.delete_token(token_id)) for (token_id,) in rows)

    def use_token(self, token_id: bytes) -> bool:
        done = self._sql.execute(
            "UPDATE token SET uses_left = CASE uses_left WHEN 1 THEN -1 ELSE uses_left - 1 END"
            " WHERE id = ? AND uses_left > 0",
            (token_id,),
        )
        return done.rowcount == 1

    # documents

    def document(self, mount: str, kind: str, name: str) -> dict[str, Any] | None:
        row = self._one(
            "SELECT version, body FROM document WHERE mount = ? AND kind = ? AND name = ?",
            mount,
            kind,
            name,
        )
        if row is None:
            return None
        value = orjson.loads(
            self._barrier.open("document", f"{mount}/{kind}/{name}", row[0], row[1])
        )
        if not isinstance(value, dict):
            raise Misuse("a document is an object")
        return value

    def document_names(self, mount: str, kind: str) -> Sequence[str]:
        rows = self._all(
            "SELECT name FROM document WHERE mount = ? AND kind = ? ORDER BY name", mount, kind
        )
        return [name for (name,) in rows]

    def put_document(self, mount: str, kind: str, name: str, value: dict[str, Any]) -> None:
        found = self._one(
            "SELECT version FROM document WHERE mount = ? AND kind = ? AND name = ?",
            mount,
            kind,
            name,
        )
        version = (found[0] if found else 0) + 1
        key = f"{mount}/{kind}/{name}"
        body = self._barrier.seal("document", key, version, orjson.dumps(value))
        self._sql.execute(
            "INSERT OR REPLACE INTO document VALUES (?, ?, ?, ?, ?)",
            (mount, kind, name, version, body),
        )

    def delete_document(self, mount: str, kind: str, name: str) -> None:
        self._sql.execute(
            "DELETE FROM document WHERE mount = ? AND kind = ? AND name = ?", (mount, kind, name)
        )

    # consumers

    def _consumer_key(self, text: str) -> bytes:
        return self._barrier.mac(b"consumer").digest(text.encode())

    def consumers(self, path: str) -> Sequence[ConsumerRow]:
        key = self._consumer_key(path)
        rows = self._all("SELECT actor, version, body FROM consumer WHERE path = ?", key)
        found = [
            ConsumerRow(**orjson.loads(self._barrier.open("consumer", actor.hex(), version, body)))
            for actor, version, body in rows
        ]
        return sorted(found, key=lambda row: row.actor)

    def put_consumer(self, row: ConsumerRow) -> None:
        path, actor = self._consumer_key(row.path), self._consumer_key(f"{row.path}\n{row.actor}")
        found = self._one("SELECT version FROM consumer WHERE path = ? AND actor = ?", path, actor)
        version = (found[0] if found else 0) + 1
        body = self._barrier.seal("consumer", actor.hex(), version, _pack(row))
        self._sql.execute(
            "INSERT OR REPLACE INTO consumer VALUES (?, ?, ?, ?, ?)",
            (path, actor, row.expires, version, body),
        )

    # change feed

    def events_after(self, sequence: int, limit: int) -> Sequence[EventRow]:
        rows = self._all(
            "SELECT sequence, body FROM event WHERE sequence > ? ORDER BY sequence LIMIT ?",
            sequence,
            limit,
        )
        return [
            EventRow(sequence=number, **orjson.loads(self._barrier.open("event", "", 0, body)))
            for number, body in rows
        ]

    def last_event(self) -> int:
        return int(self._one("SELECT COALESCE(MAX(sequence), 0) FROM event")[0])

    def append_event(self, event: EventRow) -> None:
        body = self._barrier.seal("event", "", 0, _pack(event, "sequence"))
        done = self._sql.execute("INSERT INTO event (body) VALUES (?)", (body,))
        if done.lastrowid and done.lastrowid % 1000 == 0:
            self._sql.execute(
                "DELETE FROM event WHERE sequence <= ?", (done.lastrowid - EVENTS_KEPT,)
            )
