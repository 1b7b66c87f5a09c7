"""KV version 2: versioned secrets with check-and-set, deletion in two steps, and metadata.

API: https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import orjson

from strongroom.model.errors import Invalid, NotFound
from strongroom.store.call import Call, Endpoint, Result, parse_seconds
from strongroom.store.context import Context
from strongroom.store.engine.contract import EventRow, KvMetadata, Transaction
from strongroom.store.envelope import nothing_here
from strongroom.store.secrets.kv_versions import (
    KvSettings,
    check_cas,
    is_deleted,
    leaves_hidden,
    merge_patch,
    metadata_data,
    version_data,
    with_deleted,
    with_destroyed,
    with_new_version,
    with_settings,
    with_undeleted,
)

CONFIG: Final = "config"
MAX_PATH_CHARACTERS: Final = 1024
MAX_VALUE_BYTES: Final = 1024 * 1024
FOREVER: Final = float("inf")

Change = Callable[[KvMetadata, list[int], float], KvMetadata]


class Kv2:
    """The backend of every KV v2 mount."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint(
                "data/{path*}",
                {
                    "read": self._read,
                    "create": self._write,
                    "update": self._write,
                    "patch": self._patch,
                    "delete": self._delete_newest,
                },
            ),
            Endpoint(
                "metadata/{path*}",
                {
                    "read": self._read_metadata,
                    "list": self._list,
                    "create": self._write_metadata,
                    "update": self._write_metadata,
                    "patch": self._patch_metadata,
                    "delete": self._delete_secret,
                },
            ),
            Endpoint("delete/{path*}", {"update": self._on_versions("delete", with_deleted)}),
            Endpoint("undelete/{path*}", {"update": self._on_versions("undelete", with_undeleted)}),
            Endpoint("destroy/{path*}", {"update": self._on_versions("destroy", with_destroyed)}),
            Endpoint("subkeys/{path*}", {"read": self._subkeys}),
            Endpoint(
                "config",
                {
                    "read": self._read_config,
                    "update": self._write_config,
                    "create": self._write_config,
                },
            ),
            Endpoint("{path*}", dict.fromkeys(("read", "list", "update", "create"), self._stray)),
        )

    def exists(self, call: Call) -> bool:
        kind, _, path = call.rest.partition("/")
        if kind in ("data", "metadata") and path:
            return self._context.view.kv_metadata(call.mount.uuid, path) is not None
        return True

    # settings of the mount

    def _settings(self, view: Any, mount: str) -> KvSettings:  # noqa: ANN401 - a view or transaction
        return KvSettings(**(view.document(mount, CONFIG, "") or {}))

    def _read_config(self, call: Call) -> Result:
        return Result(self._settings(self._context.view, call.mount.uuid).as_data())

    async def _write_config(self, call: Call) -> None:
        mount = call.mount.uuid

        def write(transaction: Transaction) -> None:
            old = self._settings(transaction, mount)
            body = {
                "max_versions": _positive(call.integer("max_versions", old.max_versions)),
                "cas_required": call.flag("cas_required", default=old.cas_required),
                "delete_version_after": parse_seconds(
                    call.data.get("delete_version_after"),
                    "delete_version_after",
                    old.delete_version_after,
                ),
            }
            transaction.put_document(mount, CONFIG, "", body)

        await self._context.engine.transact(write)

    # data

    def _read(self, call: Call) -> Result:
        view, path, now = self._context.view, _path(call), self._context.clock.now()
        row = view.kv_metadata(call.mount.uuid, path)
        wanted = _positive(call.integer("version"))
        info = row.info(wanted or row.current_version) if row else None
        if row is None or info is None:
            raise nothing_here()
        metadata = version_data(info, row.custom)
        if info.destroyed or is_deleted(info, now):
            return Result({"data": None, "metadata": metadata}, status=404)
        body = view.kv_data(call.mount.uuid, path, info.version)
        if body is None:
            raise nothing_here()
        until = FOREVER if info.deleted is None else info.deleted
        return Result({"data": orjson.loads(body), "metadata": metadata}, cache_until=until)

    async def _write(self, call: Call) -> Result:
        if "data" not in call.data:
            raise Invalid("no-data", "no data provided")
        if not isinstance(call.data["data"], dict):
            raise Invalid("bad-data", "data must be an object")
        body = _encoded(call.data["data"])
        return await self._new_version(call, lambda _view, _row: body, must_exist=False)

    async def _patch(self, call: Call) -> Result:
        given = call.data.get("data")
        if not isinstance(given, dict):
            raise Invalid("no-data", "no data provided")
        now = self._context.clock.now()

        def merged(transaction: Transaction, row: KvMetadata) -> bytes:
            info = row.info(row.current_version)
            if info is None or info.destroyed or is_deleted(info, now):
                raise nothing_here()
            body = transaction.kv_data(row.mount, row.path, row.current_version)
            return _encoded(merge_patch(orjson.loads(body or b"{}"), given))

        return await self._new_version(call, merged, must_exist=True)

    async def _new_version(
        self, call: Call, body: Callable[[Transaction, KvMetadata], bytes], *, must_exist: bool
    ) -> Result:
        mount, path, now = call.mount, _path(call), self._context.clock.now()

        def write(transaction: Transaction) -> KvMetadata:
            settings = self._settings(transaction, mount.uuid)
            old = transaction.kv_metadata(mount.uuid, path)
            if old is None and must_exist:
                raise nothing_here()
            check_cas(old, settings, call.data.get("options"))
            old = old or KvMetadata(mount.uuid, path, created=now, updated=now)
            row = with_new_version(old, settings, now)
            content = body(transaction, old)
            transaction.put_kv_metadata(row)
            transaction.put_kv_data(mount.uuid, path, row.current_version, content)
            transaction.append_event(_event(call, "write", row.current_version, now))
            return row

        row = await self._context.engine.transact(write)
        return Result(version_data(row.versions[-1], row.custom))

    async def _delete_newest(self, call: Call) -> None:
        await self._change(call, "delete", with_deleted, [])

    def _on_versions(self, name: str, change: Change) -> Callable[[Call], Any]:
        async def handler(call: Call) -> None:
            versions = call.data.get("versions")
            if isinstance(versions, str | int):
                versions = str(versions).split(",")
            if not versions or not isinstance(versions, list):
                raise Invalid("no-versions", "No version number provided")
            try:
                numbers = [int(each) for each in versions]
            except (TypeError, ValueError):
                raise Invalid("bad-versions", "versions must be whole numbers") from None
            await self._change(call, name, change, numbers)

        return handler

    async def _change(self, call: Call, name: str, change: Change, numbers: list[int]) -> None:
        mount, path, now = call.mount.uuid, _path(call), self._context.clock.now()

        def write(transaction: Transaction) -> None:
            old = transaction.kv_metadata(mount, path)
            if old is None:
                if numbers and name != "delete":
                    raise nothing_here()
                return
            row = change(old, numbers or [old.current_version], now)
            if row is old:
                return
            transaction.put_kv_metadata(row)
            for number in numbers or [old.current_version]:
                transaction.append_event(_event(call, name, number, now))

        await self._context.engine.transact(write)

    def _subkeys(self, call: Call) -> Result:
        result = self._read(call)
        data = result.data or {}
        if data["data"] is None:
            return Result({"subkeys": None, "metadata": data["metadata"]}, status=404)
        hidden = leaves_hidden(data["data"], _positive(call.integer("depth")))
        return Result({"subkeys": hidden, "metadata": data["metadata"]})

    # metadata

    def _read_metadata(self, call: Call) -> Result:
        row = self._context.view.kv_metadata(call.mount.uuid, _path(call))
        if row is None:
            raise nothing_here()
        return Result(metadata_data(row))

    def _list(self, call: Call) -> Result:
        after, limit = call.text("after"), _positive(call.integer("limit"))
        keys = self._context.view.kv_list(
            call.mount.uuid, call.args["path"], after=after, limit=limit
        )
        if not keys:
            raise nothing_here()
        return Result({"keys": list(keys)})

    async def _write_metadata(self, call: Call) -> None:
        await self._put_metadata(call, merge=False)

    async def _patch_metadata(self, call: Call) -> None:
        await self._put_metadata(call, merge=True)

    async def _put_metadata(self, call: Call, *, merge: bool) -> None:
        mount, path, now = call.mount.uuid, _path(call), self._context.clock.now()

        def write(transaction: Transaction) -> None:
            old = transaction.kv_metadata(mount, path)
            if old is None and merge:
                raise nothing_here()
            old = old or KvMetadata(mount, path, created=now, updated=now)
            transaction.put_kv_metadata(with_settings(old, call.data, now, merge=merge))
            transaction.append_event(_event(call, "metadata-write", old.current_version, now))

        await self._context.engine.transact(write)

    async def _delete_secret(self, call: Call) -> None:
        mount, path, now = call.mount.uuid, _path(call), self._context.clock.now()

        def write(transaction: Transaction) -> None:
            if transaction.kv_metadata(mount, path) is not None:
                transaction.delete_kv(mount, path)
                transaction.append_event(_event(call, "metadata-delete", 0, now))

        await self._context.engine.transact(write)

    def _stray(self, call: Call) -> Result:
        raise NotFound(
            "not-versioned-path",
            "Invalid path for a versioned K/V secrets engine:"
            f" use {call.mount.path}data/{call.rest}",
        )


def _path(call: Call) -> str:
    path = call.args["path"]
    if not path:
        raise Invalid("no-path", "missing path")
    if len(path) > MAX_PATH_CHARACTERS:
        raise Invalid("path-too-long", f"a path has at most {MAX_PATH_CHARACTERS} characters")
    return path


def _positive(value: int) -> int:
    if value < 0:
        raise Invalid("bad-parameter", "the number must not be negative")
    return value


def _encoded(data: dict[str, Any]) -> bytes:
    body = orjson.dumps(data)
    if len(body) > MAX_VALUE_BYTES:
        raise Invalid("value-too-large", f"a secret has at most {MAX_VALUE_BYTES} bytes")
    return body


def _event(call: Call, operation: str, version: int, now: float) -> EventRow:
    kind = "metadata" if operation.startswith("metadata") else "data"
    path = f"{call.mount.path}{kind}/{call.args['path']}"
    return EventRow(0, now, path, operation, version, call.mount.path)
