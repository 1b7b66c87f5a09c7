"""Walks the chain of one ExternalSecret and names the first thing that is wrong, with the remedy.

The steps are the operator's own: the same parsing, lookups, logins, reads, templates and checks
of consent decide here and there, so what is explained is what happens.
"""

from dataclasses import dataclass, field
from typing import Final

from strongroom.kube.api import KubeApi, Scope
from strongroom.kube.resource import LEASES, Object, key_of
from strongroom.model.clock import Clock
from strongroom.model.errors import Conflict, Denied, Invalid, NotFound, Refusal, Unavailable
from strongroom.sync.crds import CLUSTER_SECRET_STORES, SECRET_STORES
from strongroom.sync.desired import (
    Difference,
    Wanted,
    build,
    synced_version,
)
from strongroom.sync.drift import ADOPT, check_consent, describe, describe_repair, written_by
from strongroom.sync.generators.kinds import class_of, resource_of
from strongroom.sync.reader import Collected, Reader
from strongroom.sync.reads import SharedReads
from strongroom.sync.remedies import (
    for_conditions,
    for_identity,
    for_missing_store,
    for_operator,
    for_refused,
    plain,
    worded,
)
from strongroom.sync.render import Rendered, render_target
from strongroom.sync.rewrite import Renderer
from strongroom.sync.spec import (
    GeneratorRef,
    RemoteRef,
    Row,
    Source,
    Spec,
    StoreRef,
    not_deleted,
    parse_spec,
)
from strongroom.sync.status import find
from strongroom.sync.stores import Lookup, Stores, is_managed
from strongroom.sync.target import Targets, change_of, manifest_object, missing_paths
from strongroom.sync.template_texts import template_texts
from strongroom.sync.values import pick

STEPS: Final = (
    "manifest",
    "store",
    "identity",
    "permission",
    "path",
    "property",
    "generator",
    "template",
    "target",
    "status",
)


@dataclass(frozen=True, slots=True)
class Step:
    """One link: what was found, and when it is broken what to do."""

    name: str
    good: bool
    said: str
    remedy: str = ""
    code: str = ""


@dataclass(slots=True)
class Explanation:
    """The links in order, up to the first that is broken."""

    steps: list[Step] = field(default_factory=list)

    @property
    def broken(self) -> Step | None:
        """The first thing that is wrong."""
        return next((each for each in self.steps if not each.good), None)


@dataclass(frozen=True, slots=True)
class Chain:
    """What is walked with."""

    api: KubeApi
    lookup: Lookup
    stores: Stores
    reader: Reader
    targets: Targets
    render: Renderer
    controller_class: str = ""
    # Tells how old the Lease of that name is, by which an operator leads.
    clock: Clock | None = None
    lease: str = "strongroom-operator"


class _Broken(Exception):
    """The walk has ended."""


class _Walk:
    def __init__(self, chain: Chain, item: Object) -> None:
        self.chain = chain
        self.item = item
        self.found = Explanation()

    def good(self, name: str, said: str) -> None:
        self.found.steps.append(Step(name, True, said))

    def broken(
        self, name: str, refusal: Refusal, remedy: str = "", *, instead: bool = False
    ) -> _Broken:
        """A link that is broken; `instead` says that a remedy knows more than the refusal's own."""
        said = remedy if instead and remedy else refusal.hint or remedy
        self.found.steps.append(Step(name, False, plain(refusal.message), said, refusal.code))
        return _Broken()


async def explain(chain: Chain, item: Object) -> Explanation:
    """Walk; reads the store as the operator would, and writes nothing."""
    walk = _Walk(chain, item)
    try:
        spec = _manifest(walk)
        used = {ref: await _store(walk, ref) for ref in sorted(spec.stores)}
        for each in spec.parts:
            await _read(walk, each, used)
        for generator in sorted(spec.generators):
            await _generator(walk, generator)
        if not spec.generators:
            made = await _values(walk, spec)
            if made is None:
                await _emptied(walk, spec)
            else:
                await _target(walk, spec, *made)
        await _status(walk)
    except _Broken:
        pass
    return walk.found


