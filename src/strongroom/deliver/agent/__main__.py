"""`python3 -m strongroom.deliver.agent --config FILE`."""

import argparse
import sys
from pathlib import Path

from strongroom.deliver.agent.config import load_config
from strongroom.deliver.agent.loop import run
from strongroom.model.clock import SystemClock
from strongroom.model.errors import Refusal


def main() -> int:
    """Run until SIGTERM; with --once until the files are there."""
    parser = argparse.ArgumentParser(
        prog="strongroom agent",
        description="Keep files of secrets right beside an application.",
        epilog="example:\n  python3 -m strongroom.deliver.agent --config agent.json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, required=True, metavar="F")
    parser.add_argument(
        "--once", action="store_true", help="write the files and end (init container)"
    )
    args = parser.parse_args()
    try:
        run(load_config(args.config), SystemClock(), once=args.once)
    except Refusal as refusal:
        sys.stderr.write(f"error: {refusal}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
