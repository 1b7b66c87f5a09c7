"""An ExternalSecret's spec as values, with every rule checked. Pure.

Fields: https://external-secrets.io/latest/api/externalsecret/. The rules that the other
controller leaves to an admission webhook are checked here, at every reconcile.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from strongroom.kube.resource import Object
from strongroom.model.errors import Invalid
from strongroom.sync.durations import Windows, parse_duration, parse_windows
from strongroom.sync.rewrite_spec import Rewrite, parse_rewrites
from strongroom.sync.template_spec import DECODING, Template, parse_template

KEY: Final = re.compile(r"[-._a-zA-Z0-9]{1,253}")
CREATION: Final = ("Owner", "Orphan", "Merge", "None", "CreateOrMerge")
DELETION: Final = ("Retain", "Delete", "Merge")
REFRESH: Final = ("Periodic", "OnChange", "CreatedOnce")
CONVERSION: Final = ("Default", "Unicode")
GENERATORS: Final = "generators.external-secrets.io/v1alpha1"


@dataclass(frozen=True, slots=True, order=True)
class StoreRef:
    """Which store; `kind` SecretStore or ClusterSecretStore."""

    name: str
    kind: str = "SecretStore"


@dataclass(frozen=True, slots=True)
class RemoteRef:
    """What to read: a provider key, and a property within it."""

    key: str
    property: str = ""
    version: str = ""
    metadata: bool = False
    conversion: str = "Default"
    decoding: str = "None"
    refuse_null_bytes: bool = False


@dataclass(frozen=True, slots=True)
class FindRef:
    """Which of a provider's secrets: below a path, whose name matches, that have all the tags."""

    path: str = ""
    name_pattern: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    conversion: str = "Default"
    decoding: str = "None"
    refuse_null_bytes: bool = False


@dataclass(frozen=True, slots=True, order=True)
class GeneratorRef:
    """A generator object in the same namespace, or a ClusterGenerator."""

    kind: str
    name: str
    api_version: str = GENERATORS


