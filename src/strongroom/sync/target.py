"""Writes the target of an ExternalSecret: one write when something differs, none otherwise."""

import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from strongroom.kube.api import KubeApi
from strongroom.kube.resource import CONFIG_MAPS, SECRETS, Object, Resource
from strongroom.model.digits import whole_number
from strongroom.model.errors import Conflict, Invalid, NotFound
from strongroom.sync.desired import (
    CREATED_BY,
    DATA_HASH,
    MANIFEST,
    SOURCE_VERSIONS,
    Difference,
    Wanted,
    check_changeable,
    compare,
    created_by,
    data_hash,
    immutable,
    new_secret,
    repair,
)
from strongroom.sync.drift import check_consent, foreign_writes
from strongroom.sync.render import Rendered
from strongroom.sync.spec import Manifest, Spec
from strongroom.sync.status import holds

ATTEMPTS: Final = 4
# Which kind a target manifest means.
ResolveKind = Callable[[Manifest], Awaitable[Resource]]


async def config_maps_only(manifest: Manifest) -> Resource:
    """The kinds that need no discovery. A ResolveKind."""
    if (manifest.api_version, manifest.kind) == ("v1", "ConfigMap"):
        return CONFIG_MAPS
    raise Invalid(
        "unknown-kind",
        f"target.manifest {manifest.api_version} {manifest.kind} is not allowed",
        hint="start the operator with --unsafe-allow-generic-targets",
    )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a write found and did: `before` is what was there, `version` what is there now.

    `sources` says which versions of the secrets at the stores were written.
    """

    difference: Difference
    before: Object | None
    version: str
    absent: bool = False
    sources: str = ""
    # Whether the difference is somebody else's doing, which was not told yet.
    drifted: bool = False


class Targets:
    """The targets in one cluster."""

    def __init__(self, api: KubeApi, resolve: ResolveKind = config_maps_only) -> None:
        self._api = api
        # The kind that a target manifest means; raises a Refusal for one that is not served.
        self.kind_of = resolve

    async def write(
        self, item: Object, spec: Spec, wanted: Wanted, known: Object | None, *, may_create: bool
    ) -> Outcome:
        """Bring the Secret in order; `known` is its metadata as last seen, None when unseen.

        Raises Conflict when it is not ours, or cannot be changed.
        """
        if known is not None and in_order(known, wanted):
            return Outcome(Difference(), known, known["metadata"]["resourceVersion"])
        current = None
        if known is None and may_create:
            try:
                made = await self._api.create(SECRETS, new_secret(wanted), manager=wanted.manager)
            except Conflict:
                pass
            else:
                return Outcome(Difference(missing=True), None, _version(made))
        for attempt in range(ATTEMPTS):
            current = await self.current(wanted.namespace, wanted.name)
            try:
                return await self._write_on(item, spec, wanted, current, may_create=may_create)
            except (Conflict, NotFound) as refusal:
                # Somebody was faster; look again.
                if attempt == ATTEMPTS - 1 or not refusal.code.startswith("kube-"):
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def _write_on(
        self, item: Object, spec: Spec, wanted: Wanted, current: Object | None, *, may_create: bool
    ) -> Outcome:
        difference = change_of(item, spec, current, wanted)
        if current is None:
            if not may_create:
                return Outcome(Difference(), None, "", absent=True)
            made = await self._api.create(SECRETS, new_secret(wanted), manager=wanted.manager)
            return Outcome(difference, None, _version(made))
        if not difference.any:
            return Outcome(difference, current, _version(current))
        patch = repair(current, wanted, difference)
        made = await self._api.merge_patch(
            SECRETS, wanted.name, wanted.namespace, patch, manager=wanted.manager
        )
        return Outcome(difference, current, _version(made))

    async def check_free(self, item: Object, spec: Spec) -> bool:
        """Whether there is a target for what would be made, or one may be created.

        Raises Conflict as a write would, for one that is another's or cannot be changed.
        """
        if spec.creation == "None":
            return True
        current = await self.found(item, spec)
        if current is None:
            return spec.creation != "Merge"
        if spec.manifest is None and current.get("immutable"):
            raise immutable(spec.target)
        return True

    async def found(self, item: Object, spec: Spec) -> Object | None:
        """The target as it is; raises Conflict for one that is somebody else's."""
        resource = await self._resource(spec)
        current = await self._there(resource, item["metadata"]["namespace"], spec.target)
        if current is not None:
            check_consent(item, spec, current)
        return current

    async def current(self, namespace: str, name: str) -> Object | None:
        """The Secret as it is."""
        return await self._there(SECRETS, namespace, name)

    async def _resource(self, spec: Spec) -> Resource:
        return SECRETS if spec.manifest is None else await self.kind_of(spec.manifest)

    async def _there(self, resource: Resource, namespace: str, name: str) -> Object | None:
        try:
            return await self._api.get(resource, name, namespace)
        except NotFound:
            return None

    async def delete(self, item: Object, spec: Spec) -> bool:
        """Delete the target if it is there and ours; whether it was."""
        resource, namespace = await self._resource(spec), item["metadata"]["namespace"]
        current = await self._there(resource, namespace, spec.target)
        if current is None:
            return False
        check_consent(item, spec, current)
        try:
            await self._api.delete(resource, spec.target, namespace, current["metadata"]["uid"])
        except NotFound:
            return False
        return True

    async def delete_orphan(self, item: Object, orphan: Object) -> bool:
        """Delete a Secret made for this ExternalSecret under a name it no longer has."""
        metadata = orphan["metadata"]
        labels = metadata.get("labels") or {}
        ours = created_by(item["metadata"]["namespace"], item["metadata"]["name"])
        owners = {each.get("uid") for each in metadata.get("ownerReferences") or []}
        if labels.get(CREATED_BY) != ours or item["metadata"]["uid"] not in owners:
            return False
        try:
            await self._api.delete(
                SECRETS, metadata["name"], metadata["namespace"], metadata.get("uid", "")
            )
        except (NotFound, Conflict):
            return False
        return True

    async def manifest_there(
        self, manifest: Manifest, wanted: Wanted
    ) -> tuple[Resource, Object | None]:
        """The kind of a target that is no Secret, and what is there."""
        resource = await self.kind_of(manifest)
        return resource, await self._there(resource, wanted.namespace, wanted.name)

    async def write_manifest(
        self, item: Object, spec: Spec, wanted: Wanted, made: Rendered
    ) -> Outcome:
        """Bring a target that is no Secret in order, by server-side apply as one manager."""
        if spec.manifest is None:
            raise AssertionError("a Secret is written by write()")
        resource, current = await self.manifest_there(spec.manifest, wanted)
        check_consent(item, spec, current)
        if current is None and spec.creation == "Merge":
            return Outcome(Difference(), None, "", absent=True)
        item_wanted = manifest_object(resource, wanted, made)
        if current is not None and holds(current, item_wanted):
            return Outcome(Difference(), current, _version(current))
        applied = await self._api.apply(resource, item_wanted, wanted.manager)
        if current is not None and _version(applied) == _version(current):
            return Outcome(Difference(), current, _version(current))
        changed = Difference(missing=current is None, shape=MANIFEST)
        return Outcome(changed, current, _version(applied))


