"""What entities and groups have in common: rows found by id or by name, in the path or the body.

API: https://developer.hashicorp.com/vault/api-docs/secret/identity/entity, and the same for groups.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from strongroom.crypto.aead import Tampered
from strongroom.store.call import Call, Endpoint, Handler, Result
from strongroom.store.context import Context
from strongroom.store.engine.contract import Transaction, View
from strongroom.store.engine.listed import Listed
from strongroom.store.envelope import listed, present
from strongroom.store.parameters import Fields


class NamedRow(Protocol):
    """A row with both."""

    @property
    def id(self) -> str:
        """Given by the store."""

    @property
    def name(self) -> str:
        """Given by people."""


Row = TypeVar("Row", bound=NamedRow)


@dataclass(frozen=True, slots=True)
class Named(Generic[Row]):
    """The endpoints of one kind: `word` its path, `takes` what a write takes."""

    context: Context
    word: str
    takes: Fields
    by_id: Callable[[View, str], Row | None]
    by_name: Callable[[View, str], Row | None]
    every: Callable[[View], Listed[Row]]
    show: Callable[[Row, View], dict[str, Any]]
    remove: Callable[[Transaction, str], object]

    def endpoints(self, write: Handler, list_ids: Handler) -> Sequence[Endpoint]:
        """By id and by name; what is written and what a list of ids shows differs by kind."""
        by_name = {name: kind for name, kind in self.takes.items() if name != "id"}
        return (
            Endpoint(self.word, {"update": write}, takes=self.takes),
            Endpoint(f"{self.word}/id", {"list": list_ids}),
            Endpoint(f"{self.word}/name", {"list": self._list_names}),
            *(
                Endpoint(
                    f"{self.word}/{way}/{{{way}}}",
                    {"read": self._read, "update": write, "delete": self._delete},
                    takes=takes,
                )
                # The path was decided about: an id beside its name would lead to another row.
                for way, takes in (("id", self.takes), ("name", by_name))
            ),
        )

    def found(self, call: Call, view: View) -> Row | None:
        """The row that a path names, or, where it names none, the body."""
        if row_id := call.args.get("id") or call.text("id"):
            return self.by_id(view, row_id)
        name = call.args.get("name") or call.text("name")
        return self.by_name(view, name) if name else None

    def _read(self, call: Call) -> Result:
        row = present(self.found(call, self.context.view))
        return Result(self.show(row, self.context.view))

    async def _delete(self, call: Call) -> None:
        def write(transaction: Transaction) -> None:
            try:
                row = self.found(call, transaction)
            except Tampered:
                # One that does not open is removed by its id: what it was, nobody can tell.
                row_id = call.args.get("id") or call.text("id")
                if not row_id:
                    raise
                self.remove(transaction, row_id)
                return
            if row is not None:
                self.remove(transaction, row.id)

        await self.context.engine.transact(write)

    async def _list_names(self, call: Call) -> Result:  # noqa: ARG002 - the shape of a handler
        rows = self.every(self.context.view)
        names = sorted(row.name for row in rows)
        return listed(names, warnings=self.context.left_out(rows), long=True)
