"""`sys/internal/ui/`: which mounts a caller sees, and what its policies grant.

Clients ask for one mount to learn the version of KV before they build a path. API:
https://developer.hashicorp.com/vault/api-docs/system/internal-ui-mounts.
"""

from collections.abc import Sequence
from typing import Any

from strongroom.model.errors import Denied
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.context import Context
from strongroom.store.engine.contract import MountRow
from strongroom.store.routing import full_path
from strongroom.store.system.mounts import describe


class UserInterface:
    """The endpoints."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint("internal/ui/mounts", {"read": self._all}, public=True),
            Endpoint("internal/ui/mounts/{path*}", {"read": self._one}, ungoverned=True),
            Endpoint("internal/ui/resultant-acl", {"read": self._acl}, ungoverned=True),
            Endpoint("internal/ui/namespaces", {"read": self._namespaces}, ungoverned=True),
            Endpoint("internal/ui/feature-flags", {"read": self._flags}, public=True),
        )

    def _all(self, call: Call) -> Result:
        found: dict[str, dict[str, Any]] = {"secret": {}, "auth": {}}
        for row in self._context.view.mounts():
            public = row.config.get("listing_visibility") == "unauth"
            if call.session is not None and _visible(call, row):
                found[row.kind][row.path] = describe(row)
            elif public:
                # Whoever has no token learns what to log in to, not how it is set up.
                found[row.kind][row.path] = {
                    "type": row.type,
                    "description": row.description,
                    "options": row.options or None,
                }
        return Result(found)

    def _one(self, call: Call) -> Result:
        path = call.args["path"] + "/"
        for row in self._context.view.mounts():
            full = full_path(row)
            if path.startswith(full):
                if not _visible(call, row):
                    break
                return Result({**describe(row), "path": row.path})
        raise Denied(
            "preflight-denied",
            "preflight capability check returned 403, please ensure client's policies grant"
            f' access to path "{path}"',
        )

    def _acl(self, call: Call) -> Result:
        session = call.caller
        if session.is_root:
            return Result({"root": True, "exact_paths": None, "glob_paths": None})
        exact: dict[str, Any] = {}
        glob: dict[str, Any] = {}
        for grant in session.acl.grants:
            table = glob if grant.rules[0].prefix else exact
            table[grant.rules[0].pattern] = {"capabilities": sorted(grant.capabilities)}
        return Result({"root": False, "exact_paths": exact, "glob_paths": glob})

    @staticmethod
    def _namespaces(call: Call) -> Result:  # noqa: ARG004 - the shape of a handler
        return Result({"keys": []})

    @staticmethod
    def _flags(call: Call) -> Result:  # noqa: ARG004 - the shape of a handler
        return Result(raw=b'{"feature_flags":[]}\n')


def _visible(call: Call, row: MountRow) -> bool:
    return call.caller.is_root or call.caller.acl.touches(full_path(row))
