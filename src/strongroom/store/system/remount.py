"""`sys/remount`: a mount under another path, with everything in it.

Leases and tokens of the old path are revoked, and its quotas go along, as in Vault; the move
itself is one transaction, so the migration that is answered is over. API:
https://developer.hashicorp.com/vault/api-docs/system/remount.
"""

import uuid
from collections.abc import Callable, Iterable, Sequence

from strongroom.model.errors import Conflict, Invalid
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.context import Context
from strongroom.store.engine.contract import DamagedMount, MountRow, Transaction
from strongroom.store.envelope import present
from strongroom.store.leasing import Leases
from strongroom.store.normalise import canonical_segments
from strongroom.store.parameters import fields
from strongroom.store.quotas import move_quotas
from strongroom.store.routing import full_path
from strongroom.store.system.mounts import RESERVED, clash, taken_places

MOUNT, KIND = "system", "remount"


class Remount:
    """Both endpoints."""

    def __init__(
        self, context: Context, leases: Leases, new_id: Callable[[], uuid.UUID] = uuid.uuid4
    ) -> None:
        self._context = context
        self._leases = leases
        self._new_id = new_id

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint("remount", {"update": self._remount}, sudo=True, takes=fields(text="from to")),
            Endpoint("remount/status/{id}", {"read": self._status}),
        )

    async def _remount(self, call: Call) -> Result:
        source, target = (_path(call.text(name), name) for name in ("from", "to"))
        view = self._context.view
        row = self._found(view.mounts(), source)
        if target.startswith("auth/") != (row.kind == "auth"):
            raise Invalid("other-kind", "cannot move an auth mount to a secret mount or back")
        # A move that cannot be made takes back nothing that was handed out.
        _free(taken_places(view), row, target)
        await self._leases.revoke_mount(row)
        migration = str(self._new_id())
        document = {
            "migration_id": migration,
            "migration_info": {
                "source_mount": source, "target_mount": target, "status": "success",
            },
        }  # fmt: skip

        def write(transaction: Transaction) -> None:
            current = self._found(transaction.mounts(), source)
            path = _free(taken_places(transaction), current, target)
            if transaction.lease_ids(source, limit=1):
                raise Conflict("new-leases", "leases were made meanwhile; try again")
            if current.kind == "auth":
                transaction.revoke_tokens(source)
            transaction.move_mount(current, path)
            move_quotas(transaction, source, target)
            transaction.put_document(MOUNT, KIND, migration, document)

        await self._context.engine.transact(write)
        return Result({"migration_id": migration}, top_level=True)

    @staticmethod
    def _found(mounts: Sequence[MountRow], path: str) -> MountRow:
        for row in mounts:
            if full_path(row) == path:
                return row
        raise Invalid("no-mount", f"no matching mount at {path!r}")

    def _status(self, call: Call) -> Result:
        document = present(self._context.view.document(MOUNT, KIND, call.args["id"]))
        return Result(document)


def _free(taken: Iterable[MountRow | DamagedMount], current: MountRow, target: str) -> str:
    """The path under its kind that a mount is to have; raises Conflict(`path-in-use`)."""
    path = target.removeprefix("auth/") if current.kind == "auth" else target
    if path == current.path:
        raise Conflict("path-in-use", f"path is already in use at {path}")
    found = clash((each for each in taken if each != current), current.kind, path)
    if found:
        raise Conflict("path-in-use", f"path is already in use at {found}")
    return path


def _path(text: str, name: str) -> str:
    if text != text.strip():
        raise Invalid("bad-path", f"'{name}' begins or ends with a space")
    path = canonical_segments(text).rstrip("/")
    if not path:
        raise Invalid("no-path", f"'{name}' must be specified")
    if f"{path}/".startswith(tuple(each for each in RESERVED if each != "auth/")) or path in (
        "auth",
        "auth/token",
    ):
        raise Invalid("reserved", f"cannot remount {path!r}")
    return f"{path}/"
