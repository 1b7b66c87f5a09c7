"""GeneratorStates: what was made and has to be let go of when it has been replaced.

A state is written as soon as something is made, before the Secret is: nothing that was made can
be forgotten. What was made before gets a deadline once the Secret holds the new values, so that
its readers have time to follow. What reached no Secret is kept for the next try, under a deadline
as well, so that it ends although nobody comes back for it. Shape and labels are External Secrets
Operator's.
"""

import hashlib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from strongroom.kube.api import KubeApi, Scope
from strongroom.kube.resource import Object
from strongroom.model.clock import Clock
from strongroom.model.errors import Invalid, NotFound, Refusal
from strongroom.sync.crds import GENERATOR_STATES
from strongroom.sync.durations import parse_duration
from strongroom.sync.generators.contract import Made
from strongroom.sync.generators.kinds import Workshop, class_of, resource_of
from strongroom.sync.reader import Unsettled
from strongroom.sync.spec import GeneratorRef
from strongroom.sync.status import seconds

OWNER_KEY: Final = "generators.external-secrets.io/owner-key"
FINALIZER: Final = "generatorstate.externalsecrets.io/finalizer"
GRACE_SECONDS: Final = 120.0
# For so long something is kept for another try where nothing else says how long.
DAY_SECONDS: Final = 86_400.0
DEADLINE: Final = "garbageCollectionDeadline"
_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")

_log = logging.getLogger(__name__)


# Kind, namespace and name.
_Owner = tuple[str, str, str]


def _owner(owner: Object) -> _Owner:
    return (owner["kind"], owner["metadata"]["namespace"], owner["metadata"]["name"])


def owner_key(owner: Object, slot: str) -> str:
    """The label that ties a state to a place in its owner; what no label can hold is hashed."""
    key = f"{owner['kind']}-{owner['metadata']['name']}-{slot}".lower()
    if _LABEL.fullmatch(key):
        return key
    return f"h-{hashlib.sha256(key.encode()).hexdigest()[:40]}"


@dataclass(slots=True)
class _Making:
    """What was made for a place of an owner: `state` is the name of what remembers it, or "".

    `until` is the monotonic time to which it is used for another try; `of` is what it was made by.
    """

    label: str
    state: str
    of: tuple[Any, ...]
    until: float
    values: Mapping[str, bytes] = field(repr=False)
    ending: bool = False


