"""Which data a secret no longer keeps: a quick way for what nearly always happens, and the rule."""

from dataclasses import dataclass

import hypothesis.strategies as st
from hypothesis import example, given
from msgspec.structs import replace

from strongroom.store.engine._kv_rows import without_data
from strongroom.store.engine.contract import KvVersionInfo

Versions = tuple[KvVersionInfo, ...]


def rule(before: Versions, now: Versions) -> list[int]:
    """Data lives exactly as long as an entry that is not destroyed."""
    kept = {each.version for each in now if not each.destroyed}
    return [each.version for each in before if not each.destroyed and each.version not in kept]


@dataclass(frozen=True)
class Step:
    """What a unit of work does to a secret: versions come, old ones go, some change."""

    come: int
    keep: int
    destroyed: frozenset[int]
    deleted: frozenset[int]

    def taken(self, before: Versions) -> Versions:
        newest = before[-1].version if before else 0
        grown = [*before, *(KvVersionInfo(newest + 1 + each, 0.0) for each in range(self.come))]
        changed = [
            replace(
                each,
                destroyed=each.destroyed or each.version in self.destroyed,
                deleted=1.0 if each.version in self.deleted else each.deleted,
            )
            for each in grown
        ]
        return tuple(changed[-self.keep :] if self.keep else [])


NUMBERS = st.frozensets(st.integers(1, 12), max_size=4)
STEPS = st.lists(st.builds(Step, st.integers(0, 3), st.integers(0, 8), NUMBERS, NUMBERS))
NONE: frozenset[int] = frozenset()


@given(STEPS)
@example([Step(8, 8, NONE, NONE), Step(1, 8, NONE, NONE)])  # One pushes one out.
@example([Step(8, 8, NONE, NONE), Step(1, 3, NONE, NONE)])  # The limit was lowered.
@example([Step(3, 8, frozenset({1}), NONE), Step(1, 3, NONE, NONE)])  # A destroyed one goes.
@example([Step(3, 8, NONE, NONE), Step(0, 8, frozenset({2}), NONE)])  # One is destroyed.
@example([Step(3, 8, NONE, NONE), Step(1, 8, frozenset({4}), NONE)])  # One comes destroyed.
@example([Step(3, 8, NONE, NONE), Step(0, 0, NONE, NONE)])  # None is left.
def test_the_quick_way_says_what_the_rule_says(steps: list[Step]) -> None:
    before: Versions = ()
    for step in steps:
        now = step.taken(before)
        assert list(without_data(before, now)) == rule(before, now)
        before = now
