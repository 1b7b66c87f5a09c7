"""Servers that answer badly on the wire: each is a refusal that names no more than the address."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from io import BytesIO

import pytest

from strongroom.model.errors import TooLarge, Unanswered, Unavailable
from strongroom.wire.client import LINE_BYTES, NOT_PLAIN, HttpClient, Route, shown_address
from strongroom.wire.http import Response

Serve = Callable[..., Awaitable[str]]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
ANSWERS = {
    "half a body": HEAD + b'Content-Length: 100\r\n\r\n{"data": {"password": "canary',
    "half a chunk": HEAD + b'Transfer-Encoding: chunked\r\n\r\n40\r\n{"password": "canary',
    "half a head": HEAD + b"X-Canary: canary",
    "no HTTP": b"SSH-2.0-canary\r\n",
    "no word": b"",
}


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """A server that reads a request, writes what it is told, and hangs up unless it is to stay."""
    servers: list[asyncio.Server] = []
    left = asyncio.Event()

    async def start(answer: bytes, *, stays: bool = False) -> str:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(asyncio.IncompleteReadError):
                await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            if stays:
                await left.wait()
            writer.close()

        servers.append(await asyncio.start_server(talk, "127.0.0.1", 0))
        return f"http://127.0.0.1:{servers[-1].sockets[0].getsockname()[1]}/v1/secret/data/db"

    yield start
    left.set()
    for each in servers:
        each.close()
        await each.wait_closed()


@pytest.mark.parametrize("answer", ANSWERS)
async def test_what_ends_early_is_no_answer(serve: Serve, answer: str) -> None:
    url = await serve(ANSWERS[answer])
    async with HttpClient() as http:
        with pytest.raises(Unavailable) as caught:
            await http.request("GET", url)
    assert caught.value.code == "unreachable"
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("answer", [b"", ANSWERS["half a body"]])
async def test_who_says_nothing_is_given_up_at_the_deadline(serve: Serve, answer: bytes) -> None:
    url = await serve(answer, stays=True)
    async with HttpClient() as http:
        with pytest.raises(Unavailable, match="timed out"):
            await http.request("GET", url, timeout=0.2)


@pytest.mark.parametrize("status", [b"200 OK", b"500 Internal Server Error"])
async def test_a_reply_is_as_large_as_the_route_allows_and_no_larger(
    serve: Serve, status: bytes
) -> None:
    """Also of one that is read as a stream: what went wrong is told in a body."""
    head = b"HTTP/1.1 " + status + b"\r\nConnection: close\r\n\r\n"
    fits, large = await serve(head + bytes(100)), await serve(head + bytes(101))
    async with HttpClient(route=Route(reply_bytes=100)) as http:
        assert len((await http.request("GET", fits)).body) == 100
        with pytest.raises(TooLarge, match="over 100 bytes"):
            await http.request("GET", large)
        if not status.startswith(b"200"):
            with pytest.raises(TooLarge, match="over 100 bytes"):
                await http.download(large, BytesIO())
            with pytest.raises(TooLarge, match="over 100 bytes"):
                await anext(http.lines(large))


async def test_a_line_of_a_stream_has_its_bound(serve: Serve) -> None:
    url = await serve(HEAD + b"Connection: close\r\n\r\none\n" + bytes(LINE_BYTES + 1))
    async with HttpClient() as http:
        lines = http.lines(url)
        await anext(lines)
        assert await anext(lines) == b"one"
        with pytest.raises(TooLarge, match="a line is over"):
            await anext(lines)


async def test_one_that_was_given_up_spoils_no_later_call(serve: Serve) -> None:
    bad = await serve(ANSWERS["half a body"])
    good = await serve(HEAD + b"Content-Length: 2\r\n\r\n{}")
    async with HttpClient() as http:
        with pytest.raises(Unavailable):
            await http.request("GET", bad)
        assert (await http.request("GET", good)).body == b"{}"


@pytest.mark.parametrize(
    "url", ["https://u:canary@127.0.0.1:1/a/b?token=canary", "http://canary@127.0.0.1:1/a@b/c"]
)
async def test_an_address_is_told_without_what_it_lets_in_with(url: str) -> None:
    """Operators write a user and a password into addresses of key sets and lists."""
    async with HttpClient() as http:
        with pytest.raises(Unavailable) as caught:
            await http.request("GET", url)
    assert "127.0.0.1:1/a" in caught.value.message
    assert "canary" not in str(caught.value)
    assert shown_address("nowhere/x?y") == "nowhere/x"


@pytest.mark.parametrize(
    "url", ["http://a..b/v1", f"http://{'a' * 64}.example/v1", "http://.localhost:1/v1"]
)
async def test_a_host_that_cannot_be_is_no_address(url: str) -> None:
    async with HttpClient() as http:
        with pytest.raises(Unavailable, match="that is no address"):
            await http.request("GET", url)


@pytest.mark.parametrize(
    "how", [{"headers": {"X-Vault-Token": "canary\ncanary"}}, {"method": "canary x"}]
)
async def test_what_would_break_a_request_apart_is_refused(serve: Serve, how: dict) -> None:
    """Two lines in a token's file were a traceback."""
    url = await serve(HEAD + b"Content-Length: 2\r\n\r\n{}")
    async with HttpClient() as http:
        with pytest.raises(Unavailable, match="cannot be sent") as caught:
            await http.request(how.get("method", "GET"), url, headers=how.get("headers"))
        assert "canary" not in str(caught.value)
        if "headers" in how:
            for call in (http.download(url, BytesIO(), **how), anext(http.lines(url, **how))):
                with pytest.raises(Unavailable, match="cannot be sent"):
                    await call


