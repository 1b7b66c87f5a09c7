"""What a list of a whole table answers: the rows that open, and which do not."""

from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

Row = TypeVar("Row")


class Listed(list[Row], Generic[Row]):
    """The rows of a table that open; `damaged` are sentences that name the others."""

    def __init__(self, rows: Iterable[Row] = (), damaged: Sequence[str] = ()) -> None:
        super().__init__(rows)
        self.damaged = tuple(damaged)
