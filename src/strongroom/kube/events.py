"""Events at objects (events.k8s.io/v1): the same sentence within ten minutes is counted, not added.

Events are few: when thousands of objects change at once their statuses say so, and an Event for
each would double the load on the API server.

API: https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/.
"""

import logging
from typing import Any, Final

from strongroom.kube.api import KubeApi
from strongroom.kube.resource import EVENTS, Object, key_of
from strongroom.model.clock import Clock, rfc3339
from strongroom.model.errors import Refusal, Unavailable

WINDOW_SECONDS: Final = 600.0
REMEMBERED: Final = 4096
NOTE_CHARACTERS: Final = 1000
EVENTS_AT_ONCE: Final = 100.0
EVENTS_PER_SECOND: Final = 5.0

_log = logging.getLogger(__name__)


class EventRecorder:
    """Emits as one reporting controller."""

    def __init__(self, api: KubeApi, controller: str, instance: str, clock: Clock) -> None:
        self._api = api
        self._controller = controller
        self._instance = instance
        self._clock = clock
        # Namespace and name of an Event, when it was written first, and how often since.
        self._recent: dict[tuple[str, str, str], tuple[tuple[str, str], float, int]] = {}
        self._tokens, self._filled = EVENTS_AT_ONCE, clock.monotonic()
        self.dropped = 0

    async def emit(self, about: Object, kind: str, reason: str, note: str) -> None:
        """Write an Event (`kind` Normal or Warning) or count it up; never raises a Refusal."""
        metadata = about["metadata"]
        key = (metadata.get("uid", metadata["name"]), reason, note)
        now = self._clock.now()
        known = self._recent.get(key)
        if not self._may():
            self.dropped += 1
            return
        try:
            if known is not None and now - known[1] < WINDOW_SECONDS:
                place, first, count = known
                self._recent[key] = (place, first, count + 1)
                await self._count(place, count + 1, now)
                return
            if len(self._recent) >= REMEMBERED:
                self._recent.clear()
            created = await self._api.create(EVENTS, self._event(about, kind, reason, note))
            self._recent[key] = (key_of(created), now, 1)
        except Refusal as refusal:
            # Of an API server that is away the watches tell; Events would do so by the hundred.
            level = logging.DEBUG if isinstance(refusal, Unavailable) else logging.WARNING
            _log.log(level, "an Event %s could not be written: %s", reason, refusal)

    def _may(self) -> bool:
        now = self._clock.monotonic()
        grown = self._tokens + (now - self._filled) * EVENTS_PER_SECOND
        self._tokens, self._filled = min(EVENTS_AT_ONCE, grown), now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    async def _count(self, place: tuple[str, str], count: int, now: float) -> None:
        namespace, name = place
        series = {"series": {"count": count, "lastObservedTime": rfc3339(now)}}
        await self._api.merge_patch(EVENTS, name, namespace, series)

    def _event(self, about: Object, kind: str, reason: str, note: str) -> Object:
        metadata = about["metadata"]
        regarding: dict[str, Any] = {
            "apiVersion": about["apiVersion"],
            "kind": about["kind"],
            "name": metadata["name"],
            "uid": metadata.get("uid", ""),
        }
        if metadata.get("namespace"):
            regarding["namespace"] = metadata["namespace"]
        namespace = metadata.get("namespace") or "default"
        stem = metadata["name"][:40].rstrip(".-")
        return {
            "metadata": {"generateName": f"{stem}-", "namespace": namespace},
            "eventTime": rfc3339(self._clock.now()),
            "reportingController": self._controller,
            "reportingInstance": self._instance,
            "action": "Reconcile",
            "reason": reason,
            "type": kind,
            "note": note[:NOTE_CHARACTERS],
            "regarding": regarding,
        }
