"""Leader election: one leader, a dead one replaced, a lost Lease that stops the work first."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import ClassVar

import pytest

from strongroom.kube.election import Election, Turn, turn
from strongroom.kube.fake import FakeKubeApi
from strongroom.kube.progress import CacheState, QueueState, troubles
from strongroom.kube.resource import LEASES
from strongroom.model.clock import SimulatedClock
from strongroom.model.errors import Unavailable

PLACE = ("ns", "op")


class Replica:
    """One replica that notes when it works."""

    running: ClassVar[list["Replica"]] = []

    def __init__(self, api, clock: SimulatedClock, name: str, log: list[str]) -> None:
        self.election = Election(api, clock, PLACE, name)
        self.name, self.log = name, log
        self.working = False
        self.task = asyncio.create_task(self.election.lead(self.work))
        self.running.append(self)

    async def work(self) -> None:
        self.working = True
        self.log.append(self.name)
        try:
            await asyncio.Event().wait()
        finally:
            self.working = False

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    def die(self) -> None:
        """Killed: nothing is given back."""
        self.election.leading = False
        self.task.cancel()


class Breakable:
    """The fake API for one replica, which may be cut off from it.

    `silent` answers nothing at all, and `slow` lets each answer wait for so many seconds; `asked`
    counts the requests.
    """

    def __init__(self, api: FakeKubeApi, clock: SimulatedClock) -> None:
        self._api, self._clock = api, clock
        self.cut = self.silent = False
        self.slow = 0.0
        self.asked: Counter[str] = Counter()

    def __getattr__(self, name: str):
        if self.cut:
            raise Unavailable("unreachable", "no answer")

        async def ask(*args):
            self.asked[name] += 1
            if self.silent:
                await asyncio.Event().wait()
            answer = await getattr(self._api, name)(*args)
            if self.slow:
                await self._clock.sleep(self.slow)
            return answer

        return ask


async def never_both(clock: SimulatedClock, first: Replica, second: Replica, looks: int) -> None:
    """At no look, every half second, do both work."""
    for _ in range(looks):
        await clock.advance(0.5)
        assert not (first.working and second.working)


@pytest.fixture
async def clock() -> AsyncIterator[SimulatedClock]:
    made = SimulatedClock()
    yield made
    # A test that has failed leaves replicas, which end within their time.
    left, Replica.running = Replica.running, []
    for each in left:
        each.task.cancel()
    await made.advance(60)


async def test_one_leads_and_a_clean_end_hands_over_at_once(clock: SimulatedClock) -> None:
    api, log = FakeKubeApi(clock), []
    first = Replica(api, clock, "first", log)
    await clock.advance(0)
    second = Replica(api, clock, "second", log)
    await clock.advance(60)
    assert log == ["first"]
    lease = await api.get(LEASES, "op", "ns")
    assert lease["spec"]["holderIdentity"] == "first"
    await first.stop()
    await clock.advance(3)
    assert log == ["first", "second"]
    lease = await api.get(LEASES, "op", "ns")
    assert (lease["spec"]["holderIdentity"], lease["spec"]["leaseTransitions"]) == ("second", 3)
    await second.stop()


async def test_a_leader_that_ends_gives_back_no_lease_of_another(clock: SimulatedClock) -> None:
    """One that has taken it meanwhile, as a person does who edits it."""
    api = FakeKubeApi(clock)
    first = Replica(api, clock, "first", [])
    await clock.advance(0)
    lease = await api.get(LEASES, "op", "ns")
    held = {**lease["spec"], "holderIdentity": "second"}
    await api.replace(LEASES, {**lease, "spec": held})
    await first.stop()
    assert (await api.get(LEASES, "op", "ns"))["spec"] == held


async def test_a_dead_leader_is_replaced_when_its_time_is_over(clock: SimulatedClock) -> None:
    api, log = FakeKubeApi(clock), []
    first = Replica(api, clock, "first", log)
    await clock.advance(0)
    second = Replica(api, clock, "second", log)
    await clock.advance(5)
    first.die()
    await clock.advance(10)
    assert log == ["first"]
    await clock.advance(10)
    assert log == ["first", "second"]
    await second.stop()


async def test_a_leader_that_is_cut_off_stops_before_another_begins(clock: SimulatedClock) -> None:
    api, log = FakeKubeApi(clock), []
    cut = Breakable(api, clock)
    first = Replica(cut, clock, "first", log)
    await clock.advance(0)
    second = Replica(api, clock, "second", log)
    await clock.advance(5)
    cut.cut = True
    await never_both(clock, first, second, 60)
    assert second.working
    cut.cut = False
    await clock.advance(60)
    assert second.working
    assert not first.working
    await first.stop()
    await second.stop()


async def test_a_leader_whose_server_refuses_and_then_is_silent_stops_in_time(
    clock: SimulatedClock,
) -> None:
    api, log = FakeKubeApi(clock), []
    cut = Breakable(api, clock)
    first = Replica(cut, clock, "first", log)
    await clock.advance(0)
    second = Replica(api, clock, "second", log)
    await clock.advance(5)
    cut.cut = True
    await clock.advance(7)
    # The last try before its time is over never hears anything.
    cut.cut, cut.silent = False, True
    await never_both(clock, first, second, 60)
    assert second.working
    await first.stop()
    await second.stop()


async def test_a_renewal_counts_from_when_it_was_asked_for(clock: SimulatedClock) -> None:
    api, log = FakeKubeApi(clock), []
    slow = Breakable(api, clock)
    first = Replica(slow, clock, "first", log)
    await clock.advance(0)
    second = Replica(api, clock, "second", log)
    await clock.advance(5)
    # The server has the renewal at once, and its word comes nine seconds later; then it is silent.
    slow.slow = 4.5
    await clock.advance(8)
    slow.silent = True
    await never_both(clock, first, second, 80)
    assert second.working
    await first.stop()
    await second.stop()


async def test_a_slow_server_keeps_its_leader(clock: SimulatedClock) -> None:
    api, log = FakeKubeApi(clock), []
    slow = Breakable(api, clock)
    first = Replica(slow, clock, "first", log)
    await clock.advance(1)
    second = Replica(api, clock, "second", log)
    slow.slow = 4.0
    await never_both(clock, first, second, 240)
    assert log == ["first"]
    assert first.working
    slow.slow = 0.0
    await first.stop()
    await second.stop()


async def test_a_lease_that_nobody_else_writes_is_renewed_without_a_look(
    clock: SimulatedClock,
) -> None:
    api = FakeKubeApi(clock)
    counted = Breakable(api, clock)
    first = Replica(counted, clock, "first", [])
    await clock.advance(60)
    assert (counted.asked["get"], counted.asked["replace"]) == (1, 30)
    # Somebody else has: it is looked at, and renewed where it still is this one's.
    lease = await api.get(LEASES, "op", "ns")
    await api.replace(LEASES, {**lease, "metadata": {**lease["metadata"], "labels": {"a": "b"}}})
    await clock.advance(4)
    assert counted.asked["get"] == 2
    assert (await api.get(LEASES, "op", "ns"))["metadata"]["labels"] == {"a": "b"}
    # And one that was deleted is made again.
    await api.delete(LEASES, "op", "ns")
    await clock.advance(4)
    assert (await api.get(LEASES, "op", "ns"))["spec"]["holderIdentity"] == "first"
    assert first.working
    await first.stop()


async def test_a_lease_that_was_taken_too_long_ago_is_not_led_by(clock: SimulatedClock) -> None:
    api, log = FakeKubeApi(clock), []
    slow = Breakable(api, clock)
    slow.slow = 12.0
    first = Replica(slow, clock, "first", log)
    await clock.advance(0.1)
    second = Replica(api, clock, "second", log)
    await never_both(clock, first, second, 80)
    assert "second" in log
    assert "first" not in log
    await first.stop()
    await second.stop()


async def test_a_leader_whose_lease_is_given_to_another_stops_at_its_next_look(
    clock: SimulatedClock,
) -> None:
    api = FakeKubeApi(clock)
    first = Replica(api, clock, "first", [])
    await clock.advance(1)
    assert first.working
    lease = await api.get(LEASES, "op", "ns")
    given = {**lease["spec"], "holderIdentity": "another"}
    await api.replace(LEASES, {**lease, "spec": given})
    await clock.advance(2.1)
    assert not first.working
    await first.stop()


async def test_of_two_that_take_a_lease_at_once_one_leads(clock: SimulatedClock) -> None:
    api = FakeKubeApi(clock)
    spec = {"holderIdentity": "", "leaseDurationSeconds": 1}
    await api.create(LEASES, {"metadata": {"name": "op", "namespace": "ns"}, "spec": spec})
    # Both have looked before either writes.
    log: list[str] = []
    slow = Breakable(api, clock)
    slow.slow = 1.0
    replicas = [Replica(slow, clock, name, log) for name in ("first", "second")]
    await clock.advance(5)
    assert len(log) == 1
    assert sum(each.working for each in replicas) == 1
    slow.slow = 0.0
    for each in replicas:
        await each.stop()


async def test_a_replica_ends_though_the_server_is_silent(clock: SimulatedClock) -> None:
    cut = Breakable(FakeKubeApi(clock), clock)
    only = Replica(cut, clock, "only", [])
    await clock.advance(1)
    assert only.working
    cut.silent = True
    only.task.cancel()
    await clock.advance(3)
    assert only.task.done()


async def test_a_step_of_the_wall_clock_makes_no_second_leader(clock: SimulatedClock) -> None:
    api, log = FakeKubeApi(clock), []
    first = Replica(api, clock, "first", log)
    await clock.advance(0)
    second = Replica(api, clock, "second", log)
    for step in (86_400.0, -200_000.0):
        clock.step_wall(step)
        await clock.advance(30)
    assert log == ["first"]
    await first.stop()
    await second.stop()


async def test_work_that_fails_ends_the_replica(clock: SimulatedClock) -> None:
    election = Election(FakeKubeApi(clock), clock, PLACE, "only")

    async def broken() -> None:
        raise ValueError("a bug")

    task = asyncio.create_task(election.lead(broken))
    await clock.advance(1)
    with pytest.raises(ValueError, match="a bug"):
        await task


def test_a_lease_is_taken_when_it_is_nobodys_ours_or_silent() -> None:
    held = {"spec": {"holderIdentity": "a", "leaseDurationSeconds": 15}}
    assert turn(None, "b", 0) is Turn.TAKE
    assert turn({"spec": {"holderIdentity": ""}}, "b", 0) is Turn.TAKE
    assert turn(held, "a", 0) is Turn.TAKE
    assert turn(held, "b", 14.9) is Turn.WAIT
    assert turn(held, "b", 15.0) is Turn.TAKE


def test_readiness_asks_for_progress() -> None:
    good = CacheState("secrets", synced=True, silence=10)
    assert troubles([good], [QueueState("es", oldest=500, idle=1)]) == []
    assert troubles([good], [QueueState("es", oldest=500, idle=300)]) != []
    assert troubles([good], [QueueState("es", oldest=0, idle=300, longest=300)]) == []
    (said,) = troubles([good], [QueueState("ps", oldest=0, idle=1, longest=1000)])
    assert said == "ps has worked on one object for 1000 s"
    assert troubles([CacheState("secrets", synced=False, silence=0)], []) != []
    assert troubles([CacheState("secrets", synced=True, silence=4000)], []) != []
