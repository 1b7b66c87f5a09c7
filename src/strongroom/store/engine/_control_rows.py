"""The cluster, its mounts, policies and the documents of mounts."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
import orjson

from strongroom.crypto.aead import Tampered
from strongroom.model.errors import Misuse
from strongroom.store.engine._sealed_rows import SealedRows, pack
from strongroom.store.engine.contract import ClusterRow, DamagedMount, MountRow
from strongroom.store.engine.sql import upsert

PUT_MOUNT: Final = upsert("mount", "kind, path", "version, body")
PUT_POLICY: Final = upsert("policy", "name", "version, body")
PUT_DOCUMENT: Final = upsert("document", "mount, kind, name", "version, body")
# Tables whose keys begin with a mount's uuid; beside them a row of `kv_version` is of its node.
OF_MOUNTS: Final = ("node", "document", "secret_id", "failed_login")
DOCUMENT_VERSION: Final = "SELECT version FROM document WHERE mount = ? AND kind = ? AND name = ?"


class ControlRows(SealedRows):
    """What an administrator writes."""

    # cluster

    def cluster(self) -> ClusterRow | None:
        row = self._sql.one(
            "SELECT cluster_id, cluster_name, seal_type, wrapped_ring, created FROM cluster"
        )
        return ClusterRow(*row) if row else None

    def put_cluster(self, row: ClusterRow) -> bool:
        done = self._sql.one(
            "INSERT INTO cluster (id, cluster_id, cluster_name, seal_type, wrapped_ring, created)"
            " VALUES (1, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING id",
            row.cluster_id,
            row.cluster_name,
            row.seal_type,
            row.wrapped_ring,
            row.created,
        )
        return done is not None

    def replace_ring(self, wrapped: bytes) -> None:
        self._sql.run("UPDATE cluster SET wrapped_ring = ?", wrapped)
        self._move_generation()

    def generation(self) -> int:
        (generation,) = self._sql.one("SELECT value FROM generation")
        self.notice(generation)
        return int(generation)

    # mounts

    def mounts(self) -> Sequence[MountRow]:
        return [each for each in self._mounts() if isinstance(each, MountRow)]

    def damaged_mounts(self) -> Sequence[DamagedMount]:
        return [each for each in self._mounts() if isinstance(each, DamagedMount)]

    def _mounts(self) -> Iterator[MountRow | DamagedMount]:
        rows = self._sql.all("SELECT kind, path, version, body FROM mount ORDER BY kind, path")
        for kind, path, version, body in rows:
            try:
                opened = self._barrier.open("mount", f"{kind}/{path}", version, body)
            except Tampered as error:
                yield DamagedMount(kind, path, error.message)
            else:
                yield msgspec.convert(orjson.loads(opened), MountRow)

    def put_mount(self, row: MountRow) -> None:
        version, _ = self._next_version(
            "SELECT version FROM mount WHERE kind = ? AND path = ?", row.kind, row.path
        )
        self._move_generation()
        body = self._barrier.seal("mount", f"{row.kind}/{row.path}", version, pack(row))
        self._sql.run(PUT_MOUNT, row.kind, row.path, version, body)

    def delete_mount(self, row: MountRow) -> None:
        self._move_generation()
        self._sql.run("DELETE FROM mount WHERE kind = ? AND path = ?", row.kind, row.path)
        self.delete_rows_of_mount(row.uuid)
        self._sql.run("DELETE FROM alias WHERE mount = ?", row.accessor)

    def delete_rows_of_mount(self, mount: str) -> None:
        self._sql.run(
            "DELETE FROM kv_version WHERE node IN (SELECT id FROM node WHERE mount = ?)", mount
        )
        for table in OF_MOUNTS:
            self._sql.run(f"DELETE FROM {table} WHERE mount = ?", mount)  # noqa: S608 - ours

    def move_mount(self, row: MountRow, path: str) -> None:
        self._sql.run("DELETE FROM mount WHERE kind = ? AND path = ?", row.kind, row.path)
        self.put_mount(dataclasses.replace(row, path=path))

    # policies

    def policy(self, name: str) -> str | None:
        row = self._sql.one("SELECT version, body FROM policy WHERE name = ?", name)
        return self._barrier.open("policy", name, row[0], row[1]).decode() if row else None

    def policy_names(self) -> Sequence[str]:
        return [name for (name,) in self._sql.all("SELECT name FROM policy ORDER BY name")]

    def put_policy(self, name: str, text: str) -> None:
        version, _ = self._next_version("SELECT version FROM policy WHERE name = ?", name)
        self._move_generation()
        body = self._barrier.seal("policy", name, version, text.encode())
        self._sql.run(PUT_POLICY, name, version, body)

    def delete_policy(self, name: str) -> None:
        self._move_generation()
        self._sql.run("DELETE FROM policy WHERE name = ?", name)

    # documents

    def document(self, mount: str, kind: str, name: str) -> dict[str, Any] | None:
        row = self._sql.one(
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
        rows = self._sql.all(
            "SELECT name FROM document WHERE mount = ? AND kind = ? ORDER BY name", mount, kind
        )
        return [name for (name,) in rows]

    def put_document(self, mount: str, kind: str, name: str, value: dict[str, Any]) -> None:
        version, _ = self._next_version(DOCUMENT_VERSION, mount, kind, name)
        key = f"{mount}/{kind}/{name}"
        body = self._barrier.seal("document", key, version, orjson.dumps(value))
        self._sql.run(PUT_DOCUMENT, mount, kind, name, version, body)

    def delete_document(self, mount: str, kind: str, name: str) -> None:
        self._sql.run(
            "DELETE FROM document WHERE mount = ? AND kind = ? AND name = ?", mount, kind, name
        )
