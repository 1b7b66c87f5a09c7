"""KV version 2: versioned secrets with check-and-set, deletion in two steps, and metadata.

API: https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import orjson

from strongroom.model.errors import Invalid
from strongroom.store.call import Call, Endpoint, Result, Write, no_reply, whole_number
from strongroom.store.context import Context
from strongroom.store.engine.contract import About, EventRow, KvMetadata, KvVersionInfo, Transaction
from strongroom.store.envelope import nothing_here, present
from strongroom.store.parameters import PAGE, fields
from strongroom.store.secrets.kv_copy import Copying
from strongroom.store.secrets.kv_diff import difference
from strongroom.store.secrets.kv_listing import Listing, refuse_denied
from strongroom.store.secrets.kv_settings import CONFIG, Settings, settings_of
from strongroom.store.secrets.kv_value import encoded, positive, secret_path
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

FOREVER: Final = float("inf")
SETTABLE: Final = ("max_versions", "cas_required", "delete_version_after", "custom_metadata")
CAS_MANDATED: Final = (
    '"cas_required" set to false, but is mandated by backend config. This value will be ignored.'
)
_VERBS: Final = {"create": "put", "update": "put", "read": "get", "scan": "list"}
# What metadata take.
METADATA: Final = fields(
    PAGE,
    number="max_versions",
    flag="cas_required",
    seconds="delete_version_after",
    object="custom_metadata",
)

Change = Callable[[KvMetadata, list[int], float, KvSettings], KvMetadata]


class _Gone(Exception):
    """The version to patch is deleted or destroyed: answered with what is known of it."""

    def __init__(self, row: KvMetadata, info: KvVersionInfo) -> None:
        super().__init__()
        self.result = Result(version_data(info, row.custom), status=404)


class Kv2:
    """The backend of every KV v2 mount."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._listing = Listing(context)
        self._parts = (Settings(context), Copying(context))

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
                takes=fields(object="data options", number="version"),
            ),
            Endpoint(
                "metadata/{path*}",
                {
                    "read": self._read_metadata,
                    "list": self._listing.names,
                    "scan": self._listing.scan,
                    "create": self._write_metadata,
                    "update": self._write_metadata,
                    "patch": self._patch_metadata,
                    "delete": self._delete_secret,
                },
                takes=METADATA,
                pages=True,
            ),
            Endpoint(
                "detailed-metadata/{path*}",
                {"list": self._listing.detailed, "scan": self._listing.scan_detailed},
                takes=PAGE,
                pages=True,
            ),
            *(
                Endpoint(
                    f"{word}/{{path*}}",
                    {"update": self._on_versions(word, change)},
                    takes=fields(objects="versions"),
                )
                for word, change in (
                    ("delete", with_deleted),
                    ("undelete", with_undeleted),
                    ("destroy", with_destroyed),
                )
            ),
            Endpoint(
                "subkeys/{path*}", {"read": self._subkeys}, takes=fields(number="version depth")
            ),
            Endpoint("diff/{path*}", {"read": self._diff}, takes=fields(number="from to")),
            *(each for part in self._parts for each in part.endpoints),
            Endpoint(
                "{path*}",
                dict.fromkeys(("read", "list", "scan", "update", "patch", "delete"), self._stray),
                published=False,
                takes=None,
            ),
        )

    def exists(self, call: Call) -> bool:
        kind, _, path = call.rest.partition("/")
        if kind in ("data", "metadata") and path:
            return self._context.view.kv_exists(call.mount.uuid, path)
        return True

    # data

    def _read(self, call: Call) -> Result:
        if not call.args["path"]:
            return self._stray(call)
        return self._version(call, call.integer("version"))

    def _version(self, call: Call, wanted: int) -> Result:
        """One version; the newest where it is below 1, as in Vault (vault-env asks for -1)."""
        view, path, now = self._context.view, secret_path(call), self._context.clock.now()
        row = view.kv_metadata(call.mount.uuid, path)
        info = row.info(wanted if wanted > 0 else row.current_version) if row else None
        if row is None or info is None:
            raise nothing_here()
        metadata = version_data(info, row.custom)
        if info.destroyed or is_deleted(info, now):
            return Result({"data": None, "metadata": metadata}, status=404)
        body = view.kv_data(call.mount.uuid, path, info.version)
        if body is None:
            if not view.kv_stands(row.mark):
                return self._version(call, wanted)  # Another process wrote between the two looks.
            raise nothing_here()
        until = FOREVER if info.deleted is None else info.deleted
        answer = {"data": orjson.loads(body), "metadata": metadata}
        return Result(answer, cache_until=until, cache_mark=row.mark)

    def _write(self, call: Call) -> Write:
        if "data" not in call.data:
            raise Invalid("no-data", "no data provided")
        # What Vault's Go client sends of an empty map is null, and makes a version with nothing.
        given = {} if call.data["data"] is None else call.data["data"]
        if not isinstance(given, dict):
            raise Invalid("bad-data", "data must be an object")
        body = encoded(given)
        return self._new_version(call, lambda _view, _row: body, must_exist=False)

    async def _patch(self, call: Call) -> Result:
        given = call.data.get("data")
        if not isinstance(given, dict):
            raise Invalid("no-data", "no data provided")
        now = self._context.clock.now()

        def merged(transaction: Transaction, row: KvMetadata) -> bytes:
            info = present(row.info(row.current_version))
            if info.destroyed or is_deleted(info, now):
                raise _Gone(row, info)
            body = transaction.kv_data(row.mount, row.path, row.current_version)
            return encoded(merge_patch(orjson.loads(body or b"{}"), given))

        write = self._new_version(call, merged, must_exist=True)
        try:
            return _described(await self._context.engine.transact(write.work, about=write.about))
        except _Gone as gone:
            return gone.result

    def _new_version(
        self, call: Call, body: Callable[[Transaction, KvMetadata], bytes], *, must_exist: bool
    ) -> Write:
        mount, path, now = call.mount, secret_path(call), self._context.clock.now()

        def write(transaction: Transaction) -> KvMetadata:
            settings = settings_of(transaction, mount.uuid)
            old = transaction.kv_metadata(mount.uuid, path)
            if old is None and must_exist:
                raise nothing_here()
            check_cas(old, settings, call.data.get("options"))
            old = old or KvMetadata(mount.uuid, path, created=now, updated=now)
            row = with_new_version(old, settings, now)
            content = body(transaction, old)
            transaction.put_kv_version(row, content)
            transaction.append_event(
                _event(call, "patch" if must_exist else "write", row.current_version, now)
            )
            return row

        return Write(write, _described, About(mount.uuid, path, CONFIG))

    def _delete_newest(self, call: Call) -> Write:
        return self._change(call, "delete", with_deleted, [])

    def _on_versions(self, name: str, change: Change) -> Callable[[Call], Any]:
        def handler(call: Call) -> Write:
            versions = call.data.get("versions")
            if isinstance(versions, str | int):
                versions = [each for each in str(versions).split(",") if each.strip()]
            if not versions or not isinstance(versions, list):
                raise Invalid("no-versions", "No version number provided")
            try:
                numbers = [whole_number(each) for each in versions]
            except ValueError:
                raise Invalid("bad-versions", "versions must be whole numbers") from None
            return self._change(call, name, change, numbers)

        return handler

    def _change(self, call: Call, name: str, change: Change, numbers: list[int]) -> Write:
        mount, path, now = call.mount.uuid, secret_path(call), self._context.clock.now()

        def write(transaction: Transaction) -> None:
            old = transaction.kv_metadata(mount, path)
            if old is None:
                return
            chosen = numbers or [old.current_version]
            row = change(old, chosen, now, settings_of(transaction, mount))
            if row is old:
                return
            transaction.put_kv_metadata(row)
            # Of those that it did not change, or has not, nobody hears.
            changed = [each for each in dict.fromkeys(chosen) if row.info(each) != old.info(each)]
            if changed:
                # The newest, which is deleted by its path alone, is named by no event.
                named = tuple(changed) if numbers else ()
                transaction.append_event(_event(call, name, old.current_version, now, named))

        return Write(write, no_reply, About(mount, path, CONFIG))

    def _subkeys(self, call: Call) -> Result:
        result = self._version(call, call.integer("version"))
        data = result.data or {}
        if data["data"] is None:
            return Result({"subkeys": None, "metadata": data["metadata"]}, status=404)
        hidden = leaves_hidden(data["data"], positive(call.integer("depth")))
        return Result({"subkeys": hidden, "metadata": data["metadata"]})

    async def _diff(self, call: Call) -> Result:
        """Which keys differ between two versions, by keyed fingerprints. Beyond Vault.

        Policies that were written for Vault deny the value alone, so that denies this too.
        """
        refuse_denied(call, f"{call.mount.path}data/{secret_path(call)}")
        newer = self._version(call, positive(call.integer("to")))
        number = (newer.data or {})["metadata"]["version"]
        older = self._version(call, positive(call.integer("from", number - 1)) or number)
        sides = [older.data or {}, newer.data or {}]
        if any(side["data"] is None for side in sides):
            raise nothing_here()
        salt = f"{call.mount.uuid}/{call.args['path']}".encode()
        # More than a second for the largest secrets: not on the loop.
        said = await asyncio.to_thread(
            difference,
            sides[0]["data"],
            sides[1]["data"],
            lambda text: self._context.fingerprint(salt + b"\0" + text),
        )
        return Result({"from": sides[0]["metadata"], "to": sides[1]["metadata"], **said})

    # metadata

    def _read_metadata(self, call: Call) -> Result:
        if not call.args["path"]:
            return self._stray(call)
        row = present(self._context.view.kv_metadata(call.mount.uuid, secret_path(call)))
        return Result(metadata_data(row))

    async def _write_metadata(self, call: Call) -> Result | None:
        if not any(name in call.data for name in SETTABLE):
            return None
        return await self._put_metadata(call, merge=False)

    async def _patch_metadata(self, call: Call) -> Result | None:
        return await self._put_metadata(call, merge=True)

    async def _put_metadata(self, call: Call, *, merge: bool) -> Result | None:
        mount, path, now = call.mount.uuid, secret_path(call), self._context.clock.now()

        def write(transaction: Transaction) -> Result | None:
            old = transaction.kv_metadata(mount, path)
            if old is None and merge:
                raise nothing_here()
            old = old or KvMetadata(mount, path, created=now, updated=now)
            row = with_settings(old, call.data, now, merge=merge)
            transaction.put_kv_metadata(row)
            name = "metadata-patch" if merge else "metadata-write"
            transaction.append_event(_event(call, name, old.current_version, now))
            ignored = "cas_required" in call.data and not row.cas_required
            if ignored and settings_of(transaction, mount).cas_required:
                return Result(warnings=(CAS_MANDATED,))
            return None

        return await self._context.engine.transact(write)

    async def _delete_secret(self, call: Call) -> None:
        mount, path, now = call.mount.uuid, secret_path(call), self._context.clock.now()

        def write(transaction: Transaction) -> None:
            if transaction.kv_metadata(mount, path) is not None:
                transaction.delete_kv(mount, path)
                transaction.append_event(_event(call, "metadata-delete", 0, now))

        await self._context.engine.transact(write)

    def _stray(self, call: Call) -> Result:
        """A path that only makes sense on a KV v1 mount: 404 with the way out as a warning."""
        if call.rest.rstrip("/") in ("metadata", "data", "delete", "undelete", "destroy"):
            warning = "Non-listing operations on the root of a K/V v2 mount are not supported."
        else:
            verb = _VERBS.get(call.operation, call.operation)
            warning = (
                "Invalid path for a versioned K/V secrets engine. See the API docs for the"
                " appropriate API endpoints to use. If using the Vault CLI, use"
                f" 'vault kv {verb}' for this operation. The versioned path is"
                f" {call.mount.path}{'metadata' if verb == 'list' else 'data'}/{call.rest}"
            )
        return Result(status=404, warnings=(warning,))


def _described(row: KvMetadata) -> Result:
    """What is said of the version that was written."""
    return Result(version_data(row.versions[-1], row.custom))


def _event(
    call: Call, operation: str, version: int, now: float, versions: tuple[int, ...] = ()
) -> EventRow:
    kind = "metadata" if operation.startswith("metadata") else "data"
    path = f"{call.mount.path}{kind}/{call.args['path']}"
    return EventRow(0, now, path, operation, version, call.mount.path, versions=versions)
