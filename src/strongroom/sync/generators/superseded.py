"""Which GeneratorStates a target shows to be replaced, where the end of a process lost a deadline.

Pure. Both times are the API server's, so clocks of operators do not matter.
"""

from collections.abc import Iterable
from typing import Final

from strongroom.kube.resource import Object
from strongroom.model.clock import parse_rfc3339
from strongroom.sync.generators.states import DEADLINE

# The API server tells whole seconds: what was made closer together is not told apart.
APART_SECONDS: Final = 2


def superseded(states: Iterable[Object], written: float) -> list[Object]:
    """Of the states of one place those without an end that the newest has replaced.

    `written` is when the owner's target was written last, in epoch seconds; infinity for an owner
    that fills none. Where that was before the newest was made, the target may hold an older one, so
    nothing is known.
    """
    lasting = [
        each
        for each in states
        if not each["spec"].get(DEADLINE) and not each["metadata"].get("deletionTimestamp")
    ]
    if len(lasting) < 2:
        return []
    *before, newest = sorted(lasting, key=_made_at)
    if _made_at(newest) > written or _made_at(newest) - _made_at(before[-1]) < APART_SECONDS:
        return []
    return before


def _made_at(state: Object) -> int:
    return int(parse_rfc3339(state["metadata"]["creationTimestamp"]))
