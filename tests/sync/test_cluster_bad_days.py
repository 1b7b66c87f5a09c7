"""Bad days on a real API server, with operators as processes: no Secret is ever half written.

Every value has two halves that change together, and each look at the Secrets sees both halves of
one value in each, whatever is killed meanwhile.
"""

import asyncio
import base64
import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from strongroom.app.cluster.control_plane import ControlPlane
from strongroom.app.dev.processes import Processes
from strongroom.app.waiting import Hopeless, until
from strongroom.kube.api import Scope
from strongroom.kube.client import KubeClient
from strongroom.kube.resource import CRDS, LEASES, NAMESPACES, SECRETS
from strongroom.model.clock import SystemClock
from strongroom.model.errors import NotFound
from strongroom.sync.crds import EXTERNAL_SECRETS, SECRET_STORES, crds

pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.timeout(900)]
CLOCK = SystemClock()
NUMBERS = itertools.count(1)
MANAGED = "reconcile.external-secrets.io/managed=true"
ROWS = [
    {"secretKey": half, "remoteRef": {"key": "db", "property": half}} for half in ("left", "right")
]
LEASE = "strongroom-operator"


@dataclass
class Day:
    """A namespace with a store, operators, and what its Secrets have held."""

    control: ControlPlane
    processes: Processes
    api: KubeClient
    store: Any
    namespace: str
    running: list[str] = field(default_factory=list)

    def operate(self) -> str:
        """Start another replica."""
        name = f"{self.namespace}-{len(self.running)}"
        place = ("--lease-namespace", self.namespace, "--namespace", self.namespace)
        config = ("--kubeconfig", str(self.control.kubeconfig))
        self.processes.strongroom(name, "operator", *config, *place)
        self.running.append(name)
        return name

    async def put(self, value: str) -> None:
        """Both halves of a new value."""
        data = {"left": value, "right": value}
        await self.store.ask("POST", "secret/data/db", {"data": data})

    async def external(self, numbers: range) -> None:
        for number in numbers:
            spec = {"secretStoreRef": {"name": "s"}, "data": ROWS, "refreshInterval": "1h"}
            metadata = {"name": f"es-{number}", "namespace": self.namespace}
            await self.api.create(EXTERNAL_SECRETS, {"metadata": metadata, "spec": spec})

    async def held(self) -> dict[str, str]:
        """The value of each Secret; a Secret without a whole one ends the test."""
        scope = Scope(namespace=self.namespace, label_selector=MANAGED)
        found = {}
        for item in (await self.api.list(SECRETS, scope)).items:
            data = {key: base64.b64decode(each) for key, each in (item.get("data") or {}).items()}
            if set(data) != {"left", "right"} or data["left"] != data["right"]:
                raise Hopeless("half-written", f"{item['metadata']['name']} has {data}")
            found[item["metadata"]["name"]] = data["left"].decode()
        return found

    async def shows(self, value: str, count: int, least: int = 0) -> None:
        """Wait until all Secrets, or `least` of them, hold a value; none may go meanwhile."""
        seen = 0

        async def all_of_them() -> bool:
            nonlocal seen
            held = await self.held()
            if len(held) < seen:
                raise Hopeless("deleted", f"{seen - len(held)} Secrets are gone")
            seen = len(held)
            right = sum(each == value for each in held.values())
            if right < (least or count):
                raise NotFound("not-yet", f"{right} of {count} hold {value}")
            return True

        await until(f"{value} everywhere", all_of_them, CLOCK, seconds=120)

    async def leader(self) -> str:
        """Who leads."""
        lease = await self.api.get(LEASES, LEASE, self.namespace)
        return str((lease.get("spec") or {}).get("holderIdentity") or "")


@pytest.fixture
async def day(cluster: ControlPlane, store, tmp_path) -> AsyncIterator[Day]:
    name = f"bad-day-{next(NUMBERS)}"
    with Processes(tmp_path) as processes:
        async with KubeClient(cluster.config(), CLOCK) as api:
            for definition in crds():
                await api.apply(CRDS, definition, "strongroom")
            await until("the definitions", _listing(api), CLOCK)
            await api.create(NAMESPACES, {"metadata": {"name": name}})
            metadata = {"name": "token", "namespace": name}
            token = base64.b64encode(store.root.encode()).decode()
            await api.create(SECRETS, {"metadata": metadata, "data": {"t": token}})
            auth = {"tokenSecretRef": {"name": "token", "key": "t"}}
            vault = {"server": store.address, "path": "secret", "auth": auth}
            made = {"metadata": {"name": "s", "namespace": name}}
            await api.create(SECRET_STORES, {**made, "spec": {"provider": {"vault": vault}}})
            yield Day(cluster, processes, api, store, name)


def _listing(api: KubeClient) -> Callable[[], Any]:
    async def listed() -> bool:
        for resource in (EXTERNAL_SECRETS, SECRET_STORES):
            await api.list(resource)
        return True

    return listed


async def test_an_api_server_that_is_killed_and_comes_back(day: Day) -> None:
    count = 20
    await day.put("one")
    day.operate()
    await day.external(range(count))
    await day.shows("one", count)
    before = await day.held()
    restarted = day.control.restart_apiserver(day.control.encryption)
    await asyncio.gather(restarted, day.put("two"))
    # What changed while nobody could be told arrives, and what is new is served.
    await day.shows("two", count)
    after = await day.held()
    assert after.keys() == before.keys()
    await day.external(range(count, count + 1))
    await day.shows("two", count + 1)
    day.processes.check(day.running[0])


async def test_what_changed_while_no_replica_ran_is_there_soon_after_the_next_start(
    day: Day,
) -> None:
    await day.put("one")
    first = day.operate()
    await day.external(range(5))
    await day.shows("one", 5)
    day.processes.stop(first)
    await day.put("two")
    assert set((await day.held()).values()) == {"one"}
    day.operate()
    # The interval would bring it within the hour.
    await day.shows("two", 5)


async def test_a_leader_that_is_killed_in_the_middle_of_its_work(day: Day) -> None:
    count = 60
    await day.put("one")
    first = day.operate()

    async def leads() -> str | None:
        return await day.leader() or None

    held = await until("a leader", leads, CLOCK, seconds=120)
    day.operate()
    await day.external(range(count))
    await day.shows("one", count, least=count // 3)
    day.processes.kill(first)
    await day.shows("one", count)

    async def follows() -> bool | None:
        return True if await day.leader() != held else None

    await until("another leader", follows, CLOCK, seconds=120)

    async def everywhere() -> bool | None:
        # Again and again, since who has just begun to lead may not hear of changes yet.
        await day.put("two")
        return True if set((await day.held()).values()) == {"two"} else None

    await until("two everywhere", everywhere, CLOCK, seconds=120)

    async def said() -> bool | None:
        states = (await day.api.list(EXTERNAL_SECRETS, Scope(namespace=day.namespace))).items
        assert len(states) == count
        every = [(each.get("status") or {}).get("conditions") or [{}] for each in states]
        found = {(each.get("status"), each.get("reason")) for (each,) in every}
        return True if found == {("True", "SecretSynced")} else None

    # A Secret is written before the word about it.
    await until("the word about each", said, CLOCK, seconds=120)
