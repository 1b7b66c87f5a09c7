"""`strongroom encrypt prove`: how every value lies in etcd, or what can be shown without etcd."""

import argparse
import asyncio
import json
import os
import urllib.parse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from strongroom.app.encrypt.etcd_source import add_etcd_arguments, prove_stored
from strongroom.app.tables import Sheet, say, show
from strongroom.model.errors import Invalid

if TYPE_CHECKING:
    from strongroom.encrypt.check.configuration import Configuration
    from strongroom.encrypt.coverage import Coverage
    from strongroom.encrypt.prove import Proof, Row
    from strongroom.encrypt.two_pass import TwoPass

NOT_PROVED: Final = 3
SHOWN_OF_KEY_ID: Final = 8
# Values that a page shows; the counts say how many there are.
LISTED: Final = 50


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    from strongroom.app.commands.operator import add_cluster_arguments

    add_etcd_arguments(parser)
    parser.add_argument("--two-pass", action="store_true", help="without etcd: by no-op rewrites")
    parser.add_argument(
        "--resource", action="append", default=[], help="secrets (default), things.example.com"
    )
    parser.add_argument(
        "--covered-by",
        type=Path,
        metavar="F",
        help="every resource this configuration encrypts, wildcards too",
    )
    parser.add_argument("--provider", default="", help="expected provider name")
    parser.add_argument("--key-id", default="", help="expected key id")
    parser.add_argument("--kms-socket", type=Path, metavar="PATH", help="ask the plugin for it")
    parser.add_argument("--list-all", action="store_true", help="list values that are ok as well")
    parser.add_argument(
        "--format", choices=("table", "json"), default="table", help="how the proof is shown"
    )
    add_cluster_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prove and print."""
    from strongroom.model.clock import SystemClock, rfc3339

    began = rfc3339(SystemClock().now())
    if args.two_pass:
        shown = asyncio.run(_two_pass(args))
        _print_two_pass(shown, args, began)
        return 0 if shown.holds else NOT_PROVED
    if not args.etcd and not args.snapshot:
        raise Invalid(
            "no-etcd", "nothing to read was named",
            hint="--etcd URL, --snapshot FILE, or --two-pass where etcd is hidden",
        )  # fmt: skip
    proof = asyncio.run(_prove(args))
    older = _older(args, proof)
    if args.format == "json":
        print(json.dumps({**as_data(proof, older), "began": began}, indent=2))
    else:
        print_table(proof, older, args)
    return 0 if proof.holds else NOT_PROVED


async def coverage_of(args: argparse.Namespace) -> "Coverage":
    """What is read and what it should be under; a plugin is asked for its key's id."""
    from strongroom.encrypt.coverage import Coverage, Expected, of_configuration

    key_id = await key_id_of(args)
    if not args.covered_by:
        names = tuple(dict.fromkeys(args.resource)) or ("secrets",)
        return Coverage(names, Expected(args.provider, key_id))
    if args.resource:
        raise Invalid("two-coverages", "--resource and --covered-by exclude each other")
    from strongroom.encrypt.check.configuration import parse

    try:
        configuration = parse(args.covered_by.read_bytes())
    except OSError as error:
        raise Invalid("no-file", f"cannot read {args.covered_by}: {error.strerror}") from None
    return of_configuration(configuration, dict.fromkeys(_ours(args, configuration), key_id))


def _ours(args: argparse.Namespace, configuration: "Configuration") -> list[str]:
    """The KMS providers that have the key: of several those with the socket as their endpoint.

    In the API server's pod that may have another name; then those with the endpoint of the one
    that `--provider` names. Raises Invalid(`no-such-endpoint`): without any, no key would be
    looked at.
    """
    places = {
        each.name: os.path.realpath(urllib.parse.urlsplit(each.endpoint).path)
        for each in configuration.kms
    }
    names = list(places)
    if not args.kms_socket or len(names) < 2:
        return names
    socket = os.path.realpath(args.kms_socket)  # /var/run is /run.
    if socket not in places.values():
        socket = places.get(args.provider, socket)
    ours = [name for name, place in places.items() if place == socket]
    if not ours:
        raise Invalid(
            "no-such-endpoint",
            f"of the providers of {args.covered_by} ({', '.join(names)}) none has {args.kms_socket}"
            " as its endpoint, so whose key that is is not known",
            hint="the socket as the file has it, or --provider with the provider's name",
        )
    return ours


async def key_id_of(args: argparse.Namespace) -> str:
    """The key id that was given, or that the plugin answers; "" when neither is known."""
    if args.key_id or not args.kms_socket:
        return str(args.key_id)
    from strongroom.encrypt.kms.plugin import ask_status

    return (await ask_status(args.kms_socket)).key_id


async def _prove(args: argparse.Namespace) -> "Proof":
    return await prove_stored(args, await coverage_of(args))


def _older(args: argparse.Namespace, proof: "Proof") -> int | None:
    """Values in plain text that were replaced and are still in a snapshot's file."""
    if not args.snapshot:
        return None
    from strongroom.encrypt.prove import prove
    from strongroom.encrypt.snapshot import read_snapshot

    snapshot = read_snapshot(args.snapshot)
    return sum(
        prove(snapshot.older_under(folder), proof.coverage, args.prefix).counts["plaintext"]
        for folder in proof.coverage.folders(args.prefix)
    )


