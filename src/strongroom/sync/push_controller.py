"""The PushSecret controller: from Secrets of the cluster to stores, written when they differ."""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from strongroom.kube.api import EVERYTHING, KubeApi, Scope
from strongroom.kube.controller import Controller, Key, Pause, namespace_of
from strongroom.kube.events import EventRecorder
from strongroom.kube.informer import Informer
from strongroom.kube.queue import LAST_BACKOFF, Lane, WorkQueue
from strongroom.kube.resource import SECRETS, Object, has_moved, key_of
from strongroom.model.clock import Clock
from strongroom.model.errors import NotFound, Refusal, Unavailable
from strongroom.model.labels import Labels, selects
from strongroom.model.secret import Secret
from strongroom.sync.crds import CLUSTER_SECRET_STORES, PUSH_SECRETS, SECRET_STORES
from strongroom.sync.desired import synced_version
from strongroom.sync.due import FUTURE_SECONDS, JITTER, SHORTEST, refresh_time
from strongroom.sync.finalizers import hold, is_held, let_go
from strongroom.sync.index import Index
from strongroom.sync.memory import Forbidden
from strongroom.sync.providers.contract import ClusterAway, PushTarget
from strongroom.sync.push_concerns import PushConcerns
from strongroom.sync.push_source import Source, made_for, source_of
from strongroom.sync.push_spec import (
    Push,
    PushSpec,
    check_meant,
    merged,
    parse_push,
    place_of,
    pushed_before,
    pushes_of,
    those_that_stay,
)
from strongroom.sync.reader import Generators, Unsettled
from strongroom.sync.remedies import worded
from strongroom.sync.render import Inputs, template_inputs
from strongroom.sync.render_aside import aside, texts_of, texts_of_rewrites
from strongroom.sync.reporting import put_status
from strongroom.sync.rewrite import Renderer
from strongroom.sync.spec import StoreRef
from strongroom.sync.status import condition, holds, is_ready, says_the_same, seconds
from strongroom.sync.stores import Stores, edited_at
from strongroom.sync.template_texts import template_texts
from strongroom.sync.watches import Watches

FINALIZER: Final = "pushsecret.externalsecrets.io/finalizer"
STORE_FINALIZER: Final = "secretstore.externalsecrets.io/finalizer"
Places = dict[tuple[StoreRef, str], PushTarget]

# The one place that a PushSecret has for what a generator makes.
SLOT: Final = "0"
# The version of what a generator makes.
MADE: Final = ""
# So often in a row a conflict, or somebody who is away, is tried again before it is told.
QUIET_TRIES: Final = 3
PASSING: Final = ("kube-conflict", "store-conflict")


