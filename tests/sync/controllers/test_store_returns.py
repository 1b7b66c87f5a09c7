"""A store that comes back is asked in turn, not by all who waited for it at once."""

import asyncio
import itertools

import pytest
from tests.sync.controllers.test_bad_days import passing

from strongroom.kube.resource import NAMESPACES
from strongroom.model.errors import Denied, Unavailable
from strongroom.sync.crds import CLUSTER_SECRET_STORES, SECRET_STORES
from strongroom.sync.pace import LAST_PAUSE, RAMP_SECONDS, Rate, turn_at
from strongroom.sync.providers.fake import FakeProvider

MANY = 100
PER_SECOND = 10.0
# From the return of the store: it is noticed, and all have had their turn.
ALL_FRESH = LAST_PAUSE + RAMP_SECONDS / 2 + MANY / PER_SECOND


@pytest.fixture
async def many(idle):
    """An operator whose objects each read something else of one store."""
    for number in range(MANY):
        idle.provider.put(f"key-{number}", password="one")
    operator = await idle.start(rate=Rate(PER_SECOND, burst=10_000))
    for number in range(MANY):
        row = {"secretKey": "p", "remoteRef": {"key": f"key-{number}", "property": "password"}}
        spec = {"secretStoreRef": {"name": "s"}, "data": [row], "refreshInterval": "1m"}
        await idle.external(f"es-{number}", **spec)
    await passing(idle, operator, 1)
    assert idle.provider.reads == MANY
    idle.provider.reads = 0
    return operator


async def reads_by_second(idle, operator, seconds: float) -> list[int]:
    counts = []
    for _ in range(int(seconds)):
        before = idle.provider.reads
        await passing(idle, operator, 1)
        counts.append(idle.provider.reads - before)
    return counts


async def no_stale(idle) -> bool:
    return not [each for each in range(MANY) if await idle.condition("Stale", f"es-{each}")]


async def test_an_object_of_a_short_interval_is_fresh_within_it_after_the_return(idle) -> None:
    idle.provider.put("key", password="one")
    operator = await idle.start()
    row = {"secretKey": "p", "remoteRef": {"key": "key", "property": "password"}}
    spec = {"secretStoreRef": {"name": "s"}, "data": [row]}
    await idle.external("es-0", **spec, refreshInterval="8s")
    await idle.external("es-1", **spec, refreshInterval="1h")
    idle.provider.broken = Unavailable("unreachable", "no answer")
    await passing(idle, operator, 200)
    assert await idle.condition("Stale", "es-0")
    idle.provider.broken = None
    await passing(idle, operator, 9)
    assert not await idle.condition("Stale", "es-0")


async def test_a_store_that_was_found_in_order_is_not_left_alone_for_what_was_before(idle) -> None:
    """Its condition and its readers' tell the same."""
    operator = await idle.start()
    await idle.external(refreshInterval="70s")
    idle.provider.broken = Unavailable("unreachable", "no answer")
    # Then two look every half minute: its controller is the next.
    await passing(idle, operator, 432)
    assert await idle.condition("Stale")
    idle.provider.broken = None
    for _ in range(60):
        await idle.clock.advance(1)
        store = await idle.api.get(SECRET_STORES, "s", "n")
        if store["status"]["conditions"][0]["status"] == "True":
            break
    await idle.clock.advance(1)
    assert not await idle.condition("Stale")


@pytest.mark.long
async def test_a_store_that_returns_is_asked_ever_faster_up_to_its_rate(idle, many) -> None:
    idle.provider.broken = Unavailable("unreachable", "no answer")
    await passing(idle, many, 120)
    assert all([await idle.condition("Stale", f"es-{each}") for each in range(MANY)])
    idle.provider.broken = None
    counts = await reads_by_second(idle, many, ALL_FRESH)
    assert await no_stale(idle)
    # One a second at most finds out whether it is back.
    began = next(second for second, count in enumerate(counts) if count > 1)
    assert sum(counts[:began]) <= 1
    rising = counts[began : began + int(RAMP_SECONDS)]
    assert sum(rising[:3]) <= PER_SECOND / 2 * 3 * 0.5
    assert max(counts) <= PER_SECOND + 2
    assert sum(counts) <= MANY + 2


@pytest.mark.long
async def test_what_nobody_can_tell_has_changed_is_read_in_turn(idle, many) -> None:
    many.sync.catch_up([("n", f"es-{number}") for number in range(MANY)])
    counts = await reads_by_second(idle, many, RAMP_SECONDS / 2 + MANY / PER_SECOND + 1)
    assert idle.provider.reads == MANY
    assert counts[0] <= 2
    assert max(counts) <= PER_SECOND + 2


