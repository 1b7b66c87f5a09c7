"""`sys/quotas/`: rate limits, lease counts, and what holds for both.

API: https://developer.hashicorp.com/vault/api-docs/system/rate-limit-quotas and
https://developer.hashicorp.com/vault/api-docs/system/lease-count-quotas.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from strongroom.model.errors import Invalid
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.context import Context
from strongroom.store.engine.contract import Transaction
from strongroom.store.envelope import nothing_here
from strongroom.store.normalise import canonical_segments
from strongroom.store.parameters import fields
from strongroom.store.quotas import (
    CONFIG,
    EXEMPT,
    LEASES,
    MOUNT,
    RATE,
    LeaseCount,
    RateLimit,
    leases_under,
)
from strongroom.store.routing import full_path

RATE_FIELDS = fields(number="rate", seconds="interval block_interval", text="path role type")
COUNT_FIELDS = fields(number="max_leases", text="path role type")
MOST_RATE = 1_000_000_000
SETTINGS: Mapping[str, Any] = {
    "enable_rate_limit_audit_logging": False,
    "enable_rate_limit_response_headers": False,
    "rate_limit_exempt_paths": list(EXEMPT),
}


class QuotaEndpoints:
    """The endpoints."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        found = [
            Endpoint(
                "quotas/config",
                {"read": self._read_config, "update": self._write_config},
                takes=fields(
                    texts="rate_limit_exempt_paths",
                    flag="enable_rate_limit_response_headers enable_rate_limit_audit_logging",
                ),
            )
        ]
        for word, kind, write, shown, takes in (
            ("rate-limit", RATE, self._write_rate, _shown_rate, RATE_FIELDS),
            ("lease-count", LEASES, self._write_count, self._shown_count, COUNT_FIELDS),
        ):
            found += [
                Endpoint(f"quotas/{word}", {"list": self._list(kind)}),
                Endpoint(
                    f"quotas/{word}/{{name}}",
                    {
                        "read": self._read(kind, shown),
                        "update": write,
                        "delete": self._delete(kind),
                    },
                    takes=takes,
                ),
            ]
        return tuple(found)

    # settings

    def _read_config(self, call: Call) -> Result:  # noqa: ARG002 - the shape of a handler
        return Result({**SETTINGS, **(self._context.view.document(MOUNT, CONFIG, "") or {})})

    async def _write_config(self, call: Call) -> None:
        document: dict[str, Any] = {}
        if "rate_limit_exempt_paths" in call.data:
            document["rate_limit_exempt_paths"] = list(call.texts("rate_limit_exempt_paths"))
        for name in ("enable_rate_limit_response_headers", "enable_rate_limit_audit_logging"):
            if name in call.data:
                document[name] = call.flag(name)

        def write(transaction: Transaction) -> None:
            old = transaction.document(MOUNT, CONFIG, "") or {}
            transaction.put_document(MOUNT, CONFIG, "", {**old, **document})
            transaction.move_generation()

        await self._context.engine.transact(write)

    # quotas

    def _list(self, kind: str) -> Callable[[Call], Result]:
        def handler(call: Call) -> Result:  # noqa: ARG001 - the shape of a handler
            names = list(self._context.view.document_names(MOUNT, kind))
            if not names:
                raise nothing_here()
            return Result({"keys": names})

        return handler

    def _read(
        self, kind: str, shown: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> Callable[[Call], Result]:
        def handler(call: Call) -> Result:
            document = self._context.view.document(MOUNT, kind, call.args["name"])
            if document is None:
                raise nothing_here()
            return Result(shown(document))

        return handler

    def _delete(self, kind: str) -> Callable[[Call], Any]:
        async def handler(call: Call) -> None:
            def write(transaction: Transaction) -> None:
                transaction.delete_document(MOUNT, kind, call.args["name"])
                transaction.move_generation()

            await self._context.engine.transact(write)

        return handler

    async def _write_rate(self, call: Call) -> None:
        limit = RateLimit(
            name=call.args["name"],
            path=self._path(call),
            rate=_rate(call.data.get("rate")),
            interval=float(call.seconds("interval", 1)),
            block=float(call.seconds("block_interval")),
            role=call.text("role"),
        )
        if limit.interval < 1 or limit.block < 0:
            raise Invalid("bad-parameter", "interval is at least a second, block_interval none")
        if limit.role and (limit.path == "auth/token/" or not _is_auth_mount(limit.path)):
            # Roles are those of logins: another quota would never count anything.
            raise Invalid("bad-parameter", "a role needs the path of an auth mount with roles")
        await self._put(RATE, limit.name, asdict(limit))

    async def _write_count(self, call: Call) -> None:
        most = call.integer("max_leases")
        if most < 1:
            raise Invalid("bad-parameter", "'max_leases' must be greater than zero")
        quota = LeaseCount(call.args["name"], self._path(call), most)
        await self._put(LEASES, quota.name, asdict(quota))

    async def _put(self, kind: str, name: str, document: dict[str, Any]) -> None:
        def write(transaction: Transaction) -> None:
            for other in transaction.document_names(MOUNT, kind):
                found = transaction.document(MOUNT, kind, other) or {}
                same = all(found.get(key) == document.get(key) for key in ("path", "role"))
                if other != name and same:
                    raise Invalid("quota-exists", f"the quota {other!r} has this path already")
            transaction.put_document(MOUNT, kind, name, document)
            transaction.move_generation()

        await self._context.engine.transact(write)

    def _path(self, call: Call) -> str:
        path = canonical_segments(call.text("path"))
        mounts = [full_path(row) for row in self._context.view.mounts()]
        if f"{path}/" in mounts:
            return f"{path}/"
        if path and not any(path.startswith(mount) for mount in mounts):
            raise Invalid("no-mount", "invalid mount path: nothing is mounted there")
        return path

    def _shown_count(self, document: dict[str, Any]) -> dict[str, Any]:
        quota = LeaseCount(**document)
        return {
            "name": quota.name,
            "path": quota.path,
            "type": "lease-count",
            "max_leases": quota.most,
            "counter": leases_under(self._context.view, quota),
            "role": "",
        }


def _is_auth_mount(path: str) -> bool:
    """If this is a whole auth mount, as `_path` spells one, and no path within it."""
    return path.startswith("auth/") and path.endswith("/")


def _shown_rate(document: dict[str, Any]) -> dict[str, Any]:
    limit = RateLimit(**document)
    return {
        "name": limit.name,
        "path": limit.path,
        "type": "rate-limit",
        "rate": _whole(limit.rate),
        "interval": int(limit.interval),
        "block_interval": int(limit.block),
        "role": limit.role,
    }


def _whole(value: float) -> float:
    return int(value) if value == int(value) else value


def _rate(value: Any) -> float:  # noqa: ANN401 - JSON
    try:
        rate = float(value)
    except (TypeError, ValueError):
        rate = 0.0
    if isinstance(value, bool) or not 0 < rate < float("inf"):
        raise Invalid("bad-parameter", "'rate' must be a number greater than zero")
    if rate > MOST_RATE:
        raise Invalid("bad-parameter", f"'rate' is at most {MOST_RATE:,}")
    if rate < 1:
        raise Invalid("bad-parameter", "'rate' is at least 1; make the interval longer instead")
    return rate
