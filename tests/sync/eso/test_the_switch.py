"""A cluster goes from External Secrets Operator to Strongroom and back, with the real program.

Opt-in: STRONGROOM_ESO is the path of External Secrets Operator's binary, version 0.16.2, the
newest that builds from its Go module alone. How: docs/sync.md, "The switch, measured".
"""

import asyncio
import base64
import copy
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from strongroom.app.cluster.binaries import resolve
from strongroom.app.cluster.control_plane import ControlPlane, free_port
from strongroom.app.dev.processes import Processes
from strongroom.app.waiting import until
from strongroom.kube.api import Scope
from strongroom.kube.client import KubeClient
from strongroom.kube.resource import NAMESPACES, SECRETS, Object, Resource
from strongroom.model.clock import SystemClock
from strongroom.model.errors import NotFound
from strongroom.sync.crds import EXTERNAL_SECRETS, PUSH_SECRETS
from strongroom.wire.client import HttpClient

BINARY = os.environ.get("STRONGROOM_ESO", "")
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.soak,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not BINARY, reason="STRONGROOM_ESO names no binary of External Secrets Operator 0.16.2"
    ),
]
CLOCK = SystemClock()
HERE = Scope(namespace="apps")
COPIES = 3
ROWS = [
    {"secretKey": "p", "remoteRef": {"key": "db", "property": "password"}},
    {"secretKey": "u", "remoteRef": {"key": "db", "property": "user"}},
]
EXTRACT = [{"extract": {"key": "db"}}]
TEMPLATE = {
    "type": "kubernetes.io/basic-auth",
    "metadata": {"labels": {"of": "{{ .u }}"}, "annotations": {"note": "made for {{ .u }}"}},
    "data": {"username": "{{ .u }}", "password": "{{ .p | upper }}"},
}
SHAPES: dict[str, Object] = {
    "rows": {"data": ROWS},
    "extract": {"dataFrom": EXTRACT},
    "find": {
        "dataFrom": [
            {
                "find": {"path": "found", "name": {"regexp": ".*"}},
                "rewrite": [{"regexp": {"source": "found/(.*)", "target": "x-$1"}}],
            }
        ]
    },
    "odd": {"dataFrom": [{"extract": {"key": "odd", "conversionStrategy": "Unicode"}}]},
    "decoded": {
        "data": [
            {
                "secretKey": "d",
                "remoteRef": {"key": "db", "property": "encoded", "decodingStrategy": "Base64"},
            }
        ]
    },
    "template": {"data": ROWS, "target": {"template": TEMPLATE}},
    "merged-template": {
        "data": ROWS,
        "target": {"template": {"mergePolicy": "Merge", "data": {"url": "pg://{{ .u }}"}}},
    },
    "orphan": {"data": ROWS, "target": {"creationPolicy": "Orphan"}},
    "merge": {"data": ROWS, "target": {"creationPolicy": "Merge"}},
    "delete": {"data": ROWS, "target": {"deletionPolicy": "Delete"}},
    "merging": {"data": ROWS, "target": {"deletionPolicy": "Merge"}},
    "fixed": {"data": ROWS, "target": {"immutable": True}},
    "once": {"data": ROWS, "refreshPolicy": "CreatedOnce"},
    "on-change": {"data": ROWS, "refreshPolicy": "OnChange"},
    "never": {"data": ROWS, "refreshInterval": "0"},
    "with-a-name-that-makes-the-field-manager-too-long": {"data": ROWS},
}
LABELS = {"app": "web", "app.kubernetes.io/managed-by": "Helm"}


