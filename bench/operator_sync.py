"""An operator that serves external-secrets.io, at size, on a real kube-apiserver.

    python bench/operator_sync.py [--objects 1000] [--format json] [--svg FOLDER]
    python bench/operator_sync.py --no-feed --interval 1h
    python bench/operator_sync.py --operator 'external-secrets --concurrent=10' --no-crds

Any operator that serves these definitions is started by its command, with KUBECONFIG set, and
watched from outside alone: by the Kubernetes API, the API server's request counts, the provider's
audit log, and /proc. The provider is one Vault-compatible store (Strongroom's); each object has
three properties of a secret of its own, in 50 namespaces. With a short interval every object is
due when the operator starts again, with a long one none is. Needs the cluster binaries
(`python -m strongroom.app.cluster build`).
"""

import argparse
import asyncio
import base64
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from svg import bars

from strongroom.app.cluster.binaries import resolve
from strongroom.app.cluster.control_plane import ControlPlane
from strongroom.app.dev.bed import Bed
from strongroom.app.dev.processes import Processes
from strongroom.app.waiting import until
from strongroom.kube.api import Scope
from strongroom.kube.client import KubeClient
from strongroom.kube.resource import CRDS, NAMESPACES, SECRETS
from strongroom.model.clock import SystemClock
from strongroom.model.errors import NotFound
from strongroom.sync.crds import CLUSTER_SECRET_STORES, EXTERNAL_SECRETS, crds
from strongroom.sync.durations import parse_duration

CLOCK = SystemClock()
SPACES = 50
WRITERS = 16
PROPERTIES = ("user", "password", "host")
NEW_OBJECTS = 30
STEADY_SECONDS = 30.0
# Intervals up to this are waited for, so that all is due.
SHORT_SECONDS = 60.0
READ_ALONE = 'path "secret/*" { capabilities = ["read", "list"] }'
OURS = f"{sys.executable} -m strongroom operator --no-leader-election"
WRITES = re.compile(r'apiserver_request_total\{.*?resource="(\w+)".*?verb="(\w+)".*?\} ([\d.e+]+)')
CHANGING = frozenset({"POST", "PUT", "PATCH", "APPLY", "DELETE"})
NOT_OURS = frozenset({"leases", "tokenreviews", "subjectaccessreviews"})
TICKS = os.sysconf("SC_CLK_TCK")


def space(number: int) -> str:
    return f"bench-{number % SPACES:02}"


def name(number: int) -> str:
    return f"es-{number:05}"


def manifest(number: int, interval: str) -> dict:
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
        environment = {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                shlex.split(self.command), stdout=out, stderr=out, env=environment
            )

    def stop(self) -> None:
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
        self.sample()
        return self.earlier_cpu + self.last_cpu


@dataclass
class Lab:
    """The API server, the store, and one operator."""

    bed: Bed
    control: ControlPlane
    api: KubeClient
    operator: Operated

    async def writes(self) -> float:
        """Requests so far that changed something, whoever made them."""
        page = (await self.api.raw("/metrics")).decode()
        return sum(
            float(count)
            for resource, verb, count in WRITES.findall(page)
            if verb in CHANGING and resource not in NOT_OURS
        )

    def asked(self) -> int:
        """Requests of the provider so far."""
        with self.bed.store_log.open("rb") as log:
            return sum(b'"type":"request"' in line for line in log)

    async def right(self, count: int) -> bool:
        """Whether every Secret is there and every object says so."""
        ready = 0
        async for page in self.api.pages(EXTERNAL_SECRETS):
            for item in page.items:
                conditions = (item.get("status") or {}).get("conditions") or []
                ready += any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
        if ready < count:
            return False
        secrets = await self.api.list(SECRETS, Scope(metadata_only=True))
        made = sum(each["metadata"]["name"].startswith("es-") for each in secrets.items)
        return made >= count

    async def wait_right(self, count: int, limit: float) -> float:
        begin = time.monotonic()
        while not await self.right(count):
            self.operator.sample()
            if time.monotonic() - begin > limit:
                raise SystemExit(f"not right after {limit:.0f} s; see {self.operator.log}")
            await asyncio.sleep(0.5)
        return time.monotonic() - begin

    async def value(self, number: int) -> str | None:
        try:
            item = await self.api.get(SECRETS, name(number), space(number))
        except NotFound:
            return None
        data = item.get("data") or {}
        return base64.b64decode(data["password"]).decode() if "password" in data else None

    async def seconds_until(self, number: int, wanted: str, limit: float = 300.0) -> float:
        begin = time.monotonic()
        while await self.value(number) != wanted:
            if time.monotonic() - begin > limit:
                return limit
            await asyncio.sleep(0.002)
        return time.monotonic() - begin

    async def fill(self, numbers: range) -> None:
        async with self.bed.store() as store:

            async def put(number: int) -> None:
                data = dict.fromkeys(PROPERTIES, f"first-{number}")
                await store.kv2_write("secret", f"bench/{number:05}", data)

            await many(numbers, put)

    async def create(self, numbers: range, interval: str = "1h") -> None:
        await many(
            numbers, lambda number: self.api.create(EXTERNAL_SECRETS, manifest(number, interval))
        )


async def first_sync(lab: Lab, count: int) -> dict[str, float]:
    """All objects are there before the operator starts."""
    writes, asked = await lab.writes(), lab.asked()
    lab.operator.start()
    seconds = await lab.wait_right(count, max(120.0, count / 10))
    cpu = lab.operator.cpu
    return {
        "first sync, s": seconds,
        "API writes per Secret": (await lab.writes() - writes) / count,
        "provider requests per Secret": (lab.asked() - asked) / count,
        "operator CPU per Secret, ms": cpu / count * 1000,
    }


