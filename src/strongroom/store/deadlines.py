"""How long tasks may take: one timer for all of them, since each has the same time."""

import asyncio
from typing import Final

Task = asyncio.Task[object]


class Deadlines:
    """Cancels a task that is not done in time; `asyncio.timeout` sets a timer for each instead.

    Tasks end in the order they began, so that the timer looks no further than the oldest.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds: Final = seconds
        self._ends: dict[Task, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> Task:
        """The current task has its time from now on; it must say `end` whatever happens."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a deadline outside a task")
        loop = task.get_loop()
        end = self._ends[task] = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_at(end, self._look)
        return task

    def end(self, task: Task) -> bool:
        """Whether the task was cancelled because its time was up, and for nothing else."""
        if self._ends.pop(task, None) is not None:
            return False
        return task.uncancel() == 0

    def _look(self) -> None:
        self._timer = None
        for task, end in [*self._ends.items()]:
            loop = task.get_loop()
            if end > loop.time():
                self._timer = loop.call_at(end, self._look)
                return
            del self._ends[task]
            task.cancel()