@dataclass
class Bed:
    """A cluster with their definitions, a store of ours, and the two programs."""

    control: ControlPlane
    processes: Processes
    api: KubeClient
    page: int = 0

    def start_theirs(self) -> None:
        self.page = free_port()
        command = [BINARY, "--metrics-addr", f"127.0.0.1:{self.page}", "--concurrent", "5"]
        environment = {"KUBECONFIG": str(self.control.kubeconfig)}
        self.processes.start("theirs", command, env=environment)

    def start_ours(self, *more: str) -> None:
        self.page = free_port()
        words = ("--kubeconfig", str(self.control.kubeconfig), "--no-leader-election")
        page = ("--listen", f"127.0.0.1:{self.page}")
        self.processes.strongroom("ours", "operator", *words, *page, *more)

    async def syncs(self) -> float:
        """How often the program that runs has looked at an ExternalSecret."""
        async with HttpClient() as http:
            reply = await http.request("GET", f"http://127.0.0.1:{self.page}/metrics")
        name = "externalsecret_sync_calls_total"
        lines = [each for each in reply.body.decode().splitlines() if each.startswith(name)]
        return sum(float(each.rsplit(" ", 1)[1]) for each in lines)

    async def looked(self, times: float) -> None:
        async def enough() -> bool | None:
            return await self.syncs() >= times or None

        await until(f"{times:g} looks", enough, CLOCK, seconds=240)

    async def all(self, resource: Resource) -> dict[str, Object]:
        """The objects of the namespace by name."""
        found = (await self.api.list(resource, HERE)).items
        return {each["metadata"]["name"]: each for each in found}

    async def picture(self) -> dict[str, Object]:
        """Everything as it stands, but for what a cluster has of its own."""
        return {
            f"{resource.kind}/{name}": item
            for resource in (SECRETS, EXTERNAL_SECRETS, PUSH_SECRETS)
            for name, item in (await self.all(resource)).items()
        }

    async def apply(self, *items: Object) -> None:
        """As a person does, so that kubectl's annotation is there."""
        command = [str(self.control.binaries.path("kubectl")), "apply", "-f", "-"]
        done = await asyncio.to_thread(
            subprocess.run,
            [*command, "--kubeconfig", str(self.control.kubeconfig)],
            input=yaml.safe_dump_all(items),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


@pytest.fixture
async def bed(background, theirs_older) -> AsyncIterator[Bed]:
    control, processes = theirs_older
    async with KubeClient(control.config(), CLOCK) as api:
        yield Bed(control, processes, api)


@pytest.fixture
def theirs_older(background, install_older) -> Iterator[tuple[ControlPlane, Processes]]:
    with (
        tempfile.TemporaryDirectory(prefix="sr-", ignore_cleanup_errors=True) as folder,
        Processes(Path(folder) / "logs") as processes,
    ):
        control = ControlPlane(Path(folder), resolve(), processes, CLOCK)
        background(control.start())
        background(install_older(control))
        yield control, processes


def objects(address: str) -> list[Object]:
    """Everything that is synced: each shape a few times, half of it due every few seconds."""
    auth = {"tokenSecretRef": {"name": "vault", "key": "token"}}
    vault = {"server": address, "path": "secret", "version": "v2", "auth": auth}
    made = [_object("SecretStore", "s", {"provider": {"vault": vault}})]
    for shape, spec in SHAPES.items():
        for number in range(COPIES):
            often = {"refreshInterval": "3s" if number % 2 else "1h"}
            whole = {**often, "secretStoreRef": {"name": "s"}, **copy.deepcopy(spec)}
            item = _object("ExternalSecret", f"{shape}-{number}", whole)
            if number:
                item["metadata"] |= {"labels": LABELS, "annotations": {"note": "theirs"}}
            made.append(item)
    spread = {
        "externalSecretName": "spread",
        "externalSecretSpec": {"data": ROWS, "secretStoreRef": {"name": "s"}},
        "namespaceSelectors": [{"matchLabels": {"kubernetes.io/metadata.name": "apps"}}],
        "refreshTime": "5s",
    }
    made.append(_object("ClusterExternalSecret", "spread", spread, ""))
    push = {
        "secretStoreRefs": [{"name": "s"}],
        "selector": {"secret": {"name": "source"}},
        "data": [{"match": {"secretKey": "k", "remoteRef": {"remoteKey": "out", "property": "k"}}}],
        "refreshInterval": "3s",
    }
    made.append({**_object("PushSecret", "ps", push), "apiVersion": "external-secrets.io/v1alpha1"})
    return made


def _object(kind: str, name: str, spec: Object, namespace: str = "apps") -> Object:
    place = {"namespace": namespace} if namespace else {}
    return {
        "apiVersion": "external-secrets.io/v1",
        "kind": kind,
        "metadata": {"name": name, **place},
        "spec": spec,
    }


async def prepare(bed: Bed, store) -> None:
    for path, data in (
        ("db", {"password": "one", "user": "app", "encoded": "aGk="}),
        ("other", {"password": "one"}),
        ("odd", {"a/b": "1", "c d": "2"}),
        ("found/a", {"k": "1"}),
        ("found/b", {"k": "2"}),
    ):
        await store.ask("POST", f"secret/data/{path}", {"data": data})
    await bed.api.create(NAMESPACES, {"metadata": {"name": "apps"}})
    for name, data in (("vault", {"token": store.root}), ("source", {"k": "v"})):
        await bed.api.create(SECRETS, secret(name, data))
    for number in range(COPIES):
        await bed.api.create(SECRETS, secret(f"merge-{number}", {"mine": "kept"}))


def secret(name: str, data: dict[str, str]) -> Object:
    encoded = {key: base64.b64encode(each.encode()).decode() for key, each in data.items()}
    return {"metadata": {"name": name, "namespace": "apps"}, "data": encoded}


async def all_ready(bed: Bed) -> bool | None:
    expected = len(SHAPES) * COPIES + 1
    items = [*(await bed.all(EXTERNAL_SECRETS)).values(), *(await bed.all(PUSH_SECRETS)).values()]
    waiting = [
        f"{each['metadata']['name']}: {(each.get('status') or {}).get('conditions')}"
        for each in items
        if not any(
            (one["type"], one["status"]) == ("Ready", "True")
            for one in (each.get("status") or {}).get("conditions") or []
        )
    ]
    if waiting or len(items) != expected + 1:
        raise NotFound("not-ready", f"{len(items)} of {expected + 1}; {waiting[:3]}")
    return True


def changes(before: dict[str, Object], after: dict[str, Object]) -> dict[str, Any]:
    """What is not as it was, by object and part."""
    found: dict[str, Any] = {}
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old != new:
            found[name] = parts(old or {}, new or {})
    return found


def parts(old: Any, new: Any, at: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            each
            for key in sorted(old.keys() | new.keys())
            if old.get(key) != new.get(key)
            for each in parts(old.get(key), new.get(key), f"{at}.{key}")
        ]
    return [f"{at}: {old!r} > {new!r}"[:200]]


def of_secrets(found: dict[str, Any]) -> dict[str, Any]:
    """The Secrets that were written, but for one whose hash alone they write against its values."""
    # Theirs gives an immutable Secret the hash of the values that it cannot have.
    return {
        name: each
        for name, each in found.items()
        if name.startswith("Secret/") and not name.startswith("Secret/fixed-")
    }


def ours_to_explain(found: dict[str, Any]) -> dict[str, Any]:
    """All that was written, but for the finalizer that later versions of theirs set as well."""
    return {name: each for name, each in found.items() if "externalsecret-cleanup" not in str(each)}


def versions_alone(each: list[str]) -> bool:
    """Whether the annotation of versions is all that was changed."""
    book = (".metadata.managedFields", ".metadata.resourceVersion")
    said = [part for part in each if not part.startswith(book)]
    return bool(said) and all("strongroom.dev/source-versions" in part for part in said)


def follows(name: str) -> bool:
    """Whether a change at the store is to reach it by itself."""
    shape = name.rpartition("-")[0]
    return shape in FOLLOWING


FOLLOWING = {"rows", "extract", "template", "orphan", "merge", "delete", "merging"}


async def changed(bed: Bed, store, value: str) -> None:
    """A new value at the store, until all that follow it have it."""
    data = {"password": value, "user": "app", "encoded": "aGk="}
    await store.ask("POST", "secret/data/db", {"data": data})

    async def flowed() -> bool | None:
        held = await bed.all(SECRETS)
        late = [
            name
            for name, item in held.items()
            if follows(name)
            and not {value, value.upper()}
            & {base64.b64decode(each).decode() for each in item["data"].values()}
        ]
        if late:
            raise NotFound("late", f"not yet {late}")
        return True

    await until("the change", flowed, CLOCK, seconds=240)


@pytest.mark.parametrize("versions", [False, True])
async def test_over_and_back_without_one_secret_rewritten(bed: Bed, store, versions: bool) -> None:
    await prepare(bed, store)
    bed.start_theirs()
    await bed.apply(*objects(store.address))
    await until("their sync", lambda: all_ready(bed), CLOCK, seconds=240)
    count = len(SHAPES) * COPIES + 1
    bed.processes.stop("theirs")
    before = await bed.picture()

    bed.start_ours(*([] if versions else ["--no-source-versions"]))
    # Each once, and those that are due a few times more.
    await bed.looked(3 * count)
    assert ours_to_explain(changes(before, await bed.picture())) == {}
    await changed(bed, store, "two")
    bed.processes.stop("ours")
    before = await bed.picture()

    bed.start_theirs()
    await bed.looked(3 * count)
    written = of_secrets(changes(before, await bed.picture()))
    # The annotation of versions is what they take off, at the next time that each is due.
    assert bool(written) is versions, written
    assert all(versions_alone(each) for each in written.values()), written
