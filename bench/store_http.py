"""The store's speed and size, beside nginx serving a static file.

    python bench/store_http.py [--only load,mixed,...] [--database] [--format json] [--svg DIR]

Needs `wrk` and `nginx`, and Debian's `postgresql` for `--database`. The file audit device is on,
the token has a policy of 44 rules, values have 1 KiB.

  load      audited reads, over TLS, and durable writes on SQLite (and on a PostgreSQL of its own);
            every round measures them and nginx one after another, so that a noisy machine is noisy
            for all; ratios are taken within a round and the median of the rounds is shown
  mixed     80 reads, 10 logins, 5 writes, 5 encryptions of a hundred, 64 connections
  list      LIST of a folder of --entries: pages, and the whole beside readers
  restart   from a start to the first answer with --leases leases, and without
  ends      --tokens tokens that end within a minute, reads meanwhile
  policies  --policies policies: reads, logins, the write of one, memory
"""

import argparse
import contextlib
import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from store_lab import PERCENTILES, Store, resident, running, wait_for, wrk
from store_lab import free_port as any_port
from store_large import ends, listing, policies, restart
from store_mixed import mixed
from svg import bars, curves

STATIC_BYTES = 1300
KINDS = ("nginx", "reads", "tls_reads", "writes", "postgres_writes")
SCENARIOS = ("load", "mixed", "list", "restart", "ends", "policies")
NGINX = """
worker_processes 2; pid {folder}/nginx.pid; error_log {folder}/error.log; daemon off;
events {{ worker_connections 1024; }}
http {{ access_log off; server {{ listen 127.0.0.1:{port}; root {folder}/www; }}
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; }}
"""


def static_server(folder: Path, stack: contextlib.ExitStack) -> str:
    """nginx with one file; its address."""
    folder.chmod(0o755)  # nginx's workers are another user
    (folder / "www").mkdir()
    (folder / "www" / "file").write_bytes(b"x" * STATIC_BYTES)
    port = any_port()
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port))
    stack.enter_context(running(["nginx", "-c", str(folder / "nginx.conf")]))
    wait_for(f"http://127.0.0.1:{port}/file")
    return f"http://127.0.0.1:{port}/file"


def database(folder: Path, stack: contextlib.ExitStack) -> str:
    """A PostgreSQL that runs until the end of the stack, durable as it comes."""
    from strongroom.app.dev.postgres import ThrowawayPostgres

    server = ThrowawayPostgres(folder / "pg")
    server.start()
    stack.callback(server.stop)
    return server.create_database("store")


def load(folder: Path, args: argparse.Namespace) -> dict:
    """All rounds."""
    rounds = []
    with contextlib.ExitStack() as stack:
        static = static_server(folder, stack)
        plain = Store(folder / "plain", args.workers)
        secure = Store(folder / "tls", args.workers, ("--tls-self-signed",))
        stores = [plain, secure]
        if args.database:
            shared = ("--database", database(folder, stack))
            stores.append(Store(folder / "shared", args.workers, shared))
        processes = [stack.enter_context(each.served()) for each in stores]
        plain.wait_for_workers()
        idle = resident(processes[0])
        for each in stores:
            each.prepare()
        for number in range(args.rounds):
            print(f"round {number + 1} of {args.rounds}", file=sys.stderr, flush=True)
            found = {
                "nginx": wrk(static, args.seconds),
                "reads": plain.reads(args.seconds),
                "tls_reads": secure.reads(args.seconds),
                "writes": plain.writes(args.seconds),
            }
            if args.database:
                found["postgres_writes"] = stores[2].writes(args.seconds)
            rounds.append(found)
        busy = resident(processes[0])
    recorded = sum(1 for _ in (plain.folder / "data/audit.log").open("rb"))
    rows = summary(rounds)
    return {**rows, "idle_mb": idle, "busy_mb": busy, "audit_records": recorded}


def summary(rounds: list[dict]) -> dict:
    """Medians over the rounds; ratios within a round."""
    rows: dict[str, dict] = {}
    for name in rounds[0]:
        fields = ("rate", *(f"p{each}_ms" for each in PERCENTILES))
        rows[name] = {
            field: round(statistics.median(each[name][field] for each in rounds), 2)
            for field in fields
        }
        if name != "nginx":
            pairs = [each[name]["rate"] / each["nginx"]["rate"] for each in rounds]
            rows[name]["ratio"] = round(statistics.median(pairs), 4)
    return rows


