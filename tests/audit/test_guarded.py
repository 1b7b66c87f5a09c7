"""A file whose file system hangs: the device is failed, the loop and the others go on."""

import asyncio
import os
import threading
from pathlib import Path

import pytest
from tests.audit.test_devices import record

from strongroom.audit.devices import AuditBroker, Enabled, FileDevice, MemoryDevice
from strongroom.audit.guarded import GuardedFile, within
from strongroom.audit.kinds import Asked, enable
from strongroom.model.errors import Unavailable


class Frozen(FileDevice):
    """A file whose writes and openings wait until the file system is back."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.thawed = threading.Event()
        self.thawed.set()
        self.threads: set[int] = set()

    def write(self, lines: bytes) -> None:
        self.threads.add(threading.get_ident())
        self.thawed.wait()
        super().write(lines)


async def test_one_that_hangs_keeps_neither_the_loop_nor_the_other_devices(tmp_path: Path) -> None:
    frozen, good = Frozen(tmp_path / "log"), MemoryDevice()
    hung = Enabled("hung/", GuardedFile(frozen), deadline=1.0)
    broker = AuditBroker([hung, good])
    assert await record(broker, b"one\n")
    frozen.thawed.clear()
    turns, beating = 0, True

    async def beat() -> None:
        nonlocal turns
        while beating:
            turns += 1
            await asyncio.sleep(0)

    heart = asyncio.create_task(beat())
    assert await record(broker, b"two\n")
    beating = False
    await heart
    # The loop ran while the thread hung; the next does not even wait for the deadline.
    assert turns > 2
    for _ in range(100):
        assert await record(broker, b"more\n")
    assert "did not answer in 1 s" in broker.failing["hung/"]
    assert threading.get_ident() not in frozen.threads
    assert len(frozen.threads) == 1
    frozen.thawed.set()
    async with asyncio.timeout(60):
        while broker.failing:
            assert await record(broker, b"later\n")
            await asyncio.sleep(0.01)
    lines = (tmp_path / "log").read_text().splitlines()
    # What was given up is there all the same, once, and in order.
    assert lines[:2] == ["one", "two"]
    assert "more" not in lines


async def test_when_it_is_the_only_one_requests_are_refused_at_once(tmp_path: Path) -> None:
    frozen = Frozen(tmp_path / "log")
    broker = AuditBroker([Enabled("hung/", GuardedFile(frozen), deadline=1.0)])
    frozen.thawed.clear()
    assert not await record(broker)
    loop = asyncio.get_running_loop()
    before = loop.time()
    for _ in range(200):
        assert not await record(broker)
    # Waited for once, and not two hundred times.
    assert loop.time() - before < 200 * 1.0 / 2
    assert broker.silent
    frozen.thawed.set()
    async with asyncio.timeout(60):
        while not await record(broker):
            await asyncio.sleep(0.01)
    assert not broker.silent


async def test_a_guarded_file_is_opened_anew_by_its_thread(tmp_path: Path) -> None:
    path = tmp_path / "log"
    guarded = GuardedFile(FileDevice(path))
    broker = AuditBroker([Enabled("log/", guarded)])
    assert await record(broker, b"one\n")
    path.rename(tmp_path / "old")
    guarded.reopen()
    assert not path.exists()
    assert await record(broker, b"two\n")
    assert (path.read_text(), (tmp_path / "old").read_text()) == ("two\n", "one\n")
    path.rename(tmp_path / "older")
    tmp_path.joinpath("log").mkdir()
    guarded.reopen()
    # It cannot be opened: the old file takes it.
    assert await record(broker, b"three\n")
    assert (tmp_path / "older").read_text() == "two\nthree\n"


def test_what_opens_too_slowly_is_refused() -> None:
    with pytest.raises(Unavailable, match=r"did not answer in 0\.01 s"):
        within(0.01, "slow/", threading.Event().wait)
    with pytest.raises(ZeroDivisionError):
        within(60, "broken/", lambda: 1 // 0)
    assert within(60, "good/", lambda: 7) == 7


def test_every_file_is_written_by_a_thread_under_its_deadline(tmp_path: Path) -> None:
    for options, deadline in (({}, 2.0), ({"deadline": "500ms"}, 0.5)):
        options["file_path"] = str(tmp_path / "log")
        made = enable(Asked("a/", "file", options), fixed=True)
        assert isinstance(made.device, GuardedFile)
        assert (made.device.blocking, made.deadline) == (True, deadline)
        made.device.close()


@pytest.mark.parametrize(
    ("make", "said"),
    [(os.mkfifo, "it is a named pipe now; restart the server"), (os.mkdir, "Is a directory")],
)
async def test_a_path_that_cannot_be_opened_anew_is_said_and_keeps_the_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, make, said: str
) -> None:
    """A pipe would take records that nobody reads, and lose them when it is closed."""
    path, moved = tmp_path / "log", tmp_path / "log.1"
    device = GuardedFile(FileDevice(path))
    broker = AuditBroker([device])
    assert await record(broker, b"one\n")
    path.rename(moved)
    make(path)
    device.reopen()
    opened = len([*Path("/proc/self/fd").iterdir()])
    assert await record(broker, b"two\n")
    assert len([*Path("/proc/self/fd").iterdir()]) == opened
    assert moved.read_bytes() == b"one\ntwo\n"
    wrong = f"the audit device {path} cannot be written: {said}"
    assert f"{wrong}; the file that was open is written on" in caplog.text
    device.close()
