"""An audit file is sent to disk as it grows, by a thread for which nobody waits."""

import os
import threading
import time
from pathlib import Path
from queue import SimpleQueue

import pytest

from strongroom.audit.devices import FileDevice
from strongroom.audit.guarded import GuardedFile
from strongroom.audit.writeback import EVERY_BYTES, begin_to_write

LINE = b"x" * 1023 + b"\n"
WITHIN = 60  # Seconds: what is waited for has happened long before.


class Disk:
    """Hears of ranges as the system does; while it is not `free` it does not answer."""

    def __init__(self) -> None:
        self.asked: SimpleQueue[tuple[Path, int, int]] = SimpleQueue()
        self.free = threading.Event()
        self.free.set()
        self.threads: set[int] = set()

    def begin(self, handle: int, begin: int, length: int) -> None:
        self.threads.add(threading.get_ident())
        # The path proves that the handle is still the file's.
        path = Path(f"/proc/self/fd/{handle}").readlink()
        self.asked.put((path, begin, begin + length))
        self.free.wait(WITHIN)


def settle() -> None:
    """Until no range is being asked for."""
    for thread in threading.enumerate():
        if thread.name == "writeback":
            thread.join(WITHIN)


def test_each_mebibyte_is_sent_once(tmp_path: Path) -> None:
    path, disk = tmp_path / "log", Disk()
    path.write_bytes(LINE * 5000)  # What was there when it was opened is left alone.
    file = GuardedFile(FileDevice(path), disk.begin)
    for _ in range(3 * EVERY_BYTES // len(LINE) + 7):
        file.write(LINE)
        settle()
    ranges = [disk.asked.get_nowait() for _ in range(3)]
    assert disk.asked.empty()
    start = 5000 * len(LINE)
    assert ranges == [
        (path, start + number * EVERY_BYTES, start + (number + 1) * EVERY_BYTES)
        for number in range(3)
    ]
    assert threading.get_ident() not in disk.threads


def test_what_another_process_appends_between_is_sent_along(tmp_path: Path) -> None:
    path, disk = tmp_path / "log", Disk()
    file, other = GuardedFile(FileDevice(path), disk.begin), FileDevice(path)
    file.write(LINE * 1024)
    settle()
    other.write(LINE * 3)
    file.write(LINE * 1024)
    settle()
    disk.asked.get_nowait()
    assert disk.asked.get_nowait() == (path, EVERY_BYTES, 2 * EVERY_BYTES + 3 * len(LINE))


def test_while_the_disk_holds_one_range_records_are_written_and_the_next_is_longer(
    tmp_path: Path,
) -> None:
    path, disk = tmp_path / "log", Disk()
    file = GuardedFile(FileDevice(path), disk.begin)
    disk.free.clear()
    for _ in range(5):
        file.write(LINE * 1024)
    assert path.stat().st_size == 5 * EVERY_BYTES
    assert disk.asked.get(timeout=WITHIN) == (path, 0, EVERY_BYTES)
    assert disk.asked.empty()
    disk.free.set()
    settle()
    file.write(LINE)
    settle()
    assert disk.asked.get_nowait() == (path, EVERY_BYTES, 5 * EVERY_BYTES + len(LINE))


def test_a_file_that_is_closed_or_rotated_meanwhile_keeps_its_handle(tmp_path: Path) -> None:
    path, disk = tmp_path / "log", Disk()
    device = FileDevice(path, rotate_bytes=3 * EVERY_BYTES)
    file = GuardedFile(device, disk.begin)
    for _ in range(4):
        file.write(LINE * 1024)
        settle()
    # The fourth went to a new file, of which the first range is sent.
    sent = [disk.asked.get_nowait() for _ in range(4)]
    assert [begin for _, begin, _ in sent] == [0, EVERY_BYTES, 2 * EVERY_BYTES, 0]
    assert (tmp_path / "log.1").stat().st_size == 3 * EVERY_BYTES
    disk.free.clear()
    file.write(LINE * 1024)
    device.close()
    disk.free.set()
    settle()
    assert disk.asked.get_nowait() == (path, EVERY_BYTES, 2 * EVERY_BYTES)


def test_where_no_thread_is_to_be_had_records_are_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, disk = tmp_path / "log", Disk()
    file = GuardedFile(FileDevice(path), disk.begin)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    handles = Path("/proc/self/fd")
    before = len([*handles.iterdir()])
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        for _ in range(3):
            file.write(LINE * 1024)
    assert path.stat().st_size == 3 * EVERY_BYTES
    assert len([*handles.iterdir()]) == before
    file.write(LINE * 1024)
    settle()
    assert disk.asked.get_nowait() == (path, 3 * EVERY_BYTES, 4 * EVERY_BYTES)


def test_what_is_no_regular_file_is_left_alone(tmp_path: Path) -> None:
    disk = Disk()
    file = GuardedFile(FileDevice(Path("/dev/null")), disk.begin)
    for _ in range(3):
        file.write(LINE * 2048)
        settle()
    assert disk.asked.empty()
    file = GuardedFile(FileDevice(tmp_path / "log"))
    file.write(LINE * 2048)
    settle()
    assert (tmp_path / "log").stat().st_size == 2048 * len(LINE)


def test_the_system_hears_of_the_range_and_of_no_more(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(LINE * 1024 * 8)
    handle = os.open(path, os.O_RDWR)
    try:
        # What is on disk already has nothing to be written, and leaves memory: that can be seen.
        os.fsync(handle)
        # The system passes over pages that it is looking at just then.
        end = time.monotonic() + WITHIN
        while in_memory(handle, 0):
            assert time.monotonic() < end
            begin_to_write(handle, 0, 4 * EVERY_BYTES)
        assert in_memory(handle, 4 * EVERY_BYTES)
    finally:
        os.close(handle)


def in_memory(handle: int, place: int) -> bool:
    """Whether a read would not have to ask the disk."""
    try:
        return os.preadv(handle, [bytearray(1024)], place, os.RWF_NOWAIT) == 1024
    except BlockingIOError:
        return False
    except OSError:
        pytest.skip("this file system does not say what is in memory")
