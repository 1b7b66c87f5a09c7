"""Stores to providers: one provider for each store, generation and identity, read by all."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from strongroom.kube.api import KubeApi
from strongroom.kube.informer import Informer
from strongroom.kube.resource import NAMESPACES, Object
from strongroom.model.clock import Clock, parse_rfc3339
from strongroom.model.errors import Denied, NotFound
from strongroom.sync.crds import CLUSTER_SECRET_STORES, SECRET_STORES
from strongroom.sync.pace import Pace, Rate
from strongroom.sync.providers.contract import Provider
from strongroom.sync.providers.references import session_namespace
from strongroom.sync.reads import SharedReads
from strongroom.sync.selectors import any_allows
from strongroom.sync.spec import StoreRef


@dataclass(frozen=True, slots=True)
class StoreKey:
    """What a provider may be shared by: a store as it is now, and whose identity it uses."""

    uid: str
    generation: int
    namespace: str


class ProviderFactory(Protocol):
    """Makes a provider of a store for the namespace that asks."""

    async def __call__(self, store: Object, namespace: str) -> Provider:
        """Raises Invalid for a store that cannot be used."""


class Lookup(Protocol):
    """Where stores and namespaces are looked up."""

    async def store(self, ref: StoreRef, namespace: str) -> Object | None:
        """The store a reference of this namespace means."""

    async def labels(self, namespace: str) -> dict[str, str]:
        """The labels of a namespace."""


class ApiLookup:
    """Asks the API server each time. Implements Lookup."""

    def __init__(self, api: KubeApi) -> None:
        self._api = api

    async def store(self, ref: StoreRef, namespace: str) -> Object | None:
        cluster = ref.kind == "ClusterSecretStore"
        resource = CLUSTER_SECRET_STORES if cluster else SECRET_STORES
        try:
            return await self._api.get(resource, ref.name, "" if cluster else namespace)
        except NotFound:
            return None

    async def labels(self, namespace: str) -> dict[str, str]:
        found = await self._api.get(NAMESPACES, namespace)
        return dict(found["metadata"].get("labels") or {})


class CachedLookup:
    """Asks the caches. Implements Lookup. `cluster` and `namespaces` are None in one namespace."""

    def __init__(
        self, stores: Informer, cluster: Informer | None, namespaces: Informer | None
    ) -> None:
        self._stores = stores
        self._cluster = cluster
        self._namespaces = namespaces

    async def store(self, ref: StoreRef, namespace: str) -> Object | None:
        if ref.kind != "ClusterSecretStore":
            await self._stores.synced.wait()
            return self._stores.get(namespace, ref.name)
        if self._cluster is None:
            raise Denied(
                "cluster-store-off",
                f"ClusterSecretStore {ref.name} cannot be read by an operator of one namespace",
                hint="use a SecretStore, or run the operator with a cluster role",
            )
        await self._cluster.synced.wait()
        return self._cluster.get("", ref.name)

    async def labels(self, namespace: str) -> dict[str, str]:
        if self._namespaces is None:
            return {}
        await self._namespaces.synced.wait()
        found = self._namespaces.get("", namespace)
        return dict(((found or {}).get("metadata") or {}).get("labels") or {})


def _nothing(_store: str, _call: str, _well: bool) -> None:  # noqa: FBT001 - a callback's shape
    return None


class Stores:
    """The providers in use. `controller_class` leaves stores of another class alone."""

    def __init__(
        self,
        lookup: Lookup,
        make: ProviderFactory,
        clock: Clock,
        *,
        controller_class: str = "",
        rate: Rate | None = None,
        counted: Callable[[str, str, bool], None] = _nothing,
    ) -> None:
        self._lookup = lookup
        self._make = make
        self._clock = clock
        self._class = controller_class
        self._rate = rate
        self._counted = counted
        self._reads: dict[StoreKey, SharedReads] = {}
        # By uid, with the generation that it is of.
        self._paces: dict[str, tuple[int, Pace]] = {}
        # Told of each provider that is new, and of each store that answers again.
        self.on_new: list[Callable[[StoreKey, SharedReads], None]] = []
        self.on_back: list[Callable[[str], None]] = []

    async def managed(self, ref: StoreRef, namespace: str) -> bool:
        """Whether a store is for this controller, by its `spec.controller`."""
        store = await self._lookup.store(ref, namespace)
        return store is None or is_managed(store, self._class)

    async def reads(self, ref: StoreRef, namespace: str) -> SharedReads:
        """The reads of a reference; raises NotFound(`no-store`), Denied or Invalid."""
        return await self.of(await self._store(ref, namespace), ref, namespace)

    async def of(self, store: Object, ref: StoreRef, namespace: str) -> SharedReads:
        """The reads of a store for a namespace that may use it."""
        metadata = store["metadata"]
        identity = session_namespace(store, namespace)
        key = StoreKey(metadata["uid"], int(metadata.get("generation", 0)), identity)
        found = self._reads.get(key)
        if found is None:
            provider = await self._make(store, identity or namespace)
            # Somebody else may have made one meanwhile.
            found = self._reads.get(key)
            if found is not None:
                await provider.close()
                return found
            await self._drop_older(key)
            found = self._reads[key] = self._shared(key, provider, f"{ref.kind}/{ref.name}")
            where = f"{metadata['namespace']}/" if "namespace" in metadata else ""
            found.name = f"{ref.kind} {where}{ref.name}"
            for tell in self.on_new:
                tell(key, found)
        return found

    def _shared(self, key: StoreKey, provider: Provider, name: str) -> SharedReads:
        pace = self._pace(key)

        def counted(call: str, well: bool) -> None:  # noqa: FBT001 - a callback's shape
            self._counted(name, call, well)

        def back() -> None:
            for tell in self.on_back:
                tell(key.uid)

        made = SharedReads(provider, self._clock, pace, counted, key.uid)
        made.on_back = back
        return made

    def _pace(self, key: StoreKey) -> Pace:
        """The one of all identities; what was edited may be at another address, which answers."""
        fresh = key.generation, Pace(self._clock, self._rate)
        generation, pace = self._paces.get(key.uid, fresh)
        if key.generation > generation:
            generation, pace = key.generation, pace.after_edit()
        self._paces[key.uid] = (generation, pace)
        return pace

    async def _store(self, ref: StoreRef, namespace: str) -> Object:
        store = await self._lookup.store(ref, namespace)
        if store is None:
            raise NotFound(
                "no-store", f"{ref.kind} {ref.name} does not exist", hint="create it first"
            )
        conditions = (store.get("spec") or {}).get("conditions") or []
        if ref.kind == "ClusterSecretStore" and conditions:
            labels = await self._lookup.labels(namespace)
            if not any_allows(conditions, namespace, labels):
                raise Denied(
                    "store-not-for-namespace",
                    f"{ref.kind} {ref.name} does not allow the namespace {namespace}",
                    hint="its spec.conditions say which namespaces may use it",
                )
        return store

    def down(self, uid: str) -> bool:
        """Whether a store is being left alone because it did not answer."""
        known = self._paces.get(uid)
        return known is not None and known[1].down

    def usable(self, uid: str) -> None:
        """A store was found in order: if it is left alone, it is so no longer."""
        if uid in self._paces:
            self._paces[uid][1].usable()

    def forget(self, uid: str) -> list[SharedReads]:
        """Take the providers of a store that is gone out of use; the caller closes them."""
        self._paces.pop(uid, None)
        return [self._reads.pop(key) for key in [each for each in self._reads if each.uid == uid]]

    async def _drop_older(self, key: StoreKey) -> None:
        for other in [each for each in self._reads if each.uid == key.uid]:
            if other.namespace == key.namespace:
                await self._reads.pop(other).close()

    async def close(self) -> None:
        """Let go of all."""
        for reads in self._reads.values():
            await reads.close()
        self._reads.clear()


def is_managed(store: Object, controller_class: str) -> bool:
    """Whether a store names this class, or none. Pure."""
    wanted = (store.get("spec") or {}).get("controller") or ""
    return wanted in ("", controller_class)


def trim_store(item: Object) -> None:
    """Keep of who wrote which field only when the spec was written."""
    metadata = item["metadata"]
    entries = metadata.pop("managedFields", None) or []
    metadata["managedFields"] = [
        {"time": each.get("time"), "fieldsV1": {"f:spec": {}}}
        for each in entries
        if "f:spec" in (each.get("fieldsV1") or {})
    ]


def edited_at(store: Object) -> float:
    """When a store was made or its spec was written last, in whole epoch seconds, 0 if unknown.

    By the API server's clock; a write that changes nothing does not count there.
    """
    metadata = store["metadata"]
    said = [metadata.get("creationTimestamp")]
    said += [each.get("time") for each in metadata.get("managedFields") or []]
    times = [parse_rfc3339(str(each)) for each in said if each]
    return float(int(max(times, default=0.0)))
