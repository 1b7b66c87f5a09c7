"""KV on SQLite: a tree of sealed names by parent id, metadata at the node, data by version."""

from collections.abc import Sequence

import orjson

from strongroom.store.engine._rows import Rows
from strongroom.store.engine.barrier import ROOT_FOLDER
from strongroom.store.engine.contract import KvMetadata, KvVersionInfo


class KvRows(Rows):
    """The whole view and transaction."""

    def _node(self, mount: str, path: str) -> int | None:
        """The node of a path, or None."""
        node = ROOT_FOLDER
        for name in path.split("/"):
            row = self._one(
                "SELECT id FROM node WHERE mount = ? AND parent = ? AND name = ?",
                mount,
                node,
                self._barrier.seal_name(mount, node, name),
            )
            if row is None:
                return None
            node = row[0]
        return node

    def _make_node(self, mount: str, path: str) -> int:
        node = ROOT_FOLDER
        for name in path.split("/"):
            sealed = self._barrier.seal_name(mount, node, name)
            row = self._one(
                "SELECT id FROM node WHERE mount = ? AND parent = ? AND name = ?",
                mount,
                node,
                sealed,
            )
            if row is None:
                row = self._one(
                    "INSERT INTO node (mount, parent, name, version) VALUES (?, ?, ?, 0)"
                    " RETURNING id",
                    mount,
                    node,
                    sealed,
                )
            node = row[0]
        return node

    def kv_metadata(self, mount: str, path: str) -> KvMetadata | None:
        node = self._node(mount, path)
        if node is None:
            return None
        version, body = self._one("SELECT version, body FROM node WHERE id = ?", node)
        if body is None:
            return None
        fields = orjson.loads(self._barrier.open("node", str(node), version, body))
        fields["versions"] = tuple(KvVersionInfo(*each) for each in fields["versions"])
        return KvMetadata(mount=mount, path=path, **fields)

    def kv_data(self, mount: str, path: str, version: int) -> bytes | None:
        node = self._node(mount, path)
        if node is None:
            return None
        row = self._one("SELECT body FROM kv_version WHERE node = ? AND version = ?", node, version)
        return self._barrier.open("kv_version", str(node), version, row[0]) if row else None

    def kv_list(self, mount: str, folder: str, *, after: str = "", limit: int = 0) -> Sequence[str]:
        node = self._node(mount, folder.strip("/")) if folder.strip("/") else ROOT_FOLDER
        if node is None:
            return []
        # A page goes on in the order of the sealed names, which is stable and indexed.
        start = self._barrier.seal_name(mount, node, after.rstrip("/")) if after else b""
        rows = self._all(
            "SELECT name, body IS NOT NULL, EXISTS"
            " (SELECT 1 FROM node AS child WHERE child.mount = node.mount"
            " AND child.parent = node.id)"
            " FROM node WHERE mount = ? AND parent = ? AND name > ? ORDER BY name LIMIT ?",
            mount,
            node,
            start,
            limit or -1,
        )
        names: list[str] = []
        for sealed, is_secret, is_folder in rows:
            name = self._barrier.open_name(mount, node, sealed)
            names += ([name] if is_secret else []) + ([f"{name}/"] if is_folder else [])
        return names if limit else sorted(names)

    def put_kv_metadata(self, row: KvMetadata) -> None:
        node = self._make_node(row.mount, row.path)
        (version,) = self._one("SELECT version FROM node WHERE id = ?", node)
        fields = {
            "created": row.created,
            "updated": row.updated,
            "current_version": row.current_version,
            "oldest_version": row.oldest_version,
            "max_versions": row.max_versions,
            "cas_required": row.cas_required,
            "delete_version_after": row.delete_version_after,
            "custom": row.custom,
            "versions": [
                (each.version, each.created, each.deleted, each.destroyed) for each in row.versions
            ],
        }
        body = self._barrier.seal("node", str(node), version + 1, orjson.dumps(fields))
        self._sql.execute(
            "UPDATE node SET version = ?, body = ? WHERE id = ?", (version + 1, body, node)
        )
        # Data lives exactly as long as an entry that is not destroyed.
        kept = [each.version for each in row.versions if not each.destroyed]
        places = ",".join("?" * len(kept))
        self._sql.execute(
            f"DELETE FROM kv_version WHERE node = ? AND version NOT IN ({places})",  # noqa: S608
            (node, *kept),
        )

    def put_kv_data(self, mount: str, path: str, version: int, data: bytes) -> None:
        node = self._make_node(mount, path)
        body = self._barrier.seal("kv_version", str(node), version, data)
        self._sql.execute(
            "INSERT OR REPLACE INTO kv_version VALUES (?, ?, ?)", (node, version, body)
        )

    def delete_kv(self, mount: str, path: str) -> None:
        node = self._node(mount, path)
        if node is None:
            return
        self._sql.execute("DELETE FROM kv_version WHERE node = ?", (node,))
        self._sql.execute(
            "UPDATE node SET body = NULL, version = version + 1 WHERE id = ?", (node,)
        )
        while node != ROOT_FOLDER:
            row = self._one(
                "DELETE FROM node WHERE id = ? AND body IS NULL AND NOT EXISTS"
                " (SELECT 1 FROM node AS child WHERE child.mount = node.mount AND"
                " child.parent = node.id) RETURNING parent",
                node,
            )
            if row is None:
                return
            node = row[0]
