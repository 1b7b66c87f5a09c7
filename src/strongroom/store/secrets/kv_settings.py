"""`config` of a KV v2 mount: what holds for every secret of it.

API: https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2#configure-the-kv-engine.
"""

from collections.abc import Sequence
from typing import Final

from strongroom.store.call import Call, Endpoint, Result, parse_seconds
from strongroom.store.context import Context
from strongroom.store.engine.contract import Transaction, View
from strongroom.store.parameters import fields
from strongroom.store.secrets.kv_value import positive
from strongroom.store.secrets.kv_versions import KvSettings

CONFIG: Final = "config"


def settings_of(view: View, mount: str) -> KvSettings:
    """The settings of a mount."""
    return KvSettings(**(view.document(mount, CONFIG, "") or {}))


class Settings:
    """The endpoint."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint(
                "config",
                {"read": self._read, "update": self._write},
                takes=fields(
                    number="max_versions", flag="cas_required", seconds="delete_version_after"
                ),
            ),
        )

    def _read(self, call: Call) -> Result:
        return Result(settings_of(self._context.view, call.mount.uuid).as_data())

    async def _write(self, call: Call) -> None:
        mount = call.mount.uuid

        def write(transaction: Transaction) -> None:
            old = settings_of(transaction, mount)
            after = parse_seconds(
                call.data.get("delete_version_after"),
                "delete_version_after",
                old.delete_version_after,
            )
            body = {
                "max_versions": positive(call.integer("max_versions", old.max_versions)),
                "cas_required": call.flag("cas_required", default=old.cas_required),
                "delete_version_after": max(after, -1),
            }
            transaction.put_document(mount, CONFIG, "", body)

        await self._context.engine.transact(write)
