"""Leases in use: how an engine makes something with an end, and how that end comes.

An engine writes down what it is about to make (`intend`), makes it, and says so (`confirm`). What
is never confirmed is undone like what has expired: rows that are due are claimed a batch at a
time, undone by their engine, and then removed. Between any two of these steps the process may be
killed; the row is there before the thing, and goes after it.
"""

import asyncio
import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, runtime_checkable

from strongroom.crypto.tokens import BASE62, random_text
from strongroom.model.clock import Clock
from strongroom.model.errors import Invalid, Refusal, Unavailable
from strongroom.store.call import Call, Result
from strongroom.store.engine.contract import MAKING, Engine, LeaseRow, MountRow, Transaction
from strongroom.store.leases import (
    CLAIM_SECONDS,
    PENDING_SECONDS,
    confirmed,
    failed,
    lease_terms,
    remaining,
    renewed,
)
from strongroom.store.quotas import Quotas
from strongroom.store.routing import backend_name, full_path, unknown_type
from strongroom.store.sessions import invalid_token
from strongroom.store.tokens import Bounds

NAME_CHARACTERS: Final = 24
BATCH: Final = 100
AT_ONCE: Final = 16
REVOKE_SECONDS: Final = 60.0
# Of a batch, what has not begun by then is given back: nobody else may undo it meanwhile, nor has
# it failed.
BEGIN_SECONDS: Final = CLAIM_SECONDS - REVOKE_SECONDS
_LEFT: Final = Unavailable("revoke-later", "the revocation has not begun")
NOT_BEGUN: Final = (_LEFT.code, "unknown-type")

_log = logging.getLogger(__name__)


@runtime_checkable
class Leasing(Protocol):
    """What a backend that issues leases does besides its endpoints."""

    async def revoke_lease(self, mount: MountRow, lease: LeaseRow) -> None:
        """Undo what was made; done already, or never made, is no error. Raises Refusal."""

    async def renew_lease(self, mount: MountRow, lease: LeaseRow) -> None:
        """Carry the lease's new `expires` to where it counts. Raises Refusal."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a lease is asked to be, in seconds; 0 means as the mount has it."""

    ttl: int = 0
    max_ttl: int = 0
    renewable: bool = True
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)


