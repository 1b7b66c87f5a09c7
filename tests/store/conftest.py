"""A whole store in this process: real listener, real SQLite, audit in memory, a fake reviewer."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hvac
import pytest

from strongroom.audit.devices import AuditBroker, MemoryDevice
from strongroom.crypto.keyfile import create_key_file, load_key_file
from strongroom.model.clock import SimulatedClock
from strongroom.model.errors import Denied
from strongroom.model.principal import ReviewedToken
from strongroom.model.secret import Secret
from strongroom.store.assembly import Surroundings, assemble, open_cluster
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.sqlite import SqliteEngine
from strongroom.store.seal.key_file import KeyFileSeal
from strongroom.wire.client import HttpClient
from strongroom.wire.http import Response
from strongroom.wire.limits import Limits
from strongroom.wire.listener import Listener


class FakeReviewer:
    """Knows the tokens it was told; the same refusals as the cluster's."""

    def __init__(self) -> None:
        self.known: dict[str, ReviewedToken] = {}
        self.asked: list[tuple[str, tuple[str, ...]]] = []

    async def review(
        self, host: str, ca: str, reviewer: Secret, token: Secret, audiences: Sequence[str]
    ) -> ReviewedToken:
        self.asked.append((host, tuple(audiences)))
        found = self.known.get(token.reveal_text())
        if found is None:
            raise Denied("token-not-authenticated", "the cluster does not know this token")
        return found


@dataclass
class Store:
    """A running store and how to talk to it."""

    port: int
    root: str
    clock: SimulatedClock
    device: MemoryDevice
    reviewer: FakeReviewer
    engine: SqliteEngine
    http: HttpClient
    clients: list[hvac.Client] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def hvac(self, token: str = "") -> hvac.Client:
        client = hvac.Client(url=self.address, token=token or self.root)
        self.clients.append(client)
        return client

    async def run(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """A blocking client call beside the loop."""
        return await asyncio.to_thread(call, *args, **kwargs)

    async def ask(
        self, method: str, path: str, body: Any = None, token: str | None = None, **headers: str
    ) -> tuple[int, Any]:
        """Status and JSON of one request; `path` follows `/v1/`."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is None:
            token = self.root
        if token:
            sent["X-Vault-Token"] = token
        content = (
            body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        )
        reply: Response = await self.http.request(
            method, f"{self.address}/v1/{path}", headers=sent, body=content
        )
        try:
            return reply.status, json.loads(reply.body) if reply.body else None
        except ValueError:
            return reply.status, reply.body.decode()

    async def token_with(self, policy: str, **fields: Any) -> str:
        """A token that has one policy of this text."""
        name = f"p{abs(hash(policy))}"
        await self.ask("PUT", f"sys/policies/acl/{name}", {"policy": policy})
        _, made = await self.ask("POST", "auth/token/create", {"policies": [name], **fields})
        return str(made["auth"]["client_token"])

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.device.lines]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    create_key_file(tmp_path / "key")
    barrier, clock = Barrier(), SimulatedClock()
    engine = SqliteEngine(tmp_path / "db", barrier)
    root = await open_cluster(engine, barrier, KeyFileSeal(load_key_file(tmp_path / "key")), clock)
    assert root is not None
    device, reviewer = MemoryDevice(), FakeReviewer()
    handler = assemble(engine, barrier, Surroundings(clock, AuditBroker([device]), reviewer))
    listener = Listener(handler, Limits(body_bytes=2 * 1024 * 1024), clock)
    _, port = await listener.start("127.0.0.1", 0)
    async with HttpClient() as http:
        running = Store(port, root.reveal_text(), clock, device, reviewer, engine, http)
        yield running
        for client in running.clients:
            client.adapter.close()
    await asyncio.wait_for(_drained(listener, clock), 10)
    engine.close()


async def _drained(listener: Listener, clock: SimulatedClock) -> None:
    draining = asyncio.create_task(listener.drain(0.5))
    while not draining.done():
        await clock.advance(0.1)
    await draining
