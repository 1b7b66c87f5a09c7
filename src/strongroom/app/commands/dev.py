"""`strongroom dev`: everything on this machine, to look at and to play with."""

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from strongroom.app.dev.bed import Bed

INCOMPLETE: Final = 3
FOLDER_CHARACTERS: Final = 60  # A unix socket's path has at most 107 characters in all.
EXAMPLE: Final = """example:
  strongroom dev                 # the store in seconds, then a cluster and a tour, until Ctrl-C
  strongroom dev --store-only    # the store alone
  strongroom dev --tour          # end after the tour

exit status: 0 all shown, 1 a step did not hold, 3 this machine cannot host pods (step 4 left out)
"""


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "dev",
        help="run everything on this machine, with a tour",
        epilog=EXAMPLE,
    )
    parser.add_argument("--store-only", action="store_true", help="stop after the store")
    parser.add_argument("--tour", action="store_true", help="end after the tour, with a status")
    parser.add_argument(
        "--folder",
        type=Path,
        metavar="DIR",
        help="keep everything here, also afterwards (default: a folder that is removed)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run until Ctrl-C, or until the tour is over."""
    with _folder(args.folder) as folder:
        return asyncio.run(_dev(folder, args))


@contextlib.contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    from strongroom.model.errors import Invalid

    if given is not None:
        folder = given.resolve()
        if len(str(folder)) > FOLDER_CHARACTERS:
            raise Invalid("long-folder", "the folder's path is too long for unix sockets")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise Invalid("not-empty", f"{folder} is not empty", hint="name a new folder")
        yield folder
        return
    folder = Path(tempfile.mkdtemp(prefix="strongroom-dev-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _dev(folder: Path, args: argparse.Namespace) -> int:
    from strongroom.app.dev.bed import Bed
    from strongroom.app.dev.processes import Processes
    from strongroom.model.clock import SystemClock

    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - asyncio.run made it
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with Processes(folder / "logs") as processes:
        bed = Bed(folder, processes, SystemClock())
        try:
            return await _session(bed, args)
        except asyncio.CancelledError:
            print("\nending", file=sys.stderr, flush=True)
            return 0 if args.store_only or not args.tour else 130
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().remove_signal_handler(number)
                signal.signal(number, signal.SIG_IGN)  # The way out is not cut short.
            bed.stop_node()


async def _session(bed: "Bed", args: argparse.Namespace) -> int:
    from strongroom.app.dev.tour import explain, farewell, introduce, tour
    from strongroom.model.errors import Unavailable

    await bed.start_store()
    introduce(bed)
    if not args.store_only:
        _install_packages()
        try:
            complete = await tour(bed)
        except Unavailable as refusal:
            explain(refusal, bed)
            return 1
        if args.tour:
            return 0 if complete else INCOMPLETE
        farewell(bed)
    else:
        print("Ctrl-C ends it.", flush=True)
    await asyncio.Event().wait()
    return 0


def _install_packages() -> None:
    """Let script/dev install what a node needs; what fails is told by the node's own check."""
    setup = os.environ.get("STRONGROOM_SETUP")
    if setup and shutil.which("apt-get"):
        words = ["bash", "-c", 'cd "$(dirname "$0")/.." && source "$0" && install_system', setup]
        subprocess.run(words, check=False)
