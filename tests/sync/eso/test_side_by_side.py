"""The same ExternalSecrets given to External Secrets Operator's program and to ours.

Each has an API server of its own with the other's definitions; what stands there afterwards is
compared, Secrets to the byte. Opt-in as in test_the_switch.py.
"""

import asyncio
import base64
import copy
import json
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from tests.sync.eso.scenarios import (
    BEFORE,
    CONDITIONS,
    HELD,
    IN_CLUSTER,
    IN_VAULT,
    MARKED,
    ON_THE_WEB,
    PUSHED_ON,
    PUSHES,
    SCENARIOS,
    SOURCE,
)

from strongroom.app.cluster.binaries import resolve
from strongroom.app.cluster.control_plane import ControlPlane, free_port
from strongroom.app.dev.processes import Processes
from strongroom.app.waiting import until
from strongroom.kube.api import Scope
from strongroom.kube.client import KubeClient
from strongroom.kube.resource import CONFIG_MAPS, EVENTS, NAMESPACES, SECRETS, Object
from strongroom.model.clock import SystemClock
from strongroom.model.errors import NotFound
from strongroom.sync.crds import (
    CLUSTER_GENERATORS,
    CLUSTER_SECRET_STORES,
    EXTERNAL_SECRETS,
    GENERATORS,
    PUSH_SECRETS,
    SECRET_STORES,
)
from strongroom.wire.http import Request, Response
from strongroom.wire.listener import Exchange

BINARY = os.environ.get("STRONGROOM_ESO", "")
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.soak,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not BINARY, reason="STRONGROOM_ESO names no binary of External Secrets Operator 0.16.2"
    ),
]
CLOCK = SystemClock()
HERE = Scope(namespace="apps")
GROUP = "external-secrets.io/v1"
GENERATOR_GROUP = "generators.external-secrets.io/v1alpha1"
RESOURCES = {
    each.kind: each
    for each in (
        CLUSTER_GENERATORS, CLUSTER_SECRET_STORES, EXTERNAL_SECRETS, PUSH_SECRETS, SECRET_STORES,
        *GENERATORS,
    )
}  # fmt: skip
# Targets with a name of their own.
NAMED = {"other-name": "named-otherwise"}
# Two keys become one; Go takes the keys of a map in any order, so it may be either's value.
CHANCE = {"rewrite-collide"}
# Nobody serves its store, so nothing is ever said of it.
SILENT = {"class-of-others"}


def encoded(held: dict[str, str]) -> dict[str, str]:
    return {key: base64.b64encode(each.encode()).decode() for key, each in held.items()}


def an_object(kind: str, name: str, spec: Object, namespace: str = "apps", **more: Any) -> Object:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {}), **more}
    return {"apiVersion": GROUP, "kind": kind, "metadata": metadata, "spec": spec}


def stores() -> list[Object]:
    """All of the kind `fake`, by which nothing but the operators differs."""
    versions = [{"key": "versions", "version": f"v{n}", "value": f"of {n}"} for n in (1, 2)]
    entries = [{"key": key, "value": value} for key, value in HELD.items()] + versions
    there = [{"key": "db", "value": '{"there":"x"}'}, {"key": "only-there", "value": "y"}]
    fake = {"provider": {"fake": {"data": entries}}}
    made = [
        an_object("SecretStore", "s", fake),
        an_object("SecretStore", "other", {"provider": {"fake": {"data": there}}}),
        an_object("SecretStore", "of-others", {**fake, "controller": "somebody"}),
        an_object(
            "SecretStore", "broken",
            {"provider": {"vault": {"server": "http://127.0.0.1:9", "path": "x", "auth": {
                "tokenSecretRef": {"name": "gone", "key": "token"}}}}},
        ),
    ]  # fmt: skip
    for name, conditions in CONDITIONS.items():
        spec = {**fake, **({"conditions": conditions} if conditions else {})}
        made.append(an_object("ClusterSecretStore", name, spec, ""))
    fixed = {"data": {"g": "made", "h": "too"}}
    made.append({**an_object("Fake", "fixed", fixed), "apiVersion": GENERATOR_GROUP})
    cluster = {"kind": "Fake", "generator": {"fakeSpec": fixed}}
    made.append(
        {
            **an_object("ClusterGenerator", "fixed-cluster", cluster, ""),
            "apiVersion": GENERATOR_GROUP,
        }
    )
    return made


