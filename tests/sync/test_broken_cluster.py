"""`explain` on a real cluster and a real store, for each kind of break: which link, which remedy."""

import base64
import json
import subprocess
import sys
from asyncio import to_thread
from pathlib import Path
from typing import Any

import pytest
import yaml

from strongroom.app.sync_chain import sync_chain
from strongroom.app.waiting import until
from strongroom.kube.client import KubeClient
from strongroom.kube.resource import CRDS, NAMESPACES, SECRETS, SERVICE_ACCOUNTS
from strongroom.model.clock import SystemClock
from strongroom.sync.crds import CLUSTER_SECRET_STORES, EXTERNAL_SECRETS, SECRET_STORES, crds
from strongroom.sync.desired import created_by
from strongroom.sync.explain import explain, plan

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
CLOCK = SystemClock()
HOME = "broken"
READ_ONE = 'path "secret/data/db" { capabilities = ["read"] }'
KUBERNETES = {"mountPath": "kubernetes", "role": "app"}
BREAKS: dict[str, tuple[dict[str, Any], str, str]] = {
    "missing store": ({"secretStoreRef": {"name": "goood"}}, "store", "did you mean good?"),
    "other kind": ({"secretStoreRef": {"name": "elsewhere"}}, "store", "ClusterSecretStore"),
    "wrong namespace": (
        {"secretStoreRef": {"name": "elsewhere", "kind": "ClusterSecretStore"}},
        "store",
        "allow the namespaces prod",
    ),
    "unknown provider": ({"secretStoreRef": {"name": "unknown"}}, "store", "served are vault"),
    "no service account": ({"secretStoreRef": {"name": "no-account"}}, "identity", "create what"),
    "bad token": ({"secretStoreRef": {"name": "bad-token"}}, "identity", "Secret bad has ended"),
    "no credential": ({"secretStoreRef": {"name": "no-secret"}}, "identity", "create what"),
    "store away": ({"secretStoreRef": {"name": "away"}}, "identity", "that the store runs"),
    "wrong role": (
        {"secretStoreRef": {"name": "wrong-role"}},
        "identity",
        "the role wrong of the auth mount kubernetes",
    ),
    "other class": ({"secretStoreRef": {"name": "their"}}, "store", "spec.controller"),
    "immutable target": ({"target": {"name": "fixed"}}, "target", "delete the Secret"),
    "foreign owner": ({"target": {"name": "owned"}}, "target", "choose another target.name"),
    "no permission": (
        {"data": [{"secretKey": "p", "remoteRef": {"key": "others"}}]},
        "permission",
        "let the store's identity read others",
    ),
    "wrong property": (
        {"data": [{"secretKey": "p", "remoteRef": {"key": "db", "property": "passwort"}}]},
        "property",
        "a key of the secret",
    ),
    "template error": (
        {"target": {"template": {"data": {"a": "x\n{{ .gone }}"}}}},
        "template",
        "template render",
    ),
    "somebody's Secret": ({"target": {"name": "theirs"}}, "target", "strongroom.dev/adopt"),
    "nobody runs": ({}, "target", "no operator"),
    "no generator": (
        {"dataFrom": [{"sourceRef": {"generatorRef": {"kind": "Password", "name": "gone"}}}]},
        "generator",
        "correct generatorRef",
    ),
}


