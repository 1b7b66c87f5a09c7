"""The listener: LIST, order of replies, limits, smuggling probes, slow and idle peers."""

import asyncio
import io
import json
import os
import socket
from collections.abc import Callable
from typing import BinaryIO

import pytest

from strongroom.model.errors import Misuse
from strongroom.wire.http import Request, Response
from strongroom.wire.limits import Limits
from strongroom.wire.listener import Listener


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


def get(path: str = "/v1/a", method: str = "GET", headers: str = "") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode()


async def test_get_list_get_on_one_connection(bench) -> None:
    """LIST is a verb of its own and leaves the connection usable."""
    peer = await bench.peer()
    for method in ("GET", "LIST", "GET", "HELP", "SCAN", "GET"):
        await peer.send(get(method=method))
        status, body = await peer.reply()
        assert (status, json.loads(body)["method"]) == (200, method)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"FOO /v1/a HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"VERSION-CONTROL", 400),
        (b"hello there\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01", 400),
    ],
)
async def test_a_method_that_nobody_knows_is_told_from_noise(bench, data, status) -> None:
    peer = await bench.peer()
    await peer.send(data)
    found, body = await peer.reply()
    assert (found, bool(json.loads(body)["errors"])) == (status, True)


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("http://store.example:8200/v1/a?b=c", "/v1/a?b=c"),
        ("HTTPS://store.example/v1//a", "/v1//a"),
        ("http://store.example", "/"),
        ("http://store.example?list=true", "/?list=true"),
        ("http://store.example/http://other/v1/a", "/http://other/v1/a"),
        ("/http://store.example/v1/a", "/http://store.example/v1/a"),
    ],
)
async def test_a_target_may_name_its_host(bench, target, path) -> None:
    """As clients send it that take the store for a proxy."""
    peer = await bench.peer()
    for method in ("GET", "LIST"):
        await peer.send(get(target, method))
        status, body = await peer.reply()
        assert (status, json.loads(body)["target"]) == (200, path)


@pytest.mark.parametrize("written", ["hvs.a ", " hvs.a", "hvs.a\t", " \thvs.a \t "])
async def test_white_space_around_a_value_is_no_part_of_it(bench, written) -> None:
    """RFC 9110, 5.5: a token from a file may come with what stood behind it there."""
    peer = await bench.peer()
    await peer.send(get(headers=f"X-Vault-Token:{written}\r\nX-A: b \r\nX-A: c\t\r\n"))
    assert (await peer.reply())[0] == 200
    headers = bench.echo.seen[-1].headers
    assert (headers["x-vault-token"], headers["x-a"]) == ("hvs.a", "b, c")


@pytest.mark.parametrize("cut", [1, 2, 4])
async def test_list_cut_between_packets(bench, cut) -> None:
    """Fewer than five bytes at a boundary are held until the verb shows."""
    peer = await bench.peer()
    data = get(method="LIST")
    await peer.send(data[:cut])
    await until(lambda: [each._held for each in bench.listener.places] == [data[:cut]])
    await peer.send(data[cut:])
    assert json.loads((await peer.reply())[1])["method"] == "LIST"


async def test_a_list_behind_another_request_in_one_packet_fails_closed(bench) -> None:
    """400 rather than a guess."""
    peer = await bench.peer()
    await peer.send(get() + get(method="LIST"))
    assert (await peer.reply())[0] == 200
    assert (await peer.reply())[0] == 400
    assert await peer.ended()


async def test_replies_leave_in_the_order_of_their_requests(bench) -> None:
    """A later reply that is ready first waits for its turn."""
    bench.echo.held = []
    peer = await bench.peer()
    await peer.send(get("/1") + get("/2"))
    await until(lambda: len(bench.echo.held) == 2)
    first, second = bench.echo.held
    second.reply(Response(200, b'"second"'))
    await asyncio.sleep(0.01)
    first.reply(Response(200, b'"first"'))
    assert [(await peer.reply())[1], (await peer.reply())[1]] == [b'"first"', b'"second"']


async def test_a_second_reply_is_misuse(bench) -> None:
    """Exactly one."""
    await bench.ask(get())
    with pytest.raises(Misuse):
        bench.echo.exchanges[0].reply(Response(200))


async def test_a_reply_to_a_peer_that_left_is_no_error(bench) -> None:
    """It may leave while the audit record is written."""
    bench.echo.held = []
    peer = await bench.peer()
    await peer.send(get())
    await until(lambda: bench.echo.held)
    peer.close()
    await until(lambda: bench.echo.held[0].gone)
    bench.echo.held[0].reply(Response(200, b"late"))


