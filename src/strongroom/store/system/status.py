"""`sys/` paths about the server itself: health, seal-status, init, leader.

API: https://developer.hashicorp.com/vault/api-docs/system/health.
"""

from collections.abc import Sequence
from typing import Any, Final

import orjson

from strongroom.model.errors import Invalid
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.context import Context

# What clients gate features on; the program's own version stands beside it.
API_VERSION: Final = "1.16.0"


class Status:
    """Endpoints that answer anybody and are not recorded, as in Vault."""

    def __init__(self, context: Context, program_version: str) -> None:
        self._context = context
        self._version = program_version

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint("health", {"read": self._health}, public=True),
            Endpoint("seal-status", {"read": self._seal_status}, public=True),
            Endpoint("init", {"read": self._initialised, "update": self._init}, public=True),
            Endpoint("leader", {"read": self._leader}, public=True),
        )

    def _health(self, call: Call) -> Result:
        cluster = self._context.view.cluster()
        body = {
            "initialized": True,
            "sealed": False,
            "standby": False,
            "performance_standby": False,
            "replication_performance_mode": "disabled",
            "replication_dr_mode": "disabled",
            "server_time_utc": int(self._context.clock.now()),
            "version": API_VERSION,
            "strongroom_version": self._version,
            "cluster_name": cluster.cluster_name if cluster else "",
            "cluster_id": cluster.cluster_id if cluster else "",
        }
        return Result(raw=orjson.dumps(body) + b"\n", status=call.integer("activecode", 200))

    def _seal_status(self, call: Call) -> Result:  # noqa: ARG002
        cluster = self._context.view.cluster()
        body: dict[str, Any] = {
            "type": cluster.seal_type if cluster else "",
            "initialized": True,
            "sealed": False,
            "t": 1,
            "n": 1,
            "progress": 0,
            "nonce": "",
            "version": API_VERSION,
            "build_date": "",
            "migration": False,
            "cluster_name": cluster.cluster_name if cluster else "",
            "cluster_id": cluster.cluster_id if cluster else "",
            "recovery_seal": True,
            "storage_type": "sqlite",
        }
        return Result(raw=orjson.dumps(body) + b"\n")

    def _initialised(self, call: Call) -> Result:  # noqa: ARG002
        return Result(raw=b'{"initialized":true}\n')

    def _init(self, call: Call) -> Result:  # noqa: ARG002
        raise Invalid(
            "already-initialised",
            "Vault is already initialized",
            hint="the server initialises itself at its first start",
        )

    def _leader(self, call: Call) -> Result:  # noqa: ARG002
        body = {
            "ha_enabled": False,
            "is_self": True,
            "active_time": "0001-01-01T00:00:00Z",
            "leader_address": "",
            "leader_cluster_address": "",
            "performance_standby": False,
        }
        return Result(raw=orjson.dumps(body) + b"\n")
