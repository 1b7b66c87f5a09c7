"""GeneratorStates: what was made and has to be let go of when it has been replaced.

A state is written as soon as something is made, before the Secret is: nothing that was made can
be forgotten. What was made before gets a deadline once the Secret holds the new values, so that
its readers have time to follow. Shape and labels are External Secrets Operator's.
"""

import hashlib
import logging
import re
from collections.abc import Mapping
from typing import Any, Final

from strongroom.kube.api import KubeApi, Scope
from strongroom.kube.resource import Object
from strongroom.model.clock import Clock
from strongroom.model.errors import NotFound, Refusal
from strongroom.sync.crds import GENERATOR_STATES
from strongroom.sync.generators.kinds import Workshop, resource_of
from strongroom.sync.spec import GeneratorRef
from strongroom.sync.status import seconds

OWNER_KEY: Final = "generators.external-secrets.io/owner-key"
FINALIZER: Final = "generatorstate.externalsecrets.io/finalizer"
GRACE_SECONDS: Final = 120.0
DEADLINE: Final = "garbageCollectionDeadline"
_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")

_log = logging.getLogger(__name__)


def owner_key(owner: Object, slot: str) -> str:
    """The label that ties a state to a place in its owner; what no label can hold is hashed."""
    key = f"{owner['kind']}-{owner['metadata']['name']}-{slot}".lower()
    if _LABEL.fullmatch(key):
        return key
    return f"h-{hashlib.sha256(key.encode()).hexdigest()[:40]}"


class ServedGenerators:
    """Makes values by the objects in the cluster. Implements reader.Generators."""

    def __init__(
        self, api: KubeApi, workshop: Workshop, clock: Clock, grace: float = GRACE_SECONDS
    ) -> None:
        self._api = api
        self._workshop = workshop
        self._clock = clock
        self._grace = grace
        # The states that were made since the owner's Secret was last written, by the owner's uid.
        self._fresh: dict[str, list[tuple[str, str]]] = {}
        # Of them those that the Secret may hold, for nobody knows how its write ended.
        self._held: dict[str, list[tuple[str, str]]] = {}

    async def generate(self, ref: GeneratorRef, owner: Object, slot: str) -> Mapping[str, bytes]:
        """Fresh values; raises NotFound(`no-generator`) or what the generator raises."""
        resource, namespace = resource_of(ref), owner["metadata"]["namespace"]
        where = namespace if resource.namespaced else ""
        try:
            found = await self._api.get(resource, ref.name, where)
        except NotFound:
            raise NotFound(
                "no-generator", f"{ref.kind} {ref.name} does not exist", hint="create it first"
            ) from None
        generator = {**found, "kind": resource.kind, "apiVersion": resource.api_version}
        made = await self._workshop.make(generator, namespace)
        if made.state is not None:
            await self._remember(generator, owner, slot, made.state)
        return made.values

    async def _remember(
        self, generator: Object, owner: Object, slot: str, state: Mapping[str, Any]
    ) -> None:
        metadata = generator["metadata"]
        kept = {key: metadata[key] for key in ("name", "namespace") if metadata.get(key)}
        namespace, key = owner["metadata"]["namespace"], owner_key(owner, slot)
        item: Object = {
            "metadata": {
                "generateName": f"gen-{owner['kind'].lower()}-{owner['metadata']['name']}-",
                "namespace": namespace,
                "labels": {OWNER_KEY: key},
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
        fresh = self._fresh.setdefault(owner["metadata"]["uid"], [])
        fresh.append((key, made["metadata"]["name"]))

    async def settle(self, owner: Object) -> None:
        """The Secret holds what was made last: what was made before is let go of in a while.

        Never raises a Refusal.
        """
        uid = owner["metadata"]["uid"]
        # Of several makings for one place the last one is in use.
        for key, name in dict(self._held.pop(uid, []) + self._fresh.pop(uid, [])).items():
            try:
                await self._end_all_but(name, key, owner["metadata"]["namespace"])
            except Refusal as refusal:
                # The Secret is right; the next one that is settled ends what is left.
                _log.warning("generatorstates of %s: %s", key, refusal.code)

    async def _end_all_but(self, kept: str, key: str, namespace: str) -> None:
        scope = Scope(namespace=namespace, label_selector=f"{OWNER_KEY}={key}")
        for each in (await self._api.list(GENERATOR_STATES, scope)).items:
            if each["metadata"]["name"] != kept and not each["spec"].get(DEADLINE):
                await self._end(each["metadata"]["name"], namespace, self._grace)

    def hold(self, owner: Object) -> None:
        """The Secret may hold what was made last."""
        uid = owner["metadata"]["uid"]
        self._held.setdefault(uid, []).extend(self._fresh.pop(uid, []))

    async def abandon(self, owner: Object) -> None:
        """What was made last is in no Secret; never raises, for it is said to a refusal's face."""
        for _, name in self._fresh.pop(owner["metadata"]["uid"], []):
            try:
                await self._end(name, owner["metadata"]["namespace"], 0.0)
            except Refusal as refusal:
                # The next one that is settled ends it.
                _log.warning("generatorstate %s: %s", name, refusal.code)

    async def _end(self, name: str, namespace: str, grace: float) -> None:
        await end_at(self._api, (namespace, name), self._clock.now() + grace)


async def end_at(api: KubeApi, key: tuple[str, str], when: float) -> None:
    """Give a state, by namespace and name, its end; raises a Refusal."""
    spec = {"spec": {DEADLINE: seconds(when)}}
    await api.merge_patch(GENERATOR_STATES, key[1], key[0], spec)
