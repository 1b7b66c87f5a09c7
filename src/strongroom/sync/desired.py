"""The Secret that should be, what differs in the one that is, and who changed it. Pure."""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from strongroom.kube.resource import Object
from strongroom.model.errors import Conflict
from strongroom.sync.spec import Spec

MANAGED: Final = "reconcile.external-secrets.io/managed"
CREATED_BY: Final = "reconcile.external-secrets.io/created-by"
SOURCE_VERSIONS: Final = "strongroom.dev/source-versions"
ADOPT: Final = "strongroom.dev/adopt"
_NOT_COPIED: Final = ("kubectl.kubernetes.io/", "strongroom.dev/")


@dataclass(frozen=True, slots=True)
class Difference:
    """What is wrong with a Secret: names of keys, never values."""

    missing: bool = False
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    metadata: bool = False

    @property
    def any(self) -> bool:
        """Whether something has to be written."""
        return bool(self.missing or self.changed or self.removed or self.added or self.metadata)

    @property
    def of_data(self) -> bool:
        """Whether values differ."""
        return bool(self.missing or self.changed or self.removed or self.added)


def field_manager(name: str) -> str:
    """The manager all fields written for an ExternalSecret belong to."""
    full = f"externalsecrets.external-secrets.io/{name}"
    return full if len(full) <= 63 else hashlib.sha3_224(full.encode()).hexdigest()


def created_by(namespace: str, name: str) -> str:
    """The label that ties a Secret to its ExternalSecret."""
    return hashlib.sha3_224(f"{namespace}/{name}".encode()).hexdigest()


def synced_version(item: Object) -> str:
    """Generation, and a hash of labels and annotations: any change of them asks for a refresh."""
    metadata = item["metadata"]

    def go_map(values: Mapping[str, str] | None) -> str:
        return (
            "map[" + " ".join(f"{key}:{each}" for key, each in sorted((values or {}).items())) + "]"
        )

    annotations, labels = go_map(metadata.get("annotations")), go_map(metadata.get("labels"))
    text = f"{{annotations:{annotations} labels:{labels}}}"
    return f"{metadata.get('generation', 0)}-{hashlib.sha3_224(text.encode()).hexdigest()}"


def build(
    item: Object, spec: Spec, data: Mapping[str, bytes], versions: Mapping[str, int]
) -> Object:
    """The Secret to apply."""
    metadata = item["metadata"]
    labels = {**_copied(metadata.get("labels")), MANAGED: "true"}
    annotations = {
        **_copied(metadata.get("annotations")),
        SOURCE_VERSIONS: json.dumps(dict(sorted(versions.items()))),
    }
    wanted: Object = {
        "metadata": {
            "name": spec.target,
            "namespace": metadata["namespace"],
            "labels": labels,
            "annotations": annotations,
        },
        "data": {key: base64.b64encode(value).decode() for key, value in sorted(data.items())},
    }
    if spec.creation == "Owner":
        labels[CREATED_BY] = created_by(metadata["namespace"], metadata["name"])
        wanted["metadata"]["ownerReferences"] = [
            {
                "apiVersion": item["apiVersion"],
                "kind": item["kind"],
                "name": metadata["name"],
                "uid": metadata["uid"],
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ]
    if spec.creation in ("Owner", "Orphan"):
        wanted["type"] = "Opaque"
    if spec.immutable:
        wanted["immutable"] = True
    return wanted


def _copied(values: Mapping[str, str] | None) -> dict[str, str]:
    return {key: each for key, each in (values or {}).items() if not key.startswith(_NOT_COPIED)}


def compare(current: Object | None, wanted: Object, *, whole: bool) -> Difference:
    """What has to be repaired; with `whole`, keys that are not wanted count as well."""
    if current is None:
        return Difference(missing=True)
    have, want = current.get("data") or {}, wanted["data"]
    kept = current["metadata"]
    return Difference(
        changed=tuple(key for key in want if key in have and have[key] != want[key]),
        removed=tuple(key for key in want if key not in have),
        added=tuple(key for key in have if key not in want) if whole else (),
        metadata=any(
            (kept.get(part) or {}).get(key) != value
            for part in ("labels", "annotations")
            for key, value in wanted["metadata"][part].items()
        ),
    )


def check_consent(item: Object, spec: Spec, current: Object | None) -> None:
    """Refuse to take over what somebody else made; raises Conflict(`not-ours`)."""
    if current is None or spec.creation != "Owner":
        return
    metadata = current["metadata"]
    owner = next(
        (each for each in metadata.get("ownerReferences") or [] if each.get("controller")), None
    )
    if owner is not None:
        if owner.get("uid") == item["metadata"]["uid"]:
            return
        raise Conflict(
            "not-ours",
            f"the Secret {spec.target} belongs to {owner.get('kind')} {owner.get('name')}",
            hint="choose another target.name",
        )
    label = (metadata.get("labels") or {}).get(CREATED_BY)
    if label == created_by(item["metadata"]["namespace"], item["metadata"]["name"]):
        return
    if (item["metadata"].get("annotations") or {}).get(ADOPT) != "true":
        raise Conflict(
            "not-ours",
            f"the Secret {spec.target} is there already and has no owner; it is left alone",
            hint=f"annotate the ExternalSecret with {ADOPT}=true, or use creationPolicy Merge",
        )


def actor(current: Object, ours: str) -> str:
    """Who changed the data last, from managedFields; "" when only we did."""
    entries = [
        each
        for each in current["metadata"].get("managedFields") or []
        if each.get("manager") != ours and "f:data" in (each.get("fieldsV1") or {})
    ]
    if not entries:
        return ""
    latest = max(entries, key=lambda each: str(each.get("time", "")))
    when = f" at {latest['time']}" if latest.get("time") else ""
    return f"{latest.get('manager', 'somebody')} ({latest.get('operation', 'Update')}{when})"


def describe(difference: Difference, target: str) -> str:
    """A sentence for an Event."""
    if difference.missing:
        return f"Secret {target} was deleted"
    parts = [
        f"{word} {', '.join(sorted(keys))}"
        for word, keys in (
            ("changed", difference.changed),
            ("removed", difference.removed),
            ("added", difference.added),
        )
        if keys
    ]
    return f"Secret {target} differed: {'; '.join(parts) or 'labels or annotations'}"
