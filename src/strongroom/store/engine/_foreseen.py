"""Units of work about one secret each, one after another on rows that were read beforehand.

What such a unit asks is foreseen: the secret's row and a document of its mount. An engine reads
those of a whole group at once and writes at once what the group has changed (`_foreseen_sqlite`,
`_foreseen_postgres`); between the two nothing is asked, so each unit simply sees what the ones
before it have left. A unit that asks for anything else has changed nothing yet and is left to the
engine.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple, NoReturn, cast

import orjson

from strongroom.crypto.aead import Tampered
from strongroom.store.engine._feed_rows import sealed_event
from strongroom.store.engine._kv_rows import KnownNodes, encoded_node, metadata_of, without_data
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.contract import About, EventRow, KvMetadata, Transaction

# What a unit returned, or why it failed.
Outcome = tuple[Any, BaseException | None]
# More is written in parts, so that it is not held twice.
MOST_HELD_BYTES: Final = 16 * 1024 * 1024


class Changes(NamedTuple):
    """Rows of a group, sealed; no two parts have a row in common.

    `nodes` are ids, row versions and bodies, `events` bodies in order. Of data `new` are nodes,
    versions and bodies, `gone` nodes and versions that have none any more. A version that comes
    takes the row of one that goes: `moved` are nodes, versions, bodies and the versions that went.
    """

    nodes: list[tuple[int, int, bytes]]
    moved: list[tuple[int, int, bytes, int]]
    new: list[tuple[int, int, bytes]]
    gone: list[tuple[int, int]]
    events: list[bytes]

    def with_data_apart(self) -> "Changes":
        """What is left to do when not all could be moved: one may come and go within a group."""
        new = [(node, version, body) for node, version, body, _ in self.moved]
        gone = [(node, old) for node, _, _, old in self.moved]
        return Changes([], [], new, gone, [])


class _NotForeseen(BaseException):
    """The unit asks for something else; no `except Exception` of a backend may hold it up."""


class _Secret:
    """A secret as the group has left it, as a transaction of which nothing else is known.

    What a unit changes is kept apart until it has ended well.
    """

    def __init__(self, group: "Foreseen", about: About, node: int, found: KvMetadata) -> None:
        self._group = group
        self._about = about
        self._node = node
        self._kept = found
        self._version = found.mark[1]
        self._row = found
        self._data: list[tuple[int, bytes]] = []
        self._events: list[EventRow] = []

    def __getattr__(self, name: str) -> NoReturn:
        raise _NotForeseen

    def document(self, mount: str, kind: str, name: str) -> dict[str, Any] | None:
        """One of those that were read."""
        if name or (mount, kind) not in self._group.documents:
            raise _NotForeseen
        return self._group.documents[mount, kind]

    def kv_metadata(self, mount: str, path: str) -> KvMetadata:
        """The secret."""
        self._check(mount, path)
        return self._row

    def put_kv_metadata(self, row: KvMetadata) -> None:
        """See the contract."""
        self._check(row.mount, row.path)
        self._row = row

    def put_kv_version(self, row: KvMetadata, data: bytes) -> None:
        """See the contract."""
        self.put_kv_metadata(row)
        self._data.append((row.current_version, data))

    def put_kv_data(self, mount: str, path: str, version: int, data: bytes) -> None:
        """See the contract."""
        self._check(mount, path)
        self._data.append((version, data))

    def append_event(self, event: EventRow) -> None:
        """See the contract."""
        self._events.append(event)

    def _check(self, mount: str, path: str) -> None:
        if path != self._about.path or mount != self._about.mount:
            raise _NotForeseen

    def keep(self) -> None:
        """The unit has ended well."""
        group, node = self._group, self._node
        for version, data in self._data:
            group.put_data(node, version, data)
        if self._row is not self._kept:
            for version in without_data(self._kept.versions, self._row.versions):
                group.drop_data(node, version)
            self._version += 1
            group.rows[node] = self._version, self._row
            self._kept = self._row
        group.events += self._events
        self.forget()

    def forget(self) -> None:
        """The next unit begins, with what was kept."""
        self._row = self._kept
        self._data, self._events = [], []


class Foreseen:
    """Runs what can be foreseen of a group that has its turn to write."""

    def __init__(self, barrier: Barrier, nodes: KnownNodes) -> None:
        self._barrier = barrier
        self._nodes = nodes
        self._secrets: dict[tuple[str, str], _Secret] = {}
        self.documents: dict[tuple[str, str], dict[str, Any] | None] = {}
        # What is to be written: nodes with their new row versions, data by node and version.
        self.rows: dict[int, tuple[int, KvMetadata]] = {}
        self.events: list[EventRow] = []
        self._data: dict[tuple[int, int], bytes] = {}
        self._gone: set[tuple[int, int]] = set()
        # Bytes of data.
        self.held = 0

    def expect(self, abouts: Iterable[About]) -> tuple[dict[int, About], list[tuple[str, str]]]:
        """What is to be read: the rows of nodes, and documents by mount and kind."""
        asked: dict[int, About] = {}
        for about in abouts:
            node = self._nodes.get((about.mount, about.path))
            if node is not None:
                asked[node] = about
        kinds = list({(each.mount, each.document) for each in asked.values() if each.document})
        self.documents = dict.fromkeys(kinds)
        return asked, kinds

    def take_node(self, about: About, node: int, version: int, body: bytes | None) -> None:
        """A folder, and a row that does not open, are left to the engine: it can look again."""
        if body is None:
            return
        try:
            opened = self._barrier.open("node", str(node), version, body)
        except Tampered:
            return
        found = metadata_of(about.mount, about.path, (node, version), opened)
        self._secrets[about.mount, about.path] = _Secret(self, about, node, found)

    def take_document(self, place: tuple[str, str], version: int, body: bytes) -> None:
        """The same; what is not there was expected to be."""
        mount, kind = place
        try:
            opened = self._barrier.open("document", f"{mount}/{kind}/", version, body)
        except Tampered:
            del self.documents[place]
        else:
            self.documents[place] = orjson.loads(opened)

    def run_unit(self, about: About, work: Callable[[Transaction], Any]) -> Outcome | None:
        """The outcome of a unit, None when it could not be run so."""
        secret = self._secrets.get((about.mount, about.path))
        if secret is None:
            return None
        try:
            result = work(cast("Transaction", secret))
        except _NotForeseen:
            secret.forget()
            return None
        except Exception as error:  # noqa: BLE001 - it is handed to whoever asked for the write
            secret.forget()
            return None, error
        secret.keep()
        return result, None

    def put_data(self, node: int, version: int, data: bytes) -> None:
        """Hold the data of a version."""
        sealed = self._barrier.seal("kv_version", str(node), version, data)
        self._data[node, version] = sealed
        self._gone.discard((node, version))
        self.held += len(sealed)

    def drop_data(self, node: int, version: int) -> None:
        """Hold that a version has no data any more."""
        self._data.pop((node, version), None)
        self._gone.add((node, version))

    def taken(self) -> Changes | None:
        """What is to be written, held no longer; None for nothing."""
        if not (self.rows or self._data or self.events):
            return None
        seal = self._barrier.seal
        nodes = [
            (node, version, seal("node", str(node), version, encoded_node(row)))
            for node, (version, row) in self.rows.items()
        ]
        moved, new, gone = _moves(self._data, self._gone)
        events = [sealed_event(seal, each) for each in self.events]
        self.held = 0
        for each in (self.rows, self._data, self._gone, self.events):
            each.clear()
        return Changes(nodes, moved, new, gone, events)


def _moves(
    data: dict[tuple[int, int], bytes], gone: set[tuple[int, int]]
) -> tuple[list[tuple[int, int, bytes, int]], list[tuple[int, int, bytes]], list[tuple[int, int]]]:
    """A change of one row costs less than a row that comes and one that goes."""
    going: dict[int, list[int]] = {}
    # The oldest first: of the others some may never have been written.
    for node, version in sorted(gone, reverse=True):
        going.setdefault(node, []).append(version)
    moved, new = [], []
    for (node, version), body in data.items():
        if old := going.get(node):
            moved.append((node, version, body, old.pop()))
        else:
            new.append((node, version, body))
    return moved, new, [(node, each) for node, left in going.items() for each in left]
