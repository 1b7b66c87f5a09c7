"""The target that should be, and what differs in the one that is. Pure.

Labels, annotations, hashes and the field manager are External Secrets Operator's own, so that
either controller finds the other's Secrets in order.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from strongroom.kube.resource import Object
from strongroom.model.errors import Conflict
from strongroom.sync.providers.contract import Version
from strongroom.sync.render import NOT_COPIED, Rendered
from strongroom.sync.spec import Spec

MANAGED: Final = "reconcile.external-secrets.io/managed"
CREATED_BY: Final = "reconcile.external-secrets.io/created-by"
DATA_HASH: Final = "reconcile.external-secrets.io/data-hash"
SOURCE_VERSIONS: Final = "strongroom.dev/source-versions"
# Of them a column has so many.
MOST_SHOWN: Final = 3
# The shape of a target that is no Secret, which is applied as a whole.
MANIFEST: Final = ("manifest",)
OPAQUE: Final = "Opaque"
_OWN: Final = "externalsecrets.external-secrets.io/"
# Kept up to date with what else is written; alone they are no reason to write.
_ALONG: Final = (DATA_HASH, SOURCE_VERSIONS)


@dataclass(frozen=True, slots=True)
class Difference:
    """What is wrong with a target: names of keys, never values."""

    missing: bool = False
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    annotations: tuple[str, ...] = ()
    shape: tuple[str, ...] = ()

    @property
    def any(self) -> bool:
        """Whether something has to be written."""
        return self.of_data or bool(self.labels or self.annotations or self.shape)

    @property
    def of_data(self) -> bool:
        """Whether values differ."""
        return bool(self.missing or self.changed or self.removed or self.added)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The target of one ExternalSecret.

    `hashed`: whether the data's hash is written at it. `source`: kind, name and uid of the
    ExternalSecret, of which no other reference is to be there than `owner`.
    """

    name: str
    namespace: str
    data: Mapping[str, bytes] = field(repr=False)
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    owner: Object | None
    type: str
    finalizers: tuple[str, ...]
    immutable: bool
    manager: str
    whole: bool
    hashed: bool = True
    source: Object = field(default_factory=dict)


def field_manager(name: str) -> str:
    """The manager all fields written for an ExternalSecret belong to."""
    full = f"{_OWN}{name}"
    return full if len(full) <= 63 else hashlib.sha3_224(full.encode()).hexdigest()


def created_by(namespace: str, name: str) -> str:
    """The label that ties a Secret to its ExternalSecret."""
    return hashlib.sha3_224(f"{namespace}/{name}".encode()).hexdigest()


def synced_version(item: Object) -> str:
    """Generation, and a hash of labels and annotations: any change of them asks for a refresh."""
    metadata = item["metadata"]

    def go_map(values: Mapping[str, str] | None) -> str:
        pairs = sorted((values or {}).items())
        return "map[" + " ".join(f"{key}:{each}" for key, each in pairs) + "]"

    annotations, labels = go_map(metadata.get("annotations")), go_map(metadata.get("labels"))
    text = f"{{annotations:{annotations} labels:{labels}}}"
    return f"{metadata.get('generation', 0)}-{hashlib.sha3_224(text.encode()).hexdigest()}"


def shown_versions(annotations: Mapping[str, str]) -> str:
    """The versions that a target names as a column has them: `prod/db@3, prod/tls@7`."""
    try:
        versions = dict(json.loads(annotations.get(SOURCE_VERSIONS, "{}")))
    except (TypeError, ValueError):
        return ""  # A template may write what it likes there.
    shown = [f"{path}@{version}" for path, version in sorted(versions.items())]
    more = [f"{len(shown) - MOST_SHOWN} more"] if len(shown) > MOST_SHOWN else []
    return ", ".join([*shown[:MOST_SHOWN], *more])


def data_hash(data: Mapping[str, bytes]) -> str:
    """The other controller's hash of a Secret's data: SHA3-224 of Go's `%+v` of the map."""
    inner = " ".join(f"{key}:[{' '.join(map(str, value))}]" for key, value in sorted(data.items()))
    return hashlib.sha3_224(f"map[{inner}]".encode()).hexdigest()


