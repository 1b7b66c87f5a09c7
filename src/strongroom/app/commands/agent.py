"""`strongroom agent`: the same as `python3 -m strongroom.deliver.agent`."""

import argparse
from pathlib import Path
from typing import Final

from strongroom.app.store_address import refused_flag

EXAMPLE: Final = """example:
  strongroom agent --config /etc/strongroom/agent.json
with agent.json:
  {"address": "https://store:8200", "ca_file": "/etc/strongroom/ca.pem",
   "auth": {"mount": "kubernetes", "role": "app", "token_file": "/var/run/strongroom/token"},
   "output": "/secrets",
   "secrets": [{"path": "secret/data/prod/db", "files": {"db-password": "password"}}]}

exit status: 0 written (--once) or told to end, 2 refused
"""


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "agent",
        help="keep files of secrets right beside an application",
        epilog=EXAMPLE,
    )
    parser.add_argument(
        "-config", "--config", type=Path, required=True, metavar="F",
        help="what to write where, as JSON",
    )  # fmt: skip
    parser.add_argument("--once", action="store_true", help="write the files and end")
    refused_flag(parser, "exit-after-auth", "--once writes the files and ends", nargs="?")
    for name in ("log-level", "log-format", "log-file"):
        refused_flag(parser, name, "the log goes to standard error as it is")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the agent in this process."""
    from strongroom.deliver.agent.config import load_config
    from strongroom.deliver.agent.loop import run as run_agent
    from strongroom.model.clock import SystemClock

    run_agent(load_config(args.config), SystemClock(), once=args.once)
    return 0
