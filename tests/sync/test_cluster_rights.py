"""The operator as a process under exactly the generated rights: the API server refuses it nothing."""

import asyncio
import base64
import itertools
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from strongroom.app.cluster.control_plane import AUDIT_POLICY, ControlPlane
from strongroom.app.dev.processes import Processes
from strongroom.app.waiting import until
from strongroom.kube.client import KubeClient
from strongroom.kube.resource import CRDS, NAMESPACES, SECRETS, Object, Resource
from strongroom.kube.token_review import request_token
from strongroom.model.clock import SystemClock
from strongroom.model.errors import NotFound
from strongroom.sync.crds import (
    CLUSTER_EXTERNAL_SECRETS,
    EXTERNAL_SECRETS,
    GENERATOR_STATES,
    GENERATORS,
    PUSH_SECRETS,
    SECRET_STORES,
    crds,
)
from strongroom.sync.rbac import NAME, Rights, rbac

pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.timeout(900)]
CLOCK = SystemClock()
NUMBERS = itertools.count(1)
FAKE = {"provider": {"fake": {"data": [{"key": "db", "value": '{"password": "one"}'}]}}}
ROW = {"secretKey": "p", "remoteRef": {"key": "db", "property": "password"}}


@dataclass
class Bed:
    """An API server whose audit log has all that the operator of one namespace asks."""

    control: ControlPlane
    processes: Processes
    api: KubeClient
    namespace: str
    folder: Path

    @property
    def account(self) -> str:
        return f"system:serviceaccount:{self.namespace}:{NAME}"

    async def operate(self, rights: Rights, *words: str) -> None:
        """Start the operator with these rights, by a kubeconfig of its service account."""
        self.control.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(rbac(rights)))
        token = await request_token(self.api, self.namespace, NAME, (), 3600)
        config = yaml.safe_load(self.control.kubeconfig.read_text())
        for each in config["users"]:
            each["user"] = {"token": token.reveal_text()}
        path = self.folder / "kubeconfig"
        path.write_text(yaml.safe_dump(config))
        place = ("--lease-namespace", self.namespace, "--kubeconfig", str(path))
        self.processes.strongroom("operator", "operator", *place, *words)

    async def make(
        self, resource: Resource, name: str, spec: Object, *, wide: bool = False
    ) -> None:
        metadata = {"name": name} | ({} if wide else {"namespace": self.namespace})
        await self.api.create(resource, {"metadata": metadata, "spec": spec})

    async def value(self, name: str, key: str = "p") -> str | None:
        data = (await self.api.get(SECRETS, name, self.namespace)).get("data") or {}
        return base64.b64decode(data[key]).decode() if key in data else None

    async def ready(
        self, resource: Resource, name: str, namespace: str | None = None
    ) -> bool | None:
        where = self.namespace if namespace is None else namespace
        status = (await self.api.get(resource, name, where)).get("status") or {}
        kinds = {each["type"]: each["status"] for each in status.get("conditions") or []}
        return True if kinds.get("Ready") == "True" else None

    async def gone(self, resource: Resource, name: str) -> bool | None:
        try:
            await self.api.get(resource, name, self.namespace)
        except NotFound:
            return True
        return None

    def asked(self) -> list[tuple[int, str, str]]:
        """Status, verb and path of each request of the operator."""
        found = []
        for line in self.control.audit_log.read_text().splitlines():
            entry = json.loads(line)
            if entry["user"]["username"] == self.account:
                status = (entry.get("responseStatus") or {}).get("code", 0)
                found.append((status, entry["verb"], entry["requestURI"]))
        return found


@pytest.fixture
async def bed(cluster: ControlPlane, tmp_path: Path) -> AsyncIterator[Bed]:
    name = f"rights-{next(NUMBERS)}"
    rule = {"level": "Metadata", "users": [f"system:serviceaccount:{name}:{NAME}"]}
    everything = {**AUDIT_POLICY, "rules": [rule, *AUDIT_POLICY["rules"]]}
    policy = cluster.folder / "audit-policy.yaml"
    before = policy.read_text()
    policy.write_text(yaml.safe_dump(everything))
    await cluster.restart_apiserver(cluster.encryption)
    policy.write_text(before)
    with Processes(tmp_path) as processes:
        async with KubeClient(cluster.config(), CLOCK) as api:
            for definition in crds():
                await api.apply(CRDS, definition, "strongroom")
            for resource in (EXTERNAL_SECRETS, PUSH_SECRETS, GENERATOR_STATES, *GENERATORS):
                await until(resource.plural, lambda each=resource: api.list(each), CLOCK)
            await api.create(NAMESPACES, {"metadata": {"name": name, "labels": {"for": name}}})
            yield Bed(cluster, processes, api, name, tmp_path)


