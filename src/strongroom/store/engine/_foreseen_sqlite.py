"""What can be foreseen of a group, on SQLite: a question for all secrets, a statement a table."""

import sqlite3
from collections.abc import Iterable
from typing import Final

from strongroom.store.engine._foreseen import Changes, Foreseen
from strongroom.store.engine._kv_rows import PUT_DATA, KnownNodes
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.contract import About
from strongroom.store.engine.sql import SQLITE

# Of any number of nodes, which are a list in JSON.
NODES: Final = "SELECT id, version, body FROM node WHERE id IN (SELECT value FROM json_each(?))"
DOCUMENT: Final = "SELECT version, body FROM document WHERE mount = ? AND kind = ? AND name = ''"
PUT_NODE: Final = "UPDATE node SET version = ?, body = ? WHERE id = ?"
REKEY_DATA: Final = (
    f"{SQLITE.rekey} kv_version SET version = ?, body = ? WHERE node = ? AND version = ?"
)
DROP_DATA: Final = "DELETE FROM kv_version WHERE node = ? AND version = ?"
PUT_EVENT: Final = "INSERT INTO event (body) VALUES (?)"


class ForeseenOnSqlite(Foreseen):
    """On a connection that is in a transaction; each question is short, whatever there is."""

    def __init__(self, connection: sqlite3.Connection, barrier: Barrier, nodes: KnownNodes) -> None:
        super().__init__(barrier, nodes)
        self._connection = connection

    def read(self, abouts: Iterable[About]) -> None:
        """Read what the units are about."""
        asked, kinds = self.expect(abouts)
        if not asked:
            return
        for node, version, body in self._connection.execute(NODES, (str(list(asked)),)):
            self.take_node(asked[node], node, version, body)
        for place in kinds:
            found = self._connection.execute(DOCUMENT, place).fetchone()
            if found:
                self.take_document(place, *found)

    def write(self) -> None:
        """Write what is held."""
        changes = self.taken()
        if changes is None:
            return
        change = self._connection.executemany
        change(PUT_NODE, [(version, body, node) for node, version, body in changes.nodes])
        self._write_data(changes)
        change(PUT_EVENT, [(each,) for each in changes.events])

    def _write_data(self, changes: Changes) -> None:
        """A version that comes takes the row of one that goes: one row is one page to write, two
        are two and more to balance them.
        """
        change = self._connection.executemany
        going: dict[int, list[int]] = {}
        for node, version in sorted(changes.gone, reverse=True):
            going.setdefault(node, []).append(version)
        moved, new = [], []
        for (node, version), body in changes.data.items():
            if going.get(node):
                moved.append((version, body, node, going[node].pop()))
            else:
                new.append((node, version, body))
        if change(REKEY_DATA, moved).rowcount < len(moved):
            # Some that go were never there: a version that came and went within the group.
            new += [(node, version, body) for version, body, node, _ in moved]
        change(DROP_DATA, [(node, each) for node, left in going.items() for each in left])
        change(PUT_DATA, new)
