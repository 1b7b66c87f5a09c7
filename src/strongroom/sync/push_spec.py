"""A PushSecret's spec as values, and the pushes that it asks for. Pure.

Fields: https://external-secrets.io/latest/api/pushsecret/.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from strongroom.kube.resource import Object
from strongroom.model.errors import Invalid
from strongroom.model.labels import check_selector, selects
from strongroom.sync.durations import parse_duration
from strongroom.sync.patterns import compile_pattern
from strongroom.sync.providers.contract import PushTarget, Traits
from strongroom.sync.push_source import Source, templated
from strongroom.sync.render import Inputs
from strongroom.sync.rewrite import Render, rewrite
from strongroom.sync.rewrite_spec import Rewrite, parse_rewrites
from strongroom.sync.spec import GeneratorRef, StoreRef, one_of, parse_generator_ref
from strongroom.sync.template_spec import Template, parse_template

_ENCODED: Final = re.compile(r"_U([0-9a-fA-F]{4,5})_")
_METADATA_KIND: Final = "PushSecretMetadata"


@dataclass(frozen=True, slots=True)
class StoreChoice:
    """A store by name, or all whose labels match."""

    kind: str
    name: str = ""
    selector: Mapping[str, Any] | None = None

    def chosen(self, stores: Iterable[tuple[StoreRef, Mapping[str, str]]]) -> list[StoreRef]:
        """The stores that are meant, of all there are."""
        if self.name:
            return [StoreRef(self.name, self.kind)]
        return sorted(
            ref
            for ref, labels in stores
            if ref.kind == self.kind and selects(self.selector, labels)
        )


@dataclass(frozen=True, slots=True)
class PushRow:
    """One key of the source, or with `secret_key` "" all of it as one object."""

    secret_key: str
    remote_key: str
    property: str
    metadata: Any
    reverse: bool


@dataclass(frozen=True, slots=True)
class PushAll:
    """Every key of the source that matches (`dataTo`), to one store or several."""

    store: StoreChoice
    remote_key: str
    pattern: str
    rewrites: tuple[Rewrite, ...]
    metadata: Any
    reverse: bool


@dataclass(frozen=True, slots=True)
class PushSpec:
    """What a PushSecret asks for."""

    stores: tuple[StoreChoice, ...]
    source_name: str
    source_selector: Mapping[str, Any] | None
    generator: GeneratorRef | None
    rows: tuple[PushRow, ...]
    everything: tuple[PushAll, ...]
    replace: bool
    delete: bool
    refresh_seconds: float
    template: Template | None


@dataclass(frozen=True, slots=True)
class Push:
    """One value for one place in one store; `row` is what the status shows of it."""

    store: StoreRef
    target: PushTarget
    # One key's value; None when the whole source is pushed, which then is `target.whole`.
    value: bytes | None = field(repr=False)
    row: Object

    def content(self, traits: Traits) -> bytes:
        """What a provider is given; raises Invalid for bytes that its targets cannot hold."""
        if self.value is not None:
            return self.value
        whole = self.target.whole or {}
        if traits.bytes_by_key and not self.target.property:
            # Such a provider writes `whole`, where a value need not be text.
            return b""
        return _as_object(whole)

    @property
    def place(self) -> str:
        """The place as the status has it."""
        return place_of(self.target)


def place_of(target: PushTarget) -> str:
    """The remote key, with the property after it."""
    return f"{target.key}/{target.property}" if target.property else target.key


def parse_push(item: Object) -> PushSpec:
    """Read and check; raises Invalid."""
    spec = item.get("spec") or {}
    selector = spec.get("selector") or {}
    secret = selector.get("secret") or {}
    generator = parse_generator_ref(selector.get("generatorRef"))
    name, labels = str(secret.get("name") or ""), secret.get("selector")
    # Of several sources the first in this order counts, as it does for the other controller.
    generator = None if name else generator
    labels = None if name or generator else labels
    if not name and generator is None and labels is None:
        raise Invalid(
            "bad-source", "selector needs one of secret.name, secret.selector, generatorRef"
        )
    check_selector(labels)
    stores = tuple(_choice(each) for each in spec.get("secretStoreRefs") or [])
    if not stores:
        raise Invalid("no-store", "secretStoreRefs names no store")
    update = one_of(
        "updatePolicy", spec.get("updatePolicy") or "Replace", ("Replace", "IfNotExists")
    )
    deletion = one_of("deletionPolicy", spec.get("deletionPolicy") or "None", ("None", "Delete"))
    parsed = PushSpec(
        stores=stores,
        source_name=name,
        source_selector=labels,
        generator=generator,
        rows=tuple(_row(each) for each in spec.get("data") or []),
        everything=tuple(_all(each) for each in spec.get("dataTo") or []),
        replace=update == "Replace",
        delete=deletion == "Delete",
        refresh_seconds=parse_duration(spec.get("refreshInterval", "1h")),
        template=parse_template(spec.get("template")),
    )
    if not parsed.rows and not parsed.everything:
        raise Invalid("no-data", "either data or dataTo should be specified")
    return parsed


def check_meant(spec: PushSpec) -> None:
    """Raises Invalid for a store that dataTo names and secretStoreRefs do not.

    Apart from `parse_push`: what was pushed before needs its stores until it is taken back.
    """
    for given in (every.store for every in spec.everything):
        if given.name and not any(
            each.kind == given.kind and each.name in ("", given.name) for each in spec.stores
        ):
            raise Invalid(
                "bad-store", f"dataTo.storeRef: {given.kind} {given.name} is not in secretStoreRefs"
            )


def _choice(entry: Mapping[str, Any] | None) -> StoreChoice:
    given = entry or {}
    kinds = ("SecretStore", "ClusterSecretStore")
    kind = one_of("kind", given.get("kind") or "SecretStore", kinds)
    if given.get("labelSelector") is not None:
        # It counts before a name, as it does for the other controller.
        check_selector(given["labelSelector"])
        return StoreChoice(kind, "", given["labelSelector"])
    if not given.get("name"):
        raise Invalid("bad-store", "a store reference needs one of name and labelSelector")
    return StoreChoice(kind, str(given["name"]))


def _reverse(entry: Mapping[str, Any]) -> bool:
    given = entry.get("conversionStrategy") or "None"
    return one_of("conversionStrategy", given, ("None", "ReverseUnicode")) == "ReverseUnicode"


def _row(entry: Mapping[str, Any]) -> PushRow:
    match = entry.get("match") or {}
    remote = match.get("remoteRef") or {}
    if not remote.get("remoteKey"):
        raise Invalid("no-remote-key", "match.remoteRef.remoteKey is needed")
    return PushRow(
        secret_key=str(match.get("secretKey") or ""),
        remote_key=str(remote["remoteKey"]),
        property=str(remote.get("property") or ""),
        metadata=entry.get("metadata"),
        reverse=_reverse(entry),
    )


def _all(entry: Mapping[str, Any]) -> PushAll:
    rewrites = parse_rewrites(entry.get("rewrite") or [])
    if entry.get("remoteKey") and rewrites:
        raise Invalid("bad-data-to", "dataTo.remoteKey and rewrite exclude each other")
    pattern = str((entry.get("match") or {}).get("regexp") or "")
    if pattern:
        compile_pattern(pattern)
    return PushAll(
        store=_choice(entry.get("storeRef")),
        remote_key=str(entry.get("remoteKey") or ""),
        pattern=pattern,
        rewrites=rewrites,
        metadata=entry.get("metadata"),
        reverse=_reverse(entry),
    )


def pushes_for(
    spec: PushSpec, store: StoreRef, chosen: Iterable[StoreChoice], source: Source, render: Render
) -> list[Push]:
    """What one source gives one store: keys that have a row of their own go by it alone.

    Raises Invalid(`same-place`) where two would be written over each other.
    """
    # Once for all rows: of a large source there may be thousands of either.
    names = {way: _names(source.data, reverse=way) for way in {row.reverse for row in spec.rows}}
    taken = {names[row.reverse].get(row.secret_key, "") for row in spec.rows}
    choices = set(map(id, chosen))
    pushes = [
        push
        for every in spec.everything
        if id(every.store) in choices
        for push in _spread(every, store, source, taken, render)
    ]
    found: dict[str, Push] = {}
    for push in (*pushes, *(_push(row, store, source, names[row.reverse]) for row in spec.rows)):
        other = found.setdefault(push.place, push)
        if other is not push:
            both = " and ".join(each.target.secret_key or "all keys" for each in (other, push))
            raise Invalid(
                "same-place",
                f"{both} would both be pushed to {push.place} of {store.kind} {store.name}",
                hint="give each a remoteKey or property of its own",
            )
    return list(found.values())


def pushes_of(
    spec: PushSpec, chosen: Mapping[StoreRef, Iterable[StoreChoice]], source: Source,
    inputs: Inputs, render: Render,
) -> list[Push]:  # fmt: skip
    """What one source gives all stores that are chosen, its template applied."""
    given = templated(spec.template, source, inputs, render)
    return [
        push
        for ref, choices in chosen.items()
        for push in pushes_for(spec, ref, choices, given, render)
    ]


def those_that_stay(spec: PushSpec, pushes: Sequence[Push]) -> list[Push]:
    """Of pushes of several sources for one place the one that is there when all are done.

    Else readers would get the values of the others in between, each time anew.
    """
    stay: dict[tuple[StoreRef, str], Push] = {}
    for each in pushes:
        # In the order of the manifest in either case: a whole secret comes before its properties.
        place = each.store, each.place
        stay[place] = each if spec.replace else stay.get(place, each)
    return list(stay.values())


def _push(row: PushRow, store: StoreRef, source: Source, keys: Mapping[str, str]) -> Push:
    """What a row pushes, of a source whose `keys` stand by what they are named at the store."""
    data = source.data
    value: bytes | None = None
    whole: Mapping[str, bytes] | None = None
    if not row.secret_key:
        whole = {name: data[key] for name, key in keys.items()}
    elif row.secret_key in keys:
        value = data[keys[row.secret_key]]
    else:
        raise Invalid("no-secret-key", f"the source has no key {row.secret_key}")
    metadata = metadata_spec(row.metadata)
    target = PushTarget(
        row.remote_key, row.property, secret_key=row.secret_key, whole=whole, metadata=metadata,
        source=source.metadata,
    )  # fmt: skip
    return Push(store, target, value, _shown(row, row.secret_key, target))


def _spread(
    every: PushAll, store: StoreRef, source: Source, taken: Collection[str], render: Render
) -> Iterable[Push]:
    """Each key that matches, without those in `taken`; to one remote key, all that match."""
    matches = compile_pattern(every.pattern).search if every.pattern else bool
    chosen = {
        name: source.data[key]
        for name, key in _names(source.data, reverse=every.reverse).items()
        if matches(name) and (every.remote_key or key not in taken)
    }
    about: dict[str, Any] = {
        "metadata": metadata_spec(every.metadata), "source": source.metadata
    }  # fmt: skip
    if every.remote_key:
        if not chosen:
            return
        target = PushTarget(every.remote_key, whole=chosen, **about)
        yield Push(store, target, None, _shown(every, "", target))
        return
    for name, value in chosen.items():
        (remote,) = rewrite(every.rewrites, {name: value}, render)
        if not remote:
            raise Invalid("bad-rewrite", f"the rewrite of dataTo leaves nothing of {name!r}")
        target = PushTarget(remote, secret_key=name, **about)
        yield Push(store, target, value, _shown(every, name, target))


def _shown(entry: PushRow | PushAll, secret_key: str, target: PushTarget) -> Object:
    remote: Object = {"remoteKey": target.key}
    if target.property:
        remote["property"] = target.property
    match: Object = {"remoteRef": remote} | ({"secretKey": secret_key} if secret_key else {})
    shown: Object = {"match": match} | ({"metadata": entry.metadata} if entry.metadata else {})
    # Without it definitions fill in `None`.
    return shown | ({"conversionStrategy": "ReverseUnicode"} if entry.reverse else {})


def _as_object(data: Mapping[str, bytes]) -> bytes:
    try:
        return orjson.dumps({key: value.decode() for key, value in sorted(data.items())})
    except UnicodeDecodeError:
        raise Invalid("binary-value", "a source with bytes that are no text has to be pushed"
                      " key by key") from None  # fmt: skip


def _names(data: Iterable[str], *, reverse: bool) -> dict[str, str]:
    """The keys by what they are named at a store; raises Invalid(`key-collision`)."""
    found: dict[str, str] = {}
    for key in sorted(data):
        name = _ENCODED.sub(_character, key) if reverse else key
        if name in found:
            raise Invalid("key-collision", f"{key} and {found[name]} of the source become one name")
        found[name] = key
    return found


def _character(match: re.Match[str]) -> str:
    """What `_Uxxxx_` stands for; half a pair is no character, and stands for none in Go either."""
    code = int(match.group(1), 16)
    return "\ufffd" if 0xD800 <= code <= 0xDFFF else chr(code)


def metadata_spec(metadata: Any) -> Mapping[str, Any]:  # noqa: ANN401 - a manifest's value
    """The spec of a PushSecretMetadata, or the metadata itself when it is none."""
    if not isinstance(metadata, Mapping):
        return {}
    if metadata.get("kind") == _METADATA_KIND:
        inner = metadata.get("spec")
        return inner if isinstance(inner, Mapping) else {}
    return metadata


def pushed_before(status: Mapping[str, Any]) -> dict[tuple[StoreRef, str], PushTarget]:
    """What the status says was pushed, by store and place."""
    found: dict[tuple[StoreRef, str], PushTarget] = {}
    for store, places in (status.get("syncedPushSecrets") or {}).items():
        kind, _, name = store.partition("/")
        for place, row in places.items():
            match = row.get("match") or {}
            remote = match.get("remoteRef") or {}
            target = PushTarget(
                str(remote.get("remoteKey") or place),
                str(remote.get("property") or ""),
                secret_key=str(match.get("secretKey") or ""),
                metadata=metadata_spec(row.get("metadata")),
            )
            found[StoreRef(name, kind), place] = target
    return found


def merged(shown: Mapping[str, Any], gone: Mapping[str, Any]) -> dict[str, Any]:
    """A merge patch of nested maps: what is shown, and null for what is no longer."""
    patch: dict[str, Any] = {name: dict(places) for name, places in shown.items()}
    for name, places in gone.items():
        if places is None:
            patch[name] = None
        else:
            patch.setdefault(name, {}).update(places)
    return patch