async def use_all(bed: Bed) -> None:
    """What every operator serves: a sync, drift, both ends, a push, a generator."""
    await bed.make(SECRET_STORES, "s", FAKE)
    store = {"secretStoreRef": {"name": "s"}, "data": [ROW]}
    await bed.make(EXTERNAL_SECRETS, "db", store)
    await bed.make(EXTERNAL_SECRETS, "held", {**store, "target": {"deletionPolicy": "Delete"}})
    fake = next(each for each in GENERATORS if each.kind == "Fake")
    await bed.make(fake, "f", {"data": {"p": "made"}})
    source = {"sourceRef": {"generatorRef": {"kind": "Fake", "name": "f"}}}
    await bed.make(EXTERNAL_SECRETS, "generated", {"dataFrom": [source]})
    row = {"match": {"secretKey": "p", "remoteRef": {"remoteKey": "out"}}}
    push = {"secretStoreRefs": [{"name": "s"}], "selector": {"secret": {"name": "db"}}}
    await bed.make(PUSH_SECRETS, "ps", {**push, "data": [row], "deletionPolicy": "Delete"})
    for name in ("db", "held", "generated"):
        await until(name, lambda each=name: bed.value(each), CLOCK)
        await until(name, lambda each=name: bed.ready(EXTERNAL_SECRETS, each), CLOCK)
    for resource, name in ((SECRET_STORES, "s"), (PUSH_SECRETS, "ps")):
        await until(name, lambda one=resource, other=name: bed.ready(one, other), CLOCK)
    edit = {"data": {"p": "eA=="}}
    await bed.api.merge_patch(SECRETS, "db", bed.namespace, edit, manager="kubectl-edit")

    async def repaired() -> bool | None:
        return True if await bed.value("db") == "one" else None

    await until("the repair", repaired, CLOCK)
    for resource, name in ((EXTERNAL_SECRETS, "held"), (PUSH_SECRETS, "ps")):
        await bed.api.delete(resource, name, bed.namespace)
        await until(name, lambda one=resource, other=name: bed.gone(one, other), CLOCK)
    await until("its Secret", lambda: bed.gone(SECRETS, "held"), CLOCK)


def refused(bed: Bed) -> list[tuple[int, str, str]]:
    """What was forbidden; there must have been something to forbid.

    What other tests have left in their namespaces may ask for rights that this operator lacks.
    """
    ours = [
        each
        for each in bed.asked()
        if (found := re.search(r"/namespaces/([^/?]+)", each[2])) is None
        or found[1] == bed.namespace
    ]
    assert len(ours) > 20
    return [each for each in ours if each[0] in (401, 403)]


async def test_an_operator_of_the_cluster_is_refused_nothing(bed: Bed) -> None:
    await bed.operate(Rights(namespace=bed.namespace))
    await use_all(bed)
    spec = {
        "externalSecretSpec": {"secretStoreRef": {"name": "s"}, "data": [ROW]},
        "externalSecretName": "everywhere",
        "namespaceSelectors": [{"matchLabels": {"for": bed.namespace}}],
    }
    await bed.make(CLUSTER_EXTERNAL_SECRETS, bed.namespace, spec, wide=True)
    await until("the child's Secret", lambda: bed.value("everywhere"), CLOCK)
    name = bed.namespace
    await until("ready", lambda: bed.ready(CLUSTER_EXTERNAL_SECRETS, name, ""), CLOCK)
    await bed.api.delete(CLUSTER_EXTERNAL_SECRETS, name)
    bed.processes.stop("operator")
    assert refused(bed) == []


async def test_an_operator_of_one_namespace_is_refused_nothing(bed: Bed) -> None:
    rights = Rights(namespace=bed.namespace, namespaces=(bed.namespace,))
    await bed.operate(rights, "--namespace", bed.namespace)
    await use_all(bed)
    # A restart, by which the next one finds what is there.
    bed.processes.stop("operator")
    await bed.operate(rights, "--namespace", bed.namespace)
    await bed.make(EXTERNAL_SECRETS, "new", {"secretStoreRef": {"name": "s"}, "data": [ROW]})
    await until("new", lambda: bed.value("new"), CLOCK)
    await asyncio.sleep(0)
    bed.processes.stop("operator")
    assert refused(bed) == []
