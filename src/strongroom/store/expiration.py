"""What has an end comes to it: expired tokens and leases, a batch at a time, beside the requests.

Nothing is loaded at start and nothing is kept in memory: an index says what is due. Every node
runs this on the same rows; a claim makes sure that one of them does the work.
"""

import asyncio
from functools import partial
from typing import Final

from strongroom.model.clock import Clock
from strongroom.store.engine.contract import Engine, Transaction
from strongroom.store.leasing import Leases

# Of a batch. Whatever is committed makes every node look anew at what it has remembered: few large
# batches leave reads alone, and a thousand tokens hold the turn to write for a tenth of a second.
TOKENS: Final = 1000
# Between batches: the writers and readers that wait have their turn first.
BREATH_SECONDS: Final = 0.005


class Expiration:
    """One for each process that does background work."""

    def __init__(self, engine: Engine, clock: Clock, leases: Leases) -> None:
        self._engine = engine
        self._clock = clock
        self._leases = leases

    async def catch_up(self) -> int:
        """Work through what is due now; how many tokens and leases that were."""
        done = 0
        while True:
            now = self._clock.now()
            due = self._engine.view.next_due()
            if due is None or due > now:
                return done
            step = await self._engine.transact(partial(_expire, now=now))
            step += await self._leases.revoke_due()
            if not step:
                return done
            done += step
            await asyncio.sleep(0)
            if step >= TOKENS:
                await self._clock.sleep(BREATH_SECONDS)


def _expire(transaction: Transaction, now: float) -> int:
    return transaction.delete_expired_tokens(now, TOKENS)