def as_data(proof: "Proof", older: int | None = None) -> dict[str, Any]:
    """The stable form for machines."""
    from strongroom.encrypt.prove import BLIND

    return {
        "holds": proof.holds,
        "method": "snapshot" if older is not None else "etcd",
        "expected": _expected(proof),
        "total": proof.total,
        "counts": dict(proof.counts),
        "older_plaintext": older,
        "cannot_see": list(BLIND[2:] if older is not None else BLIND),
        "no_value_found": proof.empty,
        "not_served": proof.unserved,
        "not_encrypted_by_configuration": dict(sorted(proof.uncovered.items())),
        "still_under": {name: sorted(ids) for name, ids in sorted(proof.still_under.items())},
        "secrets": [row.as_data() for row in proof.rows],
    }


def _expected(proof: "Proof") -> dict[str, dict[str, str]]:
    """By resource, what its values should be under."""
    found = {name: proof.coverage.expected(name) for name in proof.stored}
    return {name: each.as_data() for name, each in sorted(found.items()) if each}


def print_table(proof: "Proof", older: int | None, args: argparse.Namespace) -> None:
    """The verdict for people: what is not ok, at most as many as a page holds, and the counts."""
    from strongroom.encrypt.prove import BLIND

    every = args.list_all or proof.total <= LISTED
    shown = proof.rows if every else proof.wrong[:LISTED]
    if shown:
        cells = [
            (row.verdict, row.resource, row.namespace, row.name, _stored_as(row)) for row in shown
        ]
        columns = ("verdict", "resource", "namespace", "name", "stored as")
        show(Sheet("", columns, cells, lead=columns[:4], whole=columns[:1]))
    wrong = proof.total - proof.counts["ok"]
    if not every and len(shown) < wrong:
        say(f"and {wrong - len(shown):,} more that are not ok")
    said = ", ".join(f"{count:,} {verdict}" for verdict, count in sorted(proof.counts.items()))
    method = "reading a snapshot" if args.snapshot else "reading etcd"
    verdict = "PROVED" if proof.holds else "NOT PROVED"
    say(f"{verdict}: {said or 'no value was found'}, by {method}")
    _say_of_resources(proof)
    if older:
        say(
            f"{older:,} older values in plain text are still in the file: compact, defragment"
            " every member, and retire backups from before"
        )
    if wrong:
        say("Write what is not ok once more: strongroom encrypt migrate")
    if proof.holds and older is None:
        say("What this method does not see:")
        for line in BLIND:
            say(f"  - {line}")


def _say_of_resources(proof: "Proof") -> None:
    """Of which nothing was proved, and what is under a key from before."""
    left = {name: count for name, count in sorted(proof.uncovered.items()) if name}
    if left:
        said = ", ".join(f"{count:,} {name}" for name, count in left.items())
        say(f"The configuration does not encrypt, and nothing was proved of: {said}")
    for name, ids in sorted(proof.still_under.items()):
        say(f"From before, {name} are still under: {', '.join(sorted(ids))}")
    for name in proof.unserved:
        say(
            f"{name!r} is no resource of Kubernetes or of a CustomResourceDefinition here:"
            " kubectl api-resources shows the names"
        )
    if proof.total and proof.empty:
        say(f"No value was found, and nothing was proved, of: {', '.join(proof.empty)}")


def _stored_as(row: "Row") -> str:
    stored = row.stored
    key = f" {stored.key_id[:SHOWN_OF_KEY_ID]}" if stored.key_id else ""
    return f"{stored.form} {stored.provider}{key}"


async def _two_pass(args: argparse.Namespace) -> "TwoPass":
    from strongroom.app.commands.operator import cluster_config
    from strongroom.encrypt.rewrite import name_of
    from strongroom.encrypt.two_pass import two_pass
    from strongroom.kube.client import KubeClient
    from strongroom.kube.discovery import discover
    from strongroom.model.clock import SystemClock

    clock, coverage = SystemClock(), await coverage_of(args)
    async with KubeClient(cluster_config(args), clock) as api:
        served = await discover(api, "patch")
        resources = covered(served, coverage)
        keys = {
            name: expected
            for name in map(name_of, resources)
            if (expected := coverage.expected(name)) and coverage.counted(name)
        }
        shown = await two_pass(api, clock, resources, coverage.counted, keys)
    left = [f"{each}: the configuration does not encrypt them" for each in coverage.plain]
    sealed = tuple(name for name in sorted(served) if coverage.may_be_sealed(name))
    left += [f"{each}: what was encrypted before may be under any key" for each in sealed]
    return replace(shown, blind=(*left, *shown.blind), may_be_sealed=sealed)


def covered(served: dict[str, Any], coverage: "Coverage") -> list[Any]:
    """The resources that are meant, of those a cluster serves and lets us patch."""
    if not coverage.everything:
        return named(served, coverage.resources)
    return [each for name, each in sorted(served.items()) if coverage.expected(name)]


def named(served: dict[str, Any], names: Sequence[str]) -> list[Any]:
    """The resources of these names; raises Invalid(`unknown-resource`)."""
    unknown = [name for name in names if name not in served]
    if unknown:
        raise Invalid("unknown-resource", f"the cluster serves no {unknown[0]!r} to patch")
    return [served[name] for name in names]


def _print_two_pass(shown: "TwoPass", args: argparse.Namespace, began: str) -> None:
    if args.format == "json":
        print(json.dumps({**shown.as_data(), "began": began}, indent=2))
        return
    print(f"first pass:  {shown.first.done} objects, {shown.first.rewritten} rewritten")
    print(f"second pass: {shown.second.done} objects, {shown.second.rewritten} rewritten")
    for line in shown.problems:
        print(f"  ! {line}")
    if shown.second.rewritten and not shown.second.unsettled:
        print("  What others wrote between the passes was touched once more, and stayed as it was.")
    print(
        "PROVED" if shown.holds else "NOT PROVED", "by two passes of rewrites that change nothing"
    )
    print("What this method does not see:")
    for line in shown.blind:
        print(f"  - {line}")
