"""The plugin's keys through outages, restarts, rotations and losses, on simulated time."""

import asyncio
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from strongroom.app.commands.kms import _first_key
from strongroom.crypto.keyfile import create_key_file
from strongroom.encrypt.kms.api_server_fake import ApiServerFake
from strongroom.encrypt.kms.config import read_config
from strongroom.encrypt.kms.high_water import mark_file
from strongroom.encrypt.kms.keeper import Keeper
from strongroom.encrypt.kms.keys import (
    BACKEND_SECONDS,
    Backends,
    Keks,
    Place,
    make,
    open_key,
    wrapped_anew,
)
from strongroom.encrypt.kms.messages import (
    DecryptRequest,
    EncryptRequest,
    EncryptResponse,
    StatusResponse,
)
from strongroom.encrypt.kms.offline import OfflineCache
from strongroom.encrypt.kms.plugin import Plugin
from strongroom.encrypt.kms.standing import Health, OnLoss, Policy, Standing, standing
from strongroom.encrypt.kms.state import first, load, loads, prepared, promoted, retired, save
from strongroom.model.clock import SimulatedClock
from strongroom.model.errors import Conflict, Denied, Invalid, NotFound, Refusal, Unavailable
from strongroom.wire.keywrap.fake import FakeWrapper

PLACE = Place("strongroom", "c1")
DOWN = Unavailable("down", "the backend is away")
HOUR = 3600.0


class Bed:
    """A state file, its backends, and as many plugin processes as a test starts."""

    def __init__(
        self, folder: Path, clock: SimulatedClock, wrappers: int = 1, threshold: int = 1
    ) -> None:
        self.clock = clock
        self.fakes = [FakeWrapper(f"b{number}") for number in range(wrappers)]
        self.backends = Backends(tuple(self.fakes), threshold)
        self.state = folder / "state.json"
        create_key_file(folder / "offline.key")
        self.cache = OfflineCache(folder / "offline.json", folder / "offline.key", PLACE)

    async def first_key(self) -> None:
        entry, _ = await make(self.backends, PLACE, self.clock.now())
        save(self.state, first(entry))

    def break_backends(self, refusal: Refusal | None = DOWN, count: int = 99) -> None:
        for fake in self.fakes[:count]:
            fake.broken = refusal

    def plugin(
        self, on_loss: OnLoss = OnLoss.COAST, *, cached: bool = True
    ) -> tuple[Keeper, Plugin]:
        policy = Policy(on_loss, 72 * HOUR)
        cache = self.cache if cached else None
        keeper = Keeper(self.state, self.backends, PLACE, policy, self.clock, cache)
        return keeper, Plugin(keeper, self.clock)


@pytest.fixture
async def bed(tmp_path: Path) -> Bed:
    made = Bed(tmp_path, SimulatedClock())
    await made.first_key()
    return made


def calling(plugin: Plugin) -> Callable:
    return lambda name, message: plugin.methods[name](message)


# the decision


@pytest.mark.parametrize(
    ("health", "on_loss", "expected"),
    [
        (Health(False, False), OnLoss.COAST, Standing.STARTING),
        (Health(True, True), OnLoss.STOP, Standing.READY),
        (Health(True, False, 10.0), OnLoss.COAST, Standing.COASTING),
        (Health(True, False, 10.0), OnLoss.STOP, Standing.STOPPED),
        (Health(True, False, 73 * HOUR), OnLoss.COAST, Standing.STOPPED),
    ],
)
def test_standing(health, on_loss, expected) -> None:
    assert standing(Policy(on_loss, 72 * HOUR), health) is expected


# outages


async def test_an_hour_without_a_backend_under_coast_api_server_restart_included(bed: Bed) -> None:
    keeper, plugin = bed.plugin()
    server = ApiServerFake(calling(plugin), bed.clock)
    running = [asyncio.create_task(each) for each in (keeper.run(), server.run())]
    await bed.clock.advance(120)
    server.write("before")
    bed.break_backends()
    await bed.clock.advance(HOUR / 2)
    server.restart()
    await bed.clock.advance(15)
    await server.read("before")
    await bed.clock.advance(HOUR / 2)
    server.write("during")
    await server.read("during")
    assert keeper.snapshot.standing is Standing.COASTING
    assert keeper.report.offline_seconds > HOUR - 120
    # And the plugin too, from its offline cache.
    again, plugin_again = bed.plugin()
    await again.probe()
    other = ApiServerFake(calling(plugin_again), bed.clock)
    other.stored = server.stored
    await other.poll()
    await other.read("before")
    other.write("after")
    bed.break_backends(None)
    await again.probe()
    assert again.snapshot.standing is Standing.READY
    for each in running:
        each.cancel()