def change_of(item: Object, spec: Spec, current: Object | None, wanted: Wanted) -> Difference:
    """What a write would change of a Secret; raises Conflict when it may not. Pure."""
    check_consent(item, spec, current)
    difference = compare(current, wanted)
    if current is not None:
        check_changeable(current, wanted, difference)
    return difference


def missing_paths(current: Any, wanted: Any, path: str = "") -> list[str]:  # noqa: ANN401 - JSON
    """The dotted paths of what is not there as it is wanted. Pure."""
    if holds(current, wanted):
        return []
    if not isinstance(wanted, dict) or not isinstance(current, dict | None) or not wanted:
        return [path]
    found: list[str] = []
    for key, each in wanted.items():
        there = (current or {}).get(key)
        found += missing_paths(there, each, f"{path}.{key}" if path else key)
    return found


def in_order(known: Object, wanted: Wanted) -> bool:
    """Whether metadata alone shows that the Secret is right. Pure.

    Its hash is that of the wanted data, and nobody else has written data since.
    """
    metadata = known["metadata"]
    annotations = metadata.get("annotations") or {}
    if not wanted.whole or annotations.get(DATA_HASH) != data_hash(wanted.data):
        return False
    if wanted.immutable or wanted.type or wanted.finalizers or metadata.get("finalizers"):
        # Whose finalizers are there, only the whole object tells.
        return False
    if foreign_writes(metadata, wanted.manager):
        return False
    difference = compare({**known, "data": _encoded(wanted)}, wanted)
    return not difference.any


