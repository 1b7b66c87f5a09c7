"""The whole operator from its parts: caches, stores, controllers, feeds."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from strongroom.kube.api import KubeApi
from strongroom.kube.events import EventRecorder
from strongroom.kube.informer import Informer
from strongroom.kube.progress import CacheState, QueueState, troubles
from strongroom.kube.queue import Lane, WorkQueue
from strongroom.kube.resource import Object
from strongroom.model.clock import Clock
from strongroom.model.errors import Invalid, Unavailable
from strongroom.sync.controller import WORKERS, Parts, SyncController, nothing_unused
from strongroom.sync.crds import EXTERNAL_SECRETS, PUSH_SECRETS
from strongroom.sync.due import is_behind, is_older
from strongroom.sync.fan_out import CLUSTER_EXTERNAL_SECRET, CLUSTER_PUSH_SECRET, FanOut
from strongroom.sync.feeds import Feeds, Waking
from strongroom.sync.generators.collector import StateCollector
from strongroom.sync.generators.kinds import Workshop
from strongroom.sync.last_written import LastWritten
from strongroom.sync.metrics import OTHERS, SyncMetrics, conditions, gauge, queues
from strongroom.sync.pace import Rate
from strongroom.sync.providers.contract import Version
from strongroom.sync.push_controller import PushController, PushParts
from strongroom.sync.reader import Collected, Generators, NoGenerators, Reader
from strongroom.sync.reporting import Reporter, WhoChanged, nobody
from strongroom.sync.rewrite import Renderer
from strongroom.sync.spec import Row, Spec, parse_spec
from strongroom.sync.store_controller import StoreController
from strongroom.sync.stores import CachedLookup, ProviderFactory, Stores
from strongroom.sync.target import ResolveKind, Targets, config_maps_only
from strongroom.sync.watches import Watches

if TYPE_CHECKING:
    from strongroom.kube.election import Election
    from strongroom.sync.senders import Senders
    from strongroom.sync.web import OperatorPage

REPORTER: Final = "external-secrets"
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Options:
    """What a person decides about an operator. `namespace` "" is the whole cluster."""

    namespace: str = ""
    controller_class: str = ""
    workers: int = WORKERS
    rate: Rate = field(default_factory=Rate)
    hashed: bool = True
    versioned: bool = True
    cluster_stores: bool = True
    instance: str = "strongroom-operator"


@dataclass(frozen=True, slots=True)
class Doors:
    """What the operator meets the world through.

    `workshop` lets it end what generators made; without them another program does.
    """

    make: ProviderFactory
    render: Renderer
    generators: Generators = field(default_factory=NoGenerators)
    workshop: Workshop | None = None
    who_changed: WhoChanged = nobody
    resolve: ResolveKind = config_maps_only


class Operator:
    """Runs until cancelled."""

    def __init__(self, api: KubeApi, doors: Doors, clock: Clock, options: Options) -> None:
        self._options, self._clock = options, clock
        self._generators = doors.generators
        self._election: Election | None = None
        self.metrics = SyncMetrics(clock)
        self.watches = Watches(api, clock, options.namespace, cluster_stores=options.cluster_stores)
        lookup = CachedLookup(
            self.watches.stores, self.watches.cluster_stores, self.watches.namespaces
        )
        self.stores = Stores(
            lookup,
            doors.make,
            clock,
            controller_class=options.controller_class,
            rate=options.rate,
            counted=self.metrics.called,
        )
        events = EventRecorder(api, REPORTER, options.instance, clock)
        self.feeds = Feeds(self.stores, clock, self._waking())
        self.collector: StateCollector | None = None
        if doors.workshop is not None:
            self.collector = StateCollector(
                api, doors.workshop, events, clock,
                namespace=options.namespace, controller_class=options.controller_class,
            )  # fmt: skip
            self.collector.on_ending.append(self._ending)
        settled = self.collector.end_unused if self.collector else nothing_unused
        self.sync = SyncController(
            api,
            Parts(
                watches=self.watches,
                stores=self.stores,
                reader=Reader(self.stores, doors.generators, doors.render),
                generators=doors.generators,
                targets=Targets(api, doors.resolve),
                reporter=Reporter(api, events, clock, doors.who_changed),
                render=doors.render,
                hashed=options.hashed,
                versioned=options.versioned,
                rate=options.rate,
                noted=self._noted,
                expected=lambda key, spec: self.feeds.expect(key, self._named(key, spec)),
                awaited=lambda key, spec: self.feeds.await_for(key, self._named(key, spec)),
                forgotten=self._forgotten,
                measured=self.metrics.reconciled,
                settled=settled,
            ),
            clock,
        )
        self.store_controllers = self._judges(api, options)
        self.stores.on_back.append(self._back)
        pushing = (doors.generators, events, doors.render, settled)
        parts = PushParts(self.watches, self.stores, *pushing)
        self.push = PushController(api, parts, clock, options.namespace)
        self._last_written = LastWritten(api, doors.resolve)
        self.fan_outs = self._spread(api, events)

    def _judges(self, api: KubeApi, options: Options) -> list[StoreController]:
        """Who says of each kind of store whether it can be used."""
        made = [
            StoreController(api, each, self.stores, self._clock, options.controller_class)
            for each in self.watches.store_caches
        ]
        for each in made:
            each.on_mended.append(self._mended)
        return made

    def _spread(self, api: KubeApi, events: EventRecorder) -> list[FanOut]:
        """The kinds with a child in each namespace, which an operator of one namespace has not."""
        namespaces = self.watches.namespaces
        if namespaces is None:
            return []
        return [
            FanOut(api, shape, events, children, namespaces, self._clock)
            for shape, children in (
                (CLUSTER_EXTERNAL_SECRET, self.watches.objects),
                (CLUSTER_PUSH_SECRET, self.push.objects),
            )
        ]

    def _named(self, key: Key, spec: Spec) -> list[tuple[str, str]]:
        """The stores (by uid) and remote keys that a manifest names, "" for any."""
        named = []
        for part in spec.parts:
            store = self.watches.store_of(part.store, key[0]) if part.store else None
            remote = part.remote if isinstance(part, Row) else part.extract
            if store is not None:
                named.append((str(store["metadata"]["uid"]), remote.key if remote else ""))
        return named

    def _noted(self, key: Key, spec: Spec, collected: Collected) -> None:
        """What a key has read and what was not there, and in which stores (by uid) it looks on."""
        stores = [
            (self.watches.store_of(part.store, key[0]), part.find)
            for part in spec.sources
            if part.store and part.find
        ]
        sought = [(str(each["metadata"]["uid"]), what) for each, what in stores if each]
        self.feeds.read(key, collected.places, sought)
        if collected.absent:
            # A policy that goes on without it is told as early as one that does not.
            self.feeds.await_for(key, collected.absent)

    def _waking(self) -> Waking:
        """What feeds tell the controller, which is made after them."""

        def wake(key: Key, lane: Lane) -> None:
            self.sync.changed_at_store(key, lane)

        def catch_up(keys: Iterable[Key]) -> None:
            self.sync.catch_up(keys)

        return Waking(wake, catch_up, self._is_behind, self._is_older)

    def _is_older(self, key: Key, when: float) -> bool:
        item = self.watches.objects.get(*key)
        return item is not None and is_older(item, when)

    def _is_behind(self, key: Key, name: str, changed: Mapping[str, Version]) -> bool:
        item = self.watches.objects.get(*key)
        if item is None:
            return False
        try:
            spec = parse_spec(item)
        except Invalid:
            return False
        return is_behind(item, spec, self.watches.target_of(key, spec), name, changed)

    def _ending(self, state: Object) -> None:
        """What a generator made ends before it is due: its owner has another made."""
        namespace = state["metadata"]["namespace"]
        for owner in state["metadata"].get("ownerReferences") or []:
            key = (namespace, owner["name"])
            if owner.get("kind") == EXTERNAL_SECRETS.kind:
                self.sync.make_anew(key)
            elif owner.get("kind") == PUSH_SECRETS.kind:
                self.push.make_anew(key)

    async def _end_superseded(self, collector: StateCollector) -> None:
        """Deadlines that were owed when a process ended are derived again from the targets."""
        await collector.objects.synced.wait()
        await collector.end_superseded(self._last_written)

    def _forgotten(self, key: Key) -> None:
        self.feeds.forget(key)
        self.metrics.forget(key)

    def _back(self, uid: str) -> None:
        """A store answers again: whoever waits for it need wait no longer."""
        self.sync.store_is_back(self.feeds.readers(uid))
        self.feeds.back(uid)

    def _mended(self, kind: str, store: Key) -> None:
        """What a store needs in the cluster or of its server was put right."""
        self.sync.store_is_back(self.watches.readers(kind, store))

    async def run(self, election: "Election | None" = None) -> None:
        """Watch always; work while leading, which without an election is always."""
        self._election = election
        for name, queue in self._queues():
            if name in OTHERS:
                queue.on_done = partial(self.metrics.took, name)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.watches.run())
                states = [self.collector.objects] if self.collector is not None else []
                for each in (*self._own_caches(), *states):
                    group.create_task(self.watches.after_the_new(each))
                group.create_task(election.lead(self._work) if election else self._work())
        finally:
            await self.stores.close()

    async def _work(self) -> None:
        # Another replica may have made something newer since, and ended what is known here.
        self._generators.begin()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.feeds.run())
            group.create_task(self.push.run())
            if self.collector is not None:
                group.create_task(self.collector.run())
                group.create_task(self._end_superseded(self.collector))
            for fan_out in self.fan_outs:
                group.create_task(fan_out.run())
            for each in self.store_controllers:
                group.create_task(each.run())
            group.create_task(self.sync.run(self._options.workers))

    def _own_caches(self) -> list[Informer]:
        return [self.push.objects, *(each.objects for each in self.fan_outs)]

    # what probes and Prometheus see

    def _queues(self) -> list[tuple[str, WorkQueue[Key]]]:
        named = [("externalsecret", self.sync.queue), ("pushsecret", self.push.queue)]
        named += [(each.name, each.queue) for each in self.store_controllers]
        named += [(each.name, each.queue) for each in self.fan_outs]
        return named + ([("generatorstate", self.collector.queue)] if self.collector else [])

    def troubles(self) -> list[str]:
        """What keeps it from being ready; a replica that does not lead is ready with its caches."""
        watched = [*self.watches.needed_at_start(), self.watches.objects, *self._own_caches()]
        caches = [
            CacheState(each.resource.plural, each.synced.is_set(), each.silence())
            for each in watched
        ]
        if self._election is not None and not self._election.leading:
            return troubles(caches, ())
        worked = [
            QueueState(name, queue.oldest(), queue.idle(), queue.longest())
            for name, queue in self._queues()
        ]
        return troubles(caches, worked)

    def lines(self) -> Iterator[str]:
        """The metrics page."""
        yield from self.metrics.lines()
        yield from self.metrics.ages(self.watches.objects)
        yield from conditions("externalsecret_status_condition", self.watches.objects)
        yield from conditions("pushsecret_status_condition", self.push.objects)
        yield from conditions("secretstore_status_condition", self.watches.stores)
        cluster = self.watches.cluster_stores or ()
        yield from conditions("clustersecretstore_status_condition", cluster)
        spread = {each.name: each.objects for each in self.fan_outs}
        for kind in ("clusterexternalsecret", "clusterpushsecret"):
            yield from conditions(f"{kind}_status_condition", spread.get(kind, ()))
        held = {"pushsecret": self.push.objects, "secretstore": self.watches.stores, **spread}
        if self.watches.cluster_stores is not None:
            held["clustersecretstore"] = self.watches.cluster_stores
        yield from self.metrics.durations(held)
        leading = self._election is None or self._election.leading
        # What a replica that does not lead has noted waits for nobody.
        yield from queues(self._queues() if leading else ())
        yield from gauge("strongroom_sync_leader", [({}, int(leading))])
        caches = [*self.watches.needed_at_start(), self.watches.objects, *self._own_caches()]
        counts = [({"kind": each.resource.kind}, len(each)) for each in caches]
        yield from gauge("strongroom_sync_objects", counts)

    def _noticed(self, name: str) -> int:
        """Wake the readers of a name; raises Unavailable where nobody would be woken by it."""
        if self._election is not None and not self._election.leading:
            # Taken here it would be lost, and a cloud that is refused so tries again.
            raise Unavailable("not-leading", "another replica of the operator leads")
        return self.feeds.noticed(name)

    def page(self, senders: "Senders") -> "OperatorPage":
        """The HTTP page, which takes notices of these senders."""
        from strongroom.sync.senders import Gatekeeper
        from strongroom.sync.web import OperatorPage

        def noted(result: str) -> None:
            self.metrics.notices[result] += 1

        doors = Gatekeeper(self._clock), senders
        return OperatorPage(self.troubles, self.lines, self._noticed, doors, noted)
