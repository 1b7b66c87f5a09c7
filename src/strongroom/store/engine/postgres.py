"""The engine for more than one node: PostgreSQL, every node reading and writing.

Writes that wait share one transaction and one commit, and run side by side in it (`_waves`). The
transaction begins by moving the revision, one row: whoever holds it has the turn to write, so a
unit of work runs alone in the whole cluster and events are committed in order. Reading that row
is the cheap question whether anybody has committed.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

import asyncpg

from strongroom.model.errors import Refusal
from strongroom.store.engine._connections import Connections, commit
from strongroom.store.engine._database_errors import DRIVER_ERRORS
from strongroom.store.engine._foreseen import Outcome
from strongroom.store.engine._foreseen_postgres import ForeseenOnPostgres
from strongroom.store.engine._greenlets import answer_of, drive, run_parked, run_side_by_side
from strongroom.store.engine._postgres_sql import (
    Ask,
    Connection,
    SharedReads,
    WritingSql,
    number_array,
)
from strongroom.store.engine._refusals import broken_off, writing_ended
from strongroom.store.engine._snapshot_rows import COPIED, FIRST_ROWS, all_of, rows_after
from strongroom.store.engine._store_rows import StoreRows
from strongroom.store.engine._waves import Undo, Waves
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.contract import About, SecretName, Transaction, View
from strongroom.store.engine.schema import STEPS, Step, take_step
from strongroom.store.engine.snapshot_contract import TablePage
from strongroom.store.engine.sql import POSTGRES, Sql

T = TypeVar("T")
GROUP: Final = 256
READERS: Final = 4
READ_SECONDS: Final = 2.0
WRITE_SECONDS: Final = 5.0
STEP_SECONDS: Final = 600.0
COMMIT_PART: Final = 0.8
RACE_SECONDS: Final = 0.05
# The revision, and which of these nodes are secrets.
LOOK: Final = """
    SELECT revision, value, ARRAY(
      SELECT id FROM node WHERE id = ANY(CAST(? AS text)::bigint[]) AND body IS NOT NULL
    ) FROM generation
"""
PATIENT: Final = f"SET LOCAL idle_in_transaction_session_timeout = {STEP_SECONDS * 1000:.0f}"
# PostgreSQL ends a session with the turn that falls silent between two statements (see
# `_connections.SESSION`), but not one that does within a statement: while it prepares one, or is
# being answered. A node that stands still, or whose network does, would keep all from writing.
SILENT_SECONDS: Final = 2.5
TURNS_TABLE: Final = "SELECT CAST('generation' AS regclass)::oid"
# A role that was taken on (`ALTER ROLE node SET role = owner`) sees nothing of sessions that others
# have logged in, and ends none: not even those of the same login.
AS_WHO_LOGGED_IN: Final = "SET LOCAL ROLE NONE"
FREE_TURN: Final = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE datname = current_database() AND state = 'active'
       AND (pg_has_role(usesysid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE'))
       AND wait_event_type = 'Client' AND state_change < clock_timestamp() - interval '2 s'
       AND pid IN (SELECT pid FROM pg_locks WHERE relation = $1
                      AND mode = 'RowExclusiveLock' AND granted)
"""
TURN: Final = "BEGIN; UPDATE generation SET revision = revision + 1"
# What nodes that start together on an empty database see of each other.
_RACES: Final = (
    asyncpg.UniqueViolationError,
    asyncpg.DuplicateTableError,
    asyncpg.DuplicateObjectError,
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
)

_log = logging.getLogger(__name__)


class _Write(NamedTuple):
    """A unit of work that waits for its turn."""

    work: Callable[[Transaction], Any]
    done: "asyncio.Future[Any]"
    about: About | None = None


