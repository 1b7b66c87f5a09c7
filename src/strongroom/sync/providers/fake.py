"""The fake provider: secrets in a dictionary, with versions, tags, pushes and a feed.

A store of kind `fake` (https://external-secrets.io/latest/provider/fake/) is one of these that
was filled from its spec; controllers' tests fill it with `put`.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from strongroom.model.digits import whole_number
from strongroom.model.errors import NotFound, Refusal, Unavailable
from strongroom.model.secret import Secret
from strongroom.sync.providers.contract import (
    MANAGED_BY,
    Change,
    Data,
    Fetched,
    Find,
    History,
    OneByOne,
    Provider,
    Pushed,
    PushTarget,
    Traits,
    Version,
    is_ours,
    not_ours,
)
from strongroom.sync.providers.fields import Fields
from strongroom.sync.providers.objects import has_property, with_property, without_property
from strongroom.sync.providers.references import References, Surroundings
from strongroom.sync.spec import RemoteRef
from strongroom.sync.values import as_bytes

# `validationResult`: 0 is a good store, 1 one that cannot be checked and can be used, 2 one that
# fails.
UNKNOWN: Final = 1


class FakeProvider(OneByOne):
    """Implements Provider. `broken` is raised by every read while it is set."""

    def __init__(self, traits: Traits | None = None) -> None:
        self.traits = traits or Traits("ReadWrite")
        self.secrets: dict[str, list[Data]] = {}
        self.named: dict[tuple[str, str], Data] = {}
        self.tags: dict[str, dict[str, str]] = {}
        self.broken: Refusal | None = None
        self.reads = 0
        self.has_feed = True
        # What the feed remembers: all but the first `forgotten`; nothing, as OpenBao's.
        self.history: list[Change] = []
        self.forgotten = 0
        self.remembers = True
        self._listeners: list[asyncio.Queue[Change]] = []

    def put(self, key: str, **data: Any) -> None:  # noqa: ANN401 - JSON
        """Write a new version and tell the feed."""
        self.put_data(key, data)

    def put_data(self, key: str, data: Data, tags: Mapping[str, str] | None = None) -> None:
        """The same with any data, and tags when they change."""
        self.secrets.setdefault(key, []).append(data)
        if tags is not None:
            self.tags[key] = dict(tags)
        change = Change(key, str(len(self.history) + 1))
        self.history.append(change)
        for each in self._listeners:
            each.put_nowait(change)

    async def validate(self) -> None:
        if self.broken:
            raise self.broken

    async def fetch(self, ref: RemoteRef) -> Fetched:
        self.reads += 1
        if self.broken:
            raise self.broken
        if (ref.key, ref.version) in self.named:
            return Fetched(ref.key, ref.version, self.named[ref.key, ref.version])
        versions = self.secrets.get(ref.key)
        number = whole_number(ref.version) or 0 if ref.version else len(versions or ())
        if not versions or not 1 <= number <= len(versions):
            raise NotFound("fake-not-found", f"{ref.key} is not there")
        if ref.metadata:
            return Fetched(ref.key, number, self.tags.get(ref.key, {}))
        return Fetched(ref.key, number, versions[number - 1])

    async def find(self, wanted: Find) -> Mapping[str, Fetched]:
        # Of a key with named versions the last by name counts, and none goes before all.
        newest = dict.fromkeys(self.secrets, "")
        for name, version in self.named:
            newest[name] = max(newest.get(name, ""), version)
        return {
            name: await self.fetch(RemoteRef(name, version=version, metadata=wanted.metadata))
            for name, version in newest.items()
            if name.startswith(wanted.path) and wanted.wants(name, self.tags.get(name, {}))
        }

    async def push(self, target: PushTarget, value: Secret) -> Pushed:
        versions = self.secrets.get(target.key) or []
        if versions and not self._ours(target.key):
            raise not_ours(target.key)
        content = value.reveal()
        if target.property:
            old = as_bytes(versions[-1]) if versions else None
            content = with_property(old, target.key, target.property, content)
        if versions and as_bytes(versions[-1]) == content:
            return Pushed(changed=False, version=len(versions))
        self.put_data(target.key, content, dict([MANAGED_BY]))
        return Pushed(changed=True, version=len(self.secrets[target.key]))

    def _ours(self, key: str) -> bool:
        return is_ours(self.tags.get(key, {}))

    async def delete(self, target: PushTarget) -> None:
        if not self._ours(target.key):
            return
        rest = None
        if target.property:
            old = as_bytes(self.secrets[target.key][-1])
            rest = without_property(old, target.key, target.property)
        if rest is not None:
            self.put_data(target.key, rest)
        else:
            del self.secrets[target.key], self.tags[target.key]

    async def exists(self, target: PushTarget) -> bool:
        versions = self.secrets.get(target.key)
        if not versions or not target.property:
            return bool(versions)
        return has_property(versions[-1], target.key, target.property)

    async def changes(self, since: str = "") -> AsyncIterator[Change | History]:
        if not self.has_feed:
            return
        queue: asyncio.Queue[Change] = asyncio.Queue()
        self._listeners.append(queue)
        try:
            if since and self.remembers:
                yield self._past(int(since))
            while True:
                yield await queue.get()
        finally:
            self._listeners.remove(queue)

    def _past(self, since: int) -> History:
        paths = {each.path for each in self.history[max(since, self.forgotten) :]}
        versions: dict[str, Version] = {each: len(self.secrets.get(each, ())) for each in paths}
        whole = self.forgotten <= since <= len(self.history)
        return History(versions, str(len(self.history)), whole)

    async def close(self) -> None:
        """Nothing to let go of."""


async def build(spec: Fields, references: References, around: Surroundings) -> Provider:  # noqa: ARG001
    """The provider of `spec.provider.fake`."""
    result = spec.number("validationResult", 0)
    made = FakeProvider(Traits("ReadWrite", unchecked=result == UNKNOWN))
    made.has_feed = False
    for entry in spec.parts("data"):
        key, value = entry.required("key"), entry.text("value").encode()
        if entry.text("version"):
            made.named[key, entry.text("version")] = value
        else:
            made.put_data(key, value)
    if result > UNKNOWN:
        made.broken = Unavailable("fake-broken", "spec.provider.fake.validationResult says so")
    return made
