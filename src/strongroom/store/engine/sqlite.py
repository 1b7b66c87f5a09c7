"""The embedded engine: SQLite in WAL mode, one writer thread with group commit.

Every write that waits when the thread is free joins one transaction and one fsync. A refused write
that changed nothing leaves no trace; after one that did, the group is undone and runs again with a
savepoint for each write, so that it undoes itself alone. Several processes may open the same file:
SQLite's write lock orders them, and `data_version` tells each when another has committed.
"""

import asyncio
import contextlib
import fcntl
import os
import queue
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from strongroom.model.errors import Refusal, Unavailable
from strongroom.store.engine._snapshot_rows import COPIED, FIRST_ROWS, all_of, rows_after
from strongroom.store.engine._store_rows import StoreRows
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.contract import Transaction, View
from strongroom.store.engine.schema import STEPS, Step, take_step
from strongroom.store.engine.snapshot_contract import TablePage
from strongroom.store.engine.sql import SQLITE, unstorable

T = TypeVar("T")
BUSY_MILLISECONDS: Final = 5000
GROUP: Final = 256
CACHE_KIBIBYTES: Final = 8192

_Write = tuple[Callable[[Transaction], Any], "asyncio.Future[Any]"]
_Outcome = tuple["asyncio.Future[Any]", Any, BaseException | None]
_Attempt = Callable[
    [sqlite3.Connection, StoreRows, Callable[[Transaction], Any], "asyncio.Future[Any]"], _Outcome
]


class _Undo(Exception):
    """A work of the group failed after it had changed rows."""


class SqliteSql:
    """Row statements on a connection, at once."""

    dialect = SQLITE

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def _execute(self, statement: str, values: tuple[object, ...]) -> sqlite3.Cursor:
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


class SqliteReads(SqliteSql):
    """The same for reads of requests: what is wrong with the file is a refusal."""

    def one(self, statement: str, *values: object) -> Any:  # noqa: ANN401
        """The first row, or None; raises Unavailable."""
        try:
            return self._execute(statement, values).fetchone()
        except sqlite3.Error as error:
            raise _unavailable(error) from error

    def all(self, statement: str, *values: object) -> Sequence[Any]:
        """Every row; raises Unavailable."""
        try:
            return self._execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise _unavailable(error) from error


