"""Connections to PostgreSQL: a few, kept open, and cut after any error.

A connection that ends, or does not answer in time, costs its own caller alone, and a probe looks
whether the database is there. When it is not every caller is told so at once, until it is back. Of
several servers the one that takes writes is used: all are asked at once, so that one
that hangs holds nobody up. Nothing of a session is changed by its use, so nothing is reset
between two uses.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any, Final

import asyncpg

from strongroom.model.errors import Refusal, Unavailable
from strongroom.store.engine._database_errors import (
    NotPrimary,
    bad_address,
    is_cut,
    is_gone,
    is_uncertain,
    missing_file,
    refusal_of,
    unconfirmed,
)
from strongroom.store.engine._hosts import Server, files_of, servers_of, without_waits

CONNECT_SECONDS: Final = 2.0
IDLE_SECONDS: Final = 2.0
PROBE_SECONDS: Final = 0.2
STATEMENTS_KEPT: Final = 512
# A node that stops in the middle of a group loses its turn to write; the others wait longer. What
# a node that is gone has open is closed after a minute, where TCP waits for up to two hours. Not
# sooner: the server lets go without a word to a node that was cut off for some seconds, and that
# waits for its answer to the end of its time; of an idle one a single lost packet is enough. A
# plan that reads a whole table is kept when the table has grown; what has an index is read by it.
# What an administrator has set for other programs would break calls off that have deadlines here,
# cut connections that are kept, and refuse a group of writes that waits for another node's.
SESSION: Final = """
    SET idle_in_transaction_session_timeout = {idle};
    SET tcp_user_timeout = 60000;
    SET tcp_keepalives_idle = 30;
    SET tcp_keepalives_interval = 10;
    SET default_transaction_isolation = 'read committed';
    SET lock_timeout = 0;
    SET statement_timeout = 0;
    SET jit = off;
    SET enable_seqscan = off;
    SELECT set_config(name, '0', false) FROM pg_settings
     WHERE name IN ('idle_session_timeout', 'transaction_timeout');
    SELECT set_config('synchronous_commit', 'on', false)
     WHERE current_setting('synchronous_commit') = 'off'
"""
# A standby answers reads from the past. A server that was replaced by its standby and came back
# is on an older timeline of the same system; the first eight digits of a log file's name are its.
WHO: Final = """
    SELECT pg_is_in_recovery(), (SELECT system_identifier FROM pg_control_system()),
           CASE WHEN NOT pg_is_in_recovery()
                THEN left(pg_walfile_name(pg_current_wal_lsn()), 8) END
