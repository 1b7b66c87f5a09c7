"""Shared reads, and the pace of a store."""

import asyncio
from collections import Counter

import pytest

from strongroom.model.clock import SimulatedClock
from strongroom.model.errors import Denied, NotFound, Throttled, Unavailable
from strongroom.sync.pace import (
    LAST_LOOK,
    LOOK_SECONDS,
    LOOKS_AT_ONCE,
    Pace,
    Rate,
    Resting,
)
from strongroom.sync.providers.contract import Fetched, Traits
from strongroom.sync.providers.fake import FakeProvider
from strongroom.sync.reads import SharedReads
from strongroom.sync.spec import RemoteRef

REF = RemoteRef("a")


class Slow(FakeProvider):
    """Answers when it is let go; counts requests."""

    def __init__(self, traits: Traits | None = None) -> None:
        super().__init__(traits)
        self.gate = asyncio.Event()
        self.requests = 0

    async def fetch(self, ref: RemoteRef) -> Fetched:
        self.requests += 1
        found = await super().fetch(ref)
        await self.gate.wait()
        return found

    async def fetch_many(self, refs):
        self.requests += 1
        return [await self._tried_at_once(ref) for ref in refs]

    async def _tried_at_once(self, ref: RemoteRef):
        try:
            return await super().fetch(ref)
        except NotFound as refusal:
            return refusal


def shared(provider: FakeProvider, clock: SimulatedClock, rate: Rate | None = None) -> SharedReads:
    return SharedReads(provider, clock, Pace(clock, rate))


async def test_all_who_want_the_same_share_one_request(clock: SimulatedClock) -> None:
    provider = Slow()
    provider.put("a", v="1")
    reads = shared(provider, clock)
    asking = [asyncio.create_task(reads.fetch(REF)) for _ in range(50)]
    await clock.advance(0)
    provider.gate.set()
    assert {(await each).version for each in asking} == {1}
    assert provider.requests == 1
    await reads.fetch(RemoteRef("a", "property"))
    assert provider.requests == 1
    await clock.advance(2)
    await reads.fetch(REF)
    assert provider.requests == 2


async def test_who_asks_after_a_change_does_not_get_the_read_before_it(
    clock: SimulatedClock,
) -> None:
    provider = Slow()
    provider.put("a", v="old")
    reads = shared(provider, clock)
    before = asyncio.create_task(reads.fetch(REF))
    await clock.advance(0)
    provider.put("a", v="new")
    reads.changed_all()
    after = asyncio.create_task(reads.fetch(REF))
    await clock.advance(0)
    provider.gate.set()
    assert ((await before).data, (await after).data) == ({"v": "old"}, {"v": "new"})
    provider.put("a", v="newest")
    reads.changed("a")
    assert (await reads.fetch(REF)).data == {"v": "newest"}


async def test_a_read_that_is_on_its_way_when_something_changes_is_not_shared(
    clock: SimulatedClock,
) -> None:
    provider = Slow()
    provider.put("a", v="old")
    reads = shared(provider, clock)
    before = asyncio.create_task(reads.fetch(REF))
    await clock.advance(0)
    provider.put("a", v="new")
    reads.changed("a")
    after = asyncio.create_task(reads.fetch(REF))
    await clock.advance(0)
    provider.gate.set()
    assert ((await before).data, (await after).data) == ({"v": "old"}, {"v": "new"})
    assert (await reads.fetch(REF)).data == {"v": "new"}
    assert provider.requests == 2


async def test_what_landed_before_a_change_is_not_kept_after_it(clock: SimulatedClock) -> None:
    provider = Slow()
    provider.put("a", v="old")
    reads = shared(provider, clock)
    before = asyncio.create_task(reads.fetch(REF))
    await clock.advance(0)
    provider.put("a", v="new")
    reads.changed("a")
    provider.gate.set()
    assert (await before).data == {"v": "old"}
    assert (await reads.fetch(REF)).data == {"v": "new"}


async def test_old_reads_take_no_memory(clock: SimulatedClock) -> None:
    provider = Slow()
    provider.gate.set()
    for number in range(50):
        provider.put(f"k{number}", v="1")
    reads = shared(provider, clock)
    for number in range(50):
        await reads.fetch(RemoteRef(f"k{number}"))
    await clock.advance(2)
    await reads.fetch(RemoteRef("k0"))
    assert len(reads._flights) == len(reads._paths) == len(reads._landed) == 1


