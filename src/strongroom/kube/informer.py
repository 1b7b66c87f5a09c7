"""List/watch cache of one kind: list once, watch on, list again when the server has forgotten."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Final

from strongroom.kube.api import EVERYTHING, Gone, KubeApi, Scope
from strongroom.kube.resource import Object, Resource, key_of
from strongroom.model.clock import Clock
from strongroom.model.errors import Refusal

BACKOFF_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
Key = tuple[str, str]
# Called with (old, new); one of them is None for an object that came or went.
Handler = Callable[[Object | None, Object | None], None]

_log = logging.getLogger(__name__)


class Informer:
    """A cache that follows the server; `run` until cancelled."""

    def __init__(
        self, api: KubeApi, resource: Resource, clock: Clock, scope: Scope = EVERYTHING
    ) -> None:
        self.resource = resource
        self.synced = asyncio.Event()
        self._api = api
        self._clock = clock
        self._scope = scope
        self._objects: dict[Key, Object] = {}
        self._handlers: list[Handler] = []
        self.last_error: Refusal | None = None

    def on_change(self, handler: Handler) -> None:
        """Call the handler for each object from now on; before `run`, so that none is missed."""
        self._handlers.append(handler)

    def get(self, namespace: str, name: str) -> Object | None:
        """An object as last seen; not to be changed by the caller."""
        return self._objects.get((namespace, name))

    def __iter__(self) -> Iterator[Object]:
        return iter(list(self._objects.values()))

    async def run(self) -> None:
        """Follow for ever; a refusal is noted, waited out and tried again."""
        failures = 0
        position = ""
        while True:
            try:
                if not position:
                    position = await self._list()
                async for event in self._api.watch(self.resource, position, self._scope):
                    position = event.object["metadata"]["resourceVersion"]
                    failures = 0
                    if event.type != "BOOKMARK":
                        self._seen(event.object, gone=event.type == "DELETED")
            except Gone:
                position = ""
                continue
            except Refusal as refusal:
                self.last_error = refusal
                _log.warning("watch of %s: %s", self.resource.plural, refusal.code)
                await self._clock.sleep(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)])
                failures += 1

    async def _list(self) -> str:
        listing = await self._api.list(self.resource, self._scope)
        fresh = {key_of(item) for item in listing.items}
        for item in listing.items:
            self._seen(item, gone=False)
        for key in [key for key in self._objects if key not in fresh]:
            self._seen(self._objects[key], gone=True)
        self.synced.set()
        self.last_error = None
        return listing.resource_version

    def _seen(self, item: Object, *, gone: bool) -> None:
        key = key_of(item)
        old = self._objects.pop(key, None) if gone else self._objects.get(key)
        if not gone:
            if old is not None and _version(old) == _version(item):
                return
            self._objects[key] = item
        elif old is None:
            return
        for handler in self._handlers:
            handler(old, None if gone else item)


def _version(item: Object) -> str:
    return str(item["metadata"]["resourceVersion"])