CL = "Content-Length: 3\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n"
PROBES = {
    "length and chunked": (get(method="POST", headers=CL + CHUNKED) + b"abc", 400),
    "two lengths": (get(method="POST", headers=CL + "Content-Length: 4\r\n") + b"abc", 400),
    "space before colon": (get(headers="X : y\r\n"), 400),
    "folded header": (get(headers="X: y\r\n z\r\n"), 400),
    "nul in a value": (get(headers="X: a\0b\r\n"), 400),
    "bare line feeds": (b"GET / HTTP/1.1\nHost: x\n\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two tokens": (get(headers="X-Vault-Token: a\r\nX-Vault-Token: b\r\n"), 400),
    "no http": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "large headers": (get(headers="X: " + "y" * 4000 + "\r\n"), 431),
    "many headers": (get(headers="".join(f"X-{n}: y\r\n" for n in range(40))), 431),
    "large body announced": (get(method="PUT", headers="Content-Length: 5000\r\n"), 413),
}  # fmt: skip


@pytest.mark.parametrize("name", PROBES)
async def test_probe_is_refused_before_the_handler_sees_it(bench, name) -> None:
    """Framing two readers could disagree about is refused, with an error body, and closed."""
    data, expected = PROBES[name]
    peer = await bench.peer()
    await peer.send(data)
    status, body = await peer.reply()
    assert (status, list(json.loads(body))) == (expected, ["errors"])
    assert bench.echo.seen == []
    assert await peer.ended()


async def test_a_chunked_body_is_cut_at_the_limit_while_it_streams(bench) -> None:
    """Without a length to announce it."""
    peer = await bench.peer()
    await peer.send(get(method="PUT", headers="Transfer-Encoding: chunked\r\n"))
    await peer.send(b"400\r\n" + b"a" * 1024 + b"\r\n")
    await peer.send((b"400\r\n" + b"a" * 1024 + b"\r\n") * 4)
    assert (await peer.reply())[0] == 413


@pytest.mark.parametrize(
    ("framing", "pieces"),
    [
        ("Content-Length: 6", (b"abc", b"def")),
        ("Transfer-Encoding: chunked", (b"3\r\nabc\r\n", b"3\r\ndef\r\n0\r\n\r\n")),
    ],
)
async def test_a_body_arrives_whole_and_expect_is_answered(bench, framing, pieces) -> None:
    """curl waits for 100 before it sends a larger body, and one of no known length (`-T -`)."""
    peer = await bench.peer()
    await peer.send(get(method="PUT", headers=f"{framing}\r\nExpect: 100-continue\r\n"))
    assert await peer.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    for piece in pieces:
        await peer.send(piece)
    assert json.loads((await peer.reply())[1])["size"] == 6


async def test_pieces_of_a_body_stay_in_their_order(bench) -> None:
    """Small ones are put together, and large ones are not."""
    peer = await bench.peer()
    pieces = [bytes([number]) * size for number, size in enumerate((3, 1, 2, 1500, 1, 2, 3, 1100))]
    await peer.send(get(method="PUT", headers="Transfer-Encoding: chunked\r\n"))
    await peer.send(b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in pieces))
    await peer.send(b"0\r\n\r\n")
    assert (await peer.reply())[0] == 200
    assert bench.echo.seen[-1].body == b"".join(pieces)


async def test_who_sends_first_and_reads_then_learns_why_it_was_refused(bench) -> None:
    """As proxies do. What is more than the limit is dropped, and not for ever."""
    many = 16 * 1024 * 1024

    def send_then_read() -> bytes:
        with socket.create_connection(("127.0.0.1", bench.port), 60) as peer:
            peer.sendall(get(method="PUT", headers=f"Content-Length: {many}\r\n") + bytes(many))
            return peer.recv(1000)

    assert b" 413 " in await asyncio.to_thread(send_then_read)
    assert (len(bench.echo.seen), bench.listener.buffered) == (0, 0)
    endless = await bench.peer()
    await endless.send(get(method="PUT", headers="Content-Length: 100000\r\n"))
    assert (await endless.reply())[0] == 413
    assert await endless.ended()
    await until(lambda: bench.listener.connections == 1)
    bench.clock.ahead = 31.0
    await until(lambda: bench.listener.connections == 0)


async def test_slow_headers_are_answered_408_and_idle_peers_closed(bench) -> None:
    """By the clock, not by luck."""
    slow, idle = await bench.peer(), await bench.peer()
    await slow.send(b"GET / HTTP/1.1\r\nHost:")
    await idle.send(get())
    await idle.reply()
    bench.clock.ahead = 11.0
    assert (await slow.reply())[0] == 408
    bench.clock.ahead = 400.0
    assert await idle.ended()


