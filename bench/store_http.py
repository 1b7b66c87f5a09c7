"""The store's speed and size, beside nginx serving a static file.

    python bench/store_http.py [--only load,mixed,...] [--database] [--format json] [--svg DIR]

Each scenario's figures are printed as it ends. Needs `wrk`, `nginx` for load, and Debian's
`postgresql` for `--database`. The file audit device is on,
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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from store_lab import PERCENTILES, Store, resident, running, wait_for, wrk
from store_lab import free_port as any_port
from store_large import PAGE, ends, listing, policies, restart
from store_mixed import mixed
from svg import bars, curves

STATIC_BYTES = 1300
# What is measured beside each other, as the plots name it.
NAMES: Final = {
    "nginx": "nginx",
    "reads": "reads",
    "tls_reads": "TLS reads",
    "writes": "writes",
    "postgres_writes": "PostgreSQL writes",
}
KINDS: Final = tuple(NAMES)
# Scenarios that PostgreSQL is asked as well.
ON_DATABASE: Final = ("mixed", "ends")
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
            url = database(folder, stack)
            stores.append(Store(folder / "shared", args.workers, database=url))
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


def measure_mixed(store: Store, args: argparse.Namespace) -> dict:
    """The mix on a store that is served."""
    with store.served():
        store.prepare()
        return mixed(store, 2 * args.seconds)


# Those that have a store of their own, which is not yet running.
LARGE: Final = {
    "mixed": measure_mixed,
    "list": lambda store, args: listing(store, args.entries),
    "restart": lambda store, args: restart(store, args.leases),
    "ends": lambda store, args: ends(store, args.tokens, args.seconds),
    "policies": lambda store, args: policies(store, args.policies, args.seconds),
}
SCENARIOS: Final = ("load", *LARGE)


def measure(folder: Path, args: argparse.Namespace) -> Iterator[tuple[str, dict]]:
    """Every scenario that was asked for as it ends, by name; each with a store of its own."""
    for name in args.only:
        print(f"{name} ...", file=sys.stderr, flush=True)
        place = folder / name
        place.mkdir()
        if name == "load":
            yield name, load(place, args)
            continue
        yield name, LARGE[name](Store(place / "store", args.workers), args)
        if args.database and name in ON_DATABASE:
            with contextlib.ExitStack() as stack:
                url = database(place, stack)
                store = Store(place / "shared", args.workers, database=url)
                yield f"{name}_postgres", LARGE[name](store, args)


def plot(found: dict, folder: Path) -> None:
    """Throughput as a share of nginx, latency by percentile, and the mix by kind."""
    folder.mkdir(parents=True, exist_ok=True)
    if "load" in found:
        rows = {name: found["load"][name] for name in KINDS if name in found["load"]}
        shares = {NAMES[name]: row["ratio"] for name, row in rows.items() if "ratio" in row}
        text = bars("Requests a second, nginx = 1", shares)
        (folder / "store-throughput.svg").write_text(text)
        lines = {
            NAMES[name]: [(p, row[f"p{p}_ms"]) for p in PERCENTILES] for name, row in rows.items()
        }
        text = curves("Latency at 64 connections", lines, x="percentile", y="ms", yardstick="nginx")
        (folder / "store-latency.svg").write_text(text)
    if "mixed" in found:
        p99 = {kind: row["p99_ms"] for kind, row in found["mixed"]["kinds"].items()}
        text = bars("p99 in ms, 80 reads : 10 logins : 5 writes : 5 encryptions", p99)
        (folder / "store-mixed.svg").write_text(text)


def table(name: str, found: dict) -> str:
    """What a person reads of a scenario: one line for each figure."""
    if name != "load":
        return "\n".join([f"{name}:", *_lines(found, "  ")])
    lines = [f"{'':16} {'requests/s':>12} {'p99 ms':>8} {'of nginx':>9}"]
    for kind in KINDS:
        if kind in found:
            row = found[kind]
            said = f"{row['ratio']:.4f}" if "ratio" in row else ""
            lines.append(f"{kind:16} {row['rate']:>12,.0f} {row['p99_ms']:>8} {said:>9}")
    idle, busy = found["idle_mb"], found["busy_mb"]
    return "\n".join([*lines, f"resident MB of each worker: idle {idle}, after {busy}"])


def _lines(found: dict, margin: str) -> Iterator[str]:
    for name, value in found.items():
        if isinstance(value, dict) and any(isinstance(each, dict) for each in value.values()):
            yield f"{margin}{name}:"
            yield from _lines(value, f"{margin}  ")
        elif isinstance(value, dict):
            said = "  ".join(f"{key} {each}" for key, each in value.items())
            yield f"{margin}{name:18} {said}"
        else:
            yield f"{margin}{name:18} {value}"


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


_positive.__name__ = "whole number"


def _scenarios(text: str) -> list[str]:
    names = list(SCENARIOS) if text == "all" else text.split(",")
    known = f"scenarios are {', '.join(SCENARIOS)}, or all"
    if unknown := [name for name in names if name not in SCENARIOS]:
        raise argparse.ArgumentTypeError(f"no scenario {unknown[0]!r}; {known}")
    if len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"a scenario is named twice in {text!r}")
    return names


def _folder(text: str) -> Path:
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is no folder")
    return Path(text)


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The flags; exits with a sentence on what cannot be meant."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )

    def add(name: str, kind: Callable[[str], object], said: str, **more: object) -> None:
        parser.add_argument(name, type=kind, help=said, **more)

    add("--only", _scenarios, "scenarios by comma, or all (default: load)", default="load")
    add("--seconds", _positive, "of each measurement (default: 5)", default=5)
    add("--rounds", _positive, "of load (default: 3)", default=3)
    add("--workers", _positive, "of each store (default: 2)", default=2)
    parser.add_argument(
        "--database", action="store_true", help="load, mixed and ends: on PostgreSQL as well"
    )
    add("--entries", _positive, "of the folder of list (default: 100000)", default=100_000)
    add("--leases", _positive, "of restart (default: 1000000)", default=1_000_000)
    add("--tokens", _positive, "of ends (default: 100000)", default=100_000)
    add("--policies", _positive, "of policies (default: 20000)", default=20_000)
    parser.add_argument("--svg", type=Path, metavar="DIR", help="write the plots there")
    add("--folder", _folder, "where the databases lie (default: a temporary folder)")
    parser.add_argument(
        "--format", choices=("table", "json"), default="table",
        help="json: a line for each scenario",
    )  # fmt: skip
    args = parser.parse_args(words)
    if args.entries <= PAGE:
        parser.error(f"argument --entries: a folder has more than a page of {PAGE}")
    return args


def main() -> None:
    args = arguments()
    needed = {"wrk"} | ({"nginx"} if "load" in args.only else set())
    if missing := sorted(each for each in needed if shutil.which(each) is None):
        raise SystemExit(f"{missing[0]} is needed: apt-get install {missing[0]}")
    found = {}
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        folder.chmod(0o755)
        for scenario, figures in measure(folder, args):
            found[scenario] = figures
            if args.format == "json":
                print(json.dumps({scenario: figures}), flush=True)
            else:
                print(table(scenario, figures), flush=True)
            if args.svg:
                plot(found, args.svg)


if __name__ == "__main__":
    main()
