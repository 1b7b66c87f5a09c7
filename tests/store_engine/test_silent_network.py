"""What a network between the store and PostgreSQL does in the middle of a write."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from tests.store_engine.opened import opened

from strongroom.app.dev.postgres import ThrowawayPostgres
from strongroom.app.waiting import until
from strongroom.model.clock import SystemClock
from strongroom.model.errors import Unavailable
from strongroom.store.assembly import initialise
from strongroom.store.engine._connections import Connections, commit
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.contract import ClusterRow, Transaction
from strongroom.store.engine.postgres import TURN, PostgresEngine
from strongroom.store.seal.cluster import ClusterSeal, SealSetting

pytestmark = pytest.mark.component

CLOCK = SystemClock()
Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


class Network:
    """Between the store and PostgreSQL: it may hold answers back, and cut."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._writers: list[asyncio.StreamWriter] = []
        self._answers = asyncio.Event()
        self._answers.set()
        # No answer comes after this was sent.
        self.silent_after = b""
        self.silent = asyncio.Event()

    @contextlib.asynccontextmanager
    async def between(self, database: str) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        yield f"postgresql://postgres@127.0.0.1:{port}/{database}?sslmode=disable"
        server.close()
        self.cut()

    def cut(self) -> None:
        for each in self._writers:
            each.transport.abort()
        self._writers.clear()
        self.silent_after = b""
        self._answers.set()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await self._connect()
        self._writers += writer, back
        with contextlib.suppress(OSError):
            await asyncio.gather(self._ask(reader, back), self._answer(there, writer))

    async def _ask(self, reader: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        while some := await reader.read(65536):
            if self.silent_after and self.silent_after in some:
                self._answers.clear()
                self.silent.set()
            back.write(some)

    async def _answer(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while some := await there.read(4096):
            await self._answers.wait()
            writer.write(some)


def put(name: str) -> Callable[[Transaction], None]:
    return lambda transaction: transaction.put_policy(name, "text")


async def policies(engine: PostgresEngine) -> list[str]:
    async def asked() -> list[str]:
        return list(engine.view.policy_names())

    return await engine.waiting(asked())


async def has(engine: PostgresEngine, name: str) -> None:
    async def there() -> bool | None:
        return name in await policies(engine) or None

    await until("the write to be there", there, CLOCK)


def by_socket(url: str) -> tuple[Connect, str]:
    place, _, folder = url.partition("?host=")
    return lambda: asyncio.open_unix_connection(f"{folder}/.s.PGSQL.5432"), place.rpartition("/")[2]


async def test_a_write_whose_connection_is_cut_before_its_commit_is_confirmed_is_called_uncertain(
    postgres_url: str,
) -> None:
    connect, database = by_socket(postgres_url)
    network = Network(connect)
    straight = await PostgresEngine.open(postgres_url, opened())
    async with network.between(database) as url:
        engine = await PostgresEngine.open(url, opened())
        try:
            network.silent_after = b"COMMIT"
            write = asyncio.ensure_future(engine.transact(put("a")))
            await network.silent.wait()
            # It was done, and nobody hears of it.
            await has(straight, "a")
            network.cut()
            with pytest.raises(Unavailable, match="ended before the write was confirmed") as caught:
                await write
            assert caught.value.code == "storage-unconfirmed"
            # By itself it goes on.
            await engine.transact(put("b"))
            # What is cut before its commit was asked for was not done.
            network.silent.clear()
            network.silent_after = b"BEGIN"
            write = asyncio.ensure_future(engine.transact(put("c")))
            await network.silent.wait()
            network.cut()
            with pytest.raises(Unavailable, match="cannot be reached") as caught:
                await write
            assert caught.value.code == "storage-unavailable"
            assert await policies(straight) == ["a", "b"]
        finally:
            await engine.close()
            await straight.close()


async def test_the_keys_of_a_new_cluster_are_told_where_its_commit_was_not_confirmed(
    postgres_url: str,
) -> None:
    """They were lost with the connection, and the database belonged to a cluster without keys."""
    connect, database = by_socket(postgres_url)
    network = Network(connect)
    straight = await PostgresEngine.open(postgres_url, opened())
    async with network.between(database) as url:
        barrier = Barrier()
        engine = await PostgresEngine.open(url, barrier)
        seal = ClusterSeal(engine, barrier, SealSetting(), CLOCK)
        try:
            network.silent_after = b"COMMIT"
            init = asyncio.ensure_future(initialise(seal, barrier, CLOCK))
            await network.silent.wait()

            async def row() -> ClusterRow | None:
                return straight.view.cluster()

            await until("the cluster to be there", lambda: straight.waiting(row()), CLOCK)
            network.cut()
            made = await init
            assert made is not None
            assert made[0].certain
            await engine.waiting(seal.give_share(made[0].shares[0].hex()))
            assert not seal.sealed
        finally:
            await engine.close()
            await straight.close()


async def commit_within(connections: Connections, seconds: float) -> None:
    async with connections.lend(seconds) as connection:
        await connection.execute("BEGIN")
        await commit(connection, 60.0)


async def test_a_commit_that_outlasts_the_time_of_its_caller_is_called_uncertain(
    postgres_url: str,
) -> None:
    connect, database = by_socket(postgres_url)
    network = Network(connect)
    async with network.between(database) as url:
        connections = Connections(url, 1)
        try:
            network.silent_after = b"COMMIT"
            with pytest.raises(Unavailable, match="did not confirm the write in time") as caught:
                await commit_within(connections, 0.5)
            assert caught.value.code == "storage-unconfirmed"
        finally:
            await connections.close()


async def write_beside_a_silent_one(
    postgres_url: str, login: str = "postgres", other_login: str = "postgres", *, answered: bool
) -> None:
    """The other waits, and is not refused."""
    connect, database = by_socket(postgres_url)
    network = Network(connect)
    other = await PostgresEngine.open(as_role(postgres_url, other_login), opened())
    async with network.between(database) as url:
        connections = Connections(as_role(url, login), 1)

        async def fall_silent() -> None:
            async with connections.lend(60) as connection:
                await connection.execute(TURN)
                network.silent_after = b"repeat"
                long = "SELECT repeat('x', 1000000) FROM generate_series(1, 50)"
                await (connection.execute if answered else connection.prepare)(long)

        silent = asyncio.create_task(fall_silent())
        try:
            await network.silent.wait()
            await other.transact(put("a"))
        finally:
            network.cut()
            with contextlib.suppress(Unavailable):
                await silent
            await connections.close()
            await other.close()


def as_role(url: str, login: str) -> str:
    return url.replace("//postgres@", f"//{login}@")


@pytest.mark.parametrize("answered", [False, True])
async def test_a_node_that_falls_silent_within_a_statement_loses_its_turn_to_write(
    postgres_url: str, answered: bool
) -> None:
    """It does not ask what it has prepared, or takes no more of an answer."""
    await write_beside_a_silent_one(postgres_url, answered=answered)


@pytest.mark.parametrize("same", [True, False])
async def test_the_turn_is_taken_from_a_login_that_works_as_the_owner_of_the_tables(
    postgres_server: ThrowawayPostgres, postgres_url: str, same: bool
) -> None:
    """As where logins are made anew and thrown away. Another login needs the rights to it."""
    _, database = by_socket(postgres_url)
    owner, logins = f"{database}_owner", (f"{database}_a", f"{database}_b")
    postgres_server.query(f"CREATE ROLE {owner}; ALTER DATABASE {database} OWNER TO {owner}")
    for each in logins:
        postgres_server.query(
            f"CREATE ROLE {each} LOGIN IN ROLE {owner}; ALTER ROLE {each} SET role = {owner}"
        )
    postgres_server.query(f"GRANT pg_signal_backend, pg_read_all_stats TO {logins[1]}")
    # A schema that only the owner's name leads to.
    postgres_server.query(f"CREATE SCHEMA {owner} AUTHORIZATION {owner}", database)
    try:
        await write_beside_a_silent_one(
            postgres_url, logins[0], logins[0 if same else 1], answered=False
        )
    finally:
        postgres_server.query(f"ALTER DATABASE {database} OWNER TO postgres")
        postgres_server.query(f"DROP OWNED BY {owner} CASCADE", database)
        postgres_server.query(f"DROP ROLE {', '.join(logins)}, {owner}")
