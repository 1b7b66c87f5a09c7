"""Where the API server keeps which resource in etcd, and which resource a key is of. Pure.

Source: kubernetes/kubernetes pkg/kubeapiserver/default_storage_factory_builder.go, and
pkg/registry/*/rest for the built-in groups, whose names are not in the key.
"""

from typing import Final

DEFAULT_PREFIX: Final = "/registry"
# Resources whose folder has another name than they have.
_FOLDERS: Final = {
    "nodes": "minions",
    "services": "services/specs",
    "endpoints": "services/endpoints",
    "replicationcontrollers": "controllers",
    "ingresses.networking.k8s.io": "ingress",
}
_BUILT_IN: Final = {
    "": (
        "configmaps", "endpoints", "events", "limitranges", "namespaces", "nodes",
        "persistentvolumeclaims", "persistentvolumes", "pods", "podtemplates",
        "replicationcontrollers", "resourcequotas", "secrets", "serviceaccounts", "services",
    ),
    "admissionregistration.k8s.io": (
        "mutatingadmissionpolicies", "mutatingadmissionpolicybindings",
        "mutatingwebhookconfigurations", "validatingadmissionpolicies",
        "validatingadmissionpolicybindings", "validatingwebhookconfigurations",
    ),
    "apps": (
        "controllerrevisions", "daemonsets", "deployments", "replicasets", "statefulsets",
    ),
    "autoscaling": ("horizontalpodautoscalers",),
    "batch": ("cronjobs", "jobs"),
    "certificates.k8s.io": (
        "certificatesigningrequests", "clustertrustbundles", "podcertificaterequests",
    ),
    "coordination.k8s.io": ("leasecandidates", "leases"),
    "discovery.k8s.io": ("endpointslices",),
    "flowcontrol.apiserver.k8s.io": ("flowschemas", "prioritylevelconfigurations"),
    "internal.apiserver.k8s.io": ("storageversions",),
    "networking.k8s.io": (
        "ingressclasses", "ingresses", "ipaddresses", "networkpolicies", "servicecidrs",
    ),
    "node.k8s.io": ("runtimeclasses",),
    "policy": ("poddisruptionbudgets",),
    "rbac.authorization.k8s.io": (
        "clusterrolebindings", "clusterroles", "rolebindings", "roles",
    ),
    "resource.k8s.io": (
        "deviceclasses", "devicetaintrules", "resourceclaims", "resourceclaimtemplates",
        "resourceslices",
    ),
    "scheduling.k8s.io": ("priorityclasses", "workloads"),
    "storage.k8s.io": (
        "csidrivers", "csinodes", "csistoragecapacities", "storageclasses", "volumeattachments",
        "volumeattributesclasses",
    ),
    "storagemigration.k8s.io": ("storageversionmigrations",),
}  # fmt: skip
# What kube-apiserver stores of extensions, under their groups' names. It makes an APIService of
# each group that it serves by itself.
API_SERVICES: Final = "apiservices.apiregistration.k8s.io"
_DEFINITIONS: Final = "customresourcedefinitions.apiextensions.k8s.io"
# The API server's own bookkeeping, which it never encrypts and refuses to configure.
_BOOKKEEPING: Final = ("ranges/", "masterleases/", "peerserverleases/")


def folder_of(resource: str, prefix: str = DEFAULT_PREFIX) -> str:
    """The key prefix of `secrets` or `things.example.com`, with its final slash."""
    plural, _, group = resource.partition(".")
    folder = _FOLDERS.get(resource)
    if folder is None:
        # Events have a group of their own in the API, and none in etcd.
        folder = plural if group in _BUILT_IN or group == "events.k8s.io" else f"{group}/{plural}"
    return f"{prefix.rstrip('/')}/{folder}/"


_NAMES: Final = {
    _FOLDERS.get(f"{plural}.{group}" if group else plural, plural): (
        f"{plural}.{group}" if group else plural
    )
    for group, plurals in _BUILT_IN.items()
    for plural in plurals
}


def built_in(resource: str) -> bool:
    """Whether it is kube-apiserver's own: of other groups it may serve what another stores."""
    plural, _, group = resource.partition(".")
    return plural in _BUILT_IN.get(group, ())


def definition_of(resource: str, prefix: str = DEFAULT_PREFIX) -> str:
    """The key of the CustomResourceDefinition that a custom resource is served by."""
    return folder_of(_DEFINITIONS, prefix) + resource


def known(resource: str) -> bool:
    """Whether a kube-apiserver of some version stores it by itself, without a definition."""
    return built_in(resource) or resource in (API_SERVICES, _DEFINITIONS)


def resource_of(key: str, prefix: str = DEFAULT_PREFIX) -> str:
    """Which resource a key is of, `secrets` or `things.example.com`; "" for bookkeeping.

    A folder nobody here knows is taken for a resource of the core group.
    """
    rest = key.removeprefix(prefix.rstrip("/") + "/")
    if rest == key or rest.startswith(_BOOKKEEPING):
        return ""
    first, _, rest = rest.partition("/")
    if first == "services":
        first = f"services/{rest.partition('/')[0]}"
    elif "." in first:
        return f"{rest.partition('/')[0]}.{first}"
    return _NAMES.get(first, first)


def place_of(key: str, resource: str, prefix: str = DEFAULT_PREFIX) -> tuple[str, str]:
    """Namespace ("" for none) and name of a key of that resource."""
    rest = key.removeprefix(folder_of(resource, prefix))
    namespace, slash, name = rest.partition("/")
    return (namespace, name) if slash else ("", namespace)
