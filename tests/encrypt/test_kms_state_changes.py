"""Two who change the state file at once: the plugin that makes up for a wrap, and a person."""

import asyncio
from pathlib import Path

import pytest

from strongroom.encrypt.kms.keeper import Keeper
from strongroom.encrypt.kms.keys import Backends, Place, make
from strongroom.encrypt.kms.standing import Policy, Standing
from strongroom.encrypt.kms.state import first, load, prepared, promoted, save, save_over
from strongroom.model.clock import SimulatedClock
from strongroom.model.errors import Conflict, Unavailable
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
