"""ClusterExternalSecret and ClusterPushSecret: one child in every namespace that is selected."""

import copy
from dataclasses import dataclass
from typing import Any, Final

from strongroom.kube.api import KubeApi
from strongroom.kube.controller import Controller, Key, Pause
from strongroom.kube.events import EventRecorder
from strongroom.kube.informer import Informer
from strongroom.kube.queue import Lane, WorkQueue
from strongroom.kube.resource import NAMESPACES, Object, Resource, has_moved, key_of
from strongroom.model.clock import Clock
from strongroom.model.errors import Conflict, Invalid, NotFound, Refusal
from strongroom.sync.crds import (
    CLUSTER_EXTERNAL_SECRETS,
    CLUSTER_PUSH_SECRETS,
    EXTERNAL_SECRETS,
    PUSH_SECRETS,
)
from strongroom.sync.desired import owned_fields, owner_reference, refers_to
from strongroom.sync.durations import parse_duration
from strongroom.sync.finalizers import let_go
from strongroom.sync.remedies import worded
from strongroom.sync.reporting import put_status
from strongroom.sync.selectors import namespaces_of
from strongroom.sync.status import condition, says_the_same

ATTEMPTS: Final = 4
PARTS: Final = ("labels", "annotations")
# Who managedFields name for a child, here and for the other controller: what the API server makes
# of the name of a program.
MANAGER: Final = "strongroom"
THEIR_MANAGER: Final = "external-secrets"
DEPRECATED: Final = ("namespaceSelector", "namespaces")
NOT_OURS: Final = "not-ours"
FAILED_SECONDS: Final = 30.0
FORCE_SYNC: Final = "external-secrets.io/force-sync"
# Left by the other controller at the object and at its namespaces; both are let go here.
FINALIZER: Final = "externalsecrets.external-secrets.io/clusterexternalsecret-cleanup"
NAMESPACE_FINALIZER: Final = "externalsecrets.external-secrets.io/ces-"


@dataclass(frozen=True, slots=True)
class Shape:
    """How one of the two kinds spells its fields."""

    resource: Resource
    child: Resource
    spec: str
    name: str
    metadata: str


CLUSTER_EXTERNAL_SECRET: Final = Shape(
    CLUSTER_EXTERNAL_SECRETS,
    EXTERNAL_SECRETS,
    "externalSecretSpec",
    "externalSecretName",
    "externalSecretMetadata",
)
CLUSTER_PUSH_SECRET: Final = Shape(
    CLUSTER_PUSH_SECRETS, PUSH_SECRETS, "pushSecretSpec", "pushSecretName", "pushSecretMetadata"
)