def _manifest(walk: _Walk) -> Spec:
    try:
        spec = parse_spec(walk.item)
    except Invalid as refusal:
        raise walk.broken("manifest", refusal, "correct the field in the manifest") from None
    rows = len(spec.rows) + len(spec.sources)
    entries = "1 entry" if rows == 1 else f"{rows} entries"
    walk.good("manifest", f"{entries} for the target {spec.target}, every rule holds")
    return spec


async def _store(walk: _Walk, ref: StoreRef) -> SharedReads:
    chain, namespace = walk.chain, walk.item["metadata"]["namespace"]
    store = await chain.lookup.store(ref, namespace)
    named = f"{ref.kind} {ref.name}"
    if store is not None and not is_managed(store, chain.controller_class):
        other = (store.get("spec") or {}).get("controller")
        refusal = Invalid("other-class", f"{named} is for the controller class {other!r}")
        remedy = "start an operator of that class, or change spec.controller"
        raise walk.broken("store", refusal, remedy)
    try:
        reads = await chain.stores.reads(ref, namespace)
    except (NotFound, Denied, Invalid) as refusal:
        remedy = await _store_remedy(walk, ref, store)
        known = bool(remedy)
        raise walk.broken("store", refusal, remedy or f"correct {named}", instead=known) from None
    walk.good("store", f"{named} is there and may be used from {namespace}")
    try:
        await reads.provider.validate()
    except Refusal as refusal:
        remedy = for_identity(refusal, store or {})
        raise walk.broken("identity", refusal, remedy, instead=True) from None
    notes = "".join(f"; {each}" for each in reads.provider.traits.notes)
    walk.good("identity", f"{named} lets us in{notes}")
    return reads


async def _store_remedy(walk: _Walk, ref: StoreRef, store: Object | None) -> str:
    """What is known beyond the refusal: which stores there are, or whom this one admits."""
    api, namespace = walk.chain.api, walk.item["metadata"]["namespace"]
    try:
        if store is None:
            own = (await api.list(SECRET_STORES, Scope(namespace=namespace))).items
            wide = (await api.list(CLUSTER_SECRET_STORES)).items
            named = ([each["metadata"]["name"] for each in kind] for kind in (own, wide))
            return for_missing_store(ref, *named)
        if (store.get("spec") or {}).get("conditions"):
            return for_conditions(store, namespace, await walk.chain.lookup.labels(namespace))
    except Refusal:
        # Who may not list them is told what can be told without.
        pass
    return ""


async def _read(walk: _Walk, part: Row | Source, used: dict[StoreRef, SharedReads]) -> None:
    ref: RemoteRef | None = part.remote if isinstance(part, Row) else part.extract
    if ref is None or part.store is None:
        return
    try:
        found = await used[part.store].fetch(ref)
    except Denied as refusal:
        remedy = f"let the store's identity read {ref.key}, or correct remoteRef.key"
        raise walk.broken("permission", refusal, remedy) from None
    except NotFound as refusal:
        raise walk.broken("path", refusal, f"write {ref.key}, or correct remoteRef.key") from None
    except Refusal as refusal:
        raise walk.broken("path", refusal, "look at the store") from None
    version = f" at version {found.version}" if found.version != "" else ""
    walk.good("path", f"{found.path} is readable{version}")
    if isinstance(part, Row) and ref.property:
        try:
            pick(found.data, ref)
        except Refusal as refusal:
            raise walk.broken("property", refusal, "correct remoteRef.property") from None
        walk.good("property", f"{ref.property} is in {ref.key}")


async def _generator(walk: _Walk, ref: GeneratorRef) -> None:
    """A generator is looked at and not asked, for it would make something new."""
    chain, namespace = walk.chain, walk.item["metadata"]["namespace"]
    try:
        named = await _class_of(chain, ref, namespace)
    except Refusal as refusal:
        raise walk.broken("generator", refusal, f"correct {ref.kind} {ref.name}") from None
    if named not in ("", chain.controller_class):
        said = f"{ref.kind} {ref.name} is for the controller class {named!r}"
        remedy = "start an operator of that class, or change spec.controller"
        raise walk.broken("generator", Invalid("other-class", said), remedy)
    walk.good("generator", f"{ref.kind} {ref.name} is there; it is not asked to see what it makes")


