"""Ends what GeneratorStates remember: at their deadline, or when their owner is gone.

A state stays until what it stands for has been let go of, but not for ever: an end that cannot be
reached would hold up the deletion of its namespace.
"""

import contextlib
import logging
from typing import Final

from strongroom.kube.api import EVERYTHING, KubeApi, Scope
from strongroom.kube.controller import Controller, Key
from strongroom.kube.events import EventRecorder
from strongroom.kube.informer import Informer
from strongroom.kube.queue import WorkQueue
from strongroom.kube.resource import Object, key_of
from strongroom.model.clock import Clock, parse_rfc3339
from strongroom.model.errors import NotFound, Refusal
from strongroom.sync.crds import GENERATOR_STATES
from strongroom.sync.generators.kinds import Workshop
from strongroom.sync.generators.states import DEADLINE, FINALIZER

# How long after its end a state is tried again and again to be let go of.
GIVE_UP_SECONDS: Final = 3600.0

_log = logging.getLogger(__name__)


class StateCollector:
    """Runs until cancelled."""

    name = "generatorstate"

    def __init__(
        self, api: KubeApi, workshop: Workshop, events: EventRecorder, clock: Clock, namespace: str
    ) -> None:
        self._api = api
        self._workshop = workshop
        self._events = events
        self._clock = clock
        scope = Scope(namespace=namespace) if namespace else EVERYTHING
        self.objects = Informer(api, GENERATOR_STATES, clock, scope)
        self.queue: WorkQueue[Key] = WorkQueue(clock)
        self.objects.on_change(self._changed)

    def _changed(self, _old: Object | None, new: Object | None) -> None:
        if new is not None:
            self.queue.add(key_of(new))

    async def run(self) -> None:
        """Work; the watch runs beside it."""
        for item in self.objects:
            self.queue.add(key_of(item))
        await Controller(self.name, self.queue, self.reconcile).run(2)

    async def reconcile(self, key: Key) -> float | None:
        """Let go of one state that has ended; the seconds until it does otherwise."""
        item = self.objects.get(*key)
        if item is None:
            return None
        since = ended_for(item, self._clock.now())
        if since is None:
            return None
        if since < 0:
            return -since
        if FINALIZER in (item["metadata"].get("finalizers") or []):
            await self._release(item, key[0], since)
            await self._let_go(item, key)
        with contextlib.suppress(NotFound):
            await self._api.delete(GENERATOR_STATES, key[1], key[0])
        return None

    async def _release(self, item: Object, namespace: str, since: float) -> None:
        spec = item["spec"]
        try:
            await self._workshop.release(spec["resource"], namespace, spec["state"])
        except NotFound:
            # It has ended by itself.
            return
        except Refusal as refusal:
            note = f"what {item['metadata']['name']} stands for cannot be ended: {refusal}"
            await self._events.emit(item, "Warning", "ReleaseFailed", note)
            if since < GIVE_UP_SECONDS:
                raise
            _log.warning("generatorstate %s/%s: given up: %s", *key_of(item), refusal.code)

    async def _let_go(self, item: Object, key: Key) -> None:
        rest = [each for each in item["metadata"]["finalizers"] if each != FINALIZER]
        version = item["metadata"]["resourceVersion"]
        patch = {"metadata": {"finalizers": rest, "resourceVersion": version}}
        with contextlib.suppress(NotFound):
            await self._api.merge_patch(GENERATOR_STATES, key[1], key[0], patch)


def ended_for(item: Object, now: float) -> float | None:
    """Seconds since a state ended, less than 0 until it does; None while it has no end. Pure."""
    deleted = item["metadata"].get("deletionTimestamp")
    deadline = (item.get("spec") or {}).get(DEADLINE)
    ends = [parse_rfc3339(str(each).replace("Z", "+00:00")) for each in (deleted, deadline) if each]
    return now - min(ends) if ends else None
