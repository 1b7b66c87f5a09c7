"""A real API server with the plugin, configured the way people write it, and the traps it leaves."""

import json
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from strongroom.app.cluster.binaries import resolve
from strongroom.app.cluster.control_plane import ControlPlane
from strongroom.app.dev.processes import Processes
from strongroom.app.waiting import until
from strongroom.encrypt.kms.plugin import ask_status
from strongroom.kube.client import KubeClient
from strongroom.kube.resource import SECRETS
from strongroom.model.clock import SystemClock

CLOCK = SystemClock()
PROVIDER = "kms: {{apiVersion: v2, name: strongroom, endpoint: 'unix://{socket}'}}"
CONFIG = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources: [{{resources: [secrets], providers: [{providers}]}}]\n"


@pytest.fixture
async def bed() -> AsyncIterator[tuple[ControlPlane, Processes, Path]]:
    with (
        tempfile.TemporaryDirectory(prefix="sr-", ignore_cleanup_errors=True) as name,
        Processes(Path(name) / "logs") as processes,
    ):
        folder = Path(name)
        processes.strongroom(
            "kms",
            "kms",
            "serve",
            "--socket",
            str(folder / "kms.sock"),
            "--key-file",
            str(folder / "key"),
            "--state",
            str(folder / "state"),
            "--create-key",
        )

        async def up() -> bool | None:
            processes.check("kms")
            return True if (await ask_status(folder / "kms.sock")).healthz == "ok" else None

        await until("the plugin", up, CLOCK)
        control = ControlPlane(folder / "c", resolve(), processes, CLOCK)
        control.controllers = False  # Nothing here needs them.
        yield control, processes, folder
        control.kill_apiservers()


def config(folder: Path, *providers: str) -> Path:
    text = ", ".join("{" + each.format(socket=folder / "kms.sock") + "}" for each in providers)
    path = folder / f"encryption-{abs(hash(text))}.yaml"
    path.write_text(CONFIG.format(providers=text))
    return path


def prove(control: ControlPlane, folder: Path) -> tuple[int, dict]:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "strongroom",
            "encrypt",
            "prove",
            "--etcd",
            control.etcd_url,
            "--kms-socket",
            str(folder / "kms.sock"),
            "--provider",
            "strongroom",
            "--format",
            "json",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "marked-value" not in done.stdout + done.stderr
    return done.returncode, json.loads(done.stdout)


async def put(control: ControlPlane, name: str) -> None:
    async with KubeClient(control.config(), CLOCK) as api:
        item = {
            "metadata": {"name": name, "namespace": "default"},
            "stringData": {"k": "marked-value"},
        }
        await api.create(SECRETS, item)


@pytest.mark.cluster
@pytest.mark.timeout(900)
async def test_secrets_from_before_and_from_an_identity_first_time_are_found(bed) -> None:
    control, _, folder = bed
    await control.start()
    await put(control, "before")
    await control.restart_apiserver(config(folder, PROVIDER, "identity: {{}}"))
    await put(control, "after")
    status, proof = prove(control, folder)
    verdicts = {each["name"]: each["verdict"] for each in proof["secrets"]}
    assert (status, verdicts["before"], verdicts["after"]) == (3, "plaintext", "ok")
    await control.restart_apiserver(config(folder, "identity: {{}}", PROVIDER))
    await put(control, "while-identity-first")
    status, proof = prove(control, folder)
    verdicts = {each["name"]: each["verdict"] for each in proof["secrets"]}
    assert (status, verdicts["while-identity-first"]) == (3, "plaintext")
    await control.restart_apiserver(config(folder, PROVIDER, "identity: {{}}"))
    listing = control.kubectl("get", "secrets", "-A", "-o", "json")
    control.kubectl("replace", "-f", "-", stdin=listing)
    status, proof = prove(control, folder)
    assert status == 0
    assert proof["holds"]
    assert {each["verdict"] for each in proof["secrets"]} == {"ok"}
    assert control.kubectl("get", "secret", "before", "-o", "jsonpath={.data.k}")
