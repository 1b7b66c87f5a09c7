"""The CustomResourceDefinitions of `external-secrets.io` that are served.

Shape: https://external-secrets.io/latest/api/spec/. v1 and v1beta1 have the same shape, so no
conversion is needed. What a store's provider may hold is left open in the schema, so that
manifests for any provider apply; the controller checks what it uses. Rules between fields are
CEL (KEP-2876), where the other controller has an admission webhook.
"""

from typing import Final

from strongroom.kube.resource import Object, Resource

GROUP: Final = "external-secrets.io"
EXTERNAL_SECRETS: Final = Resource(GROUP, "v1", "externalsecrets", "ExternalSecret")
SECRET_STORES: Final = Resource(GROUP, "v1", "secretstores", "SecretStore")
CLUSTER_SECRET_STORES: Final = Resource(
    GROUP, "v1", "clustersecretstores", "ClusterSecretStore", namespaced=False
)
CLUSTER_EXTERNAL_SECRETS: Final = Resource(
    GROUP, "v1", "clusterexternalsecrets", "ClusterExternalSecret", namespaced=False
)
PUSH_SECRETS: Final = Resource(GROUP, "v1alpha1", "pushsecrets", "PushSecret")
CLUSTER_PUSH_SECRETS: Final = Resource(
    GROUP, "v1alpha1", "clusterpushsecrets", "ClusterPushSecret", namespaced=False
)
GENERATORS_GROUP: Final = "generators.external-secrets.io"


def _generator(plural: str, kind: str, *, namespaced: bool = True) -> Resource:
    return Resource(GENERATORS_GROUP, "v1alpha1", plural, kind, namespaced=namespaced)


GENERATORS: Final = tuple(
    _generator(f"{kind.lower()}s", kind)
    for kind in (
        "Password",
        "UUID",
        "SSHKey",
        "Fake",
        "Webhook",
        "VaultDynamicSecret",
        "ECRAuthorizationToken",
        "STSSessionToken",
        "GCRAccessToken",
        "ACRAccessToken",
    )
)
CLUSTER_GENERATORS: Final = _generator("clustergenerators", "ClusterGenerator", namespaced=False)
GENERATOR_STATES: Final = _generator("generatorstates", "GeneratorState")
# Says who keeps a definition up to date; one without it is another program's and left alone.
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
OURS: Final = "strongroom"

_TEXT: Final = {"type": "string"}
_FLAG: Final = {"type": "boolean"}
_OPEN: Final = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_MAP: Final = {"type": "object", "additionalProperties": {"type": "string"}}
_TIME: Final = {"type": "string", "format": "date-time", "nullable": True}
# Rules are priced by the largest list they may run over.
_MOST_ROWS: Final = 1000


def _choice(*values: str, default: str = "") -> Object:
    return {"type": "string", "enum": list(values)} | ({"default": default} if default else {})


def _object(required: tuple[str, ...] = (), **properties: Object) -> Object:
    schema: Object = {"type": "object", "properties": properties}
    return schema | ({"required": list(required)} if required else {})


def _list(items: Object, most: int = 0) -> Object:
    return {"type": "array", "items": items} | ({"maxItems": most} if most else {})


def _ruled(schema: Object, *rules: tuple[str, str]) -> Object:
    validations = [{"rule": rule, "message": message} for rule, message in rules]
    return {**schema, "x-kubernetes-validations": validations}


