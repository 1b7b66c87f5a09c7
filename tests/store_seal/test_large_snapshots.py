"""A snapshot that is larger than a request may be, on a real process with its memory watched."""

import re
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.store_seal.servers import Server, Start, servers

pytestmark = [pytest.mark.component, pytest.mark.long, pytest.mark.timeout(900)]
SNAPSHOT = "sys/storage/raft/snapshot"
SECRETS = 120


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    async for each in servers(tmp_path / "nodes"):
        yield each


def peak(server: Server) -> int:
    """The most memory the process ever had resident, in MiB."""
    text = Path(f"/proc/{server.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", text)
    assert found
    return int(found[1]) // 1024


async def test_a_large_snapshot_is_saved_and_restored_in_bounded_memory(
    start: Start, tmp_path: Path
) -> None:
    (tmp_path / "seal").write_bytes(b"k" * 32)
    (tmp_path / "data").mkdir()
    left = Path(tempfile.mkdtemp(prefix="strongroom-drill-", dir=tmp_path / "data"))
    server = start(
        f'storage "file" {{ path = "{tmp_path}/data" }}\nworkers = 1\naudit "none" {{}}\n'
        f'seal "static" {{ current_key = "file://{tmp_path}/seal" }}'
    )
    await server.up()
    # What a drill left that was killed is gone.
    assert not left.exists()
    server.token = (await server.ask("PUT", "sys/init", {}))[1]["root_token"]
    await server.open()
    value = "v" * 900_000
    await server.ask("POST", "sys/mounts/big", {"type": "kv", "options": {"version": "2"}})
    for number in range(SECRETS):
        body = {"data": {"k": f"{number}{value}"}}
        assert (await server.ask("POST", f"big/data/{number}", body))[0] == 200
    before, headers = peak(server), {"X-Vault-Token": server.token}
    url = f"{server.address}/v1/{SNAPSHOT}"
    file = tmp_path / "snapshot"
    with file.open("wb") as into:
        assert (await server.http.download(url, into, headers=headers)).status == 200
    assert file.stat().st_size > 100 * 1024 * 1024
    saved = peak(server)
    assert (await server.ask("DELETE", "sys/mounts/big"))[0] == 204
    reply = await server.http.upload(url, file.open("rb"), headers=headers)
    assert (reply.status, reply.body) == (204, b"")
    status, found = await server.ask("GET", "big/data/7")
    assert (status, found["data"]["data"]["k"][:4]) == (200, "7vvv")
    restored = peak(server)
    print(f"resident at most: {before} MiB, {saved} MiB saved, {restored} MiB restored")
    assert saved - before < 80
    assert restored - before < 96
    drill = await server.http.upload(f"{url}-drill", file.open("rb"), headers=headers)
    assert drill.status == 200
    drilled = peak(server)
    print(f"{drilled} MiB drilled")
    assert drilled - before < 128
