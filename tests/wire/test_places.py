"""Who makes room where all places of a listener are taken."""

from dataclasses import dataclass, field

from strongroom.wire.places import LOOKED_AT, Places


@dataclass(eq=False)
class Somebody:
    is_owed: bool = False
    ended: list[bool] = field(default_factory=list)

    def cut(self) -> None:
        self.ended.append(True)


def test_who_was_silent_for_longest_and_waits_for_nothing_makes_room() -> None:
    places: Places[Somebody] = Places(3)
    waits, spoke, silent = Somebody(is_owed=True), Somebody(), Somebody()
    assert all(places.take(each) for each in (waits, spoke, silent))
    places.heard(spoke)
    assert places.take(Somebody())
    assert (waits.ended, spoke.ended, silent.ended) == ([], [], [True])
    assert len(places) == 3
    # What comes after its end changes nothing.
    places.heard(silent)
    places.leave(silent)
    assert len(places) == 3


def test_of_very_many_that_wait_some_are_looked_at_each_time() -> None:
    """Looking at all of them for each that comes would itself keep everybody out."""
    places: Places[Somebody] = Places(3 * LOOKED_AT)
    peers = [Somebody(is_owed=number < 2 * LOOKED_AT) for number in range(3 * LOOKED_AT)]
    assert all(map(places.take, peers))
    assert [places.take(Somebody()) for _ in range(4)] == [False, False, True, True]
    assert [each.ended for each in peers[2 * LOOKED_AT :]][:3] == [[True], [True], []]