async def test_under_stop_writes_end_within_three_minutes_and_cached_reads_go_on(bed: Bed) -> None:
    keeper, plugin = bed.plugin(OnLoss.STOP)
    server = ApiServerFake(calling(plugin), bed.clock)
    running = [asyncio.create_task(each) for each in (keeper.run(), server.run())]
    await bed.clock.advance(120)
    server.write("before")
    bed.break_backends()
    await bed.clock.advance(60 + 180 + 15)
    assert keeper.snapshot.standing is Standing.STOPPED
    with pytest.raises(Unavailable):
        server.write("during")
    await server.read("before")
    # A seed that is not cached still opens: only what would make new data stops.
    request = DecryptRequest(server.stored["before"].wrapped, "u", server.stored["before"].key_id)
    assert await plugin.methods["Decrypt"](request.dumps())
    # After a restart nothing is read until a backend is back, as the table of outages says.
    server.restart()
    await bed.clock.advance(30)
    with pytest.raises(Unavailable):
        await server.read("before")
    bed.break_backends(None)
    await bed.clock.advance(60)
    await server.read("before")
    server.write("again")
    for each in running:
        each.cancel()


async def test_without_a_cache_a_restart_in_an_outage_waits_and_says_what_for(bed: Bed) -> None:
    bed.break_backends()
    keeper, plugin = bed.plugin(cached=False)
    await keeper.probe()
    assert keeper.snapshot.standing is Standing.STARTING
    with pytest.raises(Unavailable, match="the backend is away"):
        await plugin.methods["Status"](b"")
    bed.break_backends(None)
    await keeper.probe()
    assert await plugin.methods["Status"](b"")


@pytest.mark.parametrize("step", [73 * HOUR, -73 * HOUR])
async def test_the_cache_ends_with_its_age_whichever_way_the_clock_went(
    bed: Bed, step: float
) -> None:
    keeper, _ = bed.plugin()
    await keeper.probe()
    bed.break_backends()
    bed.clock.step_wall(step)
    again, _ = bed.plugin()
    await again.probe()
    assert again.snapshot.standing is Standing.STARTING
    assert "limit is 72.0 h" in again.snapshot.reason


async def test_a_running_plugin_stops_when_it_has_coasted_too_long(bed: Bed) -> None:
    keeper, plugin = bed.plugin()
    await keeper.probe()
    bed.break_backends()
    bed.clock.step_wall(73 * HOUR)
    await keeper.probe()
    assert keeper.snapshot.standing is Standing.STOPPED
    with pytest.raises(Unavailable):
        await plugin.methods["Status"](b"")


async def test_a_cache_that_was_changed_or_is_anothers_is_refused(bed: Bed, tmp_path: Path) -> None:
    keeper, _ = bed.plugin()
    await keeper.probe()
    text = (tmp_path / "offline.json").read_text()
    bed.break_backends()
    whole = json.loads(text)
    for changed in (
        {**whole, "confirmed": whole["confirmed"] + 60},
        {**whole, "epoch": 9},
        {**whole, "sealed": "AAAA"},
        {},
    ):
        (tmp_path / "offline.json").write_text(json.dumps(changed))
        again, _ = bed.plugin()
        await again.probe()
        assert again.snapshot.keks is None
    assert "key" not in json.loads(text)["sealed"][:3]


# what answers need, and what keys are bound to


async def test_status_and_encrypt_never_call_out_and_name_one_key(bed: Bed) -> None:
    keeper, plugin = bed.plugin()
    await keeper.probe()
    before = bed.fakes[0].calls
    bed.break_backends()
    for _ in range(50):
        status = StatusResponse.loads(await plugin.methods["Status"](b""))
        made = EncryptResponse.loads(
            await plugin.methods["Encrypt"](EncryptRequest(b"s" * 32, "u").dumps())
        )
        assert status.key_id == made.key_id
    request = DecryptRequest(made.ciphertext, "u", made.key_id)
    assert await plugin.methods["Decrypt"](request.dumps())
    assert bed.fakes[0].calls == before


