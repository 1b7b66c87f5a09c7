"""Housekeeping of a cluster: one process leads it, a step at a time, each in a transaction.

What has expired and must be revoked elsewhere is `expiration`'s; this is what only rows need.

The leader is a row with an epoch. Each step first asks in its own transaction whether the epoch
still holds, so a leader that was paused and replaced changes nothing when it wakes up; a clock
that was stepped moves the lead at most, it never lets two do the same step. A leader whose row
does not move is replaced whatever time the row names. Steps are bounded
pages, so that writes of requests come in between.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from strongroom.model.clock import Clock
from strongroom.model.errors import Unavailable
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.contract import ConsumerRow, Engine, Transaction, View
from strongroom.store.engine.upkeep_contract import LeaderRow
from strongroom.store.notices import Notices, reason_of
from strongroom.store.tokens import claim_end

TASK: Final = "upkeep"
LEAD_SECONDS: Final = 15.0
TICK_SECONDS: Final = 1.0
COUNT_SECONDS: Final = 60.0
AGAIN_SECONDS: Final = 60.0
PAGE: Final = 500
RESEAL_PAGE: Final = 200
EVENTS_KEPT: Final = 20_000
EVENTS_PAGE: Final = 2_000
CONSUMERS_KEPT_SECONDS: Final = 7 * 86400.0
# After so long nothing is on its way to a removed mount any more.
LATE_SECONDS: Final = 3600.0
# Where the documents of mounts are that were removed, by their uuids: the mount and the kind.
REMOVED: Final = ("system", "removed-mount")

Step = Callable[[Transaction, float], bool]
# What takes too long for a transaction, such as a key pair, and then the step that uses it.
Preparation = Callable[[View, float], Awaitable[Step]]


def nothing(transaction: Transaction, now: float) -> bool:  # noqa: ARG001 - a step's shape
    """The step of a chore that has none to do."""
    return False


@dataclass(frozen=True, slots=True)
class Chore:
    """Work that comes up every so many seconds; `step` does a page and says whether more waits.

    `damaged` names the rows that it met and that do not open, once its pages are done. `prepare`
    gives each step of a chore that needs something made beforehand.
    """

    name: str
    seconds: float
    step: Step
    damaged: Callable[[View], Sequence[str]] = lambda _: ()
    prepare: Preparation | None = None


def spent_secret_ids(transaction: Transaction, now: float) -> bool:
    """Remove a page of AppRole's secret ids that are expired or used up."""
    return transaction.delete_spent_secret_ids(now, PAGE) >= PAGE


def old_failures(transaction: Transaction, now: float) -> bool:
    """Forget a page of failed logins that no longer count."""
    return transaction.forget_failed_logins(now, PAGE) >= PAGE


def old_consumers(transaction: Transaction, now: float) -> bool:
    """Forget a page of acknowledgements that lapsed a week ago."""

    def end_of(row: ConsumerRow) -> float | None:
        return claim_end(transaction, row, now)

    return transaction.forget_consumers(now - CONSUMERS_KEPT_SECONDS, end_of, PAGE) >= PAGE


def old_events(transaction: Transaction, now: float) -> bool:  # noqa: ARG001 - a step's shape
    """Forget a page of the change feed that nobody will ask for."""
    return transaction.forget_events(EVENTS_KEPT, EVENTS_PAGE)


async def old_terms(view: View, now: float) -> Step:  # noqa: ARG001 - a preparation's shape
    """Bring a page of rows under the newest term of the key ring.

    That is one whose rotation is committed: one in the same group of writes seals from the next
    group on, and the page would seal under the term before it and be called done.
    """
    committed = view.reseal()

    def step(transaction: Transaction, now: float) -> bool:
        current = transaction.reseal()
        if current is None:
            return False
        if committed is None or committed.term != current.term:
            return True
        return transaction.reseal_page(RESEAL_PAGE, now)

    return step


def late_rows(transaction: Transaction, now: float) -> bool:
    """Remove what was still on its way to a mount as that was removed, a page of mounts at a time.

    Such a write is committed after it, and nobody would ever find what it has left. Only what
    somebody has removed is looked for: the row of a mount may be away because somebody repairs it.
    """
    due = []
    for gone in transaction.document_names(*REMOVED):
        removed = transaction.document(*REMOVED, gone)
        if removed is not None and abs(now - removed["removed"]) >= LATE_SECONDS:
            due.append(gone)
        if len(due) == PAGE:
            break
    if not due or transaction.damaged_mounts():
        # Whether one of those is back, from a backup, nobody knows.
        return False
    there = {each.uuid for each in transaction.mounts()}
    for gone in due:
        if gone not in there:
            transaction.delete_rows_of_mount(gone)
        transaction.delete_document(*REMOVED, gone)
    return len(due) == PAGE


