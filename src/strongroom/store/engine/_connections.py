"""Connections to PostgreSQL: a few, kept open, and cut after any error.

When the database is gone every caller is told so at once, and a probe looks for it until it is
back. Nothing of a session is changed by its use, so nothing is reset between two uses.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final

import asyncpg

from strongroom.model.errors import Refusal, Unavailable

CONNECT_SECONDS: Final = 2.0
PROBE_SECONDS: Final = 0.2
STATEMENTS_KEPT: Final = 512
# A node that stops in the middle of a group loses its turn to write; the others wait longer.
SESSION: Final = """
    SET idle_in_transaction_session_timeout = 2000;
    SET jit = off;
    SELECT set_config('synchronous_commit', 'on', false)
     WHERE current_setting('synchronous_commit') = 'off'
"""
# Classes of SQLSTATE that say: not now (connection, read-only, login, conflict, resources,
# intervention, system, internal). Everything else is a bug of ours.
_NOT_NOW: Final = ("08", "25", "28", "3D", "40", "53", "55", "57", "58", "XX")
# The connection itself, whether the server or the driver says so.
_CUT: Final = "08"
_FULL: Final = "53100"
DRIVER_ERRORS: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
# Those states after which another connection would fare no better: look for the database.
_GONE: Final = ("08", "25", "28", "3D", "57P")


class Connections:
    """At most `limit` connections to one database, lent for a while."""

    def __init__(self, url: str, limit: int) -> None:
        self._url = url
        self._idle: list[Any] = []
        self._room = asyncio.Semaphore(limit)
        self._lost = False
        self._prober: asyncio.Task[None] | None = None

    def check(self) -> None:
        """Raise Unavailable while the database is known to be gone."""
        if self._lost:
            raise _gone()

    @contextlib.asynccontextmanager
    async def lend(self, seconds: float) -> AsyncIterator[Any]:
        """A connection for that long; raises Unavailable for what is the database's fault."""
        self.check()
        connection: Any = None
        try:
            async with asyncio.timeout(seconds), self._room:
                self.check()
                connection = self._idle.pop() if self._idle else await self._open()
                yield connection
        except BaseException as error:
            if connection is not None:
                connection.terminate()
            if isinstance(error, Exception):
                raise self._noticed(error) from error
            raise
        else:
            self._idle.append(connection)

    async def _open(self) -> Any:  # noqa: ANN401
        connection = await asyncpg.connect(
            self._url, timeout=CONNECT_SECONDS, statement_cache_size=STATEMENTS_KEPT
        )
        try:
            await connection.execute(SESSION)
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def close(self) -> None:
        """Say goodbye where that is possible."""
        if self._prober is not None:
            self._prober.cancel()
        for connection in self._idle:
            with contextlib.suppress(Exception):
                await connection.close(timeout=CONNECT_SECONDS)
        self._idle.clear()

    def _noticed(self, error: Exception) -> Exception:
        """What the caller hears; a database that is gone is looked for from now on."""
        state = getattr(error, "sqlstate", None) or ""
        if not self._lost and (_is_cut(error) or state.startswith(_GONE)):
            self._lost = True
            for connection in self._idle:
                connection.terminate()
            self._idle.clear()
            self._prober = asyncio.create_task(self._probe(), name="postgres-probe")
        return refusal_of(error)

    async def _probe(self) -> None:
        while self._lost:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    connection = await self._open()
                connection.terminate()
                self._lost = False
            except Exception:  # noqa: BLE001 - whatever it is, the database is not back yet
                await asyncio.sleep(PROBE_SECONDS)


def _is_cut(error: Exception) -> bool:
    # A wrong argument is an InterfaceError too, and a ValueError: a bug, not a lost connection.
    # A connection that dies in the middle of an answer can end as an InternalClientError.
    cut = isinstance(error, OSError | asyncpg.InterfaceError | asyncpg.InternalClientError)
    return cut and not isinstance(error, ValueError)


def _gone() -> Refusal:
    return Unavailable(
        "storage-unavailable",
        "the database cannot be reached",
        hint="the node tries again by itself; see that PostgreSQL runs and accepts connections",
    )


def refusal_of(error: Exception) -> Exception:
    """A driver's error as Unavailable; any other error as it is."""
    if _is_cut(error):
        return _gone()
    state = getattr(error, "sqlstate", None)
    if isinstance(state, str) and state.startswith(_CUT):
        return _gone()
    if state == _FULL:
        return Unavailable(
            "storage-full",
            "the database cannot be used: no space is left on PostgreSQL's disk (53100)",
            hint="free space there; nothing was written",
        )
    if isinstance(state, str) and state.startswith(_NOT_NOW):
        return Unavailable(
            "storage-unavailable",
            f"the database cannot be used: {type(error).__name__} ({state})",
            hint="see PostgreSQL's log",
        )
    return error
