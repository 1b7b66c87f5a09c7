"""Requests that are taken together, where the engine's reads wait.

What arrives while the revision is asked shares the next question and is taken side by side, and so
is what follows the records of a turn. Since a group of writes costs round trips and a commit
however many join it, a group waits a little for those that are on their way (`all_here`).
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Coroutine, Sequence
from functools import partial
from typing import Any, Final

from strongroom.store.engine.contract import Engine, SecretName
from strongroom.wire.http import READS, Request
from strongroom.wire.listener import Exchange

# How long a group of writes waits at most: about what its commit takes.
GATHER_SECONDS: Final = 0.003

# Secrets that are certainly there.
Known = Collection[SecretName]
Arrived = Sequence[tuple[Request, Exchange]]


class Bursts:
    """`check` looks whether anything was committed, and which secrets of those that are asked for
    are there; with that `take` answers or records one request.

    `refuse` answers one whose check has failed; `keep` runs a coroutine to its end.
    """

    def __init__(
        self,
        engine: Engine,
        check: Callable[[Sequence[Request]], Known],
        take: Callable[[Request, Exchange, Known], None],
        refuse: Callable[[Exchange, Exception], None],
        keep: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._engine = engine
        self._check = check
        self._take = take
        self._refuse = refuse
        self._keep = keep
        self._arrived: list[tuple[Request, Exchange]] = []
        self._checking = False
        # What follows the records of a turn, and has not begun.
        self._recorded: list[Callable[[], None]] = []
        # How many may be about to write.
        self._coming = 0
        self._none_coming = asyncio.Event()
        engine.gather_by(self.all_here)

    def arrive(self, request: Request, exchange: Exchange) -> None:
        """Take it after a check that begins after this."""
        self._arrived.append((request, exchange))
        if request.method not in READS:
            self._coming += 1
        if not self._checking:
            self._checking = True
            # Not yet: replies that left together are answered by requests that come one by one,
            # and what the next turn of the event loop brings shares the question.
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self._begin)

    def _begin(self) -> None:
        self._keep(self._engine.waiting(self._check_and_take()))

    async def _check_and_take(self) -> None:
        """A check that began after a request arrived tells what may be answered from memory."""
        while self._arrived:
            arrived, self._arrived = self._arrived, []
            try:
                known = self._check([request for request, _ in arrived])
            except Exception as error:  # noqa: BLE001 - all that waited for it are answered
                for _, exchange in arrived:
                    self._refuse(exchange, error)
                self._here(_writing(arrived))
                continue
            self._keep(self._take_together(arrived, known))
        self._checking = False

    async def _take_together(self, arrived: Arrived, known: Known) -> None:
        works = [partial(self._take, *each, known) for each in arrived]
        try:
            await self._engine.side_by_side(works)
        finally:
            self._here(_writing(arrived))

    def record(self) -> None:
        """What may write was handed to the devices, and will `follow`."""
        self._coming += 1

    def follow(self, work: Callable[[], None]) -> None:
        """Do what follows a record, together with what follows the others of this turn."""
        if not self._recorded:
            self._keep(self._follow_together())
        self._recorded.append(work)

    async def _follow_together(self) -> None:
        works, self._recorded = self._recorded, []
        try:
            await self._engine.side_by_side(works)
        finally:
            self._here(len(works))

    def _here(self, count: int) -> None:
        self._coming -= count
        if not self._coming:
            self._none_coming.set()

    async def all_here(self) -> None:
        """Until nobody who may write is on the way, or that takes too long."""
        if self._coming:
            self._none_coming.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GATHER_SECONDS):
                    await self._none_coming.wait()


def _writing(arrived: Arrived) -> int:
    return sum([request.method not in READS for request, _ in arrived])
