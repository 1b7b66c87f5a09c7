"""Audit devices and the broker in front of them: recorded first, answered after.

The broker collects the lines of an event-loop turn and the next, writes them to every device at
once, and then calls back. A device that fails or passes its deadline is counted out; when none has
taken the batch the callers hear `False` and the requests are refused. Nothing ever waits for ever.
"""

import asyncio
import errno
import fcntl
import logging
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from strongroom.audit.lanes import Lane
from strongroom.audit.record import RecordForm
from strongroom.model.errors import Unavailable

Done = Callable[[bool], None]
DEADLINE_SECONDS: Final = 2.0
DEFAULT_FORM: Final = RecordForm()
# What a device is tried with; the same as Vault's.
TEST_LINE: Final = b'{"type":"test","request":{"operation":"update","path":"sys/audit/test"}}\n'

_log = logging.getLogger(__name__)


class Device(Protocol):
    """Somewhere records go. `blocking` devices are written from a thread under a deadline.

    `longest` is how many bytes a record may have, without its newline; 0 for any.
    """

    name: str
    blocking: bool
    longest: int

    def write(self, lines: bytes) -> None:
        """Take whole lines, or raise Unavailable(`audit-unwritable`) having taken none or some."""

    def reopen(self) -> None:
        """Begin anew, as after a rotation; raises Unavailable."""

    def close(self) -> None:
        """Let go of files and sockets."""


