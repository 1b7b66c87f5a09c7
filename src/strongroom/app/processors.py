"""How many workers a server has, and where they run.

A worker does one thing at a time, in whichever of its threads, and these wake each other faster on
one processor than across two: in a virtual machine a wake across costs an exit to the host. So
where there is a worker for each processor, each stays on its own. Where there are fewer, the system
places them: several servers of one machine would all take the first processors.
"""

import contextlib
import os
from collections.abc import Collection
from typing import Final

MOST_WORKERS: Final = 4

Processors = frozenset[int]


def usable() -> Processors:
    """The processors that this process may use."""
    return frozenset(os.sched_getaffinity(0))


def default_workers() -> int:
    """One for each processor, up to a number that keeps a database's connections few."""
    return min(len(usable()), MOST_WORKERS)


def place(number: int, count: int) -> None:
    """Keep this process on its processor; does nothing where the system does not let it."""
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, processors_of(number, count, usable()))


def processors_of(number: int, count: int, allowed: Collection[int]) -> Processors:
    """Those of `allowed` that the worker `number` of `count` is to use. Pure."""
    if count != len(allowed):
        return frozenset(allowed)
    return frozenset([sorted(allowed)[number]])