async def _class_of(chain: Chain, ref: GeneratorRef, namespace: str) -> str:
    """The class that a generator is for; raises a Refusal for one that is not there or is wrong."""
    resource = resource_of(ref)
    where = namespace if resource.namespaced else ""
    try:
        found = await chain.api.get(resource, ref.name, where)
    except NotFound:
        place = f" in {namespace}" if where else ""
        raise NotFound(
            "no-generator",
            f"{ref.kind} {ref.name} does not exist{place}",
            hint="create it, or correct generatorRef",
        ) from None
    return class_of({**found, "kind": resource.kind})


async def _values(walk: _Walk, spec: Spec) -> tuple[Wanted, Rendered] | None:
    """What the target should be; None where the store has none of it and the policy decides."""
    chain, item = walk.chain, walk.item
    try:
        collected = await chain.reader.collect(item, spec)
    except Denied as refusal:
        remedy = "let the store's identity list and read what `find` looks through"
        raise walk.broken("permission", refusal, remedy) from None
    except Unavailable as refusal:
        raise walk.broken("path", refusal, "look at the store") from None
    except Refusal as refusal:
        missing = isinstance(refusal, NotFound) and refusal.code != "no-property"
        step = "path" if missing else "property"
        raise walk.broken(step, refusal, "correct the entry of data or dataFrom") from None
    if _is_emptied(spec, collected):
        return None
    try:
        wanted, made = await render_wanted(chain, item, spec, collected)
    except Refusal as refusal:
        raise walk.broken("template", refusal, "correct target.template") from None
    keys = ", ".join([*sorted(wanted.data), *sorted(made.paths)]) or "no keys"
    walk.good("template", f"the target shall have {keys}")
    return wanted, made


def _is_emptied(spec: Spec, collected: Collected) -> bool:
    """Whether there is nothing at the store, so that nothing is rendered."""
    return not collected.data and spec.deletion in ("Retain", "Delete")


async def _emptied(walk: _Walk, spec: Spec) -> None:
    """The store has none of it: the target stays, or is deleted, by the deletionPolicy."""
    if spec.creation == "None" or spec.deletion == "Retain":
        kept = "deletionPolicy Retain keeps the target as it is, and makes none"
        kept = "creationPolicy is None" if spec.creation == "None" else kept
        walk.good("target", f"{EMPTIED}; {kept}")
        return
    if not spec.deletes:
        raise walk.broken("target", not_deleted(spec))
    try:
        current = await walk.chain.targets.found(walk.item, spec)
    except Conflict as refusal:
        raise walk.broken("target", refusal) from None
    kind = spec.manifest.kind if spec.manifest else "Secret"
    if current is not None:
        said = f"{EMPTIED} and deletionPolicy is Delete, but {kind} {spec.target}"
        there = Conflict("differs", f"{said} is there")
        raise walk.broken("target", there, await _operator(walk))
    walk.good("target", f"{EMPTIED}, and there is no {kind} {spec.target}")


async def render_wanted(
    chain: Chain, item: Object, spec: Spec, collected: Collected
) -> tuple[Wanted, Rendered]:
    """The target that the values make."""
    inputs, _ = await template_texts(chain.api, item["metadata"]["namespace"], spec.template)
    made = render_target(item, spec, collected.data, inputs, chain.render)
    return build(item, spec, made, collected.versions, hashed=True), made


async def manifest_differences(
    chain: Chain, item: Object, spec: Spec, made: tuple[Wanted, Rendered]
) -> tuple[Object | None, list[str]]:
    """Of a target that is no Secret: what is there, and the paths where that is not as wanted.

    Raises Conflict for one that is somebody else's, or what asking the cluster raises.
    """
    if spec.manifest is None:
        raise AssertionError("a Secret is compared by its keys")
    wanted, rendered = made
    resource, current = await chain.targets.manifest_there(spec.manifest, wanted)
    check_consent(item, spec, current)
    return current, missing_paths(current or {}, manifest_object(resource, wanted, rendered))


