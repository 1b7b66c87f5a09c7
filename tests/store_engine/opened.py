"""What the tests of this folder have in common: a barrier with keys, and tests that read."""

import functools
from collections.abc import Callable, Coroutine
from typing import Any

from strongroom.crypto.keyring import KeyRing
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.contract import Engine


def opened() -> Barrier:
    barrier = Barrier()
    barrier.unseal(KeyRing.new(0.0))
    return barrier


def reads(test: Callable[[Engine], Coroutine[Any, Any, None]]) -> Callable[..., Any]:
    """The test may read the view wherever it stands, as handlers of requests may."""

    @functools.wraps(test)
    async def run(engine: Engine) -> None:
        await engine.waiting(test(engine))

    return run
