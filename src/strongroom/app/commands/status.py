"""`strongroom status`: sealed or not. Exit status 0 unsealed, 2 sealed, 1 when it is not known."""

import argparse
import sys
from typing import TYPE_CHECKING, Final

from strongroom.app.client.flags import verb
from strongroom.app.client.hints import hint_of
from strongroom.app.client.output import error_text
from strongroom.app.operator_verbs import print_fields, status_rows
from strongroom.model.errors import Refusal

if TYPE_CHECKING:
    from strongroom.app.client.session import Session

# What of sys/leader is shown where it says something, as by Vault's command line.
OF_LEADER: Final = ("is_self", "leader_address", "leader_cluster_address")
EXAMPLES = """strongroom status
  strongroom status -format=json
  strongroom status -field=sealed

exit status:
  0  unsealed
  1  the server could not be asked
  2  sealed, or not initialised"""


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    verb(commands, "status", "whether the store is sealed", _status, EXAMPLES)


async def _status(session: "Session", args: argparse.Namespace) -> int:
    from strongroom.app.client.session import ApiError

    try:
        status = (await session.ask("GET", "sys/seal-status")).body
        leader = (await session.ask("GET", "sys/leader")).body
        status["ha_enabled"] = leader.get("ha_enabled", False)
        status["active_time"] = leader.get("active_time", "")
        status.update({name: leader[name] for name in OF_LEADER if leader.get(name)})
        rows, closed = status_rows(status), status["sealed"]
    except (Refusal, ApiError) as refusal:
        said = refusal.text if isinstance(refusal, ApiError) else refusal.message
        print(error_text(f"Error checking seal status: {said}"), file=sys.stderr)
        if isinstance(refusal, Refusal) and (hint := hint_of(refusal)):
            print(f"hint: {hint}", file=sys.stderr)
        return 1
    print_fields(args, status, rows)
    return 2 if closed else 0
