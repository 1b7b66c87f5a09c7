"""Two servers on one PostgreSQL, harmed at random while clients of both do everything at once.

What is checked all the while, and again whenever it is quiet: reads of a secret are linearizable,
no acknowledged write is lost or seen half, a compare-and-set counts once, a revoked token is used
no more, and no token, lease or credential lives past its end.
"""

import asyncio
import base64
import contextlib
import json
import os
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from issuing_process import run_issuing
from server_process import CLOCK, Server

from strongroom.app.dev.postgres import ThrowawayPostgres
from strongroom.app.waiting import until
from strongroom.model.errors import Refusal
from strongroom.store.leases import CLAIM_SECONDS
from strongroom.wire.client import HttpClient, Route

pytestmark = [pytest.mark.component, pytest.mark.timeout(1500)]

SEED = int(os.environ.get("STORY_SEED", "20261127"))
# How often something is harmed; a longer story for whoever has the time.
HARMS = int(os.environ.get("STORY_HARMS", "6"))
KEYS = 12
TTL = 4
# Between the end of what expires and the background work that takes it away.
GRACE = 60.0
POLICY = """
path "secret/data/story/*" { capabilities = ["read"] }
path "iss/*" { capabilities = ["read"] }
"""
REFUSED = (0, 503)
BIG = "x" * 3000


@dataclass
class Key:
    """A secret: what is known to be there, and what each version was seen to hold."""

    least: int = 0
    seen: dict[int, str] = field(default_factory=dict)
    sent: set[str] = field(default_factory=set)
    acked: list[int] = field(default_factory=list)


@dataclass
class Token:
    """It lives until `sure` at least, and until `ends` at most, by the clock of this machine."""

    text: str
    sure: float
    ends: float
    revoking: bool = False
    revoked: bool = False


@dataclass
class Lease:
    """A credential that a caller was told of; `sure` and `ends` as of a token."""

    name: str
    token: Token
    sure: float
    ends: float
    asked: bool = False  # To be revoked; who knows what became of that.
    over: bool = False