def build(
    item: Object, spec: Spec, made: Rendered, versions: Mapping[str, Version], *, hashed: bool
) -> Wanted:
    """The target as it should be."""
    metadata = item["metadata"]
    labels = {**made.labels, MANAGED: "true"}
    owner = None
    if spec.creation == "Owner":
        labels[CREATED_BY] = created_by(metadata["namespace"], metadata["name"])
        owner = owner_reference(item)
    annotations = dict(made.annotations)
    if versions:
        annotations[SOURCE_VERSIONS] = json.dumps(dict(sorted(versions.items())))
    return Wanted(
        name=spec.target,
        namespace=metadata["namespace"],
        data=made.data,
        labels=labels,
        annotations=annotations,
        owner=owner,
        type=made.type,
        finalizers=made.finalizers,
        immutable=spec.immutable,
        manager=field_manager(metadata["name"]),
        whole=spec.whole,
        hashed=hashed,
        source=owner_reference(item),
    )


def owner_reference(item: Object) -> Object:
    """The controlling reference to an object."""
    return {
        "apiVersion": item["apiVersion"],
        "kind": item["kind"],
        "name": item["metadata"]["name"],
        "uid": item["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def refers_to(reference: Mapping[str, Any], owner: Mapping[str, Any]) -> bool:
    """Whether a reference is to this object, or to one of its kind and name that was before it.

    After a restore, or when an object is deleted and made again, its uid is another.
    """

    def place(one: Mapping[str, Any]) -> tuple[str, ...]:
        group = str(one.get("apiVersion")).partition("/")[0]
        return group, str(one.get("kind")), str(one.get("name"))

    same = place(reference) == place(owner)
    return reference.get("uid") == owner.get("uid") or (same and bool(reference.get("controller")))


def compare(current: Object | None, wanted: Wanted) -> Difference:
    """What has to be repaired.

    In a Secret that is the ExternalSecret's alone every other key counts; in a shared one only
    keys that it wrote before and wants no longer.
    """
    if current is None:
        return Difference(missing=True)
    have, want = secret_data(current), wanted.data
    owned = owned_fields(current, wanted.manager)
    foreign = [key for key in have if key not in want]
    kept = current["metadata"]
    annotations = [
        key
        for key in _wrong(kept.get("annotations"), wanted.annotations, owned, "annotations")
        # What another ExternalSecret of the same Secret says of it has to stand beside ours.
        if key not in _ALONG or not _said_by_another(current, wanted.manager, key)
    ]
    return Difference(
        changed=tuple(key for key in want if key in have and have[key] != want[key]),
        removed=tuple(key for key in want if key not in have),
        added=tuple(key for key in foreign if wanted.whole or ("data", key) in owned),
        labels=_wrong(kept.get("labels"), wanted.labels, owned, "labels"),
        annotations=tuple(annotations),
        shape=_shape(current, wanted),
    )


def _said_by_another(current: Object, manager: str, key: str) -> bool:
    """Whether another ExternalSecret wrote an annotation last."""
    others = {
        str(each.get("manager"))
        for each in current["metadata"].get("managedFields") or []
        if each.get("manager") != manager and str(each.get("manager")).startswith(_OWN)
    }
    return any(("annotations", key) in owned_fields(current, each) for each in others)


def _wrong(
    have: Mapping[str, str] | None,
    want: Mapping[str, str],
    owned: frozenset[tuple[str, str]],
    part: str,
) -> tuple[str, ...]:
    held = have or {}
    wrong = [
        key
        for key, value in want.items()
        if held.get(key) != value and (key not in _ALONG or key in held)
    ]
    left = [
        key
        for key in held
        if key not in want
        and (part, key) in owned
        and key not in (MANAGED, *_ALONG)
        and not key.startswith(NOT_COPIED)
    ]
    return tuple(wrong + left)


def _shape(current: Object, wanted: Wanted) -> tuple[str, ...]:
    references = current["metadata"].get("ownerReferences") or []
    ours = [each.get("uid") for each in references if refers_to(each, wanted.source)]
    found = []
    if ours != ([wanted.owner["uid"]] if wanted.owner is not None else []):
        found.append("ownerReferences")
    if wanted.immutable and not current.get("immutable"):
        found.append("immutable")
    if _finalizers(current, wanted) != (current["metadata"].get("finalizers") or []):
        found.append("finalizers")
    return tuple(found)


def _finalizers(current: Object, wanted: Wanted) -> list[str]:
    """Those that there should be: others' stay, and those that it gave before go."""
    held = current["metadata"].get("finalizers") or []
    given = owned_finalizers(current, wanted.manager) - set(wanted.finalizers)
    kept = [each for each in held if each not in given]
    return kept + [each for each in wanted.finalizers if each not in kept]


def immutable(name: str) -> Conflict:
    """The refusal to change a Secret that cannot be changed."""
    return Conflict(
        "immutable",
        f"the Secret {name} is immutable and its values have changed",
        hint="delete the Secret, or name a new target",
    )


def check_changeable(current: Object, wanted: Wanted, difference: Difference) -> None:
    """Refuse what the API server would refuse; raises Conflict that is not tried again."""
    if current.get("immutable") and difference.of_data:
        raise immutable(wanted.name)
    kind = current.get("type") or OPAQUE
    if wanted.type and kind != wanted.type:
        raise Conflict(
            "type-immutable",
            f"the Secret {wanted.name} has the type {kind} and cannot become {wanted.type}",
            hint="delete the Secret, or name a new target",
        )


def secret_data(current: Object) -> dict[str, bytes]:
    """The decoded data of a Secret."""
    return {key: base64.b64decode(each or "") for key, each in (current.get("data") or {}).items()}


def new_secret(wanted: Wanted) -> Object:
    """The Secret to create."""
    metadata: Object = {
        "name": wanted.name,
        "namespace": wanted.namespace,
        "labels": dict(wanted.labels),
        "annotations": {**wanted.annotations, **_hash_of(wanted, wanted.data)},
    }
    if wanted.owner is not None:
        metadata["ownerReferences"] = [wanted.owner]
    if wanted.finalizers:
        metadata["finalizers"] = list(wanted.finalizers)
    made: Object = {"metadata": metadata, "type": wanted.type or OPAQUE}
    made["data"] = {key: _encoded(each) for key, each in sorted(wanted.data.items())}
    return made | ({"immutable": True} if wanted.immutable else {})


def repair(current: Object, wanted: Wanted, difference: Difference) -> Object:
    """The merge patch (RFC 7396) that makes it right, on the version that was looked at."""
    metadata: Object = {"resourceVersion": current["metadata"]["resourceVersion"]}
    data: dict[str, Any] = {
        key: _encoded(wanted.data[key]) for key in (*difference.changed, *difference.removed)
    }
    data |= dict.fromkeys(difference.added)
    after = {**secret_data(current), **wanted.data}
    for key in difference.added:
        after.pop(key, None)
    labels = {key: wanted.labels.get(key) for key in difference.labels}
    annotations = {key: wanted.annotations.get(key) for key in difference.annotations}
    annotations |= {key: wanted.annotations[key] for key in _ALONG if key in wanted.annotations}
    annotations |= _hash_of(wanted, after)
    metadata |= {"annotations": annotations} | ({"labels": labels} if labels else {})
    kept = current["metadata"]
    if "ownerReferences" in difference.shape:
        held = kept.get("ownerReferences") or []
        others = [each for each in held if not refers_to(each, wanted.source)]
        metadata["ownerReferences"] = others + ([wanted.owner] if wanted.owner else []) or None
    if "finalizers" in difference.shape:
        metadata["finalizers"] = _finalizers(current, wanted) or None
    patch: Object = {"metadata": metadata} | ({"data": data} if data else {})
    return patch | ({"immutable": True} if "immutable" in difference.shape else {})


def _hash_of(wanted: Wanted, data: Mapping[str, bytes]) -> dict[str, str]:
    return {DATA_HASH: data_hash(data)} if wanted.hashed else {}


def _encoded(value: bytes) -> str:
    return base64.b64encode(value).decode()


def owned_finalizers(current: Object, manager: str) -> frozenset[str]:
    """The finalizers that a manager put there, from managedFields (`v:"NAME"`)."""
    found: set[str] = set()
    for entry in current["metadata"].get("managedFields") or []:
        if entry.get("manager") == manager:
            fields = (entry.get("fieldsV1") or {}).get("f:metadata", {}).get("f:finalizers") or {}
            found |= {json.loads(each[2:]) for each in fields if each.startswith("v:")}
    return frozenset(found)


def owned_fields(current: Object, manager: str) -> frozenset[tuple[str, str]]:
    """Keys of data, labels and annotations that a manager wrote last, from managedFields."""
    found: set[tuple[str, str]] = set()
    for entry in current["metadata"].get("managedFields") or []:
        if entry.get("manager") != manager:
            continue
        fields = entry.get("fieldsV1") or {}
        metadata = fields.get("f:metadata") or {}
        for part, held in (
            ("data", fields.get("f:data")),
            ("labels", metadata.get("f:labels")),
            ("annotations", metadata.get("f:annotations")),
        ):
            found |= {(part, key[2:]) for key in held or {} if key.startswith("f:")}
    return frozenset(found)
