"""The embedded engine: SQLite in WAL mode, reads on the event loop, writes in groups.

Several processes may open the same file: the lock of `_sqlite_writer` orders their groups, and
`data_version` tells each when another has committed.
"""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from strongroom.model.errors import Refusal, Unavailable
from strongroom.store.engine._snapshot_rows import COPIED, FIRST_ROWS, all_of, rows_after
from strongroom.store.engine._sqlite_writer import SqliteSql, SqliteWriter, Write
from strongroom.store.engine._store_rows import StoreRows
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.contract import About, SecretName, Transaction, View
from strongroom.store.engine.schema import STEPS, Step, take_step
from strongroom.store.engine.snapshot_contract import TablePage
from strongroom.store.engine.sql import SQLITE

T = TypeVar("T")
BUSY_MILLISECONDS: Final = 5000
AGAIN_MILLISECONDS: Final = 10
CACHE_KIBIBYTES: Final = 8192
# Written into the file at once, 16 MiB of its log: pages that many writes touch are moved once.
CHECKPOINT_PAGES: Final = 4000


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
        path.touch(mode=0o600, exist_ok=True)
        writer = self._connect()
        try:
            _migrate(writer, steps)
        except sqlite3.Error as error:
            raise _unavailable(error) from error
        self._reader = self._connect()
        self._reads = SqliteReads(self._reader)
        self._view = StoreRows(self._reads, barrier, len(steps))
        rows = partial(StoreRows, barrier=barrier, steps=len(steps))
        self._writer = SqliteWriter(path, writer, barrier, rows, _unavailable)

    def _connect(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(
                self._path, timeout=0.0, isolation_level=None, check_same_thread=False,
                cached_statements=256,
            )  # fmt: skip
            use_log(connection, time.sleep)
            connection.execute(f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIBIBYTES}")
            connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
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

    def revision_and_known(
        self,
        secrets: Iterable[SecretName],  # noqa: ARG002 - asking for each costs little
    ) -> tuple[int, frozenset[SecretName]]:
        """See the contract."""
        return self.revision(), frozenset()

    def generation_at(self, revision: int) -> int:  # noqa: ARG002 - what is newer will do
        """See the contract."""
        return self._view.generation()

    def transact(
        self,
        work: Callable[[Transaction], T],
        *,
        about: About | None = None,
    ) -> "asyncio.Future[T]":
        """Queue the work for the next group; see the contract."""
        return self._write(work, about=about)

    async def side_by_side(self, works: Iterable[Callable[[], None]]) -> None:
        """One after another; see the contract."""
        for work in works:
            work()

    async def transact_alone(self, work: Callable[[Transaction], T]) -> T:
        """The same, in the writer thread; see the contract."""
        return await self._write(work, alone=True)

    def _write(
        self, work: Callable[[Transaction], T], *, about: About | None = None, alone: bool = False
    ) -> "asyncio.Future[T]":
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._writer.put(Write(work, done, about, alone))
        return done

    def gather_by(self, gather: Callable[[], Awaitable[None]]) -> None:
        """Not needed; see the contract."""

    def check_writes(self) -> None:
        """See the contract."""
        self._writer.check()

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
        await self._writer.close()
        self._reader.close()


def use_log(connection: sqlite3.Connection, pause: Callable[[float], object]) -> None:
    """WAL mode, before the connection waits by itself: of who makes a new file ready at the same
    time SQLite's busy handler would tell at once. Raises sqlite3.OperationalError.
    """
    for tries_left in reversed(range(BUSY_MILLISECONDS // AGAIN_MILLISECONDS)):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            # Also SQLITE_BUSY_RECOVERY: another process reads the log that a crash has left.
            if not error.sqlite_errorname.startswith("SQLITE_BUSY") or not tries_left:
                raise
            pause(AGAIN_MILLISECONDS / 1000)
        else:
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