_STORE_REF: Final = _object(name=_TEXT, kind=_choice("SecretStore", "ClusterSecretStore"))
_DECODING: Final = _choice("Auto", "Base64", "Base64URL", "None")
_CONVERSION: Final = _choice("Default", "Unicode")
_NULL_BYTES: Final = _choice("Ignore", "Fail")
_REMOTE: Final = _object(
    ("key",),
    key=_TEXT,
    property=_TEXT,
    version=_TEXT,
    metadataPolicy=_choice("None", "Fetch"),
    conversionStrategy=_CONVERSION,
    decodingStrategy=_DECODING,
    nullBytePolicy=_NULL_BYTES,
)
_GENERATOR_REF: Final = _object(
    ("kind", "name"),
    apiVersion={"type": "string", "default": "generators.external-secrets.io/v1alpha1"},
    kind=_TEXT,
    name=_TEXT,
)
_SOURCE: Final = _object(storeRef=_STORE_REF, generatorRef=_GENERATOR_REF)
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
_REWRITE: Final = _list(
    _object(
        regexp=_object(("source", "target"), source=_TEXT, target=_TEXT),
        transform=_object(("template",), template=_TEXT),
        merge=_object(
            into={"type": "string", "default": ""},
            priority=_list(_TEXT),
            priorityPolicy=_choice("IgnoreNotFound", "Strict", default="Strict"),
            conflictPolicy=_choice("Ignore", "Error", default="Error"),
            strategy=_choice("Extract", "JSON", default="Extract"),
        ),
    )
)
_SELECTOR: Final = _object(
    matchLabels=_MAP,
    matchExpressions=_list(
        _object(("key", "operator"), key=_TEXT, operator=_TEXT, values=_list(_TEXT))
    ),
)
_POLICY_RULES: Final = (
    (
        "!has(self.deletionPolicy) || self.deletionPolicy != 'Delete' || "
        "!has(self.creationPolicy) || self.creationPolicy in ['Owner', 'Orphan']",
        "deletionPolicy=Delete goes with creationPolicy=Owner (or Orphan) alone",
    ),
    (
        "!has(self.deletionPolicy) || self.deletionPolicy != 'Merge' || "
        "!has(self.creationPolicy) || self.creationPolicy != 'None'",
        "deletionPolicy=Merge cannot go with creationPolicy=None",
    ),
)
_SOURCE_RULE: Final = (
    "[has(self.extract), has(self.find), has(self.sourceRef) && "
    "has(self.sourceRef.generatorRef)].filter(given, given).size() == 1",
    "one of extract, find and sourceRef.generatorRef is needed",
)
_DATA_RULE: Final = (
    "(has(self.data) && self.data.size() > 0) || (has(self.dataFrom) && self.dataFrom.size() > 0)",
    "either data or dataFrom should be specified",
)


def _template() -> Object:
    items = _list(
        _object(
            ("key",),
            key=_TEXT,
            templateAs=_choice("Values", "KeysAndValues", default="Values"),
        )
    )
    kept = _object(("name", "items"), name=_TEXT, items=items)
    return _object(
        type=_TEXT,
        engineVersion=_choice("v2", default="v2"),
        metadata=_object(annotations=_MAP, labels=_MAP, finalizers=_list(_TEXT)),
        mergePolicy=_choice("Replace", "Merge", default="Replace"),
        data=_MAP,
        templateFrom=_list(
            _object(
                configMap=kept,
                secret=kept,
                literal=_TEXT,
                target={"type": "string", "default": "Data"},
                valuesDecodingStrategy=_DECODING,
            )
        ),
    )


