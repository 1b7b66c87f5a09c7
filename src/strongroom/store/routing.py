"""From a canonical path to its mount, backend and endpoint; remembered until a commit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from strongroom.model.errors import NotFound
from strongroom.store.call import Backend, Endpoint, Handler, match
from strongroom.store.engine.contract import MountRow, View
from strongroom.store.normalise import Operation


@dataclass(frozen=True, slots=True)
class Route:
    """Where a path leads."""

    mount: MountRow
    backend: Backend
    endpoint: Endpoint
    rest: str
    args: dict[str, str]

    def handler(self, operation: Operation) -> Handler:
        """What the operation does there; raises UnsupportedOperation."""
        handler = self.endpoint.handlers.get(operation)
        if handler is None and operation == "create":
            handler = self.endpoint.handlers.get("update")
        if handler is None:
            raise UnsupportedOperation("unsupported-operation", "unsupported operation")
        return handler


class UnsupportedOperation(NotFound):
    """The path is there, the verb is not (405)."""


class Router:
    """The mount table, longest path first. Auth methods lie under `auth/`."""

    def __init__(self, view: View, backends: Mapping[str, Backend]) -> None:
        self._view = view
        self._backends = backends
        self._tables = {name: tuple(each.endpoints) for name, each in backends.items()}
        self._mounts: list[tuple[str, MountRow]] | None = None

    def forget(self) -> None:
        """Something was committed: read the mounts again."""
        self._mounts = None

    @property
    def mounts(self) -> Sequence[tuple[str, MountRow]]:
        """Full path prefix and row, longest first."""
        if self._mounts is None:
            rows = [(full_path(row), row) for row in self._view.mounts()]
            self._mounts = sorted(rows, key=lambda each: len(each[0]), reverse=True)
        return self._mounts

    def find(self, path: str) -> Route:
        """The route of a canonical path; raises NotFound(`no-route`)."""
        row, rest = self.mount_of(path)
        name = backend_name(row)
        for endpoint in self._tables.get(name, ()):
            args = match(endpoint.pattern, rest)
            if args is not None:
                return Route(row, self._backends[name], endpoint, rest, args)
        raise NotFound("no-route", f'no handler for route "{path}". route entry not found.')

    def mount_of(self, path: str) -> tuple[MountRow, str]:
        """The mount that holds a path, and the path under it; raises NotFound(`no-route`)."""
        for prefix, row in self.mounts:
            if path.startswith(prefix):
                return row, path[len(prefix) :]
            # A list of the mount's top, or the mount named without its slash.
            if path + "/" == prefix:
                return row, ""
        raise NotFound("no-route", f'no handler for route "{path}". route entry not found.')


def full_path(row: MountRow) -> str:
    """The API path of a mount, with its final slash."""
    return f"auth/{row.path}" if row.kind == "auth" else row.path


def backend_name(row: MountRow) -> str:
    """Which backend serves a mount; KV has two by its `version` option."""
    if row.type == "kv":
        return "kv2" if row.options.get("version") == "2" else "kv1"
    return row.type
