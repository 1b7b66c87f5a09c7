"""`script/dev` as a new user runs it: the tour on a real cluster, then Ctrl-C, and nothing is left."""

import asyncio
import base64
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from strongroom.app.cluster.control_plane import ControlPlane
from strongroom.app.cluster.node import missing_capabilities
from strongroom.app.waiting import Hopeless, until
from strongroom.model.clock import SystemClock
from strongroom.model.secret import Secret
from strongroom.wire.client import HttpClient
from strongroom.wire.vault import VaultClient

ROOT = Path(__file__).resolve().parents[2]
CLOCK = SystemClock()
TITLES = ("Store", "Encrypt", "Sync", "Deliver", "Rotate", "Audit")
API_PATH = "secret/data/prod/db"


@pytest.fixture
def folder() -> Iterator[Path]:
    # Short, because unix sockets lie in it.
    path = Path(tempfile.mkdtemp(prefix="sr-dev-"))
    yield path / "d"
    shutil.rmtree(path, ignore_errors=True)


class Session:
    """A running `script/dev`."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path, output: Path) -> None:
        self.process = process
        self.folder = folder
        self.output = output

    def said(self) -> str:
        return self.output.read_text(errors="replace")

    async def says(self, text: str, seconds: float) -> None:
        async def there() -> bool | None:
            if self.process.returncode is not None:
                raise Hopeless("ended", self.said()[-3000:])
            return True if text in self.said() else None

        await until(repr(text), there, CLOCK, seconds=seconds)

    async def interrupt(self) -> int:
        os.killpg(self.process.pid, signal.SIGINT)
        return await asyncio.wait_for(self.process.wait(), 240)


async def start(folder: Path, *words: str) -> Session:
    output = folder.parent / "output"
    with output.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *("bash", str(ROOT / "script/dev"), "--folder", str(folder), *words),
            stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    return Session(process, folder, output)


@pytest.fixture
async def session(folder: Path, request: pytest.FixtureRequest) -> AsyncIterator[Session]:
    running = await start(folder, *getattr(request, "param", ()))
    yield running
    if running.process.returncode is None:
        await running.interrupt()


def left_behind(folder: Path) -> list[str]:
    """Processes and mounts that still name the folder."""
    found = [line for line in Path("/proc/mounts").read_text().splitlines() if str(folder) in line]
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                words = (process / "cmdline").read_bytes()
            except OSError:
                continue
            if str(folder).encode() in words:
                found.append(words.replace(b"\0", b" ").decode(errors="replace"))
    return found


@pytest.mark.component
@pytest.mark.parametrize("session", [("--store-only",)], indirect=True)
@pytest.mark.timeout(600)
async def test_the_store_is_up_at_once_and_its_three_lines_work(session: Session) -> None:
    await session.says("Ctrl-C ends it", 180)
    lines = re.findall(r"^  (\S.*)$", session.said(), re.M)
    assert len(lines) == 3
    assert (session.folder / "store/root-token").stat().st_mode & 0o777 == 0o600
    script = "\n".join(
        [
            *lines,
            lines[-1].replace(
                "put secret/prod/first password=s3cret", "get -field password secret/prod/first"
            ),
        ]
    )
    shell = await asyncio.create_subprocess_exec(
        "bash", "-euc", script, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await shell.communicate()
    assert shell.returncode == 0, err
    assert out.endswith(b"s3cret")
    token = (session.folder / "store/root-token").read_text().strip()
    assert token not in session.said()
    assert await session.interrupt() == 0
    assert left_behind(session.folder) == []


@pytest.fixture
def node_here(cluster: ControlPlane, lone_kubelet: None) -> None:
    missing = missing_capabilities(cluster)
    if missing:
        if os.environ.get("CI") and os.environ.get("STRONGROOM_ALLOW_NO_NODE") != "1":
            pytest.fail("; ".join(missing))
        pytest.skip("; ".join(missing))


async def every_value(session: Session) -> list[str]:
    """Each password that the secret ever had, read back from the store itself."""
    address = re.search(r"VAULT_ADDR=(\S+)", session.said())
    assert address
    token = Secret((session.folder / "store/root-token").read_text().strip())
    async with HttpClient() as http:
        store = VaultClient(address[1], token, http)
        metadata = await store.kv2_metadata("secret", "prod/db")
        numbers = sorted(int(number) for number in metadata["versions"])
        await store.request("POST", "secret/undelete/prod/db", {"versions": numbers})
        values = [
            (await store.kv2_read("secret", "prod/db", each)).data["password"] for each in numbers
        ]
        metrics = await http.request(
            "GET",
            f"{address[1]}/v1/sys/metrics?format=prometheus",
            headers={"X-Vault-Token": token.reveal_text()},
        )
    (session.folder / "metrics").write_bytes(metrics.body)
    assert b"strongroom" in metrics.body or b"vault" in metrics.body
    return [*values, token.reveal_text()]


def cluster_objects(session: Session) -> bytes:
    """Everything that people can read in the cluster but Secrets: Events, status, logs."""
    kubeconfig = str(session.folder / "cluster/admin.kubeconfig")
    found = re.search(r"^kubectl: (\S+);", session.said(), re.M)
    assert found
    kinds = "events,externalsecrets,secretstores,pods,configmaps,serviceaccounts"
    shown = b""
    for words in (
        ["get", kinds, "-A", "-o", "json"],
        ["get", "externalsecrets,secretstores", "-A", "-o", "yaml"],
        ["logs", "app", "-n", "tour", "--all-containers"],
    ):
        shown += subprocess.run(
            [found[1], "--kubeconfig", kubeconfig, *words], capture_output=True, check=True
        ).stdout
    return shown


@pytest.mark.node
@pytest.mark.timeout(1500)  # another may have the kubelet first
async def test_the_tour_shows_six_steps_leaks_nothing_and_leaves_nothing(
    node_here, session: Session
) -> None:
    await session.says("Everything stays up", 720)
    said = session.said()
    assert re.findall(r"^(\d)\. (\w+)", said, re.M) == [
        (str(number), title) for number, title in enumerate(TITLES, 1)
    ]
    assert "NOT PROVED" in said
    assert "PROVED: 2 ok" in said
    assert re.search(r"DriftRepaired: .*changed password by admin \(patch, kubectl", said)
    # It looks by itself once an hour: the feed brought it.
    assert float(re.search(r"in the Secret ([\d.]+) s after", said)[1]) < 60.0
    assert re.search(r"tmpfs /secrets tmpfs ro,", said)
    assert "restarts: 0" in said
    assert "every consumer moved; deleted versions 1, 2, 3" in said
    assert re.search(r"tour/app .* app .* node1 .* token id", said)
    assert "What this does not see" in said
    # The canary: no value the secret ever had, in any form, where people or programs look.
    shown = cluster_objects(session)
    values = await every_value(session)
    assert len(set(values)) == len(values) == 5
    texts = {
        "output": said.encode(),
        "cluster": shown,
        "metrics": (session.folder / "metrics").read_bytes(),
    }
    for path in [
        *session.folder.glob("logs/*"),
        *session.folder.glob("store/*"),
        *session.folder.glob("cluster/*.log"),
        *session.folder.glob("*.json"),
    ]:
        if path.is_file() and path.name != "root-token":
            texts[str(path)] = path.read_bytes()
    assert len(texts) > 10
    for value in values:
        for form in (
            value.encode(),
            base64.b64encode(value.encode()),
            json.dumps(value).encode()[1:-1],
        ):
            for name, text in texts.items():
                assert form not in text, f"a secret value stands in {name}"
    assert b"hmac-sha256:" in texts[str(session.folder / "store/audit.log")]
    assert await session.interrupt() == 0
    assert left_behind(session.folder) == []
