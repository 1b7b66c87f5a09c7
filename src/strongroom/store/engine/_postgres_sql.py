"""Row statements on PostgreSQL: placeholders, reads that share a query, writes held together.

Point reads that wait in the same turn of the event loop and ask the same statement become one
query over arrays; a caller's write waits until the next question, so that a run of equal writes
is one round trip.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from functools import lru_cache
from typing import Any, Final, Protocol

from strongroom.model.errors import Misuse
from strongroom.store.engine._footprints import Form, form_of
from strongroom.store.engine._greenlets import answer_of
from strongroom.store.engine.sql import POSTGRES, unstorable

Values = tuple[Any, ...]
_Askers = dict[Values, list["asyncio.Future[Any]"]]
# More is sent row by row, so that neither side holds it twice.
MOST_ARRAY_BYTES: Final = 16 * 1024 * 1024
# Columns of whole numbers are BIGINT.
_LEAST, _MOST = -(2**63), 2**63 - 1


@lru_cache(maxsize=1024)
def numbered(statement: str) -> str:
    """`?` placeholders as `$1`, `$2`, ...; no statement of ours has a question mark in text."""
    head, *tails = statement.split("?")
    return head + "".join(f"${number}{tail}" for number, tail in enumerate(tails, 1))


@lru_cache(maxsize=1024)
def over_arrays(statement: str, types: tuple[str, ...]) -> str:
    """A point read for many sets of values at once; the first column numbers the set from 1."""
    head, *tails = statement.split("?")
    inner = head + "".join(f"asked.p{number}{tail}" for number, tail in enumerate(tails, 1))
    arrays = ", ".join(f"${number}::{each}[]" for number, each in enumerate(types, 1))
    names = ", ".join(f"p{number}" for number in range(1, len(types) + 1))
    return (
        f"SELECT asked.n, found.* FROM unnest({arrays}) WITH ORDINALITY AS asked({names}, n)"  # noqa: S608
        f" CROSS JOIN LATERAL ({inner}) AS found"
    )


@lru_cache(maxsize=1024)
def change_over_arrays(statement: str, types: tuple[str, ...]) -> str:
    """The same write for many sets of values at once, of a form whose rows are known."""
    arrays = ", ".join(f"${number}::{each}[]" for number, each in enumerate(types, 1))
    if statement.startswith("INSERT "):
        places = ", ".join("?" * len(types))
        rows = f"SELECT * FROM unnest({arrays})"  # noqa: S608 - our own names
        return statement.replace(f"VALUES ({places})", rows)
    head, *tails = statement.split("?")
    asked = head + "".join(f"asked.p{number}{tail}" for number, tail in enumerate(tails, 1))
    change, _, which = asked.partition(" WHERE ")
    names = ", ".join(f"p{number}" for number in range(1, len(types) + 1))
    joined = "USING" if statement.startswith("DELETE ") else "FROM"
    return f"{change} {joined} unnest({arrays}) AS asked({names}) WHERE {which}"


def _can_be_arrays(form: Form, values: Sequence[Values]) -> bool:
    """Whether a write may be one statement: each row once, and not too much at once."""
    if len(values) == 1 or not form.columns:
        return False
    if not form.inserts and len({form.picked(each) for each in values}) < len(values):
        return False
    size = sum([len(each) for row in values for each in row if isinstance(each, bytes)])
    return size <= MOST_ARRAY_BYTES


def refuse_unstorable(values: Values) -> None:
    """Refuse what the server would refuse: there it would fail others' work of the same turn."""
    for each in values:
        if isinstance(each, bytes):
            continue
        if isinstance(each, str):
            if "\0" in each:
                raise unstorable()
        elif isinstance(each, int) and not _LEAST <= each <= _MOST:
            raise unstorable()


def number_array(numbers: Iterable[int]) -> str:
    """Whole numbers as PostgreSQL writes an array: the driver looks at each of a list for long."""
    return "{" + ",".join(map(str, numbers)) + "}"


class Connection(Protocol):
    """The part of asyncpg's connection that is used here."""

    async def fetch(self, query: str, *args: object) -> list[Any]:
        """Rows."""

    async def execute(self, query: str) -> Any:  # noqa: ANN401
        """A statement without values, or several."""

    async def fetchmany(self, query: str, args: Sequence[Values]) -> list[Any]:
        """The rows of the same statement for many sets of values, in one round trip."""

    async def prepare(self, query: str) -> Any:  # noqa: ANN401
        """A prepared statement."""

    async def executemany(self, command: str, args: Sequence[Values]) -> None:
        """The same write for many sets of values, in one round trip."""


