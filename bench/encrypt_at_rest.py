"""Encryption at rest at size: the proof over many values, and an API server's cold start.

    python bench/encrypt_at_rest.py [--values 100000] [--secrets 50000] [--servers 3]

The proof reads values that are put into a real etcd directly; beside it the same bytes are read
without being looked at. For the cold start Secrets are written through a real API server that is
restarted in between, as often as there would be servers, since each start makes a seed of its own.
Needs the cluster binaries (`python -m strongroom.app.cluster build`).
"""

import argparse
import asyncio
import base64
import json
import os
import re
import sys
import tempfile
import time
from pathlib import Path

from strongroom.app.cluster.binaries import resolve
from strongroom.app.cluster.control_plane import ControlPlane
from strongroom.app.dev.processes import Processes
from strongroom.app.waiting import until
from strongroom.crypto.keyfile import create_key_file
from strongroom.encrypt.etcd import read_prefix
from strongroom.encrypt.kms.plugin import ask_status
from strongroom.kube.api import Scope
from strongroom.kube.client import KubeClient
from strongroom.kube.resource import NAMESPACES, SECRETS
from strongroom.model.clock import SystemClock
from strongroom.wire.client import HttpClient
from strongroom.wire.protobuf import encode

CLOCK = SystemClock()
VALUE_BYTES = 1024
PUTS_A_TRANSACTION = 100
WRITERS = 16
NAMESPACE_SIZE = 1000
CONFIGURATION = """
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets]
  providers: [{{kms: {{apiVersion: v2, name: strongroom, endpoint: 'unix://{socket}'}}}}]
"""


def text(content: bytes) -> str:
    return base64.b64encode(content).decode()


async def plant(url: str, values: int, key_id: str) -> None:
    """Values as an API server stores them under KMS v2, about a kilobyte each."""
    async with HttpClient() as http:
        for start in range(0, values, PUTS_A_TRANSACTION):
            puts = []
            for number in range(start, min(values, start + PUTS_A_TRANSACTION)):
                fields = [(1, os.urandom(VALUE_BYTES)), (2, key_id), (3, os.urandom(92))]
                value = b"k8s:enc:kms:v2:strongroom:" + encode(fields)
                key = f"/registry/secrets/n{number // NAMESPACE_SIZE:04}/s{number:06}"
                puts.append({"requestPut": {"key": text(key.encode()), "value": text(value)}})
            body = json.dumps({"success": puts}).encode()
            await http.request("POST", f"{url}/v3/kv/txn", body=body)


async def read_alone(url: str) -> float:
    """Seconds to read the same bytes without looking at them."""
    begin = time.monotonic()
    async with HttpClient() as http:
        async for _ in read_prefix(http, url, "/registry/secrets/"):
            pass
    return time.monotonic() - begin


async def proved(url: str, key_id: str) -> tuple[float, int]:
    """Seconds and values of the command as a process of its own, its start included."""
    begin = time.monotonic()
    words = ["encrypt", "prove", "--etcd", url, "--key-id", key_id, "--format", "json"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "strongroom", *words, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    proof = json.loads(out)
    if not proof["holds"]:
        raise SystemExit(f"not proved: {proof['counts']}")
    return time.monotonic() - begin, proof["total"]


async def prove_many(folder: Path, processes: Processes, values: int) -> dict[str, float]:
    control = ControlPlane(folder, resolve(), processes, CLOCK)
    folder.mkdir()
    control.start_etcd()

    async def answers() -> bool | None:
        async with HttpClient() as http:
            return True if (await http.request("GET", f"{control.etcd_url}/version")).body else None

    await until("etcd", answers, CLOCK)
    await plant(control.etcd_url, values, "bench")
    alone = await read_alone(control.etcd_url)
    seconds, total = await proved(control.etcd_url, "bench")
    processes.stop("etcd")
    return {"values": total, "prove_seconds": seconds, "read_alone_seconds": alone}


async def write_secrets(control: ControlPlane, numbers: range) -> None:
    waiting = iter(numbers)
    async with KubeClient(control.config(), CLOCK) as api:

        async def writer() -> None:
            for number in waiting:
                place = {"name": f"s{number}", "namespace": f"n{number // NAMESPACE_SIZE}"}
                await api.create(SECRETS, {"metadata": place, "stringData": {"k": "v" * 100}})

        first, last = numbers.start // NAMESPACE_SIZE, (numbers.stop - 1) // NAMESPACE_SIZE
        for number in range(first, last + 1):
            if number * NAMESPACE_SIZE >= numbers.start:
                await api.create(NAMESPACES, {"metadata": {"name": f"n{number}"}})
        await asyncio.gather(*(writer() for _ in range(WRITERS)))


async def decrypts(page: str) -> int:
    async with HttpClient() as http:
        body = (await http.request("GET", f"{page}/metrics")).body.decode()
    counts = re.findall(r'calls_total\{method="Decrypt",code="ok"\} (\d+)', body)
    return sum(int(each) for each in counts)


async def cold_start(
    folder: Path, processes: Processes, secrets: int, servers: int
) -> dict[str, float]:
    control = ControlPlane(folder / "c", resolve(), processes, CLOCK)
    folder.mkdir()
    create_key_file(folder / "key")
    socket, page = folder / "kms.sock", "127.0.0.1:18091"
    words = f"kms serve --socket {socket} --key-file {folder}/key --state {folder}/state"
    processes.strongroom("kms", *words.split(), "--listen", page)

    async def up() -> bool | None:
        return True if (await ask_status(socket)).healthz == "ok" else None

    await until("the plugin", up, CLOCK)
    configuration = folder / "e.yaml"
    configuration.write_text(CONFIGURATION.format(socket=socket))
    await control.start(configuration)
    share = -(-secrets // servers // NAMESPACE_SIZE) * NAMESPACE_SIZE
    begin = time.monotonic()
    for server in range(servers):
        if server:
            await control.restart_apiserver(configuration)
        await write_secrets(control, range(server * share, min(secrets, (server + 1) * share)))
    writing = time.monotonic() - begin
    before, begin = await decrypts(f"http://{page}"), time.monotonic()
    await control.restart_apiserver(configuration)
    ready = time.monotonic() - begin
    async with KubeClient(control.config(), CLOCK) as api:
        listed = 0
        async for chunk in api.pages(SECRETS, Scope(metadata_only=True)):
            listed += len(chunk.items)
    return {
        "secrets": listed,
        "seeds": servers,
        "write_seconds": writing,
        "ready_seconds": ready,
        "listed_seconds": time.monotonic() - begin,
        "decrypt_calls": await decrypts(f"http://{page}") - before,
    }


async def measure(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    found = {}
    with tempfile.TemporaryDirectory(prefix="sr-") as name:
        with Processes(Path(name) / "logs") as processes:
            if args.values:
                found["prove"] = await prove_many(Path(name) / "p", processes, args.values)
        with Processes(Path(name) / "logs") as processes:
            if args.secrets:
                found["cold_start"] = await cold_start(
                    Path(name) / "s", processes, args.secrets, args.servers
                )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--values", type=int, default=100_000, help="0: leave the proof out")
    parser.add_argument("--secrets", type=int, default=50_000, help="0: leave the start out")
    parser.add_argument("--servers", type=int, default=3, help="seeds that were in use")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    args = parser.parse_args()
    found = asyncio.run(measure(args))
    if args.format == "json":
        print(json.dumps(found, indent=2))
        return
    for part, values in found.items():
        for each, value in values.items():
            print(f"{part:10} {each:20} {value:12,.2f}")


if __name__ == "__main__":
    main()