def _external_spec() -> Object:
    target = _object(
        name={"type": "string", "maxLength": 253},
        creationPolicy=_choice(
            "Owner", "Orphan", "Merge", "None", "CreateOrMerge", default="Owner"
        ),
        deletionPolicy=_choice("Delete", "Merge", "Retain", default="Retain"),
        immutable=_FLAG,
        template=_template(),
        manifest=_object(("apiVersion", "kind"), apiVersion=_TEXT, kind=_TEXT),
    )
    key = {"type": "string", "minLength": 1, "maxLength": 253, "pattern": r"^[-._a-zA-Z0-9]+$"}
    row = _object(("secretKey", "remoteRef"), secretKey=key, remoteRef=_REMOTE, sourceRef=_SOURCE)
    find = _object(
        path=_TEXT,
        name=_object(regexp=_TEXT),
        tags=_MAP,
        conversionStrategy=_CONVERSION,
        decodingStrategy=_DECODING,
        nullBytePolicy=_NULL_BYTES,
    )
    source = _object(extract=_REMOTE, find=find, sourceRef=_SOURCE, rewrite=_REWRITE)
    default = {"creationPolicy": "Owner", "deletionPolicy": "Retain"}
    spec = _object(
        secretStoreRef=_STORE_REF,
        refreshPolicy=_choice("CreatedOnce", "Periodic", "OnChange"),
        refreshInterval={"type": "string", "default": "1h0m0s"},
        syncWindows=_object(
            ("kind", "windows"),
            kind=_choice("allow", "deny"),
            windows=_list(_object(("schedule", "duration"), schedule=_TEXT, duration=_TEXT)),
        ),
        target={**_ruled(target, *_POLICY_RULES), "default": default},
        data=_list(row, _MOST_ROWS),
        dataFrom=_list(_ruled(source, _SOURCE_RULE), _MOST_ROWS),
    )
    return _ruled(spec, _DATA_RULE)


def _external_secret() -> Object:
    status = _object(
        refreshTime=_TIME,
        syncedResourceVersion=_TEXT,
        # Ours alone: the other controller's definition drops it.
        sourceVersions=_TEXT,
        binding=_object(name={"type": "string", "default": ""}),
        conditions=_CONDITIONS,
    )
    return _kind(_external_spec(), status)


def _cluster_external_secret() -> Object:
    spec = _object(
        ("externalSecretSpec",),
        externalSecretSpec=_external_spec(),
        externalSecretName=_TEXT,
        externalSecretMetadata=_object(labels=_MAP, annotations=_MAP),
        namespaceSelector=_SELECTOR,
        namespaceSelectors=_list(_SELECTOR),
        namespaces=_list(_TEXT),
        refreshTime=_TEXT,
    )
    status = _object(
        externalSecretName=_TEXT,
        failedNamespaces=_list(_object(("namespace",), namespace=_TEXT, reason=_TEXT)),
        provisionedNamespaces=_list(_TEXT),
        conditions=_CONDITIONS,
    )
    return _kind(spec, status)


def _store() -> Object:
    condition = _object(
        namespaceSelector=_SELECTOR, namespaces=_list(_TEXT), namespaceRegexes=_list(_TEXT)
    )
    spec = _object(
        ("provider",),
        controller=_TEXT,
        provider={**_OPEN, "minProperties": 1, "maxProperties": 1},
        retrySettings=_object(maxRetries={"type": "integer"}, retryInterval=_TEXT),
        refreshInterval={"x-kubernetes-int-or-string": True},
        conditions=_list(condition),
    )
    return _kind(spec, _object(capabilities=_TEXT, conditions=_CONDITIONS))


def _push_spec() -> Object:
    store = _object(name=_TEXT, labelSelector=_SELECTOR, kind=_choice(
        "SecretStore", "ClusterSecretStore", default="SecretStore"))  # fmt: skip
    conversion = _choice("None", "ReverseUnicode", default="None")
    match = _object(
        ("remoteRef",),
        secretKey=_TEXT,
        remoteRef=_object(("remoteKey",), remoteKey=_TEXT, property=_TEXT),
    )
    rewrite = _object(
        regexp=_object(("source", "target"), source=_TEXT, target=_TEXT),
        transform=_object(("template",), template=_TEXT),
    )
    data_to = _object(
        storeRef=_object(name=_TEXT, labelSelector=_SELECTOR, kind=_choice(
            "SecretStore", "ClusterSecretStore", default="SecretStore")),
        remoteKey=_TEXT,
        match=_object(regexp=_TEXT),
        rewrite=_list(rewrite, 100),
        metadata=_OPEN,
        conversionStrategy=conversion,
    )  # fmt: skip
    rules = (
        (
            "has(self.storeRef) && (has(self.storeRef.name) || has(self.storeRef.labelSelector))",
            "storeRef must be specified with either name or labelSelector",
        ),
        (
            "!has(self.remoteKey) || !has(self.rewrite) || self.rewrite.size() == 0",
            "remoteKey and rewrite exclude each other",
        ),
    )
    row = _object(("match",), match=match, metadata=_OPEN, conversionStrategy=conversion)
    return _object(
        ("secretStoreRefs", "selector"),
        refreshInterval={"type": "string", "default": "1h0m0s"},
        secretStoreRefs=_list(store),
        updatePolicy=_choice("Replace", "IfNotExists", default="Replace"),
        deletionPolicy=_choice("Delete", "None", default="None"),
        selector=_object(
            secret=_object(name=_TEXT, selector=_SELECTOR), generatorRef=_GENERATOR_REF
        ),
        data=_list(row),
        dataTo=_list(_ruled(data_to, *rules), _MOST_ROWS),
        template=_template(),
    )