class ServedGenerators:
    """Makes values by the objects in the cluster. Implements reader.Generators."""

    def __init__(
        self,
        api: KubeApi,
        workshop: Workshop,
        clock: Clock,
        grace: float = GRACE_SECONDS,
        controller_class: str = "",
    ) -> None:
        self._api = api
        self._workshop = workshop
        self._clock = clock
        self._grace = grace
        self._class = controller_class
        # What was made since the owner's Secret was last written, by the place in the owner.
        self._fresh: dict[_Owner, dict[str, _Making]] = {}
        # States that the Secret may hold, for nobody knows how its write ended: label to name.
        self._held: dict[_Owner, dict[str, str]] = {}
        # States that are in use, where those before them could not be given an end so far.
        self._owed: dict[_Owner, dict[str, str]] = {}

    def begin(self) -> None:
        """Somebody else may have worked until now, and ended what is known here."""
        for held in (self._held, self._owed):
            held.clear()
        self._fresh.clear()

    async def managed(self, ref: GeneratorRef, namespace: str) -> bool:
        """Whether a generator is for this controller; one that is not there is nobody else's."""
        try:
            return class_of(await self._found(ref, namespace)) in ("", self._class)
        except (NotFound, Invalid):
            # What is wrong with it is said when it is asked.
            return True

    async def generate(self, ref: GeneratorRef, owner: Object, slot: str) -> Mapping[str, bytes]:
        """Values for a place: what was made for a try that failed, or fresh ones.

        Raises NotFound(`no-generator`) or what the generator raises.
        """
        namespace = owner["metadata"]["namespace"]
        generator = await self._found(ref, namespace)
        fresh = self._fresh.setdefault(_owner(owner), {})
        before, now = fresh.get(slot), self._clock.monotonic()
        metadata = generator["metadata"]
        of = (owner["metadata"]["uid"], metadata.get("uid"), metadata.get("generation"))
        if before is not None and before.of == of and now < before.until:
            if before.ending:
                # First, or it would end while the Secret holds it.
                await end_at(self._api, (namespace, before.state), None)
                before.ending = False
            return before.values
        if before is not None:
            await self._end(before, namespace, 0.0)
            del fresh[slot]
        made = await self._workshop.make(generator, namespace)
        label, name = owner_key(owner, slot), ""
        if made.state is not None:
            name = await self._remember(generator, owner, label, made.state)
        fresh[slot] = _Making(label, name, of, now + _lasts(owner, made), made.values)
        return made.values

    async def _found(self, ref: GeneratorRef, namespace: str) -> Object:
        resource = resource_of(ref)
        where = namespace if resource.namespaced else ""
        try:
            found = await self._api.get(resource, ref.name, where)
        except NotFound:
            raise NotFound(
                "no-generator", f"{ref.kind} {ref.name} does not exist", hint="create it first"
            ) from None
        return {**found, "kind": resource.kind, "apiVersion": resource.api_version}

    async def _remember(
        self, generator: Object, owner: Object, label: str, state: Mapping[str, Any]
    ) -> str:
        """The name of the state that is written for what was made."""
        metadata = generator["metadata"]
        kept = {key: metadata[key] for key in ("name", "namespace") if metadata.get(key)}
        namespace = owner["metadata"]["namespace"]
        item: Object = {
            "metadata": {
                "generateName": f"gen-{owner['kind'].lower()}-{owner['metadata']['name']}-",
                "namespace": namespace,
                "labels": {OWNER_KEY: label},
                "finalizers": [FINALIZER],
                "ownerReferences": [
                    {
                        "apiVersion": owner["apiVersion"],
                        "kind": owner["kind"],
                        "name": owner["metadata"]["name"],
                        "uid": owner["metadata"]["uid"],
                    }
                ],
            },
            "spec": {"resource": {**generator, "metadata": kept}, "state": dict(state)},
        }
        try:
            made = await self._api.create(GENERATOR_STATES, item)
        except Refusal:
            # What cannot be remembered is not kept.
            await self._workshop.release(generator, namespace, state)
            raise
        return str(made["metadata"]["name"])

    async def settle(self, owner: Object) -> None:
        """The Secret holds what was made last: what was made before is let go of in a while.

        Raises Unsettled when that could not be written; called again, it is done.
        """
        place = _owner(owner)
        fresh = {each.label: each.state for each in self._fresh.pop(place, {}).values()}
        # Of several makings for one place the last one is in use.
        used = {**self._owed.pop(place, {}), **self._held.pop(place, {}), **fresh}
        left = {label: name for label, name in used.items() if name}
        for label, name in list(left.items()):
            try:
                await self._end_all_but(name, label, owner["metadata"]["namespace"])
            except Refusal as refusal:
                _log.warning("generatorstates of %s: %s", label, refusal.code)
            else:
                del left[label]
        if left:
            self._owed[place] = left
            raise Unsettled(", ".join(sorted(left)))

    async def _end_all_but(self, kept: str, label: str, namespace: str) -> None:
        scope = Scope(namespace=namespace, label_selector=f"{OWNER_KEY}={label}")
        for each in (await self._api.list(GENERATOR_STATES, scope)).items:
            if each["metadata"]["name"] != kept and not each["spec"].get(DEADLINE):
                when = self._clock.now() + self._grace
                await end_at(self._api, (namespace, each["metadata"]["name"]), when)

    def hold(self, owner: Object) -> None:
        """The Secret may hold what was made last."""
        place = _owner(owner)
        fresh = self._fresh.pop(place, {}).values()
        self._held.setdefault(place, {}).update({each.label: each.state for each in fresh})

    async def abandon(self, owner: Object) -> None:
        """What was made last is in no Secret yet: it stays for the next try, and then ends.

        Never raises, for it is called at a refusal.
        """
        for each in self._fresh.get(_owner(owner), {}).values():
            if not each.ending:
                over = max(0.0, each.until - self._clock.monotonic())
                # Longer than anybody takes it up, so that it does not end while it is written.
                await self._end(each, owner["metadata"]["namespace"], over + self._grace)

    def forget(self, kind: str, key: tuple[str, str]) -> None:
        """An owner is gone, and its states go with it."""
        self._fresh.pop((kind, *key), None)
        for held in (self._held, self._owed):
            held.pop((kind, *key), None)

    async def _end(self, making: _Making, namespace: str, grace: float) -> None:
        if not making.state:
            return
        try:
            await end_at(self._api, (namespace, making.state), self._clock.now() + grace)
        except Refusal as refusal:
            # The next one that is settled ends it.
            _log.warning("generatorstate %s: %s", making.state, refusal.code)
        else:
            making.ending = True


def _lasts(owner: Object, made: Made) -> float:
    """For how many seconds something is used for another try. Pure.

    Until a fresh one would be due anyway, and for no more than half of the life that it has.
    """
    try:
        interval = parse_duration((owner.get("spec") or {}).get("refreshInterval", "1h"))
    except Invalid:
        interval = 0.0
    # A value is as good on the next day when it has no end of its own.
    lasts = interval or DAY_SECONDS
    state = made.state or {}
    lives = [float(state.get(each) or 0) for each in ("leaseDuration", "tokenDuration")]
    return min([lasts, *(each / 2 for each in lives if each)])


async def end_at(api: KubeApi, key: tuple[str, str], when: float | None) -> None:
    """Give a state, by namespace and name, its end, or None for no end; raises a Refusal."""
    spec = {"spec": {DEADLINE: None if when is None else seconds(when)}}
    await api.merge_patch(GENERATOR_STATES, key[1], key[0], spec)
