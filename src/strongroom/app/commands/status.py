"""`strongroom status`: sealed or not. Exit status 0 unsealed, 2 sealed, 1 when it is not known."""

import argparse
import asyncio
import sys
from typing import Any, Final

from strongroom.app.store_address import add_store_arguments, open_store
from strongroom.model.errors import Refusal

EXAMPLE: Final = """exit status:
  0  unsealed
  1  the server could not be asked
  2  sealed, or not initialised

example:
  strongroom status -format=json
"""


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "status",
        help="whether the store is sealed",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_store_arguments(parser)
    parser.add_argument("-format", "--format", choices=("table", "json"), default="table")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Ask and print."""
    from strongroom.app.operator_verbs import print_status

    try:
        status = asyncio.run(_asked(args))
    except Refusal as refusal:
        print(f"Error checking seal status: {refusal.message}", file=sys.stderr)
        return 1
    print_status(status, args.format)
    return 2 if status["sealed"] else 0


async def _asked(args: argparse.Namespace) -> dict[str, Any]:
    async with open_store(args, token_needed=False) as client:
        status = await client.request("GET", "sys/seal-status")
        leader = await client.request("GET", "sys/leader")
        return {
            **status,
            "ha_enabled": leader["ha_enabled"],
            "active_time": leader["active_time"],
        }
