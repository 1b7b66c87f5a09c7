"""A real server process that tests start, harm and kill, and writers that count what it acknowledged."""

import asyncio
import json
import multiprocessing
import os
import re
import signal
from collections.abc import Awaitable, Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

from strongroom.app.before_start import prepare
from strongroom.app.cluster.control_plane import free_port
from strongroom.app.server import run_worker
from strongroom.app.store_config.flags import ServerOptions
from strongroom.app.waiting import until
from strongroom.model.clock import SystemClock
from strongroom.model.errors import Unavailable
from strongroom.wire.client import HttpClient

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

    async def start(self, target: Callable[..., None] = run_worker, *more: object) -> None:
        """`target` is what runs in the process, with the settings and `more`."""
        await self.prepare()
        self.process = FORK.Process(target=target, args=(self.options.settings, *more), daemon=True)
        self.process.start()

        async def serves() -> bool | None:
            assert self.process.is_alive()
            reply = await self.http.request("GET", self.url("sys/health"))
            return True if reply.status == 200 else None

        await until("the server", serves, CLOCK)

    async def prepare(self) -> None:
        """What a command does before its first worker: the database, and a cluster in it."""
        token = await prepare(self.options.settings, CLOCK)
        if token is not None:
            self.root = token.reveal_text()

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


class Relay:
    """Stands between a client and a server that is killed within one request.

    The first request with a method of `fatal` is the one: `done` says whether the server gets it,
    and has done it, before it is killed.
    """

    def __init__(self, server: Server, *, done: bool) -> None:
        self.server, self.done = server, done
        self.fatal: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while not self.fatal:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: (\d+)", head)
                request = head + await reader.readexactly(int(length[1]) if length else 0)
                looks = head.startswith(b"GET ")
                if not looks:
                    self.fatal.append(head.partition(b" HTTP")[0])
                if looks or self.done:
                    answer = await self._answer(request)
                    if looks:
                        writer.write(answer)
        except asyncio.IncompleteReadError:
            pass
        if self.fatal:
            self.server.kill()
        writer.close()

    async def _answer(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.options.port)
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        answer = head + await reader.readexactly(int(length[1]) if length else 0)
        writer.close()
        return answer


def value(writer: int, number: int) -> dict[str, str]:
    """Large enough to cross database pages, and whole only when both ends agree."""
    return {
        "first": f"{writer}-{number}",
        "filler": "x" * (number * 97 % 9000),
        "last": f"{writer}-{number}",
    }


async def write_until_it_dies(
    server: Server,
    writer: int,
    sent: dict[int, int],
    acked: dict[int, int],
    ids: list[str],
    told: list[Unavailable],
) -> None:
    while True:
        number = sent.get(writer, 0) + 1
        sent[writer] = number
        try:
            status, reply = await server.ask(
                "POST", f"secret/data/kill/{writer}", {"data": value(writer, number)}
            )
        except Unavailable as error:
            told.append(error)
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


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as out:
        try:
            while out.write(b"x" * 1024):
                pass
        except OSError:
            return
