"""KV: a tree of sealed names by parent id, metadata at the node, data by version."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from strongroom.store.engine._sealed_rows import HISTORY, SealedRows
from strongroom.store.engine.barrier import ROOT_FOLDER, Barrier
from strongroom.store.engine.contract import KvMetadata, KvVersionInfo, SecretName
from strongroom.store.engine.schema import STEPS
from strongroom.store.engine.sql import NO_LIMIT, Sql, upsert

REMEMBERED_NODES: Final = 20_000
DATA: Final = "SELECT body FROM kv_version WHERE node = ? AND version = ?"
PUT_DATA: Final = upsert("kv_version", "node, version", "body")
DROP_DATA: Final = "DELETE FROM kv_version WHERE node = ? AND version = ?"
PUT_NODE: Final = "UPDATE node SET version = ?, body = ? WHERE id = ?"


class _Stored(msgspec.Struct, gc=False):
    """The sealed part of a node: what is known of a secret besides where it is."""

    created: float
    updated: float
    current_version: int
    oldest_version: int
    max_versions: int
    cas_required: bool
    delete_version_after: int
    custom: dict[str, str]
    versions: tuple[KvVersionInfo, ...]


_DECODER: Final = msgspec.json.Decoder(_Stored)
_ENCODER: Final = msgspec.json.Encoder()


class KnownNodes(dict[SecretName, int]):
    """Where the nodes of paths are, as far as that is known.

    A node never moves and its number is never given again, so a number is right or leads to no row
    at all, and then the path is walked anew. A restore alone may bring rows in which it is another
    secret's: what was known before is forgotten.
    """

    # How often all was forgotten.
    forgotten = 0
    _history = 0

    def forget(self) -> None:
        """Nothing is known, and what is being looked for is not to be kept."""
        self.forgotten += 1
        self.clear()

    def notice(self, generation: int) -> None:
        """Forget what is known of another history than this generation's."""
        if generation // HISTORY != self._history:
            self._history = generation // HISTORY
            self.forget()

    def keep(self, name: SecretName, node: int, since: int) -> None:
        """Keep what was looked for `since`, when it had been forgotten as often."""
        if since != self.forgotten:
            return
        if len(self) >= REMEMBERED_NODES:
            self.clear()
        self[name] = node


