"""Every reason to look at an ExternalSecret again: its caches, and the indexes between them."""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from strongroom.kube.api import EVERYTHING, KubeApi, Scope
from strongroom.kube.informer import Informer
from strongroom.kube.queue import Lane
from strongroom.kube.resource import (
    CONFIG_MAPS,
    NAMESPACES,
    SECRETS,
    Object,
    Resource,
    has_moved,
    key_of,
)
from strongroom.model.clock import Clock
from strongroom.sync.crds import (
    CLUSTER_SECRET_STORES,
    EXTERNAL_SECRETS,
    SECRET_STORES,
    SYNCED_VERSION,
)
from strongroom.sync.desired import CREATED_BY
from strongroom.sync.due import is_dated_before, start_lane
from strongroom.sync.index import Index
from strongroom.sync.render import template_inputs
from strongroom.sync.spec import Manifest, Spec, StoreRef
from strongroom.sync.stores import trim_store
from strongroom.sync.target import trim_secret

Key = tuple[str, str]
# Key, lane, and whether the store has to be read again.
Wake = Callable[[Key, Lane, bool], None]
# Told of a key whose target, no Secret, was changed.
Touched = Callable[[Key], None]
# Whether a key itself wrote this version of its Secret, which then is no reason to look again.
Wrote = Callable[[Key, str], bool]
# What an ExternalSecret depends on: kind, namespace, name.
Input = tuple[str, str, str]
# In a cached ConfigMap or Secret: by the API server's clock, in RFC 3339.
WRITTEN: Final = "written"
MANAGED_ONLY: Final = "reconcile.external-secrets.io/managed=true"


