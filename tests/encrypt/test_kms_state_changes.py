"""What becomes of a state file that is changed: by two at once, by a node whose clock is behind, by a retirement."""

import asyncio
import fcntl
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from strongroom.crypto.keyfile import create_key_file
from strongroom.encrypt.kms.high_water import check_mark, mark_file, of_state
from strongroom.encrypt.kms.keeper import Keeper
from strongroom.encrypt.kms.keys import (
    Backends,
    Keks,
    Place,
    completed,
    make,
    open_key,
    wrapped_anew,
)
from strongroom.encrypt.kms.messages import (
    DecryptRequest,
    EncryptRequest,
    EncryptResponse,
    plaintext_of,
)
from strongroom.encrypt.kms.offline import Cached, OfflineCache
from strongroom.encrypt.kms.plugin import Plugin
from strongroom.encrypt.kms.standing import Policy, Standing
from strongroom.encrypt.kms.state import (
    KmsState,
    Wrap,
    WrappedKey,
    check_successor,
    first,
    load,
    prepared,
    promoted,
    retired,
    save,
    save_over,
    with_key,
)
from strongroom.model.clock import SimulatedClock
from strongroom.model.errors import Conflict, Denied, Unavailable
from strongroom.wire.keywrap.fake import FakeWrapper

PLACE = Place("strongroom", "c")


