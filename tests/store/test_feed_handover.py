"""The change feed where reads wait: what is committed while a subscriber joins is not lost."""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from strongroom.model.clock import SystemClock
from strongroom.model.errors import Denied, Refusal, Unavailable
from strongroom.store.engine._greenlets import answer_of, drive
from strongroom.store.engine.contract import EventRow
from strongroom.store.feed import PER_TURN, ChangeFeed, Subscriber, pattern_of


class _View:
    """Events of a database that answers when `gate` lets it: with what was there at the question."""

    def __init__(self) -> None:
        self.events: list[EventRow] = []
        self.gate: Callable[[int], asyncio.Future[None] | None] = lambda _: None
        self.is_away = False

    def last_event(self) -> int:
        found = len(self.events)
        self._wait(found)
        return found

    def events_after(self, sequence: int, limit: int) -> Sequence[EventRow]:
        if self.is_away:
            raise Unavailable("storage-down", "the database does not answer")
        found = [each for each in self.events if each.sequence > sequence][:limit]
        self._wait(sequence)
        return found

    def _wait(self, asked: int) -> None:
        gate = self.gate(asked)
        if gate is not None:
            answer_of(gate)


class _Engine:
    def __init__(self) -> None:
        self.view = _View()
        self.waiting = drive

    def commit(self) -> None:
        number = len(self.view.events) + 1
        path = f"secret/data/{number}"
        self.view.events.append(EventRow(number, 0.0, path, "write", 1, "secret/"))


class _Anybody:
    """Sessions of tokens that may all read everything."""

    def open(self, *_: object) -> Any:
        return self

    def decide(self, *_: object) -> Any:
        return self

    allowed = True


class _Away:
    """Sessions while nobody can be looked up."""

    def __init__(self, refusal: Refusal) -> None:
        self._refusal = refusal

    def open(self, *_: object) -> Any:
        raise self._refusal


class _Socket:
    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []
        self.closed = asyncio.Event()
        self.code = 0

    def send_text(self, text: str) -> bool:
        self.said.append(json.loads(text))
        return True

    def is_behind(self) -> bool:
        return False

    def close(self, code: int = 1001) -> None:
        self.code = code
        self.closed.set()

    @property
    def changes(self) -> list[int]:
        return [int(each["id"]) for each in self.said if "kv-" in each["data"]["event_type"]]


def _subscriber(socket: _Socket, told: int = 0, types: str = "kv*") -> Subscriber:
    return Subscriber(socket, pattern_of(types, {}), "token", "peer", told)  # type: ignore[arg-type]


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.01)


async def test_what_is_committed_while_a_subscriber_takes_over_from_the_history_is_told() -> None:
    engine, first, second = _Engine(), _Socket(), _Socket()
    feed = ChangeFeed(engine, _Anybody(), SystemClock())  # type: ignore[arg-type]
    engine.commit()

    async def follow() -> None:
        feed.subscribe(_subscriber(first, told=len(engine.view.events)))

    await engine.waiting(follow())
    # The second asks for the oldest entry, and then for what is behind the first one: this answer
    # takes its time.
    held = asyncio.get_running_loop().create_future()
    asked: list[int] = []

    def hold(number: int) -> "asyncio.Future[None] | None":
        asked.append(number)
        return held if asked[-2:] == [0, 1] else None

    engine.view.gate = hold
    feed.subscribe(_subscriber(second), after=1)
    await _until(lambda: asked[-2:] == [0, 1])
    engine.view.gate = lambda _: None
    engine.commit()
    feed.wake()
    await _until(lambda: first.changes == [2])
    held.set_result(None)
    engine.commit()
    feed.wake()
    await _until(lambda: first.changes == [2, 3] and 3 in second.changes)
    assert second.changes == [2, 3]
    feed.cut()


async def test_a_subscriber_is_sent_away_when_what_it_missed_cannot_be_read() -> None:
    engine, first, second = _Engine(), _Socket(), _Socket()
    feed = ChangeFeed(engine, _Anybody(), SystemClock())  # type: ignore[arg-type]
    feed.subscribe(_subscriber(first, told=len(engine.view.events)))
    engine.commit()
    feed.wake()
    await _until(lambda: first.changes == [1])
    engine.view.is_away = True
    feed.subscribe(_subscriber(second))
    assert second.code == 1013
    feed.cut()


@pytest.mark.parametrize(
    ("refusal", "code"), [(Unavailable("away", "not now"), 1013), (Denied("denied", "no"), 1008)]
)
async def test_whose_token_cannot_be_looked_up_is_to_come_again(
    refusal: Refusal, code: int
) -> None:
    """It was told that its token is no good, while the database was away."""
    engine, socket = _Engine(), _Socket()
    feed = ChangeFeed(engine, _Away(refusal), SystemClock())  # type: ignore[arg-type]
    feed.subscribe(_subscriber(socket))
    engine.commit()
    feed.wake()
    await _until(socket.closed.is_set)
    assert (socket.code, socket.said) == (code, [])
    feed.cut()


async def test_others_are_served_while_many_are_told_of_many_changes() -> None:
    """A page of events for a thousand subscribers held the process up for seconds."""
    engine, sockets = _Engine(), [_Socket() for _ in range(20)]
    feed = ChangeFeed(engine, _Anybody(), SystemClock())  # type: ignore[arg-type]

    async def follow() -> None:
        for each in sockets:
            feed.subscribe(_subscriber(each))

    await engine.waiting(follow())
    for _ in range(100):
        engine.commit()
    feed.wake()
    most, before = 0, 0
    async with asyncio.timeout(10):
        while before < 20 * 100:
            await asyncio.sleep(0)
            now = sum(len(each.said) for each in sockets)
            most, before = max(most, now - before), now
    assert most <= PER_TURN + len(sockets)
    assert all(each.changes == list(range(1, 101)) for each in sockets)
    feed.cut()


async def test_the_patterns_of_all_who_listen_are_not_read_at_each_event() -> None:
    """Any token kept everybody waiting for seconds, by a thousand of which no two are the same."""
    engine, listening = _Engine(), _Socket()
    feed = ChangeFeed(engine, _Anybody(), SystemClock())  # type: ignore[arg-type]
    odd = [_subscriber(_Socket(), types="[" * 250 + f"{number}") for number in range(600)]

    async def follow() -> None:
        for each in (*odd, _subscriber(listening)):
            feed.subscribe(each)

    await engine.waiting(follow())
    engine.commit()
    began = time.process_time()
    feed.wake()
    await _until(lambda: listening.changes == [1])
    assert time.process_time() - began < 0.3
    assert not any(each.socket.changes for each in odd)  # type: ignore[attr-defined]
