"""A listener on loopback under a clock the test moves, and a raw peer to probe it with."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from strongroom.model.clock import SystemClock
from strongroom.wire.http import Request, Response
from strongroom.wire.limits import Limits
from strongroom.wire.listener import Exchange, Listener


class ManualClock(SystemClock):
    """Real pauses, but `monotonic` runs ahead by what the test adds."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.02))


@dataclass
class Echo:
    """Answers with what it saw; holds replies back while `held` is a list."""

    seen: list[Request] = field(default_factory=list)
    held: list[Exchange] | None = None
    exchanges: list[Exchange] = field(default_factory=list)

    def __call__(self, request: Request, exchange: Exchange) -> None:
        self.seen.append(request)
        self.exchanges.append(exchange)
        if self.held is not None:
            self.held.append(exchange)
            return
        exchange.reply(self.answer(request))

    @staticmethod
    def answer(request: Request) -> Response:
        body = {"method": request.method, "target": request.target, "size": len(request.body)}
        return Response(200, json.dumps(body).encode())


class Peer:
    """A raw TCP peer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def reply(self) -> tuple[int, bytes]:
        """One reply: status and body."""
        async with asyncio.timeout(60):
            head = await self.reader.readuntil(b"\r\n\r\n")
            status = int(head.split(b" ", 2)[1])
            length = 0
            for line in head.split(b"\r\n"):
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            return status, await self.reader.readexactly(length)

    async def ended(self) -> bool:
        """Whether the listener closed the connection."""
        async with asyncio.timeout(60):
            try:
                return await self.reader.read(1) == b""
            except ConnectionResetError:
                return True

    def close(self) -> None:
        self.writer.close()


class Bench:
    """A running listener with its handler and clock."""

    def __init__(self, limits: Limits) -> None:
        self.clock = ManualClock()
        self.echo = Echo()
        self.listener = Listener(self.echo, limits, self.clock)
        self.port = 0
        self._peers: list[Peer] = []

    async def peer(self) -> Peer:
        self._peers.append(Peer(*await asyncio.open_connection("127.0.0.1", self.port)))
        return self._peers[-1]

    async def ask(self, data: bytes) -> int:
        """The status one request on a connection of its own gets."""
        peer = await self.peer()
        await peer.send(data)
        return (await peer.reply())[0]

    def close(self) -> None:
        for peer in self._peers:
            peer.close()


SMALL = Limits(header_bytes=2048, header_fields=20, body_bytes=4096, connections=1200, pipelined=4)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    running = Bench(SMALL)
    _, running.port = await running.listener.start("127.0.0.1", 0)
    yield running
    running.close()
    await running.listener.drain(0.2)
