"""What has an end comes to it: expired tokens and leases, a batch at a time, beside the requests.

Nothing is loaded at start and nothing is kept in memory: an index says what is due. Every node
runs this on the same rows; a claim makes sure that one of them does the work.
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Final

from strongroom.model.clock import Clock
from strongroom.store.engine.contract import Engine, LeaseRow, Transaction
from strongroom.store.leasing import Leases

# Tokens and leases of a batch: a few statements, which hold the turn to write meanwhile. Longer
# ones take a core from the readers for longer at once, which their p99 shows.
PAGE: Final = 100
# Of a database that does not answer, so that one that is back is asked again soon.
BATCH_SECONDS: Final = 30.0
# Between two batches at least; otherwise half as long as the commit took, so that the writers that
# wait have a third of the time however much is due.
BREATH_SECONDS: Final = 0.005


class Expiration:
    """One for each process that does background work."""

    def __init__(self, engine: Engine, clock: Clock, leases: Leases) -> None:
        self._engine = engine
        self._clock = clock
        self._leases = leases

    async def catch_up(self) -> int:
        """Work through what is due by now; how many tokens and leases that were.

        Raises TimeoutError when the database does not answer.
        """
        done = 0
        while True:
            now, begun = self._clock.now(), self._clock.monotonic()
            due = self._engine.view.next_due()
            if due is None or due > now:
                return done
            async with asyncio.timeout(BATCH_SECONDS):
                tokens, leases = await self._engine.transact_alone(partial(self._expire, now=now))
            took = self._clock.monotonic() - begun
            await self._leases.revoke(leases)
            done += tokens + len(leases)
            if max(tokens, len(leases)) < PAGE:
                # What has come due meanwhile waits for the next look: each commit makes every node
                # ask anew whether what it remembers still stands.
                return done
            await self._clock.sleep(max(BREATH_SECONDS, took / 2))

    def _expire(self, transaction: Transaction, now: float) -> tuple[int, Sequence[LeaseRow]]:
        """One commit for both: each makes every node look anew at what it has remembered."""
        tokens = transaction.delete_expired_tokens(now, PAGE)
        return tokens, self._leases.claim(transaction, now, PAGE)