def asked() -> list[Object]:
    found = []
    for name, spec in SCENARIOS.items():
        whole = {"refreshInterval": "1h", "secretStoreRef": {"name": "s"}, **copy.deepcopy(spec)}
        found.append(an_object("ExternalSecret", name, whole, **MARKED.get(name, {})))
    return found


class Web:
    """A server that answers with what it holds under a path's last part."""

    def __call__(self, request: Request, exchange: Exchange) -> None:
        name = urlsplit(request.target).path.rpartition("/")[2]
        if name in ON_THE_WEB:
            exchange.reply(Response(200, json.dumps({"data": ON_THE_WEB[name]}).encode()))
        else:
            exchange.reply(Response(404, b"{}"))


def elsewhere(control: ControlPlane, store: Any, web: str) -> list[Object]:
    """Stores that are asked over the network."""
    token = {"name": "access", "key": "vault"}
    vault = {
        "server": store.address, "path": "secret", "version": "v2",
        "auth": {"tokenSecretRef": token},
    }  # fmt: skip
    bundle = base64.b64encode(control.ca_file.read_bytes()).decode()
    kubernetes = {
        "server": {"url": control.url, "caBundle": bundle},
        "remoteNamespace": "far",
        "auth": {"token": {"bearerToken": {"name": "access", "key": "cluster"}}},
    }
    webhook = {"url": web + "/{{ .remoteRef.key }}", "result": {"jsonPath": "$.data"}}
    providers = {"vault": vault, "kubernetes": kubernetes, "webhook": webhook}
    return [
        an_object("SecretStore", name, {"provider": {name: each}})
        for name, each in providers.items()
    ]


async def fill(api: KubeClient, control: ControlPlane, store: Any) -> None:
    """What those stores hold, and what lets in."""
    for path, held in IN_VAULT.items():
        await store.ask("POST", f"secret/data/{quote(path)}", {"data": held})
    tags = {"custom_metadata": {"team": "blue"}}
    await store.ask("POST", "secret/metadata/db", tags)
    await api.create(NAMESPACES, {"metadata": {"name": "far"}})
    for name, held in IN_CLUSTER.items():
        labels = {"team": "blue"} if name == "db" else {}
        metadata = {"name": name, "namespace": "far", "labels": labels}
        await api.create(SECRETS, {"metadata": metadata, "data": encoded(held)})
    for name in PUSHES:
        if name.endswith("before"):
            where = {"name": name, "namespace": "far", **PUSHED_ON["metadata"]}
            kind = {"type": SOURCE["type"]}
            held = encoded(PUSHED_ON["data"] | SOURCE["data"])
            await api.create(SECRETS, {"metadata": where, "data": held, **kind})
    metadata = {"name": "source", "namespace": "apps", **SOURCE["metadata"]}
    source = {**SOURCE, "metadata": metadata, "data": encoded(SOURCE["data"])}
    await api.create(SECRETS, source)
    tokens = encoded({"vault": store.root, "cluster": control.admin_token})
    await api.create(SECRETS, {"metadata": {"name": "access", "namespace": "apps"}, "data": tokens})


def pushes() -> list[Object]:
    found = []
    for name, spec in PUSHES.items():
        whole = {
            "refreshInterval": "1h",
            "secretStoreRefs": [{"name": "kubernetes"}],
            "selector": {"secret": {"name": "source"}},
            **copy.deepcopy(spec),
        }
        item = an_object("PushSecret", name, whole)
        found.append({**item, "apiVersion": "external-secrets.io/v1alpha1"})
    return found


