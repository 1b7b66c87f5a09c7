"""Audit devices of real server processes: rotated under load, shared by workers, blocked, gone."""

import asyncio
import contextlib
import json
import os
import socket
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.store_seal.servers import Server, Start, servers

pytestmark = [pytest.mark.component, pytest.mark.timeout(600)]
CALLERS, CALLS = 8, 60


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    async for each in servers(tmp_path / "nodes"):
        yield each


async def opened(start: Start, tmp_path: Path, audit: str, workers: int = 1) -> Server:
    """A store with these audit stanzas, unsealed, and its root token."""
    (tmp_path / "seal").write_bytes(b"k" * 32)
    server = start(
        f'storage "file" {{ path = "{tmp_path}/data" }}\nworkers = {workers}\n'
        f'seal "static" {{ current_key = "file://{tmp_path}/seal" }}\n{audit}'
    )
    await server.up()
    status, made = await server.ask("PUT", "sys/init", {})
    assert status == 200, made
    server.token = made["root_token"]
    await server.open()
    return server


async def load(server: Server) -> list[str]:
    """Many callers at once; the paths they wrote, each once."""

    async def call(number: int) -> list[str]:
        paths = [f"cubbyhole/c{number}/n{turn}" for turn in range(CALLS)]
        for path in paths:
            status, reply = await server.ask("POST", path, {"k": "v"})
            assert status == 204, reply
        return paths

    return [path for each in await asyncio.gather(*map(call, range(CALLERS))) for path in each]


def assert_each_is_there_once(folder: Path, paths: list[str]) -> None:
    """As request and as response; no line may be torn."""
    found: Counter[tuple[str, str]] = Counter()
    for file in folder.iterdir():
        for line in file.read_bytes().splitlines():
            record = json.loads(line)
            found[record["type"], record["request"]["path"]] += 1
    assert {
        path: (found["request", path], found["response", path]) for path in paths
    } == dict.fromkeys(paths, (1, 1))


async def test_two_workers_lose_and_tear_no_line_while_the_file_is_moved_away(
    start: Start, tmp_path: Path
) -> None:
    """As logrotate does: rename, then SIGHUP."""
    folder = tmp_path / "audit"
    folder.mkdir()
    stanza = f'audit "file" "main" {{ options {{ file_path = "{folder}/log" }} }}'
    server = await opened(start, tmp_path, stanza, workers=2)
    loading = asyncio.create_task(load(server))
    moved = 0
    while not loading.done():
        if (folder / "log").exists() and (folder / "log").stat().st_size:
            moved += 1
            (folder / "log").rename(folder / f"log.{moved}")
            server.hang_up()
        await asyncio.sleep(0.05)
    paths = await loading
    assert moved > 2
    assert_each_is_there_once(folder, paths)


async def test_two_workers_lose_and_tear_no_line_while_the_file_is_rotated_by_size(
    start: Start, tmp_path: Path
) -> None:
    folder = tmp_path / "audit"
    folder.mkdir()
    options = f'file_path = "{folder}/log" rotate_bytes = 20000 rotate_keep = 1000'
    server = await opened(
        start, tmp_path, f'audit "file" "main" {{ options {{ {options} }} }}', workers=2
    )
    paths = await load(server)
    assert len(list(folder.iterdir())) > 10
    assert_each_is_there_once(folder, paths)


async def test_one_device_of_two_that_nobody_reads_is_reported_and_stops_nobody(
    start: Start, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    stanzas = (
        f'audit "file" "pipe" {{ options {{ file_path = "{tmp_path}/pipe" deadline = "30s" }} }}\n'
        f'audit "file" "log" {{ options {{ file_path = "{tmp_path}/log" }} }}\n'
    )
    server = await opened(start, tmp_path, stanzas)
    assert (await server.ask("POST", "cubbyhole/a", {"k": "v"}))[0] == 204
    _, health = await server.ask("GET", "sys/health")
    said = f"the audit device {tmp_path}/pipe cannot be written: No such device or address"
    assert health["audit_failures"] == {"pipe/": said}
    await server.logs(f"audit device pipe/: {said}")
    _, metrics = await server.ask("GET", "sys/metrics?format=prometheus")
    assert 'strongroom_audit_failures_total{device="pipe",worker="0"}' in metrics
    assert (await server.ask("DELETE", "sys/audit/pipe"))[0] == 400  # it is the configuration's


async def test_when_the_only_device_is_blocked_requests_are_refused_and_the_process_still_ends(
    start: Start, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)  # opened, and not read
    options = f'file_path = "{tmp_path}/pipe" deadline = "2s" log_raw = true'
    server = await opened(start, tmp_path, f'audit "file" "p" {{ options {{ {options} }} }}')
    body = {"k": "v" * 40_000}
    statuses = [(await server.ask("POST", "cubbyhole/a", body))[0] for _ in range(5)]
    assert statuses[-1] == 503
    status, reply = await server.ask("GET", "cubbyhole/a")
    assert (status, reply["errors"]) == (503, [
        "no audit device can record the request: the audit device"
        f" {tmp_path}/pipe did not answer in 2 s; it was refused; repair the audit device"
    ])  # fmt: skip
    assert (await server.ask("GET", "/livez"))[0] == 200

    async def again() -> bool:
        with contextlib.suppress(BlockingIOError):
            os.read(reader, 1_000_000)
        return (await server.ask("GET", "auth/token/lookup-self"))[0] == 200

    os.read(reader, 1_000_000)
    await server.open()  # without a request
    await server.until("a device that records again", again)
    while (await server.ask("POST", "cubbyhole/a", body))[0] != 503:
        pass
    server.process.terminate()
    assert await asyncio.to_thread(server.process.wait, 120) == 0
    os.close(reader)


async def test_a_socket_that_stops_reading_is_given_up(start: Start, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as peer:  # never accepts
        address = f"127.0.0.1:{peer.getsockname()[1]}"
        options = f'address = "{address}" deadline = "2s" log_raw = true'
        server = await opened(start, tmp_path, f'audit "socket" "s" {{ options {{ {options} }} }}')
        status = 204
        while status != 503:
            status, _ = await server.ask("POST", "cubbyhole/a", {"k": "v" * 900_000})
        _, health = await server.ask("GET", "sys/health")
        assert "s/" in health["audit_failures"]
