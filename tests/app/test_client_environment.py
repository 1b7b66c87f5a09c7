"""Variables and flags about the way to the store, against real listeners, proxies and silences."""

import asyncio
import contextlib
import json
import re
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.app.transcript import environment

from strongroom.app.client.session import Session
from strongroom.app.cluster.control_plane import free_port
from strongroom.app.dev.processes import TIED_TO_PARENT
from strongroom.app.main import main
from strongroom.app.store_address import REFUSED, VARIABLES, StoreAddress, store_address
from strongroom.app.store_http import StoreHttp
from strongroom.app.waiting import until
from strongroom.crypto.x509_dev import issue
from strongroom.model.clock import SystemClock
from strongroom.model.errors import Unavailable
from strongroom.wire.client import HttpClient
from strongroom.wire.http import Request, Response
from strongroom.wire.limits import Limits
from strongroom.wire.listener import Listener
from strongroom.wire.tls import accept_any_client_certificate, server_context

SOURCE = Path(__file__).resolve().parents[2] / "src/strongroom/app"


@pytest.fixture
async def tls(store, tmp_path: Path) -> AsyncIterator[tuple[str, Path]]:
    """The store over TLS under the name `store.test`, reached by its number; and its authority."""
    folder = tmp_path / "tls"
    folder.mkdir()
    made = issue(("store.test",), SystemClock().now())
    for name, content in (("ca", made.authority), ("crt", made.certificate), ("key", made.key)):
        (folder / name).write_bytes(content)
    context = server_context(folder / "crt", folder / "key")
    accept_any_client_certificate(context)

    def handle(request: Request, exchange) -> None:
        if request.client_certificate:
            (folder / "shown").write_bytes(request.client_certificate)
        store.handler(request, exchange)

    listener = Listener(handle, Limits(), SystemClock())
    _, port = await listener.start("127.0.0.1", 0, tls=context)
    yield f"https://127.0.0.1:{port}", folder
    await listener.drain()


ASK = ("read", "-field=path", "auth/token/lookup-self")


async def test_the_certificate_must_be_for_the_name_that_was_said(cli, tls, monkeypatch) -> None:
    address, folder = tls
    monkeypatch.setenv("VAULT_ADDR", address)
    monkeypatch.setenv("VAULT_CACERT", str(folder / "ca"))
    await cli(*ASK, expect=2)
    assert "127.0.0.1" in cli.err
    assert "certificate" in cli.err
    monkeypatch.setenv("VAULT_TLS_SERVER_NAME", "store.test")
    assert await cli(*ASK) == "auth/token/root"
    monkeypatch.setenv("VAULT_TLS_SERVER_NAME", "other.test")
    await cli(*ASK, expect=2)
    assert await cli(*ASK, "-tls-server-name=store.test") == "auth/token/root"


async def test_authorities_are_a_file_bytes_or_a_folder(cli, tls, monkeypatch) -> None:
    address, folder = tls
    monkeypatch.setenv("VAULT_ADDR", address)
    monkeypatch.setenv("VAULT_TLS_SERVER_NAME", "store.test")
    await cli(*ASK, expect=2)
    assert "is not trusted: unable to get local issuer certificate" in cli.err
    monkeypatch.setenv("VAULT_CACERT_BYTES", (folder / "ca").read_text())
    assert await cli(*ASK) == "auth/token/root"
    monkeypatch.setenv("VAULT_CACERT_BYTES", "nonsense")
    await cli(*ASK, expect=1)
    assert "no certificate in VAULT_CACERT_BYTES [bad-ca]" in cli.err
    monkeypatch.delenv("VAULT_CACERT_BYTES")
    authorities = folder / "authorities" / "below"
    authorities.mkdir(parents=True)
    (authorities / "README").write_text("not a certificate, ümlaut")
    (authorities / "one.pem").write_bytes((folder / "ca").read_bytes())
    monkeypatch.setenv("VAULT_CAPATH", str(authorities.parent))
    assert await cli(*ASK) == "auth/token/root"
    monkeypatch.delenv("VAULT_CAPATH")
    assert await cli(*ASK, f"-ca-path={authorities.parent}") == "auth/token/root"
    assert await cli(*ASK, f"-ca-cert={folder / 'ca'}") == "auth/token/root"
    # A flag goes before the environment, also one of the other kind.
    monkeypatch.setenv("VAULT_CACERT", str(folder / "key"))
    assert await cli(*ASK, f"-ca-path={authorities.parent}") == "auth/token/root"
    await cli(*ASK, expect=1)


