"""`sys/mounts` and `sys/auth`: enable, describe, tune and disable.

API: https://developer.hashicorp.com/vault/api-docs/system/mounts.
"""

import dataclasses
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from strongroom.model.errors import Conflict, Invalid
from strongroom.store.auth.lockout import CONFIG as LOCKOUT
from strongroom.store.auth.lockout import METHODS, lockout_settings
from strongroom.store.call import Call, Endpoint, Result, parse_flag, parse_seconds
from strongroom.store.context import Context
from strongroom.store.engine.contract import DamagedMount, MountRow, Transaction, View
from strongroom.store.leasing import Leases
from strongroom.store.parameters import fields
from strongroom.store.quotas import remove_quotas
from strongroom.store.routing import UnsupportedOperation, full_path
from strongroom.store.tokens import Bounds
from strongroom.store.upkeep import REMOVED

RESERVED: Final = ("sys/", "auth/", "cubbyhole/", "identity/", "token/")
_TUNABLE_SECONDS: Final = ("default_lease_ttl", "max_lease_ttl")
_TUNABLE_TEXTS: Final = {
    "listing_visibility": ("", "hidden", "unauth"),
    "token_type": ("", "default-service", "default-batch", "service", "batch"),
}
_TUNABLE_LISTS: Final = (
    "audit_non_hmac_request_keys",
    "audit_non_hmac_response_keys",
    "passthrough_request_headers",
    "allowed_response_headers",
)
TUNE: Final = fields(
    seconds=" ".join(_TUNABLE_SECONDS),
    text=f"description plugin_version {' '.join(_TUNABLE_TEXTS)}",
    texts=" ".join(_TUNABLE_LISTS),
    object=f"options {LOCKOUT}",
)
# What they mean is Vault Enterprise's; as in Vault without it they are kept and shown.
FLAGS: Final = ("local", "seal_wrap", "external_entropy_access")
ENABLE: Final = fields(
    text="type description plugin_name plugin_version",
    object="config options",
    flag=" ".join(FLAGS),
)
NO_CACHE: Final = "force_no_cache"

UPGRADED: Final = (
    "The mount is of version 2 now. Its secrets are read and written under data/ and metadata/;"
    " policies need these paths."
)


