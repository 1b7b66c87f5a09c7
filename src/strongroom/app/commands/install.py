"""`strongroom install`: the manifests an operator needs, as YAML for kubectl."""

import argparse
from typing import Final

EXAMPLE: Final = """example:
  kubectl create namespace strongroom
  strongroom install rbac --namespace strongroom | kubectl apply -f -
  strongroom install rbac --only team-a --only team-b     # no cluster role
  strongroom install rbac --token-of prod/vault-auth      # tokens of one service account
  strongroom install crds | kubectl apply --server-side -f -

exit status: 0 done, 2 refused
"""


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "install",
        help="manifests of the operator: definitions and least rights",
        epilog=EXAMPLE,
    )
    what = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    crds = what.add_parser("crds", help="the external-secrets.io definitions", epilog=EXAMPLE)
    crds.set_defaults(run=run_crds)
    rbac = what.add_parser("rbac", help="a service account and what it may do", epilog=EXAMPLE)
    rbac.add_argument("--namespace", default="strongroom", help="of the operator itself")
    for flag, metavar, said in (
        ("--only", "NS", "serve these namespaces alone, with Roles and no ClusterRole"),
        ("--token-of", "NS/NAME", "a service account whose tokens stores ask for; * for all"),
        ("--manifest", "PLURAL[.GROUP]", "a target kind other than Secret, such as configmaps"),
    ):
        rbac.add_argument(flag, action="append", default=[], metavar=metavar, help=said)
    parts = ("push", "generators", "cluster-objects", "election")
    rbac.add_argument(
        "--without",
        action="append",
        default=[],
        choices=parts,
        help="leave out what only this part needs; may be repeated",
    )
    rbac.set_defaults(run=run_rbac)


def run_crds(_args: argparse.Namespace) -> int:
    """Print the definitions."""
    import yaml

    from strongroom.sync.crds import crds

    print(yaml.dump_all(crds(), sort_keys=False, Dumper=_plain()), end="")
    return 0


def run_rbac(args: argparse.Namespace) -> int:
    """Print the roles."""
    import yaml

    from strongroom.sync.rbac import Rights, rbac

    rights = Rights(
        namespace=args.namespace,
        namespaces=tuple(args.only),
        push="push" not in args.without,
        generators="generators" not in args.without,
        cluster_objects="cluster-objects" not in args.without,
        accounts=tuple(args.token_of),
        manifests=tuple(args.manifest),
        election="election" not in args.without,
    )
    print(yaml.dump_all(rbac(rights), sort_keys=False, Dumper=_plain()), end="")
    return 0


def _plain() -> type:
    """A dumper that writes what is used twice twice; readers of manifests do not know anchors."""
    import yaml

    class Plain(yaml.SafeDumper):
        def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - PyYAML's method
            return True

    return Plain