def _push_secret() -> Object:
    pushed = {
        "type": "object",
        "additionalProperties": {"type": "object", "additionalProperties": _OPEN},
    }
    status = _object(
        refreshTime=_TIME,
        syncedResourceVersion=_TEXT,
        syncedPushSecrets=pushed,
        conditions=_CONDITIONS,
    )
    return _kind(_push_spec(), status)


def _cluster_push_secret() -> Object:
    spec = _object(
        ("pushSecretSpec",),
        pushSecretSpec=_push_spec(),
        pushSecretName=_TEXT,
        pushSecretMetadata=_object(labels=_MAP, annotations=_MAP),
        namespaceSelectors=_list(_SELECTOR),
        refreshTime=_TEXT,
    )
    status = _object(
        pushSecretName=_TEXT,
        failedNamespaces=_list(_object(("namespace",), namespace=_TEXT, reason=_TEXT)),
        provisionedNamespaces=_list(_TEXT),
        conditions=_CONDITIONS,
    )
    return _kind(spec, status)


def _kind(spec: Object, status: Object) -> Object:
    return _object(
        apiVersion=_TEXT, kind=_TEXT, metadata={"type": "object"}, spec=spec, status=status
    )


def _columns(*columns: tuple[str, str]) -> list[Object]:
    return [{"name": name, "type": "string", "jsonPath": path} for name, path in columns]


def _dated(name: str, path: str) -> list[Object]:
    return [{"name": name, "type": "date", "jsonPath": path}]


_READY: Final = '.status.conditions[?(@.type=="Ready")]'
_STALE: Final = '.status.conditions[?(@.type=="Stale")].status'
_AGE: Final = _dated("AGE", ".metadata.creationTimestamp")
_LAST_SYNC: Final = _dated("Last Sync", ".status.refreshTime")
_SECRET_COLUMNS: Final = [
    *_columns(
        ("StoreType", ".spec.secretStoreRef.kind"),
        ("Store", ".spec.secretStoreRef.name"),
        ("Refresh Interval", ".spec.refreshInterval"),
        ("Status", _READY + ".reason"),
        ("Ready", _READY + ".status"),
    ),
    *_LAST_SYNC,
    # With `-o wide`: whether it is not fresh, where it goes, which versions of its secrets it has,
    # and at which version of the spec.
    *(
        {**each, "priority": 1}
        for each in _columns(
            ("Stale", _STALE),
            ("Target", ".status.binding.name"),
            ("Source Versions", ".status.sourceVersions"),
            ("Synced Version", ".status.syncedResourceVersion"),
        )
    ),
]
_STORE_COLUMNS: Final = [
    *_AGE,
    *_columns(
        ("Status", _READY + ".reason"),
        ("Capabilities", ".status.capabilities"),
        ("Ready", _READY + ".status"),
    ),
]
_CLUSTER_COLUMNS: Final = _columns(
    ("Store", ".spec.externalSecretSpec.secretStoreRef.name"),
    ("Refresh Interval", ".spec.refreshTime"),
    ("Ready", _READY + ".status"),
)
_PUSH_COLUMNS: Final = [*_AGE, *_columns(("Status", _READY + ".reason"))]
# Its condition has no reason, as the other controller's has none.
_CLUSTER_PUSH_COLUMNS: Final = [*_PUSH_COLUMNS, *_columns(("Ready", _READY + ".status"))]
_STATE_COLUMNS: Final = [
    *_columns(("GC Deadline", ".spec.garbageCollectionDeadline")),
    *_dated("Age", ".metadata.creationTimestamp"),
]
SYNCED_VERSION: Final = ".status.syncedResourceVersion"
_SELECTABLE: Final = (
    ".spec.secretStoreRef.name",
    ".spec.secretStoreRef.kind",
    ".spec.target.name",
    ".spec.refreshInterval",
    # Without a value for what was never synced, which an operator that starts asks for first.
    SYNCED_VERSION,
)