@pytest.mark.parametrize(
    "other", [Place("another-provider", "c1"), Place("strongroom", "another-cluster")]
)
async def test_a_key_opens_for_its_provider_and_cluster_alone(bed: Bed, other: Place) -> None:
    entry = load(bed.state).keys[0]
    key = (await open_key(entry, bed.fakes, PLACE)).key
    with pytest.raises(Unavailable, match="does not open"):
        await open_key(entry, bed.fakes, other)
    with pytest.raises(Unavailable, match="does not open"):
        await open_key(dataclasses.replace(entry, id="another-id"), bed.fakes, PLACE)
    _, sealed = Keks(entry.id, {entry.id: key}, PLACE).encrypt(b"seed")
    with pytest.raises(Denied):
        Keks(entry.id, {entry.id: key}, other).decrypt(entry.id, sealed)
    with pytest.raises(Denied):
        Keks("x", {"x": key}, PLACE).decrypt("x", sealed)


# several backends


async def test_any_of_three_is_enough_and_a_missing_one_is_made_up_for(tmp_path: Path) -> None:
    bed = Bed(tmp_path, SimulatedClock(), wrappers=3)
    bed.fakes[2].broken = DOWN
    await bed.first_key()
    assert {wrap.by for wrap in load(bed.state).keys[0].wraps} == {"b0", "b1"}
    keeper, _ = bed.plugin(cached=False)
    bed.fakes[0].broken = DOWN
    await keeper.probe()
    assert keeper.snapshot.standing is Standing.READY
    assert keeper.report.backends == {"b0": False, "b1": True, "b2": False}
    bed.break_backends(None)
    await keeper.probe()
    assert {wrap.by for wrap in load(bed.state).keys[0].wraps} == {"b0", "b1", "b2"}
    bed.break_backends(DOWN, 2)
    again, _ = bed.plugin(cached=False)
    await again.probe()
    assert again.snapshot.standing is Standing.READY


async def test_two_of_three_open_and_one_alone_does_not(tmp_path: Path) -> None:
    bed = Bed(tmp_path, SimulatedClock(), wrappers=3, threshold=2)
    await bed.first_key()
    entry = load(bed.state).keys[0]
    whole = (await open_key(entry, bed.fakes, PLACE)).key
    for pair in (bed.fakes[:2], bed.fakes[1:], [bed.fakes[0], bed.fakes[2]]):
        assert (await open_key(entry, pair, PLACE)).key == whole
    with pytest.raises(Unavailable):
        await open_key(entry, bed.fakes[:1], PLACE)
    share = await bed.fakes[0].unwrap(entry.wraps[0].blob, PLACE.aad("wrap", entry.id))
    assert whole not in share


async def test_too_few_backends_make_no_key(tmp_path: Path) -> None:
    bed = Bed(tmp_path, SimulatedClock(), wrappers=3, threshold=2)
    bed.break_backends(DOWN, 2)
    with pytest.raises(Unavailable) as caught:
        await bed.first_key()
    assert caught.value.code == "no-quorum"
    assert not bed.state.exists()


async def test_a_backend_that_hangs_is_not_waited_for_for_ever(tmp_path: Path, bed: Bed) -> None:
    class Slow(FakeWrapper):
        hangs = False

        async def unwrap(self, wrapped, aad):
            if self.hangs:
                await asyncio.Event().wait()
            return await super().unwrap(wrapped, aad)

    slow = Slow("b9")
    entry, _ = await make(Backends((bed.fakes[0], slow)), PLACE, 1.0)
    slow.hangs = True
    opened = await open_key(entry, (bed.fakes[0], slow), PLACE, seconds=0.5)
    assert set(opened.failed) == {"b9"}


@pytest.mark.parametrize("starts", [True, False], ids=["at a start", "later"])
@pytest.mark.parametrize("broken", [KeyError("plaintext"), b"no key"], ids=["a page", "no key"])
async def test_a_backend_with_an_odd_answer_stops_nobody(
    tmp_path: Path, broken: KeyError | bytes, starts: bool
) -> None:
    """A proxy's page where the backend was: the plugin works on with the other one."""
    bed = Bed(tmp_path, SimulatedClock(), wrappers=2)
    await bed.first_key()
    keeper, plugin = bed.plugin(cached=False)
    if not starts:
        await keeper.probe()
    if isinstance(broken, bytes):

        async def unwrap(_wrapped: bytes, _aad: bytes) -> bytes:
            return broken

        bed.fakes[0].unwrap = unwrap
    else:
        bed.fakes[0].broken = broken
    await keeper.probe()
    assert keeper.snapshot.standing is Standing.READY
    assert keeper.report.backends == {"b0": False, "b1": True}
    await ApiServerFake(calling(plugin), bed.clock).poll()
    with pytest.raises(Unavailable, match="b0: "):
        await open_key(load(bed.state).keys[0], bed.fakes[:1], PLACE)


