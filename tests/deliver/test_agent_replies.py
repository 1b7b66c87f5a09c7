"""The agent beside servers that answer otherwise: another store, a proxy, a mistake in a path."""

import asyncio
import contextlib
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tests.conftest import over_tls

from strongroom.app.waiting import until
from strongroom.deliver.agent.config import AgentConfig, SecretFiles
from strongroom.deliver.agent.loop import Agent
from strongroom.deliver.agent.store import REPLY_BYTES, StoreClient, reason_of
from strongroom.model.clock import SimulatedClock, SystemClock
from strongroom.model.errors import Unavailable

LOGIN = ("POST", "/v1/auth/kubernetes/login")
READ = ("GET", "/v1/secret/data/db")
ACK = ("PUT", "/v1/sys/consumers/ack")
GOOD = {
    LOGIN: (200, {"auth": {"client_token": "t", "lease_duration": 600}}),
    READ: (200, {"data": {"data": {"password": "marked"}, "metadata": {"version": 3}}}),
    ACK: (204, None),
}


class Server(ThreadingHTTPServer):
    """Answers what it is told to, and counts."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.replies: dict[tuple[str, str], tuple[int, object]] = dict(GOOD)
        self.asked: list[tuple[str, str]] = []


class _Handler(BaseHTTPRequestHandler):
    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = (self.command, self.path)
        self.server.asked.append(asked)
        status, body = self.server.replies[asked]
        content = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with contextlib.suppress(OSError):  # Who asked may have heard enough.
            self.wfile.write(content)

    do_GET = do_POST = do_PUT = _answer  # noqa: N815 - names that the base class calls

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock()


@pytest.fixture
def agent(server, tmp_path, clock) -> Agent:
    (tmp_path / "token").write_text("jwt")
    config = AgentConfig(
        f"http://127.0.0.1:{server.server_port}", None, "kubernetes", "app", tmp_path / "token",
        tmp_path / "out", (SecretFiles("secret/data/db", {}),),
    )  # fmt: skip
    return Agent(config, clock)


def test_a_store_that_denies_acknowledgements_is_used_all_the_same(
    agent, server, tmp_path, capsys
) -> None:
    # Vault and OpenBao deny what no policy names, whether or not they know the path.
    server.replies[ACK] = (403, {"errors": ["1 error occurred: permission denied"]})
    agent.refresh()
    agent.refresh()
    assert (tmp_path / "out" / "password").read_text() == "marked"
    assert (server.asked.count(LOGIN), server.asked.count(ACK)) == (1, 1)
    assert capsys.readouterr().err.count("takes no acknowledgements") == 1


async def test_a_login_is_repeated_in_time_and_what_is_held_is_told_under_its_token(
    agent, server, clock
) -> None:
    """With the token of before its acknowledgement ends, and a rotation would not wait for it."""
    for seconds, logins in ((0, 1), (390, 1), (10, 2), (0, 2)):
        await clock.advance(seconds)
        agent.refresh()
        assert (server.asked.count(LOGIN), server.asked.count(ACK)) == (logins, logins)


async def test_a_store_without_a_feed_is_asked_at_each_interval(server, tmp_path) -> None:
    clock, poll = SystemClock(), 0.2
    server.replies["GET", "/v1/sys/events/subscribe/kv*?json=true"] = (404, {"errors": []})
    (tmp_path / "token").write_text("jwt")
    config = {
        "address": f"http://127.0.0.1:{server.server_port}",
        "auth": {"role": "app", "token_file": str(tmp_path / "token")},
        "output": str(tmp_path / "out"), "poll_seconds": poll,
        "secrets": [{"path": "secret/data/db"}],
    }  # fmt: skip
    (tmp_path / "agent.json").write_text(json.dumps(config))
    began = clock.monotonic()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "strongroom.deliver.agent", "--config", str(tmp_path / "agent.json"),
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip

    async def holds(value: str) -> bool | None:
        path = tmp_path / "out" / "password"
        return True if path.exists() and path.read_text() == value else None

    try:
        for version, value in ((3, "marked"), (4, "second"), (5, "third")):
            data = {"data": {"password": value}, "metadata": {"version": version}}
            server.replies[READ] = (200, {"data": data})
            await until(value, lambda value=value: holds(value), clock, seconds=120)
        asked = server.asked.count(READ)
        assert asked <= (clock.monotonic() - began) / poll + 2
    finally:
        process.terminate()
        await process.wait()
    assert server.asked.count(LOGIN) == 1


@pytest.mark.parametrize(
    ("what", "body"),
    [
        (READ, {"data": {"password": "marked"}}),
        (READ, {"data": None}),
        (READ, {"data": {"data": None, "metadata": {"version": 1}}}),
        (READ, {"data": {"data": "marked", "metadata": {"version": 1}}}),
        (READ, ["marked"]),
        (LOGIN, {"auth": None}),
        (LOGIN, {"data": "marked"}),
        (LOGIN, {"auth": {"client_token": "marked"}}),
        (LOGIN, {**GOOD[LOGIN][1], "marked": "x" * REPLY_BYTES}),
    ],
)
def test_another_answer_is_refused_and_told(agent, server, what, body) -> None:
    server.replies[what] = (200, body)
    with pytest.raises(Unavailable) as caught:
        agent.refresh()
    assert caught.value.code in ("bad-reply", "not-kv2")
    assert "marked" not in str(caught.value)


def test_the_reason_of_a_login_that_was_refused_is_told(agent, server) -> None:
    server.replies[LOGIN] = (400, {"errors": ["token not yet valid"]})
    with pytest.raises(Unavailable, match="status 400: token not yet valid"):
        agent.refresh()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"errors": ["a\\n b\\u001b[2J"]}', "a b[2J"),
        (b'{"errors": []}', ""),
        (b'{"errors": null}', ""),
        (b"<html>", ""),
        (b"[]", ""),
        (json.dumps({"errors": ["x" * 999]}).encode(), "x" * 200),
    ],
)
def test_a_reason_is_one_line(body, reason) -> None:
    assert reason_of(body) == reason


async def test_an_authority_that_was_replaced_is_read_anew(tmp_path) -> None:
    def nothing(*_: object) -> None:
        """Only hands are shaken."""

    servers = [await over_tls(nothing, tmp_path / name) for name in ("one", "two")]
    try:
        (_, _, former), (_, address, present) = servers
        known = tmp_path / "ca.pem"
        known.write_bytes(former.read_bytes())
        client = StoreClient(address, known)
        with pytest.raises(ssl.SSLError):
            await asyncio.to_thread(client.connection().connect)
        # As a ConfigMap's file changes: another one under the name.
        (tmp_path / "new.pem").write_bytes(present.read_bytes())
        (tmp_path / "new.pem").rename(known)
        connection = client.connection()
        await asyncio.to_thread(connection.connect)
        connection.close()
        # One that cannot be read keeps nobody from going on when it can be again.
        known.write_text("no certificate")
        with pytest.raises(Unavailable, match="bad-ca"):
            client.connection()
        known.write_bytes(present.read_bytes())
        client.connection()
        # As somebody writes over a file: the same one, and as long as before.
        known.write_bytes(b"x" * known.stat().st_size)
        os.utime(known, (1.0, 1.0))
        with pytest.raises(Unavailable, match="bad-ca"):
            client.connection()
    finally:
        for listener, _, _ in servers:
            await listener.drain(0.1)


def test_an_interrupt_is_no_traceback(agent, tmp_path) -> None:
    config = {
        "address": "http://127.0.0.1:1",
        "auth": {"role": "app", "token_file": str(tmp_path / "token")},
        "output": str(tmp_path / "out"),
        "secrets": [{"path": "secret/data/db"}],
    }
    (tmp_path / "agent.json").write_text(json.dumps(config))
    with subprocess.Popen(
        [sys.executable, "-m", "strongroom.deliver.agent", "--config", str(tmp_path / "agent.json")],
        stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:  # fmt: skip
        try:
            assert process.stderr is not None
            said = process.stderr.readline()
            process.send_signal(signal.SIGINT)
            said += process.communicate(timeout=60)[1]
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    assert process.returncode == 130
    assert "Traceback" not in said