class FanOut:
    """For one of the two kinds; `children` and `namespaces` are caches that run elsewhere."""

    def __init__(
        self, api: KubeApi, shape: Shape, events: EventRecorder,
        children: Informer, namespaces: Informer, clock: Clock,
    ) -> None:  # fmt: skip
        self.name = shape.resource.kind.lower()
        self._api = api
        self._shape = shape
        self._events = events
        # The generation of each object whose deprecated fields have been told.
        self._warned: dict[Key, object] = {}
        self._children = children
        self._namespaces = namespaces
        self._clock = clock
        self.objects = Informer(api, shape.resource, clock)
        self.queue: WorkQueue[Key] = WorkQueue(clock)
        self.objects.on_change(self._object_changed)
        children.on_change(self._child_changed)
        namespaces.on_change(self._namespace_changed)

    async def run(self) -> None:
        """Work; the caches of children and namespaces run elsewhere."""
        for each in (self._children, self._namespaces):
            await each.synced.wait()
        await Controller(self.name, self.queue, self.reconcile, _patience).run(2)

    def _object_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None and has_moved(
            old, new, "generation", "annotations", "deletionTimestamp", "uid"
        ):
            self.queue.add(key_of(new), Lane.CHANGED)

    def _child_changed(self, old: Object | None, new: Object | None) -> None:
        item = new or old
        if item is None or (old and new and _own_parts(old) == _own_parts(new)):
            return
        for owner in item["metadata"].get("ownerReferences") or []:
            if owner.get("kind") == self._shape.resource.kind:
                self.queue.add(("", owner["name"]), Lane.EVENT)

    def _namespace_changed(self, old: Object | None, new: Object | None) -> None:
        if not has_moved(old, new, "labels", "deletionTimestamp"):
            return
        for each in self.objects:
            self.queue.add(key_of(each), Lane.EVENT)

    async def reconcile(self, key: Key) -> float | None:
        """Have a child in each selected namespace, and none elsewhere."""
        item = self.objects.get(*key)
        if item is None:
            self._warned.pop(key, None)
            return None
        if item["metadata"].get("deletionTimestamp"):
            await self._finalize(item)
            return None
        spec = item.get("spec") or {}
        await self._warn(item, spec)
        name = spec.get(self._shape.name) or item["metadata"]["name"]
        alive = [
            (each["metadata"]["name"], each["metadata"].get("labels") or {})
            for each in self._namespaces
            if not each["metadata"].get("deletionTimestamp")
        ]
        try:
            chosen = namespaces_of(spec, alive)
        except Invalid as refusal:
            # Nobody knows which are meant, so the children stay; only an edit mends it.
            await self._say(item, {}, worded(refusal))
            return None
        failed: list[Object] = []
        passing: Refusal | None = None
        for namespace in chosen:
            try:
                await self._provide(item, name, namespace)
            except Refusal as refusal:
                if refusal.code != NOT_OURS:
                    passing = refusal
                failed.append({"namespace": namespace, "reason": refusal.message})
        await self._withdraw(item, name, set(chosen))
        await self._let_namespaces_go(item)
        refused = {each["namespace"] for each in failed}
        status: Object = {
            self._shape.name: name,
            "provisionedNamespaces": [each for each in chosen if each not in refused],
            "failedNamespaces": failed,
        }
        await self._say(item, status, "one or more namespaces failed" if failed else "")
        if passing is not None:
            # An API server that has just started refuses for moments only.
            raise passing
        return _refresh(spec) if not failed else FAILED_SECONDS

    async def _warn(self, item: Object, spec: Object) -> None:
        key, generation = key_of(item), item["metadata"].get("generation")
        if key in self._warned and self._warned[key] == generation:
            return
        self._warned[key] = generation
        for name in DEPRECATED:
            if spec.get(name):
                note = f"spec.{name} is deprecated: use spec.namespaceSelectors"
                await self._events.emit(item, "Warning", "ParameterDeprecated", note)

    async def _provide(self, item: Object, name: str, namespace: str) -> None:
        wanted = child_of(item, self._shape, name, namespace)
        current = self._children.get(namespace, name)
        for attempt in range(ATTEMPTS):
            try:
                if current is None:
                    await self._api.create(self._shape.child, wanted, manager=MANAGER)
                else:
                    await self._put_right(item, current, wanted)
                return
            except Conflict as refusal:
                if attempt == ATTEMPTS - 1 or not refusal.code.startswith("kube-"):
                    raise
                # Made or written by somebody else meanwhile; look again.
                current = await self._api.get(self._shape.child, name, namespace)

    async def _put_right(self, item: Object, current: Object, wanted: Object) -> None:
        if not _owned_by(current, item):
            kind, name = self._shape.child.kind, current["metadata"]["name"]
            raise Conflict(NOT_OURS, f"{kind} {name} is there already and is not this object's")
        left = await self._left(current, wanted)
        if _is_as_wanted(current, wanted) and _is_owned(current, item) and not left:
            return
        changed = copy.deepcopy(current)
        changed["spec"] = wanted["spec"]
        wanted_owner = owner_reference(item)
        held_by = current["metadata"].get("ownerReferences") or []
        others = [each for each in held_by if not refers_to(each, wanted_owner)]
        changed["metadata"]["ownerReferences"] = [*others, wanted_owner]
        for part in PARTS:
            held = {**(current["metadata"].get(part) or {}), **wanted["metadata"][part]}
            kept = {key: value for key, value in held.items() if (part, key) not in left}
            changed["metadata"][part] = kept
        await self._api.replace(self._shape.child, changed, manager=MANAGER)

    async def _left(self, current: Object, wanted: Object) -> frozenset[tuple[str, str]]:
        """Labels and annotations that a child was given, and is to have no longer."""
        more = {
            (part, key)
            for part in PARTS
            for key in current["metadata"].get(part) or {}
            if key not in wanted["metadata"][part]
        }
        if not more:
            return frozenset()
        # The caches hold nobody's managedFields.
        live = await self._api.get(
            self._shape.child, current["metadata"]["name"], key_of(current)[0]
        )
        given = owned_fields(live, MANAGER) | owned_fields(live, THEIR_MANAGER)
        return frozenset(more & given)

    async def _withdraw(self, item: Object, name: str, chosen: set[str]) -> None:
        """Delete children where they are no longer asked for."""
        for child in self._children:
            namespace, child_name = key_of(child)
            if not _owned_by(child, item) or (child_name == name and namespace in chosen):
                continue
            try:
                uid = child["metadata"]["uid"]
                await self._api.delete(self._shape.child, child_name, namespace, uid)
            except (NotFound, Conflict):
                continue

    async def _finalize(self, item: Object) -> None:
        await self._withdraw(item, "", set())
        await self._let_namespaces_go(item)
        await let_go(self._api, self._shape.resource, item, FINALIZER)

    async def _let_namespaces_go(self, item: Object) -> None:
        """Take off the other controller's finalizers where they would hold a namespace back."""
        ending = bool(item["metadata"].get("deletionTimestamp"))
        mark = f"{NAMESPACE_FINALIZER}{item['metadata']['name']}"
        for each in self._namespaces:
            if ending or each["metadata"].get("deletionTimestamp"):
                await let_go(self._api, NAMESPACES, each, mark)

    async def _say(self, item: Object, status: Object, trouble: str) -> None:
        before = item.get("status") or {}
        state = "False" if trouble else "True"
        ready = condition(before, "Ready", state, ("", trouble), self._clock.now())
        made = {key: value for key, value in ready.items() if value}
        said = {**status, "conditions": [made]}
        empty: dict[str, Any] = {"provisionedNamespaces": [], "failedNamespaces": []}
        if not says_the_same({**empty, **before}, said):
            await put_status(self._api, self._shape.resource, item, said)


