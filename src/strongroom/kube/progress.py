"""Whether an operator makes progress: the watchdog behind its readiness. Pure.

A controller that silently stops looks healthy from outside; so readiness asks how long caches
have been silent, and how long the oldest key that could be worked on has been waiting.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

# A watch is ended by the server after five minutes at the latest, and bookmarks come each minute.
SILENCE_SECONDS: Final = 360.0
WAITING_SECONDS: Final = 120.0
# Each request ends after half a minute; what takes so long waits for what never comes.
STUCK_SECONDS: Final = 900.0


@dataclass(frozen=True, slots=True)
class CacheState:
    """One cache: its kind, whether it has listed once, and for how long it has heard nothing."""

    kind: str
    synced: bool
    silence: float


@dataclass(frozen=True, slots=True)
class QueueState:
    """One controller's queue: the wait of its oldest key, and seconds since one was finished.

    `longest` is for how long the key that is worked on longest has been.
    """

    name: str
    oldest: float
    idle: float
    longest: float = 0.0


def troubles(caches: Iterable[CacheState], queues: Iterable[QueueState]) -> list[str]:
    """What keeps the operator from being ready, in sentences; empty when it is."""
    found: list[str] = []
    for cache in caches:
        if not cache.synced:
            found.append(f"the cache of {cache.kind} is not filled yet")
        elif cache.silence > SILENCE_SECONDS:
            found.append(f"nothing was heard of {cache.kind} for {cache.silence:.0f} s")
    for queue in queues:
        # A long queue that moves is slow; one that does not move is stuck.
        if queue.oldest > WAITING_SECONDS and queue.idle > WAITING_SECONDS:
            found.append(f"{queue.name} has had work for {queue.oldest:.0f} s and does none of it")
        elif queue.longest > STUCK_SECONDS:
            found.append(f"{queue.name} has worked on one object for {queue.longest:.0f} s")
    return found