class Slow(FakeWrapper):
    """A backend whose answers wait until they are let through."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.asked, self.free = asyncio.Event(), asyncio.Event()

    async def wrap(self, secret: bytes, aad: bytes) -> bytes:
        self.asked.set()
        await self.free.wait()
        return await super().wrap(secret, aad)


OLD, USED, NEXT = (WrappedKey(name, float(at), 1, ()) for at, name in enumerate("abc"))
SEEN = KmsState(5, USED.id, (OLD, USED, NEXT))


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (KmsState(4, USED.id, SEEN.keys), "has epoch 4, the plugin has seen 5"),
        (KmsState(5, NEXT.id, SEEN.keys), "has epoch 5, the plugin has seen 5"),
        (KmsState(6, OLD.id, SEEN.keys), "the key a was in use before"),
        (KmsState(6, NEXT.id, (OLD, NEXT)), "epoch 6. lacks the key b"),
    ],
)
def test_a_state_that_goes_back_is_refused_and_says_how(
    tmp_path: Path, read: KmsState, said: str
) -> None:
    with pytest.raises(Conflict, match=said):
        check_successor(SEEN, read)
    if "lacks" not in said:  # After a restart nothing was sealed by this process.
        with pytest.raises(Conflict, match="this node has seen epoch 5 and key b"):
            check_mark(of_state(SEEN), read, tmp_path / "state")


def test_a_state_that_goes_on_is_taken(tmp_path: Path) -> None:
    for read in (
        SEEN,
        KmsState(6, NEXT.id, SEEN.keys),
        KmsState(6, USED.id, (USED, NEXT)),
        KmsState(7, NEXT.id, (USED, NEXT)),
    ):
        check_successor(SEEN, read)
        check_mark(of_state(SEEN), read, tmp_path / "state")


def test_an_offline_cache_is_bound_to_its_moment_and_its_epoch(tmp_path: Path) -> None:
    create_key_file(tmp_path / "key")
    file = tmp_path / "cache"
    cache = OfflineCache(file, tmp_path / "key", PLACE)
    cache.write(Cached(Keks("a", {"a": b"k" * 32}, PLACE), 100.0, 5))
    text = file.read_text()
    assert cache.read(110.0, 60.0).keks.keys == {"a": b"k" * 32}
    for was, becomes in (
        ('"confirmed": 100.0', '"confirmed": 109.0'),
        ('"epoch": 5', '"epoch": 6'),
    ):
        assert was in text
        file.write_text(text.replace(was, becomes))
        with pytest.raises(Denied, match="does not open"):
            cache.read(110.0, 60.0)


async def test_shares_are_made_anew_as_a_whole_or_not_at_all() -> None:
    """A backend that is away would keep a share of a splitting that nobody else has."""
    old, more = (
        [FakeWrapper(name) for name in ("one", "two")],
        [FakeWrapper("three"), FakeWrapper("four")],
    )
    entry, key = await make(Backends((*old,), 2), PLACE, 1.0)
    wanted = Backends((*old, *more), 2)
    old[0].broken = Unavailable("down", "away")
    assert await completed(entry, key, wanted, PLACE) is None
    old[0].broken = None
    better = await completed(entry, key, wanted, PLACE)
    assert better is not None
    assert (await open_key(better, [old[0], more[1]], PLACE)).key == key


async def test_a_promotion_while_the_plugin_makes_up_for_a_wrap_is_not_lost(tmp_path: Path) -> None:
    quick, slow, clock = FakeWrapper("quick"), Slow("slow"), SimulatedClock()
    entry, _ = await make(Backends((quick,)), PLACE, clock.now())
    path = tmp_path / "state"
    save(path, first(entry))
    keeper = Keeper(path, Backends((quick, slow)), PLACE, Policy(), clock)
    probe = asyncio.create_task(keeper.probe())
    await slow.asked.wait()
    # Meanwhile a person prepares and promotes, and has the plugin read it.
    newer, _ = await make(Backends((quick,)), PLACE, clock.now() + 1)
    after = promoted(prepared(load(path), newer), clock.now() + 400)
    save(path, after)
    reload = asyncio.create_task(keeper.reload())
    slow.free.set()
    await asyncio.gather(probe, reload)
    assert load(path).current == newer.id
    assert load(path).epoch == after.epoch
    assert keeper.snapshot.standing is Standing.READY
    assert keeper.snapshot.keks is not None
    assert keeper.snapshot.keks.current == newer.id
    # And the new key got the wrap it lacked.
    assert {wrap.by for wrap in load(path).key(newer.id).wraps} == {"quick", "slow"}


async def test_a_change_of_what_is_no_longer_there_is_refused(tmp_path: Path) -> None:
    quick, path = FakeWrapper("quick"), tmp_path / "state"
    entry, _ = await make(Backends((quick,)), PLACE, 1.0)
    seen = first(entry)
    save(path, seen)
    other, _ = await make(Backends((quick,)), PLACE, 2.0)
    save_over(path, seen, prepared(seen, other))
    third, _ = await make(Backends((quick,)), PLACE, 3.0)
    with pytest.raises(Conflict, match="changed meanwhile") as caught:
        save_over(path, seen, prepared(seen, third))
    assert caught.value.code == "state-changed"
    assert load(path).pending == other.id
    with pytest.raises(Unavailable):
        save_over(tmp_path / "absent" / "state", seen, seen)


async def test_of_two_that_wrap_anew_the_second_is_refused_though_the_epoch_is_the_same(
    tmp_path: Path,
) -> None:
    path, seen = tmp_path / "state", KmsState(1, USED.id, (USED,))
    save(path, seen)
    inode = path.stat().st_ino
    one, two = (
        with_key(seen, replace(USED, wraps=(Wrap("b", name, b"x"),))) for name in ("one", "two")
    )
    with path.with_name("state.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Somebody is at it, and has read the file.
        with ThreadPoolExecutor(1) as pool:
            second = pool.submit(save_over, path, seen, two)
            with pytest.raises(TimeoutError):
                second.result(0.2)
            save(path, one)
            fcntl.flock(lock, fcntl.LOCK_UN)
            with pytest.raises(Conflict, match="changed meanwhile"):
                second.result()
    assert load(path) == one
    # Never half a file: another takes its place.
    assert path.stat().st_ino != inode
    assert path.stat().st_mode & 0o777 == 0o600


def test_each_step_has_a_higher_epoch_and_what_is_to_come_does_not_go() -> None:
    """By the epoch alone a node knows that a file without a key is the newer one."""
    ready = prepared(KmsState(5, USED.id, (OLD, USED)), NEXT)
    states = (ready, promoted(ready, 1e6), retired(ready, OLD.id))
    assert [each.epoch for each in states] == [6, 7, 7]
    for key in (USED, NEXT):
        with pytest.raises(Conflict, match="in use"):
            retired(ready, key.id)


@pytest.mark.parametrize(
    ("epoch", "since", "taken"),
    [(6, 299.0, False), (6, 0.0, False), (6, 300.0, True), (6, -1.0, True), (2, 1.0, True)],
)
def test_promotions_keep_their_interval_and_no_longer(epoch, since, taken) -> None:
    """The second key of all may come at once; a clock that was set back keeps nobody waiting."""
    state = KmsState(epoch, USED.id, (USED, NEXT), NEXT.id, promoted=1000.0)
    if taken:
        assert promoted(state, 1000.0 + since).current == NEXT.id
        return
    with pytest.raises(Conflict, match="less than 300"):
        promoted(state, 1000.0 + since)


def test_what_is_sealed_is_bound_to_all_that_it_is_for() -> None:
    given = [("p", "c", "seed", "k"), ("q", "c", "seed", "k"), ("p", "d", "seed", "k")]
    given += [("p", "c", "wrap", "k"), ("p", "c", "offline", "k"), ("p", "c", "seed", "l")]
    assert len({Place(provider, cluster).aad(*rest) for provider, cluster, *rest in given}) == 6


async def test_a_key_that_escrow_alone_wraps_is_none() -> None:
    """Nothing on the node would open it again."""
    away = FakeWrapper("away")
    away.broken = Unavailable("down", "away")
    with pytest.raises(Unavailable, match="too few backends"):
        await make(Backends((away,), escrows=(FakeWrapper("safe"),)), PLACE, 1.0)


async def test_as_many_shares_as_it_takes_open_a_key_whatever_another_backend_answers() -> None:
    four = [FakeWrapper(name) for name in ("one", "two", "three", "four")]
    entry, key = await make(Backends((*four,), 3), PLACE, 1.0)
    four[1].broken = KeyError("a proxy's page")
    assert (await open_key(entry, four, PLACE)).key == key
    four[2].broken = TypeError("another")
    with pytest.raises(Unavailable, match=r"two: it gave an answer that cannot be used \(KeyError"):
        await open_key(entry, four, PLACE)


async def test_wrapped_anew_is_by_each_backend_as_it_is_now() -> None:
    """Or a backend's old key version would be put away with wraps still under it."""
    backends = (FakeWrapper("one"), FakeWrapper("two"))
    entry, key = await make(Backends(backends), PLACE, 1.0)
    for each in backends:
        each.rotate()
    anew = await wrapped_anew(entry, key, Backends(backends), PLACE)
    assert [each.identity for each in anew.wraps] == ["one/2", "two/2"]
    assert [each.blob[0] for each in anew.wraps] == [2, 2]
    backends[1].broken = Unavailable("down", "away")
    with pytest.raises(Unavailable, match="not every backend wraps: two: away"):
        await wrapped_anew(entry, key, Backends(backends), PLACE)


