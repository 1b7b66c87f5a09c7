"""How many files this process may have open, and so how many peers may be connected."""

import contextlib
import resource
from typing import Final

from strongroom.wire.limits import Limits
from strongroom.wire.listener import HANDSHAKES

MOST_FILES: Final = 65_536
# For the database, audit devices and requests to others.
KEPT_FREE: Final = 256


def allow_open_files() -> int:
    """Raise the limit that a process starts with, often 1,024, as far as it may; the limit then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MOST_FILES
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if wanted > soft:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def connections_for(files: int, listeners: int) -> int:
    """How many connections each of so many listeners takes in a process with so many files."""
    share = (files - min(KEPT_FREE, files // 2)) // max(1, listeners)
    # Where all of them are taken, peers in a handshake have files as well.
    return max(1, min(Limits().connections, max(share - HANDSHAKES, share // 2)))
