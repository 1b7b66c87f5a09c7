"""The fake API server: objects in memory with the rules controllers rely on.

Resource versions, conflicts, generations, uids, watches with history and 410, status as a
subresource, finalizers, server-side apply with managed fields, and token reviews of known tokens.
"""

import asyncio
import bisect
import copy
import itertools
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, Final

from strongroom.kube.api import EVERYTHING, Gone, Listing, Scope, WatchEvent
from strongroom.kube.resource import SERVICE_ACCOUNTS, TOKEN_REVIEWS, Object, Resource, key_of
from strongroom.model.clock import Clock, rfc3339
from strongroom.model.errors import Conflict, Invalid, NotFound

_FINALIZERS: Final = ("metadata", "finalizers")
_SERVER_FIELDS: Final = ("uid", "creationTimestamp", "resourceVersion", "generation")
PAGE: Final = 100
Key = tuple[Resource, str, str]


class FakeKubeApi:
    """Implements KubeApi. `tokens` maps a bearer token to the `status.user` of its review."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._objects: dict[Key, Object] = {}
        self._history: list[tuple[int, Resource, WatchEvent]] = []
        self._version = 100
        self._oldest = 0
        self._changed = asyncio.Condition()
        self._uids = itertools.count(1)
        self.tokens: dict[str, Object] = {}
        self.writes = 0
        # Objects whose stored form is not what the server would write now.
        self.stale: set[Key] = set()

    # reads

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Object:
        return copy.deepcopy(self._found(resource, name, namespace))

    def _found(self, resource: Resource, name: str, namespace: str) -> Object:
        item = self._objects.get((resource, namespace if resource.namespaced else "", name))
        if item is None:
            raise NotFound("kube-not-found", f'{resource.plural} "{name}" not found')
        return item

    def _in_scope(self, resource: Resource, scope: Scope) -> Iterator[Object]:
        for (kind, namespace, _), item in sorted(
            self._objects.items(), key=lambda each: each[0][1:]
        ):
            if kind == resource and scope.namespace in ("", namespace) and _selected(item, scope):
                yield item

    async def list(self, resource: Resource, scope: Scope = EVERYTHING) -> Listing:
        items = [_shown(item, scope) for item in self._in_scope(resource, scope)]
        return Listing(items, str(self._version))

    async def serves(self, group: str) -> bool:
        return any(resource.group == group for resource, _, _ in self._objects)

    async def pages(self, resource: Resource, scope: Scope = EVERYTHING) -> AsyncIterator[Listing]:
        whole = await self.list(resource, scope)
        items = sorted(whole.items, key=lambda each: "/".join(key_of(each)))
        for start in range(0, max(1, len(items)), PAGE):
            yield Listing(items[start : start + PAGE], whole.resource_version)

    async def watch(
        self, resource: Resource, resource_version: str, scope: Scope = EVERYTHING
    ) -> AsyncIterator[WatchEvent]:
        position = int(resource_version or self._version)
        while True:
            if position < self._oldest:
                raise Gone("kube-gone", "too old resource version")
            # Its versions rise: what was seen is not looked at again with each event.
            new = bisect.bisect_right(self._history, position, key=lambda each: each[0])
            for version, kind, event in self._history[new:]:
                position = version
                item = event.object
                where = item["metadata"].get("namespace", "")
                if kind == resource and scope.namespace in ("", where) and _selected(item, scope):
                    yield WatchEvent(event.type, _shown(item, scope))
            async with self._changed:
                if self._version <= position:
                    await self._changed.wait()

    def forget_history(self) -> None:
        """Compact: watches from before now get 410."""
        self._history.clear()
        self._version += 1
        self._oldest = self._version

    # writes

    async def _commit(self, kind: str, resource: Resource, item: Object) -> Object:
        self._version += 1
        self.writes += 1
        item["metadata"]["resourceVersion"] = str(self._version)
        event = WatchEvent(kind, copy.deepcopy(item))
        self._history.append((self._version, resource, event))
        async with self._changed:
            self._changed.notify_all()
        return copy.deepcopy(item)

    async def create(
        self, resource: Resource, item: Object, subresource: str = "", manager: str = ""
    ) -> Object:
        if resource == TOKEN_REVIEWS:
            return self._review(item)
        if subresource:
            return self._subresource(item, subresource)
        item = copy.deepcopy(item)
        metadata = item.setdefault("metadata", {})
        if "name" not in metadata and "generateName" in metadata:
            metadata["name"] = f"{metadata['generateName']}{next(self._uids):05}"
        namespace, name = metadata.get("namespace", ""), metadata.get("name", "")
        if not name or (resource.namespaced and not namespace):
            raise Invalid("kube-invalid", "name and namespace are required")
        if (resource, namespace, name) in self._objects:
            raise Conflict("kube-conflict", f'{resource.plural} "{name}" already exists')
        item.update(apiVersion=resource.api_version, kind=resource.kind)
        metadata.update(
            uid=f"uid-{next(self._uids)}",
            creationTimestamp=rfc3339(self._clock.now()),
            generation=1,
        )
        _encode_string_data(item)
        if manager:
            _updated(item, _leaves(item), manager, rfc3339(self._clock.now()))
        self._objects[resource, namespace, name] = item
        return await self._commit("ADDED", resource, item)

    def _subresource(self, item: Object, subresource: str) -> Object:
        if subresource != "token":
            raise Invalid("kube-invalid", f"no subresource {subresource}")
        metadata = item["metadata"]
        self._found(SERVICE_ACCOUNTS, metadata["name"], metadata["namespace"])
        token = f"token-{metadata['namespace']}-{metadata['name']}-{next(self._uids)}"
        name = f"system:serviceaccount:{metadata['namespace']}:{metadata['name']}"
        audiences = item.get("spec", {}).get("audiences") or ["https://kubernetes.default.svc"]
        self.tokens[token] = {"username": name, "uid": "sa-uid", "audiences": audiences}
        return {**item, "status": {"token": token}}

    def _review(self, item: Object) -> Object:
        user = self.tokens.get(item["spec"]["token"])
        wanted = item["spec"].get("audiences") or []
        held = (user or {}).get("audiences", [])
        if user is None or (wanted and not set(wanted) & set(held)):
            return {**item, "status": {"authenticated": False, "error": "invalid bearer token"}}
        shown = {key: value for key, value in user.items() if key != "audiences"}
        agreed = [each for each in held if each in wanted] if wanted else held
        return {**item, "status": {"authenticated": True, "user": shown, "audiences": agreed}}

    async def replace(
        self, resource: Resource, item: Object, subresource: str = "", manager: str = ""
    ) -> Object:
        metadata = item["metadata"]
        current = self._found(resource, metadata["name"], metadata.get("namespace", ""))
        version = metadata.get("resourceVersion", "")
        if version and version != current["metadata"]["resourceVersion"]:
            raise Conflict("kube-conflict", "the object has been modified")
        changed = copy.deepcopy(item)
        if subresource:
            changed = {**copy.deepcopy(current), subresource: changed.get(subresource, {})}
        elif "status" in current:
            changed["status"] = copy.deepcopy(current["status"])
        if manager and not subresource:
            fields = copy.deepcopy(current["metadata"].get("managedFields", []))
            changed["metadata"]["managedFields"] = fields
            _updated(changed, _changes(current, changed), manager, rfc3339(self._clock.now()))
        return await self._store(resource, current, changed)

    async def _store(self, resource: Resource, current: Object, changed: Object) -> Object:
        metadata = changed["metadata"]
        metadata.update({name: current["metadata"][name] for name in _SERVER_FIELDS})
        _encode_string_data(changed)
        changed.update(apiVersion=resource.api_version, kind=resource.kind)
        if changed == current:
            return copy.deepcopy(current)
        if changed.get("spec") != current.get("spec"):
            metadata["generation"] += 1
        key = (resource, metadata.get("namespace", ""), metadata["name"])
        if metadata.get("deletionTimestamp") and not metadata.get("finalizers"):
            del self._objects[key]
            return await self._commit("DELETED", resource, changed)
        self._objects[key] = changed
        return await self._commit("MODIFIED", resource, changed)

    async def apply(
        self,
        resource: Resource,
        item: Object,
        manager: str,
        subresource: str = "",  # noqa: ARG002 - the protocol's; fields decide here
    ) -> Object:
        metadata, when = item["metadata"], rfc3339(self._clock.now())
        try:
            current = self._found(resource, metadata["name"], metadata.get("namespace", ""))
        except NotFound:
            return await self.create(resource, _managed(copy.deepcopy(item), item, manager, when))
        changed = copy.deepcopy(current)
        for field in _owned(current, manager) - set(_leaves(item)):
            _remove(changed, field)
        _merge(
            changed, {key: each for key, each in item.items() if key not in ("apiVersion", "kind")}
        )
        then = [
            each.get("time", "")
            for each in current["metadata"].get("managedFields", [])
            if (each.get("manager"), each.get("operation")) == (manager, "Apply")
        ]
        same = _managed(copy.deepcopy(changed), item, manager, *then[:1] or [when])
        if same != current:
            # The time of an entry is that of the last change.
            same = _managed(changed, item, manager, when)
        return await self._store(resource, current, same)

    async def merge_patch(
        self,
        resource: Resource,
        name: str,
        namespace: str,
        patch: Object,
        subresource: str = "",
        manager: str = "",
    ) -> Object:
        current = self._found(resource, name, namespace)
        version = (patch.get("metadata") or {}).get("resourceVersion")
        if version and version != current["metadata"]["resourceVersion"]:
            raise Conflict("kube-conflict", "the object has been modified")
        changed = copy.deepcopy(current)
        _merge(changed, {subresource: patch.get(subresource)} if subresource else patch)
        _encode_string_data(changed)
        if manager or subresource:
            when = rfc3339(self._clock.now())
            _updated(changed, _changes(current, changed), manager, when, subresource)
        return await self._store(resource, current, changed)

    async def touch(self, resource: Resource, name: str, namespace: str = "") -> str:
        item = self._found(resource, name, namespace)
        key = (resource, namespace if resource.namespaced else "", name)
        if key in self.stale:
            self.stale.discard(key)
            await self._commit("MODIFIED", resource, item)
        return str(item["metadata"]["resourceVersion"])

    async def delete(
        self, resource: Resource, name: str, namespace: str = "", uid: str = ""
    ) -> None:
        item = self._found(resource, name, namespace)
        if uid and item["metadata"]["uid"] != uid:
            raise Conflict("kube-conflict", "the uid is another's")
        if item["metadata"].get("finalizers"):
            changed = copy.deepcopy(item)
            changed["metadata"]["deletionTimestamp"] = rfc3339(self._clock.now())
            await self._store(resource, item, changed)
            return
        del self._objects[resource, namespace if resource.namespaced else "", name]
        await self._commit("DELETED", resource, item)


def _selected(item: Object, scope: Scope) -> bool:
    labels = item["metadata"].get("labels") or {}
    for term in filter(None, scope.label_selector.split(",")):
        name, equals, value = term.partition("=")
        if name not in labels or (equals and labels[name] != value):
            return False
    for term in filter(None, scope.field_selector.split(",")):
        path, _, value = term.partition("=")
        if str(_field(item, path)) != value:
            return False
    return True


def _field(item: Object, path: str) -> object:
    """The value at a dotted path; "" where there is none."""
    found: object = item
    for step in path.split("."):
        found = found.get(step, "") if isinstance(found, dict) else ""
    return found


def _shown(item: Object, scope: Scope) -> Object:
    shown = copy.deepcopy(item)
    if scope.metadata_only:
        return {key: shown[key] for key in ("apiVersion", "kind", "metadata")}
    return shown


def _encode_string_data(item: Object) -> None:
    import base64

    for key, value in (item.pop("stringData", None) or {}).items():
        item.setdefault("data", {})[key] = base64.b64encode(value.encode()).decode()


def _merge(target: Object, patch: Object) -> None:
    """RFC 7396: a null takes out, also in a part that is new."""
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict):
            if not isinstance(target.get(key), dict):
                target[key] = {}
            _merge(target[key], value)
        else:
            target[key] = copy.deepcopy(value)


def _leaves(item: Any, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:  # noqa: ANN401
    for key, value in item.items():
        path = (*prefix, key)
        if path in (("apiVersion",), ("kind",), ("metadata", "name"), ("metadata", "namespace")):
            continue
        if isinstance(value, dict) and value:
            yield from _leaves(value, path)
        elif path == _FINALIZERS and value:
            # The one list of metadata that is a set: each member has its manager.
            yield from ((*path, f'v:"{each}"') for each in value)
        else:
            yield path


def _step(name: str) -> str:
    """A step of a path as fieldsV1 has it."""
    return name if name.startswith("v:") else f"f:{name}"


def _managed(changed: Object, applied: Object, manager: str, when: str) -> Object:
    """Note the manager's fields, in the API's own fieldsV1 form."""
    fields: Object = {}
    for path in _leaves(applied):
        place = fields
        for name in path:
            place = place.setdefault(_step(name), {})
    entries = changed["metadata"].setdefault("managedFields", [])
    others = [each for each in entries if each.get("manager") != manager]
    changed["metadata"]["managedFields"] = [
        *others,
        {
            "manager": manager,
            "operation": "Apply",
            "time": when,
            "fieldsType": "FieldsV1",
            "fieldsV1": fields,
        },
    ]
    return changed


def _changes(before: Object, after: Object) -> list[tuple[str, ...]]:
    """The leaves that one write set."""

    def at(item: Object, path: tuple[str, ...]) -> Any:  # noqa: ANN401 - JSON
        place: Any = item
        for name in path:
            if isinstance(place, list):
                return name[3:-1] in place
            place = place.get(name) if isinstance(place, dict) else None
        return place

    return [path for path in _leaves(after) if at(before, path) != at(after, path)]


def _updated(
    item: Object, changed: Iterable[tuple[str, ...]], manager: str, when: str, subresource: str = ""
) -> None:
    """Note a plain write: what it set is the manager's since then, and nobody else's."""
    ours: Object = {}
    for path in changed:
        if path[0] == "metadata" and path[1] in (*_SERVER_FIELDS, "managedFields"):
            continue
        for entry in item["metadata"].get("managedFields", []):
            _disown(entry["fieldsV1"], path)
        place = ours
        for name in path:
            place = place.setdefault(_step(name), {})
    entries = item["metadata"].setdefault("managedFields", [])
    for entry in entries:
        held = entry.get("manager"), entry.get("operation"), entry.get("subresource", "")
        if held == (manager, "Update", subresource):
            _merge(entry["fieldsV1"], ours)
            entry["time"] = when if ours else entry["time"]
            return
    if ours:
        entry = {"manager": manager, "operation": "Update", "fieldsType": "FieldsV1"}
        at = {"subresource": subresource} if subresource else {}
        entries.append({**entry, **at, "time": when, "fieldsV1": ours})


def _disown(fields: Object, path: tuple[str, ...]) -> None:
    place = fields
    for name in path[:-1]:
        place = place.get(_step(name)) or {}
    place.pop(_step(path[-1]), None)


def _owned(item: Object, manager: str) -> set[tuple[str, ...]]:
    def walk(fields: Object, prefix: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        for name, inner in fields.items():
            path = (*prefix, name.removeprefix("f:"))
            if inner:
                yield from walk(inner, path)
            else:
                yield path

    for entry in item["metadata"].get("managedFields", []):
        if entry.get("manager") == manager:
            return set(walk(entry["fieldsV1"], ()))
    return set()


def _remove(item: Object, path: tuple[str, ...]) -> None:
    place = item
    for name in path[:-1]:
        place = place.get(name) or {}
    if isinstance(place, list):
        place[:] = [each for each in place if each != path[-1][3:-1]]
    else:
        place.pop(path[-1], None)
