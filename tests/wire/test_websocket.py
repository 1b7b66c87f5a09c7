"""What a websocket asks of the connection below it."""

import asyncio
import socket
from pathlib import Path

import pytest

from strongroom.model.clock import SimulatedClock, SystemClock
from strongroom.model.errors import Invalid
from strongroom.wire.client import HttpClient
from strongroom.wire.exchange import Exchange
from strongroom.wire.http import Request, Response
from strongroom.wire.limits import Limits
from strongroom.wire.listener import Listener
from strongroom.wire.websocket import WebSocket


async def test_a_peer_that_has_vanished_is_noticed_though_nothing_is_sent() -> None:
    """It kept its connection for as long as it had nothing to hear."""
    accepted: asyncio.Queue[dict[str, int]] = asyncio.Queue()

    def handler(request: Request, exchange: Exchange) -> None:
        opened = exchange.accept_websocket(request)
        connection = opened._transport.get_extra_info("socket")
        options = {
            name: connection.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
            for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")
        }
        on = connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        accepted.put_nowait({**options, "on": on})
        opened.close()

    listener = Listener(handler, Limits(), SystemClock())
    host, port = await listener.start("127.0.0.1", 0)
    async with HttpClient() as http:
        assert [each async for each in http.messages(f"http://{host}:{port}/v1/x")] == []
    await listener.drain(0.2)
    found = await accepted.get()
    assert found.pop("on") == 1
    assert found["TCP_KEEPIDLE"] + found["TCP_KEEPINTVL"] * found["TCP_KEEPCNT"] <= 120


async def test_a_peer_that_left_before_its_websocket_was_open_is_no_error() -> None:
    """As one that waited for the database; its request is answered, for the record, once."""
    asked: asyncio.Queue[tuple[Request, Exchange]] = asyncio.Queue()
    listener = Listener(lambda *request: asked.put_nowait(request), Limits(), SystemClock())
    host, port = await listener.start("127.0.0.1", 0)
    _, writer = await asyncio.open_connection(host, port)
    writer.write(
        b"GET /v1/x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
    )
    request, exchange = await asked.get()
    writer.transport.abort()
    async with asyncio.timeout(30):
        while not exchange.gone:
            await asyncio.sleep(0)
    with pytest.raises(Invalid, match="the client has gone"):
        exchange.accept_websocket(request)
    exchange.reply(Response(400, b"{}"))
    await listener.drain(0.2)


async def test_a_websocket_on_a_unix_socket_has_no_such_options(tmp_path: Path) -> None:
    opened: list[WebSocket] = []
    loop = asyncio.get_running_loop()

    class Peer(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            opened.append(WebSocket(transport))  # type: ignore[arg-type]
            opened[0].close()

    server = await loop.create_unix_server(Peer, str(tmp_path / "s"))
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
    assert await reader.read()
    assert opened[0].closed.is_set()
    writer.close()
    server.close()


async def test_a_websocket_outlives_the_time_that_idle_connections_have() -> None:
    """It has no requests, and its subscriber may hear of nothing for days."""
    opened: asyncio.Queue[WebSocket] = asyncio.Queue()

    def handler(request: Request, exchange: Exchange) -> None:
        opened.put_nowait(exchange.accept_websocket(request))

    clock = SimulatedClock()
    listener = Listener(handler, Limits(idle_seconds=10), clock)
    host, port = await listener.start("127.0.0.1", 0)
    async with HttpClient() as http:
        messages = http.messages(f"http://{host}:{port}/v1/x")
        told = asyncio.ensure_future(anext(messages))
        websocket = await opened.get()
        await clock.advance(60)
        assert websocket.send_text("still here")
        assert await told == "still here"
        await messages.aclose()
    websocket.close()
    await asyncio.gather(listener.drain(0.2), clock.advance(1))
