"""What the store's benchmarks share: servers in folders, wrk, requests, rows put in beforehand."""

import asyncio
import json
import os
import re
import socket
import ssl
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

VALUE_BYTES = 1024
SECRETS = 100
RULES = 44
CONNECTIONS = 64
PERCENTILES = (50, 75, 90, 99)
WRITE = """
request = function()
  return wrk.format("POST", "/v1/secret/data/bench/" .. math.random(%d), wrk.headers, wrk.body)
end
wrk.headers["X-Vault-Token"] = "%s"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"data":{"value":"%s"}}'
"""
READ = """
request = function()
  return wrk.format("GET", "/v1/secret/data/bench/" .. math.random(%d), wrk.headers)
end
wrk.headers["X-Vault-Token"] = "%s"
"""
# Our own server on loopback, with a certificate it has just made.
UNVERIFIED = ssl.create_default_context()
UNVERIFIED.check_hostname, UNVERIFIED.verify_mode = False, ssl.CERT_NONE


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wrk(url: str, seconds: float, script: Path | None = None) -> dict:
    """Requests a second and percentiles in milliseconds; exits when a reply was not 2xx."""
    words = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds:g}s", "--latency"]
    words += ["-s", str(script)] if script else []
    said = subprocess.run([*words, url], capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise SystemExit(f"a request failed:\n{said}")
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1])
    unit_ms = {"us": 0.001, "ms": 1, "s": 1000}
    latency = {
        f"p{percent}_ms": float(number) * unit_ms[unit]
        for percent, number, unit in re.findall(r"^\s+(\d\d)%\s+([\d.]+)(us|ms|s)$", said, re.M)
    }
    # Average, deviation, most.
    most, unit = re.search(r"Latency(?:\s+[\d.]+\w+){2}\s+([\d.]+)(us|ms|s)", said).groups()
    return {"rate": rate, **latency, "most_ms": round(float(most) * unit_ms[unit], 3)}


def ask(address: str, token: str, method: str, path: str, body: object = None) -> dict:
    content = None if body is None else json.dumps(body).encode()
    headers = {"X-Vault-Token": token}
    request = urllib.request.Request(f"{address}/v1/{path}", content, headers, method=method)
    with urllib.request.urlopen(request, timeout=60, context=UNVERIFIED) as reply:
        text = reply.read()
    return json.loads(text) if text else {}


def timed(work: Callable[[], object]) -> float:
    """Milliseconds that a call takes."""
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) * 1000


def spread(milliseconds: list[float]) -> dict:
    """Median, 99th percentile and most."""
    ordered = sorted(milliseconds)
    return {
        "p50_ms": round(statistics.median(ordered), 3),
        "p99_ms": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 3),
        "most_ms": round(ordered[-1], 3),
    }


@contextmanager
def running(command: list[str], environment: dict | None = None) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def compiled(folder: Path) -> dict:
    """The environment of a server whose modules are compiled, as where a package was installed.

    Whatever the environment says for the tree they are developed in: it may forbid to write them.
    """
    environment = dict(os.environ) | {"PYTHONPYCACHEPREFIX": str(folder)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    if not folder.exists():
        code = "import strongroom.app.commands.server, strongroom.app.server"
        subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    return environment


def wait_for(url: str, pause: float = 0.05) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(url, timeout=1, context=UNVERIFIED).close()
        except OSError:
            time.sleep(pause)
        else:
            return
    raise SystemExit(f"no answer from {url}")


def listening(port: int) -> int:
    """How many sockets listen on a port of this machine: one for each worker."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(1 for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "0A")


def policy() -> str:
    """44 rules as a platform team has them; the one that counts is not the first."""
    kinds = ("exact", "prefix/*", "+/mid", "deep/+/x/*")
    rules = [
        f'path "secret/data/team{number}/{kinds[number % 4]}" {{ capabilities = ["read"] }}'
        for number in range(RULES - 3)
    ]
    middle = [
        'path "secret/data/bench/*" { capabilities = ["create", "read", "update"] }',
        'path "secret/metadata/*" { capabilities = ["list"] }',
        'path "transit/encrypt/bench" { capabilities = ["update"] }',
    ]
    return "\n".join([*rules[:21], *middle, *rules[21:]])


def workers_of(process: subprocess.Popen) -> list[str]:
    """The process ids of its workers, or its own."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return children or [str(process.pid)]


def spent(process: subprocess.Popen) -> float:
    """Seconds of CPU that its workers have used."""
    ticks = 0
    for pid in workers_of(process):
        # The name of a program may hold spaces; it ends with the last bracket.
        user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        ticks += int(user) + int(system)
    return ticks / os.sysconf("SC_CLK_TCK")


def resident(process: subprocess.Popen) -> list[float]:
    """MB of the process's workers, or of itself."""
    pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in workers_of(process)]
    return [round(each * os.sysconf("SC_PAGE_SIZE") / 1e6, 1) for each in pages]


