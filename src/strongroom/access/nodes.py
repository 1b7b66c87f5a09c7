"""The nodes that can read a Secret because a pod on them names it. Pure over pods.

That is the Node authorizer's rule, and no role's:
https://kubernetes.io/docs/reference/access-authn-authz/node/.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from strongroom.model.reach import Reach

# Where a pod's specification names a Secret, beside `secretName`.
_REFERENCES: Final = (
    "secretRef", "secretKeyRef", "nodePublishSecretRef", "secret", "imagePullSecrets",
)  # fmt: skip


def nodes_that_read(pods: Iterable[Mapping[str, Any]], namespace: str, name: str) -> list[Reach]:
    """Each node that runs such a pod, with the first of its pods."""
    users: dict[str, list[str]] = {}
    for pod in pods:
        spec, metadata = pod.get("spec") or {}, pod["metadata"]
        if metadata["namespace"] != namespace or not spec.get("nodeName"):
            continue
        if name in secrets_of(spec):
            users.setdefault(spec["nodeName"], []).append(metadata["name"])
    found = []
    for node, names in sorted(users.items()):
        more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
        rule = f"Node authorizer: pod {namespace}/{min(names)}{more} names it"
        found.append(Reach("User", f"system:node:{node}", "get list watch", rule))
    return found


def secrets_of(spec: object) -> set[str]:
    """The Secrets that a pod's specification names, in volumes, environments and pull secrets."""
    return {name for name in _named(spec) if isinstance(name, str)}


def _named(part: object) -> Iterator[object]:
    if isinstance(part, list):
        for each in part:
            yield from _named(each)
    elif isinstance(part, Mapping):
        for key, inside in part.items():
            if key == "secretName":
                yield inside
            elif key in _REFERENCES:
                references = inside if isinstance(inside, list) else [inside]
                yield from (each.get("name") for each in references if isinstance(each, Mapping))
            yield from _named(inside)
