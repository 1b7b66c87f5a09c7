"""Which kind of object, and the paths it lives under.

Paths: https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris.
"""

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from strongroom.model.errors import Invalid

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Resource:
    """A served kind; `group` is "" for the core group."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """What objects say in `apiVersion`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The path of an object, or of the collection when there is no name.

        Raises Invalid(`bad-name`) for a name that no object has and that leads elsewhere.
        """
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        parts = [root]
        if self.namespaced and namespace:
            parts += ["namespaces", _segment(namespace)]
        parts += [_segment(each) for each in (self.plural, name, subresource) if each]
        return "/".join(parts)


def _segment(name: str) -> str:
    """A name as one segment of a path.

    Names come from manifests, which may hold anything, and are asked for by the operator's rights:
    `../../kube-system/secrets/x` would be another namespace's. Encoding is no way out, for the
    other side decodes before it looks for slashes. The API server allows none of these either.
    """
    if name in (".", "..") or "/" in name or "%" in name:
        raise Invalid(
            "bad-name",
            f"{name[:253]!r} is no name of an object",
            hint="names have no slashes and percent signs, and are not . or ..",
        )
    return quote(name, safe=":")


SECRETS: Final = Resource("", "v1", "secrets", "Secret")
PODS: Final = Resource("", "v1", "pods", "Pod")
CONFIG_MAPS: Final = Resource("", "v1", "configmaps", "ConfigMap")
NAMESPACES: Final = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
SERVICE_ACCOUNTS: Final = Resource("", "v1", "serviceaccounts", "ServiceAccount")
EVENTS: Final = Resource("events.k8s.io", "v1", "events", "Event")
LEASES: Final = Resource("coordination.k8s.io", "v1", "leases", "Lease")
TOKEN_REVIEWS: Final = Resource(
    "authentication.k8s.io", "v1", "tokenreviews", "TokenReview", namespaced=False
)
CRDS: Final = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition",
    namespaced=False,
)  # fmt: skip
RBAC: Final = "rbac.authorization.k8s.io"
ROLES: Final = Resource(RBAC, "v1", "roles", "Role")
ROLE_BINDINGS: Final = Resource(RBAC, "v1", "rolebindings", "RoleBinding")
CLUSTER_ROLES: Final = Resource(RBAC, "v1", "clusterroles", "ClusterRole", namespaced=False)
CLUSTER_ROLE_BINDINGS: Final = Resource(
    RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False
)


def has_moved(old: Object | None, new: Object | None, *parts: str) -> bool:
    """Whether one of these parts of the metadata is another; so it is when either is missing."""
    if old is None or new is None:
        return True
    before, after = old["metadata"], new["metadata"]
    return any(before.get(part) != after.get(part) for part in parts)


def key_of(item: Object) -> tuple[str, str]:
    """Namespace and name."""
    metadata = item["metadata"]
    return metadata.get("namespace", ""), metadata["name"]
