"""Workers forked from one process: how they begin, what they are told, and how they all end."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from strongroom.app.dev.processes import TIED_TO_PARENT

LIMIT = 120.0  # of a wait that ends when it should
# Each worker says who it is, then what it is told.
PROGRAM = """
import os, signal, sys
from strongroom.app.worker_processes import run_workers

def say(line):
    os.write(1, f"{line}\\n".encode())  # at once, so that no other's comes between

def prepare():
    if sys.argv[1] == "slow":
        say("preparing")
        signal.pause()
    say("prepared")

def fail():
    raise OSError("not today")

def serve(number):
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        return 9  # It would end it until it has a handler of its own.
    # Waited for: a handler would not run for one that comes just before a pause.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    say(os.getpid())
    if sys.argv[1] in ("crash", "steady") and number:
        return 3
    if sys.argv[1] == "orphan" and number:
        middle = os.fork()
        if not middle:
            if os.fork():
                os._exit(0)
            say(os.getpid())
            os._exit(7)
        os.waitpid(middle, 0)
    while signal.sigwait([signal.SIGHUP]):
        say("reopened")

signal.signal(signal.SIGHUP, signal.SIG_IGN)
pause = {"crash": 0.1, "steady": 0.01}.get(sys.argv[1], 1.0)
steady = 0.0 if sys.argv[1] == "steady" else 60.0
sys.exit(run_workers(2, {"fail": fail}.get(sys.argv[1], prepare), serve, say, pause, steady))
"""
Run = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def run() -> Iterator[Run]:
    running = []

    def begin(*words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*TIED_TO_PARENT, sys.executable, *words], text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        running.append(process)
        return process

    yield begin
    for each in running:
        # Workers too: they hold the pipes that are read to their end.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(each.pid, signal.SIGKILL)
        each.communicate()


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """Their process ids, once both serve."""
    assert process.stdout is not None
    assert process.stdout.readline() == "prepared\n"
    return [int(process.stdout.readline()) for _ in range(2)]


def nobody_is_left(process: subprocess.Popen[str]) -> bool:
    """Whether the process and all that it started are gone and waited for."""
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_told_to_stop_stops_its_workers(run: Run, number: int) -> None:
    process = run("-c", PROGRAM, "prepare")
    assert len(set(workers_of(process))) == 2
    process.send_signal(number)
    assert process.wait(LIMIT) == 0
    assert nobody_is_left(process)


def test_a_worker_that_is_killed_is_started_again_and_the_other_serves_on(run: Run) -> None:
    process = run("-c", PROGRAM, "prepare")
    first, second = workers_of(process)
    os.kill(second, signal.SIGKILL)
    assert process.stdout is not None
    said = process.stdout.readline()
    assert re.fullmatch(r"worker [01] ended \(SIGKILL\); it is started again in 1 s\n", said)
    third = int(process.stdout.readline())
    assert third not in (first, second)
    # The new one is told what the others are told, and ends with them.
    process.send_signal(signal.SIGHUP)
    assert [process.stdout.readline() for _ in range(2)] == ["reopened\n"] * 2
    process.send_signal(signal.SIGTERM)
    assert process.wait(LIMIT) == 0
    assert nobody_is_left(process)


@pytest.mark.long
def test_a_worker_that_crashes_again_and_again_ends_all_and_the_exit_status_says_so(
    run: Run,
) -> None:
    began = time.monotonic()
    process = run("-c", PROGRAM, "crash")
    out, _ = process.communicate(timeout=LIMIT)
    took = time.monotonic() - began
    said = [line for line in out.splitlines() if line.startswith("worker")]
    pauses = [0.1, 0.2, 0.4, 0.8, 1.6]
    assert said == [
        *(f"worker 1 ended (status 3); it is started again in {each:g} s" for each in pauses),
        "worker 1 ended (status 3) after it was started again 5 times: the server ends",
    ]
    assert took >= sum(pauses)
    assert process.returncode == 1
    assert nobody_is_left(process)


@pytest.mark.long
def test_a_worker_that_ran_steadily_before_it_crashed_is_started_again_as_at_first(
    run: Run,
) -> None:
    process = run("-c", PROGRAM, "steady")
    assert process.stdout is not None
    said: list[str] = []
    while len(said) < 7:
        line = process.stdout.readline()
        assert line, "it ended"
        if line.startswith("worker"):
            said.append(line)
    assert set(said) == {"worker 1 ended (status 3); it is started again in 0.01 s\n"}
    process.send_signal(signal.SIGTERM)
    assert process.wait(LIMIT) == 0


def test_a_child_that_was_not_started_here_ends_without_effect(run: Run) -> None:
    """As the first process of a container it is given whatever loses its parent there."""
    process = run("-c", "import ctypes; ctypes.CDLL(None).prctl(36, 1)\n" + PROGRAM, "orphan")
    first, second = workers_of(process)
    assert process.stdout is not None
    orphan = int(process.stdout.readline())

    def gone() -> bool:
        return not Path(f"/proc/{orphan}").exists()

    end = time.monotonic() + LIMIT
    while not gone() and time.monotonic() < end:
        time.sleep(0.01)
    assert gone(), "it was not reaped"
    process.send_signal(signal.SIGHUP)
    assert [process.stdout.readline() for _ in range(2)] == ["reopened\n"] * 2
    assert Path(f"/proc/{first}").exists()
    assert Path(f"/proc/{second}").exists()
    process.send_signal(signal.SIGTERM)
    assert process.wait(LIMIT) == 0


def test_a_server_that_is_told_to_stop_while_it_prepares_stops(run: Run) -> None:
    process = run("-c", PROGRAM, "slow")
    assert process.stdout is not None
    assert process.stdout.readline() == "preparing\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(LIMIT) == 0
    assert nobody_is_left(process)


def test_workers_are_killed_with_the_process_that_started_them(run: Run) -> None:
    process = run("-c", PROGRAM, "prepare")
    workers_of(process)
    process.kill()
    # Their output ends when the last of them has ended.
    assert process.communicate(timeout=LIMIT)[0] == ""


def test_every_worker_is_told_to_reopen(run: Run) -> None:
    process = run("-c", PROGRAM, "prepare")
    workers_of(process)
    process.send_signal(signal.SIGHUP)
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == ["reopened\n"] * 2


def test_what_preparation_raises_is_said_once_and_nobody_serves(run: Run) -> None:
    process = run("-c", PROGRAM, "fail")
    out, err = process.communicate(timeout=LIMIT)
    assert (process.returncode, out, err.count("OSError: not today")) == (1, "", 1)
    assert nobody_is_left(process)


@pytest.mark.long
def test_a_refusal_during_preparation_is_said_once_and_leaves_no_process(
    tmp_path: Path, run: Run
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = run(
            "-m", "strongroom", "server", "--workers=2", f"--listen=127.0.0.1:{port}",
            f"--data={tmp_path}/data", f"--seal-key-file={tmp_path}/key",
        )  # fmt: skip
        out, err = process.communicate(timeout=LIMIT)
    assert (process.returncode, out, err.count("[address-in-use]")) == (2, "", 1)
    assert nobody_is_left(process)
    # And no cluster that nobody has asked for.
    assert list((tmp_path / "data").iterdir()) == []
    assert not (tmp_path / "key").exists()


@pytest.mark.parametrize(
    ("words", "config", "status"),
    [
        (
            ("server", "-test-config"),
            'storage "inmem" {}\nlistener "tcp" { tls_disable = true }',
            0,
        ),
        (("kms", "serve"), "none: such", 2),
    ],
)
def test_a_reload_while_it_starts_ends_nothing(
    run: Run, tmp_path: Path, words: tuple[str, ...], config: str, status: int
) -> None:
    """Who rotates logs does not know that it has just been started again."""
    os.mkfifo(tmp_path / "config")
    process = run("-m", "strongroom", *words, f"--config={tmp_path / 'config'}")
    with (tmp_path / "config").open("w") as read:  # It reads its configuration now.
        process.send_signal(signal.SIGHUP)
        read.write(config)
    assert process.wait(LIMIT) == status