@pytest.mark.parametrize("words", [["-tls-skip-verify"], ["-tls-skip-verify=true"]])
async def test_any_certificate_is_accepted_when_that_was_said(cli, tls, words) -> None:
    assert await cli(*ASK, f"-address={tls[0]}", *words) == "auth/token/root"


async def test_skip_verify_is_a_boolean(cli, tls, monkeypatch) -> None:
    monkeypatch.setenv("VAULT_ADDR", tls[0])
    for said, status in (("1", 0), ("TRUE", 0), ("0", 2), ("false", 2), ("yes", 1)):
        monkeypatch.setenv("VAULT_SKIP_VERIFY", said)
        await cli(*ASK, expect=status)
    assert "VAULT_SKIP_VERIFY cannot be read [bad-variable]\nhint: it is true or false" in cli.err


async def test_a_certificate_is_shown(cli, tls, monkeypatch) -> None:
    address, folder = tls
    monkeypatch.setenv("VAULT_ADDR", address)
    monkeypatch.setenv("VAULT_SKIP_VERIFY", "true")
    await cli(*ASK)
    assert not (folder / "shown").exists()
    monkeypatch.setenv("VAULT_CLIENT_CERT", str(folder / "crt"))
    await cli(*ASK, expect=1)
    assert "[half-certificate]" in cli.err
    monkeypatch.setenv("VAULT_CLIENT_KEY", str(folder / "none"))
    await cli(*ASK, expect=1)
    assert f"client certificate {folder}/crt with the key {folder}/none [bad-cert" in cli.err
    monkeypatch.setenv("VAULT_CLIENT_KEY", str(folder / "key"))
    await cli(*ASK)
    shown = ssl.DER_cert_to_PEM_cert((folder / "shown").read_bytes())
    assert shown.split() == (folder / "crt").read_text().split()[: len(shown.split())]


@contextlib.asynccontextmanager
async def _serving(answer) -> AsyncIterator[str]:
    """An HTTP server of the test's own: `answer` turns a request into a reply, None is silence."""

    def handle(request: Request, exchange) -> None:
        reply = answer(request)
        if reply is not None:
            exchange.reply(reply)

    listener = Listener(handle, Limits(), SystemClock())
    _, port = await listener.start("127.0.0.1", 0)
    yield f"http://127.0.0.1:{port}"
    await listener.drain(0.1)


@pytest.mark.parametrize(
    "words",
    [
        ("kv", "get", "secret/a"), ("kv", "put", "secret/a", "k=v"), ("status",),
        ("write", "a/b", "k=v"), ("delete", "a/b"), ("list", "a/b"), ("token", "revoke", "hvs.a"),
        ("policy", "list"), ("secrets", "move", "a", "b"), ("operator", "init"),
        ("login", "-no-store", "-method=userpass", "username=a", "password=b"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b"<html>sign in</html>"), (404, b"<html>"), (502, b"bad gateway"), (404, b'{"a": 1}')],
)
async def test_what_is_no_store_is_told_apart(cli, monkeypatch, words, status, body) -> None:
    async with _serving(lambda request: Response(status, body=body)) as address:
        monkeypatch.setenv("VAULT_ADDR", address)
        assert await cli(*words, expect=1 if words[0] == "status" else 2) == ""
    assert ("is no store" if status == 200 else "* this is no answer of a store") in cli.err
    assert words[0] == "status" or "hint: is the address (-address, VAULT_ADDR)" in cli.err


@pytest.mark.parametrize(
    "words",
    [
        ("write", "a/b", "k=v"), ("delete", "a/b"), ("patch", "a/b", "k=v"), ("kv", "put", "secret/a", "k=v"),
        ("kv", "delete", "secret/a"), ("policy", "delete", "a"), ("secrets", "disable", "a"),
        ("auth", "enable", "userpass"), ("token", "revoke", "hvs.a"), ("lease", "revoke", "a/b"),
    ],
)  # fmt: skip
async def test_an_empty_page_is_no_word_that_something_was_done(cli, monkeypatch, words) -> None:
    """A proxy or a web server may answer so, and the write was called done."""
    answers = {"GET": Response(404, body=b'{"errors": []}')}
    async with _serving(lambda request: answers.get(request.method, Response(200))) as address:
        monkeypatch.setenv("VAULT_ADDR", address)
        assert await cli(*words, expect=2) == ""
    assert "is no store" in cli.err
    answers = dict.fromkeys(("GET", "PUT", "POST", "PATCH", "DELETE"), Response(204))
    async with _serving(lambda request: answers[request.method]) as address:
        monkeypatch.setenv("VAULT_ADDR", address)
        if words[0] != "kv":
            await cli(*words)


