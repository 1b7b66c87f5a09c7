"""A laboratory for one operator: a real API server, a store, the operator, and who looks at them.

The operator is looked at from outside alone: watches on Secrets and ExternalSecrets, the API
server's metrics and its audit log of the operator's account, the store's audit log, and /proc.
"""

import asyncio
import base64
import os
import re
import shlex
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson
import yaml

from strongroom.app.cluster.binaries import resolve
from strongroom.app.cluster.control_plane import ControlPlane
from strongroom.app.dev.bed import Bed
from strongroom.app.dev.processes import TIED_TO_PARENT, Processes
from strongroom.app.waiting import until
from strongroom.kube.client import KubeClient
from strongroom.kube.informer import Informer
from strongroom.kube.resource import (
    CLUSTER_ROLE_BINDINGS,
    CRDS,
    NAMESPACES,
    RBAC,
    SECRETS,
    SERVICE_ACCOUNTS,
    Object,
)
from strongroom.kube.token_review import request_token
from strongroom.model.clock import SystemClock
from strongroom.sync.crds import CLUSTER_SECRET_STORES, EXTERNAL_SECRETS, crds

CLOCK: Final = SystemClock()
SPACES: Final = 50
WRITERS: Final = 16
PROPERTIES: Final = ("user", "password", "host")
READ_ALONE: Final = """\
path "secret/*" { capabilities = ["read", "list"] }
path "sys/events/subscribe/*" { capabilities = ["deny"] }
"""
OURS: Final = f"{sys.executable} -m strongroom operator --no-leader-election"
ACCOUNT: Final = "bench-operator"
CHANGING: Final = frozenset({"create", "update", "patch", "delete", "deletecollection"})
# What a replica says of itself, and not of an object.
NOT_COUNTED: Final = frozenset({"leases", "tokenreviews", "subjectaccessreviews"})
DAY: Final = 86_400
TICKS: Final = os.sysconf("SC_CLK_TCK")
# The garbage collector of the controller manager takes up new definitions only after this.
DEFINITIONS_SECONDS: Final = 35.0


def space(number: int) -> str:
    """The namespace of an object."""
    return f"bench-{number % SPACES:02}"


def name(number: int) -> str:
    """The name of an object and its Secret."""
    return f"es-{number:05}"


def number_of(item: Object) -> int | None:
    """Which object, or whose Secret, this is; None for what is none of ours."""
    found = re.fullmatch(r"es-(\d+)", item["metadata"]["name"])
    return int(found.group(1)) if found else None


def manifest(number: int, interval: str) -> dict[str, Any]:
    """An ExternalSecret of three properties of a secret of its own."""
    rows = [
        {"secretKey": each, "remoteRef": {"key": f"bench/{number:05}", "property": each}}
        for each in PROPERTIES
    ]
    spec = {
        "refreshInterval": interval,
        "secretStoreRef": {"kind": "ClusterSecretStore", "name": "bench"},
        "target": {"name": name(number)},
        "data": rows,
    }
    return {"metadata": {"name": name(number), "namespace": space(number)}, "spec": spec}


async def many(numbers: range, work: Callable[[int], Awaitable[object]]) -> None:
    """Do something for each number, by a few writers at once."""
    waiting = iter(numbers)

    async def one() -> None:
        for number in waiting:
            await work(number)

    await asyncio.gather(*(one() for _ in range(WRITERS)))


@dataclass
class Operated:
    """An operator's process, by command; its children count as well."""

    command: str
    kubeconfig: Path
    log: Path
    process: "subprocess.Popen[bytes] | None" = None
    earlier_cpu: float = 0.0
    peak: float = 0.0
    last_cpu: float = field(default=0.0)

    def start(self) -> None:
        """Start it, with KUBECONFIG set."""
        environment = {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [*TIED_TO_PARENT, *shlex.split(self.command)],
                stdout=out, stderr=out, env=environment,
            )  # fmt: skip

    def stop(self) -> None:
        """End it and wait until it is gone."""
        if self.process is None:
            return
        self.sample()
        self.earlier_cpu += self.last_cpu
        self.process.terminate()
        self.process.wait(timeout=30)
        self.process, self.last_cpu = None, 0.0

    def sample(self) -> None:
        """CPU seconds and the largest resident size in MiB so far."""
        if self.process is None:
            return
        root = Path(f"/proc/{self.process.pid}")
        try:
            parts = (root / "stat").read_text().rpartition(")")[2].split()
            status = (root / "status").read_text()
        except OSError:
            return
        self.last_cpu = sum(map(int, parts[11:15])) / TICKS
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        self.peak = max(self.peak, int(found.group(1)) / 1024 if found else 0.0)

    @property
    def cpu(self) -> float:
        """CPU seconds of all its processes so far."""
        self.sample()
        return self.earlier_cpu + self.last_cpu


