"""The CustomResourceDefinitions of `external-secrets.io` that are served.

Shape: https://external-secrets.io/latest/api/spec/. v1 and v1beta1 have the same shape, so no
conversion is needed. What a store's provider may hold is left open in the schema, so that
manifests for any provider apply; the controller checks what it uses.
"""

from typing import Final

from strongroom.kube.resource import Object, Resource

GROUP: Final = "external-secrets.io"
EXTERNAL_SECRETS: Final = Resource(GROUP, "v1", "externalsecrets", "ExternalSecret")
SECRET_STORES: Final = Resource(GROUP, "v1", "secretstores", "SecretStore")
CLUSTER_SECRET_STORES: Final = Resource(
    GROUP, "v1", "clustersecretstores", "ClusterSecretStore", namespaced=False
)

_TEXT: Final = {"type": "string"}
_OPEN: Final = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_MAP: Final = {"type": "object", "additionalProperties": {"type": "string"}}


def _choice(*values: str, default: str = "") -> Object:
    return {"type": "string", "enum": list(values)} | ({"default": default} if default else {})


def _object(required: tuple[str, ...] = (), **properties: Object) -> Object:
    schema: Object = {"type": "object", "properties": properties}
    return schema | ({"required": list(required)} if required else {})


def _list(items: Object) -> Object:
    return {"type": "array", "items": items}


_STORE_REF: Final = _object(name=_TEXT, kind=_choice("SecretStore", "ClusterSecretStore"))
_REMOTE: Final = _object(
    ("key",),
    key=_TEXT,
    property=_TEXT,
    version=_TEXT,
    metadataPolicy=_choice("None", "Fetch"),
    conversionStrategy=_choice("Default", "Unicode"),
    decodingStrategy=_choice("Auto", "Base64", "Base64URL", "None"),
    nullBytePolicy=_choice("Ignore", "Fail"),
)
_SOURCE: Final = _object(storeRef=_STORE_REF, generatorRef=_OPEN)
_CONDITIONS: Final = _list(
    _object(
        ("type", "status"),
        type=_TEXT,
        status=_TEXT,
        reason=_TEXT,
        message=_TEXT,
        lastTransitionTime={"type": "string", "format": "date-time"},
    )
)


def _external_secret() -> Object:
    target = _object(
        name={"type": "string", "maxLength": 253},
        creationPolicy=_choice(
            "Owner", "Orphan", "Merge", "None", "CreateOrMerge", default="Owner"
        ),
        deletionPolicy=_choice("Delete", "Merge", "Retain", default="Retain"),
        immutable={"type": "boolean"},
        template=_OPEN,
        manifest=_OPEN,
    )
    row = _object(("secretKey", "remoteRef"), secretKey=_TEXT, remoteRef=_REMOTE, sourceRef=_SOURCE)
    source = _object(extract=_REMOTE, find=_OPEN, sourceRef=_SOURCE, rewrite=_list(_OPEN))
    spec = _object(
        secretStoreRef=_STORE_REF,
        refreshPolicy=_choice("CreatedOnce", "Periodic", "OnChange"),
        refreshInterval={"type": "string", "default": "1h0m0s"},
        syncWindows=_OPEN,
        target={**target, "default": {"creationPolicy": "Owner", "deletionPolicy": "Retain"}},
        data=_list(row),
        dataFrom=_list(source),
    )
    status = _object(
        refreshTime={"type": "string", "format": "date-time", "nullable": True},
        syncedResourceVersion=_TEXT,
        binding=_object(name=_TEXT),
        conditions=_CONDITIONS,
    )
    return _object(
        apiVersion=_TEXT, kind=_TEXT, metadata={"type": "object"}, spec=spec, status=status
    )


def _store() -> Object:
    spec = _object(
        ("provider",),
        controller=_TEXT,
        provider={**_OPEN, "minProperties": 1, "maxProperties": 1},
        retrySettings=_object(maxRetries={"type": "integer"}, retryInterval=_TEXT),
        refreshInterval={"x-kubernetes-int-or-string": True},
        conditions=_list(_OPEN),
    )
    status = _object(capabilities=_TEXT, conditions=_CONDITIONS)
    return _object(
        apiVersion=_TEXT, kind=_TEXT, metadata={"type": "object"}, spec=spec, status=status
    )


def _columns(*columns: tuple[str, str]) -> list[Object]:
    return [{"name": name, "type": "string", "jsonPath": path} for name, path in columns]


_READY: Final = '.status.conditions[?(@.type=="Ready")]'
_SECRET_COLUMNS: Final = _columns(
    ("StoreType", ".spec.secretStoreRef.kind"),
    ("Store", ".spec.secretStoreRef.name"),
    ("Refresh Interval", ".spec.refreshInterval"),
    ("Status", _READY + ".reason"),
    ("Ready", _READY + ".status"),
)
_STORE_COLUMNS: Final = _columns(
    ("Status", _READY + ".reason"),
    ("Capabilities", ".status.capabilities"),
    ("Ready", _READY + ".status"),
)


def crds() -> list[Object]:
    """The definitions, to be applied."""
    return [
        _crd(EXTERNAL_SECRETS, "es", _external_secret(), _SECRET_COLUMNS),
        _crd(SECRET_STORES, "ss", _store(), _STORE_COLUMNS),
        _crd(CLUSTER_SECRET_STORES, "css", _store(), _STORE_COLUMNS),
    ]


def _crd(resource: Resource, short: str, schema: Object, columns: list[Object]) -> Object:
    def version(name: str, *, storage: bool) -> Object:
        return {
            "name": name,
            "served": True,
            "storage": storage,
            "schema": {"openAPIV3Schema": schema},
            "subresources": {"status": {}},
            "additionalPrinterColumns": columns,
        } | ({} if storage else {"deprecated": True})

    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{resource.plural}.{GROUP}",
            "labels": {f"{GROUP}/component": "controller"},
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced" if resource.namespaced else "Cluster",
            "names": {
                "plural": resource.plural,
                "singular": resource.kind.lower(),
                "kind": resource.kind,
                "listKind": f"{resource.kind}List",
                "shortNames": [short],
                "categories": ["external-secrets"],
            },
            "versions": [version("v1", storage=True), version("v1beta1", storage=False)],
        },
    }