async def _manifest_target(walk: _Walk, spec: Spec, made: tuple[Wanted, Rendered]) -> None:
    named = f"{spec.manifest.kind if spec.manifest else ''} {spec.target}"
    try:
        current, paths = await manifest_differences(walk.chain, walk.item, spec, made)
    except Refusal as refusal:
        raise walk.broken("target", refusal, "correct target.manifest or the template") from None
    if current is None and spec.creation == "Merge":
        missing = NotFound("target-missing", f"{named} to merge into is not there")
        raise walk.broken("target", missing, "create it, or use CreateOrMerge")
    if current is None:
        said = Conflict("differs", f"{named} is not there")
        raise walk.broken("target", said, await _operator(walk))
    if paths:
        said = Conflict("differs", f"{named} differs at {', '.join(paths)}")
        raise walk.broken("target", said, await _operator(walk))
    walk.good("target", f"{named} is as it should be")


async def _target(walk: _Walk, spec: Spec, wanted: Wanted, made: Rendered) -> None:
    if spec.creation == "None":
        walk.good("target", "not compared: creationPolicy is None, so no target is written")
        return
    if spec.manifest is not None:
        await _manifest_target(walk, spec, (wanted, made))
        return
    current = await walk.chain.targets.current(wanted.namespace, wanted.name)
    try:
        difference = change_of(walk.item, spec, current, wanted)
    except Conflict as refusal:
        raise walk.broken("target", refusal) from None
    if not difference.any:
        walk.good("target", f"Secret {wanted.name} is as it should be")
        return
    said = f"Secret {wanted.name} is not there"
    if current is not None:
        said = describe(difference, f"Secret {wanted.name}")
    if current is None and spec.creation == "Merge":
        missing = NotFound("secret-missing", f"Secret {wanted.name} to merge into is not there")
        raise walk.broken("target", missing, "create it, or use CreateOrMerge")
    raise walk.broken("target", Conflict("differs", said), await _operator(walk))


async def _operator(walk: _Walk) -> str:
    """What the operator said, or who should have brought it in order, from Leases."""
    ready = find(walk.item.get("status") or {}, "Ready")
    if ready.get("status") == "False":
        return for_refused(str(ready.get("message")))
    if walk.chain.clock is None:
        return "look whether the operator runs"
    try:
        found = (await walk.chain.api.list(LEASES)).items
    except Refusal:
        return "wait for the operator, or look whether it runs: `kubectl get lease -A`"
    leases = [each for each in found if each["metadata"]["name"] == walk.chain.lease]
    return for_operator(leases, walk.chain.clock.now())


async def _status(walk: _Walk) -> None:
    """What the operator said last; after a repair it may not have looked again yet."""
    status = walk.item.get("status") or {}
    for kind, good in (("Contended", "False"), ("Stale", "False"), ("Ready", "True")):
        held = find(status, kind)
        if held and held.get("status") != good:
            refusal = Conflict(str(held.get("reason") or kind), str(held.get("message") or kind))
            remedy = "annotate it with force-sync to have it looked at now"
            raise walk.broken("status", refusal, remedy)
    if status.get("syncedResourceVersion") != synced_version(walk.item):
        refusal = Conflict("not-seen", "the operator has not seen this version of the object")
        raise walk.broken("status", refusal, await _operator(walk))
    walk.good("status", f"synced at {status.get('refreshTime', 'an unknown time')}")


@dataclass(frozen=True, slots=True)
class Planned:
    """What a manifest would do to its target: `action` is one of ACTIONS."""

    namespace: str
    name: str
    target: str
    action: str
    said: str
    code: str = ""


EMPTIED: Final = "the store has none of it"
ACTIONS: Final = ("create", "change", "take over", "delete", "nothing", "refuse", "unknown")