class FileDevice:
    """Appends to a file, one write a batch; several processes may share the file (O_APPEND).

    No device by itself, since any file may hang: `guarded.GuardedFile` makes one of it.
    With `rotate_bytes` the file is renamed to `NAME.1` (and so on, up to `keep`) when it has
    grown that large; the other processes notice before their next write.
    A `mode` is given to a file that is there as well; without one a new file is the owner's alone.
    """

    def __init__(
        self, path: Path, *, mode: int | None = None, rotate_bytes: int = 0, keep: int = 10
    ) -> None:
        self.name = str(path)
        self._path = path
        self._mode = mode
        self._rotate_bytes = rotate_bytes
        self._keep = keep
        self._handle = -1
        self._torn = False
        self.reopen()

    def reopen(self) -> None:
        """Open the path anew, as after rotation; raises Unavailable(`audit-unwritable`)."""
        try:
            handle = self._opened()
        except OSError as error:
            raise unwritable(self.name, error) from error
        self.close()
        self._handle = handle

    @property
    def handle(self) -> int:
        """The open file; another one after a rotation."""
        return self._handle

    def _opened(self) -> int:
        flags = os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            handle = os.open(self._path, os.O_RDWR | flags, 0o600)
        except PermissionError:
            # A file that may be written alone: only lines that are torn here are known, then.
            handle = os.open(self._path, os.O_WRONLY | flags, 0o600)
        found = os.fstat(handle).st_mode
        if stat.S_ISFIFO(found):
            # Opened to read and write it takes records that nobody reads, as if it kept them.
            os.close(handle)
            raise OSError(errno.EINVAL, "it is a named pipe now; restart the server")
        self._give_mode(handle, found)
        return handle

    def _give_mode(self, handle: int, found: int) -> None:
        """As the configuration says, whatever the umask is and whoever made the file."""
        if self._mode is None or not stat.S_ISREG(found) or stat.S_IMODE(found) == self._mode:
            return
        try:
            os.fchmod(handle, self._mode)
        except OSError as error:
            _log.warning("audit file %s keeps its mode: %s", self.name, error.strerror)

    def close(self) -> None:
        """Close the file."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def write(self, lines: bytes) -> None:
        """Append whole lines; raises Unavailable(`audit-unwritable`).

        A short write is continued, and after a line that was torn a new one begins. One that
        another process left torn, as it met the end of the disk or was killed, can be told only
        once these lines stand behind it: the first is then written again.
        """
        if self._rotate_bytes:
            self._rotate_if_due()
        if self._torn:
            self._append(b"\n" + lines)
        else:
            self._append(lines)
            if self._follows_torn(len(lines)):
                self._append(lines[: lines.index(b"\n") + 1])
        self._torn = False

    def _append(self, lines: bytes) -> None:
        view, written = memoryview(lines), 0
        try:
            while written < len(view):
                written += os.write(self._handle, view[written:])
        except OSError as error:
            self._torn = self._torn or written > 0
            raise unwritable(self.name, error) from error

    def _follows_torn(self, written: int) -> bool:
        """Whether so many bytes that were just appended go on with a line that was torn."""
        try:
            begin = os.lseek(self._handle, 0, os.SEEK_CUR) - written
            return begin > 0 and os.pread(self._handle, 1, begin - 1) not in (b"\n", b"")
        except OSError:
            return False  # No regular file, or one that may be written alone.

    def _rotate_if_due(self) -> None:
        """A rotation that fails leaves the file in use: records matter more than its size."""
        try:
            if not self._is_current():
                self.reopen()
            if os.fstat(self._handle).st_size < self._rotate_bytes:
                return
            # One process renames; who comes second finds another file and leaves it alone.
            fcntl.flock(self._handle, fcntl.LOCK_EX)
            if self._is_current():
                self._rename()
            self.reopen()
        except (OSError, Unavailable) as error:
            _log.error("audit file %s was not rotated: %s", self.name, error)

    def _is_current(self) -> bool:
        try:
            return os.path.samestat(self._path.stat(), os.fstat(self._handle))
        except FileNotFoundError:
            return False

    def _rename(self) -> None:
        for number in range(self._keep - 1, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{number}")
            if older.exists():
                older.rename(self._path.with_name(f"{self._path.name}.{number + 1}"))
        self._path.rename(self._path.with_name(f"{self._path.name}.1"))


def unwritable(name: str, error: OSError) -> Unavailable:
    """What a device raises."""
    return Unavailable(
        "audit-unwritable",
        f"the audit device {name} cannot be written: {error.strerror or type(error).__name__}",
        hint="free space or repair the path; requests are refused until a device can record them",
    )


@dataclass(frozen=True, slots=True)
class Enabled:
    """A device in use. `fixed` ones come from the configuration and cannot be removed."""

    path: str
    device: Device
    type: str = "file"
    form: RecordForm = DEFAULT_FORM
    prefix: bytes = b""
    deadline: float = DEADLINE_SECONDS
    options: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    fixed: bool = False

    def prefixed(self, lines: bytes) -> bytes:
        """The lines as this device writes them."""
        if not self.prefix:
            return lines
        return b"".join(self.prefix + line for line in lines.splitlines(keepends=True))

    def too_long(self, lines: bytes) -> int:
        """How long the longest of the lines is, where the device takes none of that length."""
        most = self.device.longest
        if not most or len(lines) + len(self.prefix) <= most:
            return 0
        longest = max(len(line) for line in lines.splitlines()) + len(self.prefix)
        return longest if longest > most else 0


@dataclass(slots=True)
class _Turn:
    """What one flush sends, of a turn and the next; the lists go beside each other.

    `others` is empty where there are no other forms.
    """

    lines: list[bytes]
    others: list[tuple[bytes, ...]]
    waiting: list[Done]

    def part(self, places: Sequence[int]) -> "_Turn":
        """What was submitted at these places."""
        others = [self.others[each] for each in places] if self.others else []
        return _Turn(
            [self.lines[each] for each in places], others, [self.waiting[each] for each in places]
        )


class _Outcome:
    """What becomes of a batch: known when every device has answered, good when one has it."""

    def __init__(self, waiting: Sequence[Done], devices: int, *, ok: bool) -> None:
        self._waiting = waiting
        self._left = devices
        self._ok = ok

    def add(self, *, ok: bool) -> None:
        """One device more has answered."""
        self._ok |= ok
        self._left -= 1
        if not self._left:
            _call(self._waiting, ok=self._ok)


class AuditBroker:
    """Fans the lines of a flush out to the devices and answers whether one has them."""

    def __init__(
        self,
        devices: Sequence[Device | Enabled],
        *,
        deadline: float = DEADLINE_SECONDS,
        required: bool = True,
    ) -> None:
        """With `required` False a broker without any device lets requests pass unrecorded."""
        self._required = required
        self._lines: list[bytes] = []
        self._others: list[tuple[bytes, ...]] = []
        self._done: list[Done] = []
        self._lanes: dict[str, tuple[Enabled, Lane]] = {}
        self.enabled: tuple[Enabled, ...] = ()
        self._limited = False
        # Forms beside the usual one: who submits a line gives it in these as well.
        self.other_forms: tuple[RecordForm, ...] = ()
        self.failures: dict[str, int] = {}
        # What is wrong with devices that did not take their last batch.
        self.failing: dict[str, str] = {}
        # Those of them that were only given a record too long for them.
        self._outgrown: set[str] = set()
        self.replace(
            [
                each
                if isinstance(each, Enabled)
                else Enabled(each.name, each, deadline=deadline, fixed=True)
                for each in devices
            ]
        )

    def replace(self, enabled: Sequence[Enabled]) -> None:
        """Use these devices from the next line on."""
        if self._lines:
            self._flush()
        self.enabled = tuple(enabled)
        self._limited = any(each.device.longest for each in enabled)
        forms = {each.form for each in enabled} - {DEFAULT_FORM}
        self.other_forms = tuple(sorted(forms, key=str))
        self.failures = {each.path: self.failures.get(each.path, 0) for each in enabled}
        self.failing = {path: said for path, said in self.failing.items() if path in self.failures}
        self._outgrown &= self.failures.keys()
        for path, (each, lane) in [*self._lanes.items()]:
            if not any(each is other for other in self.enabled):
                del self._lanes[path]
                lane.end()

    @property
    def silent(self) -> bool:
        """Whether no device took its last batch, so that requests are refused."""
        failing = self.failing.keys() - self._outgrown
        return bool(self.enabled) and all(each.path in failing for each in self.enabled)

    def refused(self, to: Enabled, error: Unavailable) -> None:
        """A device could not be opened: it is reported as one that took no record."""
        self._failed(to, error)

    def probe(self) -> None:
        """While nothing records, try; nobody sends requests to a server that is not ready."""
        if self.silent:
            self.submit(TEST_LINE, others=tuple(TEST_LINE for _ in self.other_forms))

    def submit(self, line: bytes, done: Done | None = None, others: tuple[bytes, ...] = ()) -> None:
        """Queue a line for the flush at the end of the next turn; `done(ok)` is called after it.

        What that turn brings is written along: waking a device's thread costs more than a turn.

        `others` is the same in each of `other_forms`.
        """
        if not self._lines:
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self._flush)
        self._lines.append(line)
        if self.other_forms:
            self._others.append(others)
        self._done.append(done or _nobody)

    def _flush(self) -> None:
        if not self._lines:
            return  # flushed before its time, when the devices changed
        turn = _Turn(self._lines, self._others, self._done)
        self._lines, self._others, self._done = [], [], []
        if not self.enabled:
            _call(turn.waiting, ok=not self._required)
            return
        if self._limited:
            turn = self._send_long(turn)
        if turn.lines:
            self._send(turn, self.enabled)

    def _send_long(self, turn: _Turn) -> _Turn:
        """Send what is too long for a device to those that take it; what every device takes.

        Each by itself, so that a record that nobody takes refuses no request but its own.
        """
        rest = []
        for place, line in enumerate(turn.lines):
            sizes = [
                each.too_long(_text(each, line, turn.others[place : place + 1], self.other_forms))
                for each in self.enabled
            ]
            if not any(sizes):
                rest.append(place)
                continue
            for each, size in zip(self.enabled, sizes, strict=True):
                if size:
                    self._outgrew(each, size)
            takers = [each for each, size in zip(self.enabled, sizes, strict=True) if not size]
            self._send(turn.part([place]), takers)
        return turn if len(rest) == len(turn.lines) else turn.part(rest)

    def _send(self, turn: _Turn, devices: Sequence[Enabled]) -> None:
        usual = b"".join(turn.lines)
        batches = [
            (each, each.prefixed(_text(each, usual, turn.others, self.other_forms)))
            for each in devices
        ]
        direct = [pair for pair in batches if not pair[0].device.blocking]
        slow = [pair for pair in batches if pair[0].device.blocking]
        recorded = [self._write(*pair) for pair in direct].count(True) > 0
        if not slow:
            _call(turn.waiting, ok=recorded)
            return
        outcome = _Outcome(turn.waiting, len(slow), ok=recorded)
        for each, batch in slow:
            self._lane(each).submit(batch, partial(self._answered, each, outcome))

    def _write(self, to: Enabled, lines: bytes) -> bool:
        try:
            to.device.write(lines)
        except Unavailable as error:
            self._failed(to, error)
            return False
        self._took(to)
        return True

    def _lane(self, to: Enabled) -> Lane:
        found = self._lanes.get(to.path)
        if found is None:
            found = self._lanes[to.path] = to, Lane(to.path, to.device.write, to.deadline)
        return found[1]

    def _answered(self, to: Enabled, outcome: _Outcome, error: Unavailable | None) -> None:
        if any(each is to for each in self.enabled):  # and not replaced meanwhile
            self._took(to) if error is None else self._failed(to, error)
        outcome.add(ok=error is None)

    def _took(self, to: Enabled) -> None:
        if to.path in self.failing:
            del self.failing[to.path]
            if to.path not in self._outgrown:
                _log.warning("audit device %s records again", to.path)
            self._outgrown.discard(to.path)

    def _outgrew(self, to: Enabled, size: int) -> None:
        """It was not given a record, and may work as well as ever."""
        worked = to.path not in self.failing or to.path in self._outgrown
        self._failed(to, _too_long(to.device, size))
        if worked:
            self._outgrown.add(to.path)

    def _failed(self, to: Enabled, error: Unavailable) -> None:
        self._outgrown.discard(to.path)
        self.failures[to.path] = self.failures.get(to.path, 0) + 1
        if to.path not in self.failing:
            _log.error("audit device %s: %s", to.path, error.message)
        self.failing[to.path] = error.message


def _text(
    to: Enabled, usual: bytes, others: Sequence[tuple[bytes, ...]], forms: Sequence[RecordForm]
) -> bytes:
    """The lines in the device's form; each of `others` has them in each of `forms`."""
    if to.form == DEFAULT_FORM:
        return usual
    place = forms.index(to.form)
    return b"".join(each[place] for each in others)


