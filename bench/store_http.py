"""Audited KV v2 reads, plain and over TLS, and durable writes, beside nginx serving a static file.

    python bench/store_http.py [--seconds 5] [--rounds 3] [--workers 2] [--format json] [--svg DIR]

Needs `wrk` and `nginx`. Every round measures them one after another, so that a noisy machine is
noisy for all of them; ratios are taken within a round and the median is shown.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from svg import bars, curves

VALUE_BYTES = 1024
STATIC_BYTES = 1300
SECRETS = 100
RULES = 44
CONNECTIONS = 64
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
KINDS = ("nginx", "reads", "tls_reads", "writes")
PERCENTILES = (50, 75, 90, 99)
NGINX = """
worker_processes 2; pid {folder}/nginx.pid; error_log {folder}/error.log; daemon off;
events {{ worker_connections 1024; }}
http {{ access_log off; server {{ listen 127.0.0.1:{port}; root {folder}/www; }}
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; }}
"""


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wrk(url: str, seconds: int, script: Path | None = None) -> dict:
    """Requests a second and p99 in milliseconds; raises when a reply was not 2xx."""
    words = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}", "--latency"]
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
    return {"rate": rate, **latency}


def ask(address: str, token: str, method: str, path: str, body: object = None) -> dict:
    content = None if body is None else json.dumps(body).encode()
    headers = {"X-Vault-Token": token}
    request = urllib.request.Request(f"{address}/v1/{path}", content, headers, method=method)
    with urllib.request.urlopen(request, timeout=10, context=UNVERIFIED) as reply:
        text = reply.read()
    return json.loads(text) if text else {}


@contextmanager
def running(command: list[str]) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def wait_for(url: str) -> None:
    for _ in range(200):
        try:
            urllib.request.urlopen(url, timeout=1, context=UNVERIFIED).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit(f"no answer from {url}")


def policy() -> str:
    """44 rules as a platform team has them; the one that counts is not the first."""
    kinds = ("exact", "prefix/*", "+/mid", "deep/+/x/*")
    rules = [
        f'path "secret/data/team{number}/{kinds[number % 4]}" {{ capabilities = ["read"] }}'
        for number in range(RULES - 1)
    ]
    middle = 'path "secret/data/bench/*" { capabilities = ["create", "read", "update"] }'
    return "\n".join([*rules[:21], middle, *rules[21:]])


def resident(process: subprocess.Popen) -> list[float]:
    """MB of the process's workers, or of itself."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    pages = [
        int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        for pid in children or [str(process.pid)]
    ]
    return [round(each * os.sysconf("SC_PAGE_SIZE") / 1e6, 1) for each in pages]


def prepare(address: str, folder: Path) -> tuple[Path, Path]:
    """Secrets, policy and token; the two scripts for wrk."""
    root = (folder / "data" / "root-token").read_text().strip()
    ask(address, root, "PUT", "sys/policies/acl/bench", {"policy": policy()})
    made = ask(address, root, "POST", "auth/token/create", {"policies": ["bench"]})
    token, value = made["auth"]["client_token"], "v" * VALUE_BYTES
    for number in range(1, SECRETS + 1):
        body = {"data": {"value": value}}
        ask(address, token, "POST", f"secret/data/bench/{number}", body)
    read, write = folder / "read.lua", folder / "write.lua"
    read.write_text(READ % (SECRETS, token))
    write.write_text(WRITE % (SECRETS, token, value))
    return read, write


@contextmanager
def store(folder: Path, workers: int, *options: str) -> Iterator[tuple[str, subprocess.Popen]]:
    """A server with a folder of its own; its address and process."""
    port = free_port()
    command = [
        *(sys.executable, "-m", "strongroom", "server", "--data", str(folder / "data")),
        *("--seal-key-file", str(folder / "key"), "--listen", f"127.0.0.1:{port}"),
        *("--workers", str(workers), *options),
    ]
    folder.mkdir()
    address = f"{'https' if options else 'http'}://127.0.0.1:{port}"
    with running(command) as process:
        wait_for(f"{address}/v1/sys/health")
        yield address, process


