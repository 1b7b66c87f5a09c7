"""The operator on a real API server: definitions with their rules, and no more rights than it needs."""

import asyncio
import base64
import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from random import SystemRandom
from typing import Any, ClassVar

import pytest
import yaml

from strongroom.app.waiting import until
from strongroom.kube.api import Scope
from strongroom.kube.client import KubeClient
from strongroom.kube.election import Election
from strongroom.kube.informer import Informer
from strongroom.kube.resource import CONFIG_MAPS, CRDS, NAMESPACES, SECRETS, Object, Resource
from strongroom.kube.token_review import request_token
from strongroom.model.clock import SystemClock
from strongroom.model.errors import Denied, Invalid, NotFound
from strongroom.sync.assembly import Doors, Operator, Options
from strongroom.sync.crds import (
    CLUSTER_EXTERNAL_SECRETS,
    CLUSTER_SECRET_STORES,
    EXTERNAL_SECRETS,
    GENERATOR_STATES,
    GENERATORS,
    PUSH_SECRETS,
    SECRET_STORES,
    crds,
)
from strongroom.sync.generators.contract import Made, Sources
from strongroom.sync.generators.kinds import ServedKinds
from strongroom.sync.generators.states import ServedGenerators
from strongroom.sync.providers.kinds import Providers
from strongroom.sync.providers.references import Surroundings
from strongroom.sync.rbac import NAME, Rights, rbac
from strongroom.sync.templates import GoTemplates
from strongroom.wire.client import HttpClient

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
CLOCK = SystemClock()
NUMBERS = itertools.count(1)
ROW = {"secretKey": "p", "remoteRef": {"key": "db", "property": "password"}}
FAKE = {"provider": {"fake": {"data": [{"key": "db", "value": '{"password": "one"}'}]}}}


@pytest.fixture
async def api(cluster) -> AsyncIterator[KubeClient]:
    async with KubeClient(cluster.config(), CLOCK) as client:
        for definition in crds():
            await client.apply(CRDS, definition, "strongroom")
        for resource in (
            EXTERNAL_SECRETS,
            PUSH_SECRETS,
            CLUSTER_EXTERNAL_SECRETS,
            SECRET_STORES,
            CLUSTER_SECRET_STORES,
            GENERATOR_STATES,
            *GENERATORS,
        ):
            await until(resource.plural, lambda each=resource: served(client, each), CLOCK)
        yield client


async def served(client: KubeClient, resource: Resource) -> bool | None:
    await client.list(resource)
    found = await client.get(CRDS, f"{resource.plural}.{resource.group}")
    states = {each["type"]: each["status"] for each in found["status"]["conditions"]}
    return True if states.get("Established") == "True" else None


@pytest.fixture
async def namespace(api: KubeClient) -> str:
    name = f"sync-{next(NUMBERS)}"
    await api.create(NAMESPACES, {"metadata": {"name": name, "labels": {"made-for": name}}})
    return name


def external(namespace: str, name: str = "db", **spec) -> dict:
    spec = {"secretStoreRef": {"name": "s"}, "data": [ROW], **spec}
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}


class Leasing(ServedKinds):
    """What a Fake makes has to be ended, as what Vault makes has."""

    ended: ClassVar[list[str]] = []

    async def make(self, generator: Object, namespace: str) -> Made:
        made = await super().make(generator, namespace)
        return Made(made.values, {"leaseID": f"{namespace}/{generator['metadata']['name']}"})

    async def release(self, generator: Object, namespace: str, state: Mapping[str, Any]) -> None:
        self.ended.append(state["leaseID"])


