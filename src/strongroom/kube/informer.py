"""List/watch cache of one kind: list once, watch on, list again when the server has forgotten.

Objects are kept as JSON and decoded when they are asked for: a tree of dictionaries takes five
times the memory, and ten thousand of them make the interpreter's garbage collector pause all work.
"""

import asyncio
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Final

import orjson

from strongroom.kube.api import EVERYTHING, Busy, Gone, KubeApi, Scope
from strongroom.kube.nesting import writable
from strongroom.kube.resource import Object, Resource, key_of
from strongroom.model.clock import Clock
from strongroom.model.errors import NotFound, Refusal

BACKOFF_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
# How long a kind that the server does not serve is left alone; it may be installed later.
ABSENT_SECONDS: Final = 30.0
# A watch that has told nothing and ends sooner than this, or one that the server has forgotten as
# often as it was listed for, is a failure: else a server at its worst is asked without a pause.
SHORT_SECONDS: Final = 1.0
# Bookmarks come each minute. Watches that have told nothing for so long are of a position that the
# server has yet to reach, as when its etcd was put back: they would hide what happens until then.
QUIET_SECONDS: Final = 240.0
# For so long what is first has the server and the loop to itself, before the rest is listed.
HEAD_START_SECONDS: Final = 0.3
# Objects of a list that are taken in before others have their turn.
AT_ONCE: Final = 50
Key = tuple[str, str]
# Called with (old, new); one of them is None for an object that came or went.
Handler = Callable[[Object | None, Object | None], None]
# Takes from an object what nobody needs, before it is kept.
Trim = Callable[[Object], None]

_log = logging.getLogger(__name__)


def drop_managed_fields(item: Object) -> None:
    """Half of a typical object, and of no use to a cache."""
    item["metadata"].pop("managedFields", None)


