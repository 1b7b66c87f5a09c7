"""A listener's TLS: any client certificate is shown to the handler, and a new one is taken into use."""

import asyncio
import contextlib
import hashlib
import os
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import uvloop

from strongroom.app.server import Certificates, tls_context
from strongroom.app.store_config.settings import ListenerSetting, TlsSetting
from strongroom.crypto.x509_dev import DevCertificates, issue
from strongroom.model.clock import SystemClock
from strongroom.model.secret import Secret
from strongroom.wire.http import Request, Response
from strongroom.wire.limits import Limits
from strongroom.wire.listener import Exchange, Listener
from strongroom.wire.tls import ClientPem, accept_any_client_certificate, client_context

CLOCK = SystemClock()


def written(folder: Path, name: str) -> tuple[DevCertificates, Path, Path]:
    made = issue(("localhost", "127.0.0.1"), CLOCK.now())
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    certificate.write_bytes(made.certificate)
    key.write_bytes(made.key)
    (folder / f"{name}.ca").write_bytes(made.authority)
    return made, certificate, key


class Served:
    """A TLS listener that answers with the hash of the certificate it was shown."""

    def __init__(self, folder: Path, **more: object) -> None:
        _, certificate, key = written(folder, "server")
        self.folder = folder
        setting = ListenerSetting("127.0.0.1", 0, TlsSetting(certificate, key, **more))
        self.context = tls_context(setting)
        self.listener = Listener(self.answer, Limits(), CLOCK)
        self.certificates = Certificates(setting, self.listener.renew_tls)
        self.port = 0
        self.beside: list[tuple[bytes, ...]] = []

    def answer(self, request: Request, exchange: Exchange) -> None:
        self.beside.append(request.client_chain)
        shown = request.client_certificate
        exchange.reply(Response(200, hashlib.sha256(shown).hexdigest().encode() if shown else b"-"))

    async def ask(self, client: tuple[Path, Path] | None = None, version: int = 0) -> str:
        return await asyncio.to_thread(self._ask, client, version)

    def _context(self, client: tuple[Path, Path] | None, version: int) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.folder / "server.ca")
        if version:
            context.maximum_version = context.minimum_version = version
        if client:
            context.load_cert_chain(*client)
        return context

    def _ask(self, client: tuple[Path, Path] | None, version: int) -> str:
        context = self._context(client, version)
        with (
            socket.create_connection(("127.0.0.1", self.port), 60) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as tls,
        ):
            tls.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            reply = b""
            while part := tls.recv(4096):
                reply += part
            return reply.partition(b"\r\n\r\n")[2].decode()


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[object]:
    running: list[Served] = []

    async def begin(**more: object) -> Served:
        served = Served(tmp_path, **more)
        _, served.port = await served.listener.start("127.0.0.1", 0, tls=served.context)
        running.append(served)
        return served

    yield begin
    for served in running:
        await served.listener.drain(0.2)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_any_client_certificate_reaches_the_handler(start, tmp_path: Path, version) -> None:
    served = await start()
    assert await served.ask(version=version) == "-"
    made, certificate, key = written(tmp_path, "stranger")  # of an authority nobody here knows
    der = ssl.PEM_cert_to_DER_cert(
        made.certificate.decode().partition("-----END")[0] + "-----END CERTIFICATE-----\n"
    )
    shown = await served.ask((certificate, key), version)
    assert shown == hashlib.sha256(der).hexdigest()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("required", [False, True])
async def test_what_a_client_shows_beside_its_certificate_reaches_the_handler(
    start, tmp_path: Path, version, required
) -> None:
    """On a connection that would go on with an earlier session as well."""
    made, certificate, key = written(tmp_path, "client")
    more = {"client_required": True, "client_ca": tmp_path / "client.ca"} if required else {}
    served = await start(**more)
    authorities = [issue(("x",), CLOCK.now()).authority.decode() for _ in range(12)]
    certificate.write_text(made.certificate.decode() + "".join(authorities))

    def ask() -> None:
        context, session = served._context((certificate, key), version), None
        for _ in range(2):
            with (
                socket.create_connection(("127.0.0.1", served.port), 5) as raw,
                context.wrap_socket(raw, server_hostname="localhost", session=session) as tls,
            ):
                tls.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                while tls.recv(4096):
                    pass
                session = tls.session
                # A session whose end was not said is kept by nobody.
                tls.unwrap()

    await asyncio.to_thread(ask)
    every = made.certificate.decode().split("-----END CERTIFICATE-----\n")[1:-1]
    wanted = [f"{each}-----END CERTIFICATE-----\n" for each in every] + authorities
    first = tuple(ssl.PEM_cert_to_DER_cert(each) for each in wanted[:10])
    assert served.beside == [first, first]
    # Nothing of them is left: whoever connects again and again would fill the memory.
    stats = served.context.session_stats()
    assert (stats["accept_good"], stats["hits"], stats["number"]) == (2, 0, 0)


