"""The server's log: lines on standard error that never make a request wait.

A reader that does not read costs lines, not time: they are written by a thread from a bounded
queue, and what does not fit is dropped and counted.
"""

import json
import logging
import logging.handlers
import queue
import sys
import time
from collections.abc import Callable
from typing import Final

from strongroom.model.errors import Invalid
from strongroom.store.system.loggers import LEVELS

WAITING: Final = 1000
FORMATS: Final = ("standard", "json")


def level_named(said: str) -> str:
    """A level of the log in lower case; raises Invalid(`bad-log-level`)."""
    if said.lower() not in LEVELS:
        raise Invalid("bad-log-level", f"{said} is no level of a log", hint=", ".join(LEVELS))
    return said.lower()


def format_named(said: str) -> str:
    """A form of the log's lines; raises Invalid(`bad-log-format`)."""
    if said.lower() not in FORMATS:
        raise Invalid("bad-log-format", f"{said} is no form of a log", hint=" or ".join(FORMATS))
    return said.lower()


class Bounded(logging.handlers.QueueHandler):
    """Drops instead of waiting; the next line that fits says how many are missing."""

    dropped = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        if self.dropped:
            record.msg = f"{record.msg} ({self.dropped} lines before this one were dropped)"
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1
        else:
            self.dropped = 0


class _Json(logging.Formatter):
    def __init__(self, worker: str) -> None:
        super().__init__()
        self._more = {"worker": int(worker)} if worker else {}

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        return json.dumps(
            {
                "@timestamp": f"{stamp}.{int(record.msecs):03d}Z",
                "@level": record.levelname.lower(),
                "@module": record.name,
                "@message": record.getMessage(),
                **self._more,
            }
        )


def _formatter(form: str, worker: str = "") -> logging.Formatter:
    if form == "json":
        return _Json(worker)
    who = f"worker {worker} " if worker else ""
    return logging.Formatter(f"%(asctime)s [%(levelname)s] {who}%(name)s: %(message)s")


def start_log(level: str, form: str = "standard", worker: str = "") -> None:
    """Send this process's log to standard error from now on; a worker's lines carry its number."""
    out = logging.StreamHandler(sys.stderr)
    out.setFormatter(_formatter(form, worker))
    waiting: queue.Queue[logging.LogRecord] = queue.Queue(WAITING)
    listener = logging.handlers.QueueListener(waiting, out)
    # The thread is a daemon: a reader that is gone does not keep the process.
    listener.start()
    handing = Bounded(waiting)
    handing.setFormatter(logging.Formatter("%(message)s"))  # the line is made by the thread
    logging.basicConfig(level=LEVELS[level], handlers=[handing], force=True)


def line_writer(level: str, form: str = "standard") -> Callable[[str], None]:
    """Writes an error's line at once, for a process that must have no thread, as it forks."""
    out = logging.StreamHandler(sys.stderr)
    out.setFormatter(_formatter(form))
    logger = logging.Logger("strongroom.workers", LEVELS[level])
    logger.addHandler(out)
    return logger.error
