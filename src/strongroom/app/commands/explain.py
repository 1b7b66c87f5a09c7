"""`strongroom explain externalsecret NS/NAME`: the first thing that is wrong, and the remedy.

Exit status: 0 nothing is wrong, 1 something is.
"""

import argparse
import asyncio
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from strongroom.app.commands.operator import add_cluster_arguments, add_lending, cluster_config

if TYPE_CHECKING:
    from strongroom.sync.explain import Explanation

EXAMPLE: Final = """example:
  strongroom explain externalsecret prod/db
  strongroom explain externalsecret prod/db --format json

exit status: 0 nothing is wrong, 1 something is, 2 refused
"""


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "explain",
        help="why a Secret is not as it should be",
        epilog=EXAMPLE,
    )
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    one = kinds.add_parser(
        "externalsecret",
        aliases=["es"],
        help="manifest, store, identity, permission, path, property, template, target",
        epilog=EXAMPLE,
    )
    add_cluster_arguments(one)
    one.add_argument("name", metavar="NS/NAME", help="namespace and name of the object")
    one.add_argument("--controller-class", default="", metavar="C", help="the operator's class")
    add_lending(one)
    one.add_argument(
        "--format", choices=("text", "json"), default="text", help="how the chain is shown"
    )
    one.set_defaults(run=run_external_secret)


def run_external_secret(args: argparse.Namespace) -> int:
    """Walk the chain and show it."""
    found = asyncio.run(_explain(args))
    if args.format == "json":
        broken = found.broken
        said = {
            "steps": [asdict(each) for each in found.steps],
            "broken": broken.name if broken else None,
        }
        print(json.dumps(said, indent=2))
    else:
        for each in found.steps:
            print(f"{'ok ' if each.good else '-> '} {each.name:<11} {each.said}")
            if not each.good:
                print(f"    {'':<11} [{each.code}]")
            if each.remedy:
                print(f"    {'remedy':<11} {each.remedy}")
    return int(found.broken is not None)


async def _explain(args: argparse.Namespace) -> "Explanation":
    from strongroom.app.sync_chain import sync_chain
    from strongroom.kube.client import KubeClient
    from strongroom.model.clock import SystemClock
    from strongroom.model.errors import Denied, Invalid, NotFound
    from strongroom.sync.crds import EXTERNAL_SECRETS
    from strongroom.sync.explain import explain
    from strongroom.sync.remedies import for_reader

    namespace, slash, name = args.name.partition("/")
    if not slash:
        raise Invalid("bad-name", "name the object as NAMESPACE/NAME", hint="such as prod/db")
    clock = SystemClock()
    async with KubeClient(cluster_config(args), clock) as api:
        try:
            item = await api.get(EXTERNAL_SECRETS, name, namespace)
        except NotFound:
            raise NotFound(
                "no-external-secret",
                f"there is no ExternalSecret {name} in {namespace}",
                hint=f"`kubectl get externalsecrets -n {namespace}` names those that there are",
            ) from None
        except Denied as refusal:
            raise for_reader(refusal, EXTERNAL_SECRETS.plural) from None
        async with sync_chain(api, clock, args.controller_class, args.lend_identity) as chain:
            return await explain(chain, item)
