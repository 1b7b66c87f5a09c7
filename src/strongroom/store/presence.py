"""Which nodes serve one database: each says from time to time that it is there.

Nothing depends on it but what `sys/ha-status` lists, so it costs one small commit a node every
half minute and no request anything.
"""

import contextlib
from collections.abc import Sequence
from typing import Final

from strongroom.model.clock import Clock
from strongroom.model.errors import Unavailable
from strongroom.store.engine.contract import Engine, Transaction
from strongroom.store.engine.upkeep_contract import ServerRow
from strongroom.store.seal.cluster import ClusterSeal
from strongroom.store.system.status import About

BEAT_SECONDS: Final = 30.0
# Between two looks whether it is open by now.
SEALED_SECONDS: Final = 1.0
# Four beats; clocks that differ by more hide nodes from each other, and are said to differ.
LOST_SECONDS: Final = 120.0
FORGOTTEN_SECONDS: Final = 3600.0


def server(about: About, host_name: str, now: float) -> ServerRow:
    """This node's row: the same after a restart, as long as name and address are."""
    return ServerRow(
        f"{host_name} {about.address}",
        now,
        host_name,
        about.address,
        about.cluster_address,
        about.api_version,
        about.program_version,
    )


def others(rows: Sequence[ServerRow], me: ServerRow) -> list[ServerRow]:
    """The nodes that were heard of lately, beside the one that is asked. Pure."""
    return [each for each in rows if each.id != me.id and each.seen > me.seen - LOST_SECONDS]


class Presence:
    """One node's part in it; of several workers of a server one takes it."""

    def __init__(
        self, engine: Engine, seal: ClusterSeal, clock: Clock, about: About, host_name: str
    ) -> None:
        self._engine = engine
        self._seal = seal
        self._clock = clock
        self._about = about
        self._host_name = host_name

    async def run(self) -> None:
        """Until cancelled; a database that is away is waited for."""
        while True:
            pause = SEALED_SECONDS if self._seal.sealed else BEAT_SECONDS
            with contextlib.suppress(Unavailable):
                await self.beat()
            await self._clock.sleep(pause)

    async def beat(self) -> None:
        """Say that this node is there, if it is open, and forget those that have long been gone."""
        if self._seal.sealed:
            return
        row = server(self._about, self._host_name, self._clock.now())

        def write(transaction: Transaction) -> None:
            transaction.put_server(row)
            transaction.forget_servers(row.seen - FORGOTTEN_SECONDS)

        await self._engine.transact(write)