@pytest.fixture
async def broken(cluster, store):
    """A namespace in which little is right."""
    await store.ask("POST", "secret/data/db", {"data": {"password": "marked-value"}})

    def vault(auth: dict[str, Any], server: str = store.address) -> dict[str, Any]:
        return {"provider": {"vault": {"server": server, "path": "secret", "auth": auth}}}

    def token(name: str) -> dict[str, Any]:
        return {"tokenSecretRef": {"name": name, "key": "t"}}

    stores = {
        "good": vault(token("token")),
        "bad-token": vault(token("bad")),
        "no-secret": vault(token("absent")),
        "away": vault(token("token"), "http://127.0.0.1:9"),
        "unknown": {"provider": {"doppler": {}}},
        "wrong-role": vault(
            {"kubernetes": KUBERNETES | {"role": "wrong", "serviceAccountRef": {"name": "here"}}}
        ),
        "their": vault(token("token")) | {"controller": "theirs"},
        "no-account": vault({"kubernetes": KUBERNETES | {"serviceAccountRef": {"name": "gone"}}}),
    }
    conditions = {"conditions": [{"namespaces": ["prod"]}]}
    async with KubeClient(cluster.config(), CLOCK) as api:
        for definition in crds():
            await api.apply(CRDS, definition, "strongroom")
        await until("the definitions", lambda: listed(api), CLOCK)
        await api.create(NAMESPACES, {"metadata": {"name": HOME}})
        for name, value in (
            ("token", await store.token_with(READ_ONE)), ("bad", "hvs.ended"), ("theirs", "x"),
        ):  # fmt: skip
            data = {"t": base64.b64encode(value.encode()).decode()}
            metadata = {"name": name, "namespace": HOME}
            await api.create(SECRETS, {"metadata": metadata, "data": data})
        account = {"metadata": {"name": "here", "namespace": HOME}}
        made = await api.create(SERVICE_ACCOUNTS, account)
        ours = {"reconcile.external-secrets.io/created-by": created_by(HOME, "immutable-target")}
        fixed = {"name": "fixed", "namespace": HOME, "labels": ours}
        await api.create(SECRETS, {"metadata": fixed, "immutable": True, "data": {"p": "b2xk"}})
        owner = {
            "apiVersion": "v1", "kind": "ServiceAccount", "name": "here",
            "uid": made["metadata"]["uid"], "controller": True,
        }  # fmt: skip
        owned = {"name": "owned", "namespace": HOME, "ownerReferences": [owner]}
        await api.create(SECRETS, {"metadata": owned, "data": {"p": "b2xk"}})
        for name, spec in stores.items():
            metadata = {"name": name, "namespace": HOME}
            await api.create(SECRET_STORES, {"metadata": metadata, "spec": spec})
        wide = {"metadata": {"name": "elsewhere"}, "spec": stores["good"] | conditions}
        await api.create(CLUSTER_SECRET_STORES, wide)
        yield api
        await api.delete(CLUSTER_SECRET_STORES, "elsewhere")


async def listed(api: KubeClient) -> bool:
    for resource in (EXTERNAL_SECRETS, SECRET_STORES, CLUSTER_SECRET_STORES):
        await api.list(resource)
    return True


def external(name: str, change: dict[str, Any]) -> dict[str, Any]:
    row = {"secretKey": "p", "remoteRef": {"key": "db", "property": "password"}}
    spec = {"secretStoreRef": {"name": "good"}, "data": [row], **change}
    return {"metadata": {"name": name, "namespace": HOME}, "spec": spec}


async def test_each_break_is_found_at_its_link_with_what_to_do(
    cluster, store, broken, tmp_path
) -> None:
    api = broken
    found: dict[str, tuple[str, str]] = {}
    async with sync_chain(api, CLOCK) as chain:
        for title, (change, _, _) in BREAKS.items():
            name = title.lower().replace(" ", "-").replace("'", "")
            item = await api.create(EXTERNAL_SECRETS, external(name, change))
            said = await explain(chain, item)
            assert said.broken is not None, title
            found[title] = (said.broken.name, said.broken.remedy)
            assert "marked-value" not in str(said)
            assert "/api" not in said.broken.said, title
            assert "\n" not in said.broken.said, title
            planned = await plan(chain, item)
            assert (planned.action == "create") is (title == "nobody runs"), title
    for title, (_, link, remedy) in BREAKS.items():
        assert found[title][0] == link, title
        assert remedy in found[title][1], (title, found[title])
    await _by_command(cluster)
    await _plan_of_one_file(cluster, store, tmp_path / "all.yaml")
    await _by_somebody(api, cluster, tmp_path)


