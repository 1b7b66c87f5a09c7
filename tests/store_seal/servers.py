"""Server processes started from a Vault configuration file, each a node of one cluster."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from strongroom.app.cluster.control_plane import free_port
from strongroom.app.dev.processes import TIED_TO_PARENT
from strongroom.app.waiting import Hopeless, until
from strongroom.model.clock import SystemClock
from strongroom.model.errors import Refusal
from strongroom.wire.client import HttpClient

CLOCK = SystemClock()


class Server:
    """One process; `text` is its configuration beside the listener."""

    def __init__(self, folder: Path, http: HttpClient, text: str, **environment: str) -> None:
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.http = http
        self.token = ""
        folder.mkdir(exist_ok=True)
        file, self.log = folder / f"{self.port}.hcl", folder / f"{self.port}.log"
        listener = (
            f'listener "tcp" {{ address = "127.0.0.1:{self.port}" tls_disable = true '
            "telemetry { unauthenticated_metrics_access = true } }\n"
        )
        file.write_text(text if "listener" in text else text + "\n" + listener)
        clean = {name: each for name, each in os.environ.items() if not name.startswith("VAULT_")}
        command = [sys.executable, "-m", "strongroom", "server", f"-config={file}"]
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [*TIED_TO_PARENT, *command], cwd=folder, env={**clean, **environment},
                stdout=out, stderr=out,
            )  # fmt: skip

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and JSON; `path` follows `/v1/` unless it begins with a slash."""
        headers = {"X-Vault-Token": self.token} if self.token else {}
        content = None if body is None else json.dumps(body).encode()
        target = path if path.startswith("/") else f"/v1/{path}"
        reply = await self.http.request(
            method, self.address + target, headers=headers, body=content
        )
        if not reply.body or reply.content_type != "application/json":
            return reply.status, reply.body.decode()
        return reply.status, json.loads(reply.body)

    async def until(self, what: str, true: Callable[[], Awaitable[Any]]) -> Any:
        """What `true` returns once it is not false; an ended process ends the wait."""

        async def attempt() -> Any:
            if self.process.poll() is not None:
                raise Hopeless("ended", f"the server has ended: {self.log.read_text()[-2000:]}")
            return await true() or None

        try:
            return await until(what, attempt, CLOCK, seconds=120)
        except Refusal as refusal:
            raise AssertionError(f"{refusal.message}\n{self.log.read_text()[-2000:]}") from None

    async def up(self) -> dict[str, Any]:
        """The seal's status once the server answers."""
        return (await self.until("an answer", lambda: self.ask("GET", "sys/seal-status")))[1]

    async def open(self) -> None:
        """Wait until it has unsealed."""

        async def ready() -> bool:
            return (await self.ask("GET", "/readyz"))[0] == 200

        await self.until("an open store", ready)

    async def waits_for(self, text: str) -> str:
        """What it says that it waits for, once that holds `text`."""

        async def said() -> str:
            found = (await self.ask("GET", "sys/seal-status"))[1].get("waiting_for", "")
            return found if text in found else ""

        return str(await self.until(f"a wait for {text!r}", said))

    async def logs(self, text: str) -> None:
        """Wait until its log holds `text`."""

        async def there() -> bool:
            return text in self.log.read_text()

        await self.until(f"a log line with {text!r}", there)

    def hang_up(self) -> None:
        """SIGHUP."""
        self.process.send_signal(signal.SIGHUP)

    async def stop(self) -> None:
        """SIGTERM, and wait."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            await asyncio.to_thread(self.process.wait, 120)
        finally:
            self.process.kill()
            self.process.wait()


Start = Callable[..., Server]


async def servers(folder: Path) -> AsyncIterator[Start]:
    """For a fixture: starts servers, and ends them with the test."""
    running: list[Server] = []
    async with HttpClient() as http:

        def start(text: str, **environment: str) -> Server:
            running.append(Server(folder, http, text, **environment))
            return running[-1]

        yield start
        await asyncio.gather(*(each.stop() for each in running))
