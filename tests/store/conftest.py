"""What real server processes are harmed with, and the OpenID issuer."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from server_process import Server
from tests.openid_issuer import issuer  # noqa: F401 - a fixture

from strongroom.app.dev.postgres import ThrowawayPostgres
from strongroom.wire.client import HttpClient


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
    try:
        made.start()
        yield made
    finally:
        made.resume()
        made.kill()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Makes small file systems of a size such as "64k"."""
    if os.geteuid() != 0:
        pytest.skip("root is needed to mount a small file system")
    mounted: list[Path] = []

    def make(size: str, place: Path | None = None) -> Path:
        place = place or tmp_path / f"small-{size}"
        place.mkdir(exist_ok=True)
        words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
        done = subprocess.run(words, check=False, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
        mounted.append(place)
        return place

    yield make
    for place in mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)
        place.rmdir()


@pytest.fixture
def small(mount: Callable[[str], Path]) -> Path:
    """A file system of 64 KiB."""
    return mount("64k")
