"""Leases: how long they hold, how they are renewed, and when a failed revocation is tried again.

Pure. Rules: https://developer.hashicorp.com/vault/docs/concepts/lease.
"""

import asyncio
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, Final

from strongroom.model.clock import rfc3339
from strongroom.model.errors import Invalid
from strongroom.store.engine.contract import LeaseRow
from strongroom.store.tokens import Bounds

# A thing that is being made has this long until it is taken to be half made, and undone.
PENDING_SECONDS: Final = 300.0
# A process that revokes has this long until another may try as well.
CLAIM_SECONDS: Final = 120.0
ATTEMPTS: Final = 6
FIRST_PAUSE: Final = 10.0
ERROR_CHARACTERS: Final = 200
PAGE: Final = 500


def lease_terms(asked: int, most: int, bounds: Bounds) -> tuple[int, int]:
    """Seconds a new lease holds, and at most with renewals; 0 stands for not asked."""
    maximum = min(most or bounds.max_ttl, bounds.max_ttl)
    return min(asked or bounds.default_ttl, maximum), maximum


def confirmed(row: LeaseRow) -> LeaseRow:
    """The thing is made: from here on it lives until it expires."""
    return dataclasses.replace(row, state="live", due=row.expires)


def renewed(row: LeaseRow, increment: int, now: float) -> LeaseRow:
    """The lease with `increment` seconds from now, or as long as at first, within its maximum.

    Raises Invalid for one that is not renewable, or not alive.
    """
    if row.state != "live" or row.expires <= now:
        raise Invalid("no-lease", "lease not found")
    if not row.renewable:
        raise Invalid("not-renewable", "lease is not renewable")
    end = row.issued + row.max_ttl
    expires = max(now, min(now + (increment or row.ttl), end))
    return dataclasses.replace(row, expires=expires, due=expires, renewed=now)


def failed(row: LeaseRow, error: str, now: float) -> LeaseRow:
    """After a revocation that did not work: later again, and at last by a person alone."""
    error = error[:ERROR_CHARACTERS]
    if row.attempts >= ATTEMPTS:
        return dataclasses.replace(row, state="irrevocable", due=None, error=error)
    pause = FIRST_PAUSE * 2 ** (row.attempts - 1)
    return dataclasses.replace(row, state="revoking", due=now + pause, error=error)


def remaining(row: LeaseRow, now: float) -> int:
    """Whole seconds left."""
    return max(0, math.ceil(row.expires - now))


def describe(row: LeaseRow, now: float) -> dict[str, Any]:
    """What a lookup says."""
    return {
        "id": row.id,
        "issue_time": rfc3339(row.issued),
        "expire_time": rfc3339(row.expires),
        "last_renewal": None if row.renewed is None else rfc3339(row.renewed),
        "renewable": row.renewable and row.state == "live",
        "ttl": remaining(row, now),
    }


async def children(prefix: str, ids: Callable[[str], Sequence[str]]) -> list[str]:
    """The next segments of ids that begin with a prefix, sorted; one that goes on ends in a slash.

    `ids` gives a page of sorted ids after a text. A subfolder costs one page, however full it is.
    Others are served between the pages.
    """
    found: list[str] = []
    after = prefix
    while page := ids(after):
        await asyncio.sleep(0)
        for each in page:
            head, slash, _ = each[len(prefix) :].partition("/")
            found.append(head + slash)
            after = each
            if slash:
                # Nothing of the subfolder comes after this.
                after = f"{prefix}{head}/\U0010ffff/h"
                break
    return found