@asynccontextmanager
async def operating(cluster, api: KubeClient, rights: Rights, **options) -> AsyncIterator[Operator]:
    """An operator under the generated rights, as the service account that they are given to."""
    cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(rbac(rights)))
    token = await request_token(api, rights.namespace, NAME, (), 3600)
    config = replace(cluster.config(), token=token, token_file=None, client_certificate=None)
    async with KubeClient(config, CLOCK) as own:
        around = Surroundings(own, CLOCK, {})
        workshop = Leasing(Sources(around, SystemRandom()))
        doors = Doors(
            make=Providers(around),
            render=GoTemplates(CLOCK),
            generators=ServedGenerators(own, workshop, CLOCK),
            workshop=workshop,
        )
        operator = Operator(own, doors, CLOCK, Options(**options))
        election = Election(own, CLOCK, (rights.namespace, NAME), "one")
        running = asyncio.create_task(operator.run(election))
        try:
            yield operator
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def value(api: KubeClient, namespace: str, name: str = "db", key: str = "p") -> str | None:
    found = await api.get(SECRETS, name, namespace)
    data = found.get("data") or {}
    return base64.b64decode(data[key]).decode() if key in data else None


async def reason(api: KubeClient, resource: Resource, namespace: str, name: str) -> str | None:
    found = await api.get(resource, name, namespace)
    conditions = (found.get("status") or {}).get("conditions") or []
    ready = [each for each in conditions if each["type"] == "Ready"]
    return ready[0].get("reason", ready[0]["status"]) if ready else None


async def test_what_is_given_no_longer_goes_by_the_servers_own_record(
    cluster, api, namespace
) -> None:
    await api.create(
        SECRET_STORES, {"metadata": {"name": "s", "namespace": namespace}, "spec": FAKE}
    )
    template = {"metadata": {"finalizers": ["example.com/a", "example.com/b"]}}
    cluster_spec = {
        "externalSecretSpec": external(namespace, target={"template": template})["spec"],
        "externalSecretMetadata": {"labels": {"team": "x", "tier": "1"}},
        "namespaceSelectors": [{"matchLabels": {"made-for": namespace}}],
    }
    made = {"metadata": {"name": namespace}, "spec": cluster_spec}
    async with operating(cluster, api, Rights(namespace="kube-system")):
        await api.create(CLUSTER_EXTERNAL_SECRETS, made)

        async def finalizers(wanted: list[str]) -> bool | None:
            found = await api.get(SECRETS, namespace, namespace)
            return True if (found["metadata"].get("finalizers") or []) == wanted else None

        await until("made", lambda: finalizers(["example.com/a", "example.com/b"]), CLOCK)
        theirs = {"metadata": {"labels": {"theirs": "y"}}}
        await api.merge_patch(EXTERNAL_SECRETS, namespace, namespace, theirs, manager="kubectl")
        fewer = {"target": {"template": {"metadata": {"finalizers": ["example.com/b"]}}}}
        edit = {"externalSecretSpec": fewer, "externalSecretMetadata": {"labels": {"tier": None}}}
        await api.merge_patch(CLUSTER_EXTERNAL_SECRETS, namespace, "", {"spec": edit})
        await until("taken off", lambda: finalizers(["example.com/b"]), CLOCK)
        child = await api.get(EXTERNAL_SECRETS, namespace, namespace)
        assert child["metadata"]["labels"] == {"team": "x", "theirs": "y"}
        none = {"target": {"template": {"metadata": {"finalizers": []}}}}
        edit = {"spec": {"externalSecretSpec": none}}
        await api.merge_patch(CLUSTER_EXTERNAL_SECRETS, namespace, "", edit)
        await until("gone", lambda: finalizers([]), CLOCK)
        await api.delete(CLUSTER_EXTERNAL_SECRETS, namespace)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"data": []}, "either data or dataFrom"),
        (
            {"target": {"creationPolicy": "Merge", "deletionPolicy": "Delete"}},
            "creationPolicy=Owner",
        ),
        ({"target": {"creationPolicy": "None", "deletionPolicy": "Merge"}}, "creationPolicy=None"),
        ({"dataFrom": [{"extract": {"key": "a"}, "find": {}}]}, "one of extract, find"),
        ({"data": [{"secretKey": "a b", "remoteRef": {"key": "x"}}]}, "spec.data[0].secretKey"),
    ],
)
async def test_the_api_server_refuses_what_cannot_be(
    api, namespace: str, spec: dict, said: str
) -> None:
    with pytest.raises(Invalid) as error:
        await api.create(EXTERNAL_SECRETS, external(namespace, **spec))
    assert said in error.value.message


