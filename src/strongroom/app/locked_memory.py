"""Keeps this process's memory out of swap and core dumps (mlockall(2), prctl(2)).

Pages are locked as they are first used: locking all that is mapped would make every library and
every thread's whole stack resident, three times what the plugin needs.
"""

import ctypes
from typing import Final

MCL_CURRENT: Final = 1
MCL_FUTURE: Final = 2
MCL_ONFAULT: Final = 4
PR_SET_DUMPABLE: Final = 4


def lock_memory() -> bool:
    """Lock what is used, now and later; False when the limit of the process does not allow it."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_DUMPABLE, 0)
    return bool(libc.mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) == 0)
