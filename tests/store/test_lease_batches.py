"""What happens to leases meanwhile: a slow engine's batch, another node's claim, a revocation."""

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from strongroom.model.errors import Denied, Invalid, Unavailable
from strongroom.store.engine.contract import LeaseRow, MountRow, TokenRow
from strongroom.store.engine.memory import MemoryEngine
from strongroom.store.leases import CLAIM_SECONDS
from strongroom.store.leasing import BEGIN_SECONDS, Leases, Terms
from strongroom.store.tokens import Bounds

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
        return leases.claim(transaction, NOW, 5)

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
    again = await engine.transact(lambda each: leases.claim(each, NOW + CLAIM_SECONDS, 5))
    await leases.revoke(again)
    assert len(slow.undone) == 4


async def test_what_one_node_has_claimed_no_other_has_before_it_must_be_done() -> None:
    engine = MemoryEngine()
    quotas: Any = None
    leases = Leases(engine, _Clock(), quotas, {})  # type: ignore[arg-type]
    row = LeaseRow("slow/1", MOUNT.uuid, None, NOW - 9, NOW - 1, 8, NOW - 1)
    await engine.transact(lambda each: each.put_lease(row))
    claimed = await engine.transact(lambda each: leases.claim(each, NOW, 5))
    assert [each.id for each in claimed] == [row.id]
    for later in (0.0, CLAIM_SECONDS - 1):
        assert not await engine.transact(lambda each, at=NOW + later: leases.claim(each, at, 5))
    again = await engine.transact(lambda each: leases.claim(each, NOW + CLAIM_SECONDS, 5))
    assert [(each.id, each.attempts) for each in again] == [(row.id, 2)]


class _Meanwhile:
    """An engine during whose renewal something happens. Implements Leasing."""

    def __init__(self) -> None:
        self.happens: Callable[[], Awaitable[Any]] | None = None

    async def revoke_lease(self, _: MountRow, lease: LeaseRow) -> None:
        """Nothing stands outside."""

    async def renew_lease(self, _: MountRow, lease: LeaseRow) -> None:
        if self.happens is not None:
            await self.happens()


@pytest.mark.parametrize("how", ["revoked", "to be revoked"])
async def test_a_lease_that_is_revoked_while_it_is_renewed_is_not_brought_back(how: str) -> None:
    engine, backend = MemoryEngine(), _Meanwhile()
    quotas: Any = None
    leases = Leases(engine, _Clock(), quotas, {"slow": backend})  # type: ignore[arg-type]
    row = LeaseRow("slow/1", MOUNT.uuid, None, NOW, NOW + 60, 60, NOW + 60, max_ttl=3600)

    async def revoked() -> None:
        await leases.revoke_now(row.id)

    async def to_be_revoked() -> None:
        await engine.transact(lambda each: each.revoke_leases(NOW, prefix="slow/"))

    await engine.transact(lambda each: (each.put_mount(MOUNT), each.put_lease(row)))
    assert (await leases.renew(row.id, 600)).expires == NOW + 600
    backend.happens = revoked if how == "revoked" else to_be_revoked
    with pytest.raises(Invalid, match="lease not found"):
        await leases.renew(row.id, 1200)
    left = engine.view.lease(row.id)
    assert left is None if how == "revoked" else (left.state, left.due) == ("revoking", NOW)


class _Refusing:
    """An engine that undoes nothing, and says so after something has happened. Implements Leasing."""

    def __init__(self) -> None:
        self.happens: Callable[[], Awaitable[Any]] | None = None

    async def revoke_lease(self, _: MountRow, lease: LeaseRow) -> None:
        happens, self.happens = self.happens, None
        if happens is not None:
            await happens()
        raise Unavailable("away", f"{lease.id} stays")

    async def renew_lease(self, _: MountRow, lease: LeaseRow) -> None:
        raise AssertionError(lease.id)


@pytest.mark.parametrize("by", ["a person", "the background"])
async def test_a_lease_that_is_forgotten_by_force_while_it_is_undone_is_not_brought_back(
    by: str,
) -> None:
    """Somebody has said that nobody can undo it: tried again, it would keep its mount for ever."""
    engine, backend = MemoryEngine(), _Refusing()
    quotas: Any = None
    leases = Leases(engine, _Clock(), quotas, {"slow": backend})  # type: ignore[arg-type]
    row = LeaseRow("slow/1", MOUNT.uuid, None, NOW - 9, NOW - 1, 8, NOW - 1)
    await engine.transact(lambda each: (each.put_mount(MOUNT), each.put_lease(row)))
    backend.happens = lambda: leases.revoke_now(row.id, force=True)
    if by == "a person":
        with pytest.raises(Unavailable, match="stays"):
            await leases.revoke_now(row.id)
    else:
        await leases.revoke(await engine.transact(lambda each: leases.claim(each, NOW, 5)))
    assert engine.view.lease(row.id) is None


@pytest.mark.parametrize("gone", ["token", "mount"])
async def test_nothing_is_begun_for_a_token_or_in_a_mount_that_is_gone_by_then(gone: str) -> None:
    """It was there when the request was let in; nobody would ever undo what is made now."""
    engine = MemoryEngine()
    quotas: Any = SimpleNamespace(admit_lease=lambda *_: None)
    leases = Leases(engine, _Clock(), quotas, {})  # type: ignore[arg-type]
    token = TokenRow(b"t", "a", None, ("p",), "t", "auth/token/create", NOW, 60, NOW + 60)
    caller: Any = SimpleNamespace(row=token)
    call: Any = SimpleNamespace(caller=caller, path="slow/creds/a", mount=MOUNT)
    await engine.transact(lambda each: (each.put_mount(MOUNT), each.put_token(token)))
    assert (await leases.intend(call, Bounds(), Terms())).state == "pending"
    if gone == "token":
        await engine.transact(lambda each: each.delete_token(b"t", now=NOW))
    else:
        await engine.transact(lambda each: each.delete_mount(MOUNT))
    before = engine.view.lease_ids("")
    with pytest.raises(Denied if gone == "token" else Invalid):
        await leases.intend(call, Bounds(), Terms())
    assert engine.view.lease_ids("") == before