def damaged_terms(view: View) -> Sequence[str]:
    """The rows that could not be brought under the newest term."""
    row = view.reseal()
    return row.damaged if row is not None else ()


CHORES: Final[tuple[Chore, ...]] = (
    Chore("spent secret ids", 60.0, spent_secret_ids),
    Chore("old failed logins", 60.0, old_failures),
    Chore("old acknowledgements", 3600.0, old_consumers),
    Chore("rows of removed mounts", 3600.0, late_rows),
    Chore("old events", TICK_SECONDS, old_events),
    Chore("old key terms", TICK_SECONDS, nothing, damaged_terms, old_terms),
)


class Upkeep:
    """One process's part in it. `node` is a name that no other process has."""

    def __init__(
        self,
        engine: Engine,
        barrier: Barrier,
        clock: Clock,
        node: str,
        chores: Sequence[Chore] = CHORES,
        *,
        notices: Notices | None = None,
    ) -> None:
        self._notices = notices or Notices()
        self._engine = engine
        self._barrier = barrier
        self._clock = clock
        self._node = node
        self._due = dict.fromkeys(chores, 0.0)
        self._lead_until = 0.0
        self._epoch: int | None = None
        self._seen: tuple[LeaderRow | None, float] = (None, 0.0)
        self._count_due = 0.0

    async def run(self) -> None:
        """Until cancelled; a database that is away or a seal that is closed is waited for."""
        while True:
            await self._notices.attempt(TASK, lambda: self._engine.waiting(self.turn()))
            await self._clock.sleep(TICK_SECONDS)

    async def turn(self) -> None:
        """Do what is due, if this process leads; call it inside `Engine.waiting`."""
        await self._count()
        if not await self._leads():
            return
        for chore, due in self._due.items():
            if self._clock.monotonic() < due:
                continue
            if not await self._run(chore):
                return

    async def _run(self, chore: Chore) -> bool:
        """Do one chore to its end; False when this process has lost the lead."""
        wait, pages = chore.seconds, 1
        try:
            while self._epoch is not None and await self._step(chore, self._epoch):
                pages += 1
                await asyncio.sleep(0)  # Requests come in between.
                if not await self._leads():
                    return False
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001 - the other chores go on
            self._notices.say(chore.name, reason_of(error))
            wait = min(wait, AGAIN_SECONDS)
        else:
            self._notices.over(chore.name)
            if pages > 1:
                for each in chore.damaged(self._engine.view):
                    self._notices.say("damaged row", each)
        self._due[chore] = self._clock.monotonic() + wait
        return True

    async def _leads(self) -> bool:
        if self._epoch is not None and self._clock.monotonic() < self._lead_until:
            return True
        now, row = self._clock.now(), self._engine.view.leader(TASK)
        silent = self._watched(row)
        if row is not None and row.node != self._node and row.expires > now and not silent:
            self._epoch = None
            return False
        self._lead_until = self._clock.monotonic() + LEAD_SECONDS / 3
        self._epoch = await self._engine.transact(
            lambda each: each.lead(TASK, self._node, now, LEAD_SECONDS, silent)
        )
        return self._epoch is not None

    def _watched(self, row: LeaderRow | None) -> LeaderRow | None:
        """The leader, once its row has not moved for as long as it would have led.

        It may have died while its clock, or this one, was wrong by years.
        """
        if row != self._seen[0]:
            self._seen = row, self._clock.monotonic()
        return row if self._clock.monotonic() - self._seen[1] > LEAD_SECONDS else None

    async def _step(self, chore: Chore, epoch: int) -> bool:
        now, step = self._clock.now(), chore.step
        if chore.prepare is not None:
            step = await chore.prepare(self._engine.view, now)

        def work(transaction: Transaction) -> bool | None:
            if not transaction.leads(TASK, self._node, epoch):
                return None
            return step(transaction, now)

        more = await self._engine.transact(work)
        if more is None:
            self._epoch = None
        return bool(more)

    async def _count(self) -> None:
        """Every process tells how much it has sealed."""
        if self._clock.monotonic() < self._count_due:
            return
        self._count_due = self._clock.monotonic() + COUNT_SECONDS
        term, number = self._barrier.ring.current_term, self._barrier.take_count()
        if number:
            await self._engine.transact(lambda each: each.count_seals(term, number))