@dataclass(frozen=True, slots=True)
class PushParts:
    """What the controller works with."""

    watches: Watches
    stores: Stores
    generators: Generators
    events: EventRecorder
    render: Renderer
    # Called with an object that all stores have, and the places it has for generators.
    settled: Callable[[Object, Collection[str]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Done:
    """What was true after the last push: of the object, and of its sources."""

    version: str
    sources: tuple[str, ...]
    at: float


@dataclass(slots=True)
class _Progress:
    """What is at the stores as far as the work on an object got, and what it asks for."""

    places: Places
    pushes: list[Push] = field(default_factory=list)


class PushController:
    """Runs until cancelled."""

    def __init__(self, api: KubeApi, parts: PushParts, clock: Clock, namespace: str = "") -> None:
        self._api = api
        self._parts = parts
        self._clock = clock
        scope = Scope(namespace=namespace) if namespace else EVERYTHING
        self.objects = Informer(api, PUSH_SECRETS, clock, scope)
        self.queue: WorkQueue[Key] = WorkQueue(clock, namespace_of)
        self._done: dict[Key, _Done] = {}
        # The ConfigMaps and Secrets that templates are kept in.
        self._inputs = Index[tuple[str, str, str]]()
        self._concerns = PushConcerns()
        # What has to be pushed again, whatever its status says.
        self._stale: set[Key] = set()
        # A store of theirs was edited since the work on them began.
        self._moved: set[Key] = set()
        # What is where as far as this process has brought it.
        self._places: dict[Key, Places] = {}
        # How often in a row a key was refused for what passes.
        self._tries: dict[Key, int] = {}
        self._forbidden: dict[Key, Forbidden] = {}
        self.objects.on_change(self._object_changed)
        parts.watches.secrets.on_change(self._secret_changed)
        for each in (parts.watches.secrets, parts.watches.config_maps):
            each.on_change(self._input_changed)
        for each in parts.watches.store_caches:
            each.on_change(self._store_changed)

    async def run(self) -> None:
        """Work; the watches run beside it. May be run again after it was cancelled."""
        for each in self._parts.watches.needed_at_start():
            await each.synced.wait()
        await Controller("pushsecret", self.queue, self.reconcile, self._patience).run(8)

    # reasons to look again

    def _object_changed(self, old: Object | None, new: Object | None) -> None:
        if old is not None and has_moved(old, new, "uid"):
            # It is gone; another of its name may be there by now, which has pushed nothing yet.
            self._forget(key_of(old))
        if new is None:
            return
        self._parts.watches.use("Secret")
        if has_moved(old, new, "generation", "labels", "annotations", "deletionTimestamp", "uid"):
            self._concerns.put(key_of(new), new)
            self.queue.add(key_of(new), Lane.CHANGED)

    def _forget(self, key: Key) -> None:
        self._done.pop(key, None)
        self._tries.pop(key, None)
        self._forbidden.pop(key, None)
        self._places.pop(key, None)
        self._stale.discard(key)
        self._moved.discard(key)
        self._inputs.put(key, ())
        self._concerns.put(key, None)
        self._parts.generators.forget(PUSH_SECRETS.kind, key)

    def make_anew(self, key: Key) -> None:
        """What a generator made for a key ends, so that another has to be made and pushed."""
        if self.objects.get(*key) is not None:
            self._stale.add(key)
            self.queue.add(key, Lane.EVENT)

    def _input_changed(self, old: Object | None, new: Object | None) -> None:
        item = new or old
        if item is not None:
            for key in self._inputs.of((item["kind"], *key_of(item))):
                self.queue.add(key, Lane.EVENT)

    def _secret_changed(self, old: Object | None, new: Object | None) -> None:
        item = new or old
        if item is not None:
            for key in self._concerns.of((SECRETS.kind, *key_of(item)), *_labels(old, new)):
                self.queue.add(key, Lane.EVENT)

    def _store_changed(self, old: Object | None, new: Object | None) -> None:
        """Others' stores are none of its business: what is pushed anew may be made anew."""
        item = new or old
        if item is None or not has_moved(old, new, "generation", "labels", "uid"):
            return
        namespace, name = key_of(item)
        kind = (SECRET_STORES if namespace else CLUSTER_SECRET_STORES).kind
        for key in self._concerns.of((kind, namespace, name), *_labels(old, new)):
            self._done.pop(key, None)
            self._moved.add(key)
            if old is not None and has_moved(old, new, "generation", "uid"):
                # It may be another store by now, whatever was pushed to it.
                self._stale.add(key)
            self.queue.add(key, Lane.EVENT)

    # the work

    async def reconcile(self, key: Key) -> float | None:
        """Bring the stores in line with one PushSecret's source."""
        item = self.objects.get(*key)
        if item is None:
            return None
        told = pushed_before(item.get("status") or {})
        # The status that was seen may be older than the one that was written.
        progress = _Progress({**self._places.get(key, {}), **told})
        self._places[key] = progress.places
        try:
            again = await self._reconcile(key, item, progress)
        except Unsettled:
            # The stores are right, so nobody is told; it is done with the next try.
            raise
        except Refusal as refusal:
            # What was written before it is told at once, or nobody would take it back.
            said = ("Errored", worded(refusal))
            if self._may_pass(key, item, refusal):
                said = ("", "")
            await self._say(item, progress.places, *said, progress.pushes)
            raise
        self._tries.pop(key, None)
        self._forbidden.pop(key, None)
        return again

    def _patience(self, key: Key, refusal: Refusal) -> Pause | None:
        """How long to stay away: no shorter than the store asks, no longer than the interval."""
        item = self.objects.get(*key)
        if item is None:
            return None
        try:
            interval = parse_push(item).refresh_seconds or LAST_BACKOFF
        except Refusal:
            interval = LAST_BACKOFF
        asked = getattr(refusal, "retry_after", None) or 0.0
        return Pause(asked, max(asked, min(LAST_BACKOFF, interval)))

    def _may_pass(self, key: Key, item: Object, refusal: Refusal) -> bool:
        """Whether a refusal is of a kind that is gone in a moment, and is not there for long.

        Of an API server that is away the watches tell.
        """
        forbidden = self._forbidden.setdefault(key, Forbidden())
        if forbidden.may_pass(item, refusal, self._clock.monotonic()):
            return True
        if isinstance(refusal, ClusterAway):
            return True
        if not isinstance(refusal, Unavailable) and refusal.code not in PASSING:
            return False
        self._tries[key] = self._tries.get(key, 0) + 1
        return self._tries[key] <= QUIET_TRIES

    async def _reconcile(self, key: Key, item: Object, progress: _Progress) -> float | None:
        if item["metadata"].get("deletionTimestamp"):
            await self._finalize(item, progress.places)
            return None
        spec = parse_push(item)
        await self._hold(item, spec)
        check_meant(spec)
        if spec.generator is not None and not await self._parts.generators.managed(
            spec.generator, key[0]
        ):
            return None
        now = self._clock.monotonic()
        inputs, kept_in = await self._template(key, spec)
        if spec.generator is not None and self._is_done(key, item, spec, (MADE, *kept_in)):
            # What is asked of a generator is something new, so it is asked when that is due.
            await self._parts.generators.settle(item)
            return self._next(key, spec, now)
        sources = await self._sources(item, spec)
        if sources is None:
            await self._source_gone(item, spec, progress.places)
            return None
        versions = (*(version for version, _ in sources), *kept_in)
        if self._is_done(key, item, spec, versions):
            return self._next(key, spec, now)
        self._moved.discard(key)
        progress.pushes = await self._pushes(item, spec, sources, inputs)
        self._stale.discard(key)
        try:
            moved = await self._push_all(item, spec, progress)
        except BaseException:
            self._stale.add(key)
            raise
        if moved:
            await self._release_stores()
        said = ("Synced", "PushSecret synced successfully")
        await self._say(item, progress.places, *said, progress.pushes, made=_is_made(spec))
        if key not in self._moved and self._is_there(item):
            self._done[key] = _Done(synced_version(item), versions, now)
        await self._parts.settled(item, {SLOT} if _is_made(spec) else ())
        await self._parts.generators.settle(item)
        return spec.refresh_seconds * (1 - JITTER) or None

    async def _template(self, key: Key, spec: PushSpec) -> tuple[Inputs, tuple[str, ...]]:
        """What its template is kept in, which is followed from now on, and the versions of that."""
        named = template_inputs(spec.template)
        for kind, _ in named:
            self._parts.watches.use(kind)
        self._inputs.put(key, ((kind, key[0], name) for kind, name in named))
        return await template_texts(self._api, key[0], spec.template)

    def _is_there(self, item: Object) -> bool:
        """Whether it has not been deleted meanwhile; another of its name has pushed nothing yet."""
        return not has_moved(item, self.objects.get(*key_of(item)), "uid")

    def _is_done(self, key: Key, item: Object, spec: PushSpec, versions: tuple[str, ...]) -> bool:
        """Whether these sources were pushed for this spec, not too long ago."""
        if key in self._stale:
            return False
        if key not in self._done and _is_made(spec):
            self._recall(key, item, spec, versions)
        done = self._done.get(key)
        if done is None or (done.version, done.sources) != (synced_version(item), versions):
            return False
        due = spec.refresh_seconds * (1 - JITTER)
        return not (spec.refresh_seconds and self._clock.monotonic() - done.at >= due)

    def _recall(self, key: Key, item: Object, spec: PushSpec, versions: tuple[str, ...]) -> None:
        """After a start: what was made is at the stores as the status says, and not here.

        A Secret is looked at instead, for that costs nobody a credential.
        """
        status = item.get("status") or {}
        refreshed, now = refresh_time(status), self._clock.now()
        if refreshed is None or refreshed > now + FUTURE_SECONDS or not is_ready(status):
            return
        known = list(self._known_stores(key[0]))
        wanted = {ref for choice in spec.stores for ref in choice.chosen(known)}
        if wanted != {store for store, _ in pushed_before(status)}:
            return
        if any(self._edited_at(ref, key[0]) > refreshed for ref in wanted):
            # It may be another store by now, whatever was pushed to it.
            return
        at = self._clock.monotonic() - max(0.0, now - refreshed)
        self._done[key] = _Done(str(status.get("syncedResourceVersion")), versions, at)

    def _edited_at(self, ref: StoreRef, namespace: str) -> float:
        store = self._parts.watches.store_of(ref, namespace)
        return edited_at(store) if store is not None else 0.0

    def _next(self, key: Key, spec: PushSpec, now: float) -> float | None:
        if not spec.refresh_seconds:
            return None
        return max(SHORTEST, spec.refresh_seconds * (1 - JITTER) - (now - self._done[key].at))

    async def _sources(self, item: Object, spec: PushSpec) -> list[tuple[str, Source]] | None:
        """The sources with their versions; None when there is none."""
        namespace = item["metadata"]["namespace"]
        if spec.generator is not None:
            # Of one making until all stores have it.
            made = await self._parts.generators.generate(spec.generator, item, SLOT)
            return [(MADE, made_for(namespace, made))]
        names = [spec.source_name]
        if spec.source_selector is not None:
            await self._parts.watches.secrets.synced.wait()
            names = sorted(
                each["metadata"]["name"]
                for each in self._parts.watches.secrets
                if each["metadata"]["namespace"] == namespace
                and selects(spec.source_selector, each["metadata"].get("labels") or {})
            )
        found: list[tuple[str, Source]] = []
        for name in names:
            try:
                secret = await self._api.get(SECRETS, name, namespace)
            except NotFound:
                continue
            version = f"{name}@{secret['metadata']['resourceVersion']}"
            found.append((version, source_of(secret)))
        return found or None

    async def _pushes(
        self,
        item: Object,
        spec: PushSpec,
        sources: Iterable[tuple[str, Source]],
        inputs: Inputs,
    ) -> list[Push]:
        namespace = item["metadata"]["namespace"]
        chosen: dict[StoreRef, list[Any]] = {}
        known = list(self._known_stores(namespace))
        for choice in spec.stores:
            for ref in choice.chosen(known):
                if await self._parts.stores.managed(ref, namespace):
                    chosen.setdefault(ref, [])
        for every in spec.everything:
            for ref in every.store.chosen(known):
                if ref in chosen:
                    chosen[ref].append(every.store)
        rewrites = (rewrite for every in spec.everything for rewrite in every.rewrites)
        texts = [*texts_of(spec.template, inputs), *texts_of_rewrites(rewrites)]
        pushes: list[Push] = []
        for _, source in sources:
            work = partial(pushes_of, spec, chosen, source, inputs, self._parts.render.together())
            pushes += await aside(texts, work)
        return those_that_stay(spec, pushes)

    def _known_stores(self, namespace: str) -> Iterable[tuple[StoreRef, Mapping[str, str]]]:
        for resource, store in self._parts.watches.all_stores():
            metadata = store["metadata"]
            if metadata.get("namespace", namespace) == namespace:
                yield StoreRef(metadata["name"], resource.kind), metadata.get("labels") or {}

    async def _push_all(self, item: Object, spec: PushSpec, progress: _Progress) -> bool:
        """Write what differs, then take back what is no longer asked for.

        What is refused holds up nothing else, but nothing is taken back before all is in its
        place. Whether a store is left that was pushed to before; raises the first Refusal.
        """
        places, first, away = progress.places, None, set[StoreRef]()
        for push in progress.pushes:
            if push.store in away:
                continue
            try:
                await self._push_one(item, spec, push, places)
            except Refusal as refusal:
                first = first or refusal
                if isinstance(refusal, Unavailable):
                    away.add(push.store)
        if first is not None:
            raise first
        wanted = {(each.store, each.place) for each in progress.pushes}
        gone = {each: target for each, target in places.items() if each not in wanted}
        await self._take_back_all(item, gone if spec.delete else {}, places)
        for each in gone:
            places.pop(each, None)
        return bool({store for store, _ in gone} - {store for store, _ in places})

    async def _push_one(self, item: Object, spec: PushSpec, push: Push, places: Places) -> None:
        reads = await self._parts.stores.reads(push.store, item["metadata"]["namespace"])
        async with reads.asked("push"):
            if not spec.replace and await reads.provider.exists(push.target):
                return
            value = Secret(push.content(reads.provider.traits))
            try:
                pushed = await reads.provider.push(push.target, value)
            except Unavailable:
                # Written or not, nobody knows: it is taken back when it is asked for no more,
                # but where no mark shows whose it is, another's might go.
                if reads.provider.traits.marked:
                    places[push.store, push.place] = push.target
                raise
        places[push.store, push.place] = push.target
        if pushed.changed:
            note = f"wrote {push.place} to {push.store.kind} {push.store.name}"
            await self._parts.events.emit(item, "Normal", "Pushed", note)

    async def _take_back_all(self, item: Object, targets: Places, places: Places) -> None:
        """Take back each, and out of `places` what is; raises the first Refusal at the end."""
        first: Refusal | None = None
        for (store, place), target in list(targets.items()):
            try:
                await self._take_back(item, store, target)
            except Refusal as refusal:
                first = first or refusal
            else:
                places.pop((store, place), None)
        if first is not None:
            raise first

    async def _take_back(self, item: Object, store: StoreRef, target: PushTarget) -> None:
        try:
            reads = await self._parts.stores.reads(store, item["metadata"]["namespace"])
        except NotFound:
            # With the store its address is gone; there is nothing left to do.
            return
        async with reads.asked("delete"):
            await reads.provider.delete(target)
        note = f"took back {place_of(target)} from {store.kind} {store.name}"
        await self._parts.events.emit(item, "Normal", "PushedDeleted", note)

    async def _source_gone(self, item: Object, spec: PushSpec, places: Places) -> None:
        if not spec.delete:
            raise NotFound(
                "no-source",
                "the source Secret is not there; what was pushed before stays",
                hint="create it, or delete this PushSecret",
            )
        await self._take_back_all(item, places, places)
        message = "the source is gone, and what was pushed has been taken back"
        await self._say(item, {}, "SourceDeleted", message)

    # what people see

    async def _say(
        self,
        item: Object,
        places: Places,
        reason: str,
        message: str,
        pushes: Iterable[Push] = (),
        *,
        made: bool = False,
    ) -> None:
        """With the reason "" only what is where; `made` is something new, so its time is told."""
        if not self._is_there(item):
            return
        before = item.get("status") or {}
        rows = {(each.store, each.place): each.row for each in pushes}
        shown: dict[str, dict[str, Any]] = {}
        old = before.get("syncedPushSecrets") or {}
        for store, place in places:
            name = f"{store.kind}/{store.name}"
            row = rows.get((store, place)) or (old.get(name) or {}).get(place) or {}
            shown.setdefault(name, {})[place] = row
        status: dict[str, Any] = {"syncedPushSecrets": shown}
        if reason:
            ready = "False" if reason == "Errored" else "True"
            said = condition(before, "Ready", ready, (reason, message), self._clock.now())
            status["conditions"] = [said]
        if reason == "Synced":
            status["syncedResourceVersion"] = synced_version(item)
        same = _shows(old, shown) and says_the_same(before | {"syncedPushSecrets": shown}, status)
        if same and not made:
            return
        if reason == "Errored":
            await self._parts.events.emit(item, "Warning", "Errored", message)
        elif reason:
            status["refreshTime"] = seconds(self._clock.now())
        gone = {
            name: (None if name not in shown else dict.fromkeys(set(places) - set(shown[name])))
            for name, places in old.items()
        }
        status["syncedPushSecrets"] = merged(shown, gone)
        await put_status(self._api, PUSH_SECRETS, item, status)

    # the end of an object

    async def _hold(self, item: Object, spec: PushSpec) -> None:
        """What is to be taken back at the end holds the object, and the stores that it needs."""
        if not spec.delete:
            if is_held(item, FINALIZER):  # Its policy was Delete before.
                await self._let_go(item)
            return
        await hold(self._api, PUSH_SECRETS, item, FINALIZER)
        for choice in spec.stores:
            for ref in choice.chosen(self._known_stores(item["metadata"]["namespace"])):
                await self._hold_store(ref, item["metadata"]["namespace"])

    async def _hold_store(self, ref: StoreRef, namespace: str) -> None:
        store = self._parts.watches.store_of(ref, namespace)
        if store is None or store["metadata"].get("deletionTimestamp"):
            return
        cluster = ref.kind == CLUSTER_SECRET_STORES.kind
        resource = CLUSTER_SECRET_STORES if cluster else SECRET_STORES
        await hold(self._api, resource, store, STORE_FINALIZER)

    async def _finalize(self, item: Object, places: Places) -> None:
        if not is_held(item, FINALIZER):
            return
        if (item.get("spec") or {}).get("deletionPolicy") == "Delete":
            await self._take_back_all(item, places, places)
        await self._let_go(item)

    async def _let_go(self, item: Object) -> None:
        """The object goes last: nobody would let the stores go after it."""
        await self._release_stores(item)
        await let_go(self._api, PUSH_SECRETS, item, FINALIZER)

    async def _release_stores(self, gone: Object | None = None) -> None:
        """Let stores go that no other PushSecret with deletionPolicy Delete needs."""
        await self.objects.synced.wait()
        for resource, store in self._parts.watches.all_stores():
            held = is_held(store, STORE_FINALIZER)
            if held and not self._needed(store, resource.kind, gone):
                await let_go(self._api, resource, store, STORE_FINALIZER)

    def _needed(self, store: Object, kind: str, gone: Object | None) -> bool:
        thing = (kind, *key_of(store))
        for key in self._concerns.of(thing, *_labels(store)):
            item = self.objects.get(*key)
            if item is None or (gone is not None and key == key_of(gone)):
                continue
            if item["spec"].get("deletionPolicy") == "Delete":
                return True
        return False


def _labels(*items: Object | None) -> list[Labels]:
    return [each["metadata"].get("labels") or {} for each in items if each is not None]


def _is_made(spec: PushSpec) -> bool:
    """Whether a generator makes what is pushed."""
    return spec.generator is not None


def _shows(before: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether a status has these places and no others; a definition may fill in defaults."""
    return {name: set(places) for name, places in before.items()} == {
        name: set(places) for name, places in wanted.items()
    } and holds(before, wanted)
