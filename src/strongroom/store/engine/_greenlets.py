"""Plain functions that wait: a caller is parked in a greenlet until the database has answered.

Row code and backends read as if the answer were there. Under PostgreSQL they run in a greenlet;
`answer_of` leaves it with something to await, the task that drives it awaits that, and goes back
in with the answer. The same bridge as SQLAlchemy's asyncio extension, for plain functions and for
coroutines that read between their awaits.
"""

import contextlib
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

from greenlet import GreenletExit, getcurrent, greenlet

from strongroom.model.errors import Misuse

T = TypeVar("T")
# About 20 KB each.
KEPT: Final = 128


class _Parked(greenlet):  # type: ignore[misc]
    """A greenlet whose parent awaits what it leaves with. It runs one function after another.

    A new one costs two changes of the memory map, for the room of its Python frames, and its pages:
    a tenth of the processor time of a write. So those that are done are kept.
    """

    busy = False
    awaited = True
    result: Any = None
    failure: BaseException | None = None

    def run(self) -> None:
        """Until it is let go, by an exception of its own. Idle, it holds nothing of anybody."""
        works = [self.parent.switch()]
        while True:
            try:
                self.result = works.pop()()
            except GreenletExit:
                raise
            except BaseException as error:  # noqa: BLE001 - it is raised where the work was begun
                self.failure = error
            self.busy = False
            works.append(self.parent.switch())

    def begin(self, work: Callable[[], Any], *, awaited: bool = True) -> Any:  # noqa: ANN401
        """What it asks, or its result when it is not `busy` any more; raises what the work raises.

        `awaited` says whether what it leaves with is awaited.
        """
        self.busy, self.awaited = True, awaited
        return self._outcome(self.switch(work))

    def go_on(self, answer: object) -> Any:  # noqa: ANN401
        """With the answer to what it asked."""
        return self._outcome(self.switch(answer))

    def fail(self, error: BaseException) -> Any:  # noqa: ANN401
        """With an error in place of an answer."""
        return self._outcome(self.throw(error))

    def _outcome(self, asked: Any) -> Any:  # noqa: ANN401
        if self.busy:
            return asked
        result, failure = self.result, self.failure
        self.result = self.failure = None
        if len(_kept.idle) < KEPT:
            _kept.idle.append(self)
        if failure is not None:
            raise failure
        return result


def _free() -> _Parked:
    """One to be begun, in the context of who drives it."""
    driver = getcurrent()
    if _kept.idle:
        parked = _kept.idle.pop()
        if parked.parent is not driver:
            parked.parent = driver
    else:
        parked = _Parked(parent=driver)
        # To where it waits for a function: one that it is begun with it would keep for good.
        parked.switch()
    parked.gr_context = driver.gr_context
    return parked


class _Kept(threading.local):
    """Those that are done, of one thread: a greenlet cannot leave its own."""

    def __init__(self) -> None:
        self.idle: list[_Parked] = []


_kept = _Kept()


def answer_of(awaitable: Awaitable[T]) -> T:
    """Park until the awaitable is done; raises Misuse where nobody awaits it."""
    current = getcurrent()
    if not isinstance(current, _Parked) or not current.awaited:
        if isinstance(awaitable, Coroutine):
            awaitable.close()
        raise Misuse("a read that waits was made outside Engine.waiting")
    answer: T = current.parent.switch(awaitable)
    return answer


def leave_with(value: object) -> Any:  # noqa: ANN401 - whatever the driver of the greenlet answers
    """Leave the greenlet of an `Asking` with a value; what its driver goes back in with."""
    return getcurrent().parent.switch(value)


class Asking:
    """A function in a greenlet that is driven by hand: `leave_with` is answered by `go_on`."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self._parked: _Parked | None = None
        self.done = False

    def go_on(self, answer: object = None) -> Any:  # noqa: ANN401
        """What it leaves with, or its result when it is `done`; raises what it raises."""
        begun = self._parked is not None
        parked = self._parked = self._parked or _free()
        try:
            return parked.go_on(answer) if begun else parked.begin(self._work, awaited=False)
        finally:
            self.done = not parked.busy

    def let_go(self) -> None:
        """Nobody goes on with it: the function ends where it waits, by an exception.

        What it has in hand would be kept for ever: no look for garbage sees into a greenlet.
        """
        # One that is done has no greenlet any more: it is somebody else's by now.
        if self._parked is not None and not self.done:
            with contextlib.suppress(BaseException):
                self._parked.fail(_LetGo())
            self.done = True


class _LetGo(BaseException):
    """Ends a function that waits for an answer; no `except Exception` may hold it up."""


async def run_parked(work: Callable[[], T]) -> T:
    """Run a plain function that may use `answer_of`."""
    parked = _free()
    outcome: Any = parked.begin(work)
    while parked.busy:
        try:
            answer = await outcome
        except BaseException as error:  # noqa: BLE001 - it belongs to the parked function
            outcome = parked.fail(error)
        else:
            outcome = parked.go_on(answer)
    result: T = outcome
    return result


async def run_side_by_side(works: Iterable[Callable[[], None]]) -> None:
    """Run plain functions that may use `answer_of` and raise nothing; they wait together.

    All are begun before any is gone on with, so that what they ask is asked in one turn of the
    event loop.
    """
    waiting: list[tuple[_Parked, Any]] = []
    for work in works:
        parked = _free()
        outcome = parked.begin(work)
        if parked.busy:
            waiting.append((parked, outcome))
    while waiting:
        current, waiting = waiting, []
        for place, (parked, asked) in enumerate(current):
            try:
                answer = await asked
            except Exception as error:  # noqa: BLE001 - it belongs to the parked function
                outcome = parked.fail(error)
            except BaseException as error:
                # Nobody drives them any more.
                for each, _ in (*current[place:], *waiting):
                    with contextlib.suppress(BaseException):
                        each.fail(error)
                raise
            else:
                outcome = parked.go_on(answer)
            if parked.busy:
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
        parked = _free()
        outcome = parked.begin(partial(_stepped, self._coroutine))
        while parked.busy:
            try:
                if isinstance(outcome, _Yielded):
                    answer = yield outcome.value
                else:
                    answer = yield from outcome.__await__()
            except BaseException as error:  # noqa: BLE001 - it belongs to the coroutine
                outcome = parked.fail(error)
            else:
                outcome = parked.go_on(answer)
        result: T = outcome
        return result


def _stepped(coroutine: Coroutine[Any, Any, T]) -> T:
    """Take the steps of a coroutine; what it yields leaves the greenlet."""
    parked = getcurrent()
    step: Callable[[], Any] = partial(coroutine.send, None)
    while True:
        try:
            yielded = step()
        except StopIteration as stop:
            result: T = stop.value
            return result
        try:
            step = partial(coroutine.send, parked.parent.switch(_Yielded(yielded)))
        except BaseException as error:  # noqa: BLE001 - it belongs to the coroutine
            step = partial(coroutine.throw, error)


async def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that may use `answer_of` between its awaits."""
    return await _Driven(coroutine)
