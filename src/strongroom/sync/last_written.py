"""When what the owner of generated credentials fills was written last: a target, or stores.

Evidence for which of several credentials is in use, where the process that knew has ended. It is
asked at a start, of owners with more than one credential alone, so it may cost requests.
"""

import math
from typing import Final

from strongroom.kube.api import KubeApi
from strongroom.kube.resource import SECRETS, Object
from strongroom.model.clock import parse_rfc3339
from strongroom.model.errors import Refusal
from strongroom.sync.crds import EXTERNAL_SECRETS, PUSH_SECRETS
from strongroom.sync.desired import field_manager, synced_version
from strongroom.sync.due import refresh_time
from strongroom.sync.spec import parse_spec
from strongroom.sync.status import READY, find
from strongroom.sync.target import ResolveKind

_OWNERS: Final = {each.kind: each for each in (EXTERNAL_SECRETS, PUSH_SECRETS)}
# What a write of metadata alone touches.
_ABOUT: Final = frozenset({"f:metadata", "f:type", "f:immutable"})


class LastWritten:
    """By the objects in the cluster. A collector.Written."""

    def __init__(self, api: KubeApi, kind_of: ResolveKind) -> None:
        self._api = api
        self._kind_of = kind_of

    async def __call__(self, namespace: str, owner: Object) -> float:
        """In epoch seconds; infinity for an owner that fills nothing, 0 if unknown."""
        resource = _OWNERS.get(str(owner.get("kind")))
        if resource is None:
            return 0.0
        try:
            item = await self._api.get(resource, str(owner.get("name")), namespace)
            if item["metadata"]["uid"] != owner.get("uid"):
                return 0.0
            if resource == PUSH_SECRETS:
                return pushed_at(item)
            return await self._target_of(item, namespace)
        except Refusal:
            return 0.0

    async def _target_of(self, item: Object, namespace: str) -> float:
        spec = parse_spec(item)
        if spec.creation == "None":
            return math.inf
        resource = SECRETS if spec.manifest is None else await self._kind_of(spec.manifest)
        target = await self._api.get(resource, spec.target, namespace)
        return written_at(target, field_manager(item["metadata"]["name"]))


def written_at(target: Object, manager: str) -> float:
    """When a manager wrote the contents of a target last; 0 if somebody else did since. Pure.

    By the API server's clock.
    """
    ours = others = 0.0
    for entry in target["metadata"].get("managedFields") or []:
        if entry.get("subresource") or not set(entry.get("fieldsV1") or {}) - _ABOUT:
            continue
        when = _time_of(entry)
        if entry.get("manager") == manager:
            ours = max(ours, when)
        else:
            others = max(others, when)
    # In the same second nobody can tell who was the last.
    return ours if ours > others else 0.0


def pushed_at(item: Object) -> float:
    """When all stores of a PushSecret had what it asks for last; 0 unless they still do. Pure.

    The time in the status is an operator's, so it counts for no more than that of the API server
    for the last write of the status.
    """
    status = item.get("status") or {}
    ready = find(status, READY)
    told = refresh_time(status)
    if (ready.get("status"), ready.get("reason")) != ("True", "Synced") or told is None:
        return 0.0
    if status.get("syncedResourceVersion") != synced_version(item):
        return 0.0
    entries = item["metadata"].get("managedFields") or []
    written = [_time_of(each) for each in entries if each.get("subresource") == "status"]
    return min(told, max(written, default=0.0))


def _time_of(entry: Object) -> float:
    when = entry.get("time")
    return parse_rfc3339(str(when)) if when else 0.0
