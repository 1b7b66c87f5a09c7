"""The fake provider: secrets in a dictionary, with versions and a feed."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from strongroom.model.errors import NotFound, Refusal
from strongroom.sync.providers.contract import Fetched
from strongroom.sync.spec import RemoteRef


class FakeProvider:
    """Implements Provider. `broken` is raised by every read while it is set."""

    def __init__(self) -> None:
        self.secrets: dict[str, list[dict[str, Any]]] = {}
        self.broken: Refusal | None = None
        self.reads = 0
        self.has_feed = True
        self._listeners: list[asyncio.Queue[str]] = []

    def put(self, key: str, **data: Any) -> None:  # noqa: ANN401 - JSON
        """Write a new version and tell the feed."""
        self.secrets.setdefault(key, []).append(data)
        for each in self._listeners:
            each.put_nowait(key)

    async def validate(self) -> None:
        if self.broken:
            raise self.broken

    async def fetch(self, ref: RemoteRef) -> Fetched:
        self.reads += 1
        if self.broken:
            raise self.broken
        versions = self.secrets.get(ref.key)
        number = int(ref.version or len(versions or ()))
        if not versions or not 1 <= number <= len(versions):
            raise NotFound("store-not-found", f"{ref.key} is not there")
        return Fetched(ref.key, number, versions[number - 1])

    async def changes(self) -> AsyncIterator[str]:
        if not self.has_feed:
            return
        queue: asyncio.Queue[str] = asyncio.Queue()
        self._listeners.append(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._listeners.remove(queue)

    async def close(self) -> None:
        """Nothing to let go of."""
