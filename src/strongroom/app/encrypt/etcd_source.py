"""Values of etcd for prove and check: from a running etcd or from a snapshot file."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from strongroom.model.errors import Invalid

if TYPE_CHECKING:
    from strongroom.encrypt.coverage import Coverage
    from strongroom.encrypt.prove import Proof

TELL_EVERY = 1000


def add_etcd_arguments(parser: argparse.ArgumentParser, *, snapshot: bool = True) -> None:
    """Add where etcd is, and how it is spoken to; or a `snapshot` of it."""
    group = parser.add_argument_group("etcd")
    group.add_argument("--etcd", metavar="URL", help="client address of etcd")
    if snapshot:
        group.add_argument(
            "--snapshot",
            type=Path,
            metavar="F",
            help="a snapshot, or the db file of a stopped member",
        )
    else:
        parser.set_defaults(snapshot=None)
    group.add_argument(
        "--etcd-ca-file",
        "--ca-file",
        type=Path,
        metavar="F",
        dest="etcd_ca",
        help="what signed its certificate",
    )
    group.add_argument("--cert", type=Path, metavar="F", help="client certificate")
    group.add_argument("--key", type=Path, metavar="F", help="key of the client certificate")
    group.add_argument(
        "--prefix", type=_prefix, default="/registry", help="--etcd-prefix of the API server"
    )


def _prefix(text: str) -> str:
    """With the slash in front that the API server puts there when the flag has none."""
    return "/" + text.strip("/")


async def prove_stored(args: argparse.Namespace, coverage: "Coverage") -> "Proof":
    """Read and judge everything; progress on standard error when it is a terminal."""
    from strongroom.encrypt.etcd import read_prefix
    from strongroom.encrypt.prove import Proof
    from strongroom.wire.client import HttpClient

    proof = Proof(coverage, args.prefix)
    if args.snapshot:
        from strongroom.encrypt.snapshot import read_snapshot

        snapshot = read_snapshot(args.snapshot)
        for folder in coverage.folders(args.prefix):
            for key, value in snapshot.under(folder):
                proof.read(key, value)
                _tell(proof.total)
        return _finished(proof)
    if bool(args.cert) != bool(args.key):
        raise Invalid("half-tls", "--cert and --key belong together")
    certificate = (args.cert, args.key) if args.cert else None
    async with HttpClient(ca_file=args.etcd_ca, client_certificate=certificate) as http:
        for folder in coverage.folders(args.prefix):
            async for key, value in read_prefix(http, args.etcd, folder):
                proof.read(key, value)
                _tell(proof.total)
    return _finished(proof)


def _tell(count: int) -> None:
    if count and count % TELL_EVERY == 0 and sys.stderr.isatty():
        print(f"\rread {count:,} values", end="", file=sys.stderr, flush=True)


def _finished(proof: "Proof") -> "Proof":
    if proof.total >= TELL_EVERY and sys.stderr.isatty():
        print(f"\rread {proof.total:,} values", file=sys.stderr, flush=True)
    return proof
