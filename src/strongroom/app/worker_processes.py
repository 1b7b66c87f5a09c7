"""Processes that serve one port, forked from one that has loaded everything already.

Loading takes most of a start, and what was loaded is shared memory. So the fork comes after the
imports and before anything else: no thread, event loop, database or key is inherited. The first
process stays as it was before the fork, preparation is done by a child as well: so a worker that
crashed can be forked anew at any time.
"""

import contextlib
import gc
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from strongroom.app.dev.processes import die_with_parent

TOLD: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
BLOCKED: Final = (*TOLD, signal.SIGCHLD)
FIRST_PAUSE_SECONDS: Final = 1.0
# A worker that ran so long has begun well: its next crash is a new one.
STEADY_SECONDS: Final = 60.0
# In a row; then something is wrong that another start does not mend, and all ends.
MOST_RESTARTS: Final = 5
LONG_SECONDS: Final = 3600.0


@dataclass(slots=True)
class _Worker:
    """One number's process: since when, how often it crashed in a row, and when it comes again."""

    began: float = 0.0
    crashes: int = 0
    due: float | None = None


def run_workers(
    count: int,
    prepare: Callable[[], None],
    serve: Callable[[int], int],
    say: Callable[[str], None] = lambda _: None,
    first_pause: float = FIRST_PAUSE_SECONDS,
    steady: float = STEADY_SECONDS,
) -> int:
    """Fork `count` workers; each calls `serve` with its number once `prepare` has returned.

    `prepare` runs in a child of its own, and what it raises is raised there: this process then
    ends with its status when all are gone. Returns in a child what it is to end with. In the first
    process: 0 after SIGTERM or SIGINT; 1 when workers crashed again and again, of which `say` is
    told each time; pauses grow from `first_pause` seconds,
    and are as at first for one that ran `steady` seconds. SIGHUP is passed on; until then it
    stays as the caller set it. Children that were not started here are reaped, and that is all.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    gc.freeze()  # a look for garbage writes to what it looks at, and would copy every page
    family = _Family(count, say, first_pause, steady)
    signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
    reading, writing = os.pipe()
    for number in range(count):
        if not family.fork(number):
            os.close(writing)
            _wait_to_begin(reading)
            return serve(number)
    os.close(reading)
    preparing = family.fork(None)
    if not preparing:
        os.close(writing)
        prepare()
        return 0
    family.listen()
    with os.fdopen(writing, "wb", buffering=0) as start:
        failed = family.wait_for(preparing)
        if family.stopping:
            failed = 0
        elif not failed:
            with contextlib.suppress(BrokenPipeError):  # all have ended: seen below
                start.write(bytes(count))
    # Those that wait end with the pipe.
    if failed:
        family.stop()
    while (again := family.next_to_start()) is not None:
        if not family.fork(again):
            return serve(again)
    return failed or family.status


def _wait_to_begin(reading: int) -> None:
    """Return when all is prepared; end with the first process."""
    with os.fdopen(reading, "rb", buffering=0) as source:
        if not source.read(1):
            os._exit(1)


class _Family:
    """The children of this process by their ids."""

    def __init__(
        self, count: int, say: Callable[[str], None], first_pause: float, steady: float
    ) -> None:
        self._say = say
        self._first_pause = first_pause
        self._steady = steady
        self._parent = os.getpid()
        self._handlers = {each: signal.getsignal(each) for each in TOLD}
        self._ids: dict[int, int | None] = {}
        self._workers = [_Worker() for _ in range(count)]
        self.stopping = False
        self.status = 0

    def fork(self, number: int | None) -> int:
        """The id of a new child, or 0 in it; `number` is None for one that only prepares."""
        child = os.fork()
        if child:
            self._ids[child] = number
            if number is not None:
                worker = self._workers[number]
                worker.began, worker.due = time.monotonic(), None
            return child
        # Killed with its parent at once: who restarts the server must not meet the old one.
        die_with_parent(signal.SIGKILL)
        for each, handler in self._handlers.items():
            signal.signal(each, handler)
        # Ctrl-C is for the whole group; the parent says what it means.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, BLOCKED)
        if os.getppid() != self._parent:
            os._exit(1)
        return 0

    def listen(self) -> None:
        """What is ignored is never waited for; blocked, these come while this process waits."""
        for each in TOLD:
            signal.signal(each, signal.SIG_DFL)

    def stop(self) -> None:
        """Nobody is to be started any more, and all are to end."""
        self.stopping = True
        self._tell(signal.SIGTERM)

    def wait_for(self, child: int) -> int:
        """The status of a child that only prepares: 0 when it has done so."""
        while child in self._ids:
            self._wait(LONG_SECONDS)
            for ended, status in self._ended():
                if ended == child:
                    return status
        return 1

    def next_to_start(self) -> int | None:
        """Wait until a worker is to be forked, and return its number; None when all are gone."""
        while self._ids or not self.stopping:
            now = time.monotonic()
            dues = {
                number: worker.due
                for number, worker in enumerate(self._workers)
                if worker.due is not None and not self.stopping
            }
            for number, due in dues.items():
                if due <= now:
                    return number
            self._wait(min(dues.values(), default=now + LONG_SECONDS) - now)
            for _ in self._ended():
                pass
        return None

    def _wait(self, seconds: float) -> None:
        """Until a child ends, somebody says something, or the time is over."""
        told = signal.sigtimedwait(BLOCKED, max(0.0, seconds))
        if told is None or told.si_signo == signal.SIGCHLD:
            return
        if told.si_signo == signal.SIGHUP:
            self._tell(signal.SIGHUP)
        else:
            self.stop()

    def _tell(self, number: int) -> None:
        for each in self._ids:
            # It may have ended just now; until it is waited for its id is no other process's.
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, number)

    def _ended(self) -> list[tuple[int, int]]:
        """Ids and exit statuses of children that have ended, also of those of others."""
        found: list[tuple[int, int]] = []
        while True:
            try:
                child, ended = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if not child:
                break
            if child in self._ids:
                status = os.waitstatus_to_exitcode(ended)
                found.append((child, status if status >= 0 else 1))
                number = self._ids.pop(child)
                if number is not None and not self.stopping:
                    self._crashed(number, status)
        return found

    def _crashed(self, number: int, status: int) -> None:
        worker, now = self._workers[number], time.monotonic()
        if now - worker.began >= self._steady:
            worker.crashes = 0
        worker.crashes += 1
        how = f"status {status}" if status >= 0 else signal.Signals(-status).name
        if worker.crashes > MOST_RESTARTS:
            self._say(
                f"worker {number} ended ({how}) after it was started again {MOST_RESTARTS} times:"
                " the server ends"
            )
            self.status = 1
            self.stop()
            return
        pause = self._first_pause * 2 ** (worker.crashes - 1)
        self._say(f"worker {number} ended ({how}); it is started again in {pause:g} s")
        worker.due = now + pause
