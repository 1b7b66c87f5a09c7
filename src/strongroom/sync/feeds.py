"""Change feeds: what a store says has changed, to the ExternalSecrets that read it."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from strongroom.kube.queue import Lane
from strongroom.model.clock import Clock
from strongroom.model.errors import Denied, Invalid, Refusal
from strongroom.sync.due import last_part
from strongroom.sync.index import Index
from strongroom.sync.notices import means
from strongroom.sync.patterns import matches
from strongroom.sync.providers.contract import BEGINNING, Change, History, Version
from strongroom.sync.reads import SharedReads
from strongroom.sync.spec import FindRef
from strongroom.sync.stores import StoreKey, Stores

RETRY_SECONDS: Final = (1.0, 2.0, 5.0, 15.0, 30.0)
# An identity that may not follow may be allowed to one day.
DENIED_SECONDS: Final = 300.0
# How long after a start what changed before is held against keys that are looked at only then.
PAST_SECONDS: Final = 600.0
Key = tuple[str, str]
# A store, by uid, and what is read of it.
Place = tuple[str, str]
# Whether a key's target is not of the newest versions: the last part of a path that has changed
# and that the key may name, "" for any path, and the versions of all that have.
Behind = Callable[[Key, str, Mapping[str, Version]], bool]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Waking:
    """What feeds ask and tell: of one key; of all that may have missed something; and `behind`."""

    wake: Callable[[Key, Lane], None]
    catch_up: Callable[[Iterable[Key]], None]
    behind: Behind
    # Whether a key that follows its store was not refreshed since a time, in epoch seconds.
    older: Callable[[Key, float], bool]


@dataclass(slots=True)
class _Past:
    """The newest versions by path, and the last parts of the paths."""

    versions: dict[str, Version] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    # What was refreshed before that is of a store whose contents have been replaced since.
    unsure_before: float = 0.0


class Feeds:
    """Follows the feed of each provider in use; `run` until cancelled."""

    def __init__(self, stores: Stores, clock: Clock, waking: Waking) -> None:
        self._clock = clock
        self._waking = waking
        self._wake = waking.wake
        # What had changed before each store (by uid) was listened to.
        self._past: dict[str, _Past] = {}
        self._past_until = 0.0
        # The versions in which places were read last.
        self._versions: dict[Place, Version] = {}
        # Where the feeds that can go on from somewhere are.
        self._positions: dict[StoreKey, str] = {}
        # What keys have read: stores (by uid) and paths.
        self._read = Index[Place]()
        # Keys that were not read since the start, by store and the last part of what they name.
        self._expected = Index[Place]()
        # What keys look for, by store (uid): a path that is new may be of it.
        self._sought = Index[tuple[str, FindRef]]()
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
                    if again and key in self._current and key not in self._positions:
                        # Nobody here followed it while another replica led, or none did.
                        self._catch_up(key, reads)
                await asyncio.Event().wait()
        finally:
            self._group = None
            self._early = [(key, reads) for key, reads in self._current.items()]
            self._tasks.clear()

    def read(
        self, key: Key, places: Mapping[Place, Version], sought: Iterable[tuple[str, FindRef]] = ()
    ) -> None:
        """Note the stores (by uid) and paths that a key has read, and in which version.

        `sought` is what it looks for besides, by store.
        """
        self._expected.put(key, ())
        self._sought.put(key, sought)
        before = self._read.given(key)
        self._read.put(key, places)
        self._versions.update(places)
        for gone in before - places.keys():
            if not self._read.has(gone):
                self._versions.pop(gone, None)
        self._forget_old()
        # What was on its way when the feed told of the past may be older than that.
        if any(self._was_newer(place, version) for place, version in places.items()):
            self._wake(key, Lane.PERIODIC)

    def expect(self, key: Key, names: Iterable[tuple[str, str]]) -> None:
        """Note the stores (by uid) and remote keys that a key would read; "" is any.

        For one that is not due after a start: its paths are not known, so whatever ends as its
        remote key does may concern it.
        """
        self.await_for(key, names)
        self._forget_old()
        if any(self._is_behind(key, place) for place in self._expected.given(key)):
            self._wake(key, Lane.PERIODIC)

    def await_for(self, key: Key, names: Iterable[tuple[str, str]]) -> None:
        """Note what a key could not read: what is not there yet may come."""
        self._expected.put(key, {(uid, last_part(name)) for uid, name in names})

    def remembered(self) -> int:
        """Of how many places the version is known that was read last."""
        return len(self._versions)

    def _forget_old(self) -> None:
        if self._past and self._clock.monotonic() > self._past_until:
            self._past.clear()

    def readers(self, uid: str) -> set[Key]:
        """All keys that have read a store, or would."""
        every = (*self._read.items(), *self._expected.items(), *self._sought.items())
        return {key for place, keys in every if place[0] == uid for key in keys}

    def _seekers(self, uid: str, path: str) -> set[Key]:
        """The keys that look for what a path may be, and have not read it."""
        found = {
            key
            for (store, what), keys in self._sought.items()
            if store == uid and may_find(what, path)
            for key in keys
        }
        return found - self._read.of((uid, path))

    def changed(self, uid: str, path: str) -> int:
        """Wake the readers of a path; how many there are."""
        keys = self._read.of((uid, path)) | self._seekers(uid, path)
        for name in (last_part(path), ""):
            keys |= self._expected.of((uid, name))
        for key in keys:
            self._wake(key, Lane.EVENT)
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
            if last in ("", last_part(name)):
                woken |= keys
        for (_, what), keys in self._sought.items():
            if may_find(what, name):
                woken |= keys
        for each in woken:
            self._wake(each, Lane.EVENT)
        return len(woken)

    def forget(self, key: Key) -> None:
        """An ExternalSecret is gone."""
        self.read(key, {})

    def _new(self, key: StoreKey, reads: SharedReads) -> None:
        if self._group is None:
            self._early.append((key, reads))
            return
        for old in [each for each in self._current if each.uid == key.uid and each != key]:
            if old.namespace == key.namespace:
                del self._current[old]
                self._positions.pop(old, None)
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
                async for each in reads.changes(self._positions.get(key, BEGINNING)):
                    failures = 0
                    self._told(key, reads, each)
                return
            except Denied as refusal:
                # There never was a feed for this identity, so nothing was missed.
                _log.warning("change feed of %s: %s", reads.name, refusal.code)
                await self._clock.sleep(DENIED_SECONDS)
                continue
            except Refusal as refusal:
                _log.warning("change feed of %s: %s", reads.name, refusal.code)
            except Exception as error:  # noqa: BLE001 - a store may say anything; others go on
                # The kind of the error, never its message: it may hold what was sent.
                _log.warning("change feed of %s: %s", reads.name, type(error).__name__)
            self._missed.add(key)
            await self._clock.sleep(pause)
            failures += 1
            if not reads.pace.down and key not in self._positions:
                self._catch_up(key, reads)

    def _told(self, key: StoreKey, reads: SharedReads, what: Change | History) -> None:
        if isinstance(what, Change):
            if key in self._positions:
                self._positions[key] = what.position
            self._forget_past((key.uid, what.path))
            reads.changed(what.path)
            self.changed(key.uid, what.path)
            return
        followed = key in self._positions
        self._positions[key] = what.position
        if what.whole:
            self._missed.discard(key)
        elif followed:
            _log.warning(
                "change feed of %s: it has forgotten what was missed; all is read", reads.name
            )
            self._catch_up(key, reads)
            return
        else:
            _log.info(
                "change feed of %s: what changed before it can tell waits for its interval",
                reads.name,
            )
        self._compare(key.uid, reads, what)

    def _compare(self, uid: str, reads: SharedReads, what: History) -> None:
        """Wake whoever is not of the versions that changed while nobody listened."""
        self._past_until = self._clock.monotonic() + PAST_SECONDS
        past = self._past.setdefault(uid, _Past())
        past.versions.update(what.versions)
        past.names.update(map(last_part, what.versions))
        past.unsure_before = max(past.unsure_before, what.unsure_before)
        for path, version in what.versions.items():
            if self._read.has((uid, path)) and self._versions.get((uid, path)) != version:
                reads.changed(path)
                for key in self._read.of((uid, path)):
                    self._wake(key, Lane.PERIODIC)
            for key in self._seekers(uid, path):
                self._wake(key, Lane.PERIODIC)
        for place, keys in list(self._expected.items()):
            if place[0] == uid:
                for key in keys:
                    if self._is_behind(key, place):
                        self._wake(key, Lane.PERIODIC)

    def _is_behind(self, key: Key, place: Place) -> bool:
        """Whether a key that was not read since the start has to be, for one thing it names."""
        past = self._past.get(place[0])
        if past is None:
            return False
        if past.unsure_before and self._waking.older(key, past.unsure_before):
            return True
        if place[1] and place[1] not in past.names:
            return False
        return self._waking.behind(key, place[1], past.versions)

    def _was_newer(self, place: Place, version: Version) -> bool:
        """Whether the past had a newer version; it is asked of that once."""
        past = self._past[place[0]].versions.get(place[1]) if place[0] in self._past else ""
        if not (isinstance(past, int) and isinstance(version, int) and past > version):
            return False
        self._forget_past(place)
        return True

    def _forget_past(self, place: Place) -> None:
        if place[0] in self._past:
            self._past[place[0]].versions.pop(place[1], None)

    def back(self, uid: str) -> None:
        """A store that was down answers: what its feed has missed is read now."""
        for key, reads in list(self._current.items()):
            if key.uid == uid and key in self._missed:
                self._catch_up(key, reads)

    def _catch_up(self, key: StoreKey, reads: SharedReads) -> None:
        self._missed.discard(key)
        reads.changed_all()
        self._waking.catch_up(self.readers(key.uid))


def may_find(what: FindRef, path: str) -> bool:
    """Whether a path may be one of those that are looked for; its tags only a read tells. Pure.

    A name may be shorter than its path by what stands before it, as a mount.
    """
    path = path.strip("/")
    start = what.path.strip("/")
    if start and f"/{start}" not in f"/{path}":
        return False
    parts = path.split("/")
    names = [f"/{path}", *("/".join(parts[at:]) for at in range(len(parts)))]
    try:
        return not what.name_pattern or any(matches(what.name_pattern, each) for each in names)
    except Invalid:
        # Too large a pattern for that name: its reader is told so, and the others of the feed
        # follow on.
        return True