async def test_a_cookie_of_one_identity_is_not_sent_with_anothers_request() -> None:
    """Namespaces share the client of a store; a session that a server opened was the first one's."""
    seen: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                seen.append(await reader.readuntil(b"\r\n\r\n"))
            except asyncio.IncompleteReadError:
                break
            writer.write(HEAD + b"Set-Cookie: session=one; Path=/\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    url = f"http://localhost:{server.sockets[0].getsockname()[1]}/"
    async with HttpClient() as http:
        for who in ("one", "two"):
            await http.request("GET", url, headers={"Authorization": who})
    server.close()
    assert len(seen) == 2
    assert b"cookie" not in seen[1].lower()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("call", ["request", "download", "upload", "lines", "messages"])
async def test_no_call_goes_elsewhere(serve: Serve, status: int, call: str) -> None:
    """The token would go along: a change feed was sent on with it to whatever host was named."""
    asked: list[str] = []

    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readline()).decode())
        writer.close()

    elsewhere = await asyncio.start_server(other, "127.0.0.1", 0)
    place = f"http://127.0.0.1:{elsewhere.sockets[0].getsockname()[1]}/"
    head = f"HTTP/1.1 {status} Moved\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n"
    url, token = await serve(head.encode()), {"X-Vault-Token": "canary"}
    async with HttpClient() as http:
        if call == "messages":
            with pytest.raises(Unavailable, match=f"status {status}"):
                await anext(http.messages(url.replace("http", "ws", 1), headers=token))
        elif call == "lines":
            first = await anext(http.lines(url, headers=token))
            assert isinstance(first, Response)
            assert first.status == status
        else:
            calls = {
                "request": lambda: http.request("GET", url, headers=token),
                "download": lambda: http.download(url, BytesIO(), headers=token),
                "upload": lambda: http.upload(url, BytesIO(b"x"), headers=token),
            }
            assert (await calls[call]()).status == status
    elsewhere.close()
    assert asked == []


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST", "PATCH", "GET", "LIST"])
async def test_what_may_be_done_is_not_sent_again_and_that_is_said(method: str, kept: bool) -> None:
    """aiohttp would: a node that was killed had written, and the next one wrote once more."""
    asked: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if b"/first" not in head:
                asked.append(head)
                writer.close()
                return
            writer.write(HEAD + b"Content-Length: 2\r\n\r\n{}")

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, HttpClient() as http:
        if kept:
            await http.request("GET", f"{url}/first")
        with pytest.raises(Unavailable) as caught:
            await http.request(method, f"{url}/v1/a?token=canary", body=b"{}")
    looks = method in ("GET", "LIST")
    assert len(asked) == (2 if method == "GET" else 1)
    said = f"no answer from {url}/v1/a: the connection was closed without a reply"
    assert isinstance(caught.value, Unanswered) != looks
    assert caught.value.code == "unreachable"
    # Who asks tells whether that matters: some read by POST.
    assert caught.value.message == said
    # So ends each request to a server that speaks TLS alone.
    assert caught.value.hint == NOT_PLAIN


@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST", "PATCH", "LIST"])
async def test_nothing_is_sent_into_a_connection_that_was_closed_while_nobody_looked(
    method: str,
) -> None:
    """As while a person is asked at a prompt: it would be said to be done perhaps."""
    answered, closed = threading.Event(), threading.Event()
    asked: list[bytes] = []

    def talk(listener: socket.socket) -> None:
        for number in range(2):
            peer = listener.accept()[0]
            asked.append(peer.recv(65536))
            peer.sendall(HEAD + b"Content-Length: 2\r\n\r\n{}")
            if number == 0:
                answered.wait(10)
            peer.close()
            closed.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=talk, args=(listener,), daemon=True)
        server.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1/a"
        async with HttpClient() as http:
            await http.request("GET", url)
            answered.set()
            # The loop stands still meanwhile.
            assert closed.wait(10)
            assert (await http.request(method, url)).status == 200
        server.join(10)
    assert len(asked) == 2


async def test_what_was_not_sent_is_not_said_to_be_done_perhaps(serve: Serve) -> None:
    async with HttpClient() as http:
        for url in ("http://127.0.0.1:1/", "http://no-such-host.invalid/", "http:///"):
            with pytest.raises(Unavailable) as caught:
                await http.request("PUT", url, body=b"{}")
            assert not isinstance(caught.value, Unanswered)
        for answer, stays in ((ANSWERS["half a body"], False), (b"", True)):
            url = await serve(answer, stays=stays)
            with pytest.raises(Unanswered):
                await http.request("PUT", url, body=b"{}", timeout=0.5)
