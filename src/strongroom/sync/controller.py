"""The ExternalSecret controller: every reason to look again leads to the same reconcile."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from strongroom.kube.api import KubeApi
from strongroom.kube.controller import Controller, Key, Pause, namespace_of
from strongroom.kube.queue import Lane, WorkQueue
from strongroom.kube.resource import Object, key_of
from strongroom.model.clock import Clock
from strongroom.model.errors import Conflict, Invalid, Refusal, Unavailable
from strongroom.sync.crds import EXTERNAL_SECRETS
from strongroom.sync.desired import (
    MANIFEST,
    Difference,
    build,
    compare,
    created_by,
    shown_versions,
    synced_version,
)
from strongroom.sync.drift import opponent_of
from strongroom.sync.due import (
    SHORTEST,
    Known,
    Need,
    age_of,
    concerns,
    follows_the_store,
    is_drift,
    is_of_the_cluster,
    kept_for,
    may_be_kept,
    need,
    next_look,
    patience,
    start_lane,
    still_good,
    unrepaired,
    was_made,
)
from strongroom.sync.finalizers import hold, is_held, let_go
from strongroom.sync.memory import Memory
from strongroom.sync.pace import Rate, turn_at
from strongroom.sync.providers.contract import ClusterAway
from strongroom.sync.reader import Collected, Generated, Generators, Reader, Unsettled, slots_of
from strongroom.sync.render import Rendered
from strongroom.sync.render_aside import rendered
from strongroom.sync.reporting import Reporter
from strongroom.sync.rewrite import Renderer
from strongroom.sync.spec import Spec, not_deleted, parse_spec
from strongroom.sync.status import DELETED, MISSING, RETAINED, SYNCED, StoreAway
from strongroom.sync.stores import Stores
from strongroom.sync.target import Outcome, Targets
from strongroom.sync.template_texts import template_texts
from strongroom.sync.watches import Watches

FINALIZER: Final = "externalsecrets.external-secrets.io/externalsecret-cleanup"
WORKERS: Final = 48
# With more keys than this at once, and for so long after, a status says enough without an Event.
CROWD: Final = 32
CROWD_SECONDS: Final = 5.0

_log = logging.getLogger(__name__)


# Called with an object whose target is right, and the places it has for generators.
Settled = Callable[[Object, Collection[str]], Awaitable[None]]


async def nothing_unused(_owner: Object, _slots: Collection[str]) -> None:
    """Where nobody ends what generators made."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the controller works with."""

    watches: Watches
    stores: Stores
    reader: Reader
    generators: Generators
    targets: Targets
    reporter: Reporter
    render: Renderer
    # Whether External Secrets Operator's hash of the data is written at a Secret.
    hashed: bool = True
    # Whether the versions that its values have at the store are written at a Secret.
    versioned: bool = True
    # Told of a key and what it has read, and what was not there.
    noted: Callable[[Key, Spec, Collected], None] = field(default=lambda _key, _spec, _read: None)
    # Told of a key that was not read, for it is not due.
    expected: Callable[[Key, Spec], None] = field(default=lambda _key, _spec: None)
    # Told of a key that could not be read.
    awaited: Callable[[Key, Spec], None] = field(default=lambda _key, _spec: None)
    forgotten: Callable[[Key], None] = field(default=lambda _key: None)
    settled: Settled = field(default=nothing_unused)
    # How fast one store is read.
    rate: Rate = field(default_factory=Rate)
    # Called with key, seconds and whether it went well, for each reconcile.
    measured: Callable[[Key, float, bool], None] = field(default=lambda _key, _seconds, _well: None)


