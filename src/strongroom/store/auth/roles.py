"""The named roles of an auth method: endpoints, and what a login holds them to."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from strongroom.model.errors import Denied
from strongroom.store.auth.role_fields import shown_role
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.context import Context
from strongroom.store.engine.contract import Transaction
from strongroom.store.envelope import listed, present
from strongroom.store.parameters import Fields

Role = dict[str, Any]
RoleFrom = Callable[[Call, Mapping[str, Any]], Role]


class Roles:
    """List, read, write and delete at `path` and `path/{name}`; names are kept in lower case.

    `kind` is the kind of document they are kept as, `role_from` makes one from the parameters of
    a call, which are those of `takes`, and what the role was; it raises Invalid.
    """

    def __init__(
        self,
        context: Context,
        role_from: RoleFrom,
        takes: Fields,
        path: str = "role",
        kind: str = "role",
    ) -> None:
        self._context = context
        self._role_from = role_from
        self._takes = takes
        self._path = path
        self._kind = kind

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        """To be among those of the method."""
        return (
            Endpoint(self._path, {"list": self._list}),
            Endpoint(
                f"{self._path}/{{name}}",
                {
                    "read": self._read,
                    "create": self._write,
                    "update": self._write,
                    "delete": self._delete,
                },
                takes=self._takes,
            ),
        )

    def exists(self, call: Call) -> bool:
        """Whether a write would change a role rather than make one; True for another path."""
        path, _, name = call.rest.partition("/")
        return path != self._path or self.get(call.mount.uuid, name) is not None

    def names(self, mount: str) -> Sequence[str]:
        """All of a mount's, sorted."""
        return self._context.view.document_names(mount, self._kind)

    def get(self, mount: str, name: str) -> Role | None:
        """A role in any spelling of its name."""
        return self._context.view.document(mount, self._kind, name.lower())

    def unchanged(self, mount: str, name: str, role: Role) -> Callable[[Transaction], None]:
        """What looks, in the transaction of a login, whether the role is still the one it read."""

        def still(transaction: Transaction) -> None:
            if transaction.document(mount, self._kind, name) != role:
                raise Denied("role-changed", "permission denied")

        return still

    def _list(self, call: Call) -> Result:
        return listed(self.names(call.mount.uuid))

    def _read(self, call: Call) -> Result:
        role = present(self.get(call.mount.uuid, call.args["name"]))
        return Result(shown_role(role))

    async def _write(self, call: Call) -> None:
        mount, name = call.mount.uuid, call.args["name"].lower()

        def write(transaction: Transaction) -> None:
            old = transaction.document(mount, self._kind, name) or {}
            transaction.put_document(mount, self._kind, name, self._role_from(call, old))

        await self._context.engine.transact(write)

    async def _delete(self, call: Call) -> None:
        mount, name = call.mount.uuid, call.args["name"].lower()
        await self._context.engine.transact(
            lambda each: each.delete_document(mount, self._kind, name)
        )