class SqliteEngine:
    """One process's door to the database file."""

    waits = False

    def __init__(self, path: Path, barrier: Barrier, steps: Sequence[Step] = STEPS) -> None:
        """Open or make the file; `steps` are those of the schema that the program knows."""
        self._path = path
        self._barrier = barrier
        self._steps = len(steps)
        path.touch(mode=0o600, exist_ok=True)
        writer = self._connect()
        try:
            _migrate(writer, steps)
        except sqlite3.Error as error:
            raise _unavailable(error) from error
        self._reader = self._connect()
        self._reads = SqliteReads(self._reader)
        self._view = StoreRows(self._reads, barrier, self._steps)
        # Waiting on this lock is fair and wakes at once; SQLite's own busy handler sleeps and
        # tries again, which starves one of two busy writers.
        self._turn = os.open(f"{path}.writer", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(
            target=self._write_groups, args=(writer,), name="sqlite-writer", daemon=True
        )
        self._thread.start()

    def _connect(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(
                self._path, isolation_level=None, check_same_thread=False, cached_statements=256
            )
            connection.execute(f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIBIBYTES}")
        except sqlite3.Error as error:
            raise _unavailable(error) from error
        return connection

    @property
    def view(self) -> View:
        """Committed state, for the event-loop thread."""
        return self._view

    def revision(self) -> int:
        """SQLite's data_version: changes with every commit on another connection."""
        return int(self._reads.one("PRAGMA data_version")[0])

    async def transact(self, work: Callable[[Transaction], T]) -> T:
        """Queue the work for the next group; see the contract."""
        self._loop = loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._queue.put((work, done))
        return await done

    async def transact_alone(self, work: Callable[[Transaction], T]) -> T:
        """The same: a group of the writer thread takes the time it takes."""
        return await self.transact(work)

    async def pages(self) -> AsyncIterator[TablePage]:
        """Every row of one moment, by a connection of its own; see the contract."""
        connection = self._connect()
        try:
            connection.execute("BEGIN")
            for table in COPIED:
                cursor = connection.execute(all_of(table))
                columns = tuple(each[0] for each in cursor.description)
                asked = FIRST_ROWS
                while rows := await asyncio.to_thread(cursor.fetchmany, asked):
                    yield TablePage(table, columns, rows)
                    asked = rows_after(asked, rows)
        except sqlite3.Error as error:
            raise _unavailable(error) from error
        finally:
            connection.close()

    def waiting(self, coroutine: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
        """The coroutine as it is: reads are answered at once."""
        return coroutine

    async def close(self) -> None:
        """Finish the queue and close the file."""
        self._queue.put(None)
        self._thread.join()
        self._reader.close()
        os.close(self._turn)

    # the writer thread

    def _write_groups(self, connection: sqlite3.Connection) -> None:
        rows = StoreRows(SqliteSql(connection), self._barrier, self._steps)
        stopping = False
        while not stopping:
            first = self._queue.get()
            group = [first] if first else []
            stopping = first is None
            while len(group) < GROUP and not stopping:
                try:
                    following = self._queue.get_nowait()
                except queue.Empty:
                    break
                stopping = following is None
                if following:
                    group.append(following)
            if group:
                self._deliver(self._write_group(connection, rows, group))
        connection.close()

    def _write_group(
        self, connection: sqlite3.Connection, rows: StoreRows, group: list[_Write]
    ) -> list[_Outcome]:
        fcntl.flock(self._turn, fcntl.LOCK_EX)
        try:
            try:
                outcomes = self._attempt(connection, rows, group, self._one_write)
            except _Undo:
                connection.execute("ROLLBACK")
                rows.undo()
                outcomes = self._attempt(connection, rows, group, self._one_write_apart)
            connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - the thread goes on; those who asked hear of it
            # Some errors have ended the transaction; one that cannot be ended is by the next BEGIN.
            with contextlib.suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            rows.undo()
            refusal = _unavailable(error) if isinstance(error, sqlite3.Error) else error
            # Whatever this group did is undone, so everybody in it hears the same.
            return [(done, None, refusal) for _, done in group]
        finally:
            fcntl.flock(self._turn, fcntl.LOCK_UN)
        return outcomes

    @staticmethod
    def _attempt(
        connection: sqlite3.Connection, rows: StoreRows, group: list[_Write], write: _Attempt
    ) -> list[_Outcome]:
        connection.execute("BEGIN IMMEDIATE")
        rows.begin_group()
        return [write(connection, rows, work, done) for work, done in group]

    @staticmethod
    def _one_write(
        connection: sqlite3.Connection,
        rows: StoreRows,
        work: Callable[[Transaction], Any],
        done: "asyncio.Future[Any]",
    ) -> _Outcome:
        """Raises _Undo when the work failed after it had changed rows."""
        rows.begin()
        changes = connection.total_changes
        try:
            return done, work(rows), None
        except sqlite3.Error:
            raise
        except Exception as error:
            if connection.total_changes != changes:
                raise _Undo from error
            return done, None, error

    @staticmethod
    def _one_write_apart(
        connection: sqlite3.Connection,
        rows: StoreRows,
        work: Callable[[Transaction], Any],
        done: "asyncio.Future[Any]",
    ) -> _Outcome:
        """Two statements more, and what a failed work has changed is undone alone."""
        rows.begin()
        connection.execute("SAVEPOINT work")
        try:
            result = work(rows)
        except sqlite3.Error:
            raise
        except Exception as error:  # noqa: BLE001 - it is handed to whoever asked for the write
            connection.execute("ROLLBACK TO work")
            connection.execute("RELEASE work")
            rows.undo()
            return done, None, error
        connection.execute("RELEASE work")
        return done, result, None

    def _deliver(self, outcomes: list[_Outcome]) -> None:
        loop = self._loop
        if loop is None or loop.is_closed():
            return
        try:
            loop.call_soon_threadsafe(_resolve, outcomes)
        except RuntimeError:
            # The loop closed in between: nobody is left to tell, the rows are safe.
            return


def _migrate(connection: sqlite3.Connection, steps: Sequence[Step]) -> None:
    sql = SqliteSql(connection)
    missing = True
    while missing:
        connection.execute("BEGIN IMMEDIATE")
        try:
            # The first versions counted their steps in the file's header.
            (counted,) = connection.execute("PRAGMA user_version").fetchone()
            missing = take_step(sql, SQLITE, counted, steps)
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


def _resolve(outcomes: list[_Outcome]) -> None:
    for done, result, error in outcomes:
        if done.cancelled():
            continue
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)


def _unavailable(error: sqlite3.Error) -> Refusal:
    name = getattr(error, "sqlite_errorname", "") or type(error).__name__
    hints = {
        "SQLITE_FULL": "free space on the disk; nothing was written",
        "SQLITE_BUSY": "another process holds the database; try again",
        "SQLITE_READONLY": "the database file or its folder is not writable",
        "SQLITE_NOTADB": "this file is not a Strongroom database",
        "SQLITE_CORRUPT": "restore the newest snapshot",
        "SQLITE_CANTOPEN": "check that the folder exists and is writable",
    }
    return Unavailable(
        "storage-full" if name == "SQLITE_FULL" else "storage-unavailable",
        f"the database cannot be used: {name}",
        hint=hints.get(name, ""),
    )
