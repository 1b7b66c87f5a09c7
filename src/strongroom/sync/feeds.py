"""Change feeds: what a store says has changed, to the ExternalSecrets that read it."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from strongroom.model.clock import Clock
from strongroom.model.errors import Refusal
from strongroom.sync.notices import means
from strongroom.sync.reads import SharedReads
from strongroom.sync.stores import StoreKey, Stores

RETRY_SECONDS: Final = (1.0, 2.0, 5.0, 15.0, 30.0)
Key = tuple[str, str]

_log = logging.getLogger(__name__)


class Feeds:
    """Follows the feed of each provider in use; `run` until cancelled."""

    def __init__(self, stores: Stores, clock: Clock, wake: Callable[[Key], None]) -> None:
        self._clock = clock
        self._wake = wake
        self._readers: dict[tuple[str, str], set[Key]] = {}
        self._paths: dict[Key, set[tuple[str, str]]] = {}
        self._current: dict[StoreKey, SharedReads] = {}
        self._tasks: dict[StoreKey, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._early: list[tuple[StoreKey, SharedReads]] = []
        stores.on_new.append(self._new)

    async def run(self) -> None:
        """Follow what there is and what comes."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                early, self._early = self._early, []
                for key, reads in early:
                    self._new(key, reads)
                await asyncio.Event().wait()
        finally:
            self._group = None
            self._early = [(key, reads) for key, reads in self._current.items()]
            self._tasks.clear()

    def read(self, key: Key, places: Iterable[tuple[str, str]]) -> None:
        """Note the stores (by uid) and paths that a key has read."""
        fresh = set(places)
        for gone in self._paths.get(key, set()) - fresh:
            self._readers.get(gone, set()).discard(key)
        for new in fresh:
            self._readers.setdefault(new, set()).add(key)
        self._paths[key] = fresh

    def readers(self, uid: str) -> set[Key]:
        """All keys that have read a store."""
        return {
            key for key, places in self._paths.items() if any(each[0] == uid for each in places)
        }

    def changed(self, uid: str, path: str) -> int:
        """Wake the readers of a path; how many there are."""
        keys = self._readers.get((uid, path), set())
        for key in list(keys):
            self._wake(key)
        return len(keys)

    def noticed(self, name: str) -> int:
        """Wake the readers of whatever a cloud's notice means by a name; how many there are."""
        woken: set[Key] = set()
        for (uid, path), keys in self._readers.items():
            if keys and means(name, path):
                for store, reads in self._current.items():
                    if store.uid == uid:
                        reads.changed(path)
                woken |= keys
        for each in woken:
            self._wake(each)
        return len(woken)

    def forget(self, key: Key) -> None:
        """An ExternalSecret is gone."""
        self.read(key, ())
        self._paths.pop(key, None)

    def _new(self, key: StoreKey, reads: SharedReads) -> None:
        if self._group is None:
            self._early.append((key, reads))
            return
        for old in [each for each in self._current if each.uid == key.uid and each != key]:
            if old.namespace == key.namespace:
                del self._current[old]
                task = self._tasks.pop(old, None)
                if task is not None:
                    task.cancel()
        self._current[key] = reads
        self._tasks[key] = self._group.create_task(self._follow(key, reads))

    async def _follow(self, key: StoreKey, reads: SharedReads) -> None:
        """Wake whom a change concerns; after a break anything may have changed."""
        failures = 0
        while True:
            try:
                async for path in reads.changes():
                    failures = 0
                    reads.changed(path)
                    self.changed(key.uid, path)
                return
            except Refusal as refusal:
                _log.warning("change feed: %s", refusal.code)
            await self._clock.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
            failures += 1
            reads.changed_all()
            for each in self.readers(key.uid):
                self._wake(each)
