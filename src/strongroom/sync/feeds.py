"""Change feeds: what a store says has changed, to the ExternalSecrets that read it."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from strongroom.model.clock import Clock
from strongroom.model.errors import Denied, Refusal
from strongroom.sync.index import Index
from strongroom.sync.notices import means
from strongroom.sync.reads import SharedReads
from strongroom.sync.stores import StoreKey, Stores

RETRY_SECONDS: Final = (1.0, 2.0, 5.0, 15.0, 30.0)
# An identity that may not follow may be allowed to one day.
DENIED_SECONDS: Final = 300.0
Key = tuple[str, str]
# A store, by uid, and what is read of it.
Place = tuple[str, str]

_log = logging.getLogger(__name__)


class Feeds:
    """Follows the feed of each provider in use; `run` until cancelled."""

    def __init__(self, stores: Stores, clock: Clock, wake: Callable[[Key], None]) -> None:
        self._clock = clock
        self._wake = wake
        # What keys have read: stores (by uid) and paths.
        self._read = Index[Place]()
        # Keys that were not read since the start, by store and the last part of what they name.
        self._expected = Index[Place]()
        self._current: dict[StoreKey, SharedReads] = {}
        self._tasks: dict[StoreKey, asyncio.Task[None]] = {}
        # Feeds that broke, before their readers were woken: for a store that is down it is no use.
        self._missed: set[StoreKey] = set()
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
                    again = key in self._current
                    self._new(key, reads)
                    if again and key in self._current:
                        # Nobody here followed it while another replica led, or none did.
                        self._catch_up(key, reads)
                await asyncio.Event().wait()
        finally:
            self._group = None
            self._early = [(key, reads) for key, reads in self._current.items()]
            self._tasks.clear()

    def read(self, key: Key, places: Iterable[tuple[str, str]]) -> None:
        """Note the stores (by uid) and paths that a key has read."""
        self.expect(key, ())
        self._read.put(key, places)

    def expect(self, key: Key, names: Iterable[tuple[str, str]]) -> None:
        """Note the stores (by uid) and remote keys that a key would read; "" is any.

        For one that is not due after a start: its paths are not known, so whatever ends as its
        remote key does may concern it.
        """
        self._expected.put(key, ((uid, _last(name)) for uid, name in names))

    def readers(self, uid: str) -> set[Key]:
        """All keys that have read a store, or would."""
        return {
            key
            for index in (self._read, self._expected)
            for place, keys in index.items()
            if place[0] == uid
            for key in keys
        }

    def changed(self, uid: str, path: str) -> int:
        """Wake the readers of a path; how many there are."""
        keys = set(self._read.of((uid, path)))
        for name in (_last(path), ""):
            keys |= self._expected.of((uid, name))
        for key in keys:
            self._wake(key)
        return len(keys)

    def noticed(self, name: str) -> int:
        """Wake the readers of whatever a cloud's notice means by a name; how many there are."""
        woken: set[Key] = set()
        for (uid, path), keys in self._read.items():
            if means(name, path):
                for store, reads in self._current.items():
                    if store.uid == uid:
                        reads.changed(path)
                woken |= keys
        for (_, last), keys in self._expected.items():
            if last in ("", _last(name)):
                woken |= keys
        for each in woken:
            self._wake(each)
        return len(woken)

    def forget(self, key: Key) -> None:
        """An ExternalSecret is gone."""
        self.read(key, ())

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
            pause = RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)]
            try:
                async for path in reads.changes():
                    failures = 0
                    reads.changed(path)
                    self.changed(key.uid, path)
                return
            except Denied as refusal:
                # There never was a feed for this identity, so nothing was missed.
                _log.warning("change feed: %s", refusal.code)
                await self._clock.sleep(DENIED_SECONDS)
                continue
            except Refusal as refusal:
                _log.warning("change feed: %s", refusal.code)
            self._missed.add(key)
            await self._clock.sleep(pause)
            failures += 1
            if not reads.pace.down:
                self._catch_up(key, reads)

    def back(self, uid: str) -> None:
        """A store that was down answers: what its feed has missed is read now."""
        for key, reads in list(self._current.items()):
            if key.uid == uid and key in self._missed:
                self._catch_up(key, reads)

    def _catch_up(self, key: StoreKey, reads: SharedReads) -> None:
        self._missed.discard(key)
        reads.changed_all()
        for each in self.readers(key.uid):
            self._wake(each)


def _last(name: str) -> str:
    """What a path and a remote key have in common: their last part."""
    return name.rstrip("/").rpartition("/")[2]
