"""The one thread that writes to the file of SQLite, and its help from the event loop.

Every write that waits when the turn has come joins one transaction and one fsync. The thread
waits for its turn, begins and commits; the units of work between are run by the event loop, a
slice at a time: two threads that both want the interpreter hand it over at each statement, which
costs more than the statement. A group with a unit of work that is told to run alone, or asks a
statement that may touch very many rows, is undone and runs in the thread, so that requests are
answered meanwhile. A refused write that changed nothing leaves no trace; after one that did, the
group runs again in the thread with a savepoint for each.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from strongroom.model.errors import Refusal, Unavailable
from strongroom.store.engine._footprints import form_of
from strongroom.store.engine._foreseen import MOST_HELD_BYTES
from strongroom.store.engine._foreseen_sqlite import ForeseenOnSqlite
from strongroom.store.engine._refusals import broken_off, writing_ended
from strongroom.store.engine._store_rows import StoreRows
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.contract import About, Transaction
from strongroom.store.engine.sql import SQLITE, unstorable

GROUP: Final = 256
SLICE: Final = 32
# How often a thread that waits for the event loop looks whether it still runs.
LOOK_SECONDS: Final = 1.0
SMALL_TABLES: Final = frozenset({"cluster", "generation", "mount", "leader", "reseal", "key_use"})
# Columns that very many rows may have in common.
BROAD: Final = frozenset({"mount", "kind", "role", "parent", "token"})


_log = logging.getLogger(__name__)


class Undo(Exception):
    """A unit of work failed after it had changed rows."""


class Elsewhere(BaseException):
    """A statement that is not for the event loop; no `except Exception` may hold it up."""


@dataclass(frozen=True, slots=True)
class Write:
    """A unit of work, who waits for it, what it is about, and whether it may take long."""

    work: Callable[[Transaction], Any]
    done: "asyncio.Future[Any]"
    about: About | None = None
    alone: bool = False


Outcome = tuple["asyncio.Future[Any]", Any, BaseException | None]


class SqliteSql:
    """Row statements on a connection, at once."""

    dialect = SQLITE

    def __init__(self, connection: sqlite3.Connection, *, short: bool = False) -> None:
        """With `short` what may take long raises Elsewhere."""
        self._connection = connection
        self._short = short

    def _execute(self, statement: str, values: tuple[object, ...]) -> sqlite3.Cursor:
        if self._short and not is_short(statement):
            raise Elsewhere
        try:
            return self._connection.execute(statement, values)
        except OverflowError:
            raise unstorable() from None

    def one(self, statement: str, *values: object) -> Any:  # noqa: ANN401
        """The first row, or None."""
        return self._execute(statement, values).fetchone()

    def all(self, statement: str, *values: object) -> Sequence[Any]:
        """Every row."""
        return self._execute(statement, values).fetchall()

    def run(self, statement: str, *values: object) -> None:
        """A write."""
        self._execute(statement, values)


@lru_cache(maxsize=1024)
def is_short(statement: str) -> bool:
    """Whether a statement touches a few rows whatever there is."""
    form = form_of(statement)
    named = {name for name, _ in form.columns}
    return form.inserts or bool(named - BROAD) or form.tables <= SMALL_TABLES


class _Turn:
    """The units of work of a group, on the event loop."""

    def __init__(self, writer: "SqliteWriter", loop: asyncio.AbstractEventLoop) -> None:
        self._writer = writer
        self._loop = loop
        self._group: list[Write] = []
        self._outcomes: list[Outcome] = []
        self._answers: queue.SimpleQueue[list[Outcome] | BaseException] = queue.SimpleQueue()
        self._given_up = False

    def outcomes(self, group: list[Write]) -> list[Outcome] | None:
        """From the thread: run them and who joins; None when they have to run in the thread."""
        self._group = group
        try:
            self._loop.call_soon_threadsafe(self._go)
        except RuntimeError:
            return None  # The loop closed in between.
        while True:
            try:
                answer = self._answers.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                if self._loop.is_running():
                    continue
                self._given_up = True
                return None
            if isinstance(answer, Undo | Elsewhere):
                return None
            if isinstance(answer, BaseException):
                raise answer
            return answer

    def _go(self) -> None:
        if self._given_up:
            return
        begun = len(self._outcomes)
        try:
            if not begun:
                self._writer.join(self._group)
                if any(write.alone for write in self._group):
                    raise Elsewhere
            self._outcomes += self._writer.short_writes(self._group[begun : begun + SLICE])
        except BaseException as error:
            # The thread goes on with it.
            self._answers.put(error)
            if isinstance(error, SystemExit | KeyboardInterrupt):
                raise
            return
        if len(self._outcomes) < len(self._group):
            self._loop.call_soon(self._go)
        else:
            self._answers.put(self._outcomes)


class SqliteWriter:
    """Owns the connection that writes. `rows` makes its row classes, `refusal` its errors ours."""

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        barrier: Barrier,
        rows: Callable[[SqliteSql], StoreRows],
        refusal: Callable[[sqlite3.Error], Refusal],
    ) -> None:
        self._connection = connection
        self._barrier = barrier
        self._rows = rows(SqliteSql(connection))
        self._short_rows = rows(SqliteSql(connection, short=True))
        # One group runs on either of them: what it learns holds for both, or is undone for both.
        self._short_rows.share_nodes(self._rows.nodes)
        self._refusal = refusal
        # Waiting on this lock is fair and wakes at once; SQLite's own busy handler sleeps and
        # tries again, which starves one of two busy writers.
        self._turn = os.open(f"{path}.writer", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._queue: queue.SimpleQueue[Write | None] = queue.SimpleQueue()
        self._stopping = False
        # Nobody takes what is queued any more.
        self._ended = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(
            target=self._write_groups, name="sqlite-writer", daemon=True
        )
        self._thread.start()

    def put(self, write: Write) -> None:
        """Queue for the next group; from the event loop."""
        self._loop = asyncio.get_running_loop()
        self._queue.put(write)
        # Looked at after the write was queued: either the thread has seen it at its end, or this.
        if self._ended:
            self._refuse_queued()

    def check(self) -> None:
        """Raise Unavailable when the thread has ended."""
        if self._ended:
            raise writing_ended()

    async def close(self) -> None:
        """Finish the queue; the event loop goes on meanwhile."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        turn, self._turn = self._turn, -1
        if turn >= 0:
            os.close(turn)

    # the thread

    def _write_groups(self) -> None:
        """Until it is closed. However it ends, nobody is left waiting for it."""
        try:
            while not self._stopping and (first := self._queue.get()) is not None:
                self._write_next(first)
        except BaseException as error:
            _log.critical("nothing is written any more: %s", type(error).__name__)
            raise
        finally:
            self._ended = True
            self._refuse_queued()
            self._connection.close()

    def _write_next(self, first: Write) -> None:
        group = [first]
        try:
            outcomes = self._write_group(group)
        except BaseException:
            self._deliver([(write.done, None, broken_off()) for write in group])
            raise
        self._deliver(outcomes)

    def _refuse_queued(self) -> None:
        refused: list[Outcome] = []
        with contextlib.suppress(queue.Empty):
            while True:
                left = self._queue.get_nowait()
                if left is not None:
                    refused.append((left.done, None, writing_ended()))
        self._deliver(refused)

    def join(self, group: list[Write]) -> None:
        """Add who waits; from the thread, and from the event loop before the group has begun."""
        while len(group) < GROUP and not self._stopping:
            try:
                following = self._queue.get_nowait()
            except queue.Empty:
                return
            if following is None:
                self._stopping = True
            else:
                group.append(following)

    def _write_group(self, group: list[Write]) -> list[Outcome]:
        """The outcomes of a group, and of all who have come while it waited for its turn."""
        connection = self._connection
        try:
            fcntl.flock(self._turn, fcntl.LOCK_EX)
        except OSError as error:
            return [(write.done, None, _no_turn(error)) for write in group]
        try:
            self.join(group)
            outcomes = self._on_the_loop(group)
            if outcomes is None:
                outcomes = self._in_the_thread(group)
            connection.execute("COMMIT")
        except BaseException as error:  # noqa: BLE001 - the thread goes on; those who asked hear of it
            # Some errors have ended the transaction; one that cannot be ended is by the next BEGIN.
            with contextlib.suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            self._undone()
            refusal = self._heard(error)
            # Whatever this group did is undone, so everybody in it hears the same.
            return [(write.done, None, refusal) for write in group]
        finally:
            fcntl.flock(self._turn, fcntl.LOCK_UN)
        return outcomes

    def _heard(self, error: BaseException) -> Exception:
        """What those hear whose group was undone."""
        if isinstance(error, sqlite3.Error):
            return self._refusal(error)
        if isinstance(error, Exception):
            return error
        _log.error("a group of writes was broken off: %s", type(error).__name__)
        return broken_off()

    def _on_the_loop(self, group: list[Write]) -> list[Outcome] | None:
        loop = self._loop
        if loop is None or any(write.alone for write in group):
            return None
        self._connection.execute("BEGIN IMMEDIATE")
        self._rows.begin_group()
        outcomes = _Turn(self, loop).outcomes(group)
        if outcomes is None:
            self._connection.execute("ROLLBACK")
            self._undone()
        return outcomes

    def short_writes(self, writes: Sequence[Write]) -> list[Outcome]:
        """On the event loop, within the thread's transaction: what can be foreseen first. Raises
        Undo and Elsewhere.
        """
        foreseen = ForeseenOnSqlite(self._connection, self._barrier, self._rows.nodes)
        foreseen.read([each.about for each in writes if each.about])
        found = []
        for write in writes:
            found.append(foreseen.run_unit(write.about, write.work) if write.about else None)
            if foreseen.held > MOST_HELD_BYTES:
                foreseen.write()
        foreseen.write()
        return [
            (write.done, *outcome) if outcome else self._short_write(write)
            for write, outcome in zip(writes, found, strict=True)
        ]

    def _short_write(self, write: Write) -> Outcome:
        self._short_rows.begin()
        changes = self._connection.total_changes
        try:
            return write.done, write.work(self._short_rows), None
        except sqlite3.Error:
            raise
        except Exception as error:
            if self._connection.total_changes != changes:
                raise Undo from error
            return write.done, None, error

    def _in_the_thread(self, group: list[Write]) -> list[Outcome]:
        self._connection.execute("BEGIN IMMEDIATE")
        self._rows.begin_group()
        return [self._apart(write) for write in group]

    def _apart(self, write: Write) -> Outcome:
        """Two statements more, and what a failed unit has changed is undone alone."""
        connection = self._connection
        self._rows.begin()
        connection.execute("SAVEPOINT work")
        try:
            result = write.work(self._rows)
        except sqlite3.Error:
            raise
        except Exception as error:  # noqa: BLE001 - it is handed to whoever asked for the write
            connection.execute("ROLLBACK TO work")
            connection.execute("RELEASE work")
            self._undone()
            return write.done, None, error
        connection.execute("RELEASE work")
        return write.done, result, None

    def _undone(self) -> None:
        self._rows.undo()
        self._short_rows.undo()

    def _deliver(self, outcomes: list[Outcome]) -> None:
        loop = self._loop
        if loop is None or loop.is_closed():
            return
        try:
            loop.call_soon_threadsafe(_resolve, outcomes)
        except RuntimeError:
            # The loop closed in between: nobody is left to tell, the rows are safe.
            return


def _no_turn(error: OSError) -> Refusal:
    return Unavailable(
        "storage-unavailable",
        f"the turn to write cannot be taken: {error.strerror}; nothing was written",
        hint="it is a lock of the file beside the database whose name ends in .writer",
    )


def _resolve(outcomes: list[Outcome]) -> None:
    for done, result, error in outcomes:
        if done.done():
            continue
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)
