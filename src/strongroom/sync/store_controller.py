"""Says at each store whether it can be used: condition Ready, reason and capabilities."""

import asyncio
from typing import Any, Final

from strongroom.kube.api import KubeApi
from strongroom.kube.controller import Controller, Key
from strongroom.kube.informer import Informer
from strongroom.kube.queue import WorkQueue
from strongroom.kube.resource import Object, Resource, key_of
from strongroom.model.clock import Clock, rfc3339
from strongroom.model.errors import Invalid, Refusal
from strongroom.sync.spec import StoreRef
from strongroom.sync.status import says_the_same
from strongroom.sync.stores import Stores

REVALIDATE_SECONDS: Final = 300.0


class StoreController:
    """For one of the two kinds of store."""

    def __init__(self, api: KubeApi, resource: Resource, stores: Stores, clock: Clock) -> None:
        self._api = api
        self._resource = resource
        self._stores = stores
        self._clock = clock
        self._queue: WorkQueue[Key] = WorkQueue(clock)
        self._informer = Informer(api, resource, clock)

    async def run(self) -> None:
        """Watch and validate until cancelled."""
        self._informer.on_change(self._changed)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._informer.run())
            group.create_task(Controller("stores", self._queue, self.reconcile).run(2))

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None and (
            old is None or old["metadata"].get("generation") != new["metadata"].get("generation")
        ):
            self._queue.add(key_of(new))

    async def reconcile(self, key: Key) -> float | None:
        """Validate one store and say so; the seconds until it is looked at again."""
        item = self._informer.get(*key)
        if item is None:
            return None
        # A cluster store has no namespace of its own; its logins name theirs.
        where = key[0] or "default"
        refusal: Refusal | None = None
        try:
            provider = await self._stores.provider(StoreRef(key[1], self._resource.kind), where)
            await provider.validate()
        except Refusal as caught:
            refusal = caught
        await self._say(item, refusal)
        return REVALIDATE_SECONDS if refusal is None else 30.0

    async def _say(self, item: Object, refusal: Refusal | None) -> None:
        before = item.get("status") or {}
        conditions = [store_condition(before, refusal, rfc3339(self._clock.now()))]
        status = {"capabilities": "ReadOnly", "conditions": conditions}
        if not says_the_same(before, status):
            namespace, name = key_of(item)
            patch = {"status": status}
            await self._api.merge_patch(self._resource, name, namespace, patch, "status")


def store_condition(before: Object, refusal: Refusal | None, now: str) -> dict[str, Any]:
    """The Ready condition of a store. Pure."""
    status = "True" if refusal is None else "False"
    if refusal is None:
        reason, message = "Valid", "store validated"
    else:
        kind = "InvalidProviderConfig" if isinstance(refusal, Invalid) else "ValidationFailed"
        reason, message = kind, str(refusal)
    old: dict[str, Any] = next(iter(before.get("conditions") or []), {})
    moved = now.partition(".")[0] + "Z"
    return {
        "type": "Ready",
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": old["lastTransitionTime"] if old.get("status") == status else moved,
    }