@pytest.mark.parametrize(
    "words",
    [
        ("kv", "get", "secret/a"), ("kv", "metadata", "get", "secret/a"), ("status",),
        ("token", "create"), ("token", "renew"), ("policy", "list"),
        ("policy", "read", "a"), ("auth", "list"), ("secrets", "list", "-detailed"),
        ("operator", "init"), ("operator", "init", "-status"),
        ("operator", "unseal", "k"), ("operator", "key-status"),
        ("operator", "generate-root", "-status"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("body", [b"{}", b'{"data": null, "auth": null}', b'{"data": {"a": "b"}}'])
async def test_a_reply_without_what_it_should_have_is_refused(
    cli, monkeypatch, words, body
) -> None:
    async with _serving(lambda request: Response(200, body=body)) as address:
        monkeypatch.setenv("VAULT_ADDR", address)
        await cli(*words, expect=1 if words[0] == "status" else 2)
    assert "the reply to " in cli.err
    assert "hint: is the address the store's" in cli.err


@pytest.mark.parametrize(
    "words",
    [
        ("token", "lookup"), ("login", "t"),
        ("audit", "timeline", "a", "--no-cluster", "--store-log", "/dev/null"),
    ],
)  # fmt: skip
async def test_a_reply_without_data_is_no_login_and_no_timeline(cli, monkeypatch, words) -> None:
    async with _serving(lambda request: Response(200, body=b"{}")) as address:
        monkeypatch.setenv("VAULT_ADDR", address)
        assert await cli(*words, expect=2) == ""
    assert "has no data [bad-reply]" in cli.err


async def test_a_silent_store_is_waited_for_as_long_as_was_said(cli, monkeypatch) -> None:
    async with _serving(lambda request: None) as address:
        monkeypatch.setenv("VAULT_ADDR", address)
        for said in ("300ms", "1"):
            monkeypatch.setenv("VAULT_CLIENT_TIMEOUT", said)
            await cli(*ASK, expect=2)
            assert "timed out" in cli.err
        monkeypatch.setenv("VAULT_CLIENT_TIMEOUT", "soon")
        await cli(*ASK, expect=1)
        assert "VAULT_CLIENT_TIMEOUT cannot be read" in cli.err


async def test_a_request_follows_to_another_node_once(cli, store, monkeypatch) -> None:
    def elsewhere(request: Request) -> Response:
        return Response(307, headers=(("Location", store.address + request.target),))

    async with _serving(elsewhere) as address:
        monkeypatch.setenv("VAULT_ADDR", address)
        assert await cli(*ASK) == "auth/token/root"
        await cli("kv", "put", "secret/a", "k=v")
        assert await cli("kv", "get", "-field=k", "secret/a") == "v"
        await cli(*ASK, "-disable-redirects", expect=2)
        assert "redirects are switched off [redirected]" in cli.err
        monkeypatch.setenv("VAULT_DISABLE_REDIRECTS", "1")
        await cli(*ASK, expect=2)
        assert f"sends the request to {store.address}" in cli.err


async def test_no_request_follows_in_circles_or_out_of_encryption(cli, monkeypatch) -> None:
    async with _serving(
        lambda request: Response(307, headers=(("Location", request.target),))
    ) as address:
        await cli(*ASK, f"-address={address}", expect=2)
        assert "which sends further [redirected]" in cli.err


async def test_a_request_never_leaves_encryption(tls) -> None:
    address, _ = tls
    where = StoreAddress(address, None, None, "", skip_verify=True)

    class Sending(StoreHttp):
        async def _followed(self, url, once):
            async def away(target: str) -> Response:
                return Response(307, headers=(("Location", "http://127.0.0.1:1/v1/x"),))

            return await super()._followed(url, away)

    async with Sending(where) as http:
        with pytest.raises(Unavailable) as refused:
            await http.request("GET", f"{address}/v1/sys/health")
    assert refused.value.message.endswith("http://127.0.0.1:1: that is not encrypted")


async def test_a_request_is_sent_again_only_where_that_was_said() -> None:
    replies = [503, 412, 500, 200]
    seen: list[int] = []

    def answer(request: Request) -> Response:
        seen.append(replies[len(seen)])
        return Response(seen[-1], b"{}", headers=(("Retry-After", "7"),) if seen[-1] == 503 else ())

    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    async with _serving(answer) as address:
        where = StoreAddress(address, None, None, "")
        async with StoreHttp(where, pause) as http:
            assert (await http.request("GET", address)).status == 503
        seen.clear()
        async with StoreHttp(StoreAddress(address, None, None, "", retries=3), pause) as http:
            assert (await http.request("GET", address)).status == 200
    assert (seen, pauses) == (replies, [7.0, 2.0, 4.0])
    pauses.clear()
    gone = StoreAddress("http://127.0.0.1:1", None, None, "", retries=2)
    async with StoreHttp(gone, pause) as http:
        with pytest.raises(Unavailable):
            await http.request("GET", "http://127.0.0.1:1/")
    assert pauses == [1.0, 2.0]


async def test_requests_keep_to_the_rate(store) -> None:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    where = StoreAddress(store.address, None, None, "", rate=(4.0, 2))
    async with StoreHttp(where, pause) as http:
        for _ in range(5):
            await http.request("GET", f"{store.address}/v1/sys/health")
    assert pauses == [0.25, 0.25, 0.25]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("VAULT_MAX_RETRIES", "often"),
        ("VAULT_MAX_RETRIES", "²"),
        ("VAULT_CLIENT_TIMEOUT", "²"),
        ("VAULT_RATE_LIMIT", "fast"),
        ("VAULT_FORMAT", "xml"),
    ],
)
async def test_a_variable_that_says_nothing_is_refused(cli, monkeypatch, name, said) -> None:
    monkeypatch.setenv(name, said)
    await cli(*ASK, expect=1)
    assert cli.err.startswith(f"error: {name} cannot be read [bad-variable]\nhint: it is ")


async def test_what_means_nothing_here_is_refused_with_its_reason(cli, monkeypatch) -> None:
    for name, why in REFUSED.items():
        monkeypatch.setenv(name, "true")
        await cli(*ASK, expect=1)
        assert cli.err == f"error: {name} is set: {why} [refused-variable]\nhint: unset {name}\n"
        monkeypatch.delenv(name)
    for words in (["-mfa=x:y"], ["-unlock-key", "k"], ["-token", "hvs.secret"]):
        await cli(*ASK, *words, expect=1)
        assert "hvs.secret" not in cli.err
        assert re.match(rf"error: {words[0].split('=')[0]}: \w+", cli.err)
    await cli(*ASK, "-address=unix:///run/agent.sock", expect=1)
    assert "unix sockets are not spoken" in cli.err


async def test_the_agent_is_asked_instead_of_the_store(cli, store, monkeypatch) -> None:
    monkeypatch.setenv("VAULT_ADDR", "http://127.0.0.1:1")
    monkeypatch.setenv("VAULT_AGENT_ADDR", store.address)
    assert await cli(*ASK) == "auth/token/root"
    monkeypatch.setenv("VAULT_AGENT_ADDR", "http://127.0.0.1:1")
    assert await cli(*ASK, "-agent-address", store.address) == "auth/token/root"
    assert await cli(*ASK, "-address", store.address) == "auth/token/root"


async def test_headers_and_the_namespace_reach_the_store(cli, monkeypatch) -> None:
    heard: list[dict[str, str]] = []

    def answer(request: Request) -> Response:
        heard.append(request.headers)
        return Response(200, b'{"data": {"path": "x"}}')

    async with _serving(answer) as address:
        monkeypatch.setenv("VAULT_ADDR", address)
        monkeypatch.setenv("VAULT_NAMESPACE", "team")
        monkeypatch.setenv("VAULT_WRAP_TTL", "2m")
        await cli(*ASK, "-header=X-A=1", "-header", "X-B=2", "-policy-override")
        await cli(*ASK, "-ns=other", "-wrap-ttl=5m")
    first, second = heard
    wanted = {"x-a": "1", "x-b": "2", "x-vault-policy-override": "true", "x-vault-request": "true"}
    assert {name: first.get(name) for name in wanted} == wanted
    assert (first["x-vault-namespace"], first["x-vault-wrap-ttl"]) == ("team", "2m")
    assert (second["x-vault-namespace"], second["x-vault-wrap-ttl"]) == ("other", "5m")
    assert "x-vault-policy-override" not in second


@contextlib.asynccontextmanager
async def _proxying() -> AsyncIterator[tuple[str, list[str]]]:
    """A proxy that passes bytes on, after a CONNECT or for a whole address (RFC 9110, 9.3.6)."""
    lines: list[str] = []
    tasks: set[asyncio.Task[None]] = set()

    async def passed(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while piece := await source.read(65536):
                sink.write(piece)
                await sink.drain()
        finally:
            sink.close()  # What is open at the end would be waited for.

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        line = head.split(b"\r\n", 1)[0].decode()
        lines.append(line)
        method, target, _ = line.split(" ")
        host = target if method == "CONNECT" else target.split("/")[2]
        name, port = host.split(":")
        up_reader, up_writer = await asyncio.open_connection(name, int(port))
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            up_writer.write(head.replace(f"http://{host}".encode(), b"", 1))
        tasks.add(asyncio.create_task(passed(reader, up_writer)))
        tasks.add(asyncio.create_task(passed(up_reader, writer)))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", lines
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    server.close()


@pytest.mark.parametrize("name", ["VAULT_PROXY_ADDR", "VAULT_HTTP_PROXY"])
async def test_a_proxy_is_gone_through(cli, tls, store, monkeypatch, name) -> None:
    address, folder = tls
    async with _proxying() as (proxy, lines):
        monkeypatch.setenv(name, proxy)
        assert await cli(*ASK) == "auth/token/root"
        words = [f"-address={address}", f"-ca-cert={folder / 'ca'}", "-tls-server-name=store.test"]
        assert await cli(*ASK, *words) == "auth/token/root"
    host = address.removeprefix("https://")
    assert lines[0] == f"GET {store.address}/v1/auth/token/lookup-self HTTP/1.1"
    assert lines[1] == f"CONNECT {host} HTTP/1.1"


def test_the_usual_proxies_hold_beyond_this_machine(monkeypatch) -> None:
    import argparse

    def proxy(address: str) -> str:
        return store_address(argparse.Namespace(address=address, token_file=None)).proxy

    for name in ("VAULT_PROXY_ADDR", "VAULT_HTTP_PROXY", "http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.test:3128")
    monkeypatch.delenv("HTTP_PROXY", raising=False)
    monkeypatch.setenv("NO_PROXY", ".inside.test")
    assert proxy("https://store.test:8200") == "http://proxy.test:3128"
    assert proxy("http://store.test:8200") == ""
    for near in ("https://localhost:8200", "https://127.0.0.1:8200", "https://a.inside.test"):
        assert proxy(near) == ""
    monkeypatch.setenv("VAULT_PROXY_ADDR", "http://own.test:1")
    assert proxy("https://localhost:8200") == "http://own.test:1"


def test_every_variable_of_vault_that_the_client_reads_is_in_the_list() -> None:
    """The list is what docs/cli.md shows; what a server reads is said where it is configured."""
    client = [SOURCE / "store_address.py", *sorted((SOURCE / "client").glob("*.py"))]
    named = {
        name
        for path in client
        for name in re.findall(r"\"(VAULT_[A-Z_]+)\"", path.read_text())
        if name not in REFUSED
    }
    read = named | {"VAULT_CLIENT_CERT", "VAULT_CLIENT_KEY", "VAULT_CONFIG_PATH"}
    assert read == set(VARIABLES)


async def test_a_certificate_that_is_not_trusted_is_said_in_words(tls) -> None:
    where = StoreAddress(tls[0], None, None, "", server_name="store.test")
    async with where.client() as http:
        with pytest.raises(Unavailable) as refused:
            await Session(where, http).ask("GET", "sys/health")
    message = "its certificate is not trusted: unable to get local issuer certificate"
    assert refused.value.message.endswith(message)
    assert "authority" in refused.value.hint


def test_the_servers_log_and_address_are_set_by_the_environment(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "v.hcl").write_text(
        'storage "inmem" {}\nlistener "tcp" { address = "127.0.0.1:1" tls_disable = true }\n'
    )
    words = ["server", "-test-config", "-config=v.hcl"]
    monkeypatch.setenv("VAULT_LOG_LEVEL", "loud")
    assert main(words) == 2
    assert "loud is no level of a log [bad-log-level]" in capsys.readouterr().err
    assert main([*words, "-log-level=debug"]) == 0
    monkeypatch.setenv("VAULT_LOG_LEVEL", "DEBUG")
    monkeypatch.setenv("VAULT_LOG_FORMAT", "xml")
    assert main(words) == 2
    assert "[bad-log-format]" in capsys.readouterr().err
    monkeypatch.setenv("VAULT_LOG_FORMAT", "json")
    assert main(words) == 0
    for said, status, told in (("perhaps", 2, "[bad-config]"), ("1", 0, "passwords may be tried")):
        monkeypatch.setenv("VAULT_DISABLE_USER_LOCKOUT", said)
        assert main(words) == status
        assert told in capsys.readouterr().err


def test_the_database_of_the_environment_goes_before_the_file(tmp_path: Path) -> None:
    """Its password is there then, and in no file."""
    (tmp_path / "v.hcl").write_text(
        'storage "postgresql" { connection_url = "postgresql://127.0.0.1:1/d" }\n'
        f'listener "tcp" {{ address = "127.0.0.1:{free_port()}" tls_disable = true }}\n'
        'audit "none" {}\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "strongroom", "server", "-config=v.hcl"], cwd=tmp_path,
        env=environment(tmp_path, VAULT_PG_CONNECTION_URL="postgresql://u:hunter2@h:port/d"),
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2
    assert "a port of it is no number" in done.stderr
    assert "hunter2" not in done.stderr


@pytest.mark.component
@pytest.mark.parametrize("workers", ["1", "2"])
async def test_the_number_of_the_process_that_takes_signals_is_in_a_file(
    tmp_path: Path, workers
) -> None:
    port = free_port()
    (tmp_path / "v.hcl").write_text(
        f'storage "file" {{ path = "d" }}\npid_file = "{tmp_path}/pid"\nworkers = {workers}\n'
        f'listener "tcp" {{ address = "127.0.0.1:{port}" tls_disable = true }}\n'
    )
    command = [*TIED_TO_PARENT, sys.executable, "-m", "strongroom", "server", "-config=v.hcl"]
    quiet = asyncio.subprocess.DEVNULL

    async def started() -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *command, cwd=tmp_path, env=environment(tmp_path), stdout=quiet, stderr=quiet
        )

    async def written() -> str | None:
        return (tmp_path / "pid").read_text() or None if (tmp_path / "pid").exists() else None

    process = await started()
    try:
        found = await until("the number", written, SystemClock(), seconds=120)
        assert found == str(process.pid)
        # Another that cannot start leaves it alone.
        assert await (await started()).wait() == 2
        assert await written() == found
        process.terminate()
        assert await process.wait() == 0
        assert await written() is None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.component
async def test_a_node_tells_the_address_of_its_environment(tmp_path: Path) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    process = await asyncio.create_subprocess_exec(
        *TIED_TO_PARENT, sys.executable, "-m", "strongroom", "server", "-dev",
        f"-dev-listen-address=127.0.0.1:{port}", "-dev-no-store-token",
        env=environment(tmp_path, VAULT_API_ADDR="https://store.test:8200",
                        VAULT_CLUSTER_ADDR="https://node.test:8201", VAULT_LOG_FORMAT="json"),
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip

    async def told() -> str | None:
        async with HttpClient() as http:
            reply = await http.request("GET", f"{address}/v1/sys/leader")
        said = json.loads(reply.body)
        return (
            f"{said['leader_address']} {said['leader_cluster_address']}"
            if (reply.status == 200)
            else None
        )

    try:
        told_address = await until("the server", told, SystemClock(), seconds=120)
        assert told_address == "https://store.test:8200 https://node.test:8201"
        assert process.stderr
        line = await process.stderr.readline()
        assert json.loads(line)["@level"] == "info"
    finally:
        process.kill()
        await process.wait()


def test_a_user_without_a_folder_is_served(monkeypatch, capsys) -> None:
    """As in a container, whose user id stands in no list; it ended with a traceback."""

    def nobody(_: int) -> None:
        raise KeyError("no such user")

    monkeypatch.setattr("pwd.getpwuid", nobody)
    monkeypatch.delenv("HOME", raising=False)
    assert main(["token", "lookup", "-address=http://127.0.0.1:1"]) == 2
    assert "no answer from http://127.0.0.1:1/" in capsys.readouterr().err
    assert main(["sync", "plan", "-f", "absent.yaml"]) == 2