@dataclass
class Store:
    """A store in a folder of its own, started and stopped any number of times."""

    folder: Path
    workers: int
    options: tuple[str, ...] = ()
    # The URL of a PostgreSQL, "" for SQLite in the folder.
    database: str = ""
    token: str = ""
    scripts: dict[str, Path] = field(default_factory=dict)
    address: str = ""

    @contextmanager
    def served(self) -> Iterator[subprocess.Popen]:
        """While it runs, every worker listening."""
        port = free_port()
        self.folder.mkdir(exist_ok=True)
        scheme = "https" if "--tls-self-signed" in self.options else "http"
        self.address = f"{scheme}://127.0.0.1:{port}"
        command = [
            *(sys.executable, "-m", "strongroom", "server", "--data", str(self.folder / "data")),
            *("--seal-key-file", str(self.folder / "key"), "--listen", f"127.0.0.1:{port}"),
            *("--workers", str(self.workers), *self.options),
            *(("--database", self.database) if self.database else ()),
        ]
        with running(command, compiled(self.folder.parent / "bytecode")) as process:
            wait_for(f"{self.address}/v1/sys/health", pause=0.005)
            yield process

    def wait_for_workers(self) -> None:
        """Connections that come before a worker listens all go to the others."""
        while listening(int(self.address.rpartition(":")[2])) < self.workers:
            time.sleep(0.02)

    @property
    def root(self) -> str:
        """The root token."""
        return (self.folder / "data" / "root-token").read_text().strip()

    def prepare(self) -> None:
        """Secrets, policy, token and the two scripts for wrk."""
        ask(self.address, self.root, "PUT", "sys/policies/acl/bench", {"policy": policy()})
        made = ask(self.address, self.root, "POST", "auth/token/create", {"policies": ["bench"]})
        self.token, value = made["auth"]["client_token"], "v" * VALUE_BYTES
        for number in range(1, SECRETS + 1):
            body = {"data": {"value": value}}
            ask(self.address, self.token, "POST", f"secret/data/bench/{number}", body)
        for name, text in (
            ("read", READ % (SECRETS, self.token)),
            ("write", WRITE % (SECRETS, self.token, value)),
        ):
            self.scripts[name] = self.folder / f"{name}.lua"
            self.scripts[name].write_text(text)
        self.wait_for_workers()

    def reads(self, seconds: float) -> dict:
        return wrk(self.address, seconds, self.scripts["read"])

    def writes(self, seconds: float) -> dict:
        return wrk(self.address, seconds, self.scripts["write"])

    def fill(self, work: Callable[..., Awaitable[None]]) -> None:
        """Put rows into the database of a store that is stopped; `work` is given its engine."""
        from strongroom.app.server import Worker, open_parts
        from strongroom.app.store_config.flags import ServerOptions
        from strongroom.model.clock import SystemClock

        data = self.folder / "data"
        settings = ServerOptions(
            data=data, host="127.0.0.1", port=1, seal_key_file=self.folder / "key",
            audit_file=data / "audit.log", tls=None, workers=1, database=self.database,
        ).settings  # fmt: skip

        async def run() -> None:
            parts = await open_parts(settings, Worker(), SystemClock())
            await parts.engine.waiting(parts.seal.unseal_by_itself())
            await work(parts.engine)
            await parts.engine.close()

        asyncio.run(run())


async def in_pages(engine: object, rows: list, put: Callable[[object, object], None]) -> None:
    """Write rows a thousand to a transaction."""
    for start in range(0, len(rows), 1000):
        page = rows[start : start + 1000]
        if engine.waits:
            # One unit of work asks one question after another; many share each round trip.
            units = [partial(put, row=row) for row in page]
            await asyncio.gather(*(engine.transact(each) for each in units))
            continue

        def work(transaction: object, page: list = page) -> None:
            for row in page:
                put(transaction, row)

        await engine.transact(work)
