"""KV version 1: one value for each path, replaced in place.

A secret lies in the same tree as a versioned one, as its single newest version, so that turning
the mount into version 2 changes nothing but the mount. The count of writes goes on underneath:
an older row put back by hand does not open.
API: https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v1.
"""

from collections.abc import Sequence

import orjson

from strongroom.model.errors import Invalid, Refusal
from strongroom.store.call import Call, Endpoint, Result, Write, no_reply, parse_duration
from strongroom.store.context import Context
from strongroom.store.engine.contract import (
    NO_MARK,
    About,
    EventRow,
    KvMetadata,
    KvVersionInfo,
    Transaction,
)
from strongroom.store.envelope import nothing_here
from strongroom.store.secrets.kv_listing import Listing
from strongroom.store.secrets.kv_value import encoded, secret_path
from strongroom.store.tokens import DEFAULT_TTL

FOREVER = float("inf")


class Kv1:
    """The backend of every KV v1 mount."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._listing = Listing(context)

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint(
                "{path*}",
                {
                    "read": self._read,
                    "create": self._write,
                    "update": self._write,
                    "delete": self._delete,
                    "list": self._listing.names,
                    "scan": self._listing.scan,
                },
                takes=None,
                pages=True,
            ),
        )

    def exists(self, call: Call) -> bool:
        return self._context.view.kv_exists(call.mount.uuid, call.rest)

    def _read(self, call: Call) -> Result:
        view, mount, path = self._context.view, call.mount.uuid, call.args["path"]
        row = view.kv_metadata(mount, path) if path else None
        body = view.kv_data(mount, path, row.current_version) if row else None
        if body is None:
            if row is not None and not view.kv_stands(row.mark):
                return self._read(call)  # Another process wrote between the two looks.
            raise nothing_here()
        data = orjson.loads(body)
        seconds, mark = _lease(call, data), row.mark if row else NO_MARK
        return Result(data, lease_duration=seconds, cache_until=FOREVER, cache_mark=mark)

    def _write(self, call: Call) -> Write:
        mount, path, now = call.mount.uuid, secret_path(call), self._context.clock.now()
        if not call.data:
            raise Invalid("no-data", "missing data fields")
        body = encoded(call.data)

        def write(transaction: Transaction) -> None:
            old = transaction.kv_metadata(mount, path)
            number = old.current_version + 1 if old else 1
            row = KvMetadata(
                mount=mount,
                path=path,
                created=old.created if old else now,
                updated=now,
                current_version=number,
                oldest_version=number if number > 1 else 0,
                versions=(KvVersionInfo(number, now),),
            )
            transaction.put_kv_version(row, body)
            transaction.append_event(_event(call, "write", now))

        return Write(write, no_reply, About(mount, path))

    def _delete(self, call: Call) -> Write:
        mount, path, now = call.mount.uuid, secret_path(call), self._context.clock.now()

        def write(transaction: Transaction) -> None:
            if transaction.kv_metadata(mount, path) is not None:
                transaction.delete_kv(mount, path)
                transaction.append_event(_event(call, "delete", now))

        return Write(write, no_reply)


def _lease(call: Call, data: dict[str, object]) -> int:
    """How long a reader may keep the value: its own `ttl`, or the mount's default."""
    default = int(call.mount.config.get("default_lease_ttl") or DEFAULT_TTL)
    given = data.get("ttl", data.get("lease"))
    try:
        return default if given in (None, "") else int(parse_duration(given))
    except Refusal:
        return default


def _event(call: Call, operation: str, now: float) -> EventRow:
    path = f"{call.mount.path}{call.args['path']}"
    return EventRow(0, now, path, f"v1-{operation}", 0, call.mount.path)