def measure(folder: Path, args: argparse.Namespace) -> dict:
    """All rounds."""
    folder.chmod(0o755)  # nginx's workers are another user
    (folder / "www").mkdir()
    (folder / "www" / "file").write_bytes(b"x" * STATIC_BYTES)
    port = free_port()
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port))
    static = f"http://127.0.0.1:{port}/file"
    rounds = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(running(["nginx", "-c", str(folder / "nginx.conf")]))
        wait_for(static)
        plain, process = stack.enter_context(store(folder / "plain", args.workers))
        idle = resident(process)
        secure, _ = stack.enter_context(store(folder / "tls", args.workers, "--tls-self-signed"))
        read, write = prepare(plain, folder / "plain")
        tls_read, _ = prepare(secure, folder / "tls")
        for number in range(args.rounds):
            print(f"round {number + 1} of {args.rounds}", file=sys.stderr, flush=True)
            rounds.append(
                {
                    "nginx": wrk(static, args.seconds),
                    "reads": wrk(plain, args.seconds, read),
                    "tls_reads": wrk(secure, args.seconds, tls_read),
                    "writes": wrk(plain, args.seconds, write),
                }
            )
        busy = resident(process)
    recorded = sum(1 for _ in (folder / "plain/data/audit.log").open("rb"))
    return {"rounds": rounds, "idle_mb": idle, "busy_mb": busy, "audit_records": recorded}


def summary(found: dict) -> dict:
    """Medians over the rounds; ratios within a round."""
    rows: dict[str, dict] = {}
    for name in KINDS:
        fields = ("rate", *(f"p{each}_ms" for each in PERCENTILES))
        rows[name] = {
            field: round(statistics.median(each[name][field] for each in found["rounds"]), 2)
            for field in fields
        }
        if name != "nginx":
            pairs = [each[name]["rate"] / each["nginx"]["rate"] for each in found["rounds"]]
            rows[name]["ratio"] = round(statistics.median(pairs), 4)
    return {
        **rows,
        "idle_mb_per_worker": found["idle_mb"],
        "busy_mb_per_worker": found["busy_mb"],
        "audit_records": found["audit_records"],
    }


def plot(found: dict, folder: Path) -> None:
    """Throughput as a share of nginx, and latency by percentile."""
    folder.mkdir(parents=True, exist_ok=True)
    ours = KINDS[1:]
    shares = {name.replace("_", " "): found[name]["ratio"] for name in ours}
    text = bars("Requests a second, nginx = 1", shares)
    (folder / "store-throughput.svg").write_text(text)
    lines = {
        name.replace("_", " "): [(p, found[name][f"p{p}_ms"]) for p in PERCENTILES]
        for name in KINDS
    }
    text = curves("Latency at 64 connections", lines, x="percentile", y="ms")
    (folder / "store-latency.svg").write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--svg", type=Path, metavar="DIR", help="write the plots there")
    parser.add_argument("--folder", help="where the database lies (default: a temporary folder)")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    args = parser.parse_args()
    for program in ("wrk", "nginx"):
        if shutil.which(program) is None:
            raise SystemExit(f"{program} is needed: apt-get install {program}")
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        found = summary(measure(Path(name), args))
    if args.svg:
        plot(found, args.svg)
    if args.format == "json":
        print(json.dumps(found, indent=2))
        return
    print(f"{'':9} {'requests/s':>12} {'p99 ms':>8} {'of nginx':>9}")
    for name in KINDS:
        row = found[name]
        said = f"{row['ratio']:.4f}" if "ratio" in row else ""
        print(f"{name:9} {row['rate']:>12,.0f} {row['p99_ms']:>8} {said:>9}")
    print(
        f"resident MB of each worker: idle {found['idle_mb_per_worker']},"
        f" after {found['busy_mb_per_worker']}"
    )


if __name__ == "__main__":
    main()
