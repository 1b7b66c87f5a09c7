"""`strongroom encrypt prove`: how every Secret lies in etcd, read there."""

import argparse
import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from strongroom.model.errors import Invalid

if TYPE_CHECKING:
    from strongroom.encrypt.prove import Expected, Proof

NOT_PROVED: Final = 3
EXAMPLE: Final = """example:
  strongroom encrypt prove --etcd http://127.0.0.1:2379 --kms-socket /run/strongroom/kms.sock
  strongroom encrypt prove --etcd https://etcd:2379 --ca-file ca.crt --cert c.crt --key c.key \\
      --provider strongroom --key-id 4xQ... --format json

exit status: 0 every Secret is under the expected key, 3 at least one is not (or none was found)
"""


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its verbs."""
    parser = commands.add_parser(
        "encrypt",
        help="prove encryption at rest",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="encrypt_verb", metavar="VERB", required=True)
    prove = verbs.add_parser(
        "prove",
        help="read etcd and say how each Secret is stored",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    prove.add_argument("--etcd", default="https://127.0.0.1:2379", metavar="URL")
    prove.add_argument("--ca-file", type=Path, metavar="F")
    prove.add_argument("--cert", type=Path, metavar="F", help="client certificate")
    prove.add_argument("--key", type=Path, metavar="F")
    prove.add_argument("--prefix", default="/registry", help="--etcd-prefix of the API server")
    prove.add_argument("--provider", default="", help="expected provider name")
    prove.add_argument("--key-id", default="", help="expected key id")
    prove.add_argument("--kms-socket", type=Path, metavar="PATH", help="ask the plugin for it")
    prove.add_argument("--format", choices=("table", "json"), default="table")
    prove.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prove and print."""
    proof = asyncio.run(_prove(args))
    if args.format == "json":
        print(json.dumps(as_data(proof), indent=2))
    else:
        _print_table(proof)
    return 0 if proof.holds else NOT_PROVED


async def _prove(args: argparse.Namespace) -> "Proof":
    from strongroom.encrypt.etcd import read_prefix
    from strongroom.encrypt.prove import prove
    from strongroom.wire.client import HttpClient

    if bool(args.cert) != bool(args.key):
        raise Invalid("half-tls", "--cert and --key belong together")
    certificate = (args.cert, args.key) if args.cert else None
    async with HttpClient(ca_file=args.ca_file, client_certificate=certificate) as http:
        prefix = f"{args.prefix.rstrip('/')}/secrets/"
        pairs = [pair async for pair in read_prefix(http, args.etcd, prefix)]
    return prove(pairs, await _expected(args))


async def _expected(args: argparse.Namespace) -> "Expected":
    from strongroom.encrypt.prove import Expected

    key_id = args.key_id
    if args.kms_socket and not key_id:
        from strongroom.encrypt.plugin import ask_status

        key_id = (await ask_status(args.kms_socket)).key_id
    return Expected(args.provider, key_id)


def as_data(proof: "Proof") -> dict[str, Any]:
    """The stable form for machines."""
    return {
        "holds": proof.holds,
        "expected": {"provider": proof.expected.provider, "key_id": proof.expected.key_id},
        "counts": dict(proof.counts),
        "secrets": [row.as_data() for row in proof.rows],
    }


def _print_table(proof: "Proof") -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, highlight=False)
    table = Table()
    for title in ("namespace", "secret", "stored as", "provider", "key id", "verdict"):
        table.add_column(title, overflow="fold")
    for row in proof.rows:
        stored = row.stored
        table.add_row(
            row.namespace, row.name, stored.form, stored.provider, stored.key_id, row.verdict
        )
    console.print(table)
    said = ", ".join(f"{count} {verdict}" for verdict, count in sorted(proof.counts.items()))
    console.print(f"{'PROVED' if proof.holds else 'NOT PROVED'}: {said or 'no Secret was found'}")
    if not proof.holds and proof.rows:
        console.print(
            "Write the Secrets that are not ok once more under the current configuration:\n"
            "  kubectl get secrets -A -o json | kubectl replace -f -"
        )
