"""External Secrets Operator's own files, and a real API server that has its definitions."""

import json
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from strongroom.app.cluster.binaries import cache_folder, go_toolchain, resolve
from strongroom.app.cluster.control_plane import ControlPlane, free_port
from strongroom.app.dev.processes import Processes
from strongroom.app.waiting import until
from strongroom.kube.api import KubeApi
from strongroom.kube.client import KubeClient
from strongroom.kube.resource import CRDS, Object
from strongroom.model.clock import SystemClock
from strongroom.sync.crds import crds
from strongroom.wire.client import HttpClient

MODULE = "github.com/external-secrets/external-secrets"
# As a go.sum has them, so that nothing else is ever taken for them.
SUMS = {
    "v1.3.2": "h1:u2J8RjlHIeF0oZCqtl92adI/uZWUwOesJIDkfql6LqQ=",
    "v0.16.2": "h1:iNY+gIgSyL5higXTfnz+hdPCaiB/43UiHLqE7HBpj68=",
}
DEFINITIONS = "config/crds/bases"
CLOCK = SystemClock()


def sources(version: str) -> Path:
    """The folder of one version's Go module, from the module cache or the module proxy."""
    done = subprocess.run(
        [go_toolchain(cache_folder().parent), "mod", "download", "-json", f"{MODULE}@{version}"],
        cwd=tempfile.gettempdir(),
        env={**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=mod"},
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads(done.stdout or "{}")
    if done.returncode or found.get("Error"):
        said = f"{MODULE}@{version} cannot be fetched: {found.get('Error') or done.stderr}"
        if os.environ.get("CI"):
            pytest.fail(said)
        pytest.skip(said)
    assert found["Sum"] == SUMS[version]
    return Path(found["Dir"])


def definitions(folder: Path) -> list[Object]:
    """The definitions in a folder of one file each."""
    read = (
        yaml.load(path.read_bytes(), yaml.CSafeLoader) for path in sorted(folder.glob("*.yaml"))
    )
    return [each for each in read if each["kind"] == "CustomResourceDefinition"]


async def install(api: KubeApi, found: list[Object], manager: str = "their-installer") -> None:
    """Apply definitions and wait until each is served."""
    for each in found:
        await api.apply(CRDS, each, manager)

    async def served() -> bool | None:
        states = [
            {one["type"]: one["status"] for one in (each["status"].get("conditions") or [])}
            for each in (await api.list(CRDS)).items
        ]
        return True if all(each.get("Established") == "True" for each in states) else None

    await until("their definitions", served, CLOCK, seconds=240)


@dataclass(frozen=True)
class Theirs:
    """An API server with their definitions, and what starts operators beside it."""

    control: ControlPlane
    processes: Processes


@pytest.fixture(scope="session")
def eso() -> Path:
    """The module whose definitions and documents are checked."""
    return sources("v1.3.2")


@pytest.fixture(scope="session")
def theirs(eso: Path, background) -> Iterator[Theirs]:
    """A cluster of its own, for every other test installs our definitions in theirs' place."""
    if not os.environ.get("CI") and not (cache_folder() / "kube-apiserver").exists():
        pytest.skip("the cluster binaries are not built; script/test builds them")
    with (
        tempfile.TemporaryDirectory(prefix="sr-", ignore_cleanup_errors=True) as folder,
        Processes(Path(folder) / "logs") as processes,
    ):
        control = ControlPlane(Path(folder), resolve(), processes, CLOCK)
        background(control.start())

        async def prepare() -> None:
            async with KubeClient(control.config(), CLOCK) as api:
                await install(api, definitions(eso / DEFINITIONS))

        background(prepare())
        yield Theirs(control, processes)


@pytest.fixture(scope="session")
def their_definitions(eso: Path) -> list[Object]:
    """The definitions of that module."""
    return definitions(eso / DEFINITIONS)


@pytest.fixture
def install_older() -> Callable[[ControlPlane], Awaitable[None]]:
    """Installs the definitions of the version whose program can be built."""
    found = definitions(sources("v0.16.2") / DEFINITIONS)

    async def run(control: ControlPlane) -> None:
        async with KubeClient(control.config(), CLOCK) as api:
            await install(api, found)

    return run


@pytest.fixture
async def with_ours(cluster: ControlPlane) -> ControlPlane:
    """The cluster of all tests, with our definitions."""
    async with KubeClient(cluster.config(), CLOCK) as api:
        await install(api, crds(), "strongroom")
    return cluster


@pytest.fixture
async def api(theirs: Theirs) -> AsyncIterator[KubeClient]:
    """An administrator's client."""
    async with KubeClient(theirs.control.config(), CLOCK) as client:
        yield client


class OurOperator:
    """`strongroom operator` as a process, watched by its page and its log."""

    def __init__(self, theirs: Theirs, name: str, *arguments: str) -> None:
        self._processes, self.name = theirs.processes, name
        self._port = free_port()
        words = ("--kubeconfig", str(theirs.control.kubeconfig), "--no-leader-election")
        page = ("--listen", f"127.0.0.1:{self._port}")
        theirs.processes.strongroom(name, "operator", *words, *page, *arguments)

    async def metric(self, name: str) -> float:
        """The sum of a family."""
        async with HttpClient() as http:
            reply = await http.request("GET", f"http://127.0.0.1:{self._port}/metrics")
        lines = [each for each in reply.body.decode().splitlines() if each.startswith(name)]
        return sum(float(each.rsplit(" ", 1)[1]) for each in lines)

    def log(self) -> str:
        """All it has said."""
        return self._processes.log(self.name).read_text(errors="replace")

    def stop(self) -> None:
        """End it as a cluster does, with SIGTERM."""
        self._processes.stop(self.name)


@pytest.fixture(scope="session")
def our_operator(theirs: Theirs) -> Iterator[OurOperator]:
    """Ours, told to install its definitions where there are none."""
    operator = OurOperator(theirs, "operator", "--install-crds")
    yield operator
    operator.stop()