def test_nobody_is_asked_for_the_password_of_a_key(tmp_path: Path) -> None:
    _, certificate, key = written(tmp_path, "a")
    locked = tmp_path / "locked.key"
    words = ["openssl", "pkey", "-in", key, "-aes128", "-passout", "pass:x", "-out", locked]
    subprocess.run(words, check=True)
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\nfrom pathlib import Path\nfrom strongroom.wire.tls import server_context\n"
        "server_context(*map(Path, sys.argv[1:]))\n"
    )
    command = shlex.join(map(str, [sys.executable, program, certificate, locked]))
    # At a terminal, as whoever tries it out has one.
    done = subprocess.run(
        ["script", "-qec", command, os.devnull], stdin=subprocess.DEVNULL, capture_output=True,
        text=True, check=False, timeout=60,
    )  # fmt: skip
    assert "bad-certificate" in done.stdout
    assert "pass phrase" not in done.stdout


async def test_the_key_of_the_certificate_must_be_there(start, tmp_path: Path) -> None:
    """Taking any certificate does not mean taking somebody else's."""
    _, certificate, _ = written(tmp_path, "one")
    _, _, other = written(tmp_path, "two")
    served = await start()
    with pytest.raises(ssl.SSLError):
        await served.ask((certificate, other))


async def test_required_certificates_are_verified(start, tmp_path: Path) -> None:
    _, certificate, key = written(tmp_path, "friend")
    _, stranger, strange_key = written(tmp_path, "stranger")
    served = await start(client_required=True, client_ca=tmp_path / "friend.ca")
    assert await served.ask((certificate, key)) != "-"
    for client in (None, (stranger, strange_key)):
        assert await answer_to(served, client) == ""


async def test_certificates_are_not_asked_for_where_the_listener_says_so(
    start, tmp_path: Path
) -> None:
    _, certificate, key = written(tmp_path, "friend")
    served = await start(ask_client=False)
    assert await served.ask((certificate, key)) == "-"


async def test_a_python_without_access_to_openssl_is_named_at_the_start(
    start, caplog, tmp_path: Path
) -> None:
    """And what the listener verifies itself works there as well."""
    assert accept_any_client_certificate(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), None) is False
    _, certificate, key = written(tmp_path, "server")
    setting = ListenerSetting("127.0.0.1", 0, TlsSetting(certificate, key))
    context = tls_context(setting, None)
    assert context.verify_mode == ssl.CERT_NONE
    assert "gives no access to OpenSSL" in caplog.text


async def answer_to(served: Served, client: tuple[Path, Path] | None) -> str:
    """What came back; "" for a connection that ended, with an alert or without."""
    try:
        return await served.ask(client)
    except (ssl.SSLError, ConnectionError):
        return ""


async def test_old_protocol_versions_are_refused(start) -> None:
    served = await start(minimum="tls13")
    with pytest.raises(ssl.SSLError):
        await served.ask(version=ssl.TLSVersion.TLSv1_2)
    assert await served.ask(version=ssl.TLSVersion.TLSv1_3) == "-"


async def test_a_new_certificate_is_taken_and_a_broken_one_is_not(start, tmp_path: Path) -> None:
    served = await start()
    old = await served.ask()
    (tmp_path / "server.crt").write_text("broken")
    served.certificates.reload(changed_only=True)
    assert await served.ask() == old == "-"  # the old one still serves
    written(tmp_path, "server")  # another authority: who trusts it alone must be answered
    served.certificates.reload()
    assert await served.ask() == "-"


