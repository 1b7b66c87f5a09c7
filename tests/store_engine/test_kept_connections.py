"""One connection that ends or hangs costs its own caller alone, whatever an administrator has set."""

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from strongroom.app.waiting import until
from strongroom.crypto.keyring import KeyRing
from strongroom.model.clock import SystemClock
from strongroom.model.errors import Refusal, Unavailable
from strongroom.store.engine._connections import Connections, commit
from strongroom.store.engine._database_errors import is_uncertain, refusal_of
from strongroom.store.engine._hosts import without_waits
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.contract import Transaction
from strongroom.store.engine.postgres import PostgresEngine

CLOCK = SystemClock()
OTHERS = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


async def opened(url: str) -> PostgresEngine:
    barrier = Barrier()
    barrier.unseal(KeyRing.new(0.0))
    return await PostgresEngine.open(url, barrier)


@pytest.fixture
async def administrator(postgres_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(re.sub(r"^\w+", "postgresql", postgres_url))
    yield connection
    await connection.close()


async def policies(engine: PostgresEngine) -> list[str]:
    async def asked() -> list[str]:
        return list(engine.view.policy_names())

    return await engine.waiting(asked())


async def revision(engine: PostgresEngine) -> int:
    async def asked() -> int:
        return engine.revision()

    return await engine.waiting(asked())


def put(name: str) -> "object":
    def work(transaction: Transaction) -> None:
        transaction.put_policy(name, "text")

    return work


async def for_all(administrator: asyncpg.Connection, setting: str) -> None:
    name = await administrator.fetchval("SELECT current_database()")
    await administrator.execute(f"ALTER DATABASE {name} SET {setting}")


async def cut_idle(engine: PostgresEngine, administrator: asyncpg.Connection) -> None:
    """As an administrator, a firewall or `idle_session_timeout` does."""
    idle = engine._connections._idle
    assert idle
    await administrator.execute(f"SELECT pg_terminate_backend(pid) {OTHERS}")

    async def all_ended() -> bool | None:
        return all(each.is_closed() for each in idle) or None

    await until("the connections to end", all_ended, CLOCK)


@pytest.mark.component
async def test_connections_that_were_cut_while_idle_are_no_callers_loss(
    postgres_url: str, administrator: asyncpg.Connection
) -> None:
    engine = await opened(postgres_url)
    try:
        for number in range(3):
            # Several at once, so that several are kept.
            await asyncio.gather(*(policies(engine) for _ in range(4)))
            await cut_idle(engine, administrator)
            await engine.transact(put(f"p{number}"))  # type: ignore[arg-type]
            assert f"p{number}" in await policies(engine)
    finally:
        await engine.close()


@pytest.mark.component
async def test_a_read_that_waits_too_long_stops_no_other(
    postgres_url: str, administrator: asyncpg.Connection
) -> None:
    engine = await opened(postgres_url)
    try:
        async with administrator.transaction():
            await administrator.execute("LOCK TABLE policy IN ACCESS EXCLUSIVE MODE")
            slow = asyncio.create_task(policies(engine))
            while not slow.done():
                await revision(engine)
            with pytest.raises(Unavailable, match="cannot be reached"):
                await slow
            for _ in range(50):
                await revision(engine)
        assert await policies(engine) == []
    finally:
        await engine.close()


async def find_no_room(connections: Connections) -> None:
    with pytest.raises(Unavailable, match="cannot be reached"):
        async with connections.lend(60):
            raise AssertionError("there is no room for it")


async def until_lost(connections: Connections) -> None:
    async def lost() -> bool | None:
        return connections._lost is not None or None

    await until("the database to be taken for lost", lost, CLOCK)


async def until_back(connections: Connections) -> None:
    async def back() -> bool | None:
        return connections._lost is None or None

    await until("the database to be back", back, CLOCK)


class Relay:
    """Between the store and PostgreSQL: one that may have no room for another connection."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._socket = f"{parse_qs(parts.query)['host'][0]}/.s.PGSQL.5432"
        self._database = parts.path
        self.is_full = False

    async def start(self) -> str:
        self.server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        port = self.server.sockets[0].getsockname()[1]
        return f"postgresql://postgres@127.0.0.1:{port}{self._database}?sslmode=disable"

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_full:
            await reader.read()  # As a pooler whose sessions are all taken: it says nothing.
        else:
            there, back = await asyncio.open_unix_connection(self._socket)
            await asyncio.gather(_pass_on(reader, back), _pass_on(there, writer))
        writer.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while some := await reader.read(65536):
            writer.write(some)
    writer.close()


@pytest.mark.component
async def test_one_that_cannot_be_opened_ends_none_that_works(postgres_url: str) -> None:
    relay = Relay(postgres_url)
    connections = Connections(await relay.start(), 5)
    try:
        async with connections.lend(60) as kept:
            relay.is_full = True
            await find_no_room(connections)
        prober = connections._prober
        assert prober is not None
        await asyncio.wait((prober,))
        connections.check()
        async with connections.lend(60) as again:
            assert again is kept
            assert await again.fetchval("SELECT 1") == 1
        # Once nothing is kept nothing says that the database is there, until another can be opened.
        connections._forget_idle()
        await find_no_room(connections)
        await until_lost(connections)
        relay.is_full = False
        await until_back(connections)
    finally:
        await connections.close()
        relay.server.close()


@pytest.mark.component
async def test_one_that_works_for_somebody_says_that_the_database_is_there(
    postgres_url: str,
) -> None:
    """A pooler whose room this process has taken itself would never have had any again."""
    relay = Relay(postgres_url)
    connections = Connections(await relay.start(), 5)
    try:
        async with connections.lend(60) as kept:
            relay.is_full = True
            await find_no_room(connections)
            await until_lost(connections)
        await until_back(connections)
        async with connections.lend(60) as again:
            assert again is kept
    finally:
        await connections.close()
        relay.server.close()


@pytest.mark.component
async def test_while_others_work_the_database_is_not_taken_for_lost(postgres_url: str) -> None:
    """All that are kept may be in use when it is looked for."""
    relay = Relay(postgres_url)
    connections = Connections(await relay.start(), 5)
    try:
        async with connections.lend(60):
            async with connections.lend(60):
                relay.is_full = True
                await find_no_room(connections)
                prober = connections._prober
                assert prober is not None
                # It begins to look before the second is given back.
                await asyncio.sleep(0)
            async with connections.lend(60):
                await asyncio.wait((prober,))
                connections.check()
    finally:
        await connections.close()
        relay.server.close()


@pytest.mark.component
async def test_reads_go_on_where_nothing_may_be_written(
    postgres_url: str, administrator: asyncpg.Connection
) -> None:
    engine = await opened(postgres_url)
    try:
        await for_all(administrator, "default_transaction_read_only = on")
        await cut_idle(engine, administrator)
        for number in range(20):
            with pytest.raises(Unavailable, match="25006"):
                await engine.transact(put(f"p{number}"))  # type: ignore[arg-type]
            assert await policies(engine) == []
    finally:
        await engine.close()


@pytest.mark.component
async def test_a_database_that_was_made_anew_is_called_empty(
    postgres_url: str, administrator: asyncpg.Connection
) -> None:
    engine = await opened(postgres_url)
    try:
        await administrator.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        with pytest.raises(Unavailable, match="no tables of this store"):
            await policies(engine)
        with pytest.raises(Unavailable, match="no tables of this store"):
            await engine.transact(put("p"))  # type: ignore[arg-type]
    finally:
        await engine.close()


@pytest.mark.component
async def test_what_is_set_for_other_programs_breaks_nothing_off(
    postgres_url: str, administrator: asyncpg.Connection
) -> None:
    await for_all(administrator, "default_transaction_isolation = 'serializable'")
    for name in ("lock_timeout", "statement_timeout", "idle_session_timeout"):
        known = "SELECT count(*) = 1 FROM pg_settings WHERE name = $1"
        if await administrator.fetchval(known, name):
            await for_all(administrator, f"{name} = '700ms'")
    engines = [await opened(postgres_url) for _ in range(2)]
    try:
        writes = [
            engines[number % 2].transact(put(f"p{number}"))  # type: ignore[arg-type]
            for number in range(20)
        ]
        await asyncio.gather(*writes)
        async with engines[0]._connections.lend(60.0) as connection:
            for name in ("lock_timeout", "statement_timeout", "idle_session_timeout"):
                said = "SELECT current_setting($1, true)"
                assert await connection.fetchval(said, name) in ("0", None)
            assert await connection.fetchval("SHOW transaction_isolation") == "read committed"
    finally:
        for each in engines:
            await each.close()


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("sslmode=nonsense", "`sslmode` parameter must be one of"),
        ("sslmode=verify-full&sslrootcert=", "root certificate file"),
        ("bogus=1", 'unrecognized configuration parameter "bogus"'),
    ],
)
@pytest.mark.component
async def test_what_the_url_says_wrong_is_named(postgres_url: str, word: str, said: str) -> None:
    with pytest.raises(Unavailable, match="the address of the database cannot be used") as caught:
        await PostgresEngine.open(f"{postgres_url}&{word}", Barrier())
    assert said in caught.value.message


@pytest.mark.component
async def test_a_role_that_may_make_no_tables_is_told_so(
    postgres_url: str, administrator: asyncpg.Connection
) -> None:
    await administrator.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    await for_all(administrator, "search_path = 'nowhere'")
    with pytest.raises(Unavailable) as caught:
        await PostgresEngine.open(postgres_url, Barrier())
    assert "InvalidSchemaNameError (3F000)" in caught.value.message
    assert "create tables" in (caught.value.hint or "")


@pytest.mark.parametrize(("mode", "word"), [("verify-ca", "sslrootcert"), ("require", "sslcert")])
async def test_a_file_of_the_url_that_is_not_there_is_named(
    tmp_path: Path, mode: str, word: str
) -> None:
    (tmp_path / "key").touch()
    url = f"postgresql://a@127.0.0.1:1/a?sslmode={mode}&sslkey={tmp_path}/key"
    with pytest.raises(Unavailable, match=f"{tmp_path}/none: No such file") as caught:
        await PostgresEngine.open(f"{url}&{word}={tmp_path}/none", Barrier())
    assert caught.value.code == "storage-tls"
    # Where none is read it is the server that is not there.
    unused = f"sslmode=disable&{word}={tmp_path}/none"
    with pytest.raises(Unavailable, match="the database cannot be reached") as caught:
        await PostgresEngine.open(f"postgresql://a@127.0.0.1:1/a?{unused}", Barrier())
    assert caught.value.code == "storage-unavailable"


def test_waits_of_libpq_in_the_url_are_passed_over() -> None:
    url = "postgresql://u:p%3F@h/db"
    assert without_waits(url) == url
    assert without_waits(f"{url}?connect_timeout=3") == url
    kept = without_waits(f"{url}?sslmode=require&connect_timeout=3&keepalives_idle=9&host=%2Fa")
    assert kept == f"{url}?sslmode=require&host=%2Fa"


def _verification() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "self-signed certificate"
    return error


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (_verification(), "storage-tls", "its certificate is refused: self-signed certificate"),
        (
            ConnectionError('PostgreSQL server at "h:1" rejected SSL upgrade'),
            "storage-tls",
            "the server has no TLS",
        ),
        (ssl.SSLEOFError(8, "EOF"), "storage-unavailable", "cannot be reached"),
        (ConnectionResetError(), "storage-unavailable", "cannot be reached"),
        (asyncpg.CannotConnectNowError("x"), "storage-unavailable", "cannot be reached"),
        (asyncpg.DuplicatePreparedStatementError("x"), "storage-pooled", "a pooler"),
        (asyncpg.InvalidSQLStatementNameError("x"), "storage-pooled", "a pooler"),
        (asyncpg.TooManyConnectionsError("x"), "storage-connections", "no more connections"),
        (asyncpg.UndefinedTableError("x"), "storage-empty", "no tables of this store"),
        (asyncpg.InsufficientPrivilegeError("x"), "storage-unavailable", "42501"),
    ],
)
def test_what_a_connection_lacks_is_said(error: Exception, code: str, said: str) -> None:
    refusal = refusal_of(error)
    assert isinstance(refusal, Refusal)
    assert refusal.code == code
    assert said in refusal.message


def said(state: type[asyncpg.PostgresError], severity: str) -> asyncpg.PostgresError:
    error = state("x")
    error.severity_en = severity
    return error


@pytest.mark.parametrize(
    ("error", "uncertain"),
    [
        (TimeoutError(), True),
        (ConnectionResetError(), True),
        (asyncpg.ConnectionDoesNotExistError("closed in the middle of operation"), True),
        (asyncpg.InterfaceError("the connection is closed"), True),
        (said(asyncpg.AdminShutdownError, "FATAL"), True),
        # A log that cannot be written to disk: what is in it counts after the start.
        (said(asyncpg.DiskFullError, "PANIC"), True),
        (said(asyncpg.DiskFullError, "ERROR"), False),
        (said(asyncpg.SerializationError, "ERROR"), False),
        (said(asyncpg.IdleInTransactionSessionTimeoutError, "FATAL"), False),
        (Unavailable("storage-standby", "refused"), False),
    ],
)
def test_how_a_commit_ended_says_whether_it_may_be_done(error: Exception, uncertain: bool) -> None:
    assert is_uncertain(error) is uncertain


class Answering:
    """A connection that answers a COMMIT in its own way."""

    def __init__(self, status: str, *said: str) -> None:
        self.status, self.said = status, said
        self.warnings = ["of a statement before"]

    async def execute(self, statement: str) -> str:
        assert statement == "COMMIT"
        self.warnings += self.said
        return self.status


@pytest.mark.parametrize(
    ("answering", "kept"),
    [
        (Answering("COMMIT"), True),
        # What PostgreSQL answers where a statement of the transaction had failed.
        (Answering("ROLLBACK"), False),
        (Answering("COMMIT", "canceling wait for synchronous replication"), False),
    ],
)
async def test_a_commit_counts_when_it_is_one_and_nothing_is_said_of_it(answering, kept) -> None:
    if kept:
        await commit(answering, 60.0)
        return
    with pytest.raises(Unavailable) as caught:
        await commit(answering, 60.0)
    assert caught.value.code == "storage-unconfirmed"
