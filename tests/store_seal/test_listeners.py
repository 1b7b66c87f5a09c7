"""What one listener opens stays shut on the others: a real process with three."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.store_seal.servers import Start, servers

from strongroom.app.cluster.control_plane import free_port

pytestmark = [pytest.mark.component, pytest.mark.timeout(600)]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    async for each in servers(tmp_path / "nodes"):
        yield each


async def test_metrics_are_open_on_the_listener_that_says_so(start: Start, tmp_path: Path) -> None:
    outside, measured, ceremonies = free_port(), free_port(), free_port()
    (tmp_path / "seal").write_bytes(b"k" * 32)
    server = start(
        f'storage "file" {{ path = "{tmp_path}/data" }}\nworkers = 2\n'
        f'seal "static" {{ current_key = "file://{tmp_path}/seal" }}\naudit "none" {{}}\n'
        f'listener "tcp" {{ address = "127.0.0.1:{outside}" tls_disable = true }}\n'
        f'listener "tcp" {{ address = "127.0.0.1:{measured}" tls_disable = true\n'
        "  telemetry { unauthenticated_metrics_access = true }\n"
        "  profiling { unauthenticated_in_flight_request_access = true } }\n"
        f'listener "tcp" {{ address = "127.0.0.1:{ceremonies}" tls_disable = true\n'
        "  disable_unauthed_rekey_endpoints = false\n"
        "  disable_unauthed_generate_root_endpoints = false }\n"
    )

    async def status(port: int, path: str, token: str = "") -> int:
        server.address, server.token = f"http://127.0.0.1:{port}", token
        return (await server.ask("GET", path))[0]

    server.address = f"http://127.0.0.1:{outside}"
    await server.up()
    _, made = await server.ask("PUT", "sys/init", {})
    await server.open()
    open_here = {
        "sys/metrics?format=prometheus": measured,
        "sys/in-flight-req": measured,
        "sys/rekey/init": ceremonies,
        "sys/rekey-recovery-key/init": ceremonies,
        "sys/generate-root/attempt": ceremonies,
    }
    for path, port in open_here.items():
        for each in (outside, measured, ceremonies):
            # Both workers stand behind each port.
            for _ in range(4):
                assert await status(each, path) == (200 if each == port else 403), (path, each)
            # A token that may is served everywhere; one that is wrong is no worse than none.
            assert await status(each, path, made["root_token"]) == 200
            assert await status(each, path, "wrong") == (200 if each == port else 403)
    # Nothing else is open there.
    for path in ("sys/mounts", "secret/data/a", "sys/host-info", "sys/loggers"):
        assert await status(measured, path) == await status(ceremonies, path) == 403