async def test_a_certificate_of_another_type_of_key_takes_the_place_of_the_old_one(
    start, tmp_path: Path
) -> None:
    """OpenSSL keeps one of each type in a context, and shows the old one to who prefers its type."""
    served = await start()
    old = (tmp_path / "server.ca").read_bytes()
    names = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
    files = ("-keyout", tmp_path / "server.key", "-out", tmp_path / "server.crt")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *names, *files]
    await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
    shutil.copy(tmp_path / "server.crt", tmp_path / "server.ca")
    served.certificates.reload(changed_only=True)
    assert await served.ask() == "-"
    (tmp_path / "server.ca").write_bytes(old)
    with pytest.raises(ssl.SSLCertVerificationError):
        await served.ask()


async def test_the_authority_of_clients_is_read_again(start, tmp_path: Path) -> None:
    _, *first = written(tmp_path, "first")
    _, *second = written(tmp_path, "second")
    shutil.copy(tmp_path / "first.ca", tmp_path / "clients.ca")
    served = await start(client_ca=tmp_path / "clients.ca", client_required=True)
    for shown, refused in ((first, second), (second, first)):
        assert len(await answer_to(served, (shown[0], shown[1]))) == 64
        assert await answer_to(served, (refused[0], refused[1])) == ""
        shutil.copy(tmp_path / "second.ca", tmp_path / "clients.ca")
        served.certificates.reload(changed_only=True)
    (tmp_path / "clients.ca").write_text("broken")
    served.certificates.reload(changed_only=True)
    assert len(await answer_to(served, (second[0], second[1]))) == 64


async def test_a_file_that_claims_to_be_as_old_is_another_one(start, tmp_path: Path) -> None:
    """Times are kept by `cp -p`, and are one and the same in images that are built to be."""
    served = await start()
    (tmp_path / "new").mkdir()
    _, certificate, key = written(tmp_path / "new", "server")
    for made, present in ((certificate, "server.crt"), (key, "server.key")):
        then = (tmp_path / present).stat().st_mtime_ns
        os.utime(made, ns=(then, then))
        made.rename(tmp_path / present)
    (tmp_path / "new" / "server.ca").rename(tmp_path / "server.ca")
    served.certificates.reload(changed_only=True)
    assert await served.ask() == "-"


async def test_certificates_change_under_load_and_no_request_is_lost(start, tmp_path: Path) -> None:
    """Connections that are open, ones that are being made, and files caught half-way."""
    served = await start()
    authorities = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authorities.load_verify_locations(tmp_path / "server.ca")
    done, stop = [], asyncio.Event()

    async def asked(*, keep: bool) -> None:
        request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        streams = None
        while not stop.is_set():
            streams = streams or await asyncio.open_connection(
                "127.0.0.1", served.port, ssl=authorities, server_hostname="localhost"
            )
            streams[1].write(request)
            done.append(await streams[0].readuntil(b"\r\n\r\n-"))
            if not keep:
                streams[1].close()
                streams = None
        if streams:
            streams[1].close()

    asking = [asyncio.create_task(asked(keep=number % 2 == 0)) for number in range(8)]
    for _ in range(6):
        (tmp_path / "server.crt").write_text("half-way")
        served.certificates.reload(changed_only=True)
        written(tmp_path, "server")
        authorities.load_verify_locations(tmp_path / "server.ca")
        served.certificates.reload()
        before = len(done)
        while len(done) < before + 20:
            await asyncio.sleep(0.01)
            assert not any(each.done() for each in asking)
    stop.set()
    await asyncio.gather(*asking)
    assert all(each.startswith(b"HTTP/1.1 200") for each in done)


async def test_a_key_of_another_certificate_leaves_the_old_pair_in_use(
    start, tmp_path: Path, caplog
) -> None:
    served = await start()
    old = (tmp_path / "server.ca").read_bytes()
    _, _, other = written(tmp_path, "other")
    (tmp_path / "server.key").write_bytes(other.read_bytes())
    served.certificates.reload()
    assert "the certificate was not reloaded: cannot use" in caplog.text
    (tmp_path / "server.ca").write_bytes(old)
    assert await served.ask() == "-"