async def test_a_key_of_a_node_whose_clock_is_behind_is_taken(tmp_path: Path) -> None:
    """By created alone it looked like one that comes back: refused, and after a restart no key."""
    clock, backends, path = SimulatedClock(), Backends((FakeWrapper("b"),)), tmp_path / "state"
    entry, _ = await make(backends, PLACE, clock.now())
    save(path, first(entry))
    keeper = Keeper(path, backends, PLACE, Policy(), clock)
    await keeper.probe()
    late, _ = await make(backends, PLACE, clock.now() - 3600)
    save(path, prepared(load(path), late))
    await keeper.probe()
    save(path, promoted(load(path), clock.now()))
    await keeper.probe()
    again = Keeper(path, backends, PLACE, Policy(), clock)
    await again.probe()
    for each in (keeper, again):
        assert each.snapshot.keks is not None, each.snapshot.reason
        assert each.snapshot.keks.current == late.id


async def test_a_retired_key_is_forgotten_at_once_and_comes_back_by_the_file_before(
    tmp_path: Path,
) -> None:
    clock, fake, path = SimulatedClock(), FakeWrapper("b"), tmp_path / "state"
    backends = Backends((fake,))
    create_key_file(tmp_path / "offline.key")
    cache = OfflineCache(tmp_path / "offline.json", tmp_path / "offline.key", PLACE)

    def started() -> Keeper:
        return Keeper(path, backends, PLACE, Policy(), clock, cache)

    def opens(keeper: Keeper) -> set[str]:
        assert keeper.snapshot.keks is not None
        return set(keeper.snapshot.keks.ciphers)

    old, _ = await make(backends, PLACE, clock.now())
    save(path, first(old))
    new, _ = await make(backends, PLACE, clock.now() + 1)
    before = promoted(prepared(load(path), new), clock.now() + 400)
    save(path, before)
    keeper = started()
    await keeper.probe()
    assert opens(keeper) == {old.id, new.id}
    save(path, retired(before, old.id))
    # A start without a backend, from a cache of before, does not bring it back either.
    fake.broken = Unavailable("down", "away")
    again = started()
    await again.probe()
    assert (again.snapshot.standing, opens(again)) == (Standing.COASTING, {new.id})
    fake.broken = None
    await keeper.probe()
    assert opens(keeper) == {new.id}
    assert set(cache.read(clock.now(), 60.0).keks.keys) == {new.id}
    save(path, before)
    mark_file(path).unlink()
    again = started()
    await again.probe()
    assert opens(again) == {old.id, new.id}


