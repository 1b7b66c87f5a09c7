"""Plain functions that wait: a caller is parked in a greenlet until the database has answered.

Row code and backends read as if the answer were there. Under PostgreSQL they run in a greenlet;
`answer_of` leaves it with something to await, the task that drives it awaits that, and goes back
in with the answer. The same bridge as SQLAlchemy's asyncio extension, for plain functions and for
coroutines that read between their awaits.
"""

import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from greenlet import getcurrent, greenlet

from strongroom.model.errors import Misuse

T = TypeVar("T")


class _Parked(greenlet):  # type: ignore[misc]
    """A greenlet whose parent awaits what it leaves with."""


def answer_of(awaitable: Awaitable[T]) -> T:
    """Park until the awaitable is done; raises Misuse where nobody awaits it."""
    current = getcurrent()
    if not isinstance(current, _Parked):
        if isinstance(awaitable, Coroutine):
            awaitable.close()
        raise Misuse("a read that waits was made outside Engine.waiting")
    answer: T = current.parent.switch(awaitable)
    return answer


def leave_with(value: object) -> Any:  # noqa: ANN401 - whatever the driver of the greenlet answers
    """Leave a greenlet of `parked` with a value; what its driver goes back in with."""
    return getcurrent().parent.switch(value)


def parked(work: Callable[[], Any]) -> Any:  # noqa: ANN401 - greenlet has no types
    """A greenlet that `switch` starts, for a driver that answers `leave_with` by itself."""
    driver = getcurrent()
    made = greenlet(work, driver)
    made.gr_context = driver.gr_context
    return made


async def run_parked(work: Callable[[], T]) -> T:
    """Run a plain function that may use `answer_of`."""
    driver = getcurrent()
    parked = _Parked(work, driver)
    parked.gr_context = driver.gr_context
    outcome: Any = parked.switch()
    while not parked.dead:
        try:
            answer = await outcome
        except BaseException as error:  # noqa: BLE001 - it belongs to the parked function
            outcome = parked.throw(error)
        else:
            outcome = parked.switch(answer)
    result: T = outcome
    return result


async def run_side_by_side(works: Iterable[Callable[[], None]]) -> None:
    """Run plain functions that may use `answer_of` and raise nothing; they wait together.

    All are begun before any is gone on with, so that what they ask is asked in one turn of the
    event loop.
    """
    driver = getcurrent()
    waiting: list[tuple[_Parked, Any]] = []
    for work in works:
        parked = _Parked(work, driver)
        parked.gr_context = driver.gr_context
        outcome = parked.switch()
        if not parked.dead:
            waiting.append((parked, outcome))
    while waiting:
        current, waiting = waiting, []
        for place, (parked, asked) in enumerate(current):
            try:
                answer = await asked
            except Exception as error:  # noqa: BLE001 - it belongs to the parked function
                outcome = parked.throw(error)
            except BaseException as error:
                # Nobody drives them any more.
                for each, _ in (*current[place:], *waiting):
                    with contextlib.suppress(BaseException):
                        each.throw(error)
                raise
            else:
                outcome = parked.switch(answer)
            if not parked.dead:
                waiting.append((parked, outcome))


@dataclass(slots=True)
class _Yielded:
    """What a coroutine has yielded to whoever runs it."""

    value: Any


class _Driven(Awaitable[T]):
    """A coroutine that runs in a greenlet from its first step to its last."""

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, T]:
        driver = getcurrent()
        parked = _Parked(partial(_stepped, self._coroutine), driver)
        parked.gr_context = driver.gr_context
        outcome = parked.switch()
        while not parked.dead:
            try:
                if isinstance(outcome, _Yielded):
                    answer = yield outcome.value
                else:
                    answer = yield from outcome.__await__()
            except BaseException as error:  # noqa: BLE001 - it belongs to the coroutine
                outcome = parked.throw(error)
            else:
                outcome = parked.switch(answer)
        result: T = outcome
        return result


def _stepped(coroutine: Coroutine[Any, Any, T]) -> T:
    """Take the steps of a coroutine; what it yields leaves the greenlet."""
    leave = getcurrent().parent.switch
    step: Callable[[], Any] = partial(coroutine.send, None)
    while True:
        try:
            yielded = step()
        except StopIteration as stop:
            result: T = stop.value
            return result
        try:
            step = partial(coroutine.send, leave(_Yielded(yielded)))
        except BaseException as error:  # noqa: BLE001 - it belongs to the coroutine
            step = partial(coroutine.throw, error)


async def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that may use `answer_of` between its awaits."""
    return await _Driven(coroutine)