class SyncController:
    """Runs until cancelled."""

    def __init__(self, api: KubeApi, parts: Parts, clock: Clock) -> None:
        self._api = api
        self._parts = parts
        self._clock = clock
        self.queue: WorkQueue[Key] = WorkQueue(clock, namespace_of)
        self.controller = Controller("externalsecret", self.queue, self.reconcile, self._patience)
        self._memories: dict[Key, Memory] = {}
        parts.watches.on_reason(self._wake, self._touched, self._wrote)
        self._crowded_until = clock.monotonic()

    async def run(self, workers: int = WORKERS) -> None:
        """Work; the watches run beside it. May be run again after it was cancelled."""
        for memory in self._memories.values():
            memory.begin_anew()
        watches = self._parts.watches
        for each in watches.needed_for_new():
            await each.synced.wait()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._take_up())
            await self.controller.run(workers)

    async def _take_up(self) -> None:
        """What was never synced comes at once, the others when all caches are filled."""
        watches = self._parts.watches
        for item in watches.objects:
            if start_lane(item) is Lane.CHANGED:
                self.queue.add(key_of(item))
        for each in (*watches.needed_at_start(), watches.objects):
            await each.synced.wait()
        for item in watches.objects:
            if self._known(key_of(item)) is None:
                self.queue.add(key_of(item), start_lane(item))

    def _memory(self, key: Key) -> Memory:
        return self._memories.setdefault(key, Memory())

    def _known(self, key: Key) -> Known | None:
        memory = self._memories.get(key)
        return None if memory is None else memory.known

    def _wake(self, key: Key, lane: Lane, read: bool) -> None:  # noqa: FBT001 - the callback's shape
        if read and self._concerns(key):
            self._memory(key).stale = True
        self.queue.add(key, lane)

    def _concerns(self, key: Key) -> bool:
        item = self._parts.watches.objects.get(*key)
        return item is not None and concerns(item, known=self._known(key) is not None)

    def _touched(self, key: Key) -> None:
        """Somebody changed a target that is no Secret; what was in it may be known no more."""
        self._wake(key, Lane.EVENT, self._known(key) is None)

    def _wrote(self, key: Key, version: str) -> bool:
        """Whether a version of the target is what this key wrote last, and said."""
        return key in self._memories and self._memories[key].wrote(version)

    def changed_at_store(self, key: Key, lane: Lane = Lane.EVENT) -> None:
        """The store says that something this key reads has changed."""
        self._wake(key, lane, True)

    def make_anew(self, key: Key) -> None:
        """What a generator made for a key ends, so that another has to be made."""
        item = self._parts.watches.objects.get(*key)
        if item is not None and follows_the_store(item):
            memory = self._memory(key)
            if memory.known is not None:
                memory.known = replace(memory.known, generated={})
            memory.stale = True
            self.queue.add(key, Lane.EVENT)

    def store_is_back(self, readers: Iterable[Key]) -> None:
        """A store answers again: those that it failed are tried soon, not at their next turn."""
        failed = {key: each for key, each in self._memories.items() if each.failed_first}
        for memory in failed.values():
            memory.failed_first = False
        self._in_turn(failed, self._stale(readers).difference(failed))

    def catch_up(self, readers: Iterable[Key]) -> None:
        """Nobody knows what has changed at a store: all who read it do so again, in turn."""
        # Those that a store has failed come first.
        failed = self._stale(readers)
        others = [key for key in readers if key not in failed and self._concerns(key)]
        for key in others:
            self._memory(key).stale = True
        self._in_turn(failed, others)

    def _stale(self, keys: Iterable[Key]) -> set[Key]:
        return {key for key in keys if key in self._memories and self._memories[key].stale}

    def _in_turn(self, *groups: Iterable[Key]) -> None:
        """Ten thousand at once would bring down a store that has just come up; the oldest first."""
        now, held = (self._clock.now(), self._clock.monotonic()), self._parts.watches.objects

        def older(key: Key) -> tuple[float, Key]:
            return -age_of(held.get(*key) or {}, self._known(key), now), key

        keys = [key for each in groups for key in sorted(each, key=older)]
        for number, key in enumerate(keys):
            self.queue.put_off(key, turn_at(number, self._parts.rate.per_second))

    # the work

    async def reconcile(self, key: Key) -> float | None:
        """Bring one ExternalSecret's target in order; the seconds until it is due again."""
        item = self._parts.watches.objects.get(*key)
        if item is None:
            self._forget(key)
            return None
        uid = item["metadata"]["uid"]
        if self._memory(key).uid not in ("", uid):
            # Made anew before anybody looked: what is known is of the one before, and so is a
            # status, if that was being worked on.
            self._forget(key)
            self._memory(key).stale = True
        self._memory(key).uid = uid
        began = self._clock.monotonic()
        try:
            again = await self._reconcile(key, item)
        except Exception as error:
            self._parts.measured(key, self._clock.monotonic() - began, False)
            if not isinstance(error, Unsettled):
                await self._failed(key, item, error)
            # Else the Secret is right, so nobody is told; it is done with the next try.
            raise
        self._memory(key).forbidden.since = None
        self._parts.measured(key, self._clock.monotonic() - began, True)
        return again

    async def _failed(self, key: Key, item: Object, error: Exception) -> None:
        await self._parts.generators.abandon(item)
        if self._memory(key).forbidden.may_pass(item, error, self._clock.monotonic()):
            return
        if isinstance(error, Refusal):
            manifest = bool(((item.get("spec") or {}).get("target") or {}).get("manifest"))
            told = await self._parts.reporter.failed(item, error, manifest=manifest)
            if told and isinstance(error, StoreAway):
                error.take_turn()
        else:
            # A bug of ours is no reason to be silent at the object.
            said = Conflict("internal-error", f"the operator failed with {type(error).__name__}")
            await self._parts.reporter.failed(item, said)

    def _forget(self, key: Key) -> None:
        self._memories.pop(key, None)
        self._parts.watches.forget(key)
        self._parts.generators.forget(EXTERNAL_SECRETS.kind, key)
        self._parts.forgotten(key)

    async def _reconcile(self, key: Key, item: Object) -> float | None:
        if item["metadata"].get("deletionTimestamp"):
            await self._finalize(item)
            return None
        spec = parse_spec(item)
        self._parts.watches.depends(key, spec)
        if not await self._are_managed(spec, key[0]):
            return None
        now = (self._clock.now(), self._clock.monotonic())
        memory = self._memory(key)
        known = memory.known
        what = await self._need(key, item, spec, now)
        if what is Need.NOTHING:
            if known is None:
                self._parts.expected(key, spec)
            await self._parts.generators.settle(item)
            return next_look(spec, item, known, now)
        for generator in spec.generators:
            if not await self._parts.generators.managed(generator, key[0]):
                memory.known = None
                return None
        truce = memory.truce(item, now)
        if truce and (what is Need.CHECK or (known is None and not memory.stale)):
            due = None if known is None else next_look(spec, item, known, now)
            return max(SHORTEST, truce if due is None else min(truce, due))
        if what is Need.CHECK and known is not None and await self._is_gone(key, item, spec, known):
            what = Need.READ
        if what is Need.READ or known is None:
            await self._renew(key, item, spec, known)
        else:
            await self._write(key, item, spec, known, known)
        return next_look(spec, item, memory.known, now)

    async def _is_gone(self, key: Key, item: Object, spec: Spec, known: Known) -> bool:
        """Whether the target was deleted: what is made then is what the store has now."""
        if not known.written or self._parts.watches.target_of(key, spec) is not None:
            return False
        return await self._parts.targets.found(item, spec) is None

    async def _renew(self, key: Key, item: Object, spec: Spec, known: Known | None) -> None:
        """Read and write; whatever ends that before it is written, it has to be read again."""
        try:
            fresh = self._pending_of(key, item, spec)
            if fresh is None:
                fresh = await self._read_or_keep(key, item, spec, known)
            if fresh is not None and not self._rests(key, fresh, known):
                await self._write(key, item, spec, fresh, known)
        except BaseException:
            # Cancelled too: the lead may be lost in the middle of a write.
            memory = self._memory(key)
            if memory.known is known and memory.pending is None:
                memory.stale = True
            raise

    async def _are_managed(self, spec: Spec, namespace: str) -> bool:
        for store in spec.stores:
            if not await self._parts.stores.managed(store, namespace):
                return False
        return True

    def _truce_left(self, key: Key) -> float:
        return self._memory(key).truce_left(self._clock.monotonic())

    def _rests(self, key: Key, fresh: Known, known: Known | None) -> bool:
        """Whether what was read says nothing new while repairs are stopped."""
        truce = self._truce_left(key)
        if not truce or known is None or known.wanted != fresh.wanted:
            return False
        self._memory(key).known = replace(
            fresh, target_version=known.target_version, written=known.written
        )
        return True

    async def _need(self, key: Key, item: Object, spec: Spec, now: tuple[float, float]) -> Need:
        if spec.manifest is not None and spec.creation != "None":
            self._parts.watches.follow(await self._parts.targets.kind_of(spec.manifest))
        memory = self._memory(key)
        if memory.stale or memory.pending is not None:
            return Need.READ
        target = self._parts.watches.target_of(key, spec)
        what = need(item, spec, memory.known, target, now)
        return Need.CHECK if what is Need.NOTHING and memory.unsaid is not None else what

    def _pending_of(self, key: Key, item: Object, spec: Spec) -> Known | None:
        """What was read and not written for certain: a generator is not asked again for that."""
        memory = self._memory(key)
        held, memory.pending = memory.pending, None
        if held is None or memory.stale or held.version != synced_version(item):
            return None
        age = self._clock.monotonic() - held.refreshed
        return held if age < kept_for(item, spec, held) else None

    async def _read_or_keep(
        self, key: Key, item: Object, spec: Spec, known: Known | None
    ) -> Known | None:
        """Read; while that cannot be, what it held last is kept in place against drift."""
        try:
            return await self._read(key, item, spec, known)
        except (StoreAway, ClusterAway) as away:
            target = self._parts.watches.target_of(key, spec)
            if isinstance(away, StoreAway) and known is None and was_made(item, spec):
                # What has lost its label is seen by no watch, and no watch shows the data.
                if target is None or unrepaired(item, spec, target):
                    target = await self._parts.targets.current(key[0], spec.target)
                away.unrepaired = unrepaired(item, spec, target)
            elif known and may_be_kept(known, item, spec, target) and not self._truce_left(key):
                await self._keep(key, item, spec, known)
            raise

    async def _keep(self, key: Key, item: Object, spec: Spec, known: Known) -> None:
        outcome = await self._put(item, spec, known)
        written = not outcome.absent
        self._memory(key).known = replace(known, target_version=outcome.version, written=written)
        if outcome.difference.of_data or outcome.difference.shape == MANIFEST:
            await self._repaired(key, item, spec, outcome)

    async def _read(self, key: Key, item: Object, spec: Spec, known: Known | None) -> Known | None:
        """The target as the store says it should be; None when there is nothing to write."""
        memory = self._memory(key)
        memory.stale = memory.failed_first = False
        try:
            await self._hold(item, spec)
            if slots_of(spec) and not await self._parts.targets.check_free(item, spec):
                # A credential for a target that is another's, or not there, would serve nobody.
                absent = Outcome(Difference(), None, "", absent=True)
                await self._parts.reporter.synced(item, spec, absent, MISSING)
                return None
            good, asked = still_good(item, spec, known, self._clock.monotonic())
            collected = await self._collect(item, spec, good)
            inputs, versions = await template_texts(self._api, key[0], spec.template)
        except Refusal as refusal:
            memory.stale = True
            self._parts.awaited(key, spec)
            memory.failed_first = known is None and isinstance(refusal, StoreAway)
            raise
        self._parts.noted(key, spec, collected)
        if known is None or known.version != synced_version(item):
            await self._parts.reporter.deprecated(item, spec)
        await self._parts.reporter.missing(item, collected.missing)
        if not collected.data and spec.deletion in ("Retain", "Delete"):
            await self._nothing(key, item, spec)
            return None
        same = (
            known is not None
            and known.values == collected.data
            and known.inputs == versions
            and known.version == synced_version(item)
        )
        if known is not None and same:
            # Templates may not give the same twice; what has not changed is not rendered anew.
            made = known.made
        else:
            made = await rendered(item, spec, collected.data, inputs, self._parts.render)
        return replace(self._fresh(item, spec, made, collected, versions), asked=asked)

    async def _collect(self, item: Object, spec: Spec, good: Generated) -> Collected:
        try:
            return await self._parts.reader.collect(item, spec, good)
        except ClusterAway:
            raise
        except Unavailable as refusal:
            # Told apart from an API server that is away: only a store makes a value stale.
            raise StoreAway(refusal) from None

    def _fresh(
        self, item: Object, spec: Spec, made: Rendered, collected: Collected,
        inputs: tuple[str, ...],
    ) -> Known:  # fmt: skip
        versions = collected.versions if self._parts.versioned else {}
        wanted = build(item, spec, made, versions, hashed=self._parts.hashed)
        return Known(
            version=synced_version(item),
            wanted=wanted,
            made=made,
            # Without a template they are the same; one of them is enough to keep.
            values=made.data if made.data == collected.data else collected.data,
            inputs=inputs,
            refreshed=self._clock.monotonic(),
            target_version="",
            written=False,
            generated=collected.generated,
        )

    async def _nothing(self, key: Key, item: Object, spec: Spec) -> None:
        """The store answered, and has none of it."""
        outcome = Outcome(Difference(), None, "")
        if spec.deletes:
            if await self._parts.targets.delete(item, spec):
                await self._parts.reporter.deleted(
                    item, "secret deleted due to DeletionPolicy=Delete"
                )
            await self._parts.reporter.synced(item, spec, replace(outcome, absent=True), DELETED)
        elif spec.deletion == "Delete":
            raise not_deleted(spec)
        else:
            await self._parts.reporter.synced(item, spec, outcome, RETAINED)
        self._memory(key).known = self._fresh(item, spec, Rendered(), Collected(), ())

    async def _write(
        self, key: Key, item: Object, spec: Spec, fresh: Known, known: Known | None
    ) -> None:
        outcome = Outcome(Difference(), None, "")
        memory = self._memory(key)
        said, again = SYNCED, memory.unsaid is not None
        if spec.creation != "None":
            target = self._parts.watches.targets.get(key[0], spec.target)
            drifted = is_drift(known, fresh, item, spec, target)
            keeps = spec.creation == "Orphan" and not again
            if drifted and keeps and await self._kept(key, item, spec, fresh):
                return
            outcome = await self._certain(key, item, spec, fresh, drifted=drifted)
            said = MISSING if outcome.absent else SYNCED
        outcome = replace(outcome, sources=shown_versions(fresh.wanted.annotations))
        # Known from now on, but looked at again until it could be said.
        memory.known = replace(
            fresh,
            target_version=outcome.version,
            written=spec.creation != "None" and not outcome.absent,
        )
        memory.unsaid = outcome
        unsettled = await self._settle(item, spec)
        if spec.creation != "None":
            if outcome.drifted:
                await self._repaired(key, item, spec, outcome)
                memory.unsaid = replace(outcome, drifted=False)
            if again or known is None or known.wanted.name != spec.target:
                await self._delete_orphans(item, spec)
        if not self._truce_left(key):
            await self._parts.reporter.synced(item, spec, outcome, said, quiet=self._crowded())
        memory.unsaid = None
        if unsettled is not None:
            raise unsettled

    async def _settle(self, item: Object, spec: Spec) -> Unsettled | None:
        """What was made before ends in a while; what is in the way of that."""
        await self._parts.settled(item, slots_of(spec))
        try:
            await self._parts.generators.settle(item)
        except Unsettled as refusal:
            return refusal
        return None

    def _crowded(self) -> bool:
        """Whether many keys were new or changed a moment ago."""
        now, waiting = self._clock.monotonic(), self.queue.lengths()
        if waiting[Lane.CHANGED] + waiting[Lane.EVENT] > CROWD:
            self._crowded_until = now + CROWD_SECONDS
        return now < self._crowded_until

    async def _certain(
        self, key: Key, item: Object, spec: Spec, fresh: Known, *, drifted: bool
    ) -> Outcome:
        """Write; what was done before and could not be told is part of the outcome."""
        try:
            outcome = await self._put(item, spec, fresh)
        except Refusal as refusal:
            if isinstance(refusal, Unavailable):
                self._parts.generators.hold(item)
            elif not is_of_the_cluster(refusal) or fresh.generated:
                raise
            # Written or not, nobody knows, or it may be later: the same is, without a read.
            self._memory(key).pending = fresh
            raise
        untold = self._memory(key).unsaid
        if untold is None or outcome.difference.any:
            return replace(outcome, drifted=drifted and outcome.difference.any)
        return replace(untold, version=outcome.version, absent=outcome.absent)

    async def _put(self, item: Object, spec: Spec, fresh: Known) -> Outcome:
        if spec.manifest is not None:
            return await self._parts.targets.write_manifest(item, spec, fresh.wanted, fresh.made)
        target = self._parts.watches.targets.get(item["metadata"]["namespace"], spec.target)
        return await self._parts.targets.write(
            item, spec, fresh.wanted, target, may_create=spec.creation != "Merge"
        )

    async def _kept(self, key: Key, item: Object, spec: Spec, fresh: Known) -> bool:
        """An Orphan's drift is told, not repaired; whether there was something to keep."""
        current = await self._parts.targets.current(key[0], spec.target)
        difference = compare(current, fresh.wanted)
        if current is None or (self._memory(key).known is None and not difference.of_data):
            return False
        metadata = current["metadata"]
        sources = shown_versions(metadata.get("annotations") or {})
        kept = Outcome(Difference(), current, metadata["resourceVersion"], sources=sources)
        # A condition that told of trouble with the store has to go as well.
        await self._parts.reporter.synced(item, spec, kept)
        self._memory(key).known = replace(fresh, target_version=kept.version, written=True)
        if difference.of_data:
            who = await self._parts.reporter.who(item, spec, current)
            await self._parts.reporter.drift(item, spec, difference, who, repaired=False)
        return True

    async def _repaired(self, key: Key, item: Object, spec: Spec, outcome: Outcome) -> None:
        who = await self._parts.reporter.who(item, spec, outcome.before)
        contest = self._memory(key).fought()
        # Of labels and annotations nobody is told, unless they are fought about.
        if outcome.difference.of_data or outcome.difference.shape == MANIFEST:
            await self._parts.reporter.drift(item, spec, outcome.difference, who, repaired=True)
        if contest.repaired(self._clock.monotonic()):
            rivals = self._parts.watches.competitors(key, spec)
            named = f"ExternalSecret {rivals[0][1]}" if rivals else opponent_of(who)
            await self._parts.reporter.fight(item, named)

    async def _delete_orphans(self, item: Object, spec: Spec) -> None:
        """Secrets that were made under an earlier target name."""
        if spec.creation != "Owner":
            return
        await self._parts.watches.targets.synced.wait()
        maker = created_by(item["metadata"]["namespace"], item["metadata"]["name"])
        for each in self._parts.watches.made_by(maker):
            if each["metadata"]["name"] == spec.target:
                continue
            if await self._parts.targets.delete_orphan(item, each):
                note = "secret deleted because it was orphaned"
                await self._parts.reporter.deleted(item, note)

    # the end of an object

    async def _hold(self, item: Object, spec: Spec) -> None:
        """An ExternalSecret whose Secret has to go with it stays until that is gone."""
        if spec.deletes:
            await hold(self._api, EXTERNAL_SECRETS, item, FINALIZER)

    async def _finalize(self, item: Object) -> None:
        if not is_held(item, FINALIZER):
            return
        try:
            spec = parse_spec(item)
        except Invalid:
            # What it asked for cannot be read, so nothing is deleted for it.
            spec = None
        if spec is not None and spec.deletes:
            try:
                await self._parts.targets.delete(item, spec)
            except Conflict as refusal:
                _log.warning("%s/%s: %s", *key_of(item), refusal.code)
        await let_go(self._api, EXTERNAL_SECRETS, item, FINALIZER)

    def _patience(self, key: Key, refusal: Refusal) -> Pause | None:
        item = self._parts.watches.objects.get(*key)
        return None if item is None else patience(item, refusal)
