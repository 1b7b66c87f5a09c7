"""`python -m strongroom.app.cluster build | up DIR [--node]`: the test bed by hand."""

import argparse
import asyncio
import contextlib
import signal
import sys
from pathlib import Path

from strongroom.app.cluster.binaries import resolve
from strongroom.app.cluster.control_plane import ControlPlane
from strongroom.app.cluster.node import Node
from strongroom.app.dev.processes import Processes
from strongroom.model.clock import SystemClock
from strongroom.model.errors import Refusal


async def _up(folder: Path, *, with_node: bool) -> None:
    clock = SystemClock()
    with Processes(folder / "logs") as processes:
        control = ControlPlane(folder, resolve(), processes, clock)
        await control.start()
        node = Node(control, clock)
        try:
            if with_node:
                await node.start()
            print(f"up; export KUBECONFIG={control.kubeconfig}; Ctrl-C ends it", flush=True)
            await _told_to_stop()
        finally:
            if with_node:
                node.stop()


async def _told_to_stop() -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()


def main() -> int:
    """Run one of the two verbs."""
    parser = argparse.ArgumentParser(prog="python -m strongroom.app.cluster", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("build", help="make the binaries ready")
    up = verbs.add_parser("up", help="run a cluster until Ctrl-C")
    up.add_argument("folder", type=Path)
    up.add_argument("--node", action="store_true", help="with a node for real pods")
    args = parser.parse_args()
    try:
        if args.verb == "build":
            resolve()
        else:
            with contextlib.suppress(KeyboardInterrupt):
                asyncio.run(_up(args.folder.resolve(), with_node=args.node))
    except Refusal as refusal:
        print(f"error: {refusal}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
