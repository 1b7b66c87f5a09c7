"""`strongroom encrypt init`: the files for a control plane, and what to do with them."""

import argparse
import asyncio
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from strongroom.model.errors import Conflict, Invalid

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    from strongroom.encrypt.setup import CLOUDS, EXECUTABLE, KINDS

    parser.add_argument(
        "--for",
        dest="kind",
        choices=(*KINDS, *CLOUDS),
        default="plain",
        help="how the cluster is run",
    )
    parser.add_argument(
        "--cluster", default="default", help='what the keys are bound to (default "default")'
    )
    parser.add_argument("--image", default="strongroom:latest", help="for the static pod")
    parser.add_argument(
        "--executable", default=EXECUTABLE, metavar="PATH", help="for the systemd unit"
    )
    parser.add_argument(
        "--escrow", type=Path, metavar="F",
        help="a public key (RSA, PEM) whose private half opens everything when kms.key is lost",
    )  # fmt: skip
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("strongroom-encryption"),
        metavar="DIR",
        help="the folder to write, new or empty",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write and explain; for a managed cloud say what its own command is."""
    from strongroom.encrypt.setup import CLOUDS, Wanted, setup

    if args.kind in CLOUDS:
        return _managed(args.kind)
    if not NAME.fullmatch(args.cluster):
        raise Invalid("bad-cluster", "the cluster's name is letters, digits, dots and dashes")
    if args.output.exists() and any(args.output.iterdir()):
        raise Conflict("not-empty", f"{args.output} is not empty", hint="--output another folder")
    escrow = asyncio.run(_public_key(args.escrow)) if args.escrow else None
    made = setup(
        Wanted(args.kind, args.cluster, args.image, args.executable, escrow=escrow is not None)
    )
    args.output.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = {**made.files, **({"escrow.pem": escrow} if escrow else {})}
    for name, content in files.items():
        handle = os.open(args.output / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as out:
            out.write(content)
    key_id = asyncio.run(_first_wrap(args.output, args.cluster, escrow=escrow is not None))
    print(f"wrote to {args.output}: {', '.join(sorted([*files, 'kms.key', 'kms.json']))}")
    print(f"the first key is {key_id}, wrapped by kms.key" + (" and by escrow" if escrow else ""))
    _explain(made.steps)
    print("Nothing else was changed: no node was touched and no server restarted.")
    print("kms.key opens everything: keep a copy where the cluster's backups are not.")
    if not escrow:
        print("Without it and without a second backend the Secrets are lost: give --escrow, or add")
        print("a backend to kms.yaml and run strongroom kms rewrap (strongroom kms --help).")
    return 0


def _managed(kind: str) -> int:
    from strongroom.encrypt.setup import CLOUDS

    cloud = CLOUDS[kind]
    print(cloud.says)
    for command in cloud.commands:
        print(f"  {command}")
    print("What these do not do:")
    for line in cloud.left:
        print(f"  - {line}")
    print("Nothing was written here. etcd is hidden, but what lies in it can be shown; these two")
    print("write every object once more without changing it, and never read a value:")
    print("  strongroom encrypt migrate --no-barrier")
    print("  strongroom encrypt prove --two-pass")
    return 0


def _explain(steps: Sequence[str]) -> None:
    number = 0
    for step in steps:
        number += not step.startswith(" ")
        print(f"     {step}" if step.startswith(" ") else f"  {number}. {step}")


async def _public_key(path: Path) -> str:
    """Its text, once it was seen to wrap; raises Invalid or Unavailable."""
    from strongroom.encrypt.kms.escrow import EscrowWrapper

    await EscrowWrapper("escrow", path).wrap(b"a try", b"")
    return path.read_text()


async def _first_wrap(folder: Path, cluster: str, *, escrow: bool) -> str:
    """The key file, and a state whose first key it wraps; returns the key's id."""
    from strongroom.crypto.keyfile import create_key_file
    from strongroom.encrypt.kms.escrow import EscrowWrapper
    from strongroom.encrypt.kms.keys import Backends, Place, make
    from strongroom.encrypt.kms.state import first, save
    from strongroom.model.clock import SystemClock
    from strongroom.wire.keywrap.key_file import KeyFileWrapper

    create_key_file(folder / "kms.key")
    escrows = (EscrowWrapper("escrow", folder / "escrow.pem"),) if escrow else ()
    backends = Backends((KeyFileWrapper("key-file", folder / "kms.key"),), escrows=escrows)
    entry, _ = await make(backends, Place("strongroom", cluster), SystemClock().now())
    save(folder / "kms.json", first(entry))
    return entry.id
