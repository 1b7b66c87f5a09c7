"""A real server process: killed while it writes, its database killed, stopped and started under
it, and left without a place for its audit log."""

import asyncio
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from strongroom.app.cluster.control_plane import free_port
from strongroom.app.dev.postgres import ThrowawayPostgres
from strongroom.app.server import prepare, run_worker
from strongroom.app.store_config.flags import ServerOptions
from strongroom.app.waiting import until
from strongroom.model.clock import SystemClock
from strongroom.model.errors import Unavailable
from strongroom.wire.client import HttpClient

KILLS = {"sqlite": 200, "postgres": 25}
WRITERS = 8
CLOCK = SystemClock()
# Children are forked from a process that has the imports behind it: a start costs milliseconds.
FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["strongroom.app.server", "uvloop"])


class Server:
    """One data folder, started and killed over and over."""

    def __init__(
        self,
        folder: Path,
        http: HttpClient,
        *,
        audit_file: Path | None = None,
        database: str = "",
    ) -> None:
        self.options = ServerOptions(
            data=folder / "data", host="127.0.0.1", port=free_port(),
            seal_key_file=folder / "key", audit_file=audit_file or folder / "audit.log", tls=None,
            database=database,
        )  # fmt: skip
        self.http = http
        self.root = ""
        self.process: BaseProcess | None = None

    async def start(self) -> None:
        if not self.root:
            token = await prepare(self.options.settings, CLOCK)
            self.root = token.reveal_text()
        self.process = FORK.Process(target=run_worker, args=(self.options.settings,), daemon=True)
        self.process.start()

        async def serves() -> bool | None:
            assert self.process.is_alive()
            reply = await self.http.request("GET", self.url("sys/health"))
            return True if reply.status == 200 else None

        await until("the server", serves, CLOCK)

    def kill(self) -> None:
        if self.process is not None:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.join()
            self.process = None

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.options.port}/v1/{path}"

    async def ask(self, method: str, path: str, body: object = None) -> tuple[int, dict]:
        content = None if body is None else json.dumps(body).encode()
        reply = await self.http.request(
            method, self.url(path), headers={"X-Vault-Token": self.root}, body=content
        )
        return reply.status, json.loads(reply.body) if reply.body else {}


@pytest.fixture(params=["sqlite", "postgres"])
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Server]:
    on_postgres = request.param == "postgres"
    url = request.getfixturevalue("postgres_url") if on_postgres else ""
    async with HttpClient() as http:
        made = Server(tmp_path, http, database=url)
        yield made
        made.kill()


@pytest.fixture
def own_postgres() -> Iterator[ThrowawayPostgres]:
    """A PostgreSQL that this test may harm; durable, as in production."""
    folder = Path(tempfile.mkdtemp(prefix="sr-pg-"))
    made = ThrowawayPostgres(folder)
    made.start()
    yield made
    made.resume()
    made.kill()
    shutil.rmtree(folder, ignore_errors=True)


def value(writer: int, number: int) -> dict[str, str]:
    """Large enough to cross database pages, and whole only when both ends agree."""
    return {
        "first": f"{writer}-{number}",
        "filler": "x" * (number * 97 % 9000),
        "last": f"{writer}-{number}",
    }


async def write_until_it_dies(
    server: Server, writer: int, sent: dict[int, int], acked: dict[int, int], ids: list[str]
) -> None:
    while True:
        number = sent.get(writer, 0) + 1
        sent[writer] = number
        try:
            status, reply = await server.ask(
                "POST", f"secret/data/kill/{writer}", {"data": value(writer, number)}
            )
        except (Unavailable, OSError, ValueError):
            return
        if status != 200:
            return
        acked[writer] = number
        ids.append(reply["request_id"])


async def nothing_is_lost(server: Server, sent: dict[int, int], acked: dict[int, int]) -> None:
    """What was acknowledged is there; what was not is there as a whole or not at all."""
    for writer, number in sent.items():
        status, reply = await server.ask("GET", f"secret/data/kill/{writer}")
        if status == 404:
            assert writer not in acked
            continue
        assert status == 200
        data = reply["data"]["data"]
        found = int(data["first"].split("-")[1])
        assert acked.get(writer, 0) <= found <= number
        assert data == value(writer, found)
        acked[writer] = sent[writer] = found


