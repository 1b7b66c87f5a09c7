"""What every backend is built with: the engine, the clock, randomness and the sessions."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from strongroom.crypto.tokens import new_accessor, new_token
from strongroom.model.clock import Clock
from strongroom.store.engine.contract import Engine, TokenRow, Transaction, View
from strongroom.store.tokens import Grant, new_row

if TYPE_CHECKING:
    from strongroom.audit.devices import AuditBroker
    from strongroom.audit.record import RecordWriter
    from strongroom.store.sessions import Sessions


@dataclass(slots=True)
class Context:
    """Shared by the backends of one process."""

    engine: Engine
    clock: Clock
    sessions: "Sessions"
    broker: "AuditBroker"
    writer: "RecordWriter"
    make_token: Callable[[], str] = new_token
    make_accessor: Callable[[], str] = new_accessor

    @property
    def view(self) -> View:
        """Committed state."""
        return self.engine.view

    def issue(
        self, transaction: Transaction, grant: Grant, parent: bytes | None = None, token: str = ""
    ) -> tuple[TokenRow, str]:
        """Write a new token inside a transaction; returns its row and its text."""
        text = token or self.make_token()
        row = new_row(
            grant, self.sessions.token_id(text), self.make_accessor(), self.clock.now(), parent
        )
        transaction.put_token(row)
        return row, text
