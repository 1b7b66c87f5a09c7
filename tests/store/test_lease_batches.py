"""A batch of leases whose engine is slow: what it has no time for is given back untouched."""

from typing import Any

from strongroom.store.engine.contract import LeaseRow, MountRow
from strongroom.store.engine.memory import MemoryEngine
from strongroom.store.leases import CLAIM_SECONDS
from strongroom.store.leasing import BEGIN_SECONDS, Leases, claim

MOUNT = MountRow("secret", "slow/", "slow", "uuid", "accessor")
NOW = 1_700_000_000.0


class _Clock:
    """Moves by what is done."""

    def __init__(self) -> None:
        self.passed = 0.0

    def now(self) -> float:
        return NOW + self.passed

    def monotonic(self) -> float:
        return self.passed


class _Slow:
    """An engine that takes half the time in which a batch may begin. Implements Leasing."""

    def __init__(self, clock: _Clock) -> None:
        self._clock = clock
        self.undone: list[str] = []

    async def revoke_lease(self, _: MountRow, lease: LeaseRow) -> None:
        self._clock.passed += BEGIN_SECONDS / 2
        self.undone.append(lease.id)

    async def renew_lease(self, _: MountRow, lease: LeaseRow) -> None:
        raise AssertionError(lease.id)


async def test_what_a_batch_has_no_time_for_is_given_back_and_has_not_failed() -> None:
    engine, clock = MemoryEngine(), _Clock()
    slow = _Slow(clock)
    quotas: Any = None
    leases = Leases(engine, clock, quotas, {"slow": slow})  # type: ignore[arg-type]

    def begin(transaction: Any) -> Any:
        transaction.put_mount(MOUNT)
        for number in range(5):
            row = LeaseRow(f"slow/{number}", MOUNT.uuid, None, NOW - 9, NOW - 1, 8, NOW - 1)
            transaction.put_lease(row)
        return claim(transaction, NOW, 5)

    await leases.revoke(await engine.transact(begin))
    assert len(slow.undone) == 2
    left = [engine.view.lease(f"slow/{number}") for number in range(5)]
    rows = [each for each in left if each is not None]
    assert len(rows) == 3
    assert {(each.state, each.attempts, each.due) for each in rows} == {
        ("revoking", 0, clock.now())
    }
    assert clock.passed < CLAIM_SECONDS
    # They are undone in the next batches.
    clock.passed = 0.0
    again = await engine.transact(lambda each: claim(each, NOW + CLAIM_SECONDS, 5))
    await leases.revoke(again)
    assert len(slow.undone) == 4