async def test_one_who_gives_up_does_not_take_the_read_from_the_others(
    clock: SimulatedClock,
) -> None:
    provider = Slow()
    provider.put("a", v="1")
    reads = shared(provider, clock)
    first, second = (asyncio.create_task(reads.fetch(REF)) for _ in range(2))
    await clock.advance(0)
    first.cancel()
    provider.gate.set()
    assert (await second).data == {"v": "1"}


async def test_batches_take_what_is_asked_for_at_one_moment(clock: SimulatedClock) -> None:
    provider = Slow(Traits(batch=3))
    for name in "abcd":
        provider.put(name, v=name)
    reads = shared(provider, clock)
    wanted = [*"abcd", "missing"]
    found = await asyncio.gather(
        *(reads.fetch(RemoteRef(each)) for each in wanted), return_exceptions=True
    )
    assert provider.requests == 2
    assert [each.path for each in found[:4]] == [*"abcd"]
    assert isinstance(found[4], NotFound)


async def test_properties_are_told_apart_where_they_are_asked_for(clock: SimulatedClock) -> None:
    provider = Slow(Traits(by_property=True))
    provider.gate.set()
    provider.put("a", x="1", y="2")
    reads = shared(provider, clock)
    await asyncio.gather(reads.fetch(RemoteRef("a", "x")), reads.fetch(RemoteRef("a", "y")))
    assert provider.requests == 2


async def test_a_bucket_slows_reads_and_refuses_long_waits(clock: SimulatedClock) -> None:
    pace = Pace(clock, Rate(per_second=10, burst=2))
    await pace.turn()
    await pace.turn()
    third = asyncio.create_task(pace.turn())
    await clock.advance(0.05)
    assert not third.done()
    await clock.advance(0.06)
    await third
    waiting = [asyncio.create_task(pace.turn()) for _ in range(20)]
    await clock.advance(0)
    refused = [each for each in waiting if each.done() and isinstance(each.exception(), Throttled)]
    assert len(refused) >= 15
    assert 0.2 < refused[0].exception().retry_after < 1
    await clock.advance(2)
    await pace.turn()


async def test_retry_after_is_obeyed_to_the_second(clock: SimulatedClock) -> None:
    provider = FakeProvider()
    provider.put("a", v="1")
    reads = shared(provider, clock)
    provider.broken = Throttled("store-throttled", "slow down", retry_after=60.0)
    with pytest.raises(Throttled):
        await reads.fetch(REF)
    provider.broken = None
    calls = provider.reads
    for _ in range(59):
        with pytest.raises(Throttled) as error:
            await reads.fetch(REF)
        await clock.advance(1)
    assert error.value.retry_after == pytest.approx(2.0)
    assert provider.reads == calls
    await clock.advance(1)
    assert (await reads.fetch(REF)).version == 1


@pytest.mark.long
async def test_a_store_that_is_down_is_asked_by_one_at_a_time(clock: SimulatedClock) -> None:
    provider = FakeProvider()
    provider.put("a", v="1")
    provider.broken = Unavailable("unreachable", "no answer")
    reads = shared(provider, clock)
    backs: list[int] = []
    reads.on_back = lambda: backs.append(1)
    for _ in range(10_000):
        with pytest.raises(Unavailable):
            await reads.fetch(REF)
    assert provider.reads == 3
    for _ in range(600):
        await clock.advance(1)
        for _ in range(3):
            with pytest.raises(Unavailable):
                await reads.fetch(REF)
    assert provider.reads < 3 + 5 + 600 / 30 + 2
    with pytest.raises(Resting) as error:
        await reads.fetch(REF)
    assert 0 < error.value.retry_after <= 30
    provider.broken = None
    await clock.advance(31)
    assert (await reads.fetch(REF)).version == 1
    assert backs == [1]


async def test_while_one_read_finds_out_whether_a_store_is_back_no_other_begins(
    clock: SimulatedClock,
) -> None:
    pace = Pace(clock)
    for _ in range(3):
        await pace.turn()
        pace.refused(Unavailable("unreachable", "no answer"))
    with pytest.raises(Resting):
        await pace.turn()
    await clock.advance(1.1)
    await pace.turn()
    for _ in range(2):
        with pytest.raises(Resting):
            await pace.turn()
    pace.refused(Unavailable("unreachable", "no answer"))
    await clock.advance(2.1)
    await pace.turn()
    assert pace.answered()
    await clock.advance(1)
    for _ in range(3):
        await pace.turn()


