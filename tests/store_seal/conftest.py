"""Nodes of one cluster in this process: each with its own barrier and seal, on one database."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from strongroom.audit.devices import AuditBroker, Enabled, MemoryDevice
from strongroom.crypto.aead import new_key
from strongroom.crypto.keyfile import WrappingKey
from strongroom.model.clock import SimulatedClock
from strongroom.store.assembly import Surroundings, front
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.sqlite import SqliteEngine
from strongroom.store.seal.backends import AutoSeal
from strongroom.store.seal.cluster import ClusterSeal, SealSetting
from strongroom.store.system.status import About
from strongroom.wire.http import Request, Response


class Answer:
    """The reply side, as a future."""

    gone = False

    def __init__(self) -> None:
        self.reply_ = asyncio.get_running_loop().create_future()
        self.hidden: bytes | None = None

    def reply(self, response: Response) -> None:
        self.reply_.set_result(response)


class Node:
    """One process of a cluster."""

    def __init__(
        self,
        folder: Path,
        setting: SealSetting,
        *,
        open_paths: bool = True,
        audit: tuple[Enabled, ...] = (),
        background: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self.clock = SimulatedClock()
        self.barrier = Barrier()
        self.engine = SqliteEngine(folder / "db", self.barrier)
        self.seal = ClusterSeal(self.engine, self.barrier, setting, self.clock)
        self.device = MemoryDevice()
        self.opens = frozenset({"rekey", "generate-root"} if open_paths else ())
        broker = self.broker = AuditBroker([self.device, *audit])
        about = About("1", audit=lambda: broker.failing, background=background)
        around = Surroundings(self.clock, broker, None, self.seal, about, api_audit=bool(audit))
        self.front = front(self.engine, self.barrier, around)

    async def ask(
        self, method: str, path: str, body: Any = None, token: str = "", **more: str
    ) -> tuple[int, Any]:
        """Status and JSON of one request."""
        content = b"" if body is None else json.dumps(body).encode()
        headers = {name.replace("_", "-"): each for name, each in more.items()}
        if token:
            headers["x-vault-token"] = token
        target = path if path.startswith("/") else f"/v1/{path}"
        answer = Answer()
        asked = Request(method, target, headers, content, "127.0.0.1", opens=self.opens)
        self.front(asked, answer)
        reply = await asyncio.wait_for(answer.reply_, 60)
        if reply.content_type != "application/json":
            return reply.status, reply.body.decode()
        return reply.status, json.loads(reply.body) if reply.body else None

    async def init(self, shares: int = 3, threshold: int = 2) -> tuple[list[str], str]:
        """Initialise with Shamir: the shares and the root token."""
        body = {"secret_shares": shares, "secret_threshold": threshold}
        status, made = await self.ask("PUT", "sys/init", body)
        assert status == 200, made
        return made["keys"], made["root_token"]

    async def unseal(self, keys: list[str], **more: Any) -> dict[str, Any]:
        """Hand in shares one after the other; the last reply."""
        reply: dict[str, Any] = {}
        for key in keys:
            status, reply = await self.ask("PUT", "sys/unseal", {"key": key, **more})
            assert status == 200, reply
        return reply


Start = Callable[..., Node]


async def opened(start: Start, **more: Any) -> tuple[Node, list[str], str]:
    """A node of a new cluster, unsealed, with its keys and root token."""
    node = start(**more)
    return node, *await opened_with(node)


async def opened_with(node: Node) -> tuple[list[str], str]:
    """The keys and root token of a new cluster that the node has unsealed."""
    keys, root = await node.init()
    await node.unseal(keys[:2])
    return keys, root


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts nodes on one database; `auto` is a wrapper, `old` the one it replaces."""
    nodes: list[Node] = []
    own = WrappingKey([new_key()])

    def make(auto: Any = None, old: Any = None, join: WrappingKey = own, **more: Any) -> Node:
        def named(wrapper: Any) -> AutoSeal | None:
            return AutoSeal(wrapper.name, wrapper) if wrapper else None

        setting = SealSetting(named(auto), named(old), join)
        nodes.append(Node(tmp_path, setting, **more))
        return nodes[-1]

    yield make
    for node in nodes:
        await node.engine.close()
