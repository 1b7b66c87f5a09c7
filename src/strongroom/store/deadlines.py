"""How long calls may take: one timer for all of them, since each has the same time."""

import asyncio
from collections.abc import Callable, Hashable
from typing import Final


class Deadlines:
    """Ends what is not done in time; `asyncio.timeout` sets a timer for each instead.

    The times end in the order they began, so that the timer looks no further than the oldest.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds: Final = seconds
        self._ends: dict[Hashable, tuple[float, Callable[[], object]]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, who: Hashable, late: Callable[[], object]) -> None:
        """From now on `who` has its time; `late` is called when it has not said `end` by then."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._seconds
        self._ends[who] = end, late
        if self._timer is None:
            self._timer = loop.call_at(end, self._look)

    def end(self, who: Hashable) -> bool:
        """Whether it was late."""
        return self._ends.pop(who, None) is None

    def _look(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        for who, (end, late) in [*self._ends.items()]:
            if end > loop.time():
                self._timer = loop.call_at(end, self._look)
                return
            del self._ends[who]
            late()