async def prepare(api: KubeClient) -> None:
    await api.create(NAMESPACES, {"metadata": {"name": "apps", "labels": {"env": "test"}}})
    texts = {"file": "file of {{ .user }}", "map": "{{ .user }}-m: {{ .p | quote }}\nn: 'v'"}
    where = {"name": "texts", "namespace": "apps"}
    await api.create(CONFIG_MAPS, {"metadata": where, "data": texts})
    await api.create(SECRETS, {"metadata": where, "data": encoded({"secret-file": "s {{ .p }}"})})
    for name, item in BEFORE.items():
        metadata = {"name": name, "namespace": "apps", **item["metadata"]}
        made = {"metadata": metadata, "data": encoded(item["data"])}
        await api.create(SECRETS, made)
    for item in stores():
        await api.create(RESOURCES[item["kind"]], item)


@dataclass(frozen=True)
class Picture:
    """What stands in the namespace, without what a cluster has of its own."""

    secrets: dict[str, Object]
    states: dict[str, Object]
    events: dict[str, set[tuple[str, str]]]
    messages: dict[str, str]
    pushed: dict[str, tuple[Object | None, Any]]


def of_secret(item: Object) -> Object:
    held = copy.deepcopy(item)
    metadata = held["metadata"]
    fields = metadata.pop("managedFields", [])
    managers = sorted((each["manager"], each["operation"]) for each in fields)
    for name in ("uid", "resourceVersion", "creationTimestamp"):
        metadata.pop(name, None)
    for each in metadata.get("ownerReferences") or []:
        each.pop("uid")
    held["data"] = {
        key: base64.b64decode(each or "") for key, each in (held.get("data") or {}).items()
    }
    return held | {"managers": managers}


def ready(item: Object) -> Object | None:
    conditions = (item.get("status") or {}).get("conditions") or []
    return next((each for each in conditions if each["type"] == "Ready"), None)


def of_state(item: Object) -> Object:
    status, condition = item.get("status") or {}, ready(item)
    return {
        "ready": (condition["status"], condition["reason"]) if condition else None,
        "binding": (status.get("binding") or {}).get("name") or "",
        "synced": status.get("syncedResourceVersion"),
        "refreshed": bool(status.get("refreshTime")),
    }


async def look(api: KubeClient) -> Picture:
    secrets = {each["metadata"]["name"]: each for each in (await api.list(SECRETS, HERE)).items}
    items = {
        each["metadata"]["name"]: each for each in (await api.list(EXTERNAL_SECRETS, HERE)).items
    }
    events: dict[str, set[tuple[str, str]]] = {}
    for each in (await api.list(EVENTS, HERE)).items:
        about = each.get("regarding") or each.get("involvedObject") or {}
        if about.get("kind") == "ExternalSecret":
            events.setdefault(about["name"], set()).add((each["type"], each["reason"]))
    return Picture(
        {
            name: of_secret(each)
            for name, each in secrets.items()
            if name not in ("texts", "access", "source")
        },
        {name: of_state(each) for name, each in items.items()},
        events,
        {name: (ready(each) or {}).get("message", "") for name, each in items.items()},
        await look_at_pushes(api),
    )


async def look_at_pushes(api: KubeClient) -> dict[str, tuple[Object | None, Any]]:
    """What was pushed, and the conditions of who pushed it."""
    far = {
        each["metadata"]["name"]: of_secret(each)
        for each in (await api.list(SECRETS, Scope(namespace="far"))).items
    }
    for each in far.values():
        # The programs go by their own names where they push.
        del each["managers"]
    items = (await api.list(PUSH_SECRETS, HERE)).items
    return {
        each["metadata"]["name"]: (far.get(each["metadata"]["name"]), of_state(each)["ready"])
        for each in items
    }


@asynccontextmanager
async def clustered(background, install) -> AsyncIterator[tuple[ControlPlane, Processes]]:
    with (
        tempfile.TemporaryDirectory(prefix="sr-", ignore_cleanup_errors=True) as folder,
        Processes(Path(folder) / "logs") as processes,
    ):
        control = ControlPlane(Path(folder), resolve(), processes, CLOCK)
        await asyncio.to_thread(background, control.start())
        await install(control)
        yield control, processes


