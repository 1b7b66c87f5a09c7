"""An audit file on a real file system that is really frozen (fsfreeze(8)), as root only."""

import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.store_seal.servers import Start, servers
from tests.store_seal.test_audit_processes import opened

pytestmark = [pytest.mark.component, pytest.mark.timeout(600)]
TOOLS = ("mkfs.ext4", "mount", "umount", "fsfreeze")


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    async for each in servers(tmp_path / "nodes"):
        yield each


class Disk:
    """A small disk in a file."""

    def __init__(self, folder: Path) -> None:
        self.place = folder / "disk"
        self._image = folder / "disk.img"
        self.frozen = False

    def mount(self) -> None:
        with self._image.open("wb") as image:
            image.truncate(16 * 1024 * 1024)
        self.place.mkdir()
        subprocess.run(["mkfs.ext4", "-q", "-F", self._image], check=True, capture_output=True)
        subprocess.run(["mount", "-o", "loop", self._image, self.place], check=True)

    def freeze(self) -> None:
        subprocess.run(["fsfreeze", "-f", self.place], check=True)
        self.frozen = True

    def thaw(self) -> None:
        if self.frozen:
            subprocess.run(["fsfreeze", "-u", self.place], check=True)
            self.frozen = False


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    if os.geteuid() != 0 or not all(map(shutil.which, TOOLS)):
        pytest.skip("only root mounts and freezes")
    made = Disk(tmp_path)
    try:
        made.mount()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no disk can be mounted here: {error}")
    yield made
    made.thaw()
    subprocess.run(["umount", "-l", made.place], check=True)


async def test_a_frozen_file_system_is_failed_and_comes_back(
    start: Start, tmp_path: Path, disk: Disk
) -> None:
    stanzas = (
        f'audit "file" "far" {{ options {{ file_path = "{disk.place}/log" }} }}\n'
        f'audit "file" "near" {{ options {{ file_path = "{tmp_path}/log" }} }}\n'
    )
    server = await opened(start, tmp_path, stanzas)
    disk.freeze()
    for number in range(20):
        assert (await server.ask("POST", f"cubbyhole/{number}", {"k": "v"}))[0] == 204
    _, health = await server.ask("GET", "sys/health")
    assert health["audit_failures"] == {"far/": "the audit device far/ did not answer in 2 s"}
    disk.thaw()

    async def well() -> bool:
        await server.ask("GET", "cubbyhole/1")
        return "audit_failures" not in (await server.ask("GET", "sys/health"))[1]

    await server.until("both devices", well)
    assert '"cubbyhole/1"' in (disk.place / "log").read_text()


async def test_when_nothing_else_records_it_is_503_at_once_and_never_a_hang(
    start: Start, tmp_path: Path, disk: Disk
) -> None:
    options = f'file_path = "{disk.place}/log" deadline = "2s"'
    server = await opened(start, tmp_path, f'audit "file" "far" {{ options {{ {options} }} }}')
    disk.freeze()
    assert (await server.ask("GET", "cubbyhole/x"))[0] == 503
    before = time.monotonic()
    for _ in range(30):
        status, said = await server.ask("GET", "cubbyhole/x")
        assert (status, "did not answer in 2 s" in said["errors"][0]) == (503, True)
        assert (await server.ask("GET", "/livez"))[0] == 200
    assert (await server.ask("GET", "/readyz"))[0] == 503
    # The deadline was waited for once at most, and not for each of them.
    assert time.monotonic() - before < 30 * 2 / 2
    disk.thaw()
    await server.open()  # It records again without a request.
    assert (await server.ask("POST", "cubbyhole/x", {"k": "v"}))[0] == 204
