"""`sys/mounts`, `sys/auth` and the mount preflight of clients.

API: https://developer.hashicorp.com/vault/api-docs/system/mounts.
"""

import dataclasses
import uuid
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

from strongroom.model.errors import Conflict, Denied, Invalid
from strongroom.store.call import Call, Endpoint, Result, parse_seconds
from strongroom.store.context import Context
from strongroom.store.engine.contract import MountRow, Transaction
from strongroom.store.tokens import DEFAULT_TTL, MAX_TTL

RESERVED: Final = ("sys/", "auth/", "cubbyhole/", "identity/", "token/")
_TUNABLE_SECONDS: Final = ("default_lease_ttl", "max_lease_ttl")
_TUNABLE_TEXTS: Final = ("listing_visibility", "token_type")
_TUNABLE_LISTS: Final = (
    "audit_non_hmac_request_keys",
    "audit_non_hmac_response_keys",
    "passthrough_request_headers",
    "allowed_response_headers",
)


class Mounts:
    """One instance for secrets engines, one for auth methods."""

    def __init__(
        self, context: Context, kind: str, types: Collection[str], new_id: Callable[[], uuid.UUID]
    ) -> None:
        self._context = context
        self._kind = kind
        self._types = types
        self._new_id = new_id
        self._word = "mounts" if kind == "secret" else "auth"

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint(self._word, {"read": self._all}),
            # Greedy: a mount's own path may have slashes, and tune is its last word.
            Endpoint(
                f"{self._word}/{{path*}}",
                {"read": self._read, "update": self._write, "delete": self._disable},
                sudo=self._kind == "auth",
            ),
        )

    def _rows(self) -> dict[str, MountRow]:
        return {row.path: row for row in self._context.view.mounts() if row.kind == self._kind}

    def _all(self, call: Call) -> Result:  # noqa: ARG002
        rows = self._rows()
        return Result({path: describe(rows[path]) for path in sorted(rows)}, top_level=True)

    def _read(self, call: Call) -> Result:
        path = call.args["path"]
        if path.endswith("/tune"):
            row = self._found(path.removesuffix("tune"))
            return Result({**tuned(row), "description": row.description, "options": row.options})
        return Result(describe(self._found(path + "/")), top_level=True)

    def _found(self, path: str) -> MountRow:
        row = self._rows().get(path)
        if row is None:
            raise Invalid("no-mount", f"No mount found at {path!r}")
        return row

    async def _write(self, call: Call) -> None:
        path = call.args["path"]
        if path.endswith("/tune"):
            await self._tune(call, self._found(path.removesuffix("tune")))
        else:
            await self._enable(call, path + "/")

    async def _tune(self, call: Call, row: MountRow) -> None:
        changed = dataclasses.replace(
            row,
            description=call.text("description", row.description),
            config={**row.config, **_config(call.data)},
            options={**row.options, **_options(call)},
        )
        await self._context.engine.transact(lambda transaction: transaction.put_mount(changed))

    async def _enable(self, call: Call, path: str) -> None:
        kind, options = call.text("type"), _options(call)
        if not kind:
            raise Invalid("no-type", "backend type must be specified as a string")
        if kind in ("kv-v2", "kv-v1"):
            kind, options = "kv", {**options, "version": kind[-1]}
        if kind not in self._types or kind in ("system", "token"):
            raise Invalid("unknown-type", f"plugin not found in the catalog: {kind}")
        if kind == "kv" and options.setdefault("version", "1") not in self._versions():
            raise Invalid("unknown-type", "KV version 1 is not served here", hint="use type kv-v2")
        row = MountRow(
            kind=self._kind,
            path=path,
            type=kind,
            uuid=str(self._new_id()),
            accessor=f"{'auth_' if self._kind == 'auth' else ''}{kind}_{self._new_id().hex[:8]}",
            description=call.text("description"),
            options=options,
            config=_config(call.data.get("config") or {}),
        )

        def write(transaction: Transaction) -> None:
            taken = [each.path for each in transaction.mounts() if each.kind == self._kind]
            clash = [each for each in taken if each.startswith(path) or path.startswith(each)]
            if clash or path.startswith(RESERVED):
                raise Conflict("path-in-use", f"path is already in use at {(clash or [path])[0]}")
            transaction.put_mount(row)

        await self._context.engine.transact(write)

    def _versions(self) -> tuple[str, ...]:
        return ("1", "2") if "kv1" in self._types else ("2",)

    async def _disable(self, call: Call) -> None:
        path = call.args["path"] + "/"
        if path.startswith(RESERVED):
            raise Invalid("reserved", f"cannot unmount {path!r}")

        def write(transaction: Transaction) -> None:
            for row in transaction.mounts():
                if row.kind == self._kind and row.path == path:
                    transaction.delete_mount(row)

        await self._context.engine.transact(write)


class MountPreflight:
    """`sys/internal/ui/mounts`: what clients ask to learn the version of a KV mount."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint("internal/ui/mounts", {"read": self._all}, public=True),
            Endpoint("internal/ui/mounts/{path*}", {"read": self._one}),
        )

    def _all(self, call: Call) -> Result:
        found: dict[str, dict[str, Any]] = {"secret": {}, "auth": {}}
        for row in self._context.view.mounts():
            public = row.config.get("listing_visibility") == "unauth"
            if public or (call.session is not None and self._visible(call, row)):
                found[row.kind][row.path] = describe(row)
        return Result(found)

    def _one(self, call: Call) -> Result:
        path = call.args["path"] + "/"
        for row in self._context.view.mounts():
            full = f"auth/{row.path}" if row.kind == "auth" else row.path
            if path.startswith(full):
                if not self._visible(call, row):
                    break
                return Result({**describe(row), "path": full})
        raise Denied("preflight-denied", "preflight capability check returned 403")

    @staticmethod
    def _visible(call: Call, row: MountRow) -> bool:
        full = f"auth/{row.path}" if row.kind == "auth" else row.path
        return call.caller.is_root or call.caller.acl.touches(full)


def describe(row: MountRow) -> dict[str, Any]:
    """A mount as the API shows it."""
    return {
        "type": row.type,
        "description": row.description,
        "accessor": row.accessor,
        "local": False,
        "seal_wrap": False,
        "external_entropy_access": False,
        "options": row.options or None,
        "uuid": row.uuid,
        "config": tuned(row, default=0),
        "plugin_version": "",
        "running_plugin_version": "",
        "running_sha256": "",
        "deprecation_status": "supported",
    }


def tuned(row: MountRow, *, default: int | None = None) -> dict[str, Any]:
    """A mount's settings; unset times show the system's, or `default`."""
    ends = (DEFAULT_TTL, MAX_TTL) if default is None else (default, default)
    return {
        "default_lease_ttl": ends[0],
        "max_lease_ttl": ends[1],
        "force_no_cache": False,
        **row.config,
    }


def _config(given: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    if not isinstance(given, dict):
        raise Invalid("bad-parameter", "config must be an object")
    found: dict[str, Any] = {}
    for name in _TUNABLE_SECONDS:
        if name in given:
            found[name] = parse_seconds(given[name], name)
    for name in _TUNABLE_TEXTS:
        if name in given:
            found[name] = str(given[name])
    for name in _TUNABLE_LISTS:
        if isinstance(given.get(name), list):
            found[name] = [str(each) for each in given[name]]
    return found


def _options(call: Call) -> dict[str, str]:
    options = call.data.get("options") or {}
    if not isinstance(options, dict):
        raise Invalid("bad-parameter", "options must be an object")
    return {str(key): str(value) for key, value in options.items()}