@pytest.mark.parametrize("levels", [300, 3000])
async def test_an_object_that_is_nested_deep_is_listed_and_watched(
    cluster, api, namespace: str, levels: int
) -> None:
    """The server takes it, for the field is free in form."""
    row = {"match": {"secretKey": "a", "remoteRef": {"remoteKey": "r"}}}
    selector = {"secret": {"name": "source"}}
    spec = {"secretStoreRefs": [{"name": "s"}], "selector": selector, "data": [row]}
    metadata = {"name": "deep", "namespace": namespace}
    made = await api.create(PUSH_SECRETS, {"metadata": metadata, "spec": spec})
    deep = '{"a":' * levels + "1" + "}" * levels
    patch = f'[{{"op": "add", "path": "/spec/data/0/metadata", "value": {deep}}}]'
    config = cluster.config()
    async with HttpClient(ca_data=config.ca_data) as http:
        reply = await http.request(
            "PATCH",
            config.server + PUSH_SECRETS.path(namespace, "deep"),
            headers={
                "Authorization": f"Bearer {config.bearer().reveal_text()}",
                "Content-Type": "application/json-patch+json",
            },
            body=patch.encode(),
        )
    assert reply.status == 200
    scope = Scope(namespace)
    assert [each["metadata"]["name"] for each in (await api.list(PUSH_SECRETS, scope)).items] == [
        "deep"
    ]
    cache = Informer(api, PUSH_SECRETS, CLOCK, scope)
    running = asyncio.create_task(cache.run())
    await cache.synced.wait()
    assert cache.get(namespace, "deep") is not None
    running.cancel()
    async for event in api.watch(PUSH_SECRETS, made["metadata"]["resourceVersion"], scope):
        assert event.object["metadata"]["name"] == "deep"
        break


async def test_the_api_server_takes_what_the_other_takes(api, namespace: str) -> None:
    target = {"creationPolicy": "Orphan", "deletionPolicy": "Delete"}
    item = external(namespace, target=target)
    twice = [*item["spec"]["data"], *item["spec"]["data"]]
    made = await api.create(EXTERNAL_SECRETS, external(namespace, target=target, data=twice))
    assert made["spec"]["target"] == target
    assert len(made["spec"]["data"]) == 2


async def test_the_old_version_is_served_and_defaults_are_the_known_ones(
    cluster, api, namespace: str
) -> None:
    item = {
        "apiVersion": "external-secrets.io/v1beta1",
        "kind": "ExternalSecret",
        **external(namespace),
    }
    cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(item))
    made = await api.get(EXTERNAL_SECRETS, "db", namespace)
    assert made["spec"]["refreshInterval"] == "1h0m0s"
    assert made["spec"]["target"] == {"creationPolicy": "Owner", "deletionPolicy": "Retain"}
    assert set(made["spec"]["data"][0]["remoteRef"]) == {"key", "property"}
    # The other kinds of that version are taken as well.
    spread = {"namespaceSelectors": [{}], "externalSecretSpec": item["spec"]}
    for kind, spec in (
        ("SecretStore", FAKE),
        ("ClusterSecretStore", FAKE),
        ("ClusterExternalSecret", spread),
    ):
        other = {"apiVersion": item["apiVersion"], "kind": kind, "spec": spec}
        other["metadata"] = {"name": "old"} | (
            {} if kind.startswith("Cluster") else {"namespace": namespace}
        )
        cluster.kubectl("create", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(other))
    shown = cluster.kubectl("get", "es", "-n", namespace)
    for column in ("STORETYPE", "STORE", "REFRESH INTERVAL", "STATUS", "READY", "LAST SYNC"):
        assert column in shown
    shown = cluster.kubectl("get", "es", "-n", namespace, "-o", "wide")
    for column in ("STALE", "TARGET", "SOURCE VERSIONS", "SYNCED VERSION"):
        assert column in shown
    chosen = cluster.kubectl(
        "get", "es", "-n", namespace, "--field-selector", "spec.secretStoreRef.name=s", "-o", "name"
    )
    assert "db" in chosen


