"""`strongroom rotate`: a new value, evidence that everybody uses it, then the end of the old."""

import argparse
import asyncio
import json
import sys
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final

from strongroom.app.commands.operator import add_cluster_arguments, cluster_config
from strongroom.app.store_address import add_store_arguments, open_store
from strongroom.app.tables import Sheet, show
from strongroom.model.errors import Invalid
from strongroom.model.reference import parse_secret_ref

if TYPE_CHECKING:
    from strongroom.rotate.run import Plan, Runner

BLOCKED: Final = 3
EXAMPLE: Final = """example:
  strongroom rotate prod/db --field password --dry-run
  strongroom rotate prod/db --field password --timeout 10m

It changes the store alone: what checks the password (a database, an API) has to be told
by other means, so take two users there (docs/day-to-day.md).
Killed before it said "done" and run again, it goes on where it stopped.
exit status: 0 done, 2 refused, 3 a consumer still holds the old version (it stays)
"""


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "rotate",
        help="rotate a secret; retire the old version when nobody holds it",
        epilog=EXAMPLE,
    )
    parser.add_argument("path", help="prod/db, secret/prod/db")
    parser.add_argument(
        "--mount", default="secret", help="mount of the engine; the path is under it"
    )
    parser.add_argument(
        "--field", action="append", default=[], help="field to generate (default: password)"
    )
    parser.add_argument("--length", type=int, default=32, help="characters of a generated value")
    parser.add_argument("--timeout", default="5m", help="how long to wait for consumers")
    parser.add_argument("--dry-run", action="store_true", help="print the plan, change nothing")
    parser.add_argument("--abandon", action="store_true", help="forget a rotation that was begun")
    parser.add_argument("--no-cluster", action="store_true", help="only the store's own evidence")
    parser.add_argument(
        "--format",
        choices=("table", "json"),
        default="table",
        help="how the plan and its outcome are shown; json is one document, at the end",
    )
    add_cluster_arguments(parser)
    add_store_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Plan, print, execute."""
    return asyncio.run(_rotate(args))


async def _rotate(args: argparse.Namespace) -> int:
    from strongroom.rotate.generators import PasswordGenerator
    from strongroom.rotate.run import Blocked
    from strongroom.sync.durations import parse_duration

    ref = parse_secret_ref(args.path, args.mount)
    if ref.version:
        raise Invalid(
            "version-given",
            f"a rotation goes from the newest version, and {args.path} names one",
            hint=f"strongroom rotate {args.path.rpartition('@')[0]}",
        )
    generator = PasswordGenerator(tuple(args.field or ["password"]), args.length)
    seconds = parse_duration(args.timeout, "--timeout")
    async with AsyncExitStack() as stack:
        runner = await _runner(args, stack)
        if args.abandon:
            found = await runner.abandon(ref)
            _say(args, {"abandoned": found}, "abandoned" if found else "no rotation was under way")
            return 0
        plan = await runner.plan(ref, generator)
        _print_plan(plan, args)
        if args.dry_run:
            _say(args, {**plan_data(plan), "outcome": "planned"})
            return 0
        # Progress is for people: a program that reads the outcome finds one document.
        progress = sys.stderr if args.format == "json" else sys.stdout
        try:
            await runner.run(
                ref,
                generator,
                seconds,
                lambda line: print(f"  {line}", file=progress, flush=True),
                plan,
            )
        except Blocked as blocked:
            said = {"outcome": "blocked", "message": blocked.message, "hint": blocked.hint}
            _say(
                args,
                {**plan_data(plan), **said},
                f"BLOCKED: {blocked.message}\nhint: {blocked.hint}",
            )
            return BLOCKED
        _say(args, {**plan_data(plan), "outcome": "done"})
    return 0


def _say(args: argparse.Namespace, data: dict[str, Any], text: str = "") -> None:
    if args.format == "json":
        print(json.dumps(data, indent=2), flush=True)
    elif text:
        print(text)


async def _runner(args: argparse.Namespace, stack: AsyncExitStack) -> "Runner":
    from strongroom.crypto.tokens import random_text
    from strongroom.kube.client import KubeClient
    from strongroom.model.clock import SystemClock
    from strongroom.rotate.evidence import LiveEvidence
    from strongroom.rotate.run import Runner

    clock = SystemClock()
    store = await stack.enter_async_context(open_store(args))
    api = None
    if not args.no_cluster:
        api = await stack.enter_async_context(KubeClient(cluster_config(args), clock))
    return Runner(store, LiveEvidence(store, api), clock, random_text)


def plan_data(plan: "Plan") -> dict[str, Any]:
    """The stable form for machines."""
    return {
        "secret": str(plan.ref),
        "from": plan.rotation.old,
        "to": plan.rotation.new,
        "fields": list(plan.rotation.fields),
        "retires": list(plan.retired),
        "resumed": plan.resumed,
        "steps": plan.lines(),
        "consumers": [
            {
                "kind": each.kind,
                "name": each.name,
                "version": each.version,
                "evidence": each.evidence,
                "behind": each.behind(plan.rotation.new),
            }
            for each in plan.ledger.consumers
        ],
    }


def _print_plan(plan: "Plan", args: argparse.Namespace) -> None:
    if args.format == "json":
        return
    print("Plan" + (" (dry run: nothing is changed)" if args.dry_run else ""))
    for number, line in enumerate(plan.lines(), 1):
        print(f"  {number}. {line}")
    rows = [
        (each.kind, each.name, str(each.version), each.evidence) for each in plan.ledger.consumers
    ]
    columns = ("consumer", "name", "version", "known by")
    if rows:
        show(Sheet("Who holds it now", columns, rows, lead=("consumer", "name")))
    else:
        print("  nobody is known to hold it")