async def test_a_restart_from_the_offline_cache_gives_no_more_time(tmp_path: Path) -> None:
    """What counts is when a backend last answered, and not when the process began."""
    clock, fake, path = SimulatedClock(), FakeWrapper("b"), tmp_path / "state"
    create_key_file(tmp_path / "offline.key")
    cache = OfflineCache(tmp_path / "offline.json", tmp_path / "offline.key", PLACE)
    entry, _ = await make(Backends((fake,)), PLACE, clock.now())
    save(path, first(entry))

    def started() -> Keeper:
        return Keeper(path, Backends((fake,)), PLACE, Policy(), clock, cache)

    await started().probe()
    fake.broken = Unavailable("down", "away")
    await clock.advance(60 * 3600.0)
    keeper = started()
    await keeper.probe()
    assert keeper.snapshot.standing is Standing.COASTING
    await clock.advance(13 * 3600.0)
    await keeper.probe()
    assert (keeper.snapshot.standing, keeper.report.offline_seconds) == (
        Standing.STOPPED, 73 * 3600.0,
    )  # fmt: skip
    again = started()
    await again.probe()
    assert "the limit is 72.0 h" in again.snapshot.reason
    clock.step_wall(-2 * 73 * 3600.0)  # Nor does a clock that was set back.
    await keeper.probe()
    assert keeper.snapshot.standing is Standing.STOPPED


async def test_a_cache_newer_than_the_state_file_is_not_used_with_it(tmp_path: Path) -> None:
    """Its keys would serve under a state that says another key is in use."""
    clock, fake, path = SimulatedClock(), FakeWrapper("b"), tmp_path / "state"
    create_key_file(tmp_path / "offline.key")
    cache = OfflineCache(tmp_path / "offline.json", tmp_path / "offline.key", PLACE)
    entry, key = await make(Backends((fake,)), PLACE, clock.now())
    save(path, first(entry))
    cache.write(Cached(Keks(entry.id, {entry.id: key}, PLACE), clock.now(), 2))
    fake.broken = Unavailable("down", "away")
    keeper = Keeper(path, Backends((fake,)), PLACE, Policy(), clock, cache)
    await keeper.probe()
    assert keeper.snapshot.standing is Standing.STARTING
    assert "older than the offline cache" in keeper.snapshot.reason


async def test_backends_are_asked_once_a_minute_and_sooner_after_a_failure(tmp_path: Path) -> None:
    clock, fake, path = SimulatedClock(), FakeWrapper("b"), tmp_path / "state"
    entry, _ = await make(Backends((fake,)), PLACE, clock.now())
    save(path, first(entry))
    keeper = Keeper(path, Backends((fake,)), PLACE, Policy(), clock)
    work = asyncio.create_task(keeper.run())
    await clock.advance(1.0)
    calls = fake.calls
    await clock.advance(57.0)
    assert fake.calls == calls
    fake.broken = Unavailable("down", "away")
    await clock.advance(3.0)
    assert keeper.snapshot.standing is Standing.COASTING
    fake.broken = None
    await clock.advance(10.0)
    assert keeper.snapshot.standing is Standing.READY
    work.cancel()


async def test_a_promoted_key_that_does_not_open_keeps_nobody_from_reading(tmp_path: Path) -> None:
    clock, fake, path = SimulatedClock(), FakeWrapper("b"), tmp_path / "state"
    backends = Backends((fake,))
    old, _ = await make(backends, PLACE, clock.now())
    save(path, first(old))
    keeper = Keeper(path, backends, PLACE, Policy(), clock)
    await keeper.probe()
    plugin = Plugin(keeper, clock)
    sealed = EncryptResponse.loads(
        await plugin.methods["Encrypt"](EncryptRequest(b"s" * 32).dumps())
    )
    # Prepared and promoted between two looks of the plugin, and then the backend goes away.
    new, _ = await make(backends, PLACE, clock.now() + 1)
    save(path, promoted(prepared(load(path), new), clock.now() + 400))
    fake.broken = Unavailable("down", "away")
    await keeper.probe()
    assert keeper.snapshot.standing is Standing.STARTING
    for name in ("Status", "Encrypt"):
        with pytest.raises(Unavailable):
            await plugin.methods[name](EncryptRequest(b"s" * 32).dumps())
    asked = DecryptRequest(sealed.ciphertext, "u", sealed.key_id).dumps()
    assert plaintext_of(await plugin.methods["Decrypt"](asked)) == b"s" * 32
    fake.broken = None
    await keeper.probe()
    assert keeper.snapshot.standing is Standing.READY
