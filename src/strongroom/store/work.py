"""One request on its way through the pipeline."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from strongroom.store.call import Call
from strongroom.store.routing import Route
from strongroom.wire.listener import Exchange


@dataclass(slots=True, eq=False)
class Work:
    """What is known of it from its record on."""

    exchange: Exchange
    call: Call
    route: Route
    request: bytes
    auth: bytes
    target: str
    # What follows its record; what of that is left to be awaited.
    then: "Callable[[Work], Coroutine[Any, Any, None] | None]"
    revision: int = -1


Then = Callable[[Work], Coroutine[Any, Any, None] | None]