class Mounts:
    """One instance for secrets engines, one for auth methods."""

    def __init__(
        self,
        context: Context,
        leases: Leases,
        kind: str,
        types: Collection[str],
        new_id: Callable[[], uuid.UUID] = uuid.uuid4,
    ) -> None:
        self._context = context
        self._leases = leases
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
                f"{self._word}/{{path*}}/tune",
                {"read": self._read_tuned, "update": self._tune},
                sudo=self._kind == "auth",
                takes=TUNE,
            ),
            Endpoint(
                f"{self._word}/{{path*}}",
                {"read": self._read, "update": self._enable, "delete": self._disable},
                sudo=self._kind == "auth",
                takes=ENABLE,
            ),
        )

    def _rows(self) -> dict[str, MountRow]:
        return {row.path: row for row in self._context.view.mounts() if row.kind == self._kind}

    def _all(self, call: Call) -> Result:  # noqa: ARG002
        rows = self._rows()
        return Result({path: describe(rows[path]) for path in sorted(rows)}, top_level=True)

    def _read(self, call: Call) -> Result:
        return Result(describe(self._found(call)), top_level=True)

    def _read_tuned(self, call: Call) -> Result:
        row = self._found(call)
        # Vault has each setting of the lockout beside the others here.
        lockout = {f"user_{name}": value for name, value in (row.config.get(LOCKOUT) or {}).items()}
        shown = {
            **tuned(row, self._context.system),
            **lockout,
            "description": row.description,
            "options": row.options,
        }
        return Result(shown, top_level=True)

    def _found(self, call: Call) -> MountRow:
        """The mount of the call's path; under `sys/mounts/auth/` an auth method, as in Vault."""
        path, kind = call.args["path"] + "/", self._kind
        name = path
        if kind == "secret" and path.startswith("auth/"):
            kind, name = "auth", path.removeprefix("auth/")
        rows = self._context.view.mounts()
        row = next((each for each in rows if (each.kind, each.path) == (kind, name)), None)
        if row is None:
            raise Invalid("no-mount", f"No mount found at {path!r}")
        return row

    async def _tune(self, call: Call) -> Result | None:
        row, version = self._found(call), _options(call).get("version")
        before = row.options.get("version", "1")
        if row.kind == "secret" and call.data.get("token_type"):
            raise Invalid("not-tunable", "'token_type' can only be modified on auth mounts")
        if row.type == "token" and call.data.get("token_type"):
            raise Invalid(
                "not-tunable",
                "'token_type' cannot be set for 'token' or 'ns_token' auth mounts",
                hint="whoever makes a token says which, or the token role",
            )
        if row.type == "kv" and version is not None:
            _check_upgrade(before, version)
        _check_lockout(call.data.get(LOCKOUT), row.type)
        config = {**row.config, **config_of(call.data, self._context.system, row.config)}
        config = {name: value for name, value in config.items() if value is not None}
        changed = dataclasses.replace(
            row,
            description=call.text("description", row.description),
            config=config,
            options={**row.options, **_options(call)},
        )

        def write(transaction: Transaction) -> None:
            if row not in transaction.mounts():
                raise Conflict("mount-changed", "the mount was changed meanwhile; try again")
            transaction.put_mount(changed)

        await self._context.engine.transact(write)
        # Vault says something here, so that clients wait for 200.
        upgraded = row.type == "kv" and version is not None and version != before
        return Result(warnings=(UPGRADED,)) if upgraded else None

    async def _enable(self, call: Call) -> Result | None:
        if not call.args["path"]:
            raise _nameless()
        path, kind, options = call.args["path"] + "/", call.text("type"), _options(call)
        if not kind:
            raise Invalid("no-type", "backend type must be specified as a string")
        # The first name that KV had.
        kind = "kv-v1" if kind == "generic" and self._kind == "secret" else kind
        if kind in ("kv-v2", "kv-v1"):
            kind, options = "kv", {**options, "version": kind[-1]}
        if kind not in self._types or kind in ("system", "token"):
            raise Invalid("unknown-type", f"plugin not found in the catalog: {kind}")
        # One without a version is of the first and shows none, as in Vault: Terraform would
        # take away what its plan does not have, each time.
        if kind == "kv" and options.get("version", "1") not in ("1", "2"):
            raise Invalid("unknown-type", "the version of a KV mount is 1 or 2")
        row = MountRow(
            kind=self._kind,
            path=path,
            type=kind,
            uuid=str(self._new_id()),
            accessor=f"{'auth_' if self._kind == 'auth' else ''}{kind}_{self._new_id().hex[:8]}",
            description=call.text("description"),
            options=options,
            config=_first_config(call, kind, self._context.system),
            flags={name: True for name in FLAGS if call.flag(name)},
        )

        def write(transaction: Transaction) -> None:
            taken = clash(taken_places(transaction), self._kind, path)
            if taken or path.startswith(RESERVED):
                raise Conflict("path-in-use", f"path is already in use at {taken or path}")
            transaction.put_mount(row)

        await self._context.engine.transact(write)
        unknown = _unknown(call.data.get("config") or {}, kind)
        said = f"The mount's config has settings that are unknown, and ignored: [{unknown}]"
        return Result(warnings=(said,)) if unknown else None

    async def _disable(self, call: Call) -> None:
        path = call.args["path"] + "/"
        if path.startswith(RESERVED):
            raise Invalid("reserved", f"cannot unmount {path!r}")
        row = self._rows().get(path)
        if row is None and not call.args["path"]:
            raise _nameless()
        if row is None:
            return
        # What was handed out is taken back while the mount still knows how.
        await self._leases.revoke_mount(row)
        now = self._context.clock.now()

        def write(transaction: Transaction) -> None:
            if transaction.lease_ids(full_path(row), limit=1):
                raise Conflict("new-leases", "leases were made meanwhile; try again")
            current = [each for each in transaction.mounts() if each.uuid == row.uuid]
            if any(each.path != path for each in current):
                # Nobody has asked to remove what is at its new place.
                raise Conflict("mount-changed", f"{path!r} was moved meanwhile; it is kept there")
            # One without a name, of an earlier version, has none; under it lie those of all others.
            if current and self._kind == "auth" and call.args["path"]:
                transaction.revoke_tokens(full_path(row))
            for each in current:
                transaction.delete_mount(each)
                transaction.put_document(*REMOVED, each.uuid, {"removed": now})
                remove_quotas(transaction, full_path(each))

        await self._context.engine.transact(write)


def _nameless() -> UnsupportedOperation:
    return UnsupportedOperation("unsupported-operation", "unsupported operation")


def taken_places(view: View) -> Sequence[MountRow | DamagedMount]:
    """Every mount, also one whose row does not open: what lies under it is still there."""
    return [*view.mounts(), *view.damaged_mounts()]


def clash(rows: Iterable[MountRow | DamagedMount], kind: str, path: str) -> str:
    """The path of a mount of the same kind that lies in the way of another, or ""."""
    for row in rows:
        if row.kind == kind and (row.path.startswith(path) or path.startswith(row.path)):
            return row.path
    return ""


def _check_upgrade(now: str, wanted: str) -> None:
    if wanted not in ("1", "2"):
        raise Invalid("bad-parameter", "invalid version: a KV mount is version 1 or 2")
    if wanted < now:
        raise Invalid("no-downgrade", f"cannot downgrade mount from version {now}")


