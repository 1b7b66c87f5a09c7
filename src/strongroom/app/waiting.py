"""Waiting for a condition with a deadline."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from strongroom.model.clock import Clock
from strongroom.model.errors import Refusal, Unavailable

T = TypeVar("T")


class Hopeless(Unavailable):
    """Waiting longer cannot help, such as for a process that has ended."""


async def until(
    what: str, attempt: Callable[[], Awaitable[T | None]], clock: Clock, *, seconds: float = 90.0
) -> T:
    """Return the first result of `attempt` that is not None.

    A Refusal inside an attempt means "not yet". Raises Unavailable(`timed-out`) naming `what`
    and the last refusal once the deadline has passed.
    """
    deadline = clock.monotonic() + seconds
    last: Refusal | None = None
    pause = 0.01
    while clock.monotonic() < deadline:
        try:
            result = await attempt()
        except Hopeless:
            raise
        except Refusal as refusal:
            result, last = None, refusal
        except (TimeoutError, OSError):
            result = None
        if result is not None:
            return result
        await clock.sleep(pause)
        pause = min(pause * 1.5, 0.2)
    reason = f": {last.message}" if last else ""
    raise Unavailable("timed-out", f"gave up waiting for {what} after {seconds:g} s{reason}")