def test_turns_come_ever_faster_and_then_at_the_rate() -> None:
    turns = [turn_at(number, 500.0) for number in range(10_000)]
    pauses = [after - before for before, after in itertools.pairwise(turns)]
    assert turns[0] == 0
    assert all(later <= sooner + 1e-9 for sooner, later in itertools.pairwise(pauses))
    assert pauses[-1] == pytest.approx(1 / 500)
    assert turns[-1] == pytest.approx(5 + 10_000 / 500, abs=0.1)


async def test_whom_a_store_refused_is_read_when_it_can_be_used(bench) -> None:
    """Somebody writes a token that is good; nobody has to touch the ExternalSecret."""
    bench.provider.broken = Denied("store-denied", "permission denied")
    await bench.external(refreshInterval="24h")
    await bench.clock.advance(3 * 3600)
    bench.provider.broken = None
    await bench.clock.advance(40)
    assert await bench.secret() == {"password": "one"}


async def test_a_namespace_that_is_let_in_is_not_kept_waiting_for_its_interval(bench) -> None:
    conditions = [{"namespaceSelector": {"matchLabels": {"team": "y"}}}]
    spec = {"provider": {"fake": {}}, "conditions": conditions}
    await bench.api.create(CLUSTER_SECRET_STORES, {"metadata": {"name": "wide"}, "spec": spec})
    wide = {"name": "wide", "kind": "ClusterSecretStore"}
    await bench.external(secretStoreRef=wide, refreshInterval="24h")
    await bench.clock.advance(3 * 3600)
    await bench.api.merge_patch(NAMESPACES, "n", "", {"metadata": {"labels": {"team": "y"}}})
    await bench.clock.advance(310)
    assert await bench.secret() == {"password": "one"}


EDITED = {"spec": {"provider": {"fake": {"data": []}}}}


async def test_a_store_that_was_down_is_used_at_once_when_it_is_edited(bench) -> None:
    """What did not answer was at the address of before."""
    bench.provider.broken = Unavailable("unreachable", "no answer")
    await bench.external(refreshInterval="1h")
    await bench.clock.advance(100)
    bench.provider.broken = None
    await bench.api.merge_patch(SECRET_STORES, "s", "n", EDITED)
    await bench.clock.advance(1)
    assert await bench.secret() == {"password": "one"}


class Hanging(FakeProvider):
    """Answers no read until the gate is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()

    async def fetch(self, ref):
        await self.gate.wait()
        return await super().fetch(ref)


async def test_a_read_that_hangs_ends_when_its_store_is_edited(idle) -> None:
    hanging = Hanging()
    idle.provider, good = hanging, idle.provider
    await idle.start()
    await idle.external()
    idle.provider = good
    await idle.api.merge_patch(SECRET_STORES, "s", "n", EDITED)
    await idle.clock.advance(1)
    assert await idle.secret() == {"password": "one"}


class Noting(FakeProvider):
    """Knows in which order it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    async def fetch(self, ref):
        self.asked.append(ref.key)
        return await super().fetch(ref)


@pytest.mark.parametrize("restarted", [False, True])
async def test_what_is_oldest_comes_first_when_a_store_is_back(idle, restarted: bool) -> None:
    idle.provider = provider = Noting()
    provider.has_feed = False
    operator = await idle.start(rate=Rate(PER_SECOND, burst=10_000))
    oldest_first = ["c", "a", "b"]
    for key in oldest_first:
        provider.put(key, password="one")
        row = {"secretKey": "p", "remoteRef": {"key": key, "property": "password"}}
        await idle.external(key, data=[row], refreshInterval="10m")
        await passing(idle, operator, 100)
    if restarted:
        operator = await idle.start(rate=Rate(PER_SECOND, burst=10_000))
    provider.broken = Unavailable("unreachable", "no answer")
    await passing(idle, operator, 900)
    assert all([await idle.condition("Stale", each) for each in oldest_first])
    provider.broken = None
    # Whoever finds out that it is back is none of those that then have their turn.
    provider.asked = []
    operator.sync.store_is_back([("n", each) for each in oldest_first])
    operator.stores.usable((await idle.api.get(SECRET_STORES, "s", "n"))["metadata"]["uid"])
    await passing(idle, operator, 30)
    assert provider.asked == oldest_first
