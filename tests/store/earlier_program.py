"""The program of an earlier commit, out of the history of this repository, as a server process."""

import ast
import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from strongroom.app.cluster.control_plane import free_port
from strongroom.app.dev.processes import STOP_SECONDS, TIED_TO_PARENT
from strongroom.app.waiting import Hopeless, until
from strongroom.model.clock import SystemClock
from strongroom.store.engine.schema import STEPS
from strongroom.wire.client import HttpClient

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = "src/strongroom/store/engine/schema.py"
CLOCK = SystemClock()


def git(*words: str) -> bytes:
    """What git answers in this repository; raises OSError where it does not."""
    done = subprocess.run(["git", "-C", str(ROOT), *words], check=False, capture_output=True)
    if done.returncode:
        raise OSError(done.stderr.decode(errors="replace").strip())
    return done.stdout


def steps_at(commit: str) -> int:
    """How many steps of the schema the program of a commit knows."""
    for each in ast.parse(git("show", f"{commit}:{SCHEMA}")).body:
        if isinstance(each, ast.AnnAssign) and ast.unparse(each.target) == "STEPS":
            assert isinstance(each.value, ast.Tuple)
            return len(each.value.elts)
    raise AssertionError(f"{commit} has no STEPS")


def commit_before_the_newest_step() -> str:
    """The last commit whose program knows fewer steps than this one; skips where it is not."""
    try:
        changes = git("log", "--format=%H", "--", SCHEMA).decode().split()
        for commit in ("HEAD", *(f"{each}^" for each in changes)):
            if steps_at(commit) < len(STEPS):
                return git("rev-parse", commit).decode().strip()
    except OSError as error:
        pytest.skip(f"the program of before the newest step of the schema is not here: {error}")
    pytest.skip("the history has no commit before the newest step of the schema")


def source_of(commit: str, folder: Path) -> Path:
    """What a commit has of `src`, put into a folder; where it can be imported from."""
    folder.mkdir()
    packed = git("archive", "--format=tar", commit, "src")
    subprocess.run(["tar", "-x", "-C", str(folder)], input=packed, check=True)
    return folder / "src"


@dataclass
class Node:
    """`strongroom server` of the sources in `source`, with a data folder, perhaps a shared one."""

    name: str
    source: Path
    data: Path
    key: Path
    http: HttpClient
    database: str = ""
    root: str = ""
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Returns once it serves; raises Hopeless with the end of its log when it ends."""
        self._begin(self._log)

        async def serves() -> bool | None:
            if self.process is None or self.process.poll() is not None:
                said = self._log.read_text(errors="replace")[-2000:]
                raise Hopeless("process-ended", f"{self.name} ended: {said}")
            return (await self.ask("GET", "sys/health"))[0] == 200 or None

        await until(f"{self.name} to serve", serves, CLOCK)
        if not self.root:
            self.root = (self.data / "root-token").read_text().strip()

    @property
    def _log(self) -> Path:
        return self.data.with_name(f"{self.name}.log")

    def _begin(self, log: Path) -> None:
        database = ("--database", self.database) if self.database else ()
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [
                    *(*TIED_TO_PARENT, sys.executable, "-m", "strongroom", "server"),
                    *("--workers", "1", "--listen", f"127.0.0.1:{self.port}"),
                    *("--data", self.data, "--seal-key-file", self.key, *database),
                ],
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": str(self.source)}, start_new_session=True,
            )  # fmt: skip

    def kill(self) -> None:
        """End it and its workers where they are."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Tell it to end, and wait until it has."""
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)
        self.process.wait(10 * STOP_SECONDS)
        self.process = None

    async def ask(
        self, method: str, path: str, body: object = None, *, token: str = "", **headers: str
    ) -> tuple[int, Any]:
        """Status and JSON; as root unless another token is named."""
        reply = await self.http.request(
            method,
            f"http://127.0.0.1:{self.port}/v1/{path}",
            headers={"X-Vault-Token": token or self.root, **headers},
            body=None if body is None else json.dumps(body).encode(),
        )
        return reply.status, json.loads(reply.body) if reply.body else {}

    async def done(self, method: str, path: str, body: object = None, **more: Any) -> Any:
        """What a request that is served is answered."""
        status, said = await self.ask(method, path, body, **more)
        assert status < 300, (self.name, method, path, status, said)
        return said
