"""What snapshots ask of an engine: all rows of one moment, and all rows replaced at once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from strongroom.store.engine.contract import ClusterRow


@dataclass(frozen=True, slots=True)
class TablePage:
    """Some rows of a table as they are stored, values sealed."""

    table: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]


class SnapshotTransaction(Protocol):
    """Putting a snapshot's rows in place of all others."""

    def replace_rows(self, pages: Iterable[TablePage]) -> None:
        """Remove every row that a snapshot holds and insert the pages instead.

        The cluster row, the use of key terms and the change feed stay. Raises
        Invalid(`snapshot-unfit`) for a page of no table of ours.
        """

    def replace_cluster(self, row: "ClusterRow", now: float) -> None:
        """Become another cluster: its row, and nothing of the feed and the key terms before.

        The feed begins with the entry that a snapshot was restored `now`, in epoch seconds.
        """