async def test_silent_peers_keep_nobody_out(bench) -> None:
    """Bounded: beyond the limit the one that was silent for longest is cut."""
    peers = [await bench.peer() for _ in range(1200)]
    await until(lambda: bench.listener.connections == 1200)
    await peers[0].send(get())
    assert (await peers[0].reply())[0] == 200
    assert await bench.ask(get()) == 200
    assert await peers[1].ended()
    assert bench.listener.connections == 1200
    # Whoever has asked something since then stays, and those that came later too.
    for peer in (peers[0], peers[2]):
        await peer.send(get())
        assert (await peer.reply())[0] == 200


async def test_who_waits_for_a_reply_makes_no_room(bench) -> None:
    few = Listener(bench.echo, Limits(connections=3), bench.clock)
    _, bench.port = await few.start("127.0.0.1", 0)
    bench.echo.held = []
    peers = [await bench.peer() for _ in range(3)]
    for peer in peers:
        await peer.send(get())
    await until(lambda: len(bench.echo.held) == 3)
    assert await (await bench.peer()).ended()
    # One in the midst of a request is owed nothing.
    for each in bench.echo.held:
        each.reply(Response(200, b"done"))
    for peer in peers:
        assert await peer.reply() == (200, b"done")
    await peers[0].send(get()[:20])
    for peer in peers[1:]:
        await peer.send(get())
    await until(lambda: len(bench.echo.held) == 5)
    last = await bench.peer()
    await last.send(get())
    assert await peers[0].ended()
    await until(lambda: len(bench.echo.held) == 6)
    for each in bench.echo.held[3:]:
        each.reply(Response(200, b"done"))
    for peer in (*peers[1:], last):
        assert await peer.reply() == (200, b"done")
    await few.drain(0.2)


class Kept:
    """A spool for every body, from who says so."""

    most_bytes = 4096

    def wants(self, method: str, target: str) -> bool:
        return method == "POST"

    async def admits(self, request: Request) -> bool:
        return "x-known" in request.headers

    def open(self) -> BinaryIO:
        return io.BytesIO()


async def test_who_sends_a_body_that_nobody_wants_makes_room(bench) -> None:
    """It needs no token, and would keep a place for a minute by a line."""
    few = Listener(bench.echo, Limits(connections=2), bench.clock, spool=Kept())
    _, bench.port = await few.start("127.0.0.1", 0)
    peers = []
    for more in ("", "x-known: 1\r\n"):
        peers.append(await bench.peer())
        head = get(method="POST", headers=f"Content-Length: 4\r\nExpect: 100-continue\r\n{more}")
        await peers[-1].send(head)
        await peers[-1].reader.readuntil(b"\r\n\r\n")
    unwanted, sends = peers
    assert await bench.ask(get()) == 200
    assert await unwanted.ended()
    assert await bench.ask(get()) == 200
    await sends.send(b"body")
    assert (await sends.reply())[0] == 200
    await few.drain(0.2)


async def test_of_a_body_for_disk_nothing_is_read_before_its_sender_is_known(bench) -> None:
    """It would wait in memory for the answer of a slow database, from anybody."""
    known = asyncio.Event()

    class Slow(Kept):
        async def admits(self, request: Request) -> bool:
            return await known.wait()

    listener = Listener(bench.echo, Limits(), bench.clock, spool=Slow())
    _, bench.port = await listener.start("127.0.0.1", 0)
    peer = await bench.peer()
    await peer.send(get(method="POST", headers="Transfer-Encoding: chunked\r\n"))
    await until(lambda: [each for each in listener.places if each._spooling])
    (connection,) = listener.places
    assert connection.transport is not None
    assert not connection.transport.is_reading()
    known.set()
    await peer.send(b"4\r\nbody\r\n0\r\n\r\n")
    assert (await peer.reply())[0] == 200
    kept = bench.echo.seen[-1].file
    assert kept is not None
    await listener.drain(0.2)


async def test_what_is_not_for_disk_has_the_bound_of_memory(bench) -> None:
    listener = Listener(bench.echo, Limits(body_bytes=10), bench.clock, spool=Kept())
    _, bench.port = await listener.start("127.0.0.1", 0)
    more = "Content-Length: 11\r\nx-known: 1\r\n"
    for method, status in (("PUT", 413), ("POST", 200)):
        assert await bench.ask(get(method=method, headers=more) + bytes(11)) == status
    await listener.drain(0.2)


