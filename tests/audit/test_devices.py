"""Recorded first, answered after, and refused within the deadline when nothing records."""

import asyncio
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from strongroom.audit.devices import AuditBroker, Enabled, FileDevice, MemoryDevice
from strongroom.audit.guarded import GuardedFile
from strongroom.audit.lanes import Lane
from strongroom.audit.pipes import named_pipe
from strongroom.audit.record import RecordForm
from strongroom.model.errors import Unavailable


async def record(broker: AuditBroker, line: bytes = b"{}\n") -> bool:
    outcome = asyncio.get_running_loop().create_future()
    broker.submit(line, outcome.set_result)
    async with asyncio.timeout(60):
        return await outcome


async def test_the_lines_of_one_turn_are_one_write() -> None:
    """And every caller hears of it."""
    device = MemoryDevice()
    broker = AuditBroker([device])
    assert all(await asyncio.gather(*(record(broker, b"%d\n" % n) for n in range(50))))
    assert (device.writes, len(device.lines)) == (1, 50)


async def test_a_bug_in_one_callback_leaves_nobody_waiting(caplog) -> None:
    broker = AuditBroker([MemoryDevice()])

    def spoilt(ok: bool) -> None:
        raise ValueError("marked")

    broker.submit(b"first\n", spoilt)
    assert await record(broker)
    assert "internal error after a record was written: ValueError" in caplog.text
    assert "marked" not in caplog.text


async def test_one_device_that_works_is_enough_and_the_other_is_counted() -> None:
    """The failure is reported, not hidden."""
    good, bad = MemoryDevice("good"), MemoryDevice("bad")
    bad.broken = True
    broker = AuditBroker([bad, good])
    assert await record(broker)
    assert broker.failures == {"bad": 1, "good": 0}
    assert broker.failing.keys() == {"bad"}
    good.broken = True
    assert not await record(broker)
    bad.broken = False
    assert await record(broker)


@pytest.mark.parametrize("required", [True, False])
async def test_without_any_device_requests_pass_only_where_none_is_wanted(required: bool) -> None:
    """A server whose devices are not open yet records nothing, so it answers nothing."""
    assert await record(AuditBroker((), required=required)) is not required


async def test_a_line_goes_to_the_devices_that_there_were_when_it_came() -> None:
    """In their forms: those that come after it may want others."""
    old, raw, new = MemoryDevice("old"), MemoryDevice("raw"), MemoryDevice("new")
    broker = AuditBroker([Enabled("old", old), Enabled("raw", raw, form=RecordForm(log_raw=True))])
    outcome = asyncio.get_running_loop().create_future()
    broker.submit(b"usual\n", outcome.set_result, (b"raw\n",))
    broker.replace([Enabled("new", new)])
    assert await outcome
    assert (old.lines, raw.lines, new.lines) == ([b"usual"], [b"raw"], [])
    assert await record(broker, b"next\n")
    assert (old.lines, new.lines) == ([b"usual"], [b"next"])


async def test_a_full_disk_refuses(tmp_path) -> None:
    """/dev/full says what a full disk says."""
    broker = AuditBroker([GuardedFile(FileDevice(Path("/dev/full")))])
    assert not await record(broker)
    assert "No space left" in broker.failing["/dev/full"]


class Stuck(MemoryDevice):
    """Blocks until released, as a dead pipe does."""

    def __init__(self) -> None:
        super().__init__("stuck")
        self.blocking = True
        self.release = threading.Event()

    def write(self, lines: bytes) -> None:
        self.release.wait(60)
        super().write(lines)


async def test_a_blocked_device_fails_within_the_deadline_and_recovers() -> None:
    """Nothing queues behind it meanwhile."""
    device = Stuck()
    broker = AuditBroker([device], deadline=0.05)
    assert not await record(broker)
    assert not await record(broker)
    device.release.set()
    async with asyncio.timeout(60):
        while not await record(broker):
            await asyncio.sleep(0.01)


class Gated(MemoryDevice):
    """Lets one write pass at a time, when it is told to."""

    def __init__(self) -> None:
        super().__init__("gated")
        self.blocking = True
        self.gate = threading.Semaphore(0)

    def write(self, lines: bytes) -> None:
        self.gate.acquire(timeout=60)
        super().write(lines)


async def test_what_comes_while_a_device_writes_is_its_next_write_and_no_failure() -> None:
    """A device that takes its time is not one that hangs."""
    device = Gated()
    broker = AuditBroker([device], deadline=60)
    first = asyncio.create_task(record(broker, b"1\n"))
    await asyncio.sleep(0)
    later = []
    for number in range(2, 5):
        later.append(asyncio.create_task(record(broker, b"%d\n" % number)))
        for _ in range(5):  # a flush of its own
            await asyncio.sleep(0)
    assert not any(each.done() for each in (first, *later))
    device.gate.release()
    assert await first
    device.gate.release()
    assert all(await asyncio.gather(*later))
    assert (device.writes, device.lines) == (2, [b"1", b"2", b"3", b"4"])
    assert broker.failures == {"gated": 0}


async def test_the_time_of_a_write_counts_from_when_its_first_line_was_asked_for() -> None:
    """However long the write before it took: who waited for that has waited."""
    device, settled = Gated(), asyncio.Event()
    lane = Lane("gated", device.write, 60.0)
    lane.submit(b"1\n", lambda _: settled.set())
    lane.submit(b"2\n", lambda _: None)
    asked = asyncio.get_running_loop().time()
    device.gate.release()
    async with asyncio.timeout(60):
        await settled.wait()
    assert lane._due <= asked + 60.0
    device.gate.release()
    lane.end()