@pytest.mark.component
@pytest.mark.timeout(300)
async def test_killed_over_and_over_it_loses_nothing_it_acknowledged(server: Server) -> None:
    chance = random.Random(20261124)
    sent: dict[int, int] = {}
    acked: dict[int, int] = {}
    ids: list[str] = []
    kills = KILLS["postgres" if server.options.database else "sqlite"]
    for _ in range(kills):
        await server.start()
        await nothing_is_lost(server, sent, acked)
        tasks = [
            asyncio.create_task(write_until_it_dies(server, each, sent, acked, ids))
            for each in range(WRITERS)
        ]
        await CLOCK.sleep(chance.uniform(0.001, 0.04))
        server.kill()
        await asyncio.gather(*tasks)
    # Enough to lose, however busy the machine was.
    assert len(ids) > kills // 5
    recorded = server.options.audit_file.read_bytes()
    assert all(each.encode() in recorded for each in ids)


async def write_on(
    server: Server,
    writer: int,
    sent: dict[int, int],
    acked: dict[int, int],
    stop: asyncio.Event,
) -> None:
    """Write until told to stop; a refusal is followed by the next number."""
    while not stop.is_set():
        number = sent[writer] = sent.get(writer, 0) + 1
        body = {"data": value(writer, number)}
        status, said = await server.ask("POST", f"secret/data/kill/{writer}", body)
        if status == 200:
            acked[writer] = number
        else:
            assert status == 503
            assert "database" in said["errors"][0]
            await CLOCK.sleep(0.02)


async def harm_while_writing(
    server: Server, rounds: int, harm: Callable[[], Awaitable[None]]
) -> None:
    """Writers go on while the database is harmed; then all of them get through again."""
    sent: dict[int, int] = {}
    acked: dict[int, int] = {}
    await server.start()
    for _ in range(rounds):
        stop = asyncio.Event()
        before = dict(acked)
        tasks = [
            asyncio.create_task(write_on(server, each, sent, acked, stop))
            for each in range(WRITERS)
        ]
        await harm()
        broken = dict(acked)

        async def recovered(broken: dict[int, int] = broken) -> bool | None:
            past = [acked.get(each, 0) > broken.get(each, 0) for each in range(WRITERS)]
            return True if all(past) else None

        await until("the node to write again by itself", recovered, CLOCK)
        stop.set()
        await asyncio.gather(*tasks)
        assert acked != before
        await nothing_is_lost(server, sent, acked)


@pytest.mark.component
@pytest.mark.timeout(120)
async def test_postgres_killed_or_restarted_under_load_loses_no_acknowledged_write(
    own_postgres: ThrowawayPostgres, tmp_path: Path
) -> None:
    chance = random.Random(20261125)

    async def harm() -> None:
        await CLOCK.sleep(chance.uniform(0.05, 0.3))
        await asyncio.to_thread(chance.choice([own_postgres.kill, own_postgres.stop]))
        await asyncio.to_thread(own_postgres.start)

    async with HttpClient() as http:
        server = Server(tmp_path, http, database=own_postgres.create_database("strongroom"))
        try:
            await harm_while_writing(server, 6, harm)
        finally:
            server.kill()


@pytest.mark.component
@pytest.mark.timeout(120)
async def test_postgres_paused_for_ten_seconds_is_refused_in_time_and_loses_nothing(
    own_postgres: ThrowawayPostgres, tmp_path: Path
) -> None:
    async with HttpClient() as http:
        server = Server(tmp_path, http, database=own_postgres.create_database("strongroom"))

        async def harm() -> None:
            await CLOCK.sleep(0.2)
            own_postgres.pause()
            paused = CLOCK.monotonic()
            assert (await server.ask("GET", "secret/data/kill/0"))[0] == 503
            assert CLOCK.monotonic() - paused < 4
            asked = CLOCK.monotonic()
            for path in ("secret/data/kill/1", "auth/token/lookup-self", "sys/health"):
                assert (await server.ask("GET", path))[0] == 503
            assert CLOCK.monotonic() - asked < 0.5
            await CLOCK.sleep(10 - (CLOCK.monotonic() - paused))
            own_postgres.resume()

        try:
            await harm_while_writing(server, 1, harm)
        finally:
            own_postgres.resume()
            server.kill()


