"""Our operator, as a process, on External Secrets Operator's own definitions.

Their structural schemas prune what they do not know and fill in defaults: nothing that we depend
on may stand in a field that they take away, and no default may look like a change to us.
"""

import base64
import contextlib
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from strongroom.app.waiting import until
from strongroom.kube.api import Scope
from strongroom.kube.client import KubeClient
from strongroom.kube.resource import CRDS, NAMESPACES, SECRETS, Object, Resource
from strongroom.model.clock import SystemClock
from strongroom.model.errors import NotFound
from strongroom.sync.crds import (
    CLUSTER_EXTERNAL_SECRETS,
    CLUSTER_GENERATORS,
    CLUSTER_PUSH_SECRETS,
    CLUSTER_SECRET_STORES,
    EXTERNAL_SECRETS,
    GENERATOR_STATES,
    GENERATORS,
    PUSH_SECRETS,
    SECRET_STORES,
    crds,
)
from strongroom.wire.http import Response

pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.timeout(900)]
CLOCK = SystemClock()
NUMBERS = itertools.count(1)
READY = ("Ready", "True")
BY_KIND = {each.kind: each for each in GENERATORS}
FAKE = {"provider": {"fake": {"data": [{"key": "db", "value": '{"password": "one"}'}]}}}
ROW = {"secretKey": "p", "remoteRef": {"key": "db", "property": "password"}}
SPEC = {"secretStoreRef": {"name": "s"}, "data": [ROW], "refreshInterval": "1s"}
PUSH = {
    "secretStoreRefs": [{"name": "s"}],
    "selector": {"secret": {"name": "db"}},
    "data": [{"match": {"secretKey": "p", "remoteRef": {"remoteKey": "out", "property": "x"}}}],
    "deletionPolicy": "Delete",
    "refreshInterval": "1s",
}
COUNTED = re.compile(
    r'apiserver_request_total\{.*?group="(.*?)".*?resource="(\w+)".*?verb="(\w+)".*?\} ([\d.e+]+)'
)
CHANGING = frozenset({"POST", "PUT", "PATCH", "APPLY", "DELETE"})
AWS_KEYS = {
    "secretRef": {
        "accessKeyIDSecretRef": {"name": "aws", "key": "id"},
        "secretAccessKeySecretRef": {"name": "aws", "key": "secret"},
    }
}
# Every field that our makers read, of the kinds whose makers speak to a cloud.
CLOUD_GENERATORS = {
    "ECRAuthorizationToken": {
        "region": "eu-west-1",
        "role": "r",
        "scope": "public",
        "auth": AWS_KEYS,
    },
    "STSSessionToken": {
        "region": "eu-west-1",
        "role": "r",
        "auth": AWS_KEYS,
        "requestParameters": {"sessionDuration": 1800, "serialNumber": "n", "tokenCode": "123456"},
    },
    "GCRAccessToken": {
        "projectID": "p",
        "auth": {"secretRef": {"secretAccessKeySecretRef": {"name": "gcp", "key": "key"}}},
    },
    "ACRAccessToken": {
        "registry": "r.azurecr.io",
        "tenantId": "t",
        "scope": "repository:x:pull",
        "environmentType": "PublicCloud",
        "auth": {
            "servicePrincipal": {
                "secretRef": {
                    "clientId": {"name": "a", "key": "b"},
                    "clientSecret": {"name": "a", "key": "c"},
                }
            }
        },
    },
}
LOCAL: dict[str, tuple[Object, str]] = {
    "Password": (
        {
            "length": 30,
            "digits": 5,
            "symbols": 3,
            "symbolCharacters": "-_",
            "noUpper": True,
            "allowRepeat": True,
            "encoding": "hex",
        },
        "password",
    ),
    "UUID": ({}, "uuid"),
    "SSHKey": ({"keyType": "ed25519", "comment": "c"}, "publicKey"),
    "Fake": ({"data": {"p": "made"}}, "p"),
}


@dataclass(frozen=True)
class World:
    """A namespace of a test's own; what is of the cluster has the namespace's name."""

    api: KubeClient
    namespace: str

    def place(self, resource: Resource, name: str) -> tuple[str, str]:
        return (name, self.namespace) if resource.namespaced else (self.namespace, "")

    async def create(self, resource: Resource, name: str, spec: Object | None, **more: Any) -> Any:
        name, namespace = self.place(resource, name)
        place = {"namespace": namespace} if namespace else {}
        item = {"metadata": {"name": name, **place}, **more}
        return await self.api.create(resource, item | ({} if spec is None else {"spec": spec}))

    async def get(self, resource: Resource, name: str) -> Object:
        return await self.api.get(resource, *self.place(resource, name))

    async def value(self, name: str, key: str = "p") -> bytes | None:
        data = (await self.get(SECRETS, name)).get("data") or {}
        return base64.b64decode(data[key]) if key in data else None

    async def status(self, resource: Resource, name: str) -> Object:
        return (await self.get(resource, name)).get("status") or {}

    async def ready(self, resource: Resource, name: str) -> Object:
        """The Ready condition, once it is True."""

        async def found() -> Object:
            held = (await self.status(resource, name)).get("conditions") or []
            for each in held:
                if (each["type"], each["status"]) == READY:
                    return each
            raise NotFound("not-ready", str(held))

        return await until(f"{resource.kind} {name}", found, CLOCK, seconds=120)

    async def ends(self, resource: Resource, name: str) -> None:
        """It goes, for its finalizers are let go."""

        async def gone() -> bool | None:
            try:
                await self.get(resource, name)
            except NotFound:
                return True
            return None

        with contextlib.suppress(NotFound):
            await self.api.delete(resource, *self.place(resource, name))
        await until(f"the end of {resource.kind} {name}", gone, CLOCK)