def spread(title: str, values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    last = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    return {
        f"{title} p50, ms": statistics.median(ordered) * 1000,
        f"{title} p95, ms": last * 1000,
    }


async def new_objects(lab: Lab, start: int) -> dict[str, float]:
    await lab.fill(range(start, start + NEW_OBJECTS))
    found = []
    for number in range(start, start + NEW_OBJECTS):
        await lab.api.create(EXTERNAL_SECRETS, manifest(number, "1h"))
        found.append(await lab.seconds_until(number, f"first-{number}"))
    return spread("new object", found)


async def drift(lab: Lab) -> dict[str, float]:
    found = []
    for number in range(NEW_OBJECTS):
        patch = {"data": {"password": "eA=="}}
        await lab.api.merge_patch(SECRETS, name(number), space(number), patch, manager="kubectl")
        found.append(await lab.seconds_until(number, f"first-{number}"))
    return spread("drift repaired", found)


async def change(lab: Lab) -> dict[str, float]:
    found = []
    async with lab.bed.store() as store:
        for number in range(NEW_OBJECTS):
            data = dict.fromkeys(PROPERTIES, f"second-{number}")
            await store.kv2_write("secret", f"bench/{number:05}", data)
            found.append(await lab.seconds_until(number, f"second-{number}"))
    return spread("change at the provider", found)


async def restart(lab: Lab, number: int, interval: float) -> dict[str, float]:
    """A new object when the operator starts with everything in place: seconds from its start."""
    await lab.fill(range(number, number + 1))
    lab.operator.stop()
    title = "new object at a restart, none due, s"
    if interval <= SHORT_SECONDS:
        title = "new object at a restart, all due, s"
        await asyncio.sleep(interval + 1)
    await lab.api.create(EXTERNAL_SECRETS, manifest(number, "1h"))
    lab.operator.start()
    return {title: await lab.seconds_until(number, f"first-{number}")}


async def steady(lab: Lab) -> dict[str, float]:
    """Nothing changes; objects that are due all the time are the work."""
    await asyncio.sleep(2)
    writes, asked, cpu = await lab.writes(), lab.asked(), lab.operator.cpu
    await asyncio.sleep(STEADY_SECONDS)
    return {
        "steady API writes per s": (await lab.writes() - writes) / STEADY_SECONDS,
        "steady provider requests per s": (lab.asked() - asked) / STEADY_SECONDS,
        "steady CPU, %": (lab.operator.cpu - cpu) / STEADY_SECONDS * 100,
    }


async def store_token(bed: Bed, *, feed: bool) -> str:
    """The token of the operator's store, as a Secret has it; without the feed it may only read."""
    token = bed.root_token_file.read_text().strip()
    if not feed:
        async with bed.store() as store:
            await store.request("PUT", "sys/policies/acl/bench", {"policy": READ_ALONE})
            made = await store.request("POST", "auth/token/create", {"policies": ["bench"]})
            token = made["auth"]["client_token"]
    return base64.b64encode(token.encode()).decode()


@asynccontextmanager
async def laboratory(
    folder: Path, processes: Processes, args: argparse.Namespace
) -> AsyncIterator[Lab]:
    bed = Bed(folder, processes, CLOCK)
    control = ControlPlane(folder / "c", resolve(), processes, CLOCK)
    await asyncio.gather(bed.start_store(), control.start())
    async with KubeClient(control.config(), CLOCK) as api:
        if not args.no_crds:
            for each in crds():
                await api.apply(CRDS, each, "bench")
        for number in range(SPACES):
            await api.create(NAMESPACES, {"metadata": {"name": space(number)}})
        token = await store_token(bed, feed=not args.no_feed)
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
        operator = Operated(args.operator, control.kubeconfig, folder / "operator.log")
        try:
            yield Lab(bed, control, api, operator)
        finally:
            operator.stop()


async def measure(args: argparse.Namespace) -> dict[str, float]:
    found: dict[str, float] = {"objects": args.objects}
    with (
        tempfile.TemporaryDirectory(prefix="sr-") as folder,
        Processes(Path(folder) / "logs") as processes,
    ):
        async with laboratory(Path(folder), processes, args) as lab:
            await lab.fill(range(args.objects))
            await lab.create(range(args.objects), args.interval)
            found |= await first_sync(lab, args.objects)
            found |= await steady(lab)
            found |= await new_objects(lab, args.objects)
            found |= await drift(lab)
            found |= await change(lab)
            interval = parse_duration(args.interval)
            found |= await restart(lab, args.objects + NEW_OBJECTS, interval)
            lab.operator.sample()
            found["peak memory, MiB"] = lab.operator.peak
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=int, default=1000)
    parser.add_argument("--operator", default=OURS, help="the command that starts it")
    parser.add_argument("--interval", default="10s", help="refresh interval of the objects")
    parser.add_argument("--no-feed", action="store_true", help="changes are found by reading")
    parser.add_argument("--no-crds", action="store_true", help="the operator brings its own")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.add_argument("--svg", type=Path, metavar="FOLDER", help="write plots there")
    args = parser.parse_args()
    found = asyncio.run(measure(args))
    if args.svg:
        args.svg.mkdir(parents=True, exist_ok=True)
        shown = {key: value for key, value in found.items() if key.endswith("ms")}
        (args.svg / "operator-latency.svg").write_text(bars("Latency, ms", shown))
    if args.format == "json":
        print(json.dumps(found, indent=2))
        return
    for key, value in found.items():
        print(f"{key:36} {value:12,.2f}")


if __name__ == "__main__":
    main()
