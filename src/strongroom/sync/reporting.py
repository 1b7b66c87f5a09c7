"""What people see at an ExternalSecret: status and Events, written when they say something new."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from strongroom.kube.api import KubeApi
from strongroom.kube.events import EventRecorder
from strongroom.kube.resource import Object, Resource, key_of
from strongroom.model.clock import Clock
from strongroom.model.errors import NotFound, Refusal, Unavailable
from strongroom.sync.crds import EXTERNAL_SECRETS
from strongroom.sync.desired import Difference, field_manager, synced_version
from strongroom.sync.drift import actor, describe, is_own_write
from strongroom.sync.remedies import worded
from strongroom.sync.spec import Spec
from strongroom.sync.status import (
    RETAINED,
    SYNCED,
    contended,
    failed_conditions,
    ready_conditions,
    says_the_same,
    seconds,
)
from strongroom.sync.target import Outcome

# Asks who changed a Secret: namespace and name in, a name or "" out.
WhoChanged = Callable[[str, str], Awaitable[str]]
UNKNOWN_ACTOR: Final = "an unknown writer (the API server's audit log names the actor)"
OWN_WRITE: Final = "a write under its own name (was etcd put back, or does another operator run?)"

_log = logging.getLogger(__name__)


async def nobody(namespace: str, name: str) -> str:  # noqa: ARG001 - without a log nobody knows
    """A WhoChanged."""
    return ""


class Reporter:
    """Writes for the ExternalSecret controller."""

    def __init__(
        self, api: KubeApi, events: EventRecorder, clock: Clock, who_changed: WhoChanged = nobody
    ) -> None:
        self._api = api
        self._events = events
        self._clock = clock
        self._who_changed = who_changed

    async def synced(
        self,
        item: Object,
        spec: Spec,
        outcome: Outcome,
        said: tuple[str, str] = SYNCED,
        *,
        quiet: bool = False,
    ) -> None:
        """In order: what was done as an Event unless `quiet`, and the status if it is news."""
        before = item.get("status") or {}
        status: dict[str, Any] = {
            "syncedResourceVersion": synced_version(item),
            "conditions": ready_conditions(
                before, said, self._clock.now(), manifest=spec.manifest is not None
            ),
        }
        if said != RETAINED:
            # What is retained may be there or not, so the binding stays as it was.
            made = spec.creation != "None" and not outcome.absent
            status["binding"] = {"name": spec.target} if made else None
        difference = outcome.difference
        if difference.any and not quiet:
            kind = "secret" if spec.manifest is None else spec.manifest.kind
            done = "created" if difference.missing else "updated"
            await self._events.emit(item, "Normal", done.capitalize(), f"{kind} {done}")
        # First with other news alone, since a definition that is not ours keeps no versions.
        # Of what is no Secret they are the evidence that rotation waits for.
        told = before.get("sourceVersions") or outcome.sources
        if difference.any or told != outcome.sources or not says_the_same(before, status):
            status["refreshTime"] = seconds(self._clock.now())
            status["sourceVersions"] = outcome.sources or None
            await self._put(item, status)

    async def failed(self, item: Object, refusal: Refusal, *, manifest: bool = False) -> bool:
        """Not in order, and why; whether the status says so."""
        before = item.get("status") or {}
        conditions = failed_conditions(before, refusal, self._clock.now(), manifest=manifest)
        if _same_words(before, conditions):
            return True
        await self._events.emit(item, "Warning", "UpdateFailed", worded(refusal))
        try:
            await self._put(item, {"conditions": conditions})
        except Refusal as other:
            # Of an API server that is away the watches tell; objects would do so by the thousand.
            level = logging.DEBUG if isinstance(other, Unavailable) else logging.WARNING
            _log.log(level, "status of %s/%s: %s", *key_of(item), other.code)
            return False
        return True

    async def missing(self, item: Object, what: Sequence[str]) -> None:
        """Keys that the store does not have and the policy skips."""
        for each in what:
            note = f"secret does not exist at provider using {each}"
            await self._events.emit(item, "Normal", "MissingProviderSecret", note)

    async def deprecated(self, item: Object, spec: Spec) -> None:
        """Fields that are served and that the API's own documentation warns of."""
        for at, row in enumerate(spec.rows):
            if row.generator is not None:
                note = f"spec.data[{at}].sourceRef.generatorRef is deprecated: use dataFrom"
                await self._events.emit(item, "Warning", "ParameterDeprecated", note)

    async def deleted(self, item: Object, note: str) -> None:
        """The target was deleted."""
        await self._events.emit(item, "Normal", "Deleted", note)

    async def who(self, item: Object, spec: Spec, before: Object | None) -> str:
        """Who changed the target last, as far as anybody knows."""
        who = await self._who_changed(item["metadata"]["namespace"], spec.target)
        if not who and before is not None:
            ours = field_manager(item["metadata"]["name"])
            who = actor(before, ours)
            if not who and spec.manifest is None and is_own_write(before, ours):
                who = OWN_WRITE
        return who or UNKNOWN_ACTOR

    async def drift(
        self, item: Object, spec: Spec, difference: Difference, who: str, *, repaired: bool
    ) -> None:
        """What differed, by whom, and what was done about it."""
        target = f"{spec.manifest.kind if spec.manifest else 'Secret'} {spec.target}"
        note = f"{describe(difference, target)} by {who}"
        if repaired:
            await self._events.emit(item, "Warning", "DriftRepaired", f"{note}; repaired")
        else:
            kept = f"{note}; kept, for creationPolicy is {spec.creation}"
            await self._events.emit(item, "Warning", "DriftKept", kept)

    async def fight(self, item: Object, opponent: str) -> None:
        """Repairs are stopped."""
        before = item.get("status") or {}
        conditions = contended(before, opponent, self._clock.now())
        note = f"{opponent} undoes every repair of the Secret; repairs are stopped for a while"
        await self._events.emit(item, "Warning", "FightDetected", note)
        await self._put(item, {"conditions": conditions})

    async def _put(self, item: Object, status: Mapping[str, Any]) -> None:
        await put_status(self._api, EXTERNAL_SECRETS, item, status)


async def put_status(
    api: KubeApi, resource: Resource, item: Object, status: Mapping[str, Any]
) -> None:
    """Patch a status, unless the object is gone; raises what the API server says."""
    namespace, name = key_of(item)
    try:
        await api.merge_patch(resource, name, namespace, {"status": dict(status)}, "status")
    except NotFound:
        return


def _same_words(before: Mapping[str, Any], after: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the conditions are as they were."""
    return list(before.get("conditions") or []) == list(after)