@pytest.fixture
async def world(api: KubeClient, our_operator) -> World:
    """A namespace, its stores, and the operator."""
    name = f"n{next(NUMBERS)}"
    await api.create(NAMESPACES, {"metadata": {"name": name, "labels": {"team": name}}})
    found = World(api, name)
    await found.create(SECRET_STORES, "s", FAKE)
    await found.create(CLUSTER_SECRET_STORES, "", FAKE)
    return found


async def writes(api: KubeClient) -> Counter[str]:
    """Changing requests so far by resource, from the API server's own count."""
    text = (await api.raw("/metrics")).decode()
    counted: Counter[str] = Counter()
    for group, resource, verb, number in COUNTED.findall(text):
        if verb in CHANGING and (group.endswith("external-secrets.io") or resource == "secrets"):
            counted[resource] += int(float(number))
    return counted


async def test_every_kind_is_served_and_at_rest_nothing_is_written(world, our_operator) -> None:
    for resource in (SECRET_STORES, CLUSTER_SECRET_STORES):
        said = await world.ready(resource, "s")
        assert (said["reason"], said["message"]) == ("Valid", "store validated")
        assert (await world.status(resource, "s"))["capabilities"] == "ReadWrite"
    await world.create(EXTERNAL_SECRETS, "db", SPEC)
    assert (await world.ready(EXTERNAL_SECRETS, "db"))["reason"] == "SecretSynced"
    held = await world.status(EXTERNAL_SECRETS, "db")
    assert set(held) == {"refreshTime", "syncedResourceVersion", "binding", "conditions"}
    assert await world.value("db") == b"one"
    await world.create(PUSH_SECRETS, "ps", PUSH)
    assert (await world.ready(PUSH_SECRETS, "ps"))["reason"] == "Synced"
    pushed = (await world.status(PUSH_SECRETS, "ps"))["syncedPushSecrets"]["SecretStore/s"]
    assert pushed["out/x"]["match"] == PUSH["data"][0]["match"]
    await fan_out(world)
    await rests(world.api, our_operator)
    for resource, name in (
        (CLUSTER_PUSH_SECRETS, ""),
        (PUSH_SECRETS, "pushed"),
        (PUSH_SECRETS, "ps"),
        (CLUSTER_EXTERNAL_SECRETS, ""),
        (EXTERNAL_SECRETS, "child"),
        (EXTERNAL_SECRETS, "db"),
    ):
        await world.ends(resource, name)


async def fan_out(world: World) -> None:
    """Both kinds that make a child in each namespace."""
    chosen = {
        "namespaceSelectors": [{"matchLabels": {"team": world.namespace}}],
        "refreshTime": "1s",
    }
    store = {"name": world.namespace, "kind": "ClusterSecretStore"}
    spec = {"externalSecretSpec": {**SPEC, "secretStoreRef": store}, "externalSecretName": "child"}
    await world.create(CLUSTER_EXTERNAL_SECRETS, "", spec | chosen)
    await world.ready(CLUSTER_EXTERNAL_SECRETS, "")
    await world.ready(EXTERNAL_SECRETS, "child")
    held = await world.status(CLUSTER_EXTERNAL_SECRETS, "")
    assert held["externalSecretName"] == "child"
    assert held["provisionedNamespaces"] == [world.namespace]
    whole = {"match": {"remoteRef": {"remoteKey": "whole"}}}
    spec = {"pushSecretSpec": {**PUSH, "data": [whole]}, "pushSecretName": "pushed"}
    await world.create(CLUSTER_PUSH_SECRETS, "", spec | chosen)
    await world.ready(CLUSTER_PUSH_SECRETS, "")
    await world.ready(PUSH_SECRETS, "pushed")


async def rests(api: KubeClient, operator) -> None:
    """Everything is due every second; rounds pass, and nothing is written."""

    async def pass_by() -> None:
        began = await operator.metric("externalsecret_sync_calls_total")

        async def passed() -> bool | None:
            return await operator.metric("externalsecret_sync_calls_total") >= began + 8 or None

        await until("a few rounds", passed, CLOCK, seconds=120)

    # What was said last may still be on its way, on a slow machine for some rounds.
    for _ in range(5):
        before = await writes(api)
        await pass_by()
        written = await writes(api) - before
        if not written:
            return
    raise AssertionError(f"{written}\n{operator.log()[-2000:]}")


