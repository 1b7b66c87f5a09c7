"""Devices by their type and options: files, sockets, syslog and standard output; good and bad days."""

import asyncio
import contextlib
import json
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from strongroom.audit.devices import AuditBroker, Enabled, MemoryDevice
from strongroom.audit.kinds import Asked, enable
from strongroom.audit.pipes import PipeDevice, named_pipe, standard_output
from strongroom.audit.record import RecordForm
from strongroom.audit.sockets import SocketDevice, SyslogDevice
from strongroom.model.errors import Invalid, Unavailable


def asked(kind: str, **options: str) -> Asked:
    return Asked(f"{kind}/", kind, options)


async def record(broker: AuditBroker, line: bytes = b"{}\n") -> bool:
    outcome = asyncio.get_running_loop().create_future()
    broker.submit(line, outcome.set_result)
    async with asyncio.timeout(60):
        return await outcome


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (asked("kafka"), "unknown backend type"),
        (asked("file"), "file_path is required"),
        (asked("file", file_path="x", bogus="1"), "unknown option 'bogus'"),
        (asked("file", file_path="x", mode="0755"), "never executable"),
        (asked("file", file_path="x", mode="high"), "mode is octal"),
        (asked("file", file_path="x", rotate_bytes="-1"), "rotate_bytes is 0, for never, or more"),
        (asked("file", file_path="x", rotate_bytes="9", rotate_keep="0"), "rotate_keep is 1"),
        (asked("file", file_path="x", format="jsonx"), "only format is json"),
        (asked("file", file_path="x", log_raw="perhaps"), "log_raw must be true or false"),
        (asked("file", file_path="x", filter="a == b"), "filter and fallback"),
        (asked("socket"), "needs address"),
        (asked("socket", address="nowhere"), "HOST:PORT"),
        (asked("socket", address="127.0.0.1:99999"), "from 1 to 65535"),
        (asked("socket", address="127.0.0.1:0", socket_type="udp"), "from 1 to 65535"),
        (asked("socket", address="127.0.0.1:²"), "from 1 to 65535"),
        (asked("socket", address=f"{'x' * 64}.example:9000"), "HOST:PORT"),
        (asked("file", file_path="a\0b"), "zero byte"),
        (asked("syslog", facility="NOPE"), "unknown syslog facility"),
        (asked("file", file_path="x", deadline="1h"), "between 1ms and 30s"),
    ],
)
def test_what_cannot_be_is_refused(given: Asked, said: str) -> None:
    with pytest.raises(Invalid) as caught:
        enable(given, fixed=True)
    assert said in caught.value.message


def test_options_become_the_form_of_the_records(tmp_path: Path) -> None:
    made = enable(
        asked(
            "file", file_path=str(tmp_path / "a"), log_raw="T", hmac_accessor="f",
            elide_list_responses="1", prefix="@cee: ", deadline="250ms", mode="0640",
        ),
        fixed=True,
    )  # fmt: skip
    assert made.form == RecordForm(log_raw=True, hmac_accessor=False, elide_lists=True)
    assert made.deadline == 0.25
    assert made.prefixed(b"{1}\n{2}\n") == b"@cee: {1}\n@cee: {2}\n"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640
    made.device.close()
    assert enable(asked("file", file_path="stdout"), fixed=True).device.name == "stdout"


def test_a_mode_is_given_whatever_the_umask_and_to_a_file_that_is_there(tmp_path: Path) -> None:
    """A log shipper reads by its group; Vault changes the mode of the file as it opens it."""
    there, fresh = tmp_path / "there", tmp_path / "fresh"
    there.touch(0o600)
    before = os.umask(0o077)
    try:
        for path in (there, fresh):
            given = asked("file", file_path=str(path), mode="0640")
            enable(given, fixed=True).device.close()
            assert path.stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(before)
    for options in ({"mode": "0000"}, {}):
        enable(asked("file", file_path=str(there), **options), fixed=True).device.close()
        assert there.stat().st_mode & 0o777 == 0o640


def test_cve_2025_6000_the_api_writes_into_nothing_but_logs(tmp_path: Path) -> None:
    program, notes, log = tmp_path / "program", tmp_path / "notes", tmp_path / "log"
    program.write_text("{")
    program.chmod(0o755)
    notes.write_text("dear diary")
    log.write_text('{"type":"request"}\n')
    for options, said in (
        ({"file_path": str(program)}, "executable"),
        ({"file_path": str(notes)}, "not an audit log"),
        ({"file_path": str(log), "prefix": "#!/bin/sh\n"}, "prefix"),
        ({"file_path": str(log), "mode": "0777"}, "executable"),
    ):
        with pytest.raises(Invalid) as caught:
            enable(asked("file", **options), fixed=False)
        assert said in caught.value.message
    enable(asked("file", file_path=str(log)), fixed=False).device.close()
    assert notes.read_text() == "dear diary"


