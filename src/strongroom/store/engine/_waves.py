"""Units of work of a group side by side: each step of all of them is one round trip a statement.

A wave starts every unit in a greenlet of its own and lets them run until each asks something.
What they ask is sent together, a query over arrays for each statement, and so on until all are
done; then what they want to write is sent together as well. In-memory locks see to it that no two
of a wave meet in a row: who would, steps aside and runs in the next wave, after the others' writes.
So every unit still sees the state that all before it have left, in one order.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from strongroom.store.engine._footprints import Form, form_of
from strongroom.store.engine._foreseen import Outcome
from strongroom.store.engine._greenlets import Asking, leave_with
from strongroom.store.engine._locks import Locks, Owner
from strongroom.store.engine._postgres_sql import (
    Connection,
    SharedReads,
    Values,
    numbered,
    refuse_unstorable,
)
from strongroom.store.engine.sql import POSTGRES, Sql

# A unit that writes more than this sends it before the end.
HELD: Final = 1000

Statement = tuple[str, Values]


class Undo(Exception):
    """A unit failed, or met another, after it had changed rows: undo all and run one by one."""


class _StepAside(BaseException):
    """A unit has met another; no `except Exception` of row code or backends may hold it up."""


@dataclass(slots=True)
class _Question:
    """What a unit waits for. `before` is what it must have written by then."""

    statement: str
    values: Values
    every: bool
    writes: bool
    before: list[Statement] = field(default_factory=list)


class _UnitSql:
    """Statements of one unit of work."""

    dialect = POSTGRES

    def __init__(self, unit: "_Unit", locks: Locks | None) -> None:
        self._unit = unit
        self._locks = locks
        self._touched: set[str] = set()

    def one(self, statement: str, *values: object) -> Any:  # noqa: ANN401
        """The first row, or None."""
        return self._ask(statement, values, every=False)

    def all(self, statement: str, *values: object) -> Sequence[Any]:
        """Every row."""
        found: Sequence[Any] = self._ask(statement, values, every=True)
        return found

    def run(self, statement: str, *values: object) -> None:
        """A write, held until the end of the wave or until the unit asks for what it changed."""
        form = self._lock(statement, values)
        self._unit.held.append((statement, values))
        self._touched |= form.tables
        if len(self._unit.held) >= HELD:
            leave_with(_Question("", (), every=True, writes=True, before=self._taken()))

    def _ask(self, statement: str, values: Values, *, every: bool) -> Any:  # noqa: ANN401
        form = self._lock(statement, values)
        question = _Question(statement, values, every, form.writes)
        if form.writes or not self._touched.isdisjoint(form.tables):
            question.before = self._taken()
        return leave_with(question)

    def _lock(self, statement: str, values: Values) -> Form:
        refuse_unstorable(values)
        form = form_of(statement)
        if self._locks is not None and not self._locks.take(self._unit.owner, form, values):
            raise _StepAside
        return form

    def _taken(self) -> list[Statement]:
        taken, self._unit.held = self._unit.held, []
        self._touched.clear()
        return taken


class _Unit:
    """One unit of work on its way through a wave."""

    def __init__(self, number: int, work: Callable[[Sql], Any], locks: Locks | None) -> None:
        self.number = number
        self.owner = Owner()
        self.held: list[Statement] = []
        self.question: _Question | None = None
        self.outcome: Outcome | None = None
        # Whether it has changed rows, beyond what it holds.
        self.has_written = False
        self._asking = Asking(partial(work, _UnitSql(self, locks)))

    def step(self, answer: Any = None) -> None:  # noqa: ANN401
        """Run until the next question or the end; raises Undo."""
        self.question = None
        try:
            found = self._asking.go_on(answer)
        except _StepAside as meeting:
            self._leave(meeting)
        except Exception as error:  # noqa: BLE001 - it is handed to whoever asked for the write
            self._leave(error)
            self.outcome = None, error
        else:
            if self._asking.done:
                self.outcome = found, None
            else:
                self.question = found

    def let_go(self) -> None:
        """Its wave was broken off: it ends where it is."""
        self._asking.let_go()

    def _leave(self, why: BaseException) -> None:
        if self.has_written:
            raise Undo from why
        self.owner.aside = True
        self.held.clear()


class Waves:
    """Runs a group on a connection that is in a transaction."""

    def __init__(self, connection: Connection, reads: SharedReads) -> None:
        self._connection = connection
        self._reads = reads

    async def run(self, group: Sequence[Callable[[Sql], Any]]) -> list[Outcome]:
        """The outcome of each; raises Undo, and what the driver raises."""
        outcomes: list[Outcome | None] = [None] * len(group)
        waiting = list(range(len(group)))
        while waiting:
            locks = Locks() if len(waiting) > 1 else None
            wave = [_Unit(number, group[number], locks) for number in waiting]
            try:
                await self._run_wave(wave)
            finally:
                for unit in wave:
                    unit.let_go()
            for unit in wave:
                outcomes[unit.number] = unit.outcome
            waiting = [unit.number for unit in wave if unit.outcome is None]
        return [each for each in outcomes if each is not None]

    async def _run_wave(self, wave: Sequence[_Unit]) -> None:
        for unit in wave:
            unit.step()
        while asking := [unit for unit in wave if unit.question is not None]:
            await self._write([unit.question.before for unit in asking if unit.question])
            for unit, answer in zip(asking, await self._answers(asking), strict=True):
                unit.step(answer)
        await self._write([unit.held for unit in wave])

    async def _answers(self, asking: Sequence[_Unit]) -> list[Any]:
        """What each wants to know, in their order."""
        alike: dict[tuple[str, bool], dict[Values, list[int]]] = {}
        for place, unit in enumerate(asking):
            question = unit.question
            if question is None:
                continue
            unit.has_written |= question.writes or bool(question.before)
            places = alike.setdefault((question.statement, question.every), {})
            # Units never write the same row, so equal values mean the same question.
            places.setdefault(question.values, []).append(place)
        answers: list[Any] = [None] * len(asking)
        for (statement, every), places in alike.items():
            found = await self._ask(statement, list(places), every=every)
            for row, those in zip(found, places.values(), strict=True):
                for place in those:
                    answers[place] = row
        return answers

    async def _ask(self, statement: str, values: list[Values], *, every: bool) -> Sequence[Any]:
        if not statement:
            return [None] * len(values)
        if form_of(statement).writes:
            return await self._change(statement, values, every=every)
        if every:
            question = numbered(statement)
            return [await self._connection.fetch(question, *each) for each in values]
        return await self._reads.fetch_each(self._connection, statement, values)

    async def _change(self, statement: str, values: list[Values], *, every: bool) -> Sequence[Any]:
        """Writes with an answer; in one round trip where each certainly has one row."""
        question = numbered(statement)
        if form_of(statement).inserts and not every and len(values) > 1:
            return await self._connection.fetchmany(question, values)
        rows = [await self._connection.fetch(question, *each) for each in values]
        return rows if every else [each[0] if each else None for each in rows]

    async def _write(self, held: Sequence[list[Statement]]) -> None:
        """Send what units hold: each one's in its order, equal statements together."""
        left = [each for each in held if each]
        at = [0] * len(left)
        while unfinished := [n for n, each in enumerate(left) if at[n] < len(each)]:
            statement = left[unfinished[0]][at[unfinished[0]]][0]
            values = []
            for n in unfinished:
                while at[n] < len(left[n]) and left[n][at[n]][0] == statement:
                    values.append(left[n][at[n]][1])
                    at[n] += 1
            await self._reads.change_each(self._connection, statement, values)