async def test_the_installer_leaves_theirs_alone(world, our_operator) -> None:
    async def running() -> bool | None:
        return "operator running" in our_operator.log() or None

    await until("the operator", running, CLOCK, seconds=120)
    theirs = {each["metadata"]["name"]: each for each in (await world.api.list(CRDS)).items}
    for each in crds():
        name = each["metadata"]["name"]
        assert f"{name} is installed already and kept" in our_operator.log()
        managers = {one["manager"] for one in theirs[name]["metadata"]["managedFields"]}
        assert "strongroom" not in managers, name


async def generated(world: World, ref: Object, key: str) -> bytes | None:
    """What an ExternalSecret that asks a generator makes of it."""
    spec = {"dataFrom": [{"sourceRef": {"generatorRef": ref}}], "refreshInterval": "1h"}
    await world.create(EXTERNAL_SECRETS, "made", spec)
    await world.ready(EXTERNAL_SECRETS, "made")
    return await world.value("made", key)


@pytest.mark.parametrize("kind", list(LOCAL))
async def test_a_generator_of_the_operators_own(world, kind: str) -> None:
    spec, key = LOCAL[kind]
    made = await world.create(BY_KIND[kind], "g", spec)
    assert made["spec"] == spec
    assert await generated(world, {"kind": kind, "name": "g"}, key)


async def test_a_generator_for_every_namespace(world) -> None:
    spec = {"kind": "Fake", "generator": {"fakeSpec": {"data": {"p": "for all"}}}}
    await world.create(CLUSTER_GENERATORS, "", spec)
    ref = {"kind": "ClusterGenerator", "name": world.namespace}
    assert await generated(world, ref, "p") == b"for all"


def answering(said: Callable[[Any], Response]) -> Callable[[Any, Any], None]:
    """A handler for a listener."""
    return lambda request, exchange: exchange.reply(said(request))


class Vault:
    """A path that gives credentials under a lease, and takes them back."""

    def __init__(self) -> None:
        self.leases: list[str] = []

    def __call__(self, request: Any) -> Response:
        path = request.target.removeprefix("/v1/")
        if path == "database/creds/app":
            self.leases.append(lease := f"{path}/{len(self.leases) + 1}")
            said = {"lease_id": lease, "lease_duration": 60, "data": {"username": "v-app"}}
            return Response(200, json.dumps(said).encode())
        if path == "sys/leases/revoke":
            self.leases.remove(json.loads(request.body)["lease_id"])
            return Response(204)
        return Response(200, json.dumps({"data": {"ttl": 3600, "renewable": False}}).encode())


async def test_what_vault_makes_is_remembered_and_ended(world, plain) -> None:
    vault = Vault()
    token = base64.b64encode(b"t").decode()
    await world.create(SECRETS, "vault", None, data={"token": token})
    async with plain(answering(vault)) as address:
        auth = {"tokenSecretRef": {"name": "vault", "key": "token"}}
        spec = {"path": "database/creds/app", "provider": {"server": address, "auth": auth}}
        await world.create(BY_KIND["VaultDynamicSecret"], "g", spec)
        ref = {"kind": "VaultDynamicSecret", "name": "g"}
        assert await generated(world, ref, "username") == b"v-app"
        scope = Scope(namespace=world.namespace)
        (state,) = (await world.api.list(GENERATOR_STATES, scope)).items
        assert state["spec"]["state"]["leaseID"] == "database/creds/app/1"
        assert state["spec"]["resource"]["spec"]["provider"]["server"] == address
        await world.ends(EXTERNAL_SECRETS, "made")
        await world.ends(GENERATOR_STATES, state["metadata"]["name"])
        assert vault.leases == []


async def test_a_webhooks_answer(world, plain) -> None:
    def said(request: Any) -> Response:
        return Response(200, json.dumps({"data": {"user": "u"}}).encode())

    async with plain(answering(said)) as address:
        spec = {"url": f"{address}/new", "result": {"jsonPath": "$.data"}}
        await world.create(BY_KIND["Webhook"], "g", spec)
        assert await generated(world, {"kind": "Webhook", "name": "g"}, "user") == b"u"


@pytest.mark.parametrize("kind", list(CLOUD_GENERATORS))
async def test_nothing_that_a_clouds_generator_needs_is_pruned(world, kind: str) -> None:
    made = await world.create(BY_KIND[kind], "g", CLOUD_GENERATORS[kind])
    assert made["spec"] == CLOUD_GENERATORS[kind]


def test_every_served_generator_is_among_these() -> None:
    assert {*LOCAL, *CLOUD_GENERATORS, "VaultDynamicSecret", "Webhook"} == set(BY_KIND)