async def plan(chain: Chain, item: Object) -> Planned:
    """What would be written for a manifest, before it is applied; writes nothing."""
    namespace, name = key_of(item)

    def planned(action: str, said: str, code: str = "", target: str = name) -> Planned:
        return Planned(namespace, name, target, action, said, code)

    try:
        spec = parse_spec(item)
    except Invalid as refusal:
        return planned("refuse", str(refusal), refusal.code)
    try:
        other = await _other_class(chain, spec, namespace)
        if other:
            return planned("nothing", other, "other-class", spec.target)
        if spec.generators:
            said = "what its generators will make is not known beforehand"
            return planned("unknown", said, "generated", spec.target)
        collected = await chain.reader.collect(item, spec)
        if _is_emptied(spec, collected):
            return planned(await _would_empty(chain, item, spec), EMPTIED, target=spec.target)
        made = await render_wanted(chain, item, spec, collected)
        action, said, code = await _would(chain, item, spec, made)
    except Refusal as refusal:
        unknown = isinstance(refusal, Unavailable)
        action = "unknown" if unknown else "refuse"
        return planned(action, worded(refusal), refusal.code, spec.target)
    return planned(action, said, code, spec.target)


async def _other_class(chain: Chain, spec: Spec, namespace: str) -> str:
    """Why an operator of this class leaves an object alone; "" when it does not."""
    for ref in sorted(spec.stores):
        store = await chain.lookup.store(ref, namespace)
        if store is not None and not is_managed(store, chain.controller_class):
            named = (store.get("spec") or {}).get("controller")
            return f"{ref.kind} {ref.name} is for the controller class {named!r}"
    for generator in sorted(spec.generators):
        named = await _class_of(chain, generator, namespace)
        if named not in ("", chain.controller_class):
            return f"{generator.kind} {generator.name} is for the controller class {named!r}"
    return ""


async def _would_empty(chain: Chain, item: Object, spec: Spec) -> str:
    """Of what the store has nothing of; raises a Refusal for a target that may not be deleted."""
    if spec.creation == "None" or spec.deletion == "Retain":
        return "nothing"
    if not spec.deletes:
        raise not_deleted(spec)
    return "nothing" if await chain.targets.found(item, spec) is None else "delete"


async def _would(
    chain: Chain, item: Object, spec: Spec, made: tuple[Wanted, Rendered]
) -> tuple[str, str, str]:
    wanted = made[0]
    if spec.creation == "None":
        return "nothing", "creationPolicy is None", ""
    if spec.manifest is not None:
        return await _would_apply(chain, item, spec, made)
    current = await chain.targets.current(wanted.namespace, wanted.name)
    try:
        difference = change_of(item, spec, current, wanted)
    except Conflict as refusal:
        return "refuse", str(refusal), refusal.code
    return _action(item, spec, wanted, current, difference)


async def _would_apply(
    chain: Chain, item: Object, spec: Spec, made: tuple[Wanted, Rendered]
) -> tuple[str, str, str]:
    """Of a target that is no Secret."""
    kind = spec.manifest.kind if spec.manifest else ""
    current, paths = await manifest_differences(chain, item, spec, made)
    if current is None and spec.creation == "Merge":
        return "nothing", f"there is no {kind} to merge into", "secret-missing"
    if current is None:
        own = [each for each in paths if not each.startswith("metadata.")]
        return "create", f"{kind} with {', '.join(own)}", ""
    if not paths:
        return "nothing", "it is as it should be", ""
    said = f"{kind} differs at {', '.join(paths)}"
    if spec.whole and not written_by(current, made[0].manager):
        return "take over", f"{said} (consent: {_consent(item)})", ""
    return "change", said, ""


def _action(
    item: Object, spec: Spec, wanted: Wanted, current: Object | None, difference: Difference
) -> tuple[str, str, str]:
    keys = ", ".join(sorted(wanted.data))
    if current is None:
        if spec.creation == "Merge":
            return "nothing", "there is no Secret to merge into", "secret-missing"
        return "create", f"keys {keys}", ""
    if not difference.any:
        return "nothing", "it is as it should be", ""
    said = describe_repair(difference)
    if spec.whole and not written_by(current, wanted.manager):
        return "take over", f"{said} (consent: {_consent(item)})", ""
    return "change", said, ""


def _consent(item: Object) -> str:
    adopted = (item["metadata"].get("annotations") or {}).get(ADOPT) == "true"
    return f"annotation {ADOPT}" if adopted else "label created-by"
