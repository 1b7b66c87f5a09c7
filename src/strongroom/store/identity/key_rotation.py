"""The chore that rotates named keys by their period, whether or not they sign meanwhile.

Whoever keeps the published keys thus sees a new pair once in each period. A key that signs
between two looks at it rotates in that request.
"""

import asyncio
import uuid
from typing import Final

from strongroom.store.engine.contract import Transaction, View
from strongroom.store.identity.named_keys import is_due, new_pair, rotated_when_due
from strongroom.store.upkeep import Step, nothing

KEY_KIND: Final = "oidc-key"
KEY_SECONDS: Final = 60.0


async def rotation_of_next(view: View, now: float) -> Step:
    """A step that rotates one key whose time has come; it says whether more wait."""
    due = _due(view, now)
    if not due:
        return nothing
    mount, name, algorithm = due[0]
    following = await asyncio.to_thread(new_pair, algorithm, uuid.uuid4)

    def rotate(transaction: Transaction, now: float) -> bool:
        key = transaction.document(mount, KEY_KIND, name)
        # Another process may have rotated, rewritten or removed it since.
        if key is not None and key["algorithm"] == algorithm and is_due(key, now):
            transaction.put_document(mount, KEY_KIND, name, rotated_when_due(key, following, now))
        return len(due) > 1

    return rotate


def _due(view: View, now: float) -> list[tuple[str, str, str]]:
    """Mount, name and algorithm of the keys whose time has come."""
    found = []
    for mount in (row.uuid for row in view.mounts() if row.type == "identity"):
        for name in view.document_names(mount, KEY_KIND):
            key = view.document(mount, KEY_KIND, name)
            if key is not None and is_due(key, now):
                found.append((mount, name, key["algorithm"]))
    return found