def _check_lockout(given: Any, kind: str) -> None:  # noqa: ANN401 - JSON
    """Refuse settings that would be kept and count for nothing; raises Invalid."""
    if given and not isinstance(given, dict):
        raise Invalid("bad-parameter", f"{LOCKOUT} must be an object")
    if given and kind not in METHODS:
        raise Invalid(
            "not-tunable",
            f'tuning of user lockout configuration for auth type "{kind}" not allowed',
            hint=f"failed logins are counted for {' and '.join(sorted(METHODS))}",
        )


def describe(row: MountRow) -> dict[str, Any]:
    """A mount as the API shows it."""
    return {
        "type": row.type,
        "description": row.description,
        "accessor": row.accessor,
        **{name: row.flags.get(name, False) for name in FLAGS},
        "options": row.options or None,
        "uuid": row.uuid,
        "config": tuned(row, Bounds(0, 0)),
        "plugin_version": "",
        "running_plugin_version": "",
        "running_sha256": "",
        "deprecation_status": "supported",
    }


def tuned(row: MountRow, unset: Bounds) -> dict[str, Any]:
    """A mount's settings; times that are not set show `unset`."""
    return {
        "default_lease_ttl": unset.default_ttl,
        "max_lease_ttl": unset.max_ttl,
        NO_CACHE: False,
        **({"token_type": "default-service"} if row.kind == "auth" else {}),
        **{name: value for name, value in row.config.items() if value is not None},
    }


def config_of(
    given: Any,  # noqa: ANN401 - JSON
    system: Bounds,
    before: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The settings in a request that are known, None for one that is reset to the system's.

    `before` is what they are added to. Raises Invalid.
    """
    if not isinstance(given, dict):
        raise Invalid("bad-parameter", "config must be an object")
    found = _known(given)
    if isinstance(given.get(LOCKOUT), dict):
        found[LOCKOUT] = lockout_settings(given[LOCKOUT], (before or {}).get(LOCKOUT) or {})
    both = {**(before or {}), **found}
    default = both.get("default_lease_ttl") or 0
    most = both.get("max_lease_ttl") or system.max_ttl
    # The server's may be shorter since then: that keeps nobody from changing another setting.
    if default > most and not found.keys().isdisjoint(_TUNABLE_SECONDS):
        raise Invalid(
            "bad-ttl",
            f"backend max lease TTL of {most} would be less than default lease TTL of {default}",
        )
    return found


def _first_config(call: Call, kind: str, system: Bounds) -> dict[str, Any]:
    """The settings of a new mount, without those that are the system's, or mean nothing to it."""
    given = call.data.get("config") or {}
    found = {name: value for name, value in config_of(given, system).items() if value is not None}
    if kind not in METHODS:
        found.pop(LOCKOUT, None)
    uncached = parse_flag(given.get(NO_CACHE) or False, NO_CACHE)
    return {**found, NO_CACHE: True} if uncached else found


def _unknown(given: Mapping[str, Any], kind: str) -> str:
    """The names of what is set in a config and is not looked at in a mount of that kind."""
    lockout = (LOCKOUT,) if kind in METHODS else ()
    known = (*_TUNABLE_SECONDS, *_TUNABLE_TEXTS, *_TUNABLE_LISTS, *lockout, NO_CACHE)
    # Vault's client sends every setting that it knows; one that is empty asks for nothing.
    names = [name for name, value in given.items() if value and name not in known]
    return " ".join(sorted(names))


def _known(given: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in _TUNABLE_SECONDS:
        if name in given:
            found[name] = _ttl(given[name], name)
    for name, allowed in _TUNABLE_TEXTS.items():
        if given.get(name) is not None:
            found[name] = str(given[name])
            if found[name] not in allowed:
                raise Invalid("bad-parameter", f"{name} is one of {', '.join(allowed[1:])}")
    for name in _TUNABLE_LISTS:
        if name in given:
            found[name] = _texts(given[name], name)
    return found


def _ttl(value: Any, name: str) -> int | None:  # noqa: ANN401 - JSON
    if value == "system":
        return None
    seconds = parse_seconds(value, name)
    if seconds < 0:
        raise Invalid("bad-parameter", f"{name} must not be negative")
    return seconds or None


def _texts(value: Any, name: str) -> list[str] | None:  # noqa: ANN401 - JSON
    if isinstance(value, str):
        value = [each.strip() for each in value.split(",") if each.strip()]
    if value is None or value == []:
        return None
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise Invalid("bad-parameter", f"{name} is a list of strings")
    return value


def _options(call: Call) -> dict[str, str]:
    options = call.data.get("options") or {}
    if not isinstance(options, dict):
        raise Invalid("bad-parameter", "options must be an object")
    return {str(key): str(value) for key, value in options.items()}
