"""Child processes of a session: started with a log file, gone with their parent, ended in order.

Called by the dev session; knows nothing of what it starts.
"""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from strongroom.app.waiting import Hopeless

PR_SET_PDEATHSIG: Final = 1  # prctl(2): the signal a child gets when its parent dies
STOP_SECONDS: Final = 10.0
# util-linux's, so that nothing runs between fork and exec: that is unsafe beside threads, and gRPC,
# where it is loaded, then warns about handlers of its own.
TIED_TO_PARENT: Final = ("setpriv", "--pdeathsig", "TERM")
LOG_TAIL_LINES: Final = 12


def die_with_parent(number: int = signal.SIGTERM) -> None:
    """Have the kernel end this process when its parent dies; called between fork and exec."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


class Processes:
    """The processes of one session, newest stopped first."""

    def __init__(self, log_folder: Path) -> None:
        log_folder.mkdir(parents=True, exist_ok=True)
        self._logs = log_folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for name in reversed(list(self._running)):
            self.stop(name)

    def strongroom(self, name: str, *arguments: str) -> None:
        """Start `strongroom ARGUMENTS` under this interpreter."""
        self.start(name, [sys.executable, "-m", "strongroom", *arguments])

    def start(
        self, name: str, command: Sequence[str], env: Mapping[str, str] | None = None
    ) -> None:
        """Start a program whose output goes to `NAME.log`."""
        with self.log(name).open("ab") as log:
            self._running[name] = subprocess.Popen(
                [*TIED_TO_PARENT, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )

    def stop(self, name: str) -> None:
        """Ask it to end, insist after ten seconds, and wait until it is gone."""
        process = self._running.pop(name)
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self, name: str) -> None:
        """End it without asking, and wait until it is gone."""
        process = self._running.pop(name)
        process.kill()
        process.wait()

    def runs(self, name: str) -> bool:
        """Whether it was started and not stopped since."""
        return name in self._running

    def signal(self, name: str, number: int) -> None:
        """Send a signal, such as SIGHUP."""
        self._running[name].send_signal(number)

    def check(self, name: str) -> None:
        """Raise Hopeless with the end of its log when the process has ended by itself."""
        status = self._running[name].poll()
        if status is not None:
            tail = self.log(name).read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
            raise Hopeless(
                "process-ended", f"{name} ended with status {status}: " + " | ".join(tail)
            )

    def log(self, name: str) -> Path:
        """The file that holds what the process printed."""
        return self._logs / f"{name}.log"
