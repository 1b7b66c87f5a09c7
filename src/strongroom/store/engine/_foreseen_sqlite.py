"""What can be foreseen of a group, on SQLite: a question for all secrets, a statement a table."""

import sqlite3
from collections.abc import Iterable
from typing import Final

from strongroom.store.engine._foreseen import Changes, Foreseen
from strongroom.store.engine._kv_rows import DROP_DATA, PUT_DATA, PUT_NODE, KnownNodes
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.contract import About
from strongroom.store.engine.sql import SQLITE

# Of any number of nodes, which are a list in JSON.
NODES: Final = "SELECT id, version, body FROM node WHERE id IN (SELECT value FROM json_each(?))"
DOCUMENT: Final = "SELECT version, body FROM document WHERE mount = ? AND kind = ? AND name = ''"
MOVE_DATA: Final = (
    f"{SQLITE.rekey} kv_version SET version = ?, body = ? WHERE node = ? AND version = ?"
)
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
        if self._change(changes) < len(changes.moved):
            self._change(changes.with_data_apart())

    def _change(self, changes: Changes) -> int:
        """How many rows of data were moved."""
        change = self._connection.executemany
        change(PUT_NODE, [(version, body, node) for node, version, body in changes.nodes])
        moved = [(version, body, node, old) for node, version, body, old in changes.moved]
        found = change(MOVE_DATA, moved).rowcount
        change(DROP_DATA, changes.gone)
        change(PUT_DATA, changes.new)
        change(PUT_EVENT, [(each,) for each in changes.events])
        return found
