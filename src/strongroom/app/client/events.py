"""`strongroom events subscribe`: what changes in the store, one JSON object a line."""

import argparse
import sys
from typing import TYPE_CHECKING, Any

from strongroom.app.client.flags import group, verb
from strongroom.app.parser import flag
from strongroom.app.store_address import refused_flag

if TYPE_CHECKING:
    from strongroom.app.client.session import Session


def register(commands: Any) -> None:  # noqa: ANN401
    """Add the command and its verb."""
    verbs = group(commands, "events", "what changes in the store, as it happens",
                  "strongroom events subscribe 'kv*'")  # fmt: skip
    parser = verb(verbs, "subscribe", "print changes, one JSON object a line, until interrupted",
                  _subscribe, "strongroom events subscribe 'kv*'\n"
                  "  strongroom events subscribe -count=1 kv-v2/data-write")  # fmt: skip
    parser.add_argument("type", metavar="TYPE", help="such as kv-v2/data-write; * stands for any")
    flag(parser, "count", type=int, default=0, metavar="N", help="end after N changes")
    refused_flag(parser, "filter", "changes are chosen by their type; filter the lines by jq")
    refused_flag(parser, "namespaces", "there are no namespaces")


async def _subscribe(session: "Session", args: argparse.Namespace) -> int:
    seen = 0
    async for text in session.messages(f"sys/events/subscribe/{args.type}"):
        sys.stdout.write(text.rstrip("\n") + "\n")
        sys.stdout.flush()
        seen += 1
        if seen == args.count:
            break
    return 0