class KvRows(SealedRows):
    """KV of both versions."""

    def __init__(self, sql: Sql, barrier: Barrier, steps: int = len(STEPS)) -> None:
        super().__init__(sql, barrier, steps)
        self.nodes = KnownNodes()
        # Inside a unit of work: row version and versions with data of the nodes it has read.
        self._versions: dict[int, tuple[int, frozenset[int]]] | None = None

    def share_nodes(self, nodes: KnownNodes) -> None:
        """Remember nodes together with other instances that see the same rows."""
        self.nodes = nodes

    def begin(self) -> None:
        super().begin()
        self._versions = {}

    def undo(self) -> None:
        super().undo()
        # Numbers of nodes that were made and undone are given again.
        self.nodes.forget()

    def notice(self, generation: int) -> None:
        self.nodes.notice(generation)

    def _child(self, mount: str, parent: int, sealed: bytes) -> int | None:
        row = self._sql.one(
            "SELECT id FROM node WHERE mount = ? AND parent = ? AND name = ?",
            mount,
            parent,
            sealed,
        )
        return row[0] if row else None

    def _walk(self, mount: str, path: str) -> int | None:
        node, names = self._known_above(mount, path)
        for name in names:
            child = self._child(mount, node, self._barrier.seal_name(mount, node, name))
            if child is None:
                return None
            node = child
        return node

    def _known_above(self, mount: str, path: str) -> tuple[int, Sequence[str]]:
        """Where the walk to a path begins, and the names from there on.

        Who goes down a tree knows the folder above: a path of hundreds of names would be walked
        from its beginning at each of them.
        """
        above, slash, name = path.rpartition("/")
        node = self.nodes.get((mount, above)) if slash else None
        if node is not None and self._sql.one("SELECT 1 FROM node WHERE id = ?", node):
            return node, (name,)
        return ROOT_FOLDER, path.split("/")

    def _row(self, mount: str, path: str, columns: str) -> tuple[int, Any] | None:
        """A path's node and some of its columns, or None."""
        statement = f"SELECT {columns} FROM node WHERE id = ?"  # noqa: S608 - our own names
        since = self.nodes.forgotten
        node = self.nodes.get((mount, path))
        if node is not None:
            row = self._sql.one(statement, node)
            if row is not None:
                return node, row
            self.nodes.pop((mount, path), None)
        node = self._walk(mount, path)
        row = self._sql.one(statement, node) if node is not None else None
        if node is None or row is None:
            return None  # Also where another process has removed it between the two looks.
        self.nodes.keep((mount, path), node, since)
        return node, row

    def _make_node(self, mount: str, path: str) -> int:
        known = self.nodes.get((mount, path))
        if known is not None and self._versions is not None and known in self._versions:
            # This unit of work has read or written its row, and it runs alone.
            return known
        found = self._row(mount, path, "id")
        if found is not None:
            return found[0]
        node = ROOT_FOLDER
        for name in path.split("/"):
            sealed = self._barrier.seal_name(mount, node, name)
            child = self._child(mount, node, sealed)
            if child is None:
                (child,) = self._sql.one(
                    "INSERT INTO node (mount, parent, name, version) VALUES (?, ?, ?, ?)"
                    " RETURNING id",
                    mount,
                    node,
                    sealed,
                    0,
                )
            node = child
        self.nodes.keep((mount, path), node, self.nodes.forgotten)
        return node

    def kv_exists(self, mount: str, path: str) -> bool:
        found = self._row(mount, path, "body IS NOT NULL")
        return found is not None and bool(found[1][0])

    def kv_metadata(self, mount: str, path: str) -> KvMetadata | None:
        found = self._row(mount, path, "version, body")
        if found is None:
            return None
        node, (version, body) = found
        if body is None:
            return None
        opened = self._barrier.open("node", str(node), version, body)
        row = metadata_of(mount, path, (node, version), opened)
        if self._versions is not None:
            self._versions[node] = version, with_data(row.versions)
        return row

    def kv_stands(self, mark: tuple[int, int]) -> bool:
        node, version = mark
        row = self._sql.one("SELECT version FROM node WHERE id = ?", node)
        return row is not None and row[0] == version

    def kv_data(self, mount: str, path: str, version: int) -> bytes | None:
        found = self._row(mount, path, "id")
        if found is None:
            return None
        node = found[0]
        row = self._sql.one(
            "SELECT body FROM kv_version WHERE node = ? AND version = ?", node, version
        )
        return self._barrier.open("kv_version", str(node), version, row[0]) if row else None

    def kv_list(self, mount: str, folder: str, *, after: str = "", limit: int = 0) -> Sequence[str]:
        node = ROOT_FOLDER
        if folder.strip("/"):
            found = self._row(mount, folder.strip("/"), "id")
            if found is None:
                return []
            node = found[0]
        # A page goes on in the order of the sealed names, which is stable and indexed. One row
        # may be a secret and a folder, so a page can begin and end in the middle of it.
        start = self._barrier.seal_name(mount, node, after.rstrip("/")) if after else b""
        rows = self._sql.all(
            "SELECT id, name, body IS NOT NULL, EXISTS"
            " (SELECT 1 FROM node AS child WHERE child.mount = node.mount"
            " AND child.parent = node.id)"
            " FROM node WHERE mount = ? AND parent = ? AND name >= ? ORDER BY name LIMIT ?",
            mount,
            node,
            start,
            # The row of `after` itself may have nothing left to give.
            limit + 1 if limit else NO_LIMIT,
        )
        names: list[str] = []
        for row_id, sealed, is_secret, is_folder in rows:
            name = self._barrier.open_name_of(f"row {row_id} of node", mount, node, sealed)
            behind = sealed == start
            names += [name] if is_secret and not behind else []
            names += [f"{name}/"] if is_folder and not (behind and after.endswith("/")) else []
        return names[:limit] if limit else sorted(names)

    def put_kv_metadata(self, row: KvMetadata) -> None:
        node = self._make_node(row.mount, row.path)
        self._drop_data(node, self._put_node(node, row))

    def put_kv_version(self, row: KvMetadata, data: bytes) -> None:
        node = self._make_node(row.mount, row.path)
        gone = self._put_node(node, row)
        version, oldest = row.current_version, min(gone, default=None)
        body = self._barrier.seal("kv_version", str(node), version, data)
        if oldest is not None and self._rekeyed(node, oldest, version, body):
            gone -= {oldest}
        else:
            self._sql.run(PUT_DATA, node, version, body)
        self._drop_data(node, gone)

    def _put_node(self, node: int, row: KvMetadata) -> frozenset[int]:
        """Write what is known of a secret; the versions whose data is not to be kept.

        Data lives exactly as long as an entry that is not destroyed.
        """
        known = {} if self._versions is None else self._versions
        version, before = known.get(node) or self._stored(node)
        body = self._barrier.seal("node", str(node), version + 1, encoded_node(row))
        self._sql.run(PUT_NODE, version + 1, body, node)
        kept = with_data(row.versions)
        known[node] = version + 1, kept
        return before - kept

    def _drop_data(self, node: int, gone: Iterable[int]) -> None:
        for each in gone:
            self._sql.run(DROP_DATA, node, each)

    def _rekeyed(self, node: int, old: int, version: int, body: bytes) -> bool:
        """Whether the row of an old version could be made the new one's.

        One that goes and one that comes are two pages to write, and more to balance them.
        """
        rekey = self._sql.dialect.rekey
        if not rekey:
            return False
        found = self._sql.one(
            f"{rekey} kv_version SET version = ?, body = ? WHERE node = ? AND version = ?"
            " RETURNING node",
            version,
            body,
            node,
            old,
        )
        return found is not None

    def _stored(self, node: int) -> tuple[int, frozenset[int]]:
        """A node's row version, and the versions that have data."""
        (version,) = self._sql.one("SELECT version FROM node WHERE id = ?", node)
        rows = self._sql.all("SELECT version FROM kv_version WHERE node = ?", node)
        return version, frozenset(number for (number,) in rows)

    def put_kv_data(self, mount: str, path: str, version: int, data: bytes) -> None:
        node = self._make_node(mount, path)
        body = self._barrier.seal("kv_version", str(node), version, data)
        self._sql.run(PUT_DATA, node, version, body)

    def delete_kv(self, mount: str, path: str) -> None:
        found = self._row(mount, path, "id")
        if found is None:
            return
        node = found[0]
        if self._versions is not None:
            self._versions.pop(node, None)
        self._sql.run("DELETE FROM kv_version WHERE node = ?", node)
        self._sql.run("UPDATE node SET body = NULL, version = version + 1 WHERE id = ?", node)
        while node != ROOT_FOLDER:
            row = self._sql.one(
                "DELETE FROM node WHERE id = ? AND body IS NULL AND NOT EXISTS"
                " (SELECT 1 FROM node AS child WHERE child.mount = node.mount AND"
                " child.parent = node.id) RETURNING parent",
                node,
            )
            if row is None:
                return
            node = row[0]