class Mirror:
    """What watches show: the password of each Secret, and which objects are Ready.

    `right_at` has the moment (monotonic) at which the n-th object was first seen right, which is
    with a Secret of the value that the store holds and a condition that says so.
    """

    def __init__(self, api: KubeClient) -> None:
        self._secrets = Informer(api, SECRETS, CLOCK, trim=_password_alone)
        self._objects = Informer(api, EXTERNAL_SECRETS, CLOCK, trim=_readiness_alone)
        self._secrets.on_change(self._secret_seen)
        self._objects.on_change(self._object_seen)
        self.values: dict[int, tuple[str, int]] = {}
        self.ready: set[int] = set()
        self.stale: set[int] = set()
        self._right: set[int] = set()
        self.right_at: list[float] = []
        self._waiting: dict[int, list[tuple[str, int, asyncio.Future[float]]]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Follow from now on."""
        self._tasks = [asyncio.create_task(each.run()) for each in (self._secrets, self._objects)]
        for each in (self._secrets, self._objects):
            await each.synced.wait()

    async def stop(self) -> None:
        """Look no longer."""
        for each in self._tasks:
            each.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _secret_seen(self, _old: Object | None, new: Object | None) -> None:
        if new is None:
            return
        number = number_of(new)
        if number is None:
            return
        value, version = new["password"], int(new["metadata"]["resourceVersion"])
        self.values[number] = (value, version)
        self._note_right(number)
        for wanted, after, seen in self._waiting.pop(number, []):
            if value == wanted and version > after:
                if not seen.done():
                    seen.set_result(time.monotonic())
            else:
                self._waiting.setdefault(number, []).append((wanted, after, seen))

    def _object_seen(self, _old: Object | None, new: Object | None) -> None:
        number = None if new is None else number_of(new)
        if new is None or number is None:
            return
        for kind, held in (("Ready", self.ready), ("Stale", self.stale)):
            (held.add if kind in new["true"] else held.discard)(number)
        self._note_right(number)

    def _note_right(self, number: int) -> None:
        value, _ = self.values.get(number, ("", 0))
        if value == f"first-{number}" and number in self.ready and number not in self._right:
            self._right.add(number)
            self.right_at.append(time.monotonic())

    async def shows(self, number: int, wanted: str, after: int, limit: float) -> float:
        """The moment a Secret has a value in a version after one; `limit` seconds from now."""
        value, version = self.values.get(number, ("", 0))
        if value == wanted and version > after:
            return time.monotonic()
        seen: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(number, []).append((wanted, after, seen))
        try:
            return await asyncio.wait_for(seen, limit)
        except TimeoutError:
            return time.monotonic()


def _password_alone(item: Object) -> None:
    held = (item.pop("data", None) or {}).get("password") or ""
    item["password"] = base64.b64decode(held).decode() if number_of(item) is not None else ""
    _bare(item)


def _readiness_alone(item: Object) -> None:
    conditions = (item.pop("status", None) or {}).get("conditions") or []
    item["true"] = [each["type"] for each in conditions if each["status"] == "True"]
    del item["spec"]
    _bare(item)


def _bare(item: Object) -> None:
    kept = ("name", "namespace", "resourceVersion")
    item["metadata"] = {each: item["metadata"].get(each, "") for each in kept}


class Requests:
    """What the operator asked of the API server, by its audit log: verb and resource."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._read = 0
        self._rest = b""
        self._counts: Counter[str] = Counter()

    def counts(self) -> Counter[str]:
        """Answered requests so far, such as `patch externalsecrets/status`."""
        with self._log.open("rb") as log:
            log.seek(self._read)
            fresh = log.read()
        self._read += len(fresh)
        *lines, self._rest = (self._rest + fresh).split(b"\n")
        for line in lines:
            event = orjson.loads(line)
            if event["user"]["username"].endswith(f":{ACCOUNT}"):
                self._counts[request_name(event)] += 1
        return Counter(self._counts)


def request_name(event: dict[str, Any]) -> str:
    """Verb and resource of an audit event."""
    what = event.get("objectRef") or {}
    resource, part = what.get("resource", "none"), what.get("subresource", "")
    return f"{event['verb']} {resource}{'/' + part if part else ''}"


def changing(counts: Counter[str]) -> int:
    """How many of the requests change something."""
    found = ((key.partition(" "), count) for key, count in counts.items())
    return sum(
        count
        for (verb, _, resource), count in found
        if verb in CHANGING and resource.partition("/")[0] not in NOT_COUNTED
    )


@dataclass
class Lab:
    """The API server, the store, and one operator."""

    bed: Bed
    control: ControlPlane
    api: KubeClient
    operator: Operated
    mirror: Mirror
    requests: Requests

    async def api_server(self) -> tuple[float, float]:
        """CPU seconds of the API server so far, and its resident size in MiB."""
        page = (await self.api.raw("/metrics")).decode()
        found = dict(re.findall(r"^(process_\w+) ([\d.e+]+)$", page, re.MULTILINE))
        memory = float(found["process_resident_memory_bytes"]) / 2**20
        return float(found["process_cpu_seconds_total"]), memory

    def asked(self) -> int:
        """Requests of the provider so far."""
        with self.bed.store_log.open("rb") as log:
            return sum(b'"type":"request"' in line for line in log)

    async def fill(self, numbers: range) -> None:
        """Put secrets into the store."""
        async with self.bed.store() as store:

            async def put(number: int) -> None:
                data = dict.fromkeys(PROPERTIES, f"first-{number}")
                await store.kv2_write("secret", f"bench/{number:05}", data)

            await many(numbers, put)

    async def create(self, numbers: range, interval: str) -> None:
        """Make objects that read them."""
        await many(
            numbers, lambda number: self.api.create(EXTERNAL_SECRETS, manifest(number, interval))
        )


@dataclass(frozen=True)
class Setup:
    """One operator and what it is given. `definitions`: a folder of CRDs, None for ours."""

    command: str
    definitions: Path | None = None
    feed: bool = True


@asynccontextmanager
async def laboratory(folder: Path, setup: Setup) -> AsyncIterator[Lab]:
    """A fresh one; all of it ends with the context."""
    with Processes(folder / "logs") as processes:
        bed = Bed(folder, processes, CLOCK)
        control = ControlPlane(folder / "c", resolve(), processes, CLOCK)
        control.audit_policy = _audit_of(f"system:serviceaccount:{space(0)}:{ACCOUNT}")
        await asyncio.gather(bed.start_store(), control.start())
        async with KubeClient(control.config(), CLOCK) as api:
            await _prepare(api, bed, setup)
            kubeconfig = await _account(api, control)
            operator = Operated(setup.command, kubeconfig, folder / "operator.log")
            mirror = Mirror(api)
            await mirror.start()
            try:
                yield Lab(bed, control, api, operator, mirror, Requests(control.audit_log))
            finally:
                operator.stop()
                await mirror.stop()


def _audit_of(user: str) -> dict[str, Any]:
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived", "ResponseStarted"],
        "rules": [{"level": "Metadata", "users": [user]}, {"level": "None"}],
    }


