"""How long what expires waits between two batches."""

from collections.abc import Callable, Sequence
from typing import Any

from strongroom.store.expiration import BREATH_SECONDS, PAGE, Expiration


class _Clock:
    """Moves by what is done; notes each pause."""

    def __init__(self) -> None:
        self.at = 0.0
        self.pauses: list[float] = []

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)


class _Engine:
    """Two batches are due, full ones unless told; a commit takes a while. Its own view."""

    def __init__(self, clock: _Clock, commit_seconds: float, batch: int = PAGE) -> None:
        self._clock = clock
        self._commit_seconds = commit_seconds
        self._batch = batch
        self._left = 2

    @property
    def view(self) -> "_Engine":
        return self

    def next_due(self) -> float | None:
        return 0.0 if self._left else None

    async def transact_alone(self, _: Callable[[Any], Any]) -> tuple[int, Sequence[Any]]:
        self._left -= 1
        self._clock.at += self._commit_seconds
        return self._batch, ()


class _Leases:
    """Whoever undoes a lease is slow."""

    def __init__(self, clock: _Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds

    async def revoke(self, _: Sequence[Any]) -> None:
        self._clock.at += self._seconds


async def _pauses(commit_seconds: float, undo_seconds: float) -> list[float]:
    clock = _Clock()
    engine, leases = _Engine(clock, commit_seconds), _Leases(clock, undo_seconds)
    await Expiration(engine, clock, leases).catch_up()  # type: ignore[arg-type]
    return clock.pauses


async def test_writers_get_a_third_of_the_time_of_commits() -> None:
    assert await _pauses(0.5, 0.0) == [0.25, 0.25]
    assert await _pauses(0.0, 0.0) == [BREATH_SECONDS, BREATH_SECONDS]


async def test_a_slow_engine_of_leases_makes_no_pause_longer() -> None:
    assert await _pauses(0.5, 600.0) == [0.25, 0.25]


async def test_what_comes_due_while_little_is_due_waits_for_the_next_look() -> None:
    clock = _Clock()
    expiration = Expiration(_Engine(clock, 0.5, batch=7), clock, _Leases(clock, 0.0))  # type: ignore[arg-type]
    assert await expiration.catch_up() == 7
    assert clock.pauses == []
    assert await expiration.catch_up() == 7
    assert await expiration.catch_up() == 0