async def _plan_of_one_file(cluster, store, path: Path) -> None:
    """A plan knows what stands in the same file."""
    token = base64.b64encode((await store.token_with(READ_ONE)).encode()).decode()
    auth = {"tokenSecretRef": {"name": "new-token", "key": "t"}}
    vault = {"server": store.address, "path": "secret", "auth": auth}
    text = {"templateFrom": [{"configMap": {"name": "new-text", "items": [{"key": "k"}]}}]}
    row = {"secretKey": "p", "remoteRef": {"key": "db", "property": "password"}}
    api_version = "external-secrets.io/v1"
    file: list[dict[str, Any]] = [
        {"apiVersion": api_version, "kind": "ExternalSecret", "metadata": {"name": "new"},
         "spec": {"secretStoreRef": {"name": "new"}, "data": [row], "target": {"template": text}}},
        {"apiVersion": api_version, "kind": "SecretStore", "metadata": {"name": "new"},
         "spec": {"provider": {"vault": vault}}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "new-token"},
         "data": {"t": token}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "new-text"},
         "data": {"k": "p is {{ .p }}"}},
        # It is there already, and this file lets it be used.
        {"apiVersion": api_version, "kind": "ExternalSecret", "metadata": {"name": "wide"},
         "spec": {"data": [row],
                  "secretStoreRef": {"name": "elsewhere", "kind": "ClusterSecretStore"}}},
        {"apiVersion": api_version, "kind": "ClusterSecretStore", "metadata": {"name": "elsewhere"},
         "spec": {"provider": {"vault": {**vault, "auth": {"tokenSecretRef": {
             "name": "token", "key": "t", "namespace": HOME}}}}}},
        # What is in no namespace is in none here either, and says in which its Secret is.
        {"apiVersion": api_version, "kind": "ExternalSecret", "metadata": {"name": "far"},
         "spec": {"data": [row], "secretStoreRef": {"name": "far", "kind": "ClusterSecretStore"}}},
        {"apiVersion": api_version, "kind": "ClusterSecretStore", "metadata": {"name": "far"},
         "spec": {"provider": {"vault": {**vault, "auth": {"tokenSecretRef": {
             "name": "far-token", "key": "t", "namespace": "default"}}}}}},
        {"apiVersion": "v1", "kind": "Secret",
         "metadata": {"name": "far-token", "namespace": "default"}, "data": {"t": token}},
    ]  # fmt: skip
    path.write_text(yaml.safe_dump_all(file))
    command = [sys.executable, "-m", "strongroom", "sync", "plan", "-f", str(path), "-n", HOME]
    where = ["--kubeconfig", str(cluster.kubeconfig), "--format", "json"]
    done = await to_thread(subprocess.run, [*command, *where], capture_output=True)
    assert done.stdout, done.stderr.decode()[-3000:]
    said = [(each["target"], each["action"], each["said"]) for each in json.loads(done.stdout)]
    assert said == [
        ("new", "create", "keys k"),
        ("wide", "create", "keys p"),
        ("far", "create", "keys p"),
    ]
    assert done.returncode == 0
    assert b"marked-value" not in done.stdout + done.stderr
    done = await to_thread(subprocess.run, [*command, *where[:2]], capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        f"create     {HOME}/new  keys k",
        f"create     {HOME}/wide  keys p",
        f"create     {HOME}/far  keys p",
        "3 ExternalSecrets: 3 create",
    ]


async def _by_command(cluster) -> None:
    command = [sys.executable, "-m", "strongroom", "explain", "externalsecret"]
    where = ["--kubeconfig", str(cluster.kubeconfig), "--format", "json"]
    done = await to_thread(
        subprocess.run, [*command, f"{HOME}/missing-store", *where], capture_output=True
    )
    assert done.returncode == 1
    assert json.loads(done.stdout)["broken"] == "store"
    done = await to_thread(subprocess.run, [*command, f"{HOME}/gone", *where], capture_output=True)
    assert b"there is no ExternalSecret gone in broken" in done.stderr


async def _by_somebody(api: KubeClient, cluster, place: Path) -> None:
    """Who may not read what is looked at is told so, and not by a path of the API."""
    request = {"metadata": {"name": "here", "namespace": HOME}, "spec": {"expirationSeconds": 600}}
    made = await api.create(SERVICE_ACCOUNTS, request, "token")
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    config["users"] = [
        {"name": each["name"], "user": {"token": made["status"]["token"]}}
        for each in config["users"]
    ]
    (place / "config").write_text(yaml.safe_dump(config))
    for words in (
        ["sync", "plan", "-f", str(place / "all.yaml"), "-n", HOME],
        ["explain", "externalsecret", f"{HOME}/missing-store"],
    ):
        command = [sys.executable, "-m", "strongroom", *words]
        where = ["--kubeconfig", str(place / "config")]
        done = await to_thread(subprocess.run, [*command, *where], capture_output=True)
        assert done.returncode == 2
        assert done.stderr.startswith(b"error: externalsecrets.external-secrets.io "), done.stderr
        assert b"hint: the command reads externalsecrets" in done.stderr
        assert b"/apis/" not in done.stderr