async def test_everything_works_under_the_generated_rights(cluster, api, namespace: str) -> None:
    rights = Rights(namespace=namespace, manifests=("configmaps",))
    store = {"metadata": {"name": "s", "namespace": namespace}, "spec": FAKE}
    async with operating(cluster, api, rights):
        await api.create(SECRET_STORES, store)
        await api.create(CLUSTER_SECRET_STORES, {"metadata": {"name": namespace}, "spec": FAKE})
        await api.create(EXTERNAL_SECRETS, external(namespace))
        assert await until("the Secret", lambda: value(api, namespace), CLOCK) == "one"
        ready = await until(
            "the status", lambda: reason(api, EXTERNAL_SECRETS, namespace, "db"), CLOCK
        )
        assert ready == "SecretSynced"
        assert (
            await until("the store", lambda: reason(api, SECRET_STORES, namespace, "s"), CLOCK)
            == "Valid"
        )
        # What is fresh, from where and in what state is seen at a glance.
        for kind, values in (("es", ("s", "1h", "SecretSynced", "True")),
                             ("ss", ("Valid", "ReadWrite", "True"))):  # fmt: skip
            line = cluster.kubectl("get", kind, "-n", namespace).splitlines()[-1].split()
            assert set(values) <= {each.removesuffix("0m0s") for each in line}, line
        # Drift is repaired with merge patches, a finalizer is set and let go, and Events are written.
        edit = {"data": {"p": "eA==", "extra": "eA=="}}
        await api.merge_patch(SECRETS, "db", namespace, edit, manager="kubectl-edit")

        async def repaired() -> bool | None:
            item = await api.get(SECRETS, "db", namespace)
            return True if item["data"] == {"p": base64.b64encode(b"one").decode()} else None

        await until("the repair", repaired, CLOCK)

        async def told() -> bool | None:
            events = cluster.kubectl("events", "-n", namespace)
            return True if "kubectl-edit" in events and "DriftRepaired" in events else None

        await until("the Event", told, CLOCK)
        await api.create(
            EXTERNAL_SECRETS, external(namespace, "held", target={"deletionPolicy": "Delete"})
        )
        await until("the held Secret", lambda: value(api, namespace, "held"), CLOCK)
        await api.delete(EXTERNAL_SECRETS, "held", namespace)
        await until("its end", lambda: gone(api, namespace, "held"), CLOCK)
        await _fan_out(api, namespace)
        await _push(api, namespace)
        await _generate(api, namespace)
        await _repair_config_map(api, namespace)


async def gone(api: KubeClient, namespace: str, name: str) -> bool | None:
    for resource in (SECRETS, EXTERNAL_SECRETS):
        try:
            await api.get(resource, name, namespace)
        except NotFound:
            continue
        return None
    return True


async def _fan_out(api: KubeClient, namespace: str) -> None:
    spec = {
        "externalSecretSpec": external(
            namespace, secretStoreRef={"name": namespace, "kind": "ClusterSecretStore"}
        )["spec"],
        "externalSecretName": "everywhere",
        "namespaceSelectors": [{"matchLabels": {"made-for": namespace}}],
    }
    await api.create(CLUSTER_EXTERNAL_SECRETS, {"metadata": {"name": namespace}, "spec": spec})
    await until("the child's Secret", lambda: value(api, namespace, "everywhere"), CLOCK)
    await until("the status", lambda: reason(api, CLUSTER_EXTERNAL_SECRETS, "", namespace), CLOCK)
    first = (await api.get(EXTERNAL_SECRETS, "everywhere", namespace))["metadata"]["generation"]
    assert first == 1
    await api.delete(CLUSTER_EXTERNAL_SECRETS, namespace)


