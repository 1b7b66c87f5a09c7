"""`sys/rotate`, `sys/rotate/config`, `sys/key-status`: the terms of the barrier's key ring.

A new term seals from the next write on, in every process. Rows under older terms are brought
under it in the background; `sys/rotate/status`, Strongroom's own, says when that is done.
API: https://developer.hashicorp.com/vault/api-docs/system/rotate.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from strongroom.model.clock import rfc3339
from strongroom.model.errors import Invalid
from strongroom.store.call import Call, Endpoint, Result, go_duration
from strongroom.store.context import Context
from strongroom.store.engine.contract import Transaction, View
from strongroom.store.parameters import fields
from strongroom.store.seal.cluster import ClusterSeal
from strongroom.store.seal.stored import cluster_of

DOCUMENT: Final = ("seal", "rotation", "config")
# AES-GCM with random nonces: 0.9 of 2^32 messages under one key (NIST SP 800-38D, 8.3).
MOST_OPERATIONS: Final = 3_865_470_566
LEAST_OPERATIONS: Final = 1_000_000
LEAST_INTERVAL_SECONDS: Final = 86_400
DEFAULTS: Final[dict[str, Any]] = {
    "enabled": True,
    "interval": 0,
    "max_operations": MOST_OPERATIONS,
}


def rotate(transaction: Transaction, seal: ClusterSeal, now: float) -> int:
    """Give the key ring one more term; returns it."""
    row = cluster_of(transaction)
    ring = seal.ring_of(row).rotated(now)
    seal.put_ring(transaction, ring)
    transaction.begin_reseal(ring.current_term, now)
    return ring.current_term


def settings(view: View) -> dict[str, Any]:
    """When the ring is rotated by itself."""
    return {**DEFAULTS, **(view.document(*DOCUMENT) or {})}


def rotate_when_due(transaction: Transaction, seal: ClusterSeal, now: float) -> bool:
    """The chore of automatic rotation: by age or by use of the newest term."""
    config, row = settings(transaction), transaction.cluster()
    if row is None or not config["enabled"]:
        return False
    ring = seal.ring_of(row)
    used = transaction.seals_counted(ring.current_term)
    age = now - ring.installed[ring.current_term]
    if used >= config["max_operations"] or 0 < config["interval"] <= age:
        rotate(transaction, seal, now)
    return False


class KeyRotation:
    """The endpoints. `uncounted` is how much this process has sealed and not yet told."""

    def __init__(self, context: Context, uncounted: Callable[[], int]) -> None:
        self._context = context
        self._uncounted = uncounted

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint("rotate", {"update": self._rotate}, sudo=True),
            # OpenBao's name for it.
            Endpoint("rotate/keyring", {"update": self._rotate}, sudo=True),
            Endpoint(
                "rotate/config",
                {"read": self._config, "update": self._write_config},
                takes=fields(flag="enabled", number="max_operations", seconds="interval"),
            ),
            Endpoint("rotate/status", {"read": self._status}),
            Endpoint("key-status", {"read": self._key_status}),
        )

    async def _rotate(self, call: Call) -> None:  # noqa: ARG002 - the handler's shape
        seal, now = self._context.seal, self._context.clock.now()
        await self._context.engine.transact(lambda each: rotate(each, seal, now))
        self._context.view.refresh_keys()

    def _config(self, call: Call) -> Result:  # noqa: ARG002
        found = settings(self._context.view)
        interval = go_duration(found["interval"]) if found["interval"] else 0
        return Result({**found, "interval": interval}, top_level=True)

    async def _write_config(self, call: Call) -> None:
        def write(transaction: Transaction) -> None:
            transaction.put_document(*DOCUMENT, _chosen(call, settings(transaction)))

        await self._context.engine.transact(write)

    def _key_status(self, call: Call) -> Result:  # noqa: ARG002
        view = self._context.view
        row = cluster_of(view)
        ring = self._context.seal.ring_of(row)
        term = ring.current_term
        data = {
            "term": term,
            "install_time": rfc3339(ring.installed[term]),
            # The other processes tell theirs every minute.
            "encryptions": view.seals_counted(term) + self._uncounted(),
        }
        return Result(data, top_level=True)

    def _status(self, call: Call) -> Result:  # noqa: ARG002
        row = self._context.view.reseal()
        if row is None:
            return Result(
                {
                    "done": True,
                    "term": 1,
                    "rows": 0,
                    "resealed": 0,
                    "damaged": [],
                    "damaged_rows": 0,
                }
            )
        return Result(
            {
                "done": row.finished is not None,
                "term": row.term,
                "started": rfc3339(row.started),
                "finished": rfc3339(row.finished) if row.finished is not None else None,
                "table": row.table,
                "rows": row.rows,
                "resealed": row.resealed,
                "damaged": list(row.damaged),
                "damaged_rows": row.damaged_rows,
            }
        )


def _chosen(call: Call, found: dict[str, Any]) -> dict[str, Any]:
    """The settings with what the call changes of them; raises Invalid(`bad-parameter`)."""
    most = call.integer("max_operations", found["max_operations"])
    interval = call.seconds("interval", found["interval"])
    if not LEAST_OPERATIONS <= most <= MOST_OPERATIONS:
        raise Invalid(
            "bad-parameter",
            f"max_operations must be from {LEAST_OPERATIONS} to {MOST_OPERATIONS}",
        )
    if interval and interval < LEAST_INTERVAL_SECONDS:
        raise Invalid("bad-parameter", "interval must be at least 24h, or 0")
    enabled = call.flag("enabled", default=found["enabled"])
    return {"enabled": enabled, "interval": interval, "max_operations": most}
