"""Says at each store whether it can be used: condition Ready, reason and capabilities."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from strongroom.kube.api import KubeApi
from strongroom.kube.controller import Controller, Key, namespace_of
from strongroom.kube.informer import Informer
from strongroom.kube.queue import WorkQueue
from strongroom.kube.resource import Object, Resource, has_moved, key_of
from strongroom.model.clock import Clock
from strongroom.model.errors import Invalid, Refusal
from strongroom.model.labels import check_selector
from strongroom.sync.durations import parse_duration
from strongroom.sync.patterns import compile_pattern
from strongroom.sync.providers.references import depends_on_namespace
from strongroom.sync.remedies import worded
from strongroom.sync.reporting import put_status
from strongroom.sync.spec import StoreRef
from strongroom.sync.status import condition, find, says_the_same
from strongroom.sync.stores import Stores, is_managed

REVALIDATE_SECONDS: Final = 300.0
FAILED_SECONDS: Final = 30.0
_UNKNOWN: Final = "ValidationUnknown"
_ASKER: Final = (_UNKNOWN, "the store's identity is that of the namespace that asks")
_UNCHECKED: Final = (_UNKNOWN, "the store cannot be checked beforehand, and can be used")


class StoreController:
    """For one of the two kinds of store, whose informer runs elsewhere."""

    def __init__(
        self,
        api: KubeApi,
        informer: Informer,
        stores: Stores,
        clock: Clock,
        controller_class: str = "",
    ) -> None:
        self.name = informer.resource.kind.lower()
        self._api = api
        self._resource: Resource = informer.resource
        self._informer = informer
        self._stores = stores
        self._clock = clock
        self._class = controller_class
        self.queue: WorkQueue[Key] = WorkQueue(clock, namespace_of)
        self._closing: set[asyncio.Task[None]] = set()
        # Told of the kind and key of a store that can be used, and could not be before.
        self.on_mended: list[Callable[[str, Key], None]] = []
        informer.on_change(self._changed)

    async def run(self) -> None:
        """Validate until cancelled."""
        for item in self._informer:
            self.queue.add(key_of(item))
        await Controller(self.name, self.queue, self.reconcile).run(8)

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if old is not None and has_moved(old, new, "uid"):
            # It is gone; another of its name may be there by now.
            for reads in self._stores.forget(old["metadata"]["uid"]):
                task = asyncio.get_running_loop().create_task(reads.close())
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)
        if new is not None and has_moved(old, new, "generation", "uid"):
            self.queue.add(key_of(new))

    async def reconcile(self, key: Key) -> float | None:
        """Validate one store and say so; the seconds until it is looked at again."""
        item = self._informer.get(*key)
        if item is None or not is_managed(item, self._class):
            return None
        refusal: Refusal | None = None
        capabilities = ""
        asker = not key[0] and depends_on_namespace((item.get("spec") or {}).get("provider"))
        said = _ASKER if asker else None
        try:
            check_conditions(item)
            if not asker:
                # A cluster store with an identity of its own is the same for every namespace.
                ref = StoreRef(key[1], self._resource.kind)
                reads = await self._stores.of(item, ref, key[0])
                traits = reads.provider.traits
                capabilities, said = traits.access, _UNCHECKED if traits.unchecked else None
                if traits.notes and said is None:
                    said = ("Valid", "; ".join(("store validated", *traits.notes)))
                await reads.provider.validate()
        except Refusal as caught:
            refusal = caught
        await self._say(item, refusal, capabilities, said if refusal is None else None)
        if refusal is None and find(item.get("status") or {}, "Ready").get("status") == "False":
            # Else whoever is told of it would be refused for what was before.
            self._stores.usable(item["metadata"]["uid"])
            for tell in self.on_mended:
                tell(self._resource.kind, key)
        return revalidate_after(item) if refusal is None else FAILED_SECONDS

    async def _say(
        self,
        item: Object,
        refusal: Refusal | None,
        capabilities: str,
        said: tuple[str, str] | None,
    ) -> None:
        before = item.get("status") or {}
        made = store_condition(before, refusal, self._clock.now(), said)
        status: dict[str, Any] = {"conditions": [made]}
        if capabilities:
            status["capabilities"] = capabilities
        if not says_the_same(before, status):
            await put_status(self._api, self._resource, item, status)


class BadConditions(Invalid):
    """`spec.conditions` of a cluster store cannot be used."""


def check_conditions(store: Object) -> None:
    """Refuse what would refuse every namespace that meets it; raises BadConditions."""
    for each in (store.get("spec") or {}).get("conditions") or []:
        try:
            check_selector(each.get("namespaceSelector"))
            for pattern in each.get("namespaceRegexes") or []:
                compile_pattern(pattern)
        except Invalid as refusal:
            raise BadConditions(refusal.code, f"spec.conditions: {refusal.message}") from None


def revalidate_after(store: Object) -> float:
    """Seconds until a good store is looked at again: `spec.refreshInterval`, 0 for the default."""
    try:
        given = parse_duration((store.get("spec") or {}).get("refreshInterval") or 0)
    except Invalid:
        given = 0.0
    return given or REVALIDATE_SECONDS


def store_condition(
    before: Object, refusal: Refusal | None, now: float, said: tuple[str, str] | None = None
) -> dict[str, Any]:
    """The Ready condition of a store. Pure."""
    if refusal is None:
        return condition(before, "Ready", "True", said or ("Valid", "store validated"), now)
    if isinstance(refusal, BadConditions):
        kind = "InvalidStoreConfiguration"
    else:
        kind = "InvalidProviderConfig" if isinstance(refusal, Invalid) else "ValidationFailed"
    return condition(before, "Ready", "False", (kind, worded(refusal)), now)