def sockets() -> int:
    """How many this process has open."""
    found = (each.readlink() for each in Path("/proc/self/fd").iterdir() if each.is_symlink())
    return sum(str(each).startswith("socket:") for each in found)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_silent_peers_take_no_more_places_than_there_are(tmp_path: Path, run) -> None:
    """Each is an open file: without a bound they take those of the database and the audit log."""
    places, silent = 4, 40

    async def flood() -> None:
        served = Served(tmp_path)
        listener = Listener(served.answer, Limits(connections=places), CLOCK)
        _, served.port = await listener.start("127.0.0.1", 0, tls=served.context)
        before = sockets()
        peers = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(silent)]
        over = [asyncio.create_task(reader.read()) for reader, _ in peers]

        async def until(condition: Callable[[], bool]) -> None:
            while not condition():
                await asyncio.sleep(0.001)

        async with asyncio.timeout(60):
            await until(lambda: sum(each.done() for each in over) == silent - places)
            # One for each of these peers, and one for each of the places.
            assert sockets() <= before + silent + places
            # Who speaks TLS takes the place of the one that was silent longest.
            assert await served.ask() == "-"
            await until(lambda: sum(each.done() for each in over) == silent - places + 1)
            assert not over[-1].done()
            # Of those that are through, who was silent for longest makes room for who comes then.
            await until(lambda: listener.connections == 0)
            trust = ssl.create_default_context(cafile=tmp_path / "server.ca")
            where = ("127.0.0.1", served.port)
            held = [await asyncio.open_connection(*where, ssl=trust) for _ in range(places)]
            await until(lambda: listener.connections == places)
            assert await served.ask() == "-"
            with contextlib.suppress(ConnectionResetError):
                assert await held[0][0].read() == b""
            assert listener.connections <= places
            for _, writer in (*peers, *held):
                writer.transport.abort()
            await asyncio.gather(*over)
            await listener.drain(0.1)

    run(flood())


async def test_who_sends_too_much_and_reads_then_learns_why(start) -> None:
    """A side of TLS cannot be closed alone: the reply says that it is the last one."""
    served = await start()
    context = ssl.create_default_context(cafile=served.folder / "server.ca")
    many = 40 * 1024 * 1024

    def send_then_read() -> bytes:
        with (
            socket.create_connection(("127.0.0.1", served.port), 60) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as tls,
        ):
            head = f"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {many}\r\n\r\n"
            tls.sendall(head.encode() + bytes(many))
            return tls.recv(1000)

    reply = await asyncio.to_thread(send_then_read)
    assert b" 413 " in reply
    assert b"Connection: close" in reply


async def test_a_peer_that_begins_no_handshake_is_let_go(tmp_path: Path) -> None:
    """A place that nobody else asks for is taken for a while alone."""
    served = Served(tmp_path)
    listener = Listener(served.answer, Limits(header_seconds=0.2), CLOCK)
    _, port = await listener.start("127.0.0.1", 0, tls=served.context)
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
    silent[1][1].write(b"\x16\x03\x01")
    async with asyncio.timeout(60):
        for reader, writer in silent:
            assert await reader.read() == b""
            writer.close()
    await listener.drain(0.1)


async def test_who_comes_after_a_stop_is_refused_and_not_left_waiting(tmp_path: Path) -> None:
    """A socket that stays open takes peers that nobody serves, as long as the process lives."""
    served = Served(tmp_path)
    where = await served.listener.start("127.0.0.1", 0, tls=served.context)
    served.port = where[1]
    assert await served.ask() == "-"
    await served.listener.drain(0.2)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*where)


def test_a_client_verifies_unless_it_is_told_not_to_and_shares_only_the_system_alone(
    tmp_path: Path,
) -> None:
    made, certificate, key = written(tmp_path, "client")
    pem = ClientPem(made.certificate.decode(), Secret(made.key))
    system = client_context()
    assert client_context() is system
    verifying = [
        (system, None),
        (client_context(tmp_path / "client.ca"), 1),
        (client_context(ca_data=made.authority.decode()), 1),
        (client_context(client_certificate=(certificate, key)), None),
        (client_context(client_pem=pem), None),
    ]
    careless = client_context(verify=False)
    assert len({id(each) for each in (*(one for one, _ in verifying), careless)}) == 6
    for context, authorities in verifying:
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        assert authorities in (None, len(context.get_ca_certs()))
    assert (careless.verify_mode, careless.check_hostname) == (ssl.CERT_NONE, False)
    assert careless.minimum_version == ssl.TLSVersion.TLSv1_2
