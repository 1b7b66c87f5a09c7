"""A snapshot that is restored at the store reaches every Secret that was of what it replaced."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import pytest

from strongroom.kube.fake import FakeKubeApi
from strongroom.kube.resource import NAMESPACES, SECRETS
from strongroom.model.clock import SimulatedClock
from strongroom.model.errors import NotFound, Unavailable
from strongroom.store.snapshots import restore_directly
from strongroom.sync.assembly import Doors, Operator, Options
from strongroom.sync.crds import EXTERNAL_SECRETS, SECRET_STORES
from strongroom.sync.providers.contract import BEGINNING, Change, History
from strongroom.sync.providers.kinds import Providers
from strongroom.sync.providers.references import Surroundings
from strongroom.sync.templates import GoTemplates

SNAPSHOT = "sys/storage/raft/snapshot"
READ = """path "secret/data/*" { capabilities = ["read"] }
path "sys/events/subscribe/*" { capabilities = ["read"] }"""


@dataclass
class Bed:
    """A store with a snapshot in which the password is `one`, and what an operator needs."""

    store: Any
    api: FakeKubeApi
    clock: SimulatedClock
    spec: dict[str, Any]
    snapshot: bytes = b""

    async def put(self, password: str) -> None:
        body = {"data": {"password": password}}
        assert (await self.store.ask("POST", "secret/data/prod/db", body))[0] == 200

    async def restore(self) -> None:
        assert (await self.store.ask("POST", SNAPSHOT, self.snapshot))[0] == 204

    async def restore_without_a_server(self) -> None:
        engine, now = self.store.engine, self.clock.now()
        await restore_directly(engine, BytesIO(self.snapshot), now, force=False)

    def providers(self) -> Providers:
        return Providers(Surroundings(self.api, self.clock))

    @asynccontextmanager
    async def operator(self) -> AsyncIterator[None]:
        doors = Doors(make=self.providers(), render=GoTemplates(self.clock))
        task = asyncio.create_task(Operator(self.api, doors, self.clock, Options()).run())
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def shows(self, password: str) -> None:
        """Wait until the Secret does and its object says so; the clock goes on less than an hour."""
        async with asyncio.timeout(60):
            while await self._shown() != password or not await self._said():
                await self.clock.advance(0.2)
                await asyncio.sleep(0.01)

    async def _said(self) -> bool:
        status = (await self.api.get(EXTERNAL_SECRETS, "db", "n")).get("status") or {}
        return any(each["status"] == "True" for each in status.get("conditions") or [])

    async def _shown(self) -> str:
        try:
            secret = await self.api.get(SECRETS, "db", "n")
        except NotFound:
            return ""
        return base64.b64decode(secret["data"]["password"]).decode()


@pytest.fixture
async def bed(store: Any) -> Bed:
    api = FakeKubeApi(store.clock)
    token = await store.token_with(READ)
    encoded = base64.b64encode(token.encode()).decode()
    await api.create(NAMESPACES, {"metadata": {"name": "n"}})
    metadata = {"name": "auth", "namespace": "n"}
    await api.create(SECRETS, {"metadata": metadata, "data": {"token": encoded}})
    auth = {"tokenSecretRef": {"name": "auth", "key": "token"}}
    spec = {"provider": {"vault": {"server": store.address, "path": "secret", "auth": auth}}}
    made = Bed(store, api, store.clock, spec)
    metadata = {"name": "s", "namespace": "n"}
    await api.create(SECRET_STORES, {"metadata": metadata, "spec": spec})
    row = {"secretKey": "password", "remoteRef": {"key": "prod/db", "property": "password"}}
    item = {"secretStoreRef": {"name": "s"}, "data": [row], "refreshInterval": "24h"}
    await api.create(EXTERNAL_SECRETS, {"metadata": {"name": "db", "namespace": "n"}, "spec": item})
    await made.put("one")
    reply = await store.http.request(
        "GET", f"{store.address}/v1/{SNAPSHOT}?plain=true", headers={"X-Vault-Token": store.root}
    )
    made.snapshot = bytes(reply.body)
    await made.put("two")
    return made


async def test_what_is_restored_while_an_operator_runs_is_read_at_once(bed: Bed) -> None:
    async with bed.operator():
        await bed.shows("two")
        await bed.restore()
        await bed.shows("one")
        # The feed goes on behind it.
        await bed.put("three")
        await bed.shows("three")


async def test_what_is_restored_while_no_operator_runs_is_read_at_the_next_start(bed: Bed) -> None:
    async with bed.operator():
        await bed.shows("two")
    await bed.restore()
    # Written since: its number is that of the version in the Secret, and its value is not.
    await bed.put("other")
    async with bed.operator():
        await bed.shows("other")


async def test_what_is_restored_without_a_server_is_read_at_the_next_start(bed: Bed) -> None:
    async with bed.operator():
        await bed.shows("two")
    await bed.restore_without_a_server()
    # Written since: its number is that of the version in the Secret, and its value is not.
    await bed.put("other")
    async with bed.operator():
        await bed.shows("other")


async def test_a_position_of_another_history_is_told_from_one_of_this(bed: Bed) -> None:
    store = {"metadata": {"name": "s", "namespace": "n"}, "spec": bed.spec}
    provider = await bed.providers()(store, "n")

    async def since(position: str) -> Change | History:
        changes = provider.changes(position)
        try:
            return await anext(changes)
        finally:
            await changes.aclose()

    past = await since(BEGINNING)
    assert isinstance(past, History)
    await bed.put("three")
    number, _, mark = past.position.partition("-")
    assert mark
    other = await since(f"{number}-{'0' * len(mark)}")
    assert isinstance(other, History)
    assert (past.whole, other.whole) == (True, False)
    # The number alone, as from a server of before, and with its own mark.
    for position in (number, past.position):
        same = await since(position)
        assert isinstance(same, History)
        assert (same.whole, list(same.versions.values())) == (True, [3])
    # What comes has a position of its own.
    changes = provider.changes(BEGINNING)
    await anext(changes)
    coming = asyncio.ensure_future(anext(changes))
    await bed.put("four")
    change = await coming
    assert isinstance(change, Change)
    await changes.aclose()
    after = await since(change.position)
    assert isinstance(after, History)
    assert (after.whole, dict(after.versions), "-" in change.position) == (True, {}, True)
    await provider.close()


async def test_the_feed_says_once_that_all_was_replaced(bed: Bed) -> None:
    store = {"metadata": {"name": "s", "namespace": "n"}, "spec": bed.spec}
    provider = await bed.providers()(store, "n")
    changes = provider.changes(BEGINNING)
    past = await anext(changes)
    assert isinstance(past, History)
    assert (past.whole, past.unsure_before) == (True, 0)
    following = asyncio.ensure_future(anext(changes))
    await bed.put("three")
    assert isinstance(await following, Change)
    following = asyncio.ensure_future(anext(changes))
    at = bed.clock.now()
    await bed.restore()
    while not following.done():
        await bed.clock.advance(0.1)
        await asyncio.sleep(0.01)
    with pytest.raises(Unavailable, match="closed the change feed"):
        await following
    changes = provider.changes(past.position)
    broken = await anext(changes)
    assert isinstance(broken, History)
    assert not broken.whole
    assert at <= broken.unsure_before <= bed.clock.now()
    await changes.aclose()
    changes = provider.changes(broken.position)
    after = await anext(changes)
    assert isinstance(after, History)
    assert (after.whole, after.unsure_before) == (True, 0)
    await changes.aclose()
    await provider.close()


async def test_a_feed_shows_that_the_rows_were_put_back_without_a_server(bed: Bed) -> None:
    store = {"metadata": {"name": "s", "namespace": "n"}, "spec": bed.spec}
    provider = await bed.providers()(store, "n")
    changes = provider.changes(BEGINNING)
    past = await anext(changes)
    assert isinstance(past, History)
    await changes.aclose()
    await bed.restore_without_a_server()
    # The next event has the next number, and what is before it is of another past.
    await bed.put("three")
    changes = provider.changes(past.position)
    after = await anext(changes)
    assert isinstance(after, History)
    assert not after.whole
    await changes.aclose()
    await provider.close()
