"""`sys/locked-users`: who is locked after failed logins, and letting them in again.

API: https://developer.hashicorp.com/vault/api-docs/system/user-lockout.
"""

from collections.abc import Sequence

from strongroom.model.errors import Invalid
from strongroom.store.auth.lockout import is_locked
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.context import Context
from strongroom.store.engine.contract import MountRow, Transaction
from strongroom.store.parameters import fields


class LockedUsers:
    """List and unlock."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint("locked-users", {"read": self._list}, takes=fields(text="mount_accessor")),
            Endpoint(
                "locked-users/{mount_accessor}/unlock/{alias_identifier}", {"update": self._unlock}
            ),
        )

    def _mounts(self) -> dict[str, MountRow]:
        return {row.uuid: row for row in self._context.view.mounts() if row.kind == "auth"}

    def _list(self, call: Call) -> Result:
        now, mounts = self._context.clock.now(), self._mounts()
        wanted = call.text("mount_accessor")
        found: dict[str, list[str]] = {}
        rows = self._context.view.failed_logins()
        for row in rows:
            mount = mounts.get(row.mount)
            if mount and is_locked(row, now) and wanted in ("", mount.accessor):
                found.setdefault(mount.accessor, []).append(row.name)
        total = sum(map(len, found.values()))
        accessors = [
            {"mount_accessor": accessor, "counts": len(names), "alias_identifiers": names}
            for accessor, names in sorted(found.items())
        ]
        root = {
            "namespace_id": "root",
            "namespace_path": "",
            "counts": total,
            "mount_accessors": accessors,
        }
        warnings = self._context.left_out(rows)
        return Result({"by_namespace": [root] if total else [], "total": total}, warnings=warnings)

    async def _unlock(self, call: Call) -> None:
        accessor, name = call.args["mount_accessor"], call.args["alias_identifier"]
        mount = next((each for each in self._mounts().values() if each.accessor == accessor), None)
        if mount is None:
            raise Invalid("no-accessor", f"mount accessor {accessor} does not exist")

        def write(transaction: Transaction) -> None:
            for each in {name, name.lower()}:
                transaction.delete_failed_login(mount.uuid, each)

        await self._context.engine.transact(write)