class Spoiling(FakeWrapper):
    """Wraps what nobody will open: bytes that were changed, another's key, no right to unwrap."""

    def __init__(self, name: str, how: str) -> None:
        super().__init__(name)
        self.how = how

    async def wrap(self, secret: bytes, aad: bytes) -> bytes:
        if self.how == "another":
            return await super().wrap(bytes(len(secret)), aad)
        return b"None" if self.how == "changed" else await super().wrap(secret, aad)

    async def unwrap(self, wrapped: bytes, aad: bytes) -> bytes:
        if self.how == "denied":
            raise Denied("aws-denied", "Decrypt: not authorized")
        return await super().unwrap(wrapped, aad)


@pytest.mark.parametrize("how", ["changed", "another", "denied"])
@pytest.mark.parametrize("threshold", [1, 2])
async def test_a_wrap_that_does_not_open_counts_for_none(
    tmp_path: Path, how: str, threshold: int
) -> None:
    """It was found by the first start at which nothing else opened the key."""
    good, other = FakeWrapper("good"), FakeWrapper("other")
    bad = Spoiling("bad", how)
    for wrappers in ((bad,), (good, bad, other)):
        backends = Backends(wrappers, min(threshold, len(wrappers)))
        if len(wrappers) == 1:
            with pytest.raises(Unavailable, match="no-quorum"):
                await make(backends, PLACE, 0.0)
            continue
        entry, key = await make(backends, PLACE, 0.0)
        assert {each.by for each in entry.wraps} == {"good", "other"}
        with pytest.raises(Unavailable, match="not-wrapped"):
            await wrapped_anew(entry, key, backends, PLACE)