def _cluster_generator() -> Object:
    kinds = _choice(*(each.kind for each in GENERATORS))
    return _object(("spec",), spec=_object(("kind", "generator"), kind=kinds, generator=_OPEN))


def _generator_state() -> Object:
    spec = _object(
        ("resource", "state"), garbageCollectionDeadline=_TIME, resource=_OPEN, state=_OPEN
    )
    return _object(spec=spec, status=_object(conditions=_CONDITIONS))


def crds() -> list[Object]:
    """The definitions, to be applied."""
    external = _crd(EXTERNAL_SECRETS, "es", _external_secret(), _SECRET_COLUMNS)
    for version in external["spec"]["versions"]:
        version["selectableFields"] = [{"jsonPath": path} for path in _SELECTABLE]
    return [
        external,
        _crd(SECRET_STORES, "ss", _store(), _STORE_COLUMNS),
        _crd(CLUSTER_SECRET_STORES, "css", _store(), _STORE_COLUMNS),
        _crd(CLUSTER_EXTERNAL_SECRETS, "ces", _cluster_external_secret(), _CLUSTER_COLUMNS),
        _crd(PUSH_SECRETS, "ps", _push_secret(), [*_PUSH_COLUMNS, *_LAST_SYNC]),
        _crd(CLUSTER_PUSH_SECRETS, "", _cluster_push_secret(), _CLUSTER_PUSH_COLUMNS),
        *(_crd(each, "", _object(spec=_OPEN), []) for each in GENERATORS),
        _crd(CLUSTER_GENERATORS, "", _cluster_generator(), []),
        _crd(GENERATOR_STATES, "gs", _generator_state(), _STATE_COLUMNS),
    ]


def is_ours(definition: Object) -> bool:
    """Whether an installed definition is kept up to date by this program. Pure."""
    return (definition["metadata"].get("labels") or {}).get(MANAGED_BY) == OURS


def _crd(resource: Resource, short: str, schema: Object, columns: list[Object]) -> Object:
    # The server keeps no empty list: a second one who applies it differs from what is kept.
    shown = {"additionalPrinterColumns": columns} if columns else {}

    def version(name: str, *, storage: bool) -> Object:
        return {
            "name": name,
            "served": True,
            "storage": storage,
            "schema": {"openAPIV3Schema": schema},
            "subresources": {"status": {}},
            **shown,
        } | ({} if storage else {"deprecated": True})

    versions = [version(resource.version, storage=True)]
    if resource.version == "v1":
        versions.append(version("v1beta1", storage=False))
    names: Object = {
        "plural": resource.plural,
        "singular": resource.kind.lower(),
        "kind": resource.kind,
        "listKind": f"{resource.kind}List",
        "categories": [
            "external-secrets",
            *(["external-secrets-generators"] if resource.group == GENERATORS_GROUP else []),
        ],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{resource.plural}.{resource.group}",
            "labels": {f"{GROUP}/component": "controller", MANAGED_BY: OURS},
        },
        "spec": {
            "group": resource.group,
            "scope": "Namespaced" if resource.namespaced else "Cluster",
            "names": names | ({"shortNames": [short]} if short else {}),
            "versions": versions,
        },
    }
