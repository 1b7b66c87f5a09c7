"""`sys/ha-status` and `sys/step-down`: what clients ask of a cluster whose nodes take turns.

Here every open node is active; nodes on one PostgreSQL say that they are there (`presence`).
API: https://developer.hashicorp.com/vault/api-docs/system/ha-status and its neighbour step-down.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from strongroom.model.clock import rfc3339
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.context import Context
from strongroom.store.engine.upkeep_contract import ServerRow
from strongroom.store.presence import others, server
from strongroom.store.system.status import About

EVERY: Final = (
    "every open node is active; others than the one that was asked are listed until two minutes"
    " after they were last heard of"
)


class Nodes:
    """The endpoints; `host_name` says what this machine is called."""

    def __init__(self, context: Context, about: About, host_name: Callable[[], str]) -> None:
        self._context = context
        self._about = about
        self._host_name = host_name

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint("ha-status", {"read": self._status}),
            Endpoint("step-down", {"update": self._step_down}, sudo=True),
        )

    def _status(self, call: Call) -> Result:  # noqa: ARG002 - the shape of a handler
        me = server(self._about, self._host_name(), self._context.clock.now())
        beside = others(self._context.view.servers(), me)
        # When an active node last heard of it: of itself it hears nothing.
        nodes = [_shown(me, None), *(_shown(each, rfc3339(each.seen)) for each in beside)]
        return Result({"nodes": nodes}, warnings=(EVERY,), top_level=True)

    def _step_down(self, call: Call) -> None:
        """Nothing to give up: whoever asks for another active node has them all already."""


def _shown(row: ServerRow, heard: str | None) -> dict[str, Any]:
    return {
        "hostname": row.host_name,
        "api_address": row.address,
        "cluster_address": row.cluster_address,
        "active_node": True,
        "last_echo": heard,
        "version": row.version,
        "upgrade_version": row.version,
        "redundancy_zone": "",
        "strongroom_version": row.program_version,
    }
