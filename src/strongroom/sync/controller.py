"""The ExternalSecret controller: every reason to look again leads to the same reconcile."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from strongroom.kube.api import KubeApi, Scope
from strongroom.kube.controller import Controller, Key
from strongroom.kube.events import EventRecorder
from strongroom.kube.informer import Informer
from strongroom.kube.queue import Lane, WorkQueue
from strongroom.kube.resource import SECRETS, Object, key_of
from strongroom.model.clock import Clock, rfc3339
from strongroom.model.errors import Conflict, NotFound, Refusal, Unavailable
from strongroom.sync.crds import CLUSTER_SECRET_STORES, EXTERNAL_SECRETS, SECRET_STORES
from strongroom.sync.desired import (
    MANAGED,
    Difference,
    actor,
    build,
    check_consent,
    compare,
    describe,
    field_manager,
    synced_version,
)
from strongroom.sync.providers.contract import Fetched, Provider
from strongroom.sync.spec import RemoteRef, Spec, StoreRef, parse_spec
from strongroom.sync.status import failed_conditions, ready_conditions, says_the_same
from strongroom.sync.stores import StoreKey, Stores
from strongroom.sync.values import extract, pick

CONTROLLER: Final = "external-secrets.io/strongroom"
FEED_RETRY_SECONDS: Final = 1.0
# Asks who changed a Secret: namespace and name in, a name or "" out.
WhoChanged = Callable[[str, str], Awaitable[str]]

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Known:
    """What was synced last for one ExternalSecret."""

    version: str
    data: dict[str, bytes] = field(repr=False)
    versions: dict[str, int]
    refreshed: float
    written: bool = False


async def _nobody(namespace: str, name: str) -> str:  # noqa: ARG001 - without a log nobody knows
    return ""


class SyncController:
    """Runs until cancelled."""

    def __init__(
        self, api: KubeApi, stores: Stores, clock: Clock, who_changed: WhoChanged = _nobody
    ) -> None:
        self._api = api
        self._stores = stores
        self._clock = clock
        self._who_changed = who_changed
        self._queue: WorkQueue[Key] = WorkQueue(clock)
        self._events = EventRecorder(api, CONTROLLER, "strongroom-operator", clock)
        self._objects = Informer(api, EXTERNAL_SECRETS, clock)
        scope = Scope(label_selector=f"{MANAGED}=true", metadata_only=True)
        self._secrets = Informer(api, SECRETS, clock, scope)
        self._store_informers = [
            Informer(api, each, clock) for each in (SECRET_STORES, CLUSTER_SECRET_STORES)
        ]
        self._known: dict[Key, Known] = {}
        self._stale: set[Key] = set()
        self._readers: dict[str, set[Key]] = {}
        self._by_target: dict[Key, Key] = {}
        self._tasks: asyncio.TaskGroup | None = None
        stores.on_new = self._follow_new

    async def run(self) -> None:
        """Watch, work and follow feeds."""
        self._objects.on_change(self._object_changed)
        self._secrets.on_change(self._secret_changed)
        for informer in self._store_informers:
            informer.on_change(self._store_changed)
        async with asyncio.TaskGroup() as group:
            self._tasks = group
            for informer in (self._objects, self._secrets, *self._store_informers):
                group.create_task(informer.run())
            await self._secrets.synced.wait()
            group.create_task(Controller("sync", self._queue, self.reconcile).run())

    # reasons to look again

    def _object_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            if old is not None:
                self._known.pop(key_of(old), None)
            return
        # A write of the status is not a change anybody asked for.
        if old is None or synced_version(old) != synced_version(new):
            self._queue.add(key_of(new), Lane.CHANGED)

    def _secret_changed(self, old: Object | None, new: Object | None) -> None:
        item = new or old
        if item is not None:
            key = self._by_target.get(key_of(item))
            if key is not None:
                self._queue.add(key, Lane.EVENT)

    def _store_changed(self, old: Object | None, new: Object | None) -> None:
        item = new or old
        if item is None or (
            old and new and old["metadata"].get("generation") == new["metadata"].get("generation")
        ):
            return
        where, name = key_of(item)
        for each in self._objects:
            refs = [(each.get("spec") or {}).get("secretStoreRef") or {}]
            namespace = each["metadata"]["namespace"]
            if where in ("", namespace) and any(ref.get("name") == name for ref in refs):
                self._stale.add(key_of(each))
                self._queue.add(key_of(each), Lane.EVENT)

    def _follow_new(self, key: StoreKey, provider: Provider) -> None:
        if self._tasks is not None:
            self._tasks.create_task(self._follow(key, provider))

    async def _follow(self, key: StoreKey, provider: Provider) -> None:
        """Mark what changes; after a break everything of the namespace may have changed."""
        while True:
            try:
                async for path in provider.changes():
                    self._mark(self._readers.get(path, set()))
                return
            except Refusal as refusal:
                _log.warning("change feed: %s", refusal.code)
            await self._clock.sleep(FEED_RETRY_SECONDS)
            self._mark({each for each in self._known if each[0] == key.namespace})

    def _mark(self, keys: set[Key]) -> None:
        for key in keys:
            self._stale.add(key)
            self._queue.add(key, Lane.EVENT)

    # the work

    async def reconcile(self, key: Key) -> float | None:
        """Bring one ExternalSecret's Secret in order; the seconds until it is due again."""
        item = self._objects.get(*key)
        if item is None or item["metadata"].get("deletionTimestamp"):
            return None
        try:
            spec = parse_spec(item)
            return await self._reconcile(key, item, spec)
        except Refusal as refusal:
            await self._report_failure(item, refusal)
            raise

    async def _reconcile(self, key: Key, item: Object, spec: Spec) -> float | None:
        self._by_target[key[0], spec.target] = key
        current = await self._current(key[0], spec.target)
        check_consent(item, spec, current)
        known = self._known.get(key)
        version, now = synced_version(item), self._clock.monotonic()
        if known is None or key in self._stale or is_due(spec, known, version, now):
            self._stale.discard(key)
            try:
                data, versions = await self._collect(item, spec)
            except NotFound:
                if spec.deletion != "Delete":
                    raise
                return await self._delete_target(item, spec, current)
            except Refusal:
                self._stale.add(key)
                raise
            drifted = False
        else:
            data, versions, drifted = known.data, known.versions, known.written
        await self._write(item, spec, current, build(item, spec, data, versions), drifted=drifted)
        self._known[key] = Known(version, data, versions, now, written=spec.creation != "None")
        return spec.refresh_seconds or None

    async def _current(self, namespace: str, name: str) -> Object | None:
        try:
            return await self._api.get(SECRETS, name, namespace)
        except NotFound:
            return None

    async def _collect(self, item: Object, spec: Spec) -> tuple[dict[str, bytes], dict[str, int]]:
        """Read each secret once and make the keys of it; later rows win."""
        fetched: dict[tuple[StoreRef, str, str, bool], Fetched] = {}
        data: dict[str, bytes] = {}
        versions: dict[str, int] = {}
        for row in spec.rows:
            ref = row.remote
            place = (row.store, ref.key, ref.version, ref.metadata)
            if place not in fetched:
                fetched[place] = await self._fetch(item, row.store, ref)
            found = fetched[place]
            if row.secret_key:
                data[row.secret_key] = pick(found.data, ref)
            else:
                data |= extract(found.data, ref)
            versions[found.path] = found.version
        return data, versions

    async def _fetch(self, item: Object, store: StoreRef, ref: RemoteRef) -> Fetched:
        key = key_of(item)
        provider = await self._stores.provider(store, key[0])
        found = await provider.fetch(ref)
        self._readers.setdefault(found.path, set()).add(key)
        return found

    async def _write(
        self, item: Object, spec: Spec, current: Object | None, wanted: Object, *, drifted: bool
    ) -> None:
        if spec.creation == "None":
            await self._report_success(item, spec, Difference())
            return
        if spec.creation == "Merge" and current is None:
            raise NotFound("secret-missing", f"the Secret {spec.target} to merge into is not there")
        whole = spec.creation in ("Owner", "Orphan")
        difference = compare(current, wanted, whole=whole)
        manager = field_manager(item["metadata"]["name"])
        if difference.any:
            await self._api.apply(SECRETS, wanted, manager)
            if difference.added:
                gone = {"data": dict.fromkeys(difference.added)}
                await self._api.merge_patch(
                    SECRETS, spec.target, item["metadata"]["namespace"], gone
                )
        if drifted and difference.of_data:
            await self._report_drift(item, spec, current, difference)
        await self._report_success(item, spec, difference)

    async def _delete_target(
        self, item: Object, spec: Spec, current: Object | None
    ) -> float | None:
        if current is not None:
            await self._api.delete(SECRETS, spec.target, item["metadata"]["namespace"])
            note = f"Secret {spec.target} deleted: the provider has none of it"
            await self._events.emit(item, "Normal", "Deleted", note)
        self._known.pop(key_of(item), None)
        return spec.refresh_seconds or None

    # what people see

    async def _report_drift(
        self, item: Object, spec: Spec, current: Object | None, difference: Difference
    ) -> None:
        namespace = item["metadata"]["namespace"]
        who = await self._who_changed(namespace, spec.target)
        if not who and current is not None:
            who = actor(current, field_manager(item["metadata"]["name"]))
        by = f" by {who}" if who else " (the API server's audit log names the actor)"
        note = f"{describe(difference, spec.target)}{by}; repaired"
        await self._events.emit(item, "Warning", "DriftRepaired", note)

    async def _report_success(self, item: Object, spec: Spec, difference: Difference) -> None:
        before = item.get("status") or {}
        status: dict[str, Any] = {
            "syncedResourceVersion": synced_version(item),
            "binding": {"name": spec.target},
            "conditions": ready_conditions(before, self._clock.now()),
        }
        if difference.any:
            reason = "Created" if difference.missing else "Updated"
            await self._events.emit(item, "Normal", reason, f"{reason} Secret {spec.target}")
        if difference.any or not says_the_same(before, status):
            status["refreshTime"] = _seconds(self._clock.now())
            await self._put_status(item, status)

    async def _report_failure(self, item: Object, refusal: Refusal) -> None:
        before = item.get("status") or {}
        conditions = failed_conditions(before, refusal, self._clock.now())
        await self._events.emit(item, "Warning", "UpdateFailed", str(refusal))
        if not says_the_same(before, {"conditions": conditions}):
            await self._put_status(item, {"conditions": conditions})

    async def _put_status(self, item: Object, status: Mapping[str, Any]) -> None:
        namespace, name = key_of(item)
        patch = {"status": dict(status)}
        try:
            await self._api.merge_patch(EXTERNAL_SECRETS, name, namespace, patch, "status")
        except (NotFound, Conflict, Unavailable) as refusal:
            _log.warning("status of %s/%s: %s", namespace, name, refusal.code)


def is_due(spec: Spec, known: Known, version: str, now: float) -> bool:
    """Whether the values must be read again. Pure."""
    if known.version != version:
        return spec.refresh_policy != "CreatedOnce"
    if spec.refresh_policy != "Periodic" or not spec.refresh_seconds:
        return False
    return now - known.refreshed >= spec.refresh_seconds


def _seconds(now: float) -> str:
    return rfc3339(now).partition(".")[0] + "Z"
