"""Copy and move inside a KV v2 mount: the value never leaves the store. Beyond Vault.

`copy/:path` writes a version of the secret as the next version of `destination`; `move/:path`
gives the secret with all its versions another name. Besides the capability on `copy/` or `move/`
the caller needs what the same thing by hand would need, and check-and-set works as it does there.
"""

from collections.abc import Sequence
from typing import Any, Final

import orjson
from msgspec.structs import replace

from strongroom.model.errors import Denied, Invalid
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.context import Context
from strongroom.store.engine.contract import EventRow, KvMetadata, Transaction
from strongroom.store.envelope import nothing_here, present
from strongroom.store.normalise import canonical_segments
from strongroom.store.parameters import fields
from strongroom.store.secrets.kv_settings import settings_of
from strongroom.store.secrets.kv_value import checked_path, positive, secret_path
from strongroom.store.secrets.kv_versions import (
    check_cas,
    is_deleted,
    version_data,
    with_new_version,
)

# Which of the two was missing would say whether the destination is there.
_WRITE: Final = "create, or update if it is there,"


class Copying:
    """Both endpoints."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint(
                "copy/{path*}",
                {"update": self._copy},
                takes=fields(text="destination", number="version", object="options"),
            ),
            Endpoint(
                "move/{path*}",
                {"update": self._move},
                takes=fields(text="destination", object="options"),
            ),
        )

    async def _copy(self, call: Call) -> Result:
        mount, source, now = call.mount.uuid, secret_path(call), self._context.clock.now()
        target, wanted = _destination(call, source), positive(call.integer("version"))
        self._require_read(call, source, {"version": str(wanted)} if wanted else {})
        self._require_write(call, target, there=self._context.view.kv_exists(mount, target))

        def write(transaction: Transaction) -> KvMetadata:
            row = transaction.kv_metadata(mount, source)
            info = row.info(wanted or row.current_version) if row else None
            if row is None or info is None or info.destroyed or is_deleted(info, now):
                raise nothing_here()
            body = transaction.kv_data(mount, source, info.version)
            settings, old = settings_of(transaction, mount), transaction.kv_metadata(mount, target)
            # It may have come or gone since.
            self._require_write(call, target, _given(call, body), there=old is not None)
            check_cas(old, settings, call.data.get("options"))
            fresh = KvMetadata(mount, target, created=now, updated=now, custom=row.custom)
            made = with_new_version(old or fresh, settings, now)
            transaction.put_kv_version(made, body or b"{}")
            transaction.append_event(_event(call, target, "write", made.current_version, now))
            return made

        made = await self._context.engine.transact(write)
        return Result(version_data(made.versions[-1], made.custom))

    async def _move(self, call: Call) -> Result:
        mount, source, now = call.mount.uuid, secret_path(call), self._context.clock.now()
        target = _destination(call, source)
        self._require_read(call, source, {})
        self._require(call, f"metadata/{source}", "delete")
        self._require(call, f"data/{target}", "create")

        def write(transaction: Transaction) -> KvMetadata:
            row = present(transaction.kv_metadata(mount, source))
            if transaction.kv_metadata(mount, target) is not None:
                raise Invalid(
                    "destination-exists",
                    "there is a secret at the destination",
                    hint="delete its metadata first, or copy onto it",
                )
            check_cas(row, settings_of(transaction, mount), call.data.get("options"))
            bodies = {
                info.version: transaction.kv_data(mount, source, info.version)
                for info in row.versions
            }
            for version, body in bodies.items():
                self._require_read(call, source, {"version": str(version)})
                self._require(call, f"data/{target}", "create", given=_given(call, body))
            moved = replace(row, path=target, updated=now)
            transaction.put_kv_metadata(moved)
            for version, body in bodies.items():
                if body is not None:
                    transaction.put_kv_data(mount, target, version, body)
            transaction.delete_kv(mount, source)
            transaction.append_event(_event(call, source, "metadata-delete", 0, now))
            transaction.append_event(_event(call, target, "write", row.current_version, now))
            return moved

        moved = await self._context.engine.transact(write)
        return Result({"destination": target, "current_version": moved.current_version})

    def _require_read(self, call: Call, source: str, given: dict[str, Any]) -> None:
        """Also that it may be read as it is: a copy of what has to be wrapped is not."""
        path = f"data/{source}"
        if not call.caller.decide(call.mount.path + path, "read", given, wrap_seconds=0).allowed:
            raise _denied(call, path, "read")

    def _require_write(
        self, call: Call, target: str, given: dict[str, Any] | None = None, *, there: bool
    ) -> None:
        self._require(call, f"data/{target}", "update" if there else "create", _WRITE, given)

    @staticmethod
    def _require(
        call: Call,
        path: str,
        capability: str,
        named: str = "",
        given: dict[str, Any] | None = None,
    ) -> None:
        if not call.caller.decide(call.mount.path + path, capability, given).allowed:
            raise _denied(call, path, named or capability)


def _given(call: Call, body: bytes | None) -> dict[str, Any]:
    """What whoever wrote a version by hand would send."""
    given, options = {"data": orjson.loads(body or b"{}")}, call.data.get("options")
    return {**given, "options": options} if options else given


def _denied(call: Call, path: str, capability: str) -> Denied:
    """Names the second path: the rule for the one that was asked for allowed the call."""
    needed = f"this needs {capability} on {call.mount.path}{path} too"
    return Denied("not-allowed", "permission denied", hint=needed)


def _destination(call: Call, source: str) -> str:
    target = checked_path(canonical_segments(call.text("destination")).strip("/"))
    if target == source:
        raise Invalid("same-path", "source and destination are the same")
    return target


def _event(call: Call, path: str, operation: str, version: int, now: float) -> EventRow:
    kind = "metadata" if operation.startswith("metadata") else "data"
    return EventRow(0, now, f"{call.mount.path}{kind}/{path}", operation, version, call.mount.path)
