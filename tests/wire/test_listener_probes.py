"""What two readers of one byte stream could disagree about, what never ends, and what only waits."""

import asyncio
import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import uvloop

from strongroom.crypto.x509_dev import issue
from strongroom.model.clock import SystemClock
from strongroom.wire.http import Response
from strongroom.wire.limits import Limits
from strongroom.wire.listener import Listener
from strongroom.wire.tls import server_context

HEAD = b"POST /v1/a HTTP/1.1\r\nHost: x\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
SECOND = b"GET /v1/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"

REFUSED = {
    "CL.TE": HEAD + b"Content-Length: 6\r\n" + CHUNKED + b"\r\n0\r\n\r\nG",
    "TE.CL": HEAD + CHUNKED + b"Content-Length: 4\r\n\r\n5c\r\nGPOST",
    "TE.TE, another coding last": HEAD + CHUNKED + b"Transfer-Encoding: x\r\n\r\n0\r\n\r\n" + SECOND,
    "TE.TE, identity last": HEAD + CHUNKED + b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "TE spelled with a tab": HEAD + b"Transfer-Encoding:\tchunked, x\r\n\r\n0\r\n\r\n" + SECOND,
    "TE with a space before the colon": HEAD + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "TE of a version that has none": HEAD.replace(b"1.1", b"1.0") + CHUNKED + b"\r\n0\r\n\r\n"
    + SECOND,
    "lengths that differ": HEAD + b"Content-Length: 3\r\nContent-Length: 30\r\n\r\nabc" + SECOND,
    "lengths that agree": HEAD + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "a list of lengths": HEAD + b"Content-Length: 3, 3\r\n\r\nabc",
    "a length with a sign": HEAD + b"Content-Length: +3\r\n\r\nabc",
    "a length in hexadecimal": HEAD + b"Content-Length: 0x3\r\n\r\nabc",
    "a length that overflows": HEAD + b"Content-Length: 18446744073709551617\r\n\r\nabc",
    "a negative length": HEAD + b"Content-Length: -1\r\n\r\n",
    "a folded field": HEAD + b"X-A: b\r\n Content-Length: 3\r\n\r\nabc",
    "a first field that is folded": HEAD.replace(b"Host", b" Host") + b"\r\n",
    "bare line feeds": HEAD.replace(b"\r\n", b"\n") + b"\n",
    "a bare line feed in a field": HEAD + b"X-A: b\nContent-Length: 3\r\n\r\nabc",
    "a bare carriage return": HEAD + b"X-A: b\rContent-Length: 3\r\n\r\nabc",
    "a chunk size with a sign": HEAD + CHUNKED + b"\r\n+3\r\nabc\r\n0\r\n\r\n",
    "a chunk size with 0x": HEAD + CHUNKED + b"\r\n0x3\r\nabc\r\n0\r\n\r\n",
    "a chunk size that overflows": HEAD + CHUNKED + b"\r\n10000000000000003\r\nabc\r\n0\r\n\r\n",
    "a chunk without its end": HEAD + CHUNKED + b"\r\n3\r\nabcX0\r\n\r\n",
    "a chunk that ends in a line feed": HEAD + CHUNKED + b"\r\n3\r\nabc\n0\r\n\r\n",
    "a chunk size that ends in a line feed": HEAD + CHUNKED + b"\r\n3\nabc\r\n0\r\n\r\n",
    "an extension with a line feed": HEAD + CHUNKED + b"\r\n3;a\nb\r\nabc\r\n0\r\n\r\n",
    "a control character in the target": b"GET /v1/\x01a HTTP/1.1\r\nHost: x\r\n\r\n",
    "a space in the target": b"GET /v1/a b HTTP/1.1\r\nHost: x\r\n\r\n",
    "a second Host": HEAD + b"Host: y\r\n\r\n",
    "a version that is none": b"GET /v1/a HTTP/9.9\r\nHost: x\r\n\r\n",
    "a name that is no token": HEAD + b"X(A): b\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
async def test_what_could_be_read_in_two_ways_is_refused_and_nothing_after_it_is_read(
    bench, name
) -> None:
    peer = await bench.peer()
    await peer.send(REFUSED[name])
    status, body = await peer.reply()
    assert (status // 100, list(json.loads(body))) == (4, ["errors"])
    assert [each.target for each in bench.echo.seen] == []
    assert await peer.ended()


async def test_a_trailer_is_no_header(bench) -> None:
    """Whoever stands in front has judged the headers; what comes after the body is not among them."""
    peer = await bench.peer()
    await peer.send(
        HEAD + CHUNKED + b"\r\n3\r\nabc\r\n0\r\nX-Vault-Token: stolen\r\nX-Other: y\r\n\r\n"
    )
    assert (await peer.reply())[0] == 200
    (seen,) = bench.echo.seen
    assert (seen.body, set(seen.headers)) == (b"abc", {"host", "transfer-encoding"})
    peer = await bench.peer()
    await peer.send(HEAD + CHUNKED + b"\r\n0\r\n" + b"X-A: y\r\n" * 100 + b"\r\n")
    assert (await peer.reply())[0] == 431


async def test_an_extension_of_a_chunk_is_not_kept_and_has_its_bound(bench) -> None:
    peer = await bench.peer()
    await peer.send(HEAD + CHUNKED + b"\r\n3;name=value\r\nabc\r\n0\r\n\r\n")
    assert (await peer.reply())[0] == 200
    assert bench.echo.seen[0].body == b"abc"
    peer = await bench.peer()
    await peer.send(HEAD + CHUNKED + b"\r\n")
    for _ in range(40):
        await peer.send(b"1;" + b"x" * 1000 + b"\r\na\r\n")
    assert (await peer.reply())[0] == 400
    peer = await bench.peer()
    await peer.send(HEAD + CHUNKED + b"\r\n")
    await peer.send(b"1\r\na\r\n" * 4000 + b"0\r\n\r\n")
    assert (await peer.reply())[0] == 200
    assert [len(each.body) for each in bench.echo.seen] == [3, 4000]


async def test_a_body_in_small_chunks_takes_no_more_memory_than_its_bytes(bench) -> None:
    """Each of its pieces by itself took twenty times as much, which no bound counted."""
    listener = Listener(bench.echo, Limits(), bench.clock)
    _, bench.port = await listener.start("127.0.0.1", 0)
    peer = await bench.peer()
    await peer.send(HEAD + CHUNKED + b"\r\n")
    pieces = [bytes((97 + number % 26,)) * (1 + number % 3) for number in range(60_000)]
    for start in range(0, len(pieces), 1000):
        await peer.send(
            b"".join(b"%x\r\n%b\r\n" % (len(e), e) for e in pieces[start : start + 1000])
        )
    whole = b"".join(pieces)
    async with asyncio.timeout(60):
        while listener.buffered < len(whole):
            await asyncio.sleep(0.01)
    (connection,) = listener.places
    assert sum(sys.getsizeof(each) for each in connection._body) < 1.5 * len(whole)
    await peer.send(b"0\r\n\r\n")
    assert (await peer.reply())[0] == 200
    assert bench.echo.seen[0].body == whole
    await listener.drain(0.1)


async def test_a_body_that_trickles_ends_at_its_deadline(bench) -> None:
    peer = await bench.peer()
    await peer.send(HEAD + b"Content-Length: 100\r\n\r\n")
    for _ in range(5):
        await peer.send(b"x")
        await asyncio.sleep(0.01)
    bench.clock.ahead = 45.0
    await peer.send(b"x")
    await asyncio.sleep(0.1)
    bench.clock.ahead = 61.0
    assert (await peer.reply())[0] == 408
    assert bench.echo.seen == []


async def test_a_peer_that_reads_no_replies_is_not_read_from(bench) -> None:
    """Its replies wait in its own socket; memory holds no more than a few of them."""
    peer = await bench.peer()
    peer.writer.transport.pause_reading()
    request = b"GET /v1/" + b"a" * 1000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"

    async def ask() -> None:
        while True:
            await peer.send(request)
            await asyncio.sleep(0)

    asking = asyncio.create_task(ask())
    (connection,) = bench.listener.places
    async with asyncio.timeout(60):
        while connection.transport.is_reading():
            await asyncio.sleep(0.01)
        # What the kernel takes at first may make room once more; in the end nothing moves.
        served, still = 0, 0
        while still < 20:
            await asyncio.sleep(0.01)
            still = still + 1 if len(bench.echo.seen) == served else 0
            served = len(bench.echo.seen)
    assert not asking.done()
    asking.cancel()
    assert connection.transport.get_write_buffer_size() < 1_000_000


async def test_requests_of_one_packet_are_bounded_as_well(bench) -> None:
    bench.echo.held = []
    peer = await bench.peer()
    await peer.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
    async with asyncio.timeout(60):
        while len(bench.echo.seen) < 16:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    assert len(bench.echo.seen) == 16
    for each in bench.echo.held:
        each.reply(Response(200, b"{}"))
    assert [(await peer.reply())[0] for _ in range(17)] == [200] * 16 + [429]
    assert await peer.ended()


async def test_bodies_that_arrive_together_share_one_bound(bench) -> None:
    """Nobody is authenticated yet; a thousand who send half a body each fill no memory."""
    listener = Listener(bench.echo, Limits(body_bytes=10_000, buffered_bytes=25_000), bench.clock)
    _, bench.port = await listener.start("127.0.0.1", 0)
    head = HEAD + b"Content-Length: 9000\r\n\r\n"
    held = []
    for _ in range(2):
        held.append(await bench.peer())
        await held[-1].send(head + b"x" * 8900)
    async with asyncio.timeout(60):
        while listener.buffered < 17_800:
            await asyncio.sleep(0.01)
    late = await bench.peer()
    await late.send(head + b"x" * 8900)
    assert (await late.reply())[0] == 503
    assert await late.ended()
    for peer in held:
        await peer.send(b"x" * 100)
        assert (await peer.reply())[0] == 200
    assert listener.buffered == 0
    again = await bench.peer()
    await again.send(head + b"x" * 8900)
    async with asyncio.timeout(60):
        while listener.buffered != 8900:
            await asyncio.sleep(0.01)
        again.close()
        while listener.buffered:
            await asyncio.sleep(0.01)
    await listener.drain(0.1)


async def test_who_holds_most_of_the_bound_of_bodies_is_let_go_for_who_sends_little(bench) -> None:
    """A few large bodies that never end kept everybody from sending any, logins too."""
    listener = Listener(bench.echo, Limits(body_bytes=10_000, buffered_bytes=25_000), bench.clock)
    _, bench.port = await listener.start("127.0.0.1", 0)
    held = []
    for size in (8900, 9000, 7000):
        held.append(await bench.peer())
        await held[-1].send(HEAD + b"Content-Length: 9999\r\n\r\n" + b"x" * size)
    async with asyncio.timeout(60):
        while listener.buffered < 24_900:
            await asyncio.sleep(0.01)
    late = await bench.peer()
    await late.send(HEAD + b"Content-Length: 300\r\n\r\n" + b"x" * 300)
    assert (await late.reply())[0] == 200
    assert (await held[1].reply())[0] == 503
    assert await held[1].ended()
    assert listener.buffered == 15_900
    await late.send(HEAD + b"Content-Length: 300\r\n\r\n" + b"x" * 300)
    assert (await late.reply())[0] == 200
    await listener.drain(0.1)


async def test_replies_that_nobody_reads_share_one_bound(bench) -> None:
    """A few requests in one packet ask for much; whoever leaves most of it unread is let go."""
    limit, piece = 6_000_000, 1_000_000
    listener = Listener(bench.echo, Limits(unread_bytes=limit), bench.clock)
    _, bench.port = await listener.start("127.0.0.1", 0)
    bench.echo.held = []
    greedy, modest = await bench.peer(), await bench.peer()
    for peer, number in ((greedy, 12), (modest, 3)):
        peer.writer.transport.pause_reading()
        await peer.send(SECOND * number)
        async with asyncio.timeout(60):
            while len(bench.echo.held) < number:
                await asyncio.sleep(0.01)
        # The first is answered last: the others wait for it.
        for each in reversed(bench.echo.held):
            each.reply(Response(200, b"x" * piece))
            assert listener.unread <= limit
        bench.echo.held.clear()
    async with asyncio.timeout(60):
        while listener.connections > 1:
            await asyncio.sleep(0.01)
    modest.writer.transport.resume_reading()
    assert [len((await modest.reply())[1]) for _ in range(3)] == [piece] * 3
    async with asyncio.timeout(60):
        while listener.unread:
            await asyncio.sleep(0.01)
    await listener.drain(0.1)


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
async def test_a_peer_that_never_reads_is_let_go(bench, version) -> None:
    """Closing waits until all is sent, which is never: the place would be taken for good."""
    bench.echo.held = []
    peer = await bench.peer()
    peer.writer.transport.pause_reading()
    await peer.send(SECOND.replace(b"1.1", version))
    async with asyncio.timeout(60):
        while not bench.echo.held:
            await asyncio.sleep(0.01)
    bench.echo.held[0].reply(Response(200, b"x" * 32_000_000))
    await asyncio.sleep(0.05)
    assert bench.listener.connections == 1
    bench.clock.ahead = 400.0
    async with asyncio.timeout(60):
        while bench.listener.connections:
            await asyncio.sleep(0.01)


H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
WEBSOCKET = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"


async def test_a_client_that_would_rather_speak_http2_is_served_in_what_it_asked_in(bench) -> None:
    """Java's client says so in its first request over plain HTTP, and goes on in HTTP/1.1."""
    peer = await bench.peer()
    for _ in range(2):
        await peer.send(HEAD + H2C + b"Content-Length: 3\r\n\r\nabc")
        assert json.loads((await peer.reply())[1])["size"] == 3
        await peer.send(SECOND)
        assert json.loads((await peer.reply())[1])["target"] == "/v1/smuggled"
    await peer.send(HEAD + H2C + CHUNKED + b"\r\n3\r\nabc\r\n")
    await peer.send(b"0\r\n\r\n" + SECOND)
    assert json.loads((await peer.reply())[1])["size"] == 3
    assert json.loads((await peer.reply())[1])["target"] == "/v1/smuggled"
    await peer.send(SECOND.replace(b"\r\n\r\n", b"\r\n" + H2C + b"X-A: b\r\n\r\n") * 3)
    assert [(await peer.reply())[0] for _ in range(3)] == [200] * 3
    assert set(bench.echo.seen[-1].headers) == {"host", "x-a"}
    await peer.send(HEAD + H2C.replace(b"Upgrade, ", b"Upgrade, close, ") + b"\r\n")
    assert (await peer.reply())[0] == 200
    assert await peer.ended()


@pytest.mark.parametrize(
    "data", [HEAD + WEBSOCKET + b"\r\n", b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n"]
)
async def test_what_may_be_another_protocol_is_not_read_on_and_says_so(bench, data) -> None:
    """Whoever is answered in HTTP is told that this was the last reply of the connection."""
    peer = await bench.peer()
    await peer.send(data + SECOND)
    head = await peer.reader.readuntil(b"\r\n\r\n")
    assert b"Connection: close" in head
    assert len(bench.echo.seen) == 1
    async with asyncio.timeout(60):
        assert b"smuggled" not in await peer.reader.read()


async def test_a_body_behind_another_request_is_asked_for_when_its_turn_comes(bench) -> None:
    bench.echo.held = []
    peer = await bench.peer()
    await peer.send(SECOND + HEAD + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n")
    async with asyncio.timeout(60):
        while not bench.echo.held:
            await asyncio.sleep(0.01)
    bench.echo.held[0].reply(Response(200, b"{}"))
    assert (await peer.reply())[0] == 200
    async with asyncio.timeout(60):
        assert await peer.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    bench.echo.held = None
    await peer.send(b"abc")
    assert json.loads((await peer.reply())[1])["size"] == 3


@pytest.mark.parametrize("value", ["a\r\nX-B: c", "a\nb", "a\rb", "\u2126"])
async def test_a_header_that_cannot_be_sent_is_an_error_and_no_silence(bench, value) -> None:
    bench.echo.held = []
    peer = await bench.peer()
    await peer.send(SECOND)
    async with asyncio.timeout(60):
        while not bench.echo.held:
            await asyncio.sleep(0.01)
    bench.echo.held[0].reply(Response(200, b"{}", headers=(("X-A", value),)))
    assert await peer.reply() == (500, b'{"errors": ["internal error"]}')


CLIENTS = """
import resource, socket, sys
port, number = int(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (number + 200, number + 200))
held = [socket.create_connection(("127.0.0.1", port)) for _ in range(number)]
print("connected", flush=True)
sys.stdin.readline()
answered = 0
for each in held[:: number // 100]:
    try:
        each.sendall(b"GET /v1/a HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
        assert each.recv(100).startswith(b"HTTP/1.1 200"), "not answered"
        answered += 1
    except ConnectionResetError:
        pass
print("answered", answered, flush=True)
sys.stdin.readline()
"""


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.component
async def test_ten_thousand_idle_connections_are_held_in_bounded_memory(bench) -> None:
    number = 10_000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < number + 500:
        pytest.skip(f"this machine allows {hard} open files to a process")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, number + 500), hard))
    listener = Listener(bench.echo, Limits(), bench.clock)
    _, port = await listener.start("127.0.0.1", 0)
    before = resident()
    clients = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CLIENTS, str(port), str(number),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(120):
            assert await clients.stdout.readline() == b"connected\n"
            # Of those that come while the kernel's queue is full some are told that they are
            # connected and are not: they are when they send something, or are reset by then.
            while listener.connections < number * 0.98:
                await asyncio.sleep(0.05)
            grown = resident() - before
            assert grown < number * 16 * 1024, f"{grown // number} bytes a connection"
            clients.stdin.write(b"\n")
            answered = (await clients.stdout.readline()).split()
            assert answered[:1] == [b"answered"]
            assert int(answered[1]) >= 90, answered
            # Idle for longer than they may be, they are let go.
            bench.clock.ahead = 400.0
            while listener.connections:
                await asyncio.sleep(0.05)
    finally:
        clients.kill()
        await clients.wait()
        await listener.drain(0.2)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


TLS_CLIENTS = CLIENTS.replace(
    "held = [", "import ssl\ntrust = ssl.create_default_context(cafile=sys.argv[3])\nheld = ["
).replace(
    'socket.create_connection(("127.0.0.1", port))',
    'trust.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="localhost")',
)


@pytest.mark.component
@pytest.mark.long
def test_idle_connections_with_tls_are_held_in_bounded_memory(tmp_path: Path) -> None:
    """On the event loop that serves: what a connection keeps there is most of what it costs."""
    made = issue(("localhost",), SystemClock().now())
    certificate, key, authority = (tmp_path / name for name in ("crt", "key", "ca"))
    for path, content in ((certificate, made.certificate), (key, made.key)):
        path.write_bytes(content)
    authority.write_bytes(made.authority)
    number = 1000

    async def hold() -> int:
        listener = Listener(
            lambda _, exchange: exchange.reply(Response(200, b"{}")),
            # The handshakes of all come one after the other, and nobody asks before.
            Limits(header_seconds=120.0),
            SystemClock(),
        )
        _, port = await listener.start("127.0.0.1", 0, tls=server_context(certificate, key))
        before = resident()
        clients = await asyncio.create_subprocess_exec(
            sys.executable, "-c", TLS_CLIENTS, str(port), str(number), str(authority),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(120):
                assert await clients.stdout.readline() == b"connected\n"
                while listener.connections < number:
                    await asyncio.sleep(0.05)
                grown = resident() - before
                clients.stdin.write(b"\n")
                answered = (await clients.stdout.readline()).split()
                assert answered[:1] == [b"answered"]
                assert int(answered[1]) >= 90, answered
                return grown
        finally:
            clients.kill()
            await clients.wait()
            await listener.drain(0.1)

    grown = uvloop.run(hold())
    assert grown < number * 64 * 1024, f"{grown // number} bytes a connection"
