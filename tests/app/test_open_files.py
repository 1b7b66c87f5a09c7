"""What a process may have open is raised, and some of it is kept for other things than peers."""

import subprocess
import sys

import pytest

from strongroom.app.open_files import KEPT_FREE, connections_for
from strongroom.wire.limits import Limits
from strongroom.wire.listener import HANDSHAKES

PROGRAM = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, int(sys.argv[1])))
from strongroom.app.open_files import allow_open_files
print(allow_open_files(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize("hard", [64, 300])
def test_a_process_takes_what_it_may_have(hard: int) -> None:
    """A service manager starts programs with 1,024 and lets them have more."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(hard)], capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == [str(hard)] * 3


@pytest.mark.parametrize(
    ("files", "listeners", "connections"),
    [(65_536, 2, Limits().connections), (1024, 1, 704), (1024, 4, 128), (64, 1, 16), (2, 4, 1)],
)
def test_peers_leave_files_for_the_database(files: int, listeners: int, connections: int) -> None:
    assert connections_for(files, listeners) == connections
    if files >= 2 * KEPT_FREE:
        # Over TLS so many more may be in a handshake where all places are taken.
        taken = listeners * (connections + min(HANDSHAKES, connections))
        assert files - taken >= KEPT_FREE