def test_a_file_is_rotated_by_size_and_two_processes_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    options = {"file_path": str(path), "rotate_bytes": "1000", "rotate_keep": "100"}
    one, two = (enable(asked("file", **options), fixed=True).device for _ in range(2))
    lines = [json.dumps({"number": number, "filler": "x" * 80}) for number in range(200)]
    for number, line in enumerate(lines):
        (one if number % 3 else two).write(line.encode() + b"\n")
    found = [line for each in tmp_path.iterdir() for line in each.read_text().splitlines()]
    assert sorted(found) == sorted(lines)
    assert len(list(tmp_path.iterdir())) > 10
    assert all(each.stat().st_size < 1200 for each in tmp_path.iterdir())
    one.close()
    two.close()


def test_only_so_many_old_files_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    device = enable(
        asked("file", file_path=str(path), rotate_bytes="10", rotate_keep="2"), fixed=True
    ).device
    for number in range(6):
        device.write(b'{"number":%d}\n' % number)
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "audit.log", "audit.log.1", "audit.log.2",
    ]  # fmt: skip
    assert (tmp_path / "audit.log.1").read_text() == '{"number":4}\n'
    device.close()


class Peer:
    """A TCP peer that reads lines until told to stop."""

    def __init__(self, server: socket.socket) -> None:
        self.server = server
        self.lines: list[bytes] = []
        self.connections: list[socket.socket] = []
        self.arrived = threading.Condition()
        self.ended = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.server.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self._read, args=(connection,), daemon=True).start()

    def _read(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as source:
            for line in source:
                with self.arrived:
                    self.lines.append(line)
                    self.arrived.notify_all()
        self.ended.set()

    def wait_for(self, count: int) -> None:
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.lines) >= count, 60)


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_a_tcp_peer_gets_whole_lines_and_again_after_it_was_gone(listening: socket.socket) -> None:
    peer = Peer(listening)
    address = f"127.0.0.1:{listening.getsockname()[1]}"
    device = enable(asked("socket", address=address), fixed=True).device
    device.write(b"{1}\n{2}\n")
    peer.wait_for(2)
    peer.connections[0].shutdown(socket.SHUT_RDWR)
    peer.connections[0].close()
    device.write(b"{3}\n")
    peer.wait_for(3)
    assert peer.lines == [b"{1}\n", b"{2}\n", b"{3}\n"]
    device.close()


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_connection_takes_one_record_after_the_other_at_once(kind: str, tmp_path: Path) -> None:
    """A peer that says nothing is asked for nothing: that took a whole deadline, and failed."""
    family = socket.AF_INET if kind == "tcp" else socket.AF_UNIX
    with socket.socket(family) as server:
        server.bind(("127.0.0.1", 0) if kind == "tcp" else str(tmp_path / "s"))
        server.listen()
        peer = Peer(server)
        at = server.getsockname()
        device = SocketDevice(kind, f"127.0.0.1:{at[1]}" if kind == "tcp" else at, 30.0)
        begun = time.monotonic()
        for number in range(5):
            device.write(b"{%d}\n" % number)
            peer.wait_for(number + 1)
        assert time.monotonic() - begun < 30
        assert len(peer.connections) == 1
        device.close()