async def test_a_slow_backend_has_its_time_for_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a look at whether a wrap opens it had to answer three calls in the time of one."""
    loop, passed = asyncio.get_running_loop(), 0.0
    now = loop.time
    monkeypatch.setattr(loop, "time", lambda: now() + passed)

    class Slow(FakeWrapper):
        hangs = 0.4 * BACKEND_SECONDS

        async def _wait(self) -> None:
            nonlocal passed
            passed += self.hangs
            for _ in range(3):
                await asyncio.sleep(0)

        async def identity(self) -> str:
            await self._wait()
            return await super().identity()

        async def wrap(self, secret: bytes, aad: bytes) -> bytes:
            await self._wait()
            return await super().wrap(secret, aad)

        async def unwrap(self, wrapped: bytes, aad: bytes) -> bytes:
            await self._wait()
            return await super().unwrap(wrapped, aad)

    slow = Slow("s")
    entry, _ = await make(Backends((slow,)), PLACE, 0.0)
    assert [each.by for each in entry.wraps] == ["s"]
    slow.hangs = BACKEND_SECONDS
    with pytest.raises(Unavailable, match="no answer in 5 s"):
        await make(Backends((slow,)), PLACE, 0.0)


async def test_a_backend_that_rotates_while_it_wraps_is_told(bed: Bed) -> None:
    """Else nobody would wrap anew before the version that wrapped is put away."""

    class Rotating(FakeWrapper):
        async def wrap(self, secret: bytes, aad: bytes) -> bytes:
            wrapped = await super().wrap(secret, aad)
            self.rotate()
            return wrapped

    rotating = Rotating("r")
    entry, _ = await make(Backends((rotating,)), PLACE, 0.0)
    assert entry.wraps[0].identity != await rotating.identity()


async def test_a_rotated_backend_is_told_and_a_remade_one_too(bed: Bed) -> None:
    keeper, _ = bed.plugin()
    await keeper.probe()
    assert keeper.report.drifted == ()
    bed.fakes[0].rotate()
    await keeper.probe()
    assert keeper.report.drifted == ("b0",)
    assert keeper.snapshot.standing is Standing.READY
    bed.fakes[0].remake()
    await keeper.probe()
    assert keeper.snapshot.standing is Standing.COASTING


# rotation


async def test_a_key_is_known_everywhere_before_it_is_used(bed: Bed, tmp_path: Path) -> None:
    nodes = [bed.plugin(cached=False) for _ in range(2)]
    for keeper, _ in nodes:
        await keeper.probe()
    old = load(bed.state).current
    entry, _ = await make(bed.backends, PLACE, bed.clock.now() + 1)
    save(bed.state, prepared(load(bed.state), entry))
    for keeper, _ in nodes:
        await keeper.probe()
        assert keeper.snapshot.keks is not None
        assert keeper.snapshot.keks.current == old
        assert entry.id in keeper.snapshot.keks.ciphers
    await bed.clock.advance(301)
    save(bed.state, promoted(load(bed.state), bed.clock.now()))
    await nodes[0][0].probe()
    # One node is ahead: what it makes, the other opens.
    one = ApiServerFake(calling(nodes[0][1]), bed.clock)
    two = ApiServerFake(calling(nodes[1][1]), bed.clock)
    await one.poll()
    await two.poll()
    one.write("by-one")
    two.write("by-two")
    assert {each.key_id for each in (one.stored["by-one"], two.stored["by-two"])} == {old, entry.id}
    one.stored = two.stored = {**one.stored, **two.stored}
    for server in (one, two):
        for name in ("by-one", "by-two"):
            await server.read(name)


async def test_key_ids_do_not_come_back(bed: Bed) -> None:
    keeper, _ = bed.plugin(cached=False)
    await keeper.probe()
    old = load(bed.state)
    entry, _ = await make(bed.backends, PLACE, bed.clock.now() + 1)
    new = promoted(prepared(old, entry), bed.clock.now() + 400)
    save(bed.state, new)
    await keeper.probe()
    assert keeper.snapshot.keks is not None
    save(bed.state, old)
    await keeper.probe()
    assert keeper.snapshot.keks.current == entry.id
    assert "epoch" in keeper.report.problem
    forged = {**json.loads(json.dumps(_dumped(new))), "epoch": 99, "current": old.current}
    bed.state.write_text(json.dumps(forged))
    await keeper.probe()
    assert keeper.snapshot.keks.current == entry.id


async def test_nor_do_they_when_the_plugin_starts_again(bed: Bed) -> None:
    """An older state file, or one that names an older key, from a backup or another node."""
    keeper, _ = bed.plugin(cached=False)
    await keeper.probe()
    old = load(bed.state)
    entry, _ = await make(bed.backends, PLACE, bed.clock.now() + 1)
    new = promoted(prepared(old, entry), bed.clock.now() + 400)
    save(bed.state, new)
    await keeper.probe()
    for back in (old, dataclasses.replace(new, epoch=99, current=old.current)):
        save(bed.state, back)
        again, plugin = bed.plugin(cached=False)
        await again.probe()
        assert again.snapshot.standing is Standing.STARTING
        with pytest.raises(Unavailable, match=f"this node has seen epoch {new.epoch}"):
            await plugin.methods["Status"](b"")
    mark = mark_file(bed.state)
    mark.write_text("{}")
    again, _ = bed.plugin(cached=False)
    await again.probe()
    assert "cannot read" in again.snapshot.reason
    # Where the newest is lost for good, a person says so.
    save(bed.state, old)
    mark.unlink()
    await again.probe()
    assert again.snapshot.standing is Standing.READY
    save(bed.state, new)
    again, _ = bed.plugin(cached=False)
    await again.probe()
    assert again.snapshot.keks is not None
    assert again.snapshot.keks.current == entry.id


async def test_a_lost_state_file_is_no_new_installation(bed: Bed, tmp_path: Path) -> None:
    """A new key would open nothing of what is in etcd; the plugin waits for the file instead."""
    keeper, _ = bed.plugin(cached=False)
    await keeper.probe()
    kept = bed.state.read_bytes()
    bed.state.unlink()
    config = read_config({**CONFIG, "state": str(bed.state)})
    await _first_key(config, bed.backends, asyncio.Event())
    assert not bed.state.exists()
    again, plugin = bed.plugin(cached=False)
    await again.probe()
    with pytest.raises(Unavailable, match="there is no state file"):
        await plugin.methods["Status"](b"")
    bed.state.write_bytes(kept)
    await again.probe()
    assert again.snapshot.standing is Standing.READY
    bed.state.unlink()
    mark_file(bed.state).unlink()
    await _first_key(config, bed.backends, asyncio.Event())
    assert load(bed.state).epoch == 1


async def test_a_mark_that_cannot_be_kept_is_told_and_no_outage(bed: Bed) -> None:
    mark = mark_file(bed.state)
    mark.with_name(mark.name + ".new").mkdir()
    keeper, _ = bed.plugin(cached=False)
    await keeper.probe()
    assert keeper.snapshot.standing is Standing.READY
    assert "cannot write" in keeper.report.problem


def _dumped(state):
    from strongroom.encrypt.kms.state import dumps

    return dumps(state)


async def test_promotion_has_its_order_and_its_interval(bed: Bed) -> None:
    state = load(bed.state)
    with pytest.raises(Conflict):
        promoted(state, 1.0)
    entry, _ = await make(bed.backends, PLACE, 2.0)
    ready = prepared(state, entry)
    with pytest.raises(Conflict):
        prepared(ready, entry)
    after = promoted(ready, bed.clock.now() + 400)
    third, _ = await make(bed.backends, PLACE, 3.0)
    with pytest.raises(Conflict, match="less than 300"):
        promoted(prepared(after, third), bed.clock.now() + 500)
    with pytest.raises(Conflict):
        retired(after, after.current)
    with pytest.raises(NotFound):
        retired(after, "absent")
    assert state.current not in {key.id for key in retired(after, state.current).keys}


async def test_many_who_ask_for_an_unknown_key_are_one_search(bed: Bed) -> None:
    keeper, plugin = bed.plugin(cached=False)
    await keeper.probe()
    entry, _ = await make(bed.backends, PLACE, bed.clock.now() + 1)
    state = promoted(prepared(load(bed.state), entry), bed.clock.now() + 400)
    other, plugin_other = bed.plugin(cached=False)
    save(bed.state, state)
    await other.probe()
    server = ApiServerFake(calling(plugin_other), bed.clock)
    await server.poll()
    server.write("new")
    request = DecryptRequest(server.stored["new"].wrapped, "u", server.stored["new"].key_id).dumps()
    before = bed.fakes[0].calls
    await asyncio.gather(*(plugin.methods["Decrypt"](request) for _ in range(1000)))
    assert bed.fakes[0].calls - before <= 4
    unknown = DecryptRequest(b"x", "u", "nobody-knows").dumps()
    before = bed.fakes[0].calls
    for _ in range(20):
        with pytest.raises(NotFound):
            await plugin.methods["Decrypt"](unknown)
    assert bed.fakes[0].calls - before <= 4


# files


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"version": 1}',
        '{"version": 2, "epoch": 1, "current": "a", "pending": "", "promoted": 0, "keys": []}',
        '{"version": 2, "epoch": 1, "current": "a", "pending": "", "promoted": 0, "keys": [{"id": "a", "created": 0, "threshold": 1, "wraps": [{"by": "x"}]}]}',
    ],
)
def test_a_damaged_state_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "s").write_text(text)
    with pytest.raises(Invalid):
        load(tmp_path / "s")


CONFIG = {
    "socket": "/s",
    "state": "/t",
    "backends": [{"name": "a", "type": "key_file", "path": "/k"}],
}


@pytest.mark.parametrize(
    "changes",
    [
        {"backends": []},
        {"backends": [{"name": "a", "type": "other"}]},
        {"backends": [{"name": "a", "type": "key_file"}]},
        {"backends": [{"name": "a", "type": "key_file", "path": "/k", "extra": "x"}]},
        {"backends": [{"name": "a", "type": "key_file", "path": ["/k"]}]},
        {"backends": "a"},
        {"threshold": "two"},
        {"on_backend_loss": "perhaps"},
        {"max_offline_age": "soon"},
        {"offline_cache": "/c"},
        {"escrow": [{"name": "safe"}]},
        {"extra": 1},
        {"socket": ""},
        {"socket": "/" + "s" * 200},
    ],
)
def test_a_bad_configuration_is_refused(changes) -> None:
    with pytest.raises(Invalid) as caught:
        read_config({**CONFIG, **changes})
    assert caught.value.code == "bad-kms-config"


def test_a_good_one_is_read() -> None:
    read = read_config(
        {**CONFIG, "max_offline_age": "2d", "on_backend_loss": "stop", "cluster": "c"}
    )
    assert read.policy == Policy(OnLoss.STOP, 2 * 86400.0)
    assert read.place == Place("strongroom", "c")
    with pytest.raises(Invalid):
        Backends((FakeWrapper("a"), FakeWrapper("a")))
    with pytest.raises(Invalid):
        Backends((FakeWrapper("a"),), 2)
    with pytest.raises(Invalid):
        loads(None)
