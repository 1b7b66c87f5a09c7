"""What one listener opens stays shut on the others: a real process with three."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.store_seal.servers import CLOCK, Start, servers

from strongroom.app.cluster.control_plane import free_port
from strongroom.crypto.x509_dev import issue

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


async def test_every_worker_takes_a_new_certificate_into_use(start: Start, tmp_path: Path) -> None:
    """At once with SIGHUP, and by itself soon after the files have changed."""

    def issued() -> str:
        made = issue(("localhost", "127.0.0.1"), CLOCK.now())
        (tmp_path / "tls.key").write_bytes(made.key)
        (tmp_path / "tls.crt").write_bytes(made.certificate)
        return first_of(made.certificate.decode())

    served, plain = free_port(), free_port()
    (tmp_path / "seal").write_bytes(b"k" * 32)
    certificate = issued()
    server = start(
        f'storage "file" {{ path = "{tmp_path}/data" }}\nworkers = 2\n'
        f'seal "static" {{ current_key = "file://{tmp_path}/seal" }}\naudit "none" {{}}\n'
        f'listener "tcp" {{ address = "127.0.0.1:{plain}" tls_disable = true }}\n'
        f'listener "tcp" {{ address = "127.0.0.1:{served}"\n'
        f'  tls_cert_file = "{tmp_path}/tls.crt" tls_key_file = "{tmp_path}/tls.key" }}\n'
    )
    server.address = f"http://127.0.0.1:{plain}"
    await server.up()

    async def everywhere() -> bool:
        # Connections come to the workers by chance: forty in a row have met both.
        for _ in range(40):
            shown = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", served))
            if first_of(shown) != certificate:
                return False
        return True

    await server.until("the first certificate", everywhere)
    for hang_up in (True, False):
        certificate = issued()
        if hang_up:
            server.hang_up()
        await server.until("the new certificate", everywhere)
    # What does not fit leaves the old one in use, and is said.
    (tmp_path / "tls.key").write_text("half-way")
    server.hang_up()
    for worker in range(2):
        await server.logs(
            f"worker {worker} strongroom.app.server: the certificate was not reloaded"
        )
    assert await everywhere()


def first_of(chain: str) -> str:
    """The first certificate of a chain, without its line ends."""
    return "".join(chain.partition("-----END")[0].split())
