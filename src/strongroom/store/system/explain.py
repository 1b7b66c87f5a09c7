"""`sys/explain`: why a call would be allowed or denied. Beyond Vault.

The answer comes from the function that decides for real, on a call made the same way.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Final

from strongroom.model.decision import Decision
from strongroom.model.errors import Denied, Invalid, NotFound
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.context import Context
from strongroom.store.decision import decide
from strongroom.store.normalise import Operation, canonical_segments
from strongroom.store.parameters import Fields, fields
from strongroom.store.routing import Route, full_path
from strongroom.store.sessions import Session

OPERATIONS: Sequence[Operation] = ("read", "list", "scan", "create", "update", "patch", "delete")
# Which of the two is missing depends on what is there.
_WRITE: Final = "create, or update if it is there,"
ASKED: Fields = fields(text="path operation", object="data")


class Explain:
    """`explain` for any token by its accessor, `explain-self` for the caller's own."""

    def __init__(self, context: Context, find: Callable[[str, Operation], Route]) -> None:
        self._context = context
        self._find = find

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint(
                "explain",
                {"update": self._of_another},
                takes=fields(ASKED, text="accessor", texts="policies"),
            ),
            Endpoint("explain-self", {"update": self._of_self}, takes=ASKED),
        )

    def _of_self(self, call: Call) -> Result:
        return self._answer(call, call.caller)

    def _of_another(self, call: Call) -> Result:
        accessor, names = call.text("accessor"), call.texts("policies")
        if accessor:
            row = self._context.view.token_by_accessor(accessor)
            if row is None or (
                row.expires is not None and row.expires <= self._context.clock.now()
            ):
                raise Denied("bad-accessor", "invalid accessor")
            return self._answer(call, self._context.sessions.of_row(row))
        if names:
            return self._answer(call, self._context.sessions.of_policies(names))
        return self._answer(call, call.caller)

    def _answer(self, call: Call, session: Session) -> Result:
        asked, route = self._asked(call)
        asked.session = session
        decision = _decided(session, route, asked)
        listing = asked.operation in ("list", "scan")
        acl = session.acl.lowered(asked.lowered)
        governing = None if session.is_root else acl.governing(asked.path, listing=listing)
        return Result(
            {
                "allowed": decision.allowed,
                "reason": decision.reason,
                "rule": decision.rule,
                "missing": decision.missing,
                "path": asked.path,
                "operation": asked.operation,
                "needs_sudo": bool(route and route.endpoint.sudo),
                "mount": full_path(route.mount) if route else "",
                "policies": list(session.principal.policies),
                "rules": [
                    {
                        "path": grant.path,
                        "policies": list(grant.policies),
                        "capabilities": sorted(grant.capabilities),
                        "governs": grant is governing,
                    }
                    for grant in acl.matching(asked.path, listing=listing)
                ],
            }
        )

    def _asked(self, call: Call) -> tuple[Call, Route | None]:
        path = canonical_segments(call.text("path").removeprefix("v1/").removeprefix("/v1/"))
        operation: Any = call.text("operation", "read")
        if not path:
            raise Invalid("no-path", "missing path")
        if operation not in OPERATIONS:
            raise Invalid("bad-operation", f"operation is one of {', '.join(OPERATIONS)}")
        if operation in ("list", "scan"):
            path = path.rstrip("/") + "/"
        data = call.data.get("data") or {}
        if not isinstance(data, dict):
            raise Invalid("bad-parameter", "data must be an object")
        asked = Call(operation, path, data, call.mount, "")
        try:
            route = self._find(path, operation)
        except NotFound:
            return asked, None
        asked.path, asked.mount = route.path, route.mount
        asked.rest, asked.args, asked.lowered = route.rest, route.args, route.lowered
        return asked, route


def _decided(session: Session, route: Route | None, asked: Call) -> Decision:
    """The decision about a call; a write becomes a create where nothing is there yet.

    That is looked at for whoever may do one of the two. Anybody else would learn by it what is
    there, which no request tells them.
    """
    endpoint = route.endpoint if route else None
    if route is None or asked.operation != "update":
        return decide(session, endpoint, asked)
    as_create = dataclasses.replace(asked, operation="create")
    both = decide(session, endpoint, asked), decide(session, endpoint, as_create)
    if any(each.allowed for each in both):
        asked.operation = "update" if route.backend.exists(asked) else "create"
        return both[asked.operation == "create"]
    missing = both[0].missing
    if missing.startswith("update"):
        missing = missing.replace("update", _WRITE, 1)
    return dataclasses.replace(both[0], missing=missing)
