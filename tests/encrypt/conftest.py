"""A control plane, plugins and the command line, for tests against real API servers."""

import asyncio
import base64
import contextlib
import io
import json
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from strongroom.app.cluster.binaries import resolve
from strongroom.app.cluster.control_plane import ControlPlane, free_port
from strongroom.app.dev.processes import Processes
from strongroom.app.main import main
from strongroom.app.waiting import until
from strongroom.crypto.keyfile import create_key_file
from strongroom.encrypt.check.api_metrics import Sample, parse
from strongroom.encrypt.kms.plugin import ask_status
from strongroom.kube.client import KubeClient
from strongroom.kube.config import KubeConfig
from strongroom.kube.resource import SECRETS
from strongroom.model.clock import SystemClock
from strongroom.model.errors import Unavailable
from strongroom.wire.client import HttpClient

CLOCK = SystemClock()
HEAD = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n"
IDENTITY = "{identity: {}}"
MARKED = "marked-value"


class Lab:
    """A control plane, plugins by number, and the command line."""

    def __init__(self, folder: Path, processes: Processes) -> None:
        self.folder = folder
        self.processes = processes
        self.pages: dict[int, int] = {}
        self.control = ControlPlane(folder / "c", resolve(), processes, CLOCK)
        self.control.controllers = False  # Nothing here needs them.

    def socket(self, number: int = 1) -> Path:
        return self.folder / f"kms{number}.sock"

    def page(self, number: int = 1) -> int:
        return self.pages.setdefault(number, free_port())

    def config_file(self, number: int = 1, **changes) -> Path:
        path = self.folder / f"kms{number}.yaml"
        given = {
            "socket": str(self.socket(number)),
            "state": str(self.folder / f"state{number}.json"),
            "listen": f"127.0.0.1:{self.page(number)}",
            "backends": [
                {"name": "file", "type": "key_file", "path": str(self.folder / "kms.key")}
            ],
        }
        path.write_text(json.dumps({**given, **changes}))
        return path

    def start_plugin(self, number: int = 1, **changes) -> None:
        if not (self.folder / "kms.key").exists():
            create_key_file(self.folder / "kms.key")
        self.processes.strongroom(
            f"kms{number}", "kms", "serve", "--config", str(self.config_file(number, **changes))
        )

    async def plugin_is_ready(self, number: int = 1) -> None:
        async def ready() -> bool | None:
            self.processes.check(f"kms{number}")
            return True if (await ask_status(self.socket(number))).healthz == "ok" else None

        await until("the plugin", ready, CLOCK, seconds=240)

    async def plugin_says(self, word: str) -> None:
        """Wait until it listens and refuses with this word."""

        async def said() -> bool | None:
            self.processes.check("kms1")
            try:
                await ask_status(self.socket())
            except Unavailable as refusal:
                return True if word in refusal.message else None
            return None

        await until(f"the plugin to say {word!r}", said, CLOCK, seconds=240)

    async def plugin(self, number: int = 1, **changes) -> None:
        self.start_plugin(number, **changes)
        await self.plugin_is_ready(number)

    def kms(self, name: str = "strongroom", number: int = 1) -> str:
        return (
            f"{{kms: {{apiVersion: v2, name: {name}, endpoint: 'unix://{self.socket(number)}'}}}}"
        )

    def encryption(self, *entries: tuple[str, list[str]], name: str = "e.yaml") -> Path:
        path = self.folder / name
        path.write_text(
            HEAD
            + "".join(
                f"- {{resources: [{resources}], providers: [{', '.join(providers)}]}}\n"
                for resources, providers in entries
            )
        )
        path.chmod(0o600)
        return path

    async def run(self, *words: str) -> tuple[int, str]:
        """The command line in this process; its status, and what it printed."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = await asyncio.wait_for(asyncio.to_thread(main, words), 600)
        text = out.getvalue() + err.getvalue()
        assert MARKED not in text
        return status, out.getvalue() or text

    async def run_beside(self, *words: str) -> tuple[int, str]:
        """The same in a process of its own, while the test does something else."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "strongroom", *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(), 600)
        text = out.decode() + err.decode()
        assert MARKED not in text
        return process.returncode or 0, out.decode() or text

    async def prove(self, *words: str) -> tuple[int, dict]:
        status, said = await self.run(
            "encrypt", "prove", "--etcd", self.control.etcd_url, "--format", "json", *words
        )
        return status, json.loads(said)

    async def verdicts(self, *words: str) -> dict[str, str]:
        return {each["name"]: each["verdict"] for each in (await self.prove(*words))[1]["secrets"]}

    async def check(self, *configs: Path | None, urls: tuple[str, ...] = ()) -> dict[str, str]:
        """Worst severity by check id, live; a configuration for each server."""
        words = ["--etcd", self.control.etcd_url, "--format", "json", "--live", *self.kubeconfig]
        for number, config in enumerate(configs):
            line = self.folder / f"cmdline{number}"
            flag = f" --encryption-provider-config={config}" if config else ""
            line.write_text("kube-apiserver" + flag)
            words += ["--manifest", str(line)]
        words += [word for url in urls for word in ("--api-server", url)]
        _, said = await self.run("encrypt", "check", *words)
        order = {"note": 0, "warning": 1, "error": 2}
        found: dict[str, str] = {}
        for each in json.loads(said)["findings"]:
            found[each["check"]] = max(
                found.get(each["check"], "note"), each["severity"], key=order.__getitem__
            )
        return found

    @property
    def kubeconfig(self) -> tuple[str, str]:
        return "--kubeconfig", str(self.control.kubeconfig)

    async def metrics(self, config: KubeConfig | None = None) -> tuple[Sample, ...]:
        async with KubeClient(config or self.control.config(), CLOCK) as api:
            return parse((await api.raw("/metrics")).decode())

    async def plant(self, key: str, value: bytes) -> None:
        """What an attacker who reaches etcd does."""
        pair = {"key": key.encode(), "value": value}
        body = json.dumps({name: base64.b64encode(each).decode() for name, each in pair.items()})
        async with HttpClient() as http:
            url = f"{self.control.etcd_url}/v3/kv/put"
            assert (await http.request("POST", url, body=body.encode())).status == 200

    async def put(self, name: str, config: KubeConfig | None = None, resource=SECRETS) -> None:
        async with KubeClient(config or self.control.config(), CLOCK) as api:
            field = (
                {"stringData": {"k": MARKED}} if resource is SECRETS else {"data": {"k": MARKED}}
            )
            await api.create(
                resource, {"metadata": {"name": name, "namespace": "default"}, **field}
            )

    async def get(self, name: str, config: KubeConfig | None = None) -> str:
        async with KubeClient(config or self.control.config(), CLOCK) as api:
            return base64.b64decode((await api.get(SECRETS, name, "default"))["data"]["k"]).decode()


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    with (
        tempfile.TemporaryDirectory(prefix="sr-", ignore_cleanup_errors=True) as name,
        Processes(Path(name) / "logs") as processes,
    ):
        made = Lab(Path(name), processes)
        yield made
        made.control.kill_apiservers()