class Frozen(asyncio.SelectorEventLoop):
    """A loop of a process that stands still for as long as it is told."""

    ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead


@pytest.mark.parametrize("late", [30.1, 100.0])
def test_a_process_that_stood_still_takes_no_device_for_one_that_hangs(late: float) -> None:
    """After a freeze the timers came first, and the answers that lay there were not looked at."""
    loop = Frozen()

    async def turns() -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async def scenario() -> None:
        device = Gated()
        broker = AuditBroker([device], deadline=30.0)

        async def ask(line: bytes) -> asyncio.Future[bool]:
            outcome = loop.create_future()
            broker.submit(line, outcome.set_result)
            await turns()
            return outcome

        written, behind = await ask(b"1\n"), await ask(b"2\n")
        loop.ahead += 100
        await turns()
        device.gate.release(2)
        assert await asyncio.gather(written, behind) == [True, True]
        assert broker.failures == {"gated": 0}
        # One that does not answer in the time that it is given anew hangs, however late that is.
        hung = await ask(b"3\n")
        for seconds in (100.0, late):
            assert not hung.done()
            loop.ahead += seconds
            await turns()
        assert not await hung
        device.gate.release()

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(scenario())


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_write_that_begins_when_its_time_is_over_is_given_up(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """As after a freeze. The loop of the server calls at once, by a timer that does not say when:
    nobody was told, and whoever came after waited for as long as the device hung.
    """

    async def scenario() -> Unavailable | None:
        device = Gated()
        lane = Lane("gated", device.write, 0.0)
        settled = asyncio.get_running_loop().create_future()
        lane.submit(b"1\n", settled.set_result)
        async with asyncio.timeout(5):
            found: Unavailable | None = await settled
        device.gate.release()
        lane.end()
        return found

    with asyncio.Runner(loop_factory=new_loop) as runner:
        refusal = runner.run(scenario())
    assert refusal is not None
    assert refusal.code == "audit-slow"


async def test_a_device_that_is_replaced_answers_those_who_wait_and_its_successor_the_next() -> (
    None
):
    """Nobody who waits is forgotten."""
    old, new = Gated(), MemoryDevice("gated")
    broker = AuditBroker([old], deadline=60)
    waiting = asyncio.create_task(record(broker))
    for _ in range(5):
        await asyncio.sleep(0)
    broker.replace([Enabled("gated", new)])
    assert await record(broker, b"new\n")
    assert not waiting.done()
    old.gate.release()
    assert await waiting
    assert (len(old.lines), new.lines) == (1, [b"new"])


async def test_a_file_is_private_appended_and_reopened(tmp_path) -> None:
    """After rotation by rename, reopen() begins a new file and loses nothing."""
    path = tmp_path / "audit.log"
    device = GuardedFile(FileDevice(path))
    broker = AuditBroker([device])
    await record(broker, b'{"n":1}\n')
    path.rename(tmp_path / "audit.log.1")
    await record(broker, b'{"n":2}\n')
    device.reopen()
    await record(broker, b'{"n":3}\n')
    lines = [(tmp_path / name).read_text().splitlines() for name in ("audit.log.1", "audit.log")]
    assert [[json.loads(line)["n"] for line in each] for each in lines] == [[1, 2], [3]]
    assert path.stat().st_mode & 0o777 == 0o600
    device.close()


def test_a_line_that_another_process_left_torn_takes_no_other_along(tmp_path) -> None:
    """A worker beside that met the end of the disk, or one before that was killed."""
    path = tmp_path / "audit.log"
    path.write_bytes(b'{"n":0}\n{"n":1,"torn":"x')
    device = FileDevice(path)
    device.write(b'{"n":2}\n{"n":3}\n')
    with path.open("ab") as other:
        other.write(b'{"n":4,')
    device.write(b'{"n":5}\n')
    device.write(b'{"n":6}\n')
    device.close()
    numbers = [each["n"] for line in path.read_bytes().splitlines() if (each := whole(line))]
    assert sorted(numbers) == [0, 2, 3, 5, 6]


def whole(line: bytes) -> dict[str, int] | None:
    try:
        return json.loads(line)
    except ValueError:
        return None


def test_a_path_that_cannot_be_opened_refuses_the_start(tmp_path) -> None:
    """There is no store without its audit file."""
    with pytest.raises(Unavailable) as caught:
        FileDevice(tmp_path / "missing" / "audit.log")
    assert caught.value.code == "audit-unwritable"


def test_a_rotation_that_cannot_be_leaves_the_file_in_use(tmp_path) -> None:
    """Records matter more than the size of their file."""
    folder, moved = tmp_path / "logs", tmp_path / "moved"
    folder.mkdir()
    device = FileDevice(folder / "audit.log", rotate_bytes=1000)
    device.write(b"one\n")
    folder.rename(moved)
    device.write(b"two\n")
    assert (moved / "audit.log").read_bytes() == b"one\ntwo\n"
    device.close()


def test_two_processes_take_turns_at_a_pipe(tmp_path) -> None:
    """Each lets go of it after its write, or the other could never record again."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    one, two = named_pipe(path, 0.2), named_pipe(path, 0.2)
    for device in (one, two, one):
        device.write(b"line\n")
    assert os.read(reader, 100) == b"line\n" * 3
    one.close()
    two.close()
    os.close(reader)