def _too_long(device: Device, size: int) -> Unavailable:
    return Unavailable(
        "audit-too-long",
        f"a record of {size} bytes does not fit the audit device {device.name}, "
        f"which takes {device.longest}; a file and a TCP socket take any",
    )


def _nobody(ok: bool) -> None:  # noqa: FBT001 - the broker's callback
    """Hears whether a line was recorded that nobody waits for."""


def _call(waiting: Sequence[Done], *, ok: bool) -> None:
    """Tell everyone; a bug in what one does with it is no reason to leave the others waiting."""
    for done in waiting:
        try:
            done(ok)
        except Exception as error:  # noqa: BLE001 - logged by its type, since it may hold a value
            _log.error("internal error after a record was written: %s", type(error).__name__)


class MemoryDevice:
    """The fake: keeps lines, and fails or blocks when told."""

    def __init__(self, name: str = "memory") -> None:
        self.name = name
        self.blocking = False
        self.longest = 0
        self.lines: list[bytes] = []
        self.writes = 0
        self.broken = False

    def write(self, lines: bytes) -> None:
        """Keep the lines unless `broken`."""
        self.writes += 1
        if self.broken:
            raise Unavailable("audit-unwritable", f"the audit device {self.name} is broken")
        self.lines += lines.splitlines()

    def reopen(self) -> None:
        """Nothing to open."""

    def close(self) -> None:
        """Nothing to close."""
