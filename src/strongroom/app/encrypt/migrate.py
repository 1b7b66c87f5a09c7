"""`strongroom encrypt migrate`: plan, barrier, rewrite, proof."""

import argparse
import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from strongroom.app.encrypt.etcd_source import add_etcd_arguments, prove_stored
from strongroom.app.encrypt.prove import NOT_PROVED, coverage_of, covered, key_id_of
from strongroom.app.encrypt.witness import Witness, wait_at_barrier
from strongroom.model.errors import Invalid, Unavailable

if TYPE_CHECKING:
    from strongroom.encrypt.rewrite import Progress, Rewriter
    from strongroom.kube.client import KubeClient

MOST_PASSES: Final = 5
TELL_TERMINAL, TELL_LOG = 25, 5000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    from strongroom.app.commands.operator import add_cluster_arguments

    add_cluster_arguments(parser)
    add_etcd_arguments(parser, snapshot=False)  # There is none yet of what this brings about.
    parser.add_argument("--resource", action="append", default=[], help="secrets (default), ...")
    parser.add_argument("--covered-by", type=Path, metavar="F", help="all that this file names")
    parser.add_argument("--provider", default="strongroom", help="the KMS provider's name")
    parser.add_argument("--key-id", default="", help="the key everything goes under")
    parser.add_argument("--kms-socket", type=Path, metavar="PATH", help="ask the plugin for it")
    parser.add_argument(
        "--api-server", action="append", default=[], metavar="URL",
        help="each API server, for the barrier (default: the one of the kubeconfig)",
    )  # fmt: skip
    parser.add_argument(
        "--barrier-timeout",
        type=float,
        default=600.0,
        metavar="SECONDS",
        help="how long API servers may take to encrypt with the new key",
    )
    parser.add_argument(
        "--no-barrier", action="store_true", help="for local keys, which have no key id"
    )
    parser.add_argument("--rate", type=float, default=400.0, help="most objects a second")
    parser.add_argument("--resume", type=Path, metavar="F", help="keep the progress here")
    parser.add_argument("--dry-run", action="store_true", help="print the plan, change nothing")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Plan, print, execute, prove."""
    if args.rate <= 0:
        raise Invalid("bad-rate", "--rate is above 0")
    return asyncio.run(_migrate(args))


async def _migrate(args: argparse.Namespace) -> int:
    from strongroom.app.commands.operator import cluster_config
    from strongroom.encrypt.coverage import Expected
    from strongroom.encrypt.rewrite import Pace, Rewriter, name_of
    from strongroom.kube.client import KubeClient
    from strongroom.kube.discovery import discover
    from strongroom.model.clock import SystemClock

    clock, config = SystemClock(), cluster_config(args)
    key_id, coverage = await key_id_of(args), await coverage_of(args)
    if not key_id and not args.no_barrier:
        raise Invalid(
            "no-key-id", "the key that everything goes under is not known",
            hint="--kms-socket, --key-id, or --no-barrier for local keys",
        )  # fmt: skip
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(KubeClient(config, clock))
        servers = {config.server: api}
        for url in args.api_server:
            if url.rstrip("/") != config.server.rstrip("/"):
                other = KubeClient(config.at(url.rstrip("/")), clock)
                servers[url] = await stack.enter_async_context(other)
        resources = covered(await discover(api, "patch"), coverage)
        if not resources:
            raise Invalid(
                "nothing-covered",
                f"{args.covered_by} encrypts nothing that the cluster serves and lets us patch",
                hint="does identity stand first? strongroom encrypt check --config says so",
            )
        total = await _plan(api, resources, servers, args)
        for name in coverage.plain:
            print(f"  !  {name} stay as they are: {args.covered_by} does not encrypt them")
        if args.dry_run:
            return 0
        if not args.no_barrier:
            await wait_at_barrier(servers, args, key_id, clock)
        rewriter = Rewriter(api, clock, args.resume, Pace(min(50.0, args.rate), args.rate))
        witness = Witness(servers, resources, coverage, Expected(args.provider, key_id))
        aim = " ".join([key_id, *(name_of(each) for each in resources)])
        await _passes(rewriter, resources, _begun(args, aim, total), args, witness)
    if not args.etcd:
        who = "the API server writes" if args.no_barrier else "the servers write"
        print(f"Every object is under what {who} with now: the last pass had nothing to rewrite.")
        if witness.blind:
            print("Whether that is encrypted could not be told: its metrics did not say.")
        print("With etcd access: strongroom encrypt prove --etcd URL")
        return 0
    proof = await prove_stored(args, coverage, [name_of(each) for each in resources])
    said = ", ".join(f"{count:,} {verdict}" for verdict, count in sorted(proof.counts.items()))
    print(f"{'PROVED' if proof.holds else 'NOT PROVED'}: {said}")
    return 0 if proof.holds else NOT_PROVED


async def _plan(
    api: "KubeClient", resources: list[Any], servers: dict[str, Any], args: argparse.Namespace
) -> int:
    """Print it; returns how many objects there are."""
    from strongroom.kube.api import Scope

    print("Plan" + (" (dry run: nothing is changed)" if args.dry_run else ""))
    if not args.no_barrier:
        who = "the API server uses" if len(servers) == 1 else f"all {len(servers)} API servers use"
        print(f"  -  wait until {who} the key")
    else:
        print("  !  no barrier: a server with another file or key writes back under that")
    total = 0
    for resource in resources:
        count = 0
        async for page in api.pages(resource, Scope(metadata_only=True)):
            count += len(page.items)
        total += count
        print(f"  -  rewrite {count:,} {resource.plural} with patches that change nothing")
    seconds = max(1.0, 2 * total / args.rate)
    print(f"  -  again, until a pass changes nothing; at least {seconds:,.0f} s for both")
    print("  -  prove it" + (" by reading etcd" if args.etcd else ""), flush=True)
    return total


def _begun(args: argparse.Namespace, aim: str, total: int) -> "Progress":
    """Where to go on, or a fresh pass."""
    from strongroom.encrypt.rewrite import load_progress

    progress = load_progress(args.resume, aim)
    progress.total = total
    if progress.done:
        print(f"going on after {progress.resource} {progress.after} ({progress.done} done)")
    elif args.resume and args.resume.exists():
        print(f"{args.resume} is of a migration to another key or of other resources: begun anew")
    return progress


async def _passes(
    rewriter: "Rewriter", resources: list[Any], progress: "Progress", args: argparse.Namespace,
    witness: Witness,
) -> None:  # fmt: skip
    from strongroom.encrypt.rewrite import Progress

    rewriter.tell = Teller()
    # What was done before may have been for another local key, or while identity stood first.
    whole = not progress.done
    rewriter.look = witness.after_a_touch
    for left in reversed(range(MOST_PASSES)):
        await witness.begin()
        await rewriter.run_pass(resources, progress)
        busy = f", the server was busy {progress.waited:,} times" if progress.waited else ""
        print(
            f"pass {progress.number}: {progress.done:,} objects, {progress.rewritten:,} rewritten,"
            f" {len(progress.failed)} failed{busy}",
            flush=True,
        )
        for line in progress.failed[:10]:
            print(f"  ! {line}")
        # What others wrote during the second pass or later was touched again, and stayed.
        settled = not progress.rewritten or (progress.number > 1 and not progress.unsettled)
        if settled and whole and not progress.failed:
            again = bool(progress.rewritten and left)
            settled = await witness.end(progress.touched, again=again)
        if settled and whole and not progress.failed:
            if args.resume:
                args.resume.unlink(missing_ok=True)
            return
        progress = Progress(progress.number + 1, total=progress.total, aim=progress.aim)
        whole = True
    raise Unavailable(
        "not-settled", f"objects still changed in pass {MOST_PASSES}, or could not be touched",
        hint="are all servers on one key, and does no webhook edit every update?",
    )  # fmt: skip


class Teller:
    """Says how far a pass is: on one line of a terminal, else a line now and then."""

    def __init__(self) -> None:
        self._told = 0

    def __call__(self, progress: "Progress", rate: float) -> None:
        every = TELL_TERMINAL if sys.stderr.isatty() else TELL_LOG
        if progress.done - self._told < every and progress.done > self._told:
            return
        self._told = progress.done
        left = max(0, progress.total - progress.done) / rate
        print(
            f"pass {progress.number}: {progress.done:,}/{progress.total:,}, {rate:,.0f}/s,"
            f" {left:,.0f} s left   ",
            end="\r" if sys.stderr.isatty() else "\n", file=sys.stderr, flush=True,
        )  # fmt: skip
