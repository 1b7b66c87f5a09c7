"""From a canonical path to its mount, backend and endpoint; remembered for a generation."""

import dataclasses
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import orjson

from strongroom.model.errors import NotFound, Refusal, Unavailable
from strongroom.store import path_help
from strongroom.store.call import Backend, Call, Endpoint, Handler, Result, Write, match
from strongroom.store.engine.contract import DamagedMount, MountRow, SecretName, View
from strongroom.store.normalise import Canonical, Operation
from strongroom.store.notices import Notices
from strongroom.store.paging import in_pages, page_of
from strongroom.store.parameters import PAGE, set_aside, warnings_of
from strongroom.store.tokens import without_tokens
from strongroom.wire.http import NO_CONTENT

# Request lines that are remembered, and how long the target of one may be.
WAYS: Final = 4096
LONGEST_TARGET: Final = 512
# A mount itself, which serves nothing but help.
_ROOT: Final = Endpoint("", {})
# Where names mean the same in any case, by backend. The path is lower-cased here, before anything
# is decided, and a decision reads rules so as well (`Route.lowered`): a rule about one spelling is
# a rule about all. A handler gets the name as it was written, and looks it up whatever its case.
FOLDED: Final[Mapping[str, tuple[str, ...]]] = {
    "system": ("policies/acl/", "policy/"),
    "identity": ("entity/name/", "group/name/"),
    "token": ("roles/", "create/"),
    "approle": ("role/",),
    "cert": ("certs/", "crls/"),
    "jwt": ("role/",),
    "oidc": ("role/",),
    "kubernetes": ("role/",),
    "userpass": ("users/", "login/"),
}
# Behind which of these the rest of a path is the name of a secret, by backend.
SECRETS: Final[Mapping[str, tuple[str, ...]]] = {"kv1": ("",), "kv2": ("data/", "metadata/")}


@dataclass(frozen=True, slots=True)
class Route:
    """Where a path leads. `path` is the whole path as it is decided about and recorded.

    `lowered` is behind how many of its segments names mean the same in any case, 0 where they
    do nowhere.
    """

    path: str
    mount: MountRow
    backend: Backend
    endpoint: Endpoint
    rest: str
    args: dict[str, str]
    lowered: int = 0

    def handler(self, operation: Operation) -> Handler:
        """What the operation does there; raises UnsupportedOperation."""
        if operation == "help":
            return self._help
        handler = self.endpoint.handlers.get(operation)
        if handler is None and operation == "create":
            handler = self.endpoint.handlers.get("update")
        if handler is None:
            raise UnsupportedOperation("unsupported-operation", "unsupported operation")
        return handler

    def on(self, opens: frozenset[str]) -> "Route":
        """The route as it is for who came in by a listener that opens these."""
        if self.endpoint.opened_by in opens:
            endpoint = dataclasses.replace(self.endpoint, public=True, sudo=False)
            return dataclasses.replace(self, endpoint=endpoint)
        return self

    def run(self, call: Call) -> "Result | Write | Awaitable[Result | None] | None":
        """Do what is asked, with the parameters that the endpoint takes.

        Others are named in a warning of the reply. Raises as the handler does, and
        UnsupportedOperation.
        """
        handler, takes = self.handler(call.operation), self.endpoint.takes
        if call.operation == "list" and not self.endpoint.pages and PAGE.keys() & call.data.keys():
            after, limit = page_of(call)
            data = {name: value for name, value in call.data.items() if name not in PAGE}
            call = dataclasses.replace(call, data=data)
            handler = partial(in_pages, handler, after=after, limit=limit)
        if not call.data or takes is None:
            return handler(call)
        ignored, replaced = set_aside(takes, call.data, self.args)
        if not ignored and not replaced:
            return handler(call)
        out = {*ignored, *replaced}
        kept = {name: value for name, value in call.data.items() if name not in out}
        result = handler(dataclasses.replace(call, data=kept))
        warnings = warnings_of(ignored, replaced)
        # As in Vault, a path that was said twice is no reason to answer where nothing is said.
        nothing = Result(warnings=warnings) if ignored else None
        if result is None or isinstance(result, Result):
            return _warned(result, warnings, nothing)
        if isinstance(result, Write):
            reply = result.reply
            return result._replace(reply=lambda found: _warned(reply(found), warnings, nothing))
        return _warned_later(result, warnings, nothing)

    def _help(self, call: Call) -> Result:
        """What Vault's `path-help` shows of a mount, or of a path in it."""
        prefix = full_path(self.mount)
        if self.rest:
            text = path_help.of_path(call.path, prefix, self.endpoint)
        else:
            text = path_help.of_mount(prefix, backend_name(self.mount), self.backend.endpoints)
        return Result(raw=orjson.dumps(path_help.document(text)) + b"\n")