@dataclass(frozen=True, slots=True)
class Row:
    """One key of the Secret (`data[]`)."""

    secret_key: str
    remote: RemoteRef
    store: StoreRef | None
    generator: GeneratorRef | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """One entry of `dataFrom`: exactly one of extract, find and generator."""

    extract: RemoteRef | None = None
    find: FindRef | None = None
    generator: GeneratorRef | None = None
    store: StoreRef | None = None
    rewrites: tuple[Rewrite, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """A target that is no Secret."""

    api_version: str
    kind: str


@dataclass(frozen=True, slots=True)
class Spec:
    """What an ExternalSecret asks for; `refresh_seconds` 0 means once."""

    rows: tuple[Row, ...]
    sources: tuple[Source, ...]
    target: str
    creation: str
    deletion: str
    refresh_policy: str
    refresh_seconds: float
    immutable: bool = False
    template: Template | None = None
    manifest: Manifest | None = None
    windows: Windows = field(default_factory=Windows)

    @property
    def parts(self) -> tuple[Source | Row, ...]:
        """All entries in the order in which later ones win."""
        return (*self.sources, *self.rows)

    @property
    def stores(self) -> frozenset[StoreRef]:
        """All stores it reads."""
        return frozenset(each.store for each in self.parts if each.store)

    @property
    def generators(self) -> frozenset[GeneratorRef]:
        """All generators it asks."""
        return frozenset(each.generator for each in self.parts if each.generator)

    @property
    def whole(self) -> bool:
        """Whether the Secret is this object's alone, so that a foreign key is drift."""
        return self.creation in ("Owner", "Orphan")

    @property
    def deletes(self) -> bool:
        """Whether its target goes when the store has none of it, and with the object itself."""
        return self.deletion == "Delete" and self.creation == "Owner"


def parse_spec(item: Object) -> Spec:
    """Read and check; raises Invalid with the field at fault."""
    spec = item.get("spec") or {}
    target = spec.get("target") or {}
    default = parse_store_ref(spec.get("secretStoreRef"))
    sources = tuple(_source(entry, default) for entry in spec.get("dataFrom") or [])
    rows = tuple(_row(entry, default) for entry in spec.get("data") or [])
    template = parse_template(target.get("template"), manifest=bool(target.get("manifest")))
    found = Spec(
        rows=rows,
        sources=sources,
        target=target.get("name") or item["metadata"]["name"],
        creation=one_of("creationPolicy", target.get("creationPolicy") or "Owner", CREATION),
        deletion=one_of("deletionPolicy", target.get("deletionPolicy") or "Retain", DELETION),
        refresh_policy=one_of("refreshPolicy", spec.get("refreshPolicy") or "Periodic", REFRESH),
        refresh_seconds=parse_duration(spec.get("refreshInterval", "1h")),
        immutable=bool(target.get("immutable")),
        template=template,
        manifest=_manifest(target.get("manifest")),
        windows=parse_windows(spec.get("syncWindows")),
    )
    _check_policies(found)
    return found


def _check_policies(spec: Spec) -> None:
    """The rules of the other controller's webhook (externalsecret_validator)."""
    if not spec.rows and not spec.sources:
        raise Invalid("no-data", "either data or dataFrom should be specified")
    if spec.deletion == "Delete" and spec.creation not in ("Owner", "Orphan"):
        raise Invalid(
            "bad-policy",
            f"deletionPolicy=Delete cannot go with creationPolicy={spec.creation}",
            hint="only a Secret that the ExternalSecret owns can be deleted by it",
        )
    if spec.deletion == "Merge" and spec.creation == "None":
        raise Invalid("bad-policy", "deletionPolicy=Merge cannot go with creationPolicy=None")


def not_deleted(spec: Spec) -> Invalid:
    """The refusal to delete a target of which the store has nothing, for it is not owned."""
    return Invalid(
        "bad-policy",
        f"the store has none of it, and deletionPolicy=Delete deletes no Secret of"
        f" creationPolicy={spec.creation}",
        hint="use creationPolicy=Owner, or deletionPolicy=Retain",
    )


def one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    """The value, when it is allowed; raises Invalid(`bad-value`)."""
    if value not in allowed:
        raise Invalid("bad-value", f"{name} {value!r} is none of {', '.join(allowed)}")
    return value


def parse_store_ref(entry: Mapping[str, Any] | None) -> StoreRef | None:
    """A reference to a store; None when it names none."""
    if not entry or not entry.get("name"):
        return None
    kind = entry.get("kind") or "SecretStore"
    return StoreRef(str(entry["name"]), one_of("kind", kind, ("SecretStore", "ClusterSecretStore")))


def parse_generator_ref(entry: Mapping[str, Any] | None) -> GeneratorRef | None:
    """A reference to a generator; None when there is none."""
    if not entry:
        return None
    if not entry.get("kind") or not entry.get("name"):
        raise Invalid("bad-generator", "generatorRef needs kind and name")
    return GeneratorRef(
        str(entry["kind"]), str(entry["name"]), str(entry.get("apiVersion") or GENERATORS)
    )


def _store_of(entry: Mapping[str, Any], default: StoreRef | None) -> StoreRef:
    store = parse_store_ref((entry.get("sourceRef") or {}).get("storeRef")) or default
    if store is None:
        raise Invalid("no-store", "a secretStoreRef or sourceRef.storeRef is needed")
    return store


def _row(entry: Mapping[str, Any], default: StoreRef | None) -> Row:
    key = str(entry.get("secretKey") or "")
    if not KEY.fullmatch(key):
        raise Invalid("bad-key", f"secretKey {key!r} is no valid key of a Secret")
    generator = parse_generator_ref((entry.get("sourceRef") or {}).get("generatorRef"))
    if generator is not None:
        remote = entry.get("remoteRef") or {}
        return Row(key, _remote({"key": key, **remote}), None, generator)
    return Row(key, _remote(entry.get("remoteRef")), _store_of(entry, default))


def _source(entry: Mapping[str, Any], default: StoreRef | None) -> Source:
    generator = parse_generator_ref((entry.get("sourceRef") or {}).get("generatorRef"))
    extract, find = entry.get("extract"), entry.get("find")
    given = [name for name, each in (("extract", extract), ("find", find)) if each is not None]
    given += ["generatorRef"] if generator else []
    if len(given) != 1:
        said = " and ".join(given) if given else "none"
        raise Invalid("bad-source", f"dataFrom needs one of extract, find, generatorRef: {said}")
    rewrites = parse_rewrites(entry.get("rewrite") or [])
    if generator:
        return Source(generator=generator, rewrites=rewrites)
    store = _store_of(entry, default)
    if extract is not None:
        return Source(extract=_remote(extract), store=store, rewrites=rewrites)
    return Source(find=_find(find or {}), store=store, rewrites=rewrites)


def _remote(entry: Mapping[str, Any] | None) -> RemoteRef:
    key = str((entry or {}).get("key") or "")
    if not entry or not key:
        raise Invalid("no-remote-key", "remoteRef.key is needed")
    return RemoteRef(
        key=key,
        property=str(entry.get("property") or ""),
        version=str(entry.get("version") or ""),
        metadata=_choice(entry, "metadataPolicy", ("None", "Fetch")) == "Fetch",
        conversion=_choice(entry, "conversionStrategy", CONVERSION),
        decoding=_choice(entry, "decodingStrategy", DECODING),
        refuse_null_bytes=_choice(entry, "nullBytePolicy", ("Ignore", "Fail")) == "Fail",
    )


def _find(entry: Mapping[str, Any]) -> FindRef:
    return FindRef(
        path=str(entry.get("path") or ""),
        name_pattern=str((entry.get("name") or {}).get("regexp") or ""),
        tags=tuple(sorted((entry.get("tags") or {}).items())),
        conversion=_choice(entry, "conversionStrategy", CONVERSION),
        decoding=_choice(entry, "decodingStrategy", DECODING),
        refuse_null_bytes=_choice(entry, "nullBytePolicy", ("Ignore", "Fail")) == "Fail",
    )


def _choice(entry: Mapping[str, Any], name: str, allowed: tuple[str, ...]) -> str:
    """A value of a field; the first that is allowed when there is none."""
    return one_of(name, str(entry.get(name) or allowed[0]), allowed)


def _manifest(entry: Mapping[str, Any] | None) -> Manifest | None:
    if not entry:
        return None
    if not entry.get("apiVersion") or not entry.get("kind"):
        raise Invalid("bad-manifest", "target.manifest needs apiVersion and kind")
    if (entry["apiVersion"], entry["kind"]) == ("v1", "Secret"):
        return None
    return Manifest(str(entry["apiVersion"]), str(entry["kind"]))
