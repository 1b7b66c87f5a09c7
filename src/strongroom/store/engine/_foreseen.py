"""Units of work about one secret each, one after another on rows that were read beforehand.

What such a unit asks is foreseen: the secret's row and a document of its mount. Those of a whole
group are one query, and what the group changes is one statement; between the two no unit waits,
so each simply sees what the ones before it have left. A unit that asks for anything else has
changed nothing yet and is left to the waves.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Any, Final, NoReturn, cast

import orjson

from strongroom.crypto.aead import Tampered
from strongroom.store.engine._feed_rows import sealed_event
from strongroom.store.engine._kv_rows import KnownNodes, encoded_node, metadata_of, with_data
from strongroom.store.engine._postgres_sql import MOST_ARRAY_BYTES, Connection, number_array
from strongroom.store.engine._waves import Outcome
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.contract import About, EventRow, KvMetadata, Transaction

# A generation, the nodes, and the documents in the order they are asked, by number from -1 on.
ASK: Final = """
SELECT 0, value, NULL FROM generation
UNION ALL
SELECT id, version, body FROM node WHERE id = ANY($1::text::bigint[])
UNION ALL
SELECT -asked.n, found.version, found.body
  FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS asked(mount, kind, n)
  JOIN document AS found
    ON found.mount = asked.mount AND found.kind = asked.kind AND found.name = ''
"""
# All parts see the rows as they were before, and no two of them have a row in common.
CHANGE: Final = """
WITH node_rows AS (
  UPDATE node SET version = asked.version, body = asked.body
    FROM unnest($1::text::bigint[], $2::text::bigint[], $3::bytea[]) AS asked(id, version, body)
   WHERE node.id = asked.id
), data_rows AS (
  INSERT INTO kv_version (node, version, body)
  SELECT * FROM unnest($4::text::bigint[], $5::text::bigint[], $6::bytea[])
  ON CONFLICT (node, version) DO UPDATE SET body = excluded.body
), gone_rows AS (
  DELETE FROM kv_version
   USING unnest($7::text::bigint[], $8::text::bigint[]) AS asked(node, version)
   WHERE kv_version.node = asked.node AND kv_version.version = asked.version
)
INSERT INTO event (body) SELECT * FROM unnest($9::bytea[])
"""

Unit = tuple[About | None, Callable[[Transaction], Any]]


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
            kept = with_data(self._row.versions)
            for each in self._kept.versions:
                if each.version not in kept and not each.destroyed:
                    group.drop_data(node, each.version)
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
    """Runs what can be foreseen of a group, on a connection that is in a transaction."""

    def __init__(self, connection: Connection, barrier: Barrier, nodes: KnownNodes) -> None:
        self._connection = connection
        self._barrier = barrier
        self._nodes = nodes
        self._secrets: dict[tuple[str, str], _Secret] = {}
        self._held = 0
        self.documents: dict[tuple[str, str], dict[str, Any] | None] = {}
        # What is to be written: nodes with their new row versions, data by node and version.
        self.rows: dict[int, tuple[int, KvMetadata]] = {}
        self.events: list[EventRow] = []
        self._data: dict[tuple[int, int], bytes] = {}
        self._gone: set[tuple[int, int]] = set()

    async def read(self, abouts: Iterable[About]) -> int:
        """Read what the units are about; the generation."""
        asked: dict[int, About] = {}
        for about in abouts:
            node = self._nodes.get((about.mount, about.path))
            if node is not None:
                asked[node] = about
        kinds = list({(each.mount, each.document) for each in asked.values() if each.document})
        mounts, names = [mount for mount, _ in kinds], [kind for _, kind in kinds]
        self.documents = dict.fromkeys(kinds)
        generation = 0
        for number, version, body in await self._connection.fetch(
            ASK, number_array(asked), mounts, names
        ):
            if number == 0:
                generation = version
            elif number > 0:
                self._take_node(asked[number], number, version, body)
            else:
                self._take_document(kinds[-number - 1], version, body)
        return generation

    def _take_node(self, about: About, node: int, version: int, body: bytes | None) -> None:
        """A folder, and a row that does not open, are left to the waves: these can look again."""
        if body is None:
            return
        try:
            opened = self._barrier.open("node", str(node), version, body)
        except Tampered:
            return
        found = metadata_of(about.mount, about.path, (node, version), opened)
        self._secrets[about.mount, about.path] = _Secret(self, about, node, found)

    def _take_document(self, place: tuple[str, str], version: int, body: bytes) -> None:
        mount, kind = place
        try:
            opened = self._barrier.open("document", f"{mount}/{kind}/", version, body)
        except Tampered:
            del self.documents[place]
        else:
            self.documents[place] = orjson.loads(opened)

    async def run(self, units: Iterable[Unit]) -> list[Outcome | None]:
        """The outcome of each that could be run so; their changes are sent."""
        outcomes: list[Outcome | None] = []
        for about, work in units:
            outcomes.append(self._run(about, work) if about else None)
            if self._held > MOST_ARRAY_BYTES:
                await self._send()
        await self._send()
        return outcomes

    def _run(self, about: About, work: Callable[[Transaction], Any]) -> Outcome | None:
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
        self._held += len(sealed)

    def drop_data(self, node: int, version: int) -> None:
        """Hold that a version has no data any more."""
        self._data.pop((node, version), None)
        self._gone.add((node, version))

    async def _send(self) -> None:
        """Write what is held."""
        if not (self.rows or self._data or self.events):
            return
        seal, rows = self._barrier.seal, self.rows
        bodies = [
            seal("node", str(node), version, encoded_node(row))
            for node, (version, row) in rows.items()
        ]
        await self._connection.fetch(
            CHANGE,
            *(number_array(rows), number_array([version for version, _ in rows.values()]), bodies),
            *_arrays(self._data),
            list(self._data.values()),
            *_arrays(self._gone),
            [sealed_event(seal, each) for each in self.events],
        )
        self._held = 0
        for each in (rows, self._data, self._gone, self.events):
            each.clear()


def _arrays(pairs: Collection[tuple[int, int]]) -> tuple[str, str]:
    return number_array([first for first, _ in pairs]), number_array(
        [second for _, second in pairs]
    )