class Story:
    """The servers, their database, and all that was said and heard."""

    def __init__(self, servers: list[Server], database: ThrowawayPostgres, world: Path) -> None:
        self.servers, self.database, self.world = servers, database, world
        self.chance = random.Random(SEED)
        self.keys = {number: Key() for number in range(KEYS)}
        self.tokens: list[Token] = []
        self.leases: dict[str, Lease] = {}
        self.counted = self.perhaps_counted = 0
        self.ciphertexts: dict[str, str] = {}
        self.snapshot = b""
        self.rotations = 0
        self.killed = False
        self.done: dict[str, int] = {}
        self.quiet = asyncio.Event()
        self.numbers = iter(range(10**9))

    async def ask(
        self, method: str, path: str, body: object = None, token: str = "", of: Server | None = None
    ) -> tuple[int, Any]:
        """Ask one of the servers; (0, None) when nobody knows what became of it."""
        server = of or self.chance.choice(self.servers)
        content = None if body is None else json.dumps(body).encode()
        headers = {"X-Vault-Token": token or self.servers[0].root}
        try:
            reply = await server.http.request(
                method, server.url(path), headers=headers, body=content
            )
            said = reply.body
            if reply.content_type == "application/json":
                said = json.loads(said) if said else {}
        except (Refusal, OSError, ValueError):
            await asyncio.sleep(0.02)
            return 0, None
        if reply.status == 503:
            await asyncio.sleep(0.02)
        if reply.status < 400:
            what, *_ = path.split("/")
            self.done[what] = self.done.get(what, 0) + 1
        return reply.status, said

    # what clients do, until it is to be quiet

    async def write(self) -> None:
        number = self.chance.randrange(KEYS)
        key, value, least = self.keys[number], f"{next(self.numbers)}", self.keys[number].least
        key.sent.add(value)
        body = {"data": {"first": value, "filler": BIG, "last": value}}
        status, said = await self.ask("POST", f"secret/data/story/{number}", body)
        assert status in (200, *REFUSED), said
        if status == 200:
            version = said["data"]["version"]
            assert version > least, "a write went under one that was acknowledged before it began"
            assert key.seen.setdefault(version, value) == value
            key.acked.append(version)
            key.least = max(key.least, version)

    async def read(self, token: Token | None = None) -> None:
        number = self.chance.randrange(KEYS)
        least, begun = self.keys[number].least, CLOCK.now()
        over = token is not None and (token.revoked or begun > token.ends)
        text = token.text if token else ""
        status, said = await self.ask("GET", f"secret/data/story/{number}", token=text)
        if status == 403 and token is not None:
            assert token.revoking or CLOCK.now() > token.sure, "a live token was refused"
            return
        assert status in (200, 404, *REFUSED), (status, said)
        assert not (over and status in (200, 404)), "a token was used past its end"
        if status == 404:
            assert least == 0, "a secret that was acknowledged is not there"
        if status == 200:
            self.heard(number, said["data"], least)

    def heard(self, number: int, said: dict[str, Any], least: int) -> None:
        key, data, version = self.keys[number], said["data"], said["metadata"]["version"]
        assert version >= least, f"version {version} was read after {least} had been acknowledged"
        assert data["first"] == data["last"]
        assert data["first"] in key.sent
        assert key.seen.setdefault(version, data["first"]) == data["first"]
        key.least = max(key.least, version)

    async def count(self) -> None:
        status, said = await self.ask("GET", "secret/data/counter")
        if status in REFUSED:
            return
        n, version = (0, 0) if status == 404 else (
            said["data"]["data"]["n"], said["data"]["metadata"]["version"],
        )  # fmt: skip
        body = {"data": {"n": n + 1}, "options": {"cas": version}}
        status, said = await self.ask("POST", "secret/data/counter", body)
        assert status in (200, 400, *REFUSED), said
        self.counted += status == 200
        self.perhaps_counted += status in REFUSED

    async def live(self) -> None:
        """A token: made, used, and at last revoked or left to its end."""
        short = self.chance.random() < 0.5
        ttl, before = TTL if short else 3600, CLOCK.now()
        body = {"policies": ["story"], "ttl": ttl}
        status, said = await self.ask("POST", "auth/token/create", body)
        if status in REFUSED:
            return
        assert status == 200, said
        token = Token(said["auth"]["client_token"], before + ttl, CLOCK.now() + ttl + 1)
        self.tokens.append(token)
        for _ in range(self.chance.randrange(1, 12)):
            await self.read(token)
            await self.issue(token)
        if not short:
            token.revoking = True
            status, _ = await self.ask("POST", "auth/token/revoke", {"token": token.text})
            assert status in (204, *REFUSED)
            token.revoked = status == 204
        for _ in range(3):
            await self.read(token)

    async def issue(self, token: Token) -> None:
        ttl, before = self.chance.choice((TTL, 3600)), CLOCK.now()
        status, said = await self.ask("GET", f"iss/creds/a?ttl={ttl}", token=token.text)
        assert status in (200, 403, *REFUSED), (status, said)
        if status == 200:
            assert not token.revoked
            left = said["lease_duration"]
            sure, ends = before + left - 1, CLOCK.now() + left + 1
            self.leases[said["lease_id"]] = Lease(
                said["data"]["name"], token, min(token.sure, sure), min(token.ends, ends)
            )

    async def end_lease(self) -> None:
        await asyncio.sleep(0.05)
        if not self.leases:
            return
        lease_id, lease = self.chance.choice(list(self.leases.items()))
        lease.asked = True
        status, said = await self.ask("POST", "sys/leases/revoke", {"lease_id": lease_id})
        assert status in (204, *REFUSED), said
        if status == 204:
            assert not (self.world / lease.name).exists(), "a revoked credential stands"
            del self.leases[lease_id]

    async def encrypt(self) -> None:
        plain = base64.b64encode(str(next(self.numbers)).encode()).decode()
        status, said = await self.ask("POST", "transit/encrypt/k", {"plaintext": plain})
        assert status in (200, *REFUSED), said
        if status == 200:
            self.ciphertexts[said["data"]["ciphertext"]] = plain
        if self.chance.random() < 0.05:
            await self.ask("POST", "transit/keys/k/rotate", {})
        await asyncio.sleep(0.02)

    async def keep(self) -> None:
        """What operators do: a new term of the key ring, and a snapshot that was tried."""
        status, said = await self.ask("PUT", "sys/rotate")
        assert status in (204, *REFUSED), said
        self.rotations += status == 204
        status, said = await self.ask("GET", "sys/storage/raft/snapshot?verify=true")
        assert status in (200, *REFUSED), said
        if status == 200:
            self.snapshot = said
        await CLOCK.sleep(self.chance.uniform(0.2, 1.5))

    async def on(self, work: Callable[[], Awaitable[None]]) -> None:
        while not self.quiet.is_set():
            await work()

    # what harms

    async def harm(self) -> str:
        chosen = self.chance.choice(
            (self.kill_one, self.kill_both, self.pause_one, self.kill_database,
             self.restart_database, self.pause_database, self.kill_all)
        )  # fmt: skip
        await chosen()
        return chosen.__name__

    async def started(self, server: Server) -> None:
        async def start() -> bool:
            await server.start(run_issuing, self.world, 0.0)
            return True

        await until("a server", start, CLOCK, seconds=180)

    def kill(self, server: Server) -> None:
        server.kill()
        self.killed = True

    async def kill_one(self) -> None:
        server = self.chance.choice(self.servers)
        self.kill(server)
        await CLOCK.sleep(self.chance.uniform(0.0, 0.5))
        await self.started(server)

    async def kill_both(self) -> None:
        for each in self.servers:
            self.kill(each)
        for each in self.servers:
            await self.started(each)

    async def pause_one(self) -> None:
        """It goes on after others have changed all that it remembers."""
        server = self.chance.choice(self.servers)
        os.kill(server.process.pid, signal.SIGSTOP)
        await CLOCK.sleep(self.chance.uniform(0.5, 8.0))
        os.kill(server.process.pid, signal.SIGCONT)

    async def kill_database(self) -> None:
        await asyncio.to_thread(self.database.kill)
        await asyncio.to_thread(self.database.start)

    async def restart_database(self) -> None:
        await asyncio.to_thread(self.database.stop)
        await asyncio.to_thread(self.database.start)

    async def pause_database(self) -> None:
        self.database.pause()
        await CLOCK.sleep(self.chance.uniform(0.5, 6.0))
        self.database.resume()

    async def kill_all(self) -> None:
        await asyncio.to_thread(self.database.kill)
        self.kill(self.servers[0])
        await asyncio.to_thread(self.database.start)
        await self.started(self.servers[0])

    # when it is quiet

    async def well(self) -> None:
        for each in self.servers:

            async def writes(server: Server = each) -> bool | None:
                status, _ = await self.ask("POST", "secret/data/well", {"data": {}}, of=server)
                return status == 200 or None

            await until("a server to write again by itself", writes, CLOCK)

    async def nothing_is_lost(self) -> None:
        for number, key in self.keys.items():
            for server in self.servers:
                await self.one_is_there(number, key, server)
            for version in key.acked[-5:]:
                path = f"secret/data/story/{number}?version={version}"
                status, said = await self.ask("GET", path)
                assert status == 200, said
                assert said["data"]["data"]["first"] == key.seen[version]
        status, said = await self.ask("GET", "secret/data/counter")
        n = said["data"]["data"]["n"] if status == 200 else 0
        assert self.counted <= n <= self.counted + self.perhaps_counted
        self.counted, self.perhaps_counted = n, 0
        for text, plain in list(self.ciphertexts.items())[-20:]:
            _, said = await self.ask("POST", "transit/decrypt/k", {"ciphertext": text})
            assert said["data"]["plaintext"] == plain

    async def one_is_there(self, number: int, key: Key, server: Server) -> None:
        status, said = await self.ask("GET", f"secret/data/story/{number}", of=server)
        if status == 404:
            assert not key.acked
            return
        assert status == 200, said
        self.heard(number, said["data"], key.least)

    async def nothing_outlives_its_end(self, *, at_last: bool = False) -> None:
        """What a killed server was undoing is undone once its claim has ended: at last, then."""
        now = CLOCK.now()
        for lease_id, lease in list(self.leases.items()):
            lease.over = lease.over or lease.token.revoked or now > lease.ends
            if lease.over and not (self.world / lease.name).exists():
                del self.leases[lease_id]
            elif not (lease.asked or lease.token.revoking or now > lease.sure):
                there = (self.world / lease.name).exists()
                assert there or CLOCK.now() > lease.sure, "a credential ended too early"
        over = {each.name for each in self.leases.values() if each.over}

        async def gone() -> bool | None:
            return not any((self.world / each).exists() for each in over) or None

        if at_last or not self.killed:
            seconds = GRACE + (CLAIM_SECONDS if self.killed else 0.0)
            await until("what has ended to be gone", gone, CLOCK, seconds=seconds)
        for server in self.servers:
            for token in self.tokens[-40:]:
                if token.revoked or CLOCK.now() > token.ends:
                    path = "auth/token/lookup-self"
                    status, said = await self.ask("GET", path, token=token.text, of=server)
                    assert status == 403, said

    async def keys_are_turned(self) -> None:
        async def done() -> bool | None:
            status, said = await self.ask("GET", "sys/rotate/status")
            return (status == 200 and said["data"]["done"]) or None

        await until("the rows to follow the newest key", done, CLOCK)
        _, said = await self.ask("GET", "sys/rotate/status")
        assert said["data"]["damaged_rows"] == 0

    async def goes_on(self) -> None:
        work = [self.write] * 4 + [self.read] * 4 + [self.live] * 3
        work += [self.count] * 2 + [self.end_lease, self.encrypt, self.keep]
        self.quiet.clear()
        tasks = [asyncio.create_task(self.on(each)) for each in work]
        try:
            await CLOCK.sleep(self.chance.uniform(0.2, 1.0))
            for _ in range(self.chance.randrange(1, 3)):
                name = await self.harm()
                print(name, self.done, flush=True)
            await self.well()
            await CLOCK.sleep(self.chance.uniform(0.2, 1.0))
        finally:
            self.quiet.set()
        await asyncio.gather(*tasks)
        await self.nothing_is_lost()
        await self.nothing_outlives_its_end()
        await self.keys_are_turned()


