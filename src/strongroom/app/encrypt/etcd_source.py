"""Values of etcd for prove and check: from a running etcd or from a snapshot file."""

import argparse
import sys
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from strongroom.model.errors import Invalid

if TYPE_CHECKING:
    from strongroom.encrypt.coverage import Coverage
    from strongroom.encrypt.prove import Proof

TELL_EVERY = 1000
# Keys and values that begin with a prefix.
Read = Callable[[str], AsyncIterator[tuple[str, bytes]]]


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


async def prove_stored(
    args: argparse.Namespace, coverage: "Coverage", served: Collection[str] = ()
) -> "Proof":
    """Read and judge everything; progress on standard error when it is a terminal.

    Of names not `served` for sure, and without a value, it is looked whether they can have one.
    """
    from strongroom.encrypt.keyspace import known
    from strongroom.encrypt.prove import Proof

    proof = Proof(coverage, args.prefix)
    async with _reader(args) as read:
        for folder in coverage.folders(args.prefix):
            async for key, value in read(folder):
                proof.read(key, value)
                _tell(proof.total)
        doubtful = [each for each in proof.empty if each not in served and not known(each)]
        proof.unserved += await undefined(read, doubtful, args.prefix)
    return _finished(proof)


async def undefined(read: Read, names: Sequence[str], prefix: str) -> list[str]:
    """Those of them that no CustomResourceDefinition is of.

    None where a kube-apiserver does not store: an aggregated server's names stand in no etcd.
    """
    from strongroom.encrypt.keyspace import API_SERVICES, definition_of, folder_of

    if not names or not [key async for key, _ in read(folder_of(API_SERVICES, prefix))]:
        return []
    wanted = {name: definition_of(name, prefix) for name in names}
    return [name for name, at in wanted.items() if at not in [key async for key, _ in read(at)]]


@asynccontextmanager
async def _reader(args: argparse.Namespace) -> AsyncIterator[Read]:
    if args.snapshot:
        from strongroom.encrypt.snapshot import read_snapshot

        snapshot = read_snapshot(args.snapshot)

        async def under(prefix: str) -> AsyncIterator[tuple[str, bytes]]:
            for pair in snapshot.under(prefix):
                yield pair

        yield under
        return
    from strongroom.encrypt.etcd import read_prefix
    from strongroom.wire.client import HttpClient

    if bool(args.cert) != bool(args.key):
        raise Invalid("half-tls", "--cert and --key belong together")
    certificate = (args.cert, args.key) if args.cert else None
    async with HttpClient(ca_file=args.etcd_ca, client_certificate=certificate) as http:
        yield lambda prefix: read_prefix(http, args.etcd, prefix)


def _tell(count: int) -> None:
    if count and count % TELL_EVERY == 0 and sys.stderr.isatty():
        print(f"\rread {count:,} values", end="", file=sys.stderr, flush=True)


def _finished(proof: "Proof") -> "Proof":
    if proof.total >= TELL_EVERY and sys.stderr.isatty():
        print(f"\rread {proof.total:,} values", file=sys.stderr, flush=True)
    return proof