class Leases:
    """For the engines, for `sys/leases`, and for what runs in the background."""

    def __init__(
        self, engine: Engine, clock: Clock, quotas: Quotas, backends: Mapping[str, object]
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._quotas = quotas
        self._backends = backends

    # making

    async def intend(self, call: Call, bounds: Bounds, terms: Terms) -> LeaseRow:
        """Write down what is about to be made; raises Refusal when it may not."""
        now, holder = self._clock.now(), call.caller.row
        ttl, most = lease_terms(terms.ttl, terms.max_ttl, bounds)
        expires = now + ttl
        if not holder.id and holder.expires is not None:
            # A batch token has no row to take its leases along.
            expires = min(expires, holder.expires)
        row = LeaseRow(
            id=f"{call.path}/{random_text(NAME_CHARACTERS, BASE62)}",
            mount=call.mount.uuid,
            token=holder.id or None,
            issued=now,
            expires=expires,
            ttl=ttl,
            due=now + PENDING_SECONDS,
            state="pending",
            max_ttl=most if holder.id else int(expires - now),
            renewable=terms.renewable,
            data=dict(terms.data),
        )

        def write(transaction: Transaction) -> None:
            if holder.id and transaction.token(holder.id) is None:
                raise invalid_token()
            if call.mount not in transaction.mounts():
                raise Invalid("no-mount", "the mount was changed or removed meanwhile")
            self._quotas.admit_lease(transaction, call.path, holder.client, now)
            transaction.put_lease(row)

        await self._engine.transact(write)
        return row

    async def confirm(self, lease: LeaseRow) -> LeaseRow:
        """What was intended is there; raises Denied when it is not wanted any more, and undoes it.

        That is so when its token, or the lease itself, was revoked meanwhile.
        """

        def write(transaction: Transaction) -> LeaseRow | None:
            row = transaction.lease(lease.id)
            if row is None or row.state not in MAKING:
                return None
            if row.state == "abandoned":
                transaction.put_lease(
                    dataclasses.replace(row, state="revoking", due=self._clock.now())
                )
                return None
            row = confirmed(row)
            transaction.put_lease(row)
            return row

        row = await self._engine.transact(write)
        if row is None:
            raise invalid_token()
        return row

    def answer(self, data: Mapping[str, Any], lease: LeaseRow) -> Result:
        """The reply that hands out what was made."""
        return Result(
            data,
            lease_id=lease.id,
            lease_duration=remaining(lease, self._clock.now()),
            renewable=lease.renewable,
        )

    # renewing

    async def renew(self, lease_id: str, increment: int) -> LeaseRow:
        """Extend a lease, at its backend first: there it never ends before it does here."""
        row = self._engine.view.lease(lease_id)
        if row is None:
            raise Invalid("no-lease", "lease not found")
        wanted = renewed(row, increment, self._clock.now())
        mount, backend = self._backend_of(row, self._mounts())
        await backend.renew_lease(mount, wanted)

        def write(transaction: Transaction) -> LeaseRow:
            current = transaction.lease(lease_id)
            if current is None or current.state != "live":
                raise Invalid("no-lease", "lease not found")
            transaction.put_lease(wanted)
            return wanted

        return await self._engine.transact(write)

    # revoking

    def claim(self, transaction: Transaction, now: float, limit: int) -> Sequence[LeaseRow]:
        """Take a batch of what is due, for `revoke`; nobody else has it until it must be done.

        A part of the caller's unit of work. What a later version has made is left to its nodes.
        """
        unknown = [
            each.uuid for each in transaction.mounts() if backend_name(each) not in self._backends
        ]
        return transaction.claim_leases(now, now + CLAIM_SECONDS, limit, apart=unknown)

    async def revoke_now(self, lease_id: str, *, force: bool = False) -> bool:
        """Undo one lease and forget it; False when there is none.

        One that is being made is undone in the background, once it is there.
        Raises Refusal when its backend cannot undo it, unless `force`: then it is forgotten.
        """
        now = self._clock.now()

        def claim(transaction: Transaction) -> LeaseRow | None:
            row = transaction.lease(lease_id)
            if row is None:
                return None
            if row.state in MAKING:
                row = dataclasses.replace(row, state="abandoned")
                transaction.put_lease(row)
                return row
            row = dataclasses.replace(
                row, state="revoking", due=now + CLAIM_SECONDS, attempts=row.attempts + 1
            )
            transaction.put_lease(row)
            return row

        row = await self._engine.transact(claim)
        if row is None:
            return False
        if row.state == "abandoned":
            return True
        refusal = await self._undo(row, self._mounts())
        left = None if force else refusal
        await self._engine.transact(lambda each: self._settle(each, [row], [left]))
        if left is not None:
            raise left
        return True

    async def revoke(self, claimed: Sequence[LeaseRow]) -> None:
        """Undo the leases that `claim` gave, as many as the claim has time for, and settle them."""
        if not claimed:
            return
        mounts, gate = self._mounts(), asyncio.Semaphore(AT_ONCE)
        last = self._clock.monotonic() + BEGIN_SECONDS

        async def undo(row: LeaseRow) -> Refusal | None:
            async with gate:
                if self._clock.monotonic() >= last:
                    return _LEFT
                return await self._undo(row, mounts)

        outcomes = await asyncio.gather(*(self._engine.waiting(undo(row)) for row in claimed))
        await self._engine.transact(lambda each: self._settle(each, claimed, outcomes))

    def _settle(
        self,
        transaction: Transaction,
        claimed: Sequence[LeaseRow],
        outcomes: Sequence[Refusal | None],
    ) -> None:
        now = self._clock.now()
        for row, refusal in zip(claimed, outcomes, strict=True):
            if refusal is None:
                transaction.delete_lease(row.id)
            elif transaction.lease(row.id) is None:
                continue
            else:
                transaction.put_lease(_again(row, refusal, now))

    async def _undo(self, row: LeaseRow, mounts: Mapping[str, MountRow]) -> Refusal | None:
        try:
            mount, backend = self._backend_of(row, mounts)
            async with asyncio.timeout(REVOKE_SECONDS):
                await backend.revoke_lease(mount, row)
        except Refusal as refusal:
            return refusal
        except TimeoutError:
            return Unavailable("revoke-timeout", "the revocation took too long")
        except Exception as error:  # noqa: BLE001 - one engine's bug must not stop the others
            _log.error("revoking a lease of %s: %s", row.mount, type(error).__name__)
            return Unavailable("revoke-failed", f"internal error: {type(error).__name__}")
        return None

    def _mounts(self) -> Mapping[str, MountRow]:
        return {each.uuid: each for each in self._engine.view.mounts()}

    def _backend_of(
        self, row: LeaseRow, mounts: Mapping[str, MountRow]
    ) -> tuple[MountRow, Leasing]:
        mount = mounts.get(row.mount)
        if mount is None:
            raise Unavailable("no-mount", "the mount of the lease is gone")
        backend = self._backends.get(backend_name(mount))
        if backend is None:
            raise unknown_type(mount)
        if isinstance(backend, Leasing):
            return mount, backend
        raise Unavailable("no-leasing", f"{full_path(mount)} does not revoke leases")

    async def revoke_mount(self, mount: MountRow) -> None:
        """Undo every lease of a mount now, so that it can go; raises Refusal when one cannot be."""
        prefix, after = full_path(mount), ""
        while ids := self._engine.view.lease_ids(prefix, after=after, limit=BATCH):
            for lease_id in ids:
                await self.revoke_now(lease_id)
            after = ids[-1]
        left = map(self._engine.view.lease, self._engine.view.lease_ids(prefix, limit=BATCH))
        if any(row is not None and row.state in MAKING for row in left):
            raise Unavailable(
                "leases-being-made",
                f"a lease of {prefix} is still being made; it is undone when it is made, or within"
                f" {PENDING_SECONDS:g} s",
                hint="try again then",
            )


def _again(row: LeaseRow, refusal: Refusal, now: float) -> LeaseRow:
    """A lease that was not undone: what nobody has begun is due at once and has not failed."""
    if refusal.code in NOT_BEGUN:
        return dataclasses.replace(row, due=now, attempts=row.attempts - 1)
    return failed(row, refusal.message, now)
