"""The KMS v2 plugin beside a bare gRPC echo: time to ready, memory, and the latency of each call.

    python bench/kms_plugin.py [--calls 2000] [--at-once 1] [--starts 5] [--format json]

The plugin runs as `encrypt init` sets it up: a configuration file, a key file, and its HTTP page.
Both are processes of their own on unix sockets and are asked by the same client, one after the
other in every round, so that a noisy machine is noisy for both.
"""

import argparse
import asyncio
import json
import os
import socket as socket_module
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc.aio

from strongroom.crypto.keyfile import create_key_file
from strongroom.encrypt.kms.messages import (
    SERVICE,
    DecryptRequest,
    EncryptRequest,
    EncryptResponse,
)

ROUNDS = 3
READY_SECONDS = 30.0
ECHO = """
import asyncio, grpc, grpc.aio, sys
async def main():
    async def echo(message, context):
        return message
    server = grpc.aio.server()
    handlers = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bare.Echo", handlers),))
    server.add_insecure_port("unix:" + sys.argv[1])
    await server.start()
    await server.wait_for_termination()
asyncio.run(main())
"""
Call = Callable[[], Awaitable[bytes]]


class Started:
    """A process; the seconds until its first good answer, and those of a processor it took."""

    def __init__(self, command: list[str], socket: Path, method: str) -> None:
        begin = time.monotonic()
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        asyncio.run(first_answer(socket, method, begin + READY_SECONDS))
        self.seconds = time.monotonic() - begin
        self.cpu = cpu_seconds(self.process.pid)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


def cpu_seconds(pid: int) -> float:
    """Of the process and its threads; proc(5), utime and stime."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    with socket_module.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def first_answer(socket: Path, method: str, deadline: float) -> None:
    while True:
        try:
            async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
                await channel.unary_unary(method)(b"", timeout=2)
                return
        except grpc.aio.AioRpcError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.005)


def resident(pid: int) -> float:
    """MiB."""
    text = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in text.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


async def timed(call: Call, calls: int, at_once: int) -> list[float]:
    """Milliseconds of every call, `at_once` of them under way."""
    taken: list[float] = []

    async def worker() -> None:
        while len(taken) < calls:
            begin = time.perf_counter()
            await call()
            taken.append((time.perf_counter() - begin) * 1000)

    await asyncio.gather(*(worker() for _ in range(at_once)))
    return taken


async def latencies(plugin: Path, echo: Path, calls: int, at_once: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    seed = EncryptRequest(b"s" * 32, "bench").dumps()
    async with (
        grpc.aio.insecure_channel(f"unix:{plugin}") as kms,
        grpc.aio.insecure_channel(f"unix:{echo}") as bare,
    ):
        made = EncryptResponse.loads(await kms.unary_unary(f"/{SERVICE}/Encrypt")(seed))
        sealed = DecryptRequest(made.ciphertext, "bench", made.key_id).dumps()
        work = {
            "echo": (bare.unary_unary("/bare.Echo/Echo"), seed),
            "Status": (kms.unary_unary(f"/{SERVICE}/Status"), b""),
            "Encrypt": (kms.unary_unary(f"/{SERVICE}/Encrypt"), seed),
            "Decrypt": (kms.unary_unary(f"/{SERVICE}/Decrypt"), sealed),
        }
        for _ in range(ROUNDS):
            for name, (method, message) in work.items():
                found.setdefault(name, []).extend(
                    await timed(lambda m=method, b=message: m(b), calls // ROUNDS, at_once)
                )
    return found


def measure(calls: int, at_once: int, starts: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory(prefix="sr-") as name:
        folder = Path(name)
        create_key_file(folder / "key")
        backend = {"name": "file", "type": "key_file", "path": str(folder / "key")}
        config = {
            "socket": str(folder / "kms"),
            "state": str(folder / "state"),
            "listen": f"127.0.0.1:{free_port()}",
            "backends": [backend],
        }
        (folder / "kms.yaml").write_text(json.dumps(config))
        command = [sys.executable, "-m", "strongroom", "kms", "serve"]
        command += ["--config", str(folder / "kms.yaml")]
        bare = [sys.executable, "-c", ECHO, str(folder / "echo")]
        runs: list[Started] = []
        for _ in range(starts):
            runs.append(Started(command, folder / "kms", f"/{SERVICE}/Status"))
            runs[-1].stop()
        plugin = Started(command, folder / "kms", f"/{SERVICE}/Status")
        echo = Started(bare, folder / "echo", "/bare.Echo/Echo")
        try:
            taken = asyncio.run(latencies(folder / "kms", folder / "echo", calls, at_once))
            memory = {"plugin": resident(plugin.process.pid), "echo": resident(echo.process.pid)}
        finally:
            plugin.stop()
            echo.stop()
    return {
        "ready_seconds": {
            "plugin": statistics.median(each.seconds for each in runs),
            "echo": echo.seconds,
        },
        "ready_cpu": {"plugin": statistics.median(each.cpu for each in runs), "echo": echo.cpu},
        "resident_mib": memory,
        "milliseconds": {
            each: {
                "p50": statistics.quantiles(values, n=100)[49],
                "p99": statistics.quantiles(values, n=100)[98],
            }
            for each, values in taken.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=2000, help="calls of each kind")
    parser.add_argument(
        "--at-once", type=int, default=1, help="calls under way; an API server that lists has one"
    )
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--format", choices=("text", "json"), default="text")
    args = parser.parse_args()
    found = measure(args.calls, args.at_once, args.starts)
    if args.format == "json":
        print(json.dumps(found, indent=2))
        return
    for title, unit in (("ready_seconds", "s"), ("ready_cpu", "s"), ("resident_mib", "MiB")):
        for name, value in found[title].items():
            print(f"{title:14} {name:8} {value:8.2f} {unit}")
    for name, each in found["milliseconds"].items():
        print(f"{'latency':14} {name:8} p50 {each['p50']:.2f} ms, p99 {each['p99']:.2f} ms")


if __name__ == "__main__":
    main()