async def _prepare(api: KubeClient, bed: Bed, setup: Setup) -> None:
    for each in definitions(setup.definitions):
        await api.apply(CRDS, each, "bench")
    for number in range(SPACES):
        await api.create(NAMESPACES, {"metadata": {"name": space(number)}})
    token = await store_token(bed, feed=setup.feed)
    place = {"name": "bench-token", "namespace": space(0)}
    await api.create(SECRETS, {"metadata": place, "data": {"token": token}})

    async def served() -> bool | None:
        for each in (CLUSTER_SECRET_STORES, EXTERNAL_SECRETS):
            await api.list(each)
        return True

    await until("the definitions", served, CLOCK)
    auth = {"tokenSecretRef": {**place, "key": "token"}}
    vault = {"server": bed.address, "path": "secret", "version": "v2", "auth": auth}
    spec = {"provider": {"vault": vault}}
    await api.create(CLUSTER_SECRET_STORES, {"metadata": {"name": "bench"}, "spec": spec})


def definitions(folder: Path | None) -> list[Object]:
    """The CRDs in a folder's YAML files, or ours."""
    if folder is None:
        return list(crds())
    found = [
        each
        for path in sorted(folder.glob("*.y*ml"))
        for each in yaml.safe_load_all(path.read_text())
    ]
    return [each for each in found if each and each.get("kind") == "CustomResourceDefinition"]


async def store_token(bed: Bed, *, feed: bool) -> str:
    """The token of the operator's store, as a Secret has it; without the feed it may only read."""
    token = bed.root_token_file.read_text().strip()
    if not feed:
        async with bed.store() as store:
            await store.request("PUT", "sys/policies/acl/bench", {"policy": READ_ALONE})
            made = await store.request("POST", "auth/token/create", {"policies": ["bench"]})
            token = made["auth"]["client_token"]
    return base64.b64encode(token.encode()).decode()


async def _account(api: KubeClient, control: ControlPlane) -> Path:
    """A kubeconfig of the operator's own account, which may do everything."""
    await api.create(SERVICE_ACCOUNTS, {"metadata": {"name": ACCOUNT, "namespace": space(0)}})
    subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": space(0)}
    role = {"apiGroup": RBAC, "kind": "ClusterRole", "name": "cluster-admin"}
    binding = {"metadata": {"name": ACCOUNT}, "roleRef": role, "subjects": [subject]}
    await api.create(CLUSTER_ROLE_BINDINGS, binding)
    token = await request_token(api, space(0), ACCOUNT, (), DAY)
    path = control.folder / "operator.kubeconfig"
    control.write_kubeconfig(path, token.reveal_text())
    return path
