"""`strongroom sync plan`: what manifests would create, change or take over.

Exit status: 0 everything can be done, 1 something would be refused or cannot be known.
"""

import argparse
import asyncio
import json
from collections import Counter
from contextlib import aclosing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from strongroom.app.commands.operator import add_cluster_arguments, add_lending, cluster_config

if TYPE_CHECKING:
    from strongroom.sync.explain import Planned

AT_ONCE: Final = 8
EXAMPLE: Final = """example:
  strongroom sync plan -f externalsecrets.yaml -n prod
  strongroom sync plan -f externalsecrets.yaml --format json

exit status: 0 all of it can be done, 1 something would be refused or cannot be known, 2 refused
"""


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "sync",
        help="what manifests would do to Secrets",
        epilog=EXAMPLE,
    )
    verbs = parser.add_subparsers(dest="sync_verb", metavar="VERB", required=True)
    plan = verbs.add_parser(
        "plan",
        help="show what would be created, changed or taken over; writes nothing",
        epilog=EXAMPLE,
    )
    add_cluster_arguments(plan)
    plan.add_argument(
        "-f",
        "--filename",
        type=Path,
        metavar="F",
        required=True,
        help="a file of manifests",
    )
    plan.add_argument(
        "-n",
        "--namespace",
        default="default",
        help='of manifests that name none (default "default")',
    )
    plan.add_argument("--controller-class", default="", metavar="C", help="the operator's class")
    add_lending(plan)
    plan.add_argument(
        "--format", choices=("text", "json"), default="text", help="how the plan is shown"
    )
    plan.set_defaults(run=run_plan)


def run_plan(args: argparse.Namespace) -> int:
    """Show the plan."""
    from strongroom.sync.explain import ACTIONS

    plans = asyncio.run(_plan(args))
    if args.format == "json":
        print(json.dumps([asdict(each) for each in plans], indent=2))
    elif len(plans) > 1:
        counts = Counter(each.action for each in plans)
        said = ", ".join(f"{counts[each]} {each}" for each in ACTIONS if counts[each])
        print(f"{len(plans)} ExternalSecrets: {said}")
    elif not plans:
        print("no ExternalSecret in the manifest")
    return int(any(each.action in ("refuse", "unknown") for each in plans))


async def _plan(args: argparse.Namespace) -> "list[Planned]":
    """The plans; as text they are shown as they come, in the order of the file."""
    from strongroom.app.in_order import in_order
    from strongroom.app.sync_chain import manifests, sync_chain
    from strongroom.kube.client import KubeClient
    from strongroom.kube.resource import Object
    from strongroom.model.clock import SystemClock
    from strongroom.model.errors import Denied, NotFound
    from strongroom.sync.crds import EXTERNAL_SECRETS
    from strongroom.sync.explain import Planned, plan
    from strongroom.sync.remedies import for_reader

    clock = SystemClock()
    # Stores, their credentials and templates of the same file are there when it has been applied.
    given = manifests(args.filename, args.namespace)
    items = [each for each in given if each["kind"] == EXTERNAL_SECRETS.kind]
    others = [each for each in given if each["kind"] != EXTERNAL_SECRETS.kind]
    async with (
        KubeClient(cluster_config(args), clock) as api,
        sync_chain(api, clock, args.controller_class, args.lend_identity, others) as chain,
    ):

        async def known(item: Object) -> Object:
            """The manifest as the object that is there already would be after it."""
            metadata = item["metadata"]
            try:
                there = await api.get(EXTERNAL_SECRETS, metadata["name"], metadata["namespace"])
            except NotFound:
                return {**item, "apiVersion": "external-secrets.io/v1"}
            except Denied as refusal:
                raise for_reader(refusal, EXTERNAL_SECRETS.plural) from None
            merged = {**there["metadata"], **{k: v for k, v in metadata.items() if v}}
            return {**there, "spec": item.get("spec") or {}, "metadata": merged}

        async def planned(item: Object) -> Planned:
            return await plan(chain, await known(item))

        plans = []
        async with aclosing(in_order(planned, items, AT_ONCE)) as found:
            async for each in found:
                plans.append(each)
                if args.format == "text":
                    line = f"{each.action:<10} {each.namespace}/{each.target}  {each.said}"
                    print(line, flush=True)
        return plans