async def _generate(api: KubeClient, namespace: str) -> None:
    fake = next(each for each in GENERATORS if each.kind == "Fake")
    generator = {"metadata": {"name": "f", "namespace": namespace}, "spec": {"data": {"p": "made"}}}
    await api.create(fake, generator)
    source = {"generatorRef": {"kind": "Fake", "name": "f"}}
    item = external(namespace, "generated", data=[], dataFrom=[{"sourceRef": source}])
    await api.create(EXTERNAL_SECRETS, item)
    await until("the value", lambda: value(api, namespace, "generated"), CLOCK)
    assert await value(api, namespace, "generated") == "made"
    (state,) = (await api.list(GENERATOR_STATES, Scope(namespace=namespace))).items
    assert state["metadata"]["ownerReferences"][0]["name"] == "generated"
    await api.delete(EXTERNAL_SECRETS, "generated", namespace)

    async def ended() -> bool | None:
        left = (await api.list(GENERATOR_STATES, Scope(namespace=namespace))).items
        return True if not left else None

    # The cluster's garbage collector looks for new definitions every thirty seconds.
    await until("the end of what was made", ended, CLOCK, seconds=240)
    assert f"{namespace}/f" in Leasing.ended


async def _repair_config_map(api: KubeClient, namespace: str) -> None:
    target = {"manifest": {"apiVersion": "v1", "kind": "ConfigMap"}}
    await api.create(EXTERNAL_SECRETS, external(namespace, "plain", target=target))

    async def right() -> bool | None:
        item = await api.get(CONFIG_MAPS, "plain", namespace)
        return True if item["data"] == {"p": "one"} else None

    await until("the ConfigMap", right, CLOCK)
    await until("the status", lambda: reason(api, EXTERNAL_SECRETS, namespace, "plain"), CLOCK)
    edit = {"data": {"p": "theirs"}}
    await api.merge_patch(CONFIG_MAPS, "plain", namespace, edit, manager="kubectl-edit")
    await until("its repair", right, CLOCK)
    await api.delete(CONFIG_MAPS, "plain", namespace)
    await until("its return", right, CLOCK)


async def _push(api: KubeClient, namespace: str) -> None:
    spec = {
        "secretStoreRefs": [{"name": "s"}],
        "selector": {"secret": {"name": "db"}},
        "data": [{"match": {"secretKey": "p", "remoteRef": {"remoteKey": "out"}}}],
        "deletionPolicy": "Delete",
    }
    await api.create(
        PUSH_SECRETS, {"metadata": {"name": "ps", "namespace": namespace}, "spec": spec}
    )
    assert (
        await until("the push", lambda: reason(api, PUSH_SECRETS, namespace, "ps"), CLOCK)
        == "Synced"
    )
    await api.delete(PUSH_SECRETS, "ps", namespace)

    async def ended() -> bool | None:
        try:
            await api.get(PUSH_SECRETS, "ps", namespace)
        except NotFound:
            return True
        return None

    await until("its end", ended, CLOCK)


async def test_an_operator_of_one_namespace_has_no_cluster_role(
    cluster, api, namespace: str
) -> None:
    rights = Rights(namespace=namespace, namespaces=(namespace,))
    async with operating(cluster, api, rights, namespace=namespace):
        await api.create(
            SECRET_STORES, {"metadata": {"name": "s", "namespace": namespace}, "spec": FAKE}
        )
        await api.create(EXTERNAL_SECRETS, external(namespace))
        assert await until("the Secret", lambda: value(api, namespace), CLOCK) == "one"
    who = f"system:serviceaccount:{namespace}:{NAME}"
    for verb, what in (("get", "secrets"), ("list", "namespaces"), ("get", "clustersecretstores")):
        said = cluster.kubectl(
            "auth", "can-i", verb, what, "-n", "default", "--as", who, check=False
        )
        assert said.strip().endswith("no")


async def test_a_right_that_is_missing_is_a_refusal_that_names_it(
    cluster, api, namespace: str
) -> None:
    token = await _bare_account(api, namespace)
    config = replace(cluster.config(), token=token, token_file=None, client_certificate=None)
    async with KubeClient(config, CLOCK) as own:
        with pytest.raises(Denied) as error:
            await own.list(EXTERNAL_SECRETS)
    assert "externalsecrets" in error.value.message


async def _bare_account(api: KubeClient, namespace: str):
    from strongroom.kube.resource import SERVICE_ACCOUNTS

    await api.create(SERVICE_ACCOUNTS, {"metadata": {"name": "bare", "namespace": namespace}})
    return await request_token(api, namespace, "bare", (), 600)