class PostgresEngine:
    """One process's door to the database."""

    waits = True

    def __init__(
        self, url: str, barrier: Barrier, steps: Sequence[Step] = STEPS, patience: float = 1.0
    ) -> None:
        self._barrier = barrier
        self._schema = steps
        self._read_seconds, self._write_seconds = READ_SECONDS * patience, WRITE_SECONDS * patience
        self._connections = Connections(url, READERS + 1, patience)
        self._reads = SharedReads(self._perform)
        self._view = StoreRows(self._reads, barrier, len(steps))
        self._queue: deque[_Write] = deque()
        self._wake = asyncio.Event()
        self._closing = False
        # Nobody takes what is queued any more.
        self._ended = False
        # Of the view and of all units of work: a sequence of PostgreSQL gives no number twice.
        self._nodes = self._view.nodes
        self._generation = -1
        # A revision and its generation.
        self._looked = -1, -1
        self._gather: Callable[[], Awaitable[None]] = _no_more
        self._writer: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls, url: str, barrier: Barrier, steps: Sequence[Step] = STEPS, *, patience: float = 1.0
    ) -> "PostgresEngine":
        """Connect and bring the schema up to date; raises Unavailable.

        `steps` are those that the program knows; `patience` is how many times as long as usual
        the database may take for an answer.
        """
        engine = cls(url, barrier, steps, patience)
        try:
            await engine._migrate()
        except BaseException:
            await engine.close()
            raise
        engine._writer = asyncio.create_task(engine._write_groups(), name="postgres-writer")
        return engine

    @property
    def view(self) -> View:
        """Committed state, inside `waiting` alone."""
        return self._view

    def revision(self) -> int:
        """The number of transactions that have written, of all nodes."""
        revision, generation = self._reads.one("SELECT revision, value FROM generation")
        self._saw(revision, generation)
        return int(revision)

    def revision_and_known(
        self, secrets: Iterable[SecretName]
    ) -> tuple[int, frozenset[SecretName]]:
        """One question; see the contract."""
        since = self._nodes.forgotten
        nodes = {self._nodes[each]: each for each in secrets if each in self._nodes}
        if not nodes:
            return self.revision(), frozenset()
        revision, generation, there = self._reads.one(LOOK, number_array(nodes))
        self._saw(revision, generation)
        if since != self._nodes.forgotten:
            there = ()
        # Nothing is said of the others: they may have been made again under another number.
        return revision, frozenset([nodes[each] for each in there])

    def _saw(self, revision: int, generation: int) -> None:
        self._looked = revision, generation
        self._nodes.notice(generation)

    def generation_at(self, revision: int) -> int:
        """Read with the revision; see the contract."""
        seen, generation = self._looked
        return generation if seen == revision else self._view.generation()

    def waiting(self, coroutine: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
        """See the contract."""
        return drive(coroutine)

    def transact(
        self, work: Callable[[Transaction], T], *, about: About | None = None
    ) -> "asyncio.Future[T]":
        """Queue the work for the next group; see the contract."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        try:
            self._connections.check()
            self.check_writes()
        except Refusal as refusal:
            done.set_exception(refusal)
        else:
            self._queue.append(_Write(work, done, about))
            self._wake.set()
        return done

    def gather_by(self, gather: Callable[[], Awaitable[None]]) -> None:
        """See the contract."""
        self._gather = gather

    def check_writes(self) -> None:
        """See the contract."""
        if self._ended:
            raise writing_ended()

    async def side_by_side(self, works: Iterable[Callable[[], None]]) -> None:
        """See the contract."""
        await run_side_by_side(works)

    async def transact_alone(self, work: Callable[[Transaction], T]) -> T:
        """One unit of work on a connection of its own; other writers wait or are told to."""
        self.check_writes()
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        # A task of its own: row code is parked where no handler is parked already.
        group = [_Write(work, done)]
        await asyncio.create_task(self._write_group(group, STEP_SECONDS, alone=True))
        return await done

    async def pages(self) -> AsyncIterator[TablePage]:
        """Every row of one moment, in a transaction that only reads; see the contract."""
        async with (
            self._connections.lend(STEP_SECONDS) as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            # Whoever takes the pages may be slower than a node that has died, and holds no turn.
            await connection.execute(PATIENT)
            for table in COPIED:
                cursor = await connection.cursor(all_of(table))
                asked = FIRST_ROWS
                while rows := await cursor.fetch(asked):
                    yield TablePage(table, tuple(rows[0].keys()), rows)
                    asked = rows_after(asked, rows)

    async def close(self) -> None:
        """Finish the queue and let the connections go."""
        if self._writer is not None:
            self._closing = True
            self._wake.set()
            await asyncio.wait([self._writer])
        if self._looking is not None:
            await asyncio.wait([self._looking])
        await self._connections.close()

    async def _perform(self, ask: Ask) -> list[Any]:
        async with self._connections.lend(self._read_seconds) as connection:
            return await ask(connection)

    # writes

    async def _write_groups(self) -> None:
        """Until it is closed. However it ends, nobody is left waiting for it."""
        try:
            while self._queue or not self._closing:
                if self._queue:
                    await self._write_next()
                else:
                    self._wake.clear()
                    await self._wake.wait()
        except BaseException as error:
            _log.critical("nothing is written any more: %s", type(error).__name__)
            raise
        finally:
            self._ended = True
            _refuse(self._queue, writing_ended())

    async def _write_next(self) -> None:
        """A group. What ends a unit of work in another way than by an error ends its group alone,
        unless it is the process that is to end, or this task.
        """
        await self._gather()
        group = [self._queue.popleft()]
        try:
            await self._write_group(group, self._write_seconds)
        except BaseException as error:
            _refuse(group, broken_off())
            task = asyncio.current_task()
            if isinstance(error, SystemExit | KeyboardInterrupt) or (task and task.cancelling()):
                raise
            _log.error("a group of writes was broken off: %s", type(error).__name__)

    def _join(self, group: list[_Write]) -> None:
        """Add who waits."""
        while self._queue and len(group) < GROUP:
            group.append(self._queue.popleft())

    async def _write_group(
        self, group: list[_Write], seconds: float, *, alone: bool = False
    ) -> None:
        """Write a group, and unless it is to be alone all who have come when its turn has."""
        try:
            async with self._connections.lend(seconds) as connection:
                await self._take_turn(connection)
                if not alone:
                    self._join(group)
                outcomes = await self._outcomes(connection, group, seconds)
        except BaseException as error:
            # Whatever this group did is undone, so everybody in it hears the same. A database that
            # another has taken the place of may give the number of a node again.
            self._nodes.forget()
            self._view.undo()
            if not isinstance(error, Exception):
                raise
            outcomes = [(None, error)] * len(group)
        for (_, done, _), (result, failure) in zip(group, outcomes, strict=True):
            if done.done():
                continue
            if failure is not None:
                done.set_exception(failure)
            else:
                done.set_result(result)

    async def _take_turn(self, connection: Connection) -> None:
        """Begin a transaction that has the turn to write."""
        late = asyncio.get_running_loop().call_later(SILENT_SECONDS, self._look_who_has_it)
        try:
            await connection.execute(TURN)
        finally:
            late.cancel()

    def _look_who_has_it(self) -> None:
        self._looking = asyncio.create_task(self._free_turn(), name="postgres-turn")

    async def _free_turn(self) -> None:
        """Take the turn from whoever has fallen silent with it."""
        with contextlib.suppress(Refusal):
            if await self._perform(_free_turn):
                _log.warning(
                    "a node that had fallen silent in the middle of a write has lost its turn"
                )

    async def _outcomes(
        self, connection: Connection, group: Sequence[_Write], seconds: float
    ) -> list[Outcome]:
        """The outcome of each unit of work, committed; the transaction has begun."""
        try:
            outcomes = await self._side_by_side(connection, group)
        except Undo as undone:
            await connection.execute("ROLLBACK")
            if len(group) == 1:
                return [(None, undone.__cause__)]
            await connection.execute(TURN)
            generation = await ForeseenOnPostgres(connection, self._barrier, self._nodes).read(())
            await self._notice(connection, generation)
            outcomes = [await self._one_write(connection, each.work) for each in group]
        await commit(connection, seconds * COMMIT_PART)
        return outcomes

    async def _side_by_side(self, connection: Connection, group: Sequence[_Write]) -> list[Outcome]:
        """What can be foreseen first, then the others in waves; raises Undo."""
        since = self._nodes.forgotten
        foreseen = ForeseenOnPostgres(connection, self._barrier, self._nodes)
        generation = await foreseen.read([each.about for each in group if each.about])
        await self._notice(connection, generation)
        self._nodes.notice(generation)
        if since != self._nodes.forgotten:
            # The rows that were read may be other secrets'.
            foreseen = ForeseenOnPostgres(connection, self._barrier, self._nodes)
        found = await foreseen.run([(each.about, each.work) for each in group])
        left = [partial(self._unit, group[n].work) for n, each in enumerate(found) if each is None]
        others = iter(await Waves(connection, self._reads).run(left) if left else ())
        return [next(others) if each is None else each for each in found]

    async def _notice(self, connection: Connection, generation: int) -> None:
        """Take into use what another node has changed; raises Unavailable for a newer schema."""
        if generation != self._generation:
            # What is sealed from here on is sealed under the newest term.
            rows = self._rows(WritingSql(connection))
            await run_parked(rows.check_schema)
            await run_parked(rows.refresh_keys)
            self._generation = generation

    def _rows(self, sql: Sql) -> StoreRows:
        rows = StoreRows(sql, self._barrier, len(self._schema))
        rows.share_nodes(self._nodes)
        return rows

    def _unit(self, work: Callable[[Transaction], T], sql: Sql) -> T:
        rows = self._rows(sql)
        rows.begin()
        return work(rows)

    async def _one_write(
        self, connection: Connection, work: Callable[[Transaction], Any]
    ) -> Outcome:
        """Apart from the others: what a failed one has changed is undone alone."""
        sql = WritingSql(connection)
        await connection.execute("SAVEPOINT work")
        try:
            result = await run_parked(lambda: self._unit(work, sql))
            await sql.flush()
        except (*DRIVER_ERRORS, OSError):
            raise
        except Exception as error:  # noqa: BLE001 - it is handed to whoever asked for the write
            await connection.execute("ROLLBACK TO SAVEPOINT work")
            return None, error
        await connection.execute("RELEASE SAVEPOINT work")
        return result, None

    async def _migrate(self) -> None:
        missing = True
        while missing:
            try:
                async with self._connections.lend(STEP_SECONDS) as connection:
                    await connection.execute("BEGIN")
                    missing = await run_parked(lambda: _step(connection, self._schema))
                    await commit(connection, STEP_SECONDS)
            except _RACES:
                # Another node took the same step at the same time; look again.
                await asyncio.sleep(RACE_SECONDS)


async def _no_more() -> None:
    """Nobody is known to be on the way."""


async def _free_turn(connection: Connection) -> list[Any]:
    await connection.execute("BEGIN")
    # Where that table is found may depend on the role.
    ((table,),) = await connection.fetch(TURNS_TABLE)
    await connection.execute(AS_WHO_LOGGED_IN)
    freed = await connection.fetch(FREE_TURN, table)
    await connection.execute("COMMIT")
    return freed


def _refuse(writes: Iterable[_Write], refusal: Refusal) -> None:
    for each in writes:
        if not each.done.done():
            each.done.set_exception(refusal)


def _step(connection: Connection, steps: Sequence[Step]) -> bool:
    sql = WritingSql(connection)
    taken = take_step(sql, POSTGRES, steps=steps)
    answer_of(sql.flush())
    return taken