"""
# What a server says of settings in the URL that it does not know or does not let be set.
_BAD_SETTING: Final = (
    asyncpg.UndefinedObjectError,
    asyncpg.InvalidParameterValueError,
    asyncpg.CantChangeRuntimeParamError,
)
# Of a file, or of the socket.
_NO_FILE: Final = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
# What managed databases may say to `WHO`.
_NOT_TOLD: Final = (
    asyncpg.InsufficientPrivilegeError,
    asyncpg.UndefinedFunctionError,
    asyncpg.FeatureNotSupportedError,
)


_log = logging.getLogger(__name__)


class _Listening(asyncpg.Connection):  # type: ignore[misc]
    """A connection that keeps what its server warns of."""

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - asyncpg's
        super().__init__(*args, **options)
        self.warnings: list[str] = []
        # It was told to commit and has not said whether it has.
        self.committing = False


def _hear(connection: _Listening, message: Any) -> None:  # noqa: ANN401 - asyncpg's
    if message.severity_en == "WARNING":
        connection.warnings.append(message.message)


class Connections:
    """At most `limit` connections to one database, lent for a while.

    `patience` is how many times as long as usual the server may take for an answer.
    """

    def __init__(self, url: str, limit: int, patience: float = 1.0) -> None:
        self._connect_seconds = CONNECT_SECONDS * patience
        self._session = SESSION.format(idle=round(IDLE_SECONDS * patience * 1000))
        self._url = without_waits(url)
        self._servers: tuple[Server | None, ...] = servers_of(url) or (None,)
        self._idle: list[Any] = []
        self._room = asyncio.Semaphore(limit)
        self._lost: Refusal | None = None
        self._prober: asyncio.Task[None] | None = None
        # How often one was given back that had done its work.
        self._worked = 0
        # The system and the newest timeline of it that this process has seen.
        self._newest = (0, 0)
        # Whether it has once chosen among several servers.
        self._chosen = False

    def check(self) -> None:
        """Raise Unavailable while the database is known to be gone."""
        if self._lost is not None:
            raise Unavailable(self._lost.code, self._lost.message, hint=self._lost.hint)

    @contextlib.asynccontextmanager
    async def lend(self, seconds: float) -> AsyncIterator[Any]:
        """A connection for that long; raises Unavailable for what is the database's fault."""
        self.check()
        connection: Any = None
        opening = False
        try:
            async with asyncio.timeout(seconds), self._room:
                self.check()
                connection = self._kept()
                if connection is None:
                    opening = True
                    connection = await self._open()
                    opening = False
                yield connection
        except BaseException as error:
            if connection is not None:
                connection.terminate()
            if not isinstance(error, Exception):
                raise
            # Who waited for a connection that others had knows nothing of the database.
            used = opening or connection is not None
            refusal = self._noticed(error, opening) if used else refusal_of(error)
            if connection is not None and connection.committing and is_uncertain(error):
                _log.error("a commit was not confirmed: %s", type(error).__name__)
                refusal = unconfirmed(late=isinstance(error, TimeoutError))
            raise refusal from error
        else:
            self._worked += 1
            self._idle.append(connection)

    def _kept(self) -> Any | None:  # noqa: ANN401
        """The connection that was used last; those that were cut while nobody used them go."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        return None

    async def _open(self) -> Any:  # noqa: ANN401
        """A connection to the server that takes writes; all are asked at once.

        Whoever chooses for the first time hears all of them out: an old primary that nobody has
        fenced takes writes as well, and may be the first to answer.
        """
        if len(self._servers) == 1:
            return (await self._open_at(self._servers[0]))[1]
        others = {asyncio.create_task(self._open_at(each)) for each in self._servers}
        pending, failures = set(others), list[BaseException]()
        enough = asyncio.FIRST_COMPLETED if self._chosen else asyncio.ALL_COMPLETED
        try:
            while pending:
                done, pending = await asyncio.wait(pending, return_when=enough)
                failures += filter(None, (task.exception() for task in done))
                answers = [task for task in done if task.exception() is None]
                if answers:
                    best = max(answers, key=lambda task: task.result()[0])
                    others.discard(best)
                    self._chosen = True
                    return best.result()[1]
        finally:
            for task in others:
                task.cancel()
                task.add_done_callback(_let_go)
        # Why a server that answers is not used says more than that another does not answer.
        raise next((each for each in failures if isinstance(each, NotPrimary)), failures[-1])

    async def _open_at(self, server: Server | None) -> tuple[int, Any]:
        """The server's timeline, 0 where it does not tell, and a connection to it."""
        where = {"host": server[0], "port": server[1]} if server else {}
        async with asyncio.timeout(self._connect_seconds):
            try:
                connection = await asyncpg.connect(
                    self._url, **where, statement_cache_size=STATEMENTS_KEPT,
                    target_session_attrs="any", connection_class=_Listening,
                )  # fmt: skip
            except _BAD_SETTING as error:
                raise bad_address(error.args[0]) from None
            except _NO_FILE as error:
                raise missing_file(files_of(self._url)) or error from None
            try:
                connection.add_log_listener(_hear)
                await connection.execute(self._session)
                timeline = await self._check_primary(connection)
            except BaseException:
                connection.terminate()
                raise
        return timeline, connection

    async def _check_primary(self, connection: Any) -> int:  # noqa: ANN401
        """Raise NotPrimary for a standby, and for a server that its standby has replaced."""
        try:
            standby, system, timeline = await connection.fetchrow(WHO)
        except _NOT_TOLD:
            (standby,) = await connection.fetchrow("SELECT pg_is_in_recovery()")
            system = timeline = None
        if standby:
            raise NotPrimary(
                "storage-standby",
                "the database takes no writes: the server that answers is a standby",
                hint="the node goes on when it is promoted or another server of the URL answers",
            )
        if timeline is None:
            return 0
        number = int(timeline, 16)
        if system == self._newest[0] and number < self._newest[1]:
            raise NotPrimary(
                "storage-behind",
                "the server that answers is an old primary:"
                f" its timeline is {number}, this node has seen {self._newest[1]}",
                hint="make it a standby of the new one; what it answers is from the past",
            )
        self._newest = (system, number)
        return number

    async def close(self) -> None:
        """Say goodbye where that is possible."""
        if self._prober is not None:
            self._prober.cancel()
        for connection in self._idle:
            with contextlib.suppress(Exception):
                await connection.close(timeout=CONNECT_SECONDS)
        self._idle.clear()

    def _noticed(self, error: Exception, opening: bool) -> Exception:  # noqa: FBT001
        """What the caller hears; where the database may be gone it is looked for.

        It is gone where a connection is refused. One that ended, or was not opened in time, says
        less.
        """
        refusal = refusal_of(error)
        if self._lost is not None or not is_gone(error):
            return refusal
        if opening and not isinstance(error, TimeoutError):
            self._lose(refusal)
        elif is_cut(error) and not opening:
            # Whatever has cut this one, or swallows what is sent, may have met the others.
            self._forget_idle()
        if self._prober is None or self._prober.done():
            self._prober = asyncio.create_task(self._probe(), name="postgres-probe")
        return refusal

    async def _probe(self) -> None:
        """Until the database is there. While nobody knows that it is not, calls go on."""
        while True:
            worked = self._worked
            try:
                connection = await self._open()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is not back yet
                if self._lost is None and not is_gone(error):
                    return
                if isinstance(error, TimeoutError) and (
                    (self._lost is None and self._worked != worked) or await self._kept_answers()
                ):
                    self._find()
                    return
                self._lose(refusal_of(error))
                await asyncio.sleep(PROBE_SECONDS)
            else:
                connection.terminate()
                self._find()
                return

    def _find(self) -> None:
        if self._lost is not None:
            self._lost = None
            _log.warning("the database is back")

    async def _kept_answers(self) -> bool:
        """Whether one that is kept answers, as where a pooler has no room for another.

        Also once the database counts as gone: those that were lent then may have all the room.
        """
        connection: Any = None
        try:
            async with asyncio.timeout(self._connect_seconds), self._room:
                connection = self._kept()
                if connection is None:
                    return False
                await self._check_primary(connection)
        except Exception:  # noqa: BLE001 - whatever it is, it has not answered
            if connection is not None:
                connection.terminate()
            return False
        self._idle.append(connection)
        return True

    def _lose(self, refusal: Exception) -> None:
        if not isinstance(refusal, Refusal):
            return
        if self._lost is None:
            _log.error("%s; looking for it", refusal)
            self._forget_idle()
        elif str(refusal) != str(self._lost):
            _log.error("%s", refusal)
        self._lost = refusal

    def _forget_idle(self) -> None:
        for connection in self._idle:
            connection.terminate()
        self._idle.clear()


async def commit(connection: Any, seconds: float) -> None:  # noqa: ANN401 - asyncpg's
    """End a transaction so that it is kept; raises Unavailable where that is not sure by then.

    A commit that is cancelled while it waits for a standby succeeds with a warning: the write
    would be lost if the standby took over now.
    """
    doubts: list[str] = connection.warnings
    doubts.clear()
    # However the caller's time or the connection ends now, see `lend`.
    connection.committing = True
    try:
        async with asyncio.timeout(seconds):
            status = await connection.execute("COMMIT")
        connection.committing = False
        if status != "COMMIT":
            doubts.append(status)
    except TimeoutError:
        doubts.append(f"no answer in {seconds:g} s")
    if doubts:
        _log.error("a commit was not confirmed: %s", "; ".join(doubts))
        raise unconfirmed(late=True)


def _let_go(task: "asyncio.Task[Any]") -> None:
    """Nobody waits for this connection any more."""
    if not task.cancelled() and task.exception() is None:
        task.result()[1].terminate()