@dataclass(frozen=True, slots=True)
class Way:
    """A request line and where it leads: that path is decided about, recorded and executed.

    `heads` are what records share of it, by operation.
    """

    line: Canonical
    route: Route
    secret: SecretName | None = None
    heads: dict[str, bytes] = field(default_factory=dict)


# A request line as it came in: method and target as they are written, and what its listener opens.
Written = tuple[str, str, frozenset[str]]


def _warned(
    result: Result | None, warnings: tuple[str, ...], nothing: Result | None
) -> Result | None:
    """A result with warnings; `nothing` is the reply of a handler that has none."""
    if result is None:
        return nothing
    status = 0 if result.status == NO_CONTENT else result.status
    return dataclasses.replace(result, warnings=(*result.warnings, *warnings), status=status)


async def _warned_later(
    result: Awaitable[Result | None], warnings: tuple[str, ...], nothing: Result | None
) -> Result | None:
    return _warned(await result, warnings, nothing)


_REPAIR: Final = "restore the newest snapshot, or the row from a backup; other mounts are served"


class DamagedRow(Refusal):
    """What lies there cannot be served, because its row does not open (500)."""


class UnsupportedOperation(NotFound):
    """The path is there, the verb is not (405)."""


class Router:
    """The mount table, longest path first. Auth methods lie under `auth/`."""

    def __init__(
        self, view: View, backends: Mapping[str, Backend], notices: Notices | None = None
    ) -> None:
        self._view = view
        self._backends = backends
        self._notices = notices or Notices()
        self._tables: dict[str, Sequence[Endpoint]] = {}
        self._mounts: list[tuple[str, MountRow | DamagedMount]] | None = None
        # As right as the mount table is: the two are forgotten together.
        self._ways: dict[Written, Way] = {}
        self._epoch = 0

    def forget(self) -> None:
        """The generation has moved: read the mounts again."""
        self._epoch += 1
        self._mounts = None
        self._ways.clear()

    @property
    def mounts(self) -> Sequence[tuple[str, MountRow | DamagedMount]]:
        """Full path prefix and row, longest first."""
        if self._mounts is not None:
            return self._mounts
        epoch = self._epoch
        damaged = self._view.damaged_mounts()
        for each in damaged:
            self._notices.say("mount row", each.said)
        every: list[MountRow | DamagedMount] = [*self._view.mounts(), *damaged]
        rows = [(full_path(row), row) for row in every]
        mounts = sorted(rows, key=lambda each: len(each[0]), reverse=True)
        # A read may wait, and a commit may be noticed meanwhile: then this is not kept.
        if epoch == self._epoch:
            self._mounts = mounts
        return mounts

    def type_of(self, uuid: str) -> str:
        """The type of a mount, "" of one that is gone or does not open."""
        rows = (row for _, row in self.mounts)
        of_it = (row.type for row in rows if isinstance(row, MountRow) and row.uuid == uuid)
        return next(of_it, "")

    def known(self, written: Written) -> Way | None:
        """The way of a request line that was asked before, if it is remembered."""
        return self._ways.get(written)

    def way(self, line: Canonical, written: Written) -> Way:
        """The way of a request line that `written` was normalised to; raises as `find`."""
        epoch = self._epoch
        route = self.find(line.path, line.operation).on(written[2])
        found = Way(line, route, secret_of(route))
        # Whether a PATCH is one depends on its content type; what was read may be old by now.
        if line.operation != "patch" and epoch == self._epoch and len(written[1]) <= LONGEST_TARGET:
            if len(self._ways) >= WAYS:
                self._ways.clear()
            self._ways[written] = found
        return found

    def find(self, path: str, operation: Operation) -> Route:
        """The route of a canonical path.

        Raises NotFound(`no-route`), and Unavailable(`unknown-type`) for a mount of a later version.

        The first endpoint that has the operation, or else the first that has the path.
        """
        row, rest = self.mount_of(path)
        written, name = rest, backend_name(row)
        lowered = 0
        for each in FOLDED.get(name, ()):
            if rest.startswith(each):
                rest = rest.lower()
                path = full_path(row) + rest
                lowered = (full_path(row) + each).count("/")
                break
        backend, first = self._backend_of(row), None
        if operation == "help" and not rest:
            return Route(path, row, backend, _ROOT, rest, {})
        for endpoint in self.endpoints_of(row):
            args = match(endpoint.pattern, rest, written)
            if args is not None:
                route = Route(path, row, backend, endpoint, rest, args, lowered)
                if operation in endpoint.handlers:
                    return route
                first = first or route
        if first is not None:
            return first
        raise NotFound("unsupported-path", "1 error occurred:\n\t* unsupported path\n\n")

    def endpoints_of(self, row: MountRow) -> Sequence[Endpoint]:
        """The endpoint table of a mount; raises Unavailable(`unknown-type`)."""
        name = backend_name(row)
        if name not in self._tables:
            self._tables[name] = tuple(self._backend_of(row).endpoints)
        return self._tables[name]

    def described(self, row: MountRow) -> Sequence[Endpoint]:
        """The endpoint table of a mount; empty for one that a later version has made."""
        return self.endpoints_of(row) if backend_name(row) in self._backends else ()

    def _backend_of(self, row: MountRow) -> Backend:
        found = self._backends.get(backend_name(row))
        if found is None:
            raise unknown_type(row)
        return found

    def mount_of(self, path: str) -> tuple[MountRow, str]:
        """The mount that holds a path, and the path under it.

        Raises NotFound(`no-route`), and DamagedRow for a mount whose row does not open.
        """
        # A list of the mount's top may name the mount without its slash.
        slashed = path + "/"
        for prefix, row in self.mounts:
            if slashed.startswith(prefix):
                if isinstance(row, DamagedMount):
                    raise DamagedRow("damaged-mount", row.said, hint=_REPAIR)
                return row, path[len(prefix) :]
        shown = without_tokens(path)
        raise NotFound("no-route", f'no handler for route "{shown}". route entry not found.')


def secret_of(route: Route) -> SecretName | None:
    """The secret that a path is about, or None."""
    for prefix in SECRETS.get(backend_name(route.mount), ()):
        if route.rest.startswith(prefix):
            return route.mount.uuid, route.rest.removeprefix(prefix)
    return None


def unknown_type(row: MountRow) -> Unavailable:
    """What is said of a mount that a node of a later version has made."""
    return Unavailable(
        "unknown-type",
        f"{full_path(row)} is a mount of the type {row.type}, which this version does not have",
        hint="ask a node of the version that it was mounted with",
    )


def full_path(row: MountRow | DamagedMount) -> str:
    """The API path of a mount, with its final slash."""
    return f"auth/{row.path}" if row.kind == "auth" else row.path


def backend_name(row: MountRow) -> str:
    """Which backend serves a mount; KV has two by its `version` option."""
    if row.type == "kv":
        return "kv2" if row.options.get("version") == "2" else "kv1"
    return row.type
