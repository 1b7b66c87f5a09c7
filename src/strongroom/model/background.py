"""Work that runs beside everything else until it is cancelled, whatever it meets.

A task that raises ends without a word, and what it was for is not done any more. Here it is told
to whoever wants to know, and begun again after a pause that grows.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from strongroom.model.clock import Clock

FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 60.0
# Work that ran so long has begun well: its next failure is a new one.
STEADY_SECONDS: Final = 60.0


async def keep_running(
    work: Callable[[], Awaitable[None]], clock: Clock, failed: Callable[[Exception, float], None]
) -> None:
    """Run `work` until it returns by itself; `failed` gets each error and the pause after it.

    The pauses in seconds are 1, 2, 4 and so on up to 60.
    """
    pause = FIRST_PAUSE_SECONDS
    while True:
        began = clock.monotonic()
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told and tried again
            if clock.monotonic() - began >= STEADY_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            failed(error, pause)
        else:
            return
        await clock.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