class Watches:
    """The caches of the ExternalSecret controller. `namespace` "" is the whole cluster."""

    def __init__(
        self, api: KubeApi, clock: Clock, namespace: str = "", *, cluster_stores: bool = True
    ) -> None:
        scope = Scope(namespace=namespace) if namespace else EVERYTHING
        managed = Scope(namespace=namespace, label_selector=MANAGED_ONLY, metadata_only=True)
        never_synced = f"{SYNCED_VERSION.removeprefix('.')}="
        new = Scope(namespace=namespace, field_selector=never_synced)
        self.objects = Informer(api, EXTERNAL_SECRETS, clock, scope, first=new)
        self.targets = Informer(api, SECRETS, clock, managed, trim_secret)
        self.stores = Informer(api, SECRET_STORES, clock, scope, trim_store)
        wide = cluster_stores and not namespace
        self.cluster_stores = (
            Informer(api, CLUSTER_SECRET_STORES, clock, trim=trim_store) if wide else None
        )
        self.store_caches = [
            each for each in (self.stores, self.cluster_stores) if each is not None
        ]
        self.namespaces = (
            Informer(api, NAMESPACES, clock, Scope(metadata_only=True)) if wide else None
        )
        # Every ConfigMap and Secret, but their versions only: templates may be kept in any.
        versions = Scope(namespace=namespace, metadata_only=True)
        self.config_maps = Informer(api, CONFIG_MAPS, clock, versions, _dated)
        self.secrets = Informer(api, SECRETS, clock, versions, _dated)
        self._used = {kind: asyncio.Event() for kind in ("ConfigMap", "Secret")}
        # The targets that are no Secrets, by kind, since the first of a kind was written.
        self._managed = partial(Informer, api, clock=clock, scope=managed, trim=_bare)
        self._manifests: dict[Resource, Informer] = {}
        self._followed = asyncio.Event()
        self._index = Index[Input]()
        self._by_maker: dict[str, set[Key]] = {}
        self._wake: Wake = lambda _key, _lane, _read: None
        self._touched: Touched = lambda _key: None
        self._wrote: Wrote = lambda _key, _version: False

    def needed_for_new(self) -> list[Informer]:
        """The caches without which nothing can be done for an object that was never synced."""
        return [*self.store_caches, *([] if self.namespaces is None else [self.namespaces])]

    def needed_at_start(self) -> list[Informer]:
        """The caches without which no other decision is right."""
        return [self.targets, *self.needed_for_new()]

    async def run(self) -> None:
        """Follow the server until cancelled."""
        async with asyncio.TaskGroup() as group:
            for each in (*self.needed_for_new(), self.objects):
                group.create_task(each.run())
            group.create_task(self.after_the_new(self.targets))
            for informer in (self.config_maps, self.secrets):
                group.create_task(self._run_when_used(informer))
            running: set[Resource] = set()
            while True:
                self._followed.clear()
                for resource in self._manifests.keys() - running:
                    running.add(resource)
                    group.create_task(self._manifests[resource].run())
                await self._followed.wait()

    async def after_the_new(self, cache: Informer) -> None:
        """Run a cache that what was never synced does not need: it is listed after that."""
        await self.objects.under_way.wait()
        await cache.run()

    async def _run_when_used(self, informer: Informer) -> None:
        """Nobody's ConfigMaps and Secrets are followed before a template is kept in one."""
        await self._used[informer.resource.kind].wait()
        await informer.run()

    def on_reason(self, wake: Wake, touched: Touched, wrote: Wrote) -> None:
        """Have the caches call `wake` and `touched` from now on, and ask `wrote`."""
        self._wake = wake
        self._touched = touched
        self._wrote = wrote
        self.objects.on_change(self._object_changed)
        self.targets.on_change(self._target_changed)
        for each in self.store_caches:
            each.on_change(self._store_changed)
        self.config_maps.on_change(self._input_changed)
        self.secrets.on_change(self._input_changed)

    def depends(self, key: Key, spec: Spec) -> None:
        """Note what an ExternalSecret depends on."""
        namespace = key[0]
        inputs: list[Input] = [_target_input(key, spec)]
        inputs += [_store_input(each, namespace) for each in spec.stores]
        for kind, name in template_inputs(spec.template):
            inputs.append((kind, namespace, name))
            self._used[kind].set()
        self._index.put(key, inputs)

    def follow(self, resource: Resource) -> None:
        """Watch targets of a kind other than Secret."""
        if resource not in self._manifests:
            informer = self._managed(resource)
            informer.on_change(partial(self._manifest_changed, resource))
            self._manifests[resource] = informer
            self._followed.set()

    def target_of(self, key: Key, spec: Spec) -> Object | None:
        """The metadata of the target as last seen; None for one that was not seen."""
        if spec.manifest is None:
            return self.targets.get(key[0], spec.target)
        wanted = (spec.manifest.api_version, spec.manifest.kind)
        for resource, informer in self._manifests.items():
            if (resource.api_version, resource.kind) == wanted:
                return informer.get(key[0], spec.target)
        return None

    def use(self, kind: str) -> None:
        """Follow the versions of all Secrets, or ConfigMaps: PushSecrets depend on some."""
        self._used[kind].set()

    def forget(self, key: Key) -> None:
        """An ExternalSecret is gone."""
        self._index.put(key, ())

    def made_by(self, maker: str) -> list[Object]:
        """The Secrets whose created-by label has this value."""
        found = (self.targets.get(*key) for key in self._by_maker.get(maker, ()))
        return [each for each in found if each is not None]

    def store_of(self, ref: StoreRef, namespace: str) -> Object | None:
        """The store that a reference means, as last seen."""
        if ref.kind == "ClusterSecretStore":
            return self.cluster_stores.get("", ref.name) if self.cluster_stores else None
        return self.stores.get(namespace, ref.name)

    def all_stores(self) -> Iterator[tuple[Resource, Object]]:
        """Every store of both kinds that is watched, as last seen."""
        for informer in self.store_caches:
            yield from ((informer.resource, each) for each in informer)

    def readers(self, kind: str, store: Key) -> frozenset[Key]:
        """The ExternalSecrets that name a store."""
        return self._index.of((kind, *store))

    def competitors(self, key: Key, spec: Spec) -> list[Key]:
        """Other ExternalSecrets with the same target that were looked at."""
        return sorted(self._index.of(_target_input(key, spec)) - {key})

    def _object_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            if old is not None:
                self._wake(key_of(old), Lane.CHANGED, False)
            return
        if old is None and not self.objects.synced.is_set() and start_lane(new) > Lane.CHANGED:
            # What was there before us is taken up by its controller, in the lane that it deserves.
            return
        if old is not None and not _asked_for(old, new):
            return
        self._wake(key_of(new), Lane.CHANGED, False)

    def _target_changed(self, old: Object | None, new: Object | None) -> None:
        for item, there in ((old, False), (new, True)):
            if item is None:
                continue
            maker = (item["metadata"].get("labels") or {}).get(CREATED_BY)
            if maker:
                held = self._by_maker.setdefault(maker, set())
                (held.add if there else held.discard)(key_of(item))
        item = new or old
        if item is None or (old is None and not self.targets.synced.is_set()):
            return
        version = "" if new is None else str(new["metadata"]["resourceVersion"])
        for key in self._index.of(("Target", *key_of(item))):
            if not (version and self._wrote(key, version)):
                self._wake(key, Lane.EVENT, False)

    def _manifest_changed(self, resource: Resource, old: Object | None, new: Object | None) -> None:
        item = new or old
        if item is None or (old is None and not self._manifests[resource].synced.is_set()):
            return
        for key in self._index.of((_manifest_input(resource), *key_of(item))):
            self._touched(key)

    def _store_changed(self, old: Object | None, new: Object | None) -> None:
        item = new or old
        if item is None or not has_moved(old, new, "generation", "uid"):
            return
        namespace, name = key_of(item)
        kind = "SecretStore" if namespace else "ClusterSecretStore"
        for key in self._index.of((kind, namespace, name)):
            self._wake(key, Lane.EVENT, True)

    def _input_changed(self, old: Object | None, new: Object | None) -> None:
        item = new or old
        if item is None:
            return
        given = (item["kind"], *key_of(item))
        if self._index.has(given):
            # What is only listed may be what somebody waits for, or has changed while none looked.
            cache = self.secrets if item["kind"] == self.secrets.resource.kind else self.config_maps
            changed = old is not None or cache.synced.is_set()
            for key in self._index.of(given):
                self._wake(key, Lane.EVENT, changed or self._is_newer(item, key))

    def _is_newer(self, given: Object, key: Key) -> bool:
        reader = self.objects.get(*key)
        return reader is not None and is_dated_before(reader, given[WRITTEN])


def _asked_for(old: Object, new: Object) -> bool:
    """Whether somebody asks for something; a write of the status does not."""
    return has_moved(old, new, "generation", "labels", "annotations", "deletionTimestamp", "uid")


def _target_input(key: Key, spec: Spec) -> Input:
    kind = "Target" if spec.manifest is None else _manifest_input(spec.manifest)
    return (kind, key[0], spec.target)


def _manifest_input(kind: Resource | Manifest) -> str:
    return f"Target {kind.api_version} {kind.kind}"


def _store_input(ref: StoreRef, namespace: str) -> Input:
    return (ref.kind, "" if ref.kind == "ClusterSecretStore" else namespace, ref.name)


def _dated(item: Object) -> None:
    """Of what may hold templates or be pushed, when it was written last is of interest as well."""
    metadata = item["metadata"]
    times = [each.get("time") or "" for each in metadata.get("managedFields") or []]
    item[WRITTEN] = max(times, default="") or metadata.get("creationTimestamp", "")
    _bare(item)


def _bare(item: Object) -> None:
    """Version and labels are of interest alone."""
    metadata = item["metadata"]
    item["metadata"] = {
        name: metadata[name]
        for name in ("name", "namespace", "resourceVersion", "labels")
        if name in metadata
    }
