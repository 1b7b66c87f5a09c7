"""What can be foreseen of a group, on PostgreSQL: read by one query, written by one statement."""

from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Any, Final

from strongroom.store.engine._foreseen import MOST_HELD_BYTES, Changes, Foreseen, Outcome
from strongroom.store.engine._kv_rows import KnownNodes
from strongroom.store.engine._postgres_sql import Connection, number_array
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.contract import About, Transaction

# In both, arrays come out of a SELECT: what they hold is not looked at when a plan is made, so the
# plan is kept. Where it is looked at, a plan for few rows seems cheaper than one for any number,
# and is made anew each time, which takes longer than the rows.
#
# A generation, the nodes, and the documents in the order they are asked, by number from -1 on.
ASK: Final = """
SELECT 0, value, NULL FROM generation
UNION ALL
SELECT id, version, body FROM node WHERE id = ANY((SELECT $1::text)::bigint[])
UNION ALL
SELECT -asked.n, found.version, found.body
  FROM unnest((SELECT $2::text[]), (SELECT $3::text[])) WITH ORDINALITY AS asked(mount, kind, n)
  JOIN document AS found
    ON found.mount = asked.mount AND found.kind = asked.kind AND found.name = ''
"""
# All parts see the rows as they were before, and no two of them have a row in common. The bodies
# are cut from one: an array of them is looked through by the driver one by one. How many rows of
# data were moved.
CHANGE: Final = """
WITH node_rows AS (
  UPDATE node SET version = asked.version, body = substring($1::bytea FROM at FOR size)
    FROM unnest((SELECT $2::text)::int[], (SELECT $3::text)::int[],
                (SELECT $4::text)::bigint[], (SELECT $5::text)::bigint[])
         AS asked(at, size, id, version)
   WHERE node.id = asked.id
), moved_rows AS (
  UPDATE kv_version SET version = asked.version, body = substring($1::bytea FROM at FOR size)
    FROM unnest((SELECT $6::text)::int[], (SELECT $7::text)::int[],
                (SELECT $8::text)::bigint[], (SELECT $9::text)::bigint[],
                (SELECT $10::text)::bigint[])
         AS asked(at, size, node, version, gone)
   WHERE kv_version.node = asked.node AND kv_version.version = asked.gone
     AND NOT EXISTS (SELECT 1 FROM kv_version AS other
                      WHERE other.node = asked.node AND other.version = asked.version)
  RETURNING 1
), new_rows AS (
  INSERT INTO kv_version (node, version, body)
  SELECT node, version, substring($1::bytea FROM at FOR size)
    FROM unnest((SELECT $11::text)::int[], (SELECT $12::text)::int[],
                (SELECT $13::text)::bigint[], (SELECT $14::text)::bigint[])
         AS asked(at, size, node, version)
  ON CONFLICT (node, version) DO UPDATE SET body = excluded.body
), gone_rows AS (
  DELETE FROM kv_version
   USING unnest((SELECT $15::text)::bigint[], (SELECT $16::text)::bigint[])
         AS asked(node, version)
   WHERE kv_version.node = asked.node AND kv_version.version = asked.version
), event_rows AS (
  INSERT INTO event (body)
  SELECT substring($1::bytea FROM at FOR size)
    FROM unnest((SELECT $17::text)::int[], (SELECT $18::text)::int[]) AS asked(at, size)
)
SELECT count(*) FROM moved_rows
"""

Unit = tuple[About | None, Callable[[Transaction], Any]]


class ForeseenOnPostgres(Foreseen):
    """On a connection that is in a transaction."""

    def __init__(self, connection: Connection, barrier: Barrier, nodes: KnownNodes) -> None:
        super().__init__(barrier, nodes)
        self._connection = connection

    async def read(self, abouts: Iterable[About]) -> int:
        """Read what the units are about; the generation."""
        asked, kinds = self.expect(abouts)
        mounts, names = [mount for mount, _ in kinds], [kind for _, kind in kinds]
        generation = 0
        for number, version, body in await self._connection.fetch(
            ASK, number_array(asked), mounts, names
        ):
            if number == 0:
                generation = version
            elif number > 0:
                self.take_node(asked[number], number, version, body)
            else:
                self.take_document(kinds[-number - 1], version, body)
        return generation

    async def run(self, units: Iterable[Unit]) -> list[Outcome | None]:
        """The outcome of each that could be run so; their changes are sent."""
        outcomes: list[Outcome | None] = []
        for about, work in units:
            outcomes.append(self.run_unit(about, work) if about else None)
            if self.held > MOST_HELD_BYTES:
                await self._send()
        await self._send()
        return outcomes

    async def _send(self) -> None:
        """Write what is held."""
        changes = self.taken()
        if changes is None:
            return
        if await self._change(changes) < len(changes.moved):
            await self._change(changes.with_data_apart())

    async def _change(self, changes: Changes) -> int:
        """How many rows of data were moved."""
        nodes, moved, new, gone, events = changes
        bodies = _Bodies()
        places = [
            *bodies.add([body for _, _, body in nodes]),
            *(_numbers(nodes, 0), _numbers(nodes, 1)),
            *bodies.add([body for _, _, body, _ in moved]),
            *(_numbers(moved, 0), _numbers(moved, 1), _numbers(moved, 3)),
            *bodies.add([body for _, _, body in new]),
            *(_numbers(new, 0), _numbers(new, 1)),
            *(_numbers(gone, 0), _numbers(gone, 1)),
            *bodies.add(events),
        ]
        ((found,),) = await self._connection.fetch(CHANGE, b"".join(bodies.parts), *places)
        return int(found)


class _Bodies:
    """Bodies that are sent as one."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self._end = 1  # SQL counts from one.

    def add(self, bodies: Sequence[bytes]) -> tuple[str, str]:
        """Where each begins, and its length."""
        sizes = [len(each) for each in bodies]
        *begins, self._end = accumulate(sizes, initial=self._end)
        self.parts += bodies
        return number_array(begins), number_array(sizes)


def _numbers(rows: Sequence[tuple[Any, ...]], place: int) -> str:
    return number_array([each[place] for each in rows])