def metadata_of(mount: str, path: str, mark: tuple[int, int], opened: bytes) -> KvMetadata:
    """A secret from the opened body of its node; `mark` is the node and its row version."""
    stored = _DECODER.decode(opened)
    return KvMetadata(
        mount, path, stored.created, stored.updated, stored.current_version,
        stored.oldest_version, stored.max_versions, stored.cas_required,
        stored.delete_version_after, stored.custom, stored.versions, mark,
    )  # fmt: skip


def encoded_node(row: KvMetadata) -> bytes:
    """What the body of a secret's node seals."""
    stored = _Stored(
        row.created, row.updated, row.current_version, row.oldest_version, row.max_versions,
        row.cas_required, row.delete_version_after, row.custom, row.versions,
    )  # fmt: skip
    return _ENCODER.encode(stored)


def with_data(versions: Sequence[KvVersionInfo]) -> frozenset[int]:
    """The numbers of those whose data is kept."""
    return frozenset([each.version for each in versions if not each.destroyed])


def without_data(before: Sequence[KvVersionInfo], now: Sequence[KvVersionInfo]) -> Sequence[int]:
    """The numbers of those whose data was kept before and is no longer."""
    gone = len(before) - len(now) + 1
    if now[:-1] == before[gone:]:
        # One more has come, as nearly always, and what is in both is there as before.
        before, now = before[:gone], now[-1:]
    kept = with_data(now)
    return [each.version for each in before if not each.destroyed and each.version not in kept]
