"""Keeps alive what GeneratorStates remember, and ends it: at their deadline, or with their owner.

A state stays until what it stands for has been let go of, but not for ever: an end that cannot be
reached would hold up the deletion of its namespace.
"""

import contextlib
import logging
import math
from collections.abc import Awaitable, Callable, Collection
from typing import Final

from strongroom.kube.api import EVERYTHING, KubeApi, Scope
from strongroom.kube.controller import Controller, Key, namespace_of
from strongroom.kube.events import EventRecorder
from strongroom.kube.informer import Informer
from strongroom.kube.queue import WorkQueue
from strongroom.kube.resource import Object, key_of
from strongroom.model.clock import Clock, parse_rfc3339
from strongroom.model.errors import Invalid, NotFound, Refusal
from strongroom.sync.crds import GENERATOR_STATES
from strongroom.sync.finalizers import is_held, let_go
from strongroom.sync.generators.kinds import Workshop, class_of
from strongroom.sync.generators.states import (
    DEADLINE,
    FINALIZER,
    GRACE_SECONDS,
    OWNER_KEY,
    end_at,
    owner_key,
)
from strongroom.sync.generators.superseded import superseded

# When what an owner fills, by namespace and reference, was written last, 0 if unknown.
Written = Callable[[str, Object], Awaitable[float]]
# How long after its end a state is tried again and again to be let go of.
GIVE_UP_SECONDS: Final = 3600.0

_log = logging.getLogger(__name__)


class StateCollector:
    """Runs until cancelled."""

    name = "generatorstate"

    def __init__(
        self,
        api: KubeApi,
        workshop: Workshop,
        events: EventRecorder,
        clock: Clock,
        *,
        namespace: str = "",
        controller_class: str = "",
    ) -> None:
        self._api = api
        self._workshop = workshop
        self._events = events
        self._clock = clock
        self._class = controller_class
        # Whose owner knows that they end.
        self._told: set[Key] = set()
        scope = Scope(namespace=namespace) if namespace else EVERYTHING
        self.objects = Informer(api, GENERATOR_STATES, clock, scope)
        self.queue: WorkQueue[Key] = WorkQueue(clock, namespace_of)
        self.objects.on_change(self._changed)
        # The states of each owner, by its uid.
        self._owned: dict[str, set[Key]] = {}
        # States without a use whose deadline could not be written so far.
        self._unused: set[Key] = set()
        # Told of a state whose credential will end before it is replaced.
        self.on_ending: list[Callable[[Object], None]] = []

    def _changed(self, old: Object | None, new: Object | None) -> None:
        for owner in owners(old):
            self._owned.get(owner, set()).discard(key_of(old or {}))
            if not self._owned.get(owner):
                self._owned.pop(owner, None)
        for owner in owners(new):
            self._owned.setdefault(owner, set()).add(key_of(new or {}))
        if new is not None:
            self.queue.add(key_of(new))

    async def end_unused(self, owner: Object, slots: Collection[str]) -> None:
        """End in a while what was made for places that an owner's manifest no longer has.

        Called when the owner's target holds what it should. Never raises a Refusal.
        """
        wanted = {owner_key(owner, each) for each in slots}
        for key in sorted(self._owned.get(owner["metadata"]["uid"], ())):
            item = self.objects.get(*key)
            if item is None or item["spec"].get(DEADLINE):
                continue
            if (item["metadata"].get("labels") or {}).get(OWNER_KEY) in wanted:
                continue
            await self._end(key)

    async def end_superseded(self, written: Written) -> None:
        """End in a while what owners' targets show to be replaced, though nobody said so.

        A process that ended between a target and a deadline leaves such states. Never raises a
        Refusal.
        """
        places: dict[tuple[str, str, str], list[Object]] = {}
        for item in self.objects:
            label = (item["metadata"].get("labels") or {}).get(OWNER_KEY, "")
            for uid in owners(item)[:1]:
                places.setdefault((key_of(item)[0], uid, label), []).append(item)
        for (namespace, _, _), states in places.items():
            if not superseded(states, math.inf):
                continue
            when = await written(namespace, states[0]["metadata"]["ownerReferences"][0])
            for each in superseded(states, when):
                if self._is_ours(each):
                    await self._end(key_of(each))

    async def _end(self, key: Key) -> None:
        try:
            await end_at(self._api, key, self._clock.now() + GRACE_SECONDS)
        except Refusal as refusal:
            # The owner may be settled for good, so nobody would call again.
            self._unused.add(key)
            self.queue.failed(key)
            _log.warning("generatorstate %s/%s: %s", *key, refusal.code)

    async def run(self) -> None:
        """Work; the watch runs beside it."""
        for item in self.objects:
            self.queue.add(key_of(item))
        await Controller(self.name, self.queue, self.reconcile).run(8)

    async def reconcile(self, key: Key) -> float | None:
        """Let go of one state that has ended, keep another alive; the seconds to the next time."""
        item = self.objects.get(*key)
        if item is None:
            self._unused.discard(key)
            self._told.discard(key)
            return None
        if not self._is_ours(item):
            return None
        if key in self._unused:
            if not item["spec"].get(DEADLINE):
                await end_at(self._api, key, self._clock.now() + GRACE_SECONDS)
            self._unused.discard(key)
        since = ended_for(item, self._clock.now())
        if since is None:
            return await self._sustain(item, key)
        if since < 0:
            return -since
        if is_held(item, FINALIZER):
            await self._release(item, key[0], since)
            await let_go(self._api, GENERATOR_STATES, item, FINALIZER)
        with contextlib.suppress(NotFound):
            await self._api.delete(GENERATOR_STATES, key[1], key[0])
        return None

    async def _sustain(self, item: Object, key: Key) -> float | None:
        spec = item["spec"]
        made = str(item["metadata"].get("creationTimestamp") or "")
        age = max(0.0, self._clock.now() - parse_rfc3339(made)) if made else 0.0
        life = await self._workshop.sustain(spec["resource"], key[0], spec["state"], age)
        if life is None:
            return None
        if life.ends is not None and key not in self._told:
            self._told.add(key)
            note = (
                f"what it stands for ends in {int(life.ends)} s and cannot be renewed further; "
                "its owner is asked to have another made"
            )
            await self._events.emit(item, "Warning", "CredentialEnds", note)
            for tell in self.on_ending:
                tell(item)
        if life.ends is not None and life.ends <= 0:
            # It is gone; its owner is asked, and the state ends when another has replaced it.
            return None
        # Until another has been made, which may take long, it lives for as long as it can.
        return life.again

    def _is_ours(self, item: Object) -> bool:
        """Whether the generator is for this controller's class; else another ends what it made."""
        try:
            return class_of(item["spec"]["resource"]) in ("", self._class)
        except Invalid:
            return True

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


def owners(item: Object | None) -> list[str]:
    """The uids of an object's owners; none of no object. Pure."""
    references = (item or {}).get("metadata", {}).get("ownerReferences") or []
    return [str(each.get("uid")) for each in references]


def ended_for(item: Object, now: float) -> float | None:
    """Seconds since a state ended, less than 0 until it does; None while it has no end. Pure."""
    deleted = item["metadata"].get("deletionTimestamp")
    deadline = (item.get("spec") or {}).get(DEADLINE)
    ends = [parse_rfc3339(str(each)) for each in (deleted, deadline) if each]
    return now - min(ends) if ends else None