def test_a_peer_that_broke_the_connection_off_costs_no_record(listening: socket.socket) -> None:
    peer = Peer(listening)
    device = SocketDevice("tcp", f"127.0.0.1:{listening.getsockname()[1]}", 30.0)
    device.write(b"{1}\n")
    peer.wait_for(1)
    # Closed at once, as by a program that is killed with something unread: a reset, and no end.
    linger = struct.pack("ii", 1, 0)
    peer.connections[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    peer.connections[0].shutdown(socket.SHUT_RD)
    peer.ended.wait(60)
    peer.connections[0].close()
    device.write(b"{2}\n")
    peer.wait_for(2)
    device.close()


async def test_a_stuck_tcp_peer_passes_its_deadline_and_is_not_waited_for_again(
    listening: socket.socket,
) -> None:
    address = f"127.0.0.1:{listening.getsockname()[1]}"
    device = SocketDevice("tcp", address, 0.2)  # nobody accepts, nobody reads
    broker = AuditBroker([Enabled("socket/", device, "socket", deadline=0.2)])
    line = b"x" * 64_000_000 + b"\n"  # more than the buffers of both ends of a new connection take
    assert [await record(broker, line) for _ in range(4)] == [False] * 4
    assert "socket/" in broker.failing
    device.close()


async def test_a_peer_that_refuses_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    broker = AuditBroker([enable(asked("socket", address=address), fixed=True)])
    assert not await record(broker)
    assert "Connection refused" in broker.failing["socket/"]


def test_udp_and_unix_sockets(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        udp.settimeout(60)
        address = f"127.0.0.1:{udp.getsockname()[1]}"
        device = enable(asked("socket", address=address, socket_type="udp"), fixed=True).device
        device.write(b"{1}\n{2}\n")
        assert [udp.recv(100), udp.recv(100)] == [b"{1}", b"{2}"]
        device.close()
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        device = enable(asked("socket", address=path, socket_type="unix"), fixed=True).device
        device.write(b"{1}\n")
        connection, _ = server.accept()
        assert connection.recv(100) == b"{1}\n"
        connection.close()
        device.close()


@pytest.fixture
def datagrams() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1_000_000)
        udp.bind(("127.0.0.1", 0))
        udp.settimeout(60)
        yield udp


def over_udp(datagrams: socket.socket, **options: str) -> Enabled:
    address = f"127.0.0.1:{datagrams.getsockname()[1]}"
    device = asked("socket", address=address, socket_type="udp", **options)
    return enable(device, fixed=True)


async def test_a_record_that_fits_no_datagram_is_not_cut_and_refuses_no_request_but_its_own(
    datagrams: socket.socket,
) -> None:
    """The longest that fits arrives whole; the size counts the prefix."""
    broker = AuditBroker([over_udp(datagrams, prefix="a:")])
    fits, long = b"x" * (65_507 - 2), b"y" * (65_507 - 1)
    heard: dict[bytes, tuple[bool, str]] = {}

    def hear(line: bytes, ok: bool) -> None:
        heard[line] = ok, broker.failing.get("socket/", "")

    for line in (b"{1}", long, fits):
        broker.submit(line + b"\n", partial(hear, line))
    async with asyncio.timeout(60):
        while len(heard) < 3:
            await asyncio.sleep(0.001)
    assert [heard[line][0] for line in (b"{1}", long, fits)] == [True, False, True]
    assert [datagrams.recv(70_000), datagrams.recv(70_000)] == [b"a:{1}", b"a:" + fits]
    said = heard[long][1]
    assert said.startswith("a record of 65508 bytes does not fit the audit device udp://127.0.0.1:")
    assert broker.failures == {"socket/": 1}


async def test_a_device_that_was_given_too_long_a_record_is_reported_and_not_silent(
    datagrams: socket.socket,
) -> None:
    """A server that is taken for unready because of one long request would be easily stopped."""
    broker = AuditBroker([over_udp(datagrams)])
    assert not await record(broker, b"y" * 70_000 + b"\n")
    assert ("socket/" in broker.failing, broker.silent) == (True, False)
    assert await record(broker)
    assert broker.failing == {}


async def test_other_devices_take_what_fits_no_datagram_and_decide(
    datagrams: socket.socket, tmp_path: Path
) -> None:
    path, raw = tmp_path / "log", RecordForm(log_raw=True)
    fallen = MemoryDevice("fallen")
    file = enable(asked("file", file_path=str(path)), fixed=True)
    broker = AuditBroker([over_udp(datagrams), file, Enabled("fallen", fallen, form=raw)])
    long = b"y" * 70_000 + b"\n"
    outcome = asyncio.get_running_loop().create_future()
    broker.submit(b"{1}\n" + long, outcome.set_result, (b"raw\n",))
    assert await outcome
    assert (path.read_bytes(), fallen.lines) == (b"{1}\n" + long, [b"raw"])
    assert set(broker.failing) == {"socket/"}
    # The form that a device gets is what counts.
    broker.replace([over_udp(datagrams, log_raw="true")])
    outcome = asyncio.get_running_loop().create_future()
    broker.submit(long, outcome.set_result, (b"short\n",))
    assert await outcome
    assert datagrams.recv(70_000) == b"short"


async def test_what_is_too_long_for_the_one_device_is_refused_when_the_other_fails(
    datagrams: socket.socket,
) -> None:
    fallen = MemoryDevice("fallen")
    fallen.broken = True
    broker = AuditBroker([over_udp(datagrams), fallen])
    assert await record(broker)
    assert not await record(broker, b"y" * 70_000 + b"\n")
    assert set(broker.failing) == {"socket/", "fallen"}


async def test_a_record_longer_than_syslog_takes_is_refused_by_itself(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.settimeout(60)
        daemon.bind(path)
        device = SyslogDevice(address=path)
        broker = AuditBroker([device])
        fits = b"x" * device.longest
        outcomes = await asyncio.gather(
            record(broker, fits + b"\n"), record(broker, b"y" + fits + b"\n")
        )
        assert outcomes == [True, False]
        assert daemon.recv(1_000_000).endswith(b": " + fits)
        device.close()


def test_syslog_lines_have_priority_tag_and_record(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(path)
        device = SyslogDevice("LOCAL3", "strongroom", path)
        device.write(b'{"type":"request"}\n')
        found = daemon.recv(1000).decode()
        assert found.startswith(f"<{19 * 8 + 6}>")
        assert found.endswith(f' strongroom[{os.getpid()}]: {{"type":"request"}}')
        device.close()
    with pytest.raises(Unavailable):
        device.write(b"{}\n")


async def test_a_pipe_nobody_reads_is_standard_output_too() -> None:
    reading, writing = os.pipe()
    device = standard_output(1.0, writing)
    broker = AuditBroker([Enabled("stdout/", device, "stdout", deadline=1.0)])
    outcomes = [await record(broker, b"y" * 40_000 + b"\n") for _ in range(4)]
    assert outcomes[0] is True
    assert outcomes[-1] is False
    assert "did not answer in 1 s" in broker.failing["stdout/"]
    os.set_blocking(reading, False)
    async with asyncio.timeout(60):
        while not await record(broker, b"{}\n"):
            with contextlib.suppress(BlockingIOError):
                os.read(reading, 200_000)
            await asyncio.sleep(0.01)
    device.close()
    os.close(reading)
    os.close(writing)


async def test_a_named_pipe_that_nobody_opens_stops_nobody_and_is_used_once_it_is_read(
    tmp_path: Path,
) -> None:
    """Opening one for writing would wait for a reader, for ever."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    broker = AuditBroker([enable(asked("file", file_path=str(path), deadline="30s"), fixed=True)])
    assert not await record(broker)
    assert "No such device" in broker.failing["file/"]
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    assert await record(broker, b"{1}\n")
    assert os.read(reader, 100) == b"{1}\n"
    assert broker.failing == {}
    os.close(reader)
    assert not await record(broker)
    assert "Broken pipe" in broker.failing["file/"]
    again = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    assert await record(broker, b"{2}\n")
    assert os.read(again, 100) == b"{2}\n"
    os.close(again)
    broker.enabled[0].device.close()


async def test_a_named_pipe_that_is_not_read_on_is_given_up_and_its_thread_comes_back(
    tmp_path: Path,
) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    device = named_pipe(path, 0.5)
    with pytest.raises(Unavailable, match=r"did not answer in 0\.5 s"):
        await asyncio.to_thread(device.write, b"z" * 100_000 + b"\n")
    torn = os.read(reader, 200_000)
    device.write(b"{1}\n")
    assert os.read(reader, 100) == b"\n{1}\n"  # apart from what was torn
    assert set(torn) == {ord("z")}
    device.close()
    os.close(reader)


def test_long_lines_of_two_processes_do_not_mix_in_a_pipe(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    found: list[bytes] = []

    def read() -> None:
        with path.open("rb") as source:
            found.extend(source)

    reader = threading.Thread(target=read)
    reader.start()
    kept = os.open(path, os.O_WRONLY)  # so that the reader's file does not end too early
    writers = [threading.Thread(target=_fill, args=(path, letter)) for letter in (b"a", b"b")]
    for each in writers:
        each.start()
    for each in writers:
        each.join()
    os.close(kept)
    reader.join(60)
    assert sorted(found) == sorted([b"a" * 20_000 + b"\n", b"b" * 20_000 + b"\n"] * 50)


def _fill(path: Path, letter: bytes) -> None:
    device = PipeDevice(str(path), lambda: os.open(path, os.O_WRONLY), 60)
    for _ in range(50):
        device.write(letter * 20_000 + b"\n")
    device.close()


async def test_devices_of_other_forms_get_their_own_lines(tmp_path: Path) -> None:
    plain = enable(asked("file", file_path=str(tmp_path / "plain")), fixed=True)
    raw = enable(
        Asked("raw/", "file", {"file_path": str(tmp_path / "raw"), "log_raw": "true"}), fixed=True
    )
    broker = AuditBroker([plain, raw])
    assert broker.other_forms == (RecordForm(log_raw=True),)
    outcome = asyncio.get_running_loop().create_future()
    broker.submit(b"{hashed}\n", outcome.set_result, (b"{raw}\n",))
    assert await outcome
    assert (tmp_path / "plain").read_text() == "{hashed}\n"
    assert (tmp_path / "raw").read_text() == "{raw}\n"
    for each in broker.enabled:
        each.device.close()
