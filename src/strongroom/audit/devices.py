"""Audit devices and the broker in front of them: recorded first, answered after.

The broker collects the lines of one event-loop turn, writes them to every device at once, and
then calls back. A device that fails or passes its deadline is counted out; when none has taken
the batch the callers hear `False` and the requests are refused. Nothing ever waits for ever.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from strongroom.model.errors import Unavailable

Done = Callable[[bool], None]


class Device(Protocol):
    """Somewhere records go. `blocking` devices are written from a thread under a deadline."""

    name: str
    blocking: bool

    def write(self, lines: bytes) -> None:
        """Take whole lines, or raise Unavailable(`audit-unwritable`) having taken none or some."""


class FileDevice:
    """Appends to a file, one write a batch; several processes may share the file (O_APPEND)."""

    def __init__(self, path: Path, *, mode: int = 0o600) -> None:
        self.name = str(path)
        self._path = path
        self._mode = mode
        self._handle = -1
        self._torn = False
        self.reopen()
        # A pipe or terminal may block for ever; a regular file does not.
        self.blocking = not path.is_file()

    def reopen(self) -> None:
        """Open the path anew, as after rotation; raises Unavailable(`audit-unwritable`)."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            handle = os.open(self._path, flags, self._mode)
        except OSError as error:
            raise _unwritable(self.name, error) from error
        self.close()
        self._handle = handle

    def close(self) -> None:
        """Close the file."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def write(self, lines: bytes) -> None:
        """Append; a short write is continued, and after a torn line the next begins a new one."""
        view = memoryview(b"\n" + lines if self._torn else lines)
        written = 0
        try:
            while written < len(view):
                written += os.write(self._handle, view[written:])
        except OSError as error:
            self._torn = self._torn or written > 0
            raise _unwritable(self.name, error) from error
        self._torn = False


def _unwritable(name: str, error: OSError) -> Unavailable:
    return Unavailable(
        "audit-unwritable",
        f"the audit device {name} cannot be written: {error.strerror}",
        hint="free space or repair the path; requests are refused until a device can record them",
    )


class AuditBroker:
    """Fans the lines of a turn out to the devices and answers whether one has them."""

    def __init__(self, devices: Sequence[Device], *, deadline: float = 2.0) -> None:
        self.devices = tuple(devices)
        self._deadline = deadline
        self._lines: list[bytes] = []
        self._done: list[Done] = []
        self._busy: set[str] = set()
        self.failures: dict[str, int] = {device.name: 0 for device in devices}
        self.last_error: Unavailable | None = None

    def submit(self, line: bytes, done: Done | None = None) -> None:
        """Queue a line for the flush at the end of this turn; `done(ok)` is called after it."""
        if not self._lines:
            asyncio.get_running_loop().call_soon(self._flush)
        self._lines.append(line)
        if done is not None:
            self._done.append(done)

    def _flush(self) -> None:
        lines, waiting = b"".join(self._lines), self._done
        self._lines, self._done = [], []
        direct = [device for device in self.devices if not device.blocking]
        slow = [device for device in self.devices if device.blocking]
        recorded = [self._write(device, lines) for device in direct].count(True) > 0
        if not slow:
            _call(waiting, ok=recorded)
            return
        tasks = [self._write_slowly(device, lines) for device in slow]
        task = asyncio.gather(*tasks)
        task.add_done_callback(lambda each: _call(waiting, ok=recorded or any(each.result())))

    def _write(self, device: Device, lines: bytes) -> bool:
        try:
            device.write(lines)
        except Unavailable as error:
            self.failures[device.name] += 1
            self.last_error = error
            return False
        return True

    async def _write_slowly(self, device: Device, lines: bytes) -> bool:
        if device.name in self._busy:
            # Its last write has not come back; another thread would only wait behind it.
            self.failures[device.name] += 1
            return False
        self._busy.add(device.name)
        loop = asyncio.get_running_loop()
        writing = loop.run_in_executor(None, self._write, device, lines)
        writing.add_done_callback(lambda _: self._busy.discard(device.name))
        try:
            return await asyncio.wait_for(asyncio.shield(writing), self._deadline)
        except TimeoutError:
            self.failures[device.name] += 1
            self.last_error = Unavailable(
                "audit-slow",
                f"the audit device {device.name} did not answer in {self._deadline:g} s",
            )
            return False


def _call(waiting: Sequence[Done], *, ok: bool) -> None:
    for done in waiting:
        done(ok)


class MemoryDevice:
    """The fake: keeps lines, and fails or blocks when told."""

    def __init__(self, name: str = "memory") -> None:
        self.name = name
        self.blocking = False
        self.lines: list[bytes] = []
        self.writes = 0
        self.broken = False

    def write(self, lines: bytes) -> None:
        """Keep the lines unless `broken`."""
        self.writes += 1
        if self.broken:
            raise Unavailable("audit-unwritable", f"the audit device {self.name} is broken")
        self.lines += lines.splitlines()
