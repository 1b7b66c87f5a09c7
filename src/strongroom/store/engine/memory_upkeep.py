"""The fake's leaders and key terms; values in memory are not sealed, so resealing ends at once."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

from strongroom.store.engine.upkeep_contract import LeaderRow, ResealRow, ServerRow


@dataclass
class UpkeepState:
    """Rows by key."""

    generation: int = 0
    leaders: dict[str, LeaderRow] = field(default_factory=dict)
    servers: dict[str, ServerRow] = field(default_factory=dict)
    seals: dict[int, int] = field(default_factory=dict)
    reseal: ResealRow | None = None


class MemoryUpkeepRows:
    """View and transaction over the state."""

    state: UpkeepState

    def leader(self, task: str) -> LeaderRow | None:
        return self.state.leaders.get(task)

    def lead(
        self, task: str, node: str, now: float, seconds: float, silent: LeaderRow | None = None
    ) -> int | None:
        row = self.leader(task)
        if row is not None and row.node != node and row.expires > now and row != silent:
            return None
        epoch = row.epoch if row and row.node == node else (row.epoch if row else 0) + 1
        self.state.leaders[task] = LeaderRow(task, node, epoch, now + seconds)
        return epoch

    def leads(self, task: str, node: str, epoch: int) -> bool:
        row = self.leader(task)
        return row is not None and (row.node, row.epoch) == (node, epoch)

    def servers(self) -> Sequence[ServerRow]:
        return [row for _, row in sorted(self.state.servers.items())]

    def put_server(self, row: ServerRow) -> None:
        self.state.servers[row.id] = row

    def forget_servers(self, before: float) -> None:
        for row in self.servers():
            if row.seen < before:
                del self.state.servers[row.id]

    def seals_counted(self, term: int) -> int:
        return self.state.seals.get(term, 0)

    def count_seals(self, term: int, number: int) -> None:
        self.state.seals[term] = self.seals_counted(term) + number

    def reseal(self) -> ResealRow | None:
        return self.state.reseal

    def begin_reseal(self, term: int, now: float) -> None:
        self.state.generation += 1
        self.state.reseal = ResealRow(term, now)

    def reseal_page(self, limit: int, now: float) -> bool:  # noqa: ARG002 - the contract's shape
        if self.state.reseal is not None and self.state.reseal.finished is None:
            self.state.reseal = dataclasses.replace(self.state.reseal, finished=now)
        return False

    def check_schema(self) -> None:
        """There is none."""

    def database_time(self) -> float | None:
        return None

    def refresh_keys(self) -> None:
        """There are none."""
