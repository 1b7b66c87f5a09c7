"""From a reference to a generator's values: the object, its kind, and its identity.

What is wrong with a generator's spec is an Invalid that names the field.
"""

import contextlib
from collections.abc import Mapping
from typing import Any, Final, Protocol

from strongroom.kube.resource import Object, Resource
from strongroom.model.errors import Denied, Invalid, NotFound
from strongroom.sync.crds import CLUSTER_GENERATORS, GENERATOR_STATES, GENERATORS
from strongroom.sync.generators.contract import Life, Made, Make, Release, Sources, Sustain
from strongroom.sync.providers.fields import Fields
from strongroom.sync.providers.references import References
from strongroom.sync.spec import GENERATORS as API_VERSION
from strongroom.sync.spec import GeneratorRef

KINDS: Final = tuple(each.kind for each in GENERATORS)
_RESOURCES: Final = {each.kind: each for each in (*GENERATORS, CLUSTER_GENERATORS)}


def resource_of(ref: GeneratorRef) -> Resource:
    """The kind a reference means; raises Invalid(`unsupported-generator`)."""
    found = _RESOURCES.get(ref.kind)
    if found is None or ref.api_version != API_VERSION:
        raise Invalid(
            "unsupported-generator",
            f"the generator {ref.kind} of {ref.api_version} is not served",
            hint=f"served are {', '.join(_RESOURCES)}; leave this object to the other controller",
        )
    return found


def spec_of(generator: Object) -> tuple[str, Fields]:
    """The kind that makes the values and its spec, out of a ClusterGenerator or not. Pure.

    A ClusterGenerator holds one spec under the name of its kind: `passwordSpec`, `uuidSpec`.
    """
    kind, spec = str(generator.get("kind")), Fields(generator.get("spec") or {}, "spec")
    if kind != CLUSTER_GENERATORS.kind:
        return kind, spec
    kind, part = spec.required("kind"), spec.needed("generator")
    if kind not in KINDS:
        raise Invalid("unsupported-generator", f"spec.kind: the generator {kind} is not served")
    for name in part.names():
        if name.lower() == f"{kind}Spec".lower():
            return kind, part.needed(name)
    raise part.bad(f"{kind[0].lower()}{kind[1:]}Spec", "is needed")


def class_of(generator: Object) -> str:
    """The controller class that a generator is for; "" when it is for any. Pure.

    Raises Invalid for a generator that cannot be understood.
    """
    return spec_of(generator)[1].text("controller")


def maker_of(kind: str) -> Make:
    """What makes the values of a kind, loaded when it is met: few operators need any."""
    if kind in ("Password", "UUID", "SSHKey", "Fake"):
        from strongroom.sync.generators import local

        makers: Mapping[str, Make] = {
            "Password": local.password,
            "UUID": local.uuid4,
            "SSHKey": local.ssh_key,
            "Fake": local.fake,
        }
        return makers[kind]
    make: Make
    if kind == "Webhook":
        from strongroom.sync.generators.web import answer as make
    elif kind == "VaultDynamicSecret":
        from strongroom.sync.generators.vault import dynamic as make
    elif kind == "ECRAuthorizationToken":
        from strongroom.sync.generators.aws import registry_token as make
    elif kind == "STSSessionToken":
        from strongroom.sync.generators.aws import session_token as make
    elif kind == "GCRAccessToken":
        from strongroom.sync.generators.gcp import access_token as make
    else:
        from strongroom.sync.generators.azure import access_token as make
    return make


def release_of(kind: str) -> Release | None:
    """What ends that which a kind has made; None where it ends by itself."""
    if kind != "VaultDynamicSecret":
        return None
    from strongroom.sync.generators.vault import revoke

    return revoke


def sustain_of(kind: str) -> Sustain | None:
    """What keeps alive that which a kind has made; None where nothing has to."""
    if kind != "VaultDynamicSecret":
        return None
    from strongroom.sync.generators.vault import sustain

    return sustain


def _asked(generator: Object) -> tuple[str, Any]:
    """The kind of a generator, and whom it asks as whom."""
    kind, spec = spec_of(generator)
    return kind, spec.raw().get("provider")


class Workshop(Protocol):
    """Makes by generators, and ends what was made."""

    async def make(self, generator: Object, namespace: str) -> Made:
        """Fresh values for an object in a namespace; raises a Refusal."""

    async def release(self, generator: Object, namespace: str, state: Mapping[str, Any]) -> None:
        """Let go of what was made; raises a Refusal."""

    async def sustain(
        self, generator: Object, namespace: str, state: Mapping[str, Any], age: float
    ) -> Life | None:
        """Keep alive what was made `age` seconds ago; None when there is nothing to do.

        Raises a Refusal when it could not be tried.
        """


class ServedKinds:
    """The kinds above. Implements Workshop."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    async def make(self, generator: Object, namespace: str) -> Made:
        kind, spec = spec_of(generator)
        return await maker_of(kind)(spec, self._references(generator, namespace), self._sources)

    async def release(self, generator: Object, namespace: str, state: Mapping[str, Any]) -> None:
        kind, spec = spec_of(generator)
        done = release_of(kind)
        if done is not None:
            await done(spec, await self._of_state(generator, namespace), self._sources, state)

    async def sustain(
        self, generator: Object, namespace: str, state: Mapping[str, Any], age: float
    ) -> Life | None:
        kind, spec = spec_of(generator)
        done = sustain_of(kind)
        if done is None:
            return None
        return await done(
            spec, await self._of_state(generator, namespace), self._sources, state, age
        )

    async def _of_state(self, generator: Object, namespace: str) -> References:
        """The references of a generator as a GeneratorState of the namespace remembers it.

        Whoever may write states there may write any generator into one. What it refers to is of
        that namespace, unless a ClusterGenerator has the same identity at the same server now.
        """
        metadata = dict(generator.get("metadata") or {}) | {"namespace": namespace}
        if generator.get("kind") == CLUSTER_GENERATORS.kind:
            with contextlib.suppress(NotFound, Denied):
                api = self._sources.around.api
                there = await api.get(CLUSTER_GENERATORS, str(metadata.get("name")))
                if _asked(there | {"kind": CLUSTER_GENERATORS.kind}) == _asked(generator):
                    return self._references(there, namespace)
        return self._references({"kind": GENERATOR_STATES.kind, "metadata": metadata}, namespace)

    def _references(self, generator: Object, namespace: str) -> References:
        return References(self._sources.around, generator, namespace)
