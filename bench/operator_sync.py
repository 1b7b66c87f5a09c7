"""Operators that serve external-secrets.io, at size, on a real kube-apiserver.

    python bench/operator_sync.py [--objects 1000] [--format json] [--svg FOLDER]
    python bench/operator_sync.py --no-feed --interval 1h --only first,new,restart
    python bench/operator_sync.py --beside 'external-secrets --concurrent=10' --crds crds/bases

Any operator that serves these definitions is started by its command, with KUBECONFIG set, each in
a fresh laboratory (`operator_lab.py`) and looked at from outside alone. The provider is one
Vault-compatible store (Strongroom's); each object has three properties of a secret of its own, in
50 namespaces. Needs the cluster binaries (`python -m strongroom.app.cluster build`).
"""

import argparse
import asyncio
import json
import shlex
import sys
import tempfile
import time
from pathlib import Path

import uvloop
from operator_lab import DEFINITIONS_SECONDS, OURS, Setup, laboratory
from operator_report import plots, table
from operator_steps import Found, Steps

from strongroom.sync.durations import parse_duration

STEPS = ("bare", "first", "steady", "new", "drift", "change", "restart", "restart-due")


def name_of(command: str) -> str:
    """What a command is called in tables: ours, or its program."""
    return "strongroom" if command == OURS else Path(shlex.split(command)[0]).name


async def measure(args: argparse.Namespace, command: str) -> Found:
    """One operator in a laboratory of its own."""
    ours = command == OURS
    setup = Setup(command, None if ours else args.crds, feed=not args.no_feed)
    with tempfile.TemporaryDirectory(prefix="sr-", ignore_cleanup_errors=True) as folder:
        begin = time.monotonic()
        async with laboratory(Path(folder), setup) as lab:
            numbers = range(args.objects)
            await asyncio.gather(lab.fill(numbers), lab.create(numbers, args.interval))
            await asyncio.sleep(max(0.0, begin + DEFINITIONS_SECONDS - time.monotonic()))
            print(f"{name_of(command)}: ready to start", file=sys.stderr, flush=True)
            interval = (args.interval, parse_duration(args.interval))
            steps = Steps(lab, args.objects, interval)
            try:
                return await steps.run(frozenset(args.only.split(",")))
            finally:
                if args.logs:
                    args.logs.mkdir(parents=True, exist_ok=True)
                    for log in (lab.operator.log, lab.control.audit_log):
                        (args.logs / f"{name_of(command)}-{log.name}").write_bytes(log.read_bytes())


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=int, default=1000)
    parser.add_argument("--operator", default=OURS, help="the command that starts it")
    parser.add_argument(
        "--beside", action="append", default=[], metavar="CMD", help="another one to measure"
    )
    parser.add_argument("--crds", type=Path, metavar="FOLDER", help="definitions of the others")
    parser.add_argument("--interval", default="10s", help="refresh interval of the objects")
    parser.add_argument("--no-feed", action="store_true", help="changes are found by reading")
    parser.add_argument("--only", default=",".join(STEPS), help="steps; also: down")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.add_argument("--svg", type=Path, metavar="FOLDER", help="write plots there")
    parser.add_argument("--logs", type=Path, metavar="FOLDER", help="keep logs there")
    return parser


def main() -> None:
    """Measure one after the other."""
    args = arguments().parse_args()
    found = {
        name_of(each): uvloop.run(measure(args, each)) for each in (args.operator, *args.beside)
    }
    if args.svg:
        plots(found, args.svg)
    if args.format == "json":
        print(json.dumps({name: vars(each) for name, each in found.items()}, indent=2))
        return
    print(f"{args.objects} objects, interval {args.interval}")
    print(table(found))


if __name__ == "__main__":
    main()
