"""What background work asks of the engine: who leads it, key terms and their use, resealing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class LeaderRow:
    """Which process does a task until when (epoch seconds); `epoch` grows with each change."""

    task: str
    node: str
    epoch: int
    expires: float


@dataclass(frozen=True, slots=True)
class ServerRow:
    """A node and when it last said that it is there (epoch seconds, by its own clock).

    `version` is the one of the API, `program_version` the program's. Nothing in it is secret.
    """

    id: str
    seen: float
    host_name: str = ""
    address: str = ""
    cluster_address: str = ""
    version: str = ""
    program_version: str = ""


@dataclass(frozen=True, slots=True)
class ResealRow:
    """How far rows have been brought under the newest term of the key ring.

    `rows` were looked at and `resealed` of them written anew; `damaged` names the first
    rows that do not open, of `damaged_rows`. `finished` is when nothing was left under an older
    term, None while it goes on.
    """

    term: int
    started: float
    table: str = ""
    after: str = ""
    rows: int = 0
    resealed: int = 0
    damaged: tuple[str, ...] = ()
    finished: float | None = None
    damaged_rows: int = 0


class UpkeepView(Protocol):
    """Reads for background work."""

    def leader(self, task: str) -> LeaderRow | None:
        """Who was the last to lead a task."""

    def servers(self) -> Sequence[ServerRow]:
        """The nodes that have said that they are there, by id."""

    def reseal(self) -> ResealRow | None:
        """The last resealing, under way or finished; None before the first rotation."""

    def seals_counted(self, term: int) -> int:
        """How many values all processes have sealed under a term, as far as they have told."""

    def database_time(self) -> float | None:
        """The database's own clock in epoch seconds; None where that is this machine's."""

    def refresh_keys(self) -> None:
        """Take the stored key ring into use if it has changed; nothing while sealed."""


class UpkeepTransaction(Protocol):
    """Writes of background work."""

    def lead(
        self, task: str, node: str, now: float, seconds: float, silent: LeaderRow | None = None
    ) -> int | None:
        """Begin or go on to lead until `now + seconds`; the epoch, or None while another does.

        `silent` is a leader that the caller has watched in vain: it is replaced although its
        time, by whichever clock, is not over.
        """

    def leads(self, task: str, node: str, epoch: int) -> bool:
        """Whether nobody has taken over since; asked in the transaction that does the work."""

    def put_server(self, row: ServerRow) -> None:
        """Write what a node says of itself."""

    def forget_servers(self, before: float) -> None:
        """Remove those that were last seen before a time."""

    def count_seals(self, term: int, number: int) -> None:
        """Add to what was sealed under a term."""

    def begin_reseal(self, term: int, now: float) -> None:
        """The key ring has a new term: every process takes note, rows are to follow."""

    def reseal_page(self, limit: int, now: float) -> bool:
        """Reseal up to `limit` rows under the newest term; False when all are."""