def _encoded(wanted: Wanted) -> dict[str, str]:
    return {key: base64.b64encode(each).decode() for key, each in wanted.data.items()}


def manifest_object(resource: Resource, wanted: Wanted, made: Rendered) -> Object:
    """The object to apply: a ConfigMap's data, or values at the dotted paths of templates."""
    labels = dict(wanted.labels)
    annotations = {
        key: value for key, value in wanted.annotations.items() if key != SOURCE_VERSIONS
    }
    metadata: Object = {
        "name": wanted.name,
        "namespace": wanted.namespace,
        "labels": labels,
        "annotations": annotations,
    }
    if wanted.owner is not None:
        metadata["ownerReferences"] = [wanted.owner]
    item: Object = {"metadata": metadata}
    if resource == CONFIG_MAPS:
        item["data"] = {key: _text(key, each) for key, each in made.data.items()}
    elif made.data:
        for key, value in made.data.items():
            place_at(item, f"spec.data.{key}", _text(key, value))
    for path, value in sorted(made.paths.items()):
        place_at(item, path, value)
    return item


def place_at(item: Object, path: str, value: Any) -> None:  # noqa: ANN401 - JSON
    """Put a value at a dotted path with `[n]` for places in lists; raises Invalid."""
    steps = _path_steps(path)
    place: Any = item
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        empty: Any = value if following is None else [] if isinstance(following, int) else {}
        held: Any = None
        if isinstance(step, int) and isinstance(place, list):
            place.extend([None] * (step + 1 - len(place)))
            held = place[step]
        elif isinstance(step, str) and isinstance(place, dict):
            held = place.get(step)
        else:
            raise Invalid("bad-template-target", f"{path!r} crosses what is no object or list")
        inside: Any = place
        if following is None or held is None:
            inside[step] = empty
        place = inside[step]


def _path_steps(path: str) -> list[str | int]:
    steps: list[str | int] = []
    for part in path.split("."):
        name, *indices = part.replace("]", "").split("[")
        numbers = [number for each in indices if (number := whole_number(each)) is not None]
        if not name or len(numbers) < len(indices) or max(numbers, default=0) >= 1000:
            raise Invalid("bad-template-target", f"the path {path!r} cannot be followed")
        steps += [name, *numbers]
    if steps[0] in ("apiVersion", "kind", "metadata"):
        raise Invalid("bad-template-target", f"{steps[0]} is not for templates")
    return steps


def _text(key: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Invalid(
            "no-text", f"the value of {key} is no text; only a Secret holds bytes"
        ) from None


def _version(item: Object) -> str:
    return str(item["metadata"]["resourceVersion"])


def trim_secret(item: Object) -> None:
    """Keep of a Secret's metadata what the decisions need: who wrote data, and no field lists."""
    metadata = item["metadata"]
    entries = metadata.pop("managedFields", None) or []
    metadata["managedFields"] = [
        {
            "manager": each.get("manager", ""),
            "time": each.get("time"),
            "fieldsV1": {"f:data": {}},
        }
        for each in entries
        if "f:data" in (each.get("fieldsV1") or {})
    ]
    (metadata.get("annotations") or {}).pop("kubectl.kubernetes.io/last-applied-configuration", "")
