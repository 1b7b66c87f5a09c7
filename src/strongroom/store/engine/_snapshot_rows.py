"""Tables that a snapshot holds, and how they are replaced."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from strongroom.model.errors import Invalid
from strongroom.store.engine._feed_rows import unsealed_restore
from strongroom.store.engine._sealed_rows import SealedRows
from strongroom.store.engine._sealed_tables import TABLES
from strongroom.store.engine.contract import ClusterRow
from strongroom.store.engine.snapshot_contract import TablePage

# Read, and judged by whoever restores.
HEADS: Final = ("schema_state", "cluster")
# What a database counts and does now; a snapshot must not take it back.
STAY: Final = ("event", "generation", "key_use", "leader", "reseal", "schema_release", "server")
REPLACED: Final = (*(each.name for each in TABLES if each.name not in STAY), "group_member")
COPIED: Final = (*HEADS, *REPLACED)
# A page is as many rows as fit into a few megabytes: its rows are in memory together.
PAGE_ROWS: Final = 64
FIRST_ROWS: Final = 8
PAGE_BYTES: Final = 4 * 1024 * 1024
_COLUMN: Final = re.compile(r"[a-z_]{1,63}")


def rows_after(asked: int, rows: Sequence[Sequence[object]]) -> int:
    """How many rows to ask for after a page of `rows` for which `asked` were asked. Pure."""
    size = sum(len(each) for row in rows for each in row if isinstance(each, bytes | str))
    if size > PAGE_BYTES:
        return max(1, asked * PAGE_BYTES // size)
    return min(PAGE_ROWS, 2 * asked) if 2 * size <= PAGE_BYTES else asked


def all_of(table: str) -> str:
    """SQL of every row of a table."""
    return f"SELECT * FROM {table}"  # noqa: S608 - a table of ours


class SnapshotRows(SealedRows):
    """See the contract."""

    def replace_rows(self, pages: Iterable[TablePage]) -> None:
        for table in REPLACED:
            self._sql.run(f"DELETE FROM {table}")  # noqa: S608 - a table of ours
        for page in pages:
            if page.table in HEADS:
                continue
            if page.table not in REPLACED or not all(map(_COLUMN.fullmatch, page.columns)):
                raise Invalid("snapshot-unfit", f"the snapshot has a table {page.table!r}")
            places = ", ".join("?" * len(page.columns))
            insert = f"INSERT INTO {page.table} ({', '.join(page.columns)}) VALUES ({places})"  # noqa: S608
            for row in page.rows:
                self._sql.run(insert, *row)
            # A question sends what is held back: a page in memory, not the file.
            self._sql.one("SELECT value FROM generation")
        if self._sql.dialect.resume_identity:
            self._sql.one(self._sql.dialect.resume_identity)
        self._begin_history()

    def replace_cluster(self, row: ClusterRow, now: float) -> None:
        for table in ("cluster", "event", "key_use", "reseal"):
            self._sql.run(f"DELETE FROM {table}")  # noqa: S608 - a table of ours
        # Who followed the feed sees by its number that some are missing, and others hear the time.
        self._sql.run("INSERT INTO event (body) VALUES (?)", unsealed_restore(now))
        self._sql.run(
            "INSERT INTO cluster (id, cluster_id, cluster_name, seal_type, wrapped_ring, created)"
            " VALUES (1, ?, ?, ?, ?, ?)",
            row.cluster_id,
            row.cluster_name,
            row.seal_type,
            row.wrapped_ring,
            row.created,
        )
        self._move_generation()
