"""The whole operator on the fake API and the fake provider, on simulated time."""

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from strongroom.kube.fake import FakeKubeApi
from strongroom.kube.resource import EVENTS, NAMESPACES, SECRETS, Object, Resource
from strongroom.model.clock import SimulatedClock
from strongroom.model.errors import Invalid, NotFound
from strongroom.sync.assembly import Doors, Operator, Options
from strongroom.sync.crds import EXTERNAL_SECRETS, SECRET_STORES
from strongroom.sync.generators.kinds import Workshop
from strongroom.sync.providers.fake import FakeProvider
from strongroom.sync.spec import GeneratorRef
from strongroom.sync.target import ResolveKind, config_maps_only
from strongroom.sync.templates import GoTemplates

DATA = [{"secretKey": "password", "remoteRef": {"key": "prod/db", "property": "password"}}]


class FakeGenerators:
    """Counts what it makes."""

    def __init__(self) -> None:
        self.made = 0

    def begin(self) -> None:
        pass

    def forget(self, kind: str, key: tuple[str, str]) -> None:
        pass

    async def managed(self, ref: GeneratorRef, namespace: str) -> bool:
        return True

    async def generate(self, ref: GeneratorRef, owner: Object, slot: str) -> Mapping[str, bytes]:
        self.made += 1
        made = {"password": f"generated-{self.made}".encode()}
        return made | ({"user": f"u{self.made}".encode()} if ref.name == "pair" else {})

    async def settle(self, owner: Object) -> None:
        pass

    def hold(self, owner: Object) -> None:
        pass

    async def abandon(self, owner: Object) -> None:
        pass


@dataclass
class Bench:
    """The operator's surroundings, and shorthands for what tests ask of them."""

    clock: SimulatedClock
    api: FakeKubeApi
    provider: FakeProvider
    generators: Any = field(default_factory=FakeGenerators)
    workshop: Workshop | None = None
    resolve: ResolveKind = config_maps_only
    operator: Operator | None = None
    running: "asyncio.Task[None] | None" = None
    providers_made: int = 0

    async def start(self, api: Any = None, **options: Any) -> Operator:
        """Start an operator, on another API when there is one; the one before is killed."""
        await self.stop()

        async def make(store: Object, namespace: str) -> FakeProvider:
            self.providers_made += 1
            if "fake" not in store["spec"]["provider"]:
                raise Invalid("unsupported-provider", "the provider is not served")
            return self.provider

        doors = Doors(
            make=make,
            render=GoTemplates(self.clock),
            generators=self.generators,
            workshop=self.workshop,
            resolve=self.resolve,
        )
        self.operator = Operator(api or self.api, doors, self.clock, Options(**options))
        self.running = asyncio.create_task(self.operator.run())
        await self.clock.advance(0.1)
        return self.operator

    async def stop(self) -> None:
        if self.running is not None:
            self.running.cancel()
            await asyncio.gather(self.running, return_exceptions=True)
            self.running = None

    async def external(self, name: str = "db", metadata: Object | None = None, **spec: Any) -> None:
        spec = {"secretStoreRef": {"name": "s"}, "data": DATA, "refreshInterval": "1h", **spec}
        if "dataFrom" in spec and spec["data"] is DATA:
            del spec["data"]
        await self.api.create(
            EXTERNAL_SECRETS,
            {"metadata": {"name": name, "namespace": "n", **(metadata or {})}, "spec": spec},
        )
        await self.clock.advance(0.2)

    async def item(self, name: str = "db") -> Object:
        return await self.api.get(EXTERNAL_SECRETS, name, "n")

    async def secret(self, name: str = "db") -> dict[str, str]:
        item = await self.api.get(SECRETS, name, "n")
        return {key: base64.b64decode(value).decode() for key, value in item["data"].items()}

    async def metadata(self, name: str = "db") -> Object:
        return (await self.api.get(SECRETS, name, "n"))["metadata"]

    async def has_secret(self, name: str = "db") -> bool:
        try:
            await self.api.get(SECRETS, name, "n")
        except NotFound:
            return False
        return True

    async def condition(self, kind: str = "Ready", name: str = "db") -> Object:
        status = (await self.item(name)).get("status") or {}
        found = [each for each in status.get("conditions") or [] if each["type"] == kind]
        return found[0] if found else {}

    async def notes(self) -> list[str]:
        return [f"{each['reason']}: {each['note']}" for each in (await self.api.list(EVENTS)).items]

    async def secret_of_somebody(self, name: str = "db", **data: str) -> None:
        await self.api.create(
            SECRETS, {"metadata": {"name": name, "namespace": "n"}, "stringData": data}
        )

    async def edit(self, name: str = "db", who: str = "kubectl-edit", **data: str) -> None:
        """Somebody changes a Secret."""
        values = {key: base64.b64encode(each.encode()).decode() for key, each in data.items()}
        await self.api.merge_patch(SECRETS, name, "n", {"data": values}, manager=who)
        await self.clock.advance(0.2)


class Unruly:
    """The fake API, with calls that fail as told: method name to refusals, one for each call."""

    def __init__(self, api: FakeKubeApi) -> None:
        self.api = api
        self.failures: dict[str, list[Exception]] = {}
        self.after: dict[str, list[Exception]] = {}
        # The one kind whose calls fail; None for every kind.
        self.only: Resource | None = None

    def __getattr__(self, name: str) -> Any:
        whole = getattr(self.api, name)
        if name not in ("get", "list", "create", "replace", "apply", "merge_patch", "delete"):
            return whole

        async def call(*args: Any, **kwargs: Any) -> Any:
            if self.failures.get(name) and self.only in (None, args[0]):
                raise self.failures[name].pop(0)
            done = await whole(*args, **kwargs)
            if self.after.get(name):
                # Done, but the answer never arrived.
                raise self.after[name].pop(0)
            return done

        return call


@pytest.fixture
async def idle(clock: SimulatedClock, api: FakeKubeApi) -> AsyncIterator[Bench]:
    """A store and no operator."""
    provider = FakeProvider()
    await api.create(NAMESPACES, {"metadata": {"name": "n", "labels": {"team": "x"}}})
    await api.create(
        SECRET_STORES,
        {"metadata": {"name": "s", "namespace": "n"}, "spec": {"provider": {"fake": {}}}},
    )
    provider.put("prod/db", password="one", username="app")
    made = Bench(clock, api, provider)
    yield made
    await made.stop()


@pytest.fixture
async def bench(idle: Bench) -> Bench:
    """A store and a running operator."""
    await idle.start()
    return idle


@pytest.fixture
async def unruly(idle: Bench) -> Unruly:
    """What the operator sees of the API; the tests see it as it is."""
    made = Unruly(idle.api)
    await idle.start(made)
    return made
