"""What sync asks of a provider."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from strongroom.sync.spec import RemoteRef


@dataclass(frozen=True, slots=True)
class Fetched:
    """One secret at one version; `path` is the name that records and events have for it."""

    path: str
    version: int
    data: Mapping[str, Any] = field(repr=False)
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False)


class Provider(Protocol):
    """One store with one identity."""

    async def validate(self) -> None:
        """Prove that it can be reached and lets us in; raises a Refusal."""

    async def fetch(self, ref: RemoteRef) -> Fetched:
        """Read the secret a reference names; raises NotFound when it is not there."""

    def changes(self) -> AsyncIterator[str]:
        """Paths as they change; ends when there is no feed, raises Unavailable when it breaks."""

    async def close(self) -> None:
        """Let go of connections and give back the login."""