async def test_who_reads_a_long_reply_is_not_silent(bench) -> None:
    """Its end waits to be sent when nothing else is owed any more, and would be lost."""
    few = Listener(bench.echo, Limits(connections=2), bench.clock)
    _, bench.port = await few.start("127.0.0.1", 0)
    bench.echo.held = []
    peer = await bench.peer()
    await peer.send(get())
    await until(lambda: bench.echo.held)
    (reading,) = few.places
    bench.echo.held.pop().reply(Response(200, bytes(16 * 1024 * 1024)))
    await until(lambda: not reading._peer_reads)
    bench.echo.held = None
    silent = await bench.peer()
    await silent.send(get())
    assert (await silent.reply())[0] == 200
    while not reading._peer_reads:
        assert await peer.reader.read(4096)
    assert await bench.ask(get()) == 200
    assert reading.transport is not None
    assert await silent.ended()
    await few.drain(0.2)


async def test_drain_answers_what_is_under_way(bench) -> None:
    """And refuses new connections."""
    bench.echo.held = []
    peer = await bench.peer()
    await peer.send(get())
    await until(lambda: bench.echo.held)
    draining = asyncio.create_task(bench.listener.drain(5))
    await asyncio.sleep(0)
    bench.echo.held[0].reply(Response(200, b"done"))
    assert await peer.reply() == (200, b"done")
    assert await peer.ended()
    await draining
    with pytest.raises(OSError, match=r"refused|Connect"):
        await bench.peer()


async def test_drain_answers_what_was_sent_as_it_began(bench) -> None:
    """A proxy that has just put a request on a pooled connection would answer 502."""
    pooled, unused = await bench.peer(), await bench.peer()
    for each in (pooled, unused):
        await each.send(get())
        assert (await each.reply())[0] == 200
    draining = asyncio.create_task(bench.listener.drain(30))
    await asyncio.sleep(0)
    await pooled.send(get())
    assert b"Connection: close" in await pooled.reader.readuntil(b"\r\n\r\n")
    assert await unused.ended()
    async with asyncio.timeout(20):
        await draining


async def test_head_and_204_have_no_body(bench) -> None:
    """But HEAD keeps the length a GET would have."""
    peer = await bench.peer()
    await peer.send(get(method="HEAD"))
    head = await peer.reader.readuntil(b"\r\n\r\n")
    assert b"Content-Length: " in head
    bench.echo.held = []
    await peer.send(get())
    await until(lambda: bench.echo.held)
    bench.echo.held[0].reply(Response(204))
    assert b"Content-Length" not in await peer.reader.readuntil(b"\r\n\r\n")


class Counted(io.BytesIO):
    """A file that tells how far it was read, also after it was closed."""

    furthest = 0

    def read(self, size: int | None = -1, /) -> bytes:
        piece = super().read(size)
        self.furthest = self.tell()
        return piece


async def test_a_file_is_sent_as_the_peer_reads_and_the_next_reply_follows(bench) -> None:
    """A peer that does not read costs a bounded buffer, not the file."""
    content = os.urandom(1 << 20) * 16
    file = Counted(content)
    bench.echo.held = []
    peer = await bench.peer()
    await peer.send(get("/file") + get("/next"))
    await until(lambda: len(bench.echo.held) == 2)
    first, second = bench.echo.held
    second.reply(Response(200, b'"next"'))
    first.reply(Response(200, content_type="application/octet-stream", file=file))
    await asyncio.sleep(0.01)
    assert 0 < file.furthest < len(content) - (1 << 20)
    assert await peer.reply() == (200, content)
    assert file.closed
    assert await peer.reply() == (200, b'"next"')


async def test_a_file_is_closed_when_its_peer_leaves(bench) -> None:
    """Nothing is kept for somebody who is gone."""
    file = Counted(bytes(16 << 20))
    bench.echo.held = []
    peer = await bench.peer()
    await peer.send(get("/file"))
    await until(lambda: bench.echo.held)
    bench.echo.held[0].reply(Response(200, file=file))
    peer.close()
    await until(lambda: file.closed)


async def test_all_addresses_are_those_of_ipv4_as_well(bench) -> None:
    """`[::]:8200` is what charts write, also where there is IPv4 alone; as in Vault."""
    listener = Listener(bench.echo, Limits(), bench.clock)
    try:
        _, port = await listener.start("::", 0, reuse_port=True)
    except OSError:
        pytest.skip("this machine has no IPv6")
    other = Listener(bench.echo, Limits(), bench.clock)
    await other.start("::", port, reuse_port=True)
    for host in ("127.0.0.1", "::1"):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(get())
        async with asyncio.timeout(60):
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        assert bench.echo.seen[-1].peer == host
        writer.close()
    await listener.drain(0.1)
    await other.drain(0.1)