@pytest.mark.component
async def test_without_its_database_a_node_answers_503_at_once_and_comes_back(
    own_postgres: ThrowawayPostgres, tmp_path: Path
) -> None:
    async with HttpClient() as http:
        server = Server(tmp_path, http, database=own_postgres.create_database("strongroom"))
        await server.start()
        try:
            assert (await server.ask("POST", "secret/data/a", {"data": {"k": "v"}}))[0] == 200
            own_postgres.kill()
            began = CLOCK.monotonic()
            for method in ("GET", "POST") * 5:
                body = {"data": {"k": "w"}} if method == "POST" else None
                status, said = await server.ask(method, "secret/data/a", body)
                assert status == 503
                assert "the database cannot be reached" in said["errors"][0]
            assert CLOCK.monotonic() - began < 2
            own_postgres.start()

            async def back() -> bool | None:
                return (await server.ask("GET", "secret/data/a"))[0] == 200 or None

            await until("the node to find its database", back, CLOCK)
            assert (await server.ask("GET", "secret/data/a"))[1]["data"]["data"] == {"k": "v"}
        finally:
            server.kill()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    if os.geteuid() != 0:
        pytest.skip("root is needed to mount a small file system")
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.component
async def test_without_space_for_the_audit_log_nothing_is_served(
    small: Path, server: Server
) -> None:
    server.options = ServerOptions(**{**_fields(server.options), "audit_file": small / "audit.log"})
    await server.start()
    assert (await server.ask("POST", "secret/data/a", {"data": {"k": "before"}}))[0] == 200
    _fill(small / "filler")
    for number in range(200):
        body = {"data": {"k": f"n{number}"}}
        status, said = await asyncio.wait_for(server.ask("POST", "secret/data/a", body), 5)
        if status != 200:
            break
    assert status == 503
    assert "audit" in said["errors"][0]
    for path in ("secret/data/a", "auth/token/lookup-self", "no/such"):
        assert (await asyncio.wait_for(server.ask("GET", path), 5))[0] == 503
    # Probes are answered: the process lives.
    assert (await server.ask("GET", "sys/health"))[0] == 200
    (small / "filler").unlink()
    assert (await server.ask("GET", "secret/data/a"))[0] == 200
    lines = (small / "audit.log").read_bytes().splitlines()
    whole = [line for line in lines if _is_record(line)]
    assert len(lines) - len(whole) <= 1  # The line that was torn by the full disk.
    assert _is_record(lines[-1])


def _fields(options: ServerOptions) -> dict:
    return {name: getattr(options, name) for name in ServerOptions.__slots__}


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as out:
        try:
            while out.write(b"x" * 1024):
                pass
        except OSError:
            return


def _is_record(line: bytes) -> bool:
    try:
        return "type" in json.loads(line)
    except ValueError:
        return False


@pytest.mark.component
async def test_an_audit_device_that_hangs_is_passed_its_deadline_not_waited_for(
    server: Server, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    filler = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    server.options = ServerOptions(**{**_fields(server.options), "audit_file": pipe})
    await server.start()
    try:
        while True:
            os.write(filler, b"x" * 4096)
    except BlockingIOError:
        pass
    assert (await asyncio.wait_for(server.ask("GET", "secret/data/a"), 10))[0] == 503
    # The next ones are refused at once, without another wait.
    assert (await asyncio.wait_for(server.ask("GET", "secret/data/a"), 1))[0] == 503
    os.close(reader)
    os.close(filler)


async def test_an_audit_file_that_cannot_be_opened_is_no_start(tmp_path: Path) -> None:
    async with HttpClient() as http:
        with pytest.raises(Unavailable) as caught:
            await Server(tmp_path, http, audit_file=tmp_path).start()
    assert caught.value.code == "audit-unwritable"