async def test_no_pause_is_longer_than_the_shortest_interval_of_those_who_ask(
    clock: SimulatedClock,
) -> None:
    pace = Pace(clock)

    async def pauses(failures: int, *intervals: float) -> list[float]:
        found = []
        for _ in range(failures):
            for each in intervals:
                pace.wanted_within(each)
            await pace.turn()
            pace.refused(Unavailable("unreachable", "no answer"))
            try:
                await pace.turn()
            except Resting as resting:
                found.append(resting.retry_after)
                await clock.advance(resting.retry_after)
            else:
                pace.refused(Unavailable("unreachable", "no answer"))
        return found

    assert (await pauses(9, 3600.0, 7.0))[-3:] == [7.0, 7.0, 7.0]
    # Whoever had that interval may wait for its turn, or is gone.
    assert (await pauses(40, 3600.0))[-2:] == [7.0, 7.0]
    assert (await pauses(20, 3600.0))[-2:] == [30.0, 30.0]
    assert (await pauses(2, 0.2)) == [1.0, 1.0]


async def test_a_refusal_is_an_answer(clock: SimulatedClock) -> None:
    provider = FakeProvider()
    provider.broken = Denied("store-denied", "no")
    reads = shared(provider, clock)
    for _ in range(10):
        with pytest.raises(Denied):
            await reads.fetch(REF)
    assert provider.reads == 10
    assert not reads.pace.down


@pytest.mark.parametrize(
    ("why", "said"),
    [
        (
            Unavailable(
                "unreachable", "no answer from https://s:8200/v1/kv/data/theirs: timed out"
            ),
            "no answer from https://s:8200: timed out",
        ),
        (Unavailable("unreachable", "theirs"), "the store did not answer another read"),
        (
            Unavailable("store-unavailable", "kv/data/theirs: Vault is sealed (status 503)"),
            "the store did not answer another read (status 503)",
        ),
        (
            Throttled("store-throttled", "kv/data/theirs: quota (status 429)", retry_after=9),
            "the store asks to be left alone (status 429)",
        ),
    ],
)
async def test_what_another_asked_for_is_not_told(
    why: Unavailable, said: str, clock: SimulatedClock
) -> None:
    """A ClusterSecretStore is shared by namespaces that shall not know each other's paths."""
    pace = Pace(clock)
    for _ in range(3):
        pace.refused(why)
    with pytest.raises(Unavailable) as error:
        await pace.turn()
    assert (error.value.code, error.value.message) == (why.code, said)


async def test_a_read_that_is_cancelled_is_no_answer(clock: SimulatedClock) -> None:
    pace = Pace(clock)
    reads = SharedReads(Slow(), clock, pace)
    for _ in range(3):
        pace.refused(Unavailable("unreachable", "no answer"))
    await clock.advance(1.1)

    async def endless() -> None:
        async with reads.asked("find"):
            await asyncio.Event().wait()

    probe = asyncio.create_task(endless())
    await clock.advance(0)
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    assert pace.down
    # The next may find out in its place.
    await pace.turn()
    with pytest.raises(Resting):
        await pace.turn()


@pytest.mark.parametrize("batch", [1, 20])
async def test_who_reads_while_the_provider_is_let_go_does_not_wait_for_ever(
    clock: SimulatedClock, batch: int
) -> None:
    class Hanging(FakeProvider):
        async def fetch(self, ref):
            await asyncio.Event().wait()

        async def fetch_many(self, refs):
            await asyncio.Event().wait()

    reads = shared(Hanging(Traits("ReadWrite", batch=batch)), clock)
    asking = [asyncio.create_task(reads.fetch(REF)) for _ in range(2)]
    await clock.advance(0)
    await reads.close()
    told = await asyncio.gather(*asking, return_exceptions=True)
    assert [getattr(each, "code", "") for each in told] == ["store-changed", "store-changed"]
    assert not reads.pace.failures


def test_an_edit_forgives_failures_and_no_retry_after(clock: SimulatedClock) -> None:
    pace = Pace(clock)
    for _ in range(10):
        pace.refused(Unavailable("unreachable", "no answer"))
    assert not pace.after_edit().down
    pace.refused(Throttled("store-busy", "later", retry_after=60))
    assert pace.after_edit().down


async def test_of_many_that_wait_for_a_store_few_look_at_a_time(clock: SimulatedClock) -> None:
    pace = Pace(clock)
    for _ in range(3):
        await pace.turn()
        pace.refused(Unavailable("unreachable", "no answer"))
    turns = [pace.look_after() for _ in range(100_000)]
    # Few of them wait no longer than the store rests.
    assert turns[:LOOKS_AT_ONCE] == [1.0] * LOOKS_AT_ONCE
    assert max(Counter(turns[:10_000]).values()) == LOOKS_AT_ONCE
    assert turns[9_999] < max(turns) <= LAST_LOOK + LOOK_SECONDS
    # Once it has answered that is over.
    pace.answered()
    assert pace.look_after() == 0
