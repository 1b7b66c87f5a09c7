"""An ExternalSecret's spec as values, with every rule checked. Pure.

Fields: https://external-secrets.io/latest/api/externalsecret/.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from strongroom.kube.resource import Object
from strongroom.model.errors import Invalid

KEY: Final = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|us|ns|h|m|s|d)")
_SECONDS: Final = {
    "h": 3600.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 0.001,
    "us": 1e-6,
    "ns": 1e-9,
    "d": 86400.0,
}


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
class Row:
    """One key of the Secret, or with `secret_key` "" a whole object (`dataFrom.extract`)."""

    secret_key: str
    remote: RemoteRef
    store: StoreRef


@dataclass(frozen=True, slots=True)
class Spec:
    """What an ExternalSecret asks for; `refresh_seconds` 0 means once."""

    rows: tuple[Row, ...]
    target: str
    creation: str
    deletion: str
    refresh_policy: str
    refresh_seconds: float
    immutable: bool = False

    @property
    def stores(self) -> frozenset[StoreRef]:
        """All stores it reads."""
        return frozenset(row.store for row in self.rows)


def parse_spec(item: Object) -> Spec:
    """Read and check; raises Invalid with the field at fault."""
    spec = item.get("spec") or {}
    target = spec.get("target") or {}
    for name, holder in (("syncWindows", spec), ("template", target), ("manifest", target)):
        if holder.get(name):
            raise _unsupported(name)
    default = _store(spec.get("secretStoreRef"))
    rows = [_extract(entry, default) for entry in spec.get("dataFrom") or []]
    rows += [_row(entry, default) for entry in spec.get("data") or []]
    if not rows:
        raise Invalid("no-data", "either data or dataFrom should be specified")
    creation = target.get("creationPolicy") or "Owner"
    deletion = target.get("deletionPolicy") or "Retain"
    if deletion == "Delete" and creation != "Owner":
        raise Invalid(
            "bad-policy", f"deletionPolicy=Delete cannot go with creationPolicy={creation}"
        )
    if deletion == "Merge" and creation == "None":
        raise Invalid("bad-policy", "deletionPolicy=Merge cannot go with creationPolicy=None")
    return Spec(
        rows=tuple(rows),
        target=target.get("name") or item["metadata"]["name"],
        creation=creation,
        deletion=deletion,
        refresh_policy=spec.get("refreshPolicy") or "Periodic",
        refresh_seconds=parse_duration(spec.get("refreshInterval", "1h")),
        immutable=bool(target.get("immutable")),
    )


def _store(entry: Mapping[str, Any] | None) -> StoreRef | None:
    if not entry or not entry.get("name"):
        return None
    return StoreRef(str(entry["name"]), entry.get("kind") or "SecretStore")


def _store_of(entry: Mapping[str, Any], default: StoreRef | None) -> StoreRef:
    source = entry.get("sourceRef") or {}
    if source.get("generatorRef"):
        raise _unsupported("generatorRef")
    store = _store(source.get("storeRef")) or default
    if store is None:
        raise Invalid("no-store", "a secretStoreRef or sourceRef.storeRef is needed")
    return store


def _row(entry: Mapping[str, Any], default: StoreRef | None) -> Row:
    key = str(entry.get("secretKey") or "")
    if not KEY.fullmatch(key):
        raise Invalid("bad-key", f"secretKey {key!r} is no valid key of a Secret")
    return Row(key, _remote(entry.get("remoteRef")), _store_of(entry, default))


def _extract(entry: Mapping[str, Any], default: StoreRef | None) -> Row:
    if entry.get("find"):
        raise _unsupported("dataFrom.find")
    if entry.get("rewrite"):
        raise _unsupported("dataFrom.rewrite")
    return Row("", _remote(entry.get("extract")), _store_of(entry, default))


def _remote(entry: Mapping[str, Any] | None) -> RemoteRef:
    key = str((entry or {}).get("key") or "")
    if not entry or not key:
        raise Invalid("no-remote-key", "remoteRef.key is needed")
    return RemoteRef(
        key=key,
        property=str(entry.get("property") or ""),
        version=str(entry.get("version") or ""),
        metadata=entry.get("metadataPolicy") == "Fetch",
        conversion=entry.get("conversionStrategy") or "Default",
        decoding=entry.get("decodingStrategy") or "None",
        refuse_null_bytes=entry.get("nullBytePolicy") == "Fail",
    )


def _unsupported(field: str) -> Invalid:
    return Invalid(
        "unsupported-field",
        f"{field} is not supported by this version",
        hint="leave this ExternalSecret to the other controller until it is",
    )


def parse_duration(text: Any) -> float:  # noqa: ANN401 - a manifest's value
    """Seconds of a Go duration (`1h30m`, `0`); raises Invalid."""
    if isinstance(text, int | float) and not isinstance(text, bool):
        return float(text)
    value = str(text)
    if value in ("0", ""):
        return 0.0
    parts = _DURATION.findall(value)
    if "".join(number + unit for number, unit in parts) != value:
        raise Invalid("bad-duration", f"refreshInterval {value!r} is no duration", hint="1h30m")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)