def measure(folder: Path, args: argparse.Namespace) -> dict:
    """Every scenario that was asked for, each with stores of its own."""
    found = {}
    for name in args.only:
        print(name, file=sys.stderr, flush=True)
        place = folder / name
        place.mkdir()
        if name == "load":
            found[name] = load(place, args)
        elif name == "mixed":
            store = Store(place / "store", args.workers)
            with store.served():
                store.prepare()
                found[name] = mixed(store, 2 * args.seconds)
        elif name == "list":
            found[name] = listing(place / "store", args.workers, args.entries)
        elif name == "restart":
            found[name] = restart(place / "store", args.workers, args.leases)
        elif name == "ends":
            found[name] = ends(place / "store", args.workers, args.tokens, args.seconds)
        else:
            found[name] = policies(place / "store", args.workers, args.policies, args.seconds)
    return found


def plot(found: dict, folder: Path) -> None:
    """Throughput as a share of nginx, latency by percentile, and the mix by kind."""
    folder.mkdir(parents=True, exist_ok=True)
    if "load" in found:
        rows = {name: found["load"][name] for name in KINDS if name in found["load"]}
        shares = {
            name.replace("_", " "): row["ratio"] for name, row in rows.items() if "ratio" in row
        }
        text = bars("Requests a second, nginx = 1", shares)
        (folder / "store-throughput.svg").write_text(text)
        lines = {
            name.replace("_", " "): [(p, row[f"p{p}_ms"]) for p in PERCENTILES]
            for name, row in rows.items()
        }
        text = curves("Latency at 64 connections", lines, x="percentile", y="ms")
        (folder / "store-latency.svg").write_text(text)
    if "mixed" in found:
        p99 = {kind: row["p99_ms"] for kind, row in found["mixed"]["kinds"].items()}
        text = bars("p99 in ms, 80 reads : 10 logins : 5 writes : 5 encryptions", p99)
        (folder / "store-mixed.svg").write_text(text)


def table(found: dict) -> str:
    """What a person reads: one line for each figure."""
    lines = []
    rows = found.get("load", {})
    if rows:
        lines.append(f"{'':16} {'requests/s':>12} {'p99 ms':>8} {'of nginx':>9}")
    for name in KINDS:
        if name in rows:
            said = f"{rows[name]['ratio']:.4f}" if "ratio" in rows[name] else ""
            rate, p99 = rows[name]["rate"], rows[name]["p99_ms"]
            lines.append(f"{name:16} {rate:>12,.0f} {p99:>8} {said:>9}")
    if rows:
        idle, busy = rows["idle_mb"], rows["busy_mb"]
        lines.append(f"resident MB of each worker: idle {idle}, after {busy}")
    lines += [f"{name}: {json.dumps(found[name])}" for name in found if name != "load"]
    return "\n".join(lines)


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The flags; exits on a scenario that there is not."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", default="load", metavar="NAMES", help="scenarios by comma, or all (default: load)"
    )
    parser.add_argument("--seconds", type=int, default=5, help="of each measurement (default: 5)")
    parser.add_argument("--rounds", type=int, default=3, help="of load (default: 3)")
    parser.add_argument("--workers", type=int, default=2, help="of each store (default: 2)")
    parser.add_argument("--database", action="store_true", help="load: writes on PostgreSQL too")
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--leases", type=int, default=1_000_000)
    parser.add_argument("--tokens", type=int, default=100_000)
    parser.add_argument("--policies", type=int, default=20_000)
    parser.add_argument("--svg", type=Path, metavar="DIR", help="write the plots there")
    parser.add_argument("--folder", help="where the databases lie (default: a temporary folder)")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    args = parser.parse_args(words)
    args.only = list(SCENARIOS) if args.only == "all" else args.only.split(",")
    if unknown := set(args.only) - set(SCENARIOS):
        parser.error(f"no scenario {', '.join(sorted(unknown))}: {', '.join(SCENARIOS)}")
    return args


def main() -> None:
    args = arguments()
    for program in ("wrk", "nginx"):
        if shutil.which(program) is None:
            raise SystemExit(f"{program} is needed: apt-get install {program}")
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        folder.chmod(0o755)
        found = measure(folder, args)
    if args.svg:
        plot(found, args.svg)
    print(json.dumps(found, indent=2) if args.format == "json" else table(found))


if __name__ == "__main__":
    main()
