"""`strongroom kms`: the KMS v2 plugin on a unix socket."""

import argparse
import asyncio
import signal
import sys
from pathlib import Path
from typing import Final

EXAMPLE: Final = """example:
  strongroom kms --socket /run/strongroom/kms.sock --key-file /etc/strongroom/kms.key \\
      --state /var/lib/strongroom/kms.json --create-key
and in the EncryptionConfiguration of the API server:
  providers:
  - kms: {apiVersion: v2, name: strongroom, endpoint: unix:///run/strongroom/kms.sock}
  - identity: {}
"""


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "kms",
        help="run the KMS v2 plugin for kube-apiserver",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--socket", type=Path, required=True, metavar="PATH")
    parser.add_argument("--key-file", type=Path, required=True, metavar="F", help="wraps the keys")
    parser.add_argument("--state", type=Path, required=True, metavar="F", help="the wrapped keys")
    parser.add_argument(
        "--create-key", action="store_true", help="make the key file when it is missing"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until told to stop; SIGHUP reads the state file again."""
    from strongroom.crypto.keyfile import create_key_file

    if args.create_key and not args.key_file.exists() and not args.state.exists():
        create_key_file(args.key_file)
    asyncio.run(_serve(args))
    return 0


async def _serve(args: argparse.Namespace) -> None:
    from strongroom.crypto.keyfile import load_key_file
    from strongroom.encrypt.keks import load_or_create
    from strongroom.encrypt.plugin import Plugin, serve
    from strongroom.model.clock import SystemClock
    from strongroom.model.errors import Refusal

    clock = SystemClock()
    keks = load_or_create(args.state, load_key_file(args.key_file), clock.now())
    plugin = Plugin(keks)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def again() -> None:
        try:
            plugin.use(load_or_create(args.state, load_key_file(args.key_file), clock.now()))
        except Refusal as refusal:
            print(f"strongroom: kept the keys in use: {refusal}", file=sys.stderr, flush=True)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, again)
    server = await serve(plugin, args.socket)
    print(
        f"strongroom: KMS v2 on {args.socket}, key id {keks.current}", file=sys.stderr, flush=True
    )
    await stop.wait()
    await server.stop()