def _patience(_key: Key, _refusal: Refusal) -> Pause:
    return Pause(most=FAILED_SECONDS)


def child_of(item: Object, shape: Shape, name: str, namespace: str) -> Object:
    """The child that one namespace should have. Pure."""
    given = (item.get("spec") or {}).get(shape.metadata) or {}
    annotations = dict(given.get("annotations") or {})
    forced = (item["metadata"].get("annotations") or {}).get(FORCE_SYNC)
    if forced is not None:
        annotations[FORCE_SYNC] = forced
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": dict(given.get("labels") or {}),
            "annotations": annotations,
            "ownerReferences": [owner_reference(item)],
        },
        "spec": copy.deepcopy((item.get("spec") or {}).get(shape.spec) or {}),
    }


def _own_parts(child: Object) -> list[Any]:
    """What of a child is put right."""
    metadata = child["metadata"]
    return [child.get("spec"), metadata.get("labels"), metadata.get("annotations")]


def _owned_by(child: Object, item: Object) -> bool:
    """Whether it is the object's, or was that of one of its name before it."""
    owners = child["metadata"].get("ownerReferences") or []
    return any(refers_to(each, owner_reference(item)) for each in owners)


def _is_owned(child: Object, item: Object) -> bool:
    owners = child["metadata"].get("ownerReferences") or []
    return any(each.get("uid") == item["metadata"]["uid"] for each in owners)


def _is_as_wanted(current: Object, wanted: Object) -> bool:
    if _comparable(current.get("spec") or {}) != _comparable(wanted["spec"]):
        return False
    return all(
        (current["metadata"].get(part) or {}).get(key) == value
        for part in PARTS
        for key, value in wanted["metadata"][part].items()
    )


def _comparable(spec: Object) -> Object:
    """A spec without the spelling of its interval: the other controller writes `1h` as `1h0m0s`."""
    try:
        return {**spec, "refreshInterval": parse_duration(spec["refreshInterval"])}
    except (KeyError, Invalid):
        return spec


def _refresh(spec: Object) -> float | None:
    try:
        return parse_duration(spec.get("refreshTime") or 0, "refreshTime") or None
    except Invalid:
        return None
