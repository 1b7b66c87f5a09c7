"""`sys/ha-status` and `sys/step-down`: what clients ask of a cluster whose nodes take turns.

Here every open node is active and answers for itself: nodes keep no list of each other.
API: https://developer.hashicorp.com/vault/api-docs/system/ha-status and its neighbour step-down.
"""

from collections.abc import Callable, Sequence
from typing import Final

from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.system.status import About

ALONE: Final = (
    "every open node is active, and each answers for itself: the one that was asked is listed"
)


class Nodes:
    """The endpoints; `host_name` says what this machine is called."""

    def __init__(self, about: About, host_name: Callable[[], str]) -> None:
        self._about = about
        self._host_name = host_name

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint("ha-status", {"read": self._status}),
            Endpoint("step-down", {"update": self._step_down}, sudo=True),
        )

    def _status(self, call: Call) -> Result:  # noqa: ARG002 - the shape of a handler
        about = self._about
        node = {
            "hostname": self._host_name(),
            "api_address": about.address,
            "cluster_address": about.cluster_address,
            "active_node": True,
            # When an active node last heard of it: of itself it hears nothing.
            "last_echo": None,
            "version": about.api_version,
            "upgrade_version": about.api_version,
            "redundancy_zone": "",
            "strongroom_version": about.program_version,
        }
        return Result({"nodes": [node]}, warnings=(ALONE,), top_level=True)

    def _step_down(self, call: Call) -> None:
        """Nothing to give up: whoever asks for another active node has them all already."""