async def outcome(beds, start: Callable[[ControlPlane, Processes], None]) -> Picture:
    """What one operator makes of it all."""
    background, install, store, plain = beds
    async with (
        clustered(background, install) as (control, processes),
        KubeClient(control.config(), CLOCK) as api,
        plain(Web()) as web,
    ):
        await prepare(api)
        await fill(api, control, store)
        for item in (*elsewhere(control, store, web), *asked(), *pushes()):
            await api.create(RESOURCES[item["kind"]], item)
        start(control, processes)

        async def said() -> bool | None:
            items = (await api.list(EXTERNAL_SECRETS, HERE)).items
            items = [*items, *(await api.list(PUSH_SECRETS, HERE)).items]
            silent = [each["metadata"]["name"] for each in items if ready(each) is None]
            if set(silent) - SILENT:
                raise NotFound("silent", f"nothing is said of {silent}")
            # An Event is written after the condition that it goes with.
            seen = await look(api)
            failed = {
                name for name, each in seen.states.items() if "False" in (each["ready"] or "")
            }
            return True if failed <= seen.events.keys() else None

        await until("a word about each", said, CLOCK, seconds=400)
        return await look(api)


def start_theirs(control: ControlPlane, processes: Processes) -> None:
    words = ("--metrics-addr", f"127.0.0.1:{free_port()}", "--concurrent", "5")
    processes.start("theirs", [BINARY, *words], env={"KUBECONFIG": str(control.kubeconfig)})


def start_ours(control: ControlPlane, processes: Processes) -> None:
    words = ("--kubeconfig", str(control.kubeconfig), "--no-leader-election")
    processes.strongroom("ours", "operator", *words, "--no-source-versions")


# What differs, and why; docs/sync.md has those that somebody could meet.
DIFFERENT = {
    "dotted-literal": "an exact key goes before a path here too; theirs has it for other providers",
    "extract-odd": "letters of any alphabet are left by theirs, and refused by the API server",
    "extract-odd-default": "the same",
    "extract-odd-unicode": "the same",
    "find-rewrite": "keys are converted after a rewrite; theirs' provider `fake` does it before",
    "template-from-maps": "a key `n` stays; theirs reads it as a truth value",
    "v-tags": "the server's own metadata stand with the custom ones, as in later versions of theirs",
    "v-extract-tags": "the same",
    "k-metadata": "annotations that are not there are {}, not null",
    "k-extract-metadata": "the same",
    "k-extract-text": "texts are without quotes, as from every other store",
    "w-list-map": "the first element of a list counts for all of it as it does for a row",
    "orphan-before": "a Secret without an owner is left alone",
    "with-a-name-of-more-than-sixty-three-characters-as-some-people-have-them": "the field manager"
    " is shortened as later versions of theirs do it",
}


def told(picture: Picture, name: str) -> set[tuple[str, str]]:
    """Events, but for those of success, and of an attempt that a later one made good."""
    state = picture.states[name]["ready"] or ("", "")
    passed = {("Normal", "Created"), ("Normal", "Updated")}
    passed |= {("Warning", "UpdateFailed")} if state[0] == "True" else set()
    return picture.events.get(name, set()) - passed


def differences(theirs: Picture, ours: Picture) -> dict[str, tuple[Any, Any]]:
    """By scenario what is not the same."""
    found: dict[str, tuple[Any, Any]] = {}
    for name in SCENARIOS:
        one, other = (
            (each.secrets.get(NAMED.get(name, name)), each.states[name], told(each, name))
            for each in (theirs, ours)
        )
        if one != other:
            found[name] = (one, other)
    return found


async def test_what_both_make_of_the_same(background, install_older, store, plain) -> None:
    beds = background, install_older, store, plain
    theirs = await outcome(beds, start_theirs)
    ours = await outcome(beds, start_ours)
    found = differences(theirs, ours)
    for name in CHANCE:
        found.pop(name, None)
    assert theirs.pushed == ours.pushed
    assert theirs.pushed.keys() == PUSHES.keys()
    unknown = {name: each for name, each in found.items() if name not in DIFFERENT}
    assert unknown == {}
    assert found.keys() == DIFFERENT.keys()
    # Nor is there a Secret that neither list knows of.
    assert (theirs.secrets.keys() | ours.secrets.keys()) <= {*SCENARIOS, *NAMED.values()}
