"""Processes that serve one port, forked from one that has loaded everything already.

Loading takes most of a start, and what was loaded is shared memory. So the fork comes after the
imports and before anything else: no thread, event loop, database or key is inherited.
"""

import contextlib
import gc
import os
import signal
import sys
from collections.abc import Callable, Sequence

from strongroom.app.dev.processes import die_with_parent

ENDING = (signal.SIGTERM, signal.SIGINT)


def run_workers(count: int, prepare: Callable[[], None], serve: Callable[[int], int]) -> int:
    """Fork `count` workers; each calls `serve` with its number once `prepare` has returned here.

    Returns in the worker what `serve` returned, so that it ends as a process of its own does. In
    the first process: 0 after SIGTERM or SIGINT, 1 when a worker ended by itself, which ends all.
    What `prepare` raises is raised when all workers are gone. SIGHUP is passed on;
    until then it stays as the caller set it.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    gc.freeze()  # a look for garbage writes to what it looks at, and would copy every page
    parent = os.getpid()
    reading, writing = os.pipe()
    workers: list[int] = []
    for number in range(count):
        child = os.fork()
        if not child:
            os.close(writing)
            _wait_as_worker(parent, reading)
            return serve(number)
        workers.append(child)
    os.close(reading)
    try:
        with os.fdopen(writing, "wb", buffering=0) as start:
            prepare()
            stopping = _handle_signals(workers)
            with contextlib.suppress(BrokenPipeError):  # all have ended: seen below
                start.write(bytes(count))
            # Left as it is until all are told: its id must not be another process's by then.
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        _tell(workers, signal.SIGTERM)
    finally:
        # Those that wait end with the pipe.
        for each in workers:
            os.waitpid(each, 0)
    return 0 if stopping else 1


def _wait_as_worker(parent: int, reading: int) -> None:
    """Return when the parent is prepared; end with it."""
    # Killed with its parent at once: who restarts the server must not meet the old one.
    die_with_parent(signal.SIGKILL)
    # Ctrl-C is for the whole group; the parent says what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with os.fdopen(reading, "rb", buffering=0) as source:
        told = source.read(1)
    if not told or os.getppid() != parent:
        os._exit(1)


def _handle_signals(workers: Sequence[int]) -> list[int]:
    """Pass on what this process is told; the list has what told it to end."""
    stopping: list[int] = []

    def stop(number: int, _frame: object) -> None:
        stopping.append(number)
        _tell(workers, signal.SIGTERM)

    for number in ENDING:
        signal.signal(number, stop)
    signal.signal(signal.SIGHUP, lambda number, _frame: _tell(workers, number))
    return stopping


def _tell(workers: Sequence[int], number: int) -> None:
    for each in workers:
        # One that was waited for is gone.
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, number)
