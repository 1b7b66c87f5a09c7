"""What every backend is built with: the engine, the clock, randomness and the sessions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from strongroom.crypto.tokens import new_accessor, new_token
from strongroom.model.clock import Clock
from strongroom.store.engine.contract import Engine, MountRow, TokenRow, Transaction, View
from strongroom.store.engine.listed import Listed
from strongroom.store.notices import Notices
from strongroom.store.quotas import Quotas
from strongroom.store.tokens import BATCH, Bounds, Grant, bounds_of, is_eternal, lifetime, new_row

if TYPE_CHECKING:
    from strongroom.audit.devices import AuditBroker
    from strongroom.audit.record import RecordWriter
    from strongroom.store.batch_tokens import BatchTokens
    from strongroom.store.recording import Recording
    from strongroom.store.seal.cluster import ClusterSeal
    from strongroom.store.sessions import Sessions

# How long a call may take, as in Vault.
REQUEST_SECONDS: Final = 90.0
# Damaged rows that one list names.
MOST_NAMED: Final = 20


@dataclass(frozen=True, slots=True)
class Issued:
    """A new token: its row, its text, and what its holder should know."""

    row: TokenRow
    text: str
    warnings: tuple[str, ...] = ()


@dataclass(slots=True)
class Context:
    """Shared by the backends of one process. `system` are the times where no mount is tuned."""

    engine: Engine
    clock: Clock
    sessions: "Sessions"
    recording: "Recording"
    batch: "BatchTokens"
    seal: "ClusterSeal"
    # A keyed hash of a value, for showing that two are equal without showing either.
    fingerprint: Callable[[bytes], str]
    system: Bounds = field(default_factory=Bounds)
    quotas: Quotas = field(default_factory=Quotas)
    notices: Notices = field(default_factory=Notices)
    # When users are locked, by login method or "all", where a mount is not tuned.
    lockout: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    request_seconds: float = REQUEST_SECONDS
    make_token: Callable[[], str] = new_token
    make_accessor: Callable[[], str] = new_accessor

    @property
    def broker(self) -> "AuditBroker":
        """Where records go."""
        return self.recording.broker

    @property
    def writer(self) -> "RecordWriter":
        """Writes them in the usual form."""
        return self.recording.writer

    @property
    def view(self) -> View:
        """Committed state."""
        return self.engine.view

    def left_out(self, *lists: Listed[Any]) -> tuple[str, ...]:
        """Warnings that name the rows which these lists cannot show, the first of each."""
        found = [each for rows in lists for each in rows.damaged[:MOST_NAMED]]
        for each in found:
            self.notices.say("damaged row", each)
        return tuple(f"{each}, and is left out of this list" for each in found)

    def bounds(self, mount: MountRow) -> Bounds:
        """What a mount allows its tokens and leases."""
        return bounds_of(mount, self.system)

    def issue(
        self, transaction: Transaction, grant: Grant, parent: bytes | None = None, token: str = ""
    ) -> tuple[TokenRow, str]:
        """A new token under the system's times; returns its row and its text."""
        issued = self.grant(transaction, grant, self.system, parent=parent, token=token)
        return issued.row, issued.text

    def grant(
        self,
        transaction: Transaction,
        grant: Grant,
        bounds: Bounds,
        *,
        parent: bytes | None = None,
        token: str = "",
    ) -> Issued:
        """Write a new token inside a transaction; a batch token writes nothing."""
        now = self.clock.now()
        warnings = () if is_eternal(grant) else lifetime(grant, bounds)[1]
        if grant.type == BATCH:
            row = new_row(grant, b"", "", now, parent=parent, bounds=bounds)
            return Issued(row, self.batch.seal(row), warnings)
        text = token or self.make_token()
        row = new_row(
            grant,
            self.sessions.token_id(text),
            self.make_accessor(),
            now,
            parent=parent,
            bounds=bounds,
        )
        if not is_eternal(grant):
            self.quotas.admit_lease(transaction, grant.path, row.client, now)
        transaction.put_token(row)
        return Issued(row, text, warnings)
