"""One leader among several replicas, by a Lease (coordination.k8s.io/v1).

A holder is believed for as long as its Lease keeps changing, measured on this process's own
monotonic clock: the clocks of two machines are never compared. A leader that cannot renew stops
its work before anybody else may begin.
API: https://kubernetes.io/docs/concepts/architecture/leases/.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, TypeVar

from strongroom.kube.api import KubeApi
from strongroom.kube.resource import LEASES, Object
from strongroom.model.clock import Clock, rfc3339
from strongroom.model.errors import Conflict, NotFound, Refusal

_log = logging.getLogger(__name__)
Work = Callable[[], Awaitable[None]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Terms:
    """Seconds: how long a Lease holds, until when it must be renewed, how often that is tried."""

    duration: float = 15.0
    renew_within: float = 10.0
    retry: float = 2.0


TERMS: Final = Terms()


class Turn(Enum):
    """What a look at the Lease says to do."""

    TAKE = "take"
    WAIT = "wait"


def turn(lease: Object | None, identity: str, unchanged_for: float) -> Turn:
    """Whether the Lease may be taken: it is nobody's, ours, or has not changed for its time."""
    spec = (lease or {}).get("spec") or {}
    holder = spec.get("holderIdentity") or ""
    if holder in ("", identity):
        return Turn.TAKE
    return Turn.TAKE if unchanged_for >= float(spec.get("leaseDurationSeconds") or 0) else Turn.WAIT


class Election:
    """One replica's part in it."""

    def __init__(
        self,
        api: KubeApi,
        clock: Clock,
        place: tuple[str, str],
        identity: str,
        terms: Terms = TERMS,
    ) -> None:
        self._api = api
        self._clock = clock
        self._namespace, self._name = place
        self._identity = identity
        self._terms = terms
        self._seen = ""
        self._seen_at = clock.monotonic()
        # The Lease as this replica wrote it last, until somebody else is seen to have.
        self._ours: Object | None = None
        # Before the write that took or renewed the Lease last, for that is what others count from.
        self._renewed = float("-inf")
        self.leading = False
        # The refusal that was logged last, until the Lease could be read or written.
        self._said = ""

    async def lead(self, work: Work) -> None:
        """Run the work whenever this replica leads, until cancelled; give the Lease back then."""
        try:
            while True:
                # An answer that took long to come may be about a Lease that has run out since.
                if await self._try() is not None and self._left() > 0:
                    await self._as_leader(work)
                await self._clock.sleep(self._terms.retry)
        finally:
            if self.leading:
                self.leading = False
                await self._within(self._terms.retry, self._give_back())

    async def _as_leader(self, work: Work) -> None:
        _log.info("leading as %s", self._identity)
        self.leading = True
        working = asyncio.ensure_future(work())
        keeping = asyncio.ensure_future(self._keep())
        try:
            await asyncio.wait((working, keeping), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                # A leader whose work has failed must not sit on the Lease.
                working.result()
        finally:
            lost = keeping.done()
            for each in (working, keeping):
                each.cancel()
            await asyncio.gather(working, keeping, return_exceptions=True)
            if lost:
                self.leading = False
                _log.warning("no longer leading as %s", self._identity)

    def _left(self) -> float:
        """Seconds in which the Lease must be renewed."""
        return self._renewed + self._terms.renew_within - self._clock.monotonic()

    async def _keep(self) -> None:
        """Renew; return when the Lease is another's or could not be renewed in time.

        Between two tries is their pause from start to start: a slow server has no time to lose.
        """
        began = self._renewed
        while (left := self._left()) > 0:
            pause = began + self._terms.retry - self._clock.monotonic()
            await self._clock.sleep(max(0.0, min(pause, left)))
            began = self._clock.monotonic()
            if await self._within(self._left(), self._try()) is False:
                return

    async def _within(self, seconds: float, asking: Awaitable[T]) -> T | None:
        """What it gives, or None when that does not come in time: a server may be silent."""
        work = asyncio.ensure_future(asking)
        patience = asyncio.ensure_future(self._clock.sleep(seconds))
        try:
            await asyncio.wait((work, patience), return_when=asyncio.FIRST_COMPLETED)
            return work.result() if work.done() else None
        finally:
            for each in (work, patience):
                each.cancel()
            await asyncio.gather(work, patience, return_exceptions=True)

    async def _try(self) -> bool | None:
        """Take or renew: True when done, False when it is another's, None when nobody knows."""
        if self.leading and self._ours is not None:
            # One request where nobody else has written it, which that shows.
            held, self._ours = self._ours, None
            if await self._hold(held):
                return True
        try:
            lease: Object | None = await self._api.get(LEASES, self._name, self._namespace)
        except NotFound:
            lease = None
        except Refusal as refusal:
            self._warn(refusal)
            return None
        self._said = ""
        version = lease["metadata"]["resourceVersion"] if lease else ""
        now = self._clock.monotonic()
        if version != self._seen:
            self._seen, self._seen_at = version, now
        if turn(lease, self._identity, now - self._seen_at) is Turn.WAIT:
            return False if self.leading else None
        return True if await self._hold(lease) else None

    async def _hold(self, lease: Object | None) -> bool:
        """Write this replica's name into the Lease as it was seen; whether that was taken."""
        now = self._clock.monotonic()
        try:
            written = await self._write(lease, self._identity, self._terms.duration)
        except (Conflict, NotFound):
            return False
        except Refusal as refusal:
            self._warn(refusal)
            return False
        self._ours, self._said = written, ""
        self._seen, self._seen_at = written["metadata"]["resourceVersion"], now
        self._renewed = now
        return True

    def _warn(self, refusal: Refusal) -> None:
        """A server that is away is tried every two seconds: that is said once."""
        level = logging.DEBUG if refusal.code == self._said else logging.WARNING
        self._said = refusal.code
        _log.log(level, "lease: %s", refusal.code)

    async def _write(self, lease: Object | None, holder: str, duration: float) -> Object:
        before: dict[str, Any] = (lease or {}).get("spec") or {}
        now = rfc3339(self._clock.now())
        ours = before.get("holderIdentity") == holder
        spec = {
            "holderIdentity": holder,
            "leaseDurationSeconds": int(duration),
            "acquireTime": before.get("acquireTime", now) if ours else now,
            "renewTime": now,
            "leaseTransitions": int(before.get("leaseTransitions") or 0) + (0 if ours else 1),
        }
        if lease is None:
            metadata = {"name": self._name, "namespace": self._namespace}
            return await self._api.create(LEASES, {"metadata": metadata, "spec": spec})
        return await self._api.replace(LEASES, {**lease, "spec": spec})

    async def _give_back(self) -> None:
        """Another replica need not wait for the Lease to run out."""
        try:
            lease = await self._api.get(LEASES, self._name, self._namespace)
            if (lease.get("spec") or {}).get("holderIdentity") == self._identity:
                await self._write(lease, "", 1.0)
        except Refusal as refusal:
            _log.warning("lease: %s", refusal.code)