class Informer:
    """A cache that follows the server; `run` until cancelled.

    `first` is a scope whose first page is listed before the rest, for what shall not wait until ten
    thousand others have been listed. A server that cannot select by it is asked for all at once.
    """

    def __init__(
        self,
        api: KubeApi,
        resource: Resource,
        clock: Clock,
        scope: Scope = EVERYTHING,
        trim: Trim = drop_managed_fields,
        first: Scope | None = None,
    ) -> None:
        self.resource = resource
        self.synced = asyncio.Event()
        # Set when what is first, if anything, has had its head start.
        self.under_way = asyncio.Event()
        self._api = api
        self._clock = clock
        self._scope = scope
        self._trim = trim
        self._first = first
        self._packed: dict[Key, bytes] = {}
        # What was asked for last is asked for again soon: a store by all of its readers.
        self._last: tuple[Key, Object] | None = None
        self._handlers: list[Handler] = []
        self._last_contact = clock.monotonic()
        self._said = ""

    def on_change(self, handler: Handler) -> None:
        """Call the handler for each object from now on; before `run`, so that none is missed."""
        self._handlers.append(handler)

    def get(self, namespace: str, name: str) -> Object | None:
        """An object as last seen; not to be changed by the caller."""
        key = (namespace, name)
        if self._last is not None and self._last[0] == key:
            return self._last[1]
        found = _unpacked(self._packed.get(key))
        if found is not None:
            self._last = (key, found)
        return found

    def __iter__(self) -> Iterator[Object]:
        return (orjson.loads(each) for each in list(self._packed.values()))

    def __contains__(self, key: object) -> bool:
        return key in self._packed

    def __len__(self) -> int:
        return len(self._packed)

    def silence(self) -> float:
        """Seconds since the server was last heard of."""
        return self._clock.monotonic() - self._last_contact

    async def run(self) -> None:
        """Follow for ever; a refusal is noted, waited out and tried again."""
        failures = forgotten = 0
        position, told = "", 0.0
        while True:
            began = self._clock.monotonic()
            try:
                # However the watches in between have ended, in order or by a proxy's patience.
                if not position or began - told >= QUIET_SECONDS:
                    position = await self._list()
                    told = self._clock.monotonic()
                async for event in self._api.watch(self.resource, position, self._scope):
                    position = event.object["metadata"]["resourceVersion"]
                    failures = forgotten = 0
                    told = self._last_contact = self._clock.monotonic()
                    if event.type != "BOOKMARK":
                        self._seen(event.object, gone=event.type == "DELETED")
                self._last_contact = self._clock.monotonic()
                if self._last_contact - began >= SHORT_SECONDS:
                    failures = forgotten = 0
                else:
                    failures = await self._pause(failures)
            except Gone:
                position = ""
                if forgotten:
                    failures = await self._pause(failures)
                forgotten += 1
            except Refusal as refusal:
                if isinstance(refusal, NotFound):
                    # The kind is not installed: nothing of it is there, and that is known.
                    self._last_contact = self._clock.monotonic()
                    self.synced.set()
                else:
                    self._warn(refusal, failures)
                failures = await self._pause(failures, _least(refusal, failures))

    def _warn(self, refusal: Refusal, failures: int) -> None:
        """What goes on as it was is said ever less often: at the 1st, 2nd, 4th, 8th time."""
        again = refusal.code == self._said and failures & (failures + 1)
        self._said = refusal.code
        level = logging.DEBUG if again else logging.WARNING
        _log.log(level, "watch of %s: %s", self.resource.plural, refusal)

    async def _pause(self, failures: int, least: float = 0.0) -> int:
        """Wait, longer with each failure; how many there have been."""
        pause = BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)]
        await self._clock.sleep(max(least, pause))
        return failures + 1

    async def _list(self) -> str:
        """Page by page; what was not listed is gone. Each page counts from its own moment."""
        if self._first is not None and await self._list_first(self._first):
            await self._clock.sleep(HEAD_START_SECONDS)
        self.under_way.set()
        fresh: set[Key] = set()
        position = ""
        async for page in self._api.pages(self.resource, self._scope):
            for number, item in enumerate(page.items):
                fresh.add(key_of(item))
                self._seen(item, gone=False)
                if number % AT_ONCE == AT_ONCE - 1:
                    # What has come in meanwhile does not wait for the whole page.
                    await asyncio.sleep(0)
            position = page.resource_version
            self._last_contact = self._clock.monotonic()
        for key in [key for key in self._packed if key not in fresh]:
            self._seen(orjson.loads(self._packed[key]), gone=True)
        self.synced.set()
        return position

    async def _list_first(self, scope: Scope) -> bool:
        """Whether there was any."""
        try:
            async for page in self._api.pages(self.resource, scope):
                for item in page.items:
                    self._seen(item, gone=False)
                return bool(page.items)
        except Refusal as refusal:
            _log.debug("what is first among %s: %s", self.resource.plural, refusal.code)
        return False

    def _seen(self, item: Object, *, gone: bool) -> None:
        namespace, name = key_of(item)
        key = (sys.intern(namespace), name)
        old = _unpacked(self._packed.pop(key, None) if gone else self._packed.get(key))
        if self._last is not None and self._last[0] == key:
            self._last = None
        if not gone:
            if old is not None and _version(old) == _version(item):
                return
            self._trim(item)
            # A copy, for orjson's own bytes keep the whole buffer they were written in.
            try:
                packed = orjson.dumps(item)
            except orjson.JSONEncodeError:
                item = writable(item)
                packed = orjson.dumps(item)
            self._packed[key] = memoryview(packed).tobytes()
        elif old is None:
            return
        for handler in self._handlers:
            handler(old, None if gone else item)


def _least(refusal: Refusal, failures: int) -> float:
    """Seconds for which a server is left alone at least, after a refusal."""
    if isinstance(refusal, Busy):
        return min(BACKOFF_SECONDS[-1], refusal.retry_after)
    # A server that has just started serves no definitions for a moment.
    gone = isinstance(refusal, NotFound) and failures >= len(BACKOFF_SECONDS)
    return ABSENT_SECONDS if gone else 0.0


def _unpacked(packed: bytes | None) -> Object | None:
    found: Object | None = None if packed is None else orjson.loads(packed)
    return found


def _version(item: Object) -> str:
    return str(item["metadata"]["resourceVersion"])