Ask = Callable[[Connection], Awaitable[list[Any]]]


class SharedReads:
    """Reads of one turn, one query for each statement among them."""

    dialect = POSTGRES

    def __init__(self, perform: "Callable[[Ask], Coroutine[Any, Any, list[Any]]]") -> None:
        # `perform` runs a function with a connection, and turns what goes wrong into refusals.
        self._perform = perform
        self._asked: dict[str, _Askers] = {}
        self._types: dict[str, tuple[str, ...]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def one(self, statement: str, *values: object) -> Any:  # noqa: ANN401
        """The first row, or None."""
        refuse_unstorable(values)
        loop = asyncio.get_running_loop()
        if not self._asked:
            loop.call_soon(self._send)
        # A future for each who asks: one that is cancelled takes no other along.
        answer = loop.create_future()
        self._asked.setdefault(statement, {}).setdefault(values, []).append(answer)
        return answer_of(answer)

    def all(self, statement: str, *values: object) -> Sequence[Any]:
        """Every row."""
        refuse_unstorable(values)
        question = numbered(statement)
        return answer_of(self._perform(lambda connection: connection.fetch(question, *values)))

    def run(self, statement: str, *values: object) -> None:  # noqa: ARG002
        """Views do not write; raises Misuse."""
        raise Misuse("a view does not write")

    def _send(self) -> None:
        everything, self._asked = self._asked, {}
        for statement, asked in everything.items():
            task = asyncio.get_running_loop().create_task(self._answer(statement, asked))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, statement: str, asked: _Askers) -> None:
        try:
            found = await self._perform(
                lambda connection: self.fetch_each(connection, statement, list(asked))
            )
        except BaseException as error:
            for answers in asked.values():
                for answer in answers:
                    if not answer.done():
                        answer.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        for answers, row in zip(asked.values(), found, strict=True):
            for answer in answers:
                if not answer.done():
                    answer.set_result(row)

    async def fetch_each(
        self, connection: Connection, statement: str, asked: Sequence[Values]
    ) -> list[Any]:
        """The first row for each set of values, or None."""
        question = numbered(statement)
        if len(asked) == 1:
            rows = await connection.fetch(question, *asked[0])
            return [rows[0] if rows else None]
        types = await self._types_of(connection, statement)
        columns = [list(each) for each in zip(*asked, strict=True)]
        found: list[Any] = [None] * len(asked)
        for row in await connection.fetch(over_arrays(statement, types), *columns):
            number, *rest = row
            if found[number - 1] is None:
                found[number - 1] = rest
        return found

    async def change_each(
        self, connection: Connection, statement: str, values: Sequence[Values]
    ) -> None:
        """A write for many sets of values, as one statement where that is the same."""
        if not _can_be_arrays(form_of(statement), values):
            await connection.executemany(numbered(statement), values)
            return
        types = await self._types_of(connection, statement)
        columns = [list(each) for each in zip(*values, strict=True)]
        await connection.fetch(change_over_arrays(statement, types), *columns)

    async def _types_of(self, connection: Connection, statement: str) -> tuple[str, ...]:
        types = self._types.get(statement)
        if types is None:
            prepared = await connection.prepare(numbered(statement))
            types = tuple(each.name for each in prepared.get_parameters())
            self._types[statement] = types
        return types


class WritingSql:
    """Statements of one unit of work in a transaction, in order."""

    dialect = POSTGRES

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._held: list[tuple[str, list[Values]]] = []

    def one(self, statement: str, *values: object) -> Any:  # noqa: ANN401
        """The first row, or None."""
        rows = self.all(statement, *values)
        return rows[0] if rows else None

    def all(self, statement: str, *values: object) -> Sequence[Any]:
        """Every row, after everything that was written before."""
        refuse_unstorable(values)
        return answer_of(self._ask(numbered(statement), values))

    def run(self, statement: str, *values: object) -> None:
        """A write, sent with its like before the next question."""
        refuse_unstorable(values)
        if not self._held or self._held[-1][0] != statement:
            self._held.append((statement, []))
        self._held[-1][1].append(values)

    async def _ask(self, question: str, values: Values) -> list[Any]:
        await self.flush()
        return await self._connection.fetch(question, *values)

    async def flush(self) -> None:
        """Send what is held."""
        held, self._held = self._held, []
        for statement, values in held:
            await self._connection.executemany(numbered(statement), values)