@pytest.fixture
async def story(own_postgres: ThrowawayPostgres, tmp_path: Path) -> AsyncIterator[Story]:
    world = tmp_path / "world"
    world.mkdir()
    url = own_postgres.create_database("strongroom")
    async with HttpClient(route=Route(timeout=20.0)) as http:
        servers = [
            Server(tmp_path, http, database=url, audit_file=tmp_path / f"audit-{number}.log")
            for number in range(2)
        ]
        made = Story(servers, own_postgres, world)
        try:
            for each in servers:
                await each.start(run_issuing, world, 0.0)
            assert (await made.ask("PUT", "sys/policies/acl/story", {"policy": POLICY}))[0] < 300
            for mount, kind in (("iss", "issuer"), ("transit", "transit")):
                body = {"type": kind}
                assert (await made.ask("POST", f"sys/mounts/{mount}", body))[0] == 204
            await made.ask("POST", "transit/keys/k", {})
            assert (await made.ask("POST", "secret/config", {"max_versions": 500}))[0] < 300
            yield made
        finally:
            own_postgres.resume()
            for each in servers:
                with contextlib.suppress(ProcessLookupError):
                    each.kill()


async def test_whatever_is_harmed_nothing_acknowledged_is_lost_and_nothing_outlives_its_end(
    story: Story,
) -> None:
    for _ in range(HARMS):
        await story.goes_on()
    await story.nothing_outlives_its_end(at_last=True)
    # Enough of each to lose, and what was kept is whole.
    assert min(story.done[each] for each in ("secret", "iss", "transit", "auth")) > HARMS
    assert story.rotations > 1
    assert story.counted > 1
    assert story.snapshot
