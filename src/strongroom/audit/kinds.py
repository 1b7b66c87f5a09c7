"""From a device's type and options, as Vault names them, to a device in use.

Options: https://developer.hashicorp.com/vault/docs/audit/file and its neighbours. Beside them
`deadline`, `rotate_bytes` and `rotate_keep`.
"""

import contextlib
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strongroom.audit.devices import DEADLINE_SECONDS, Device, Enabled, FileDevice
from strongroom.audit.guarded import GuardedFile, within
from strongroom.audit.pipes import named_pipe, standard_output
from strongroom.audit.record import RecordForm
from strongroom.audit.sockets import SocketDevice, SyslogDevice
from strongroom.model.digits import port_number
from strongroom.model.errors import Invalid
from strongroom.model.truth import truth

TYPES: Final = ("file", "socket", "syslog", "stdout")
_SHARED: Final = {
    "log_raw", "hmac_accessor", "elide_list_responses", "prefix", "format", "deadline", "fallback",
    "filter",
}  # fmt: skip
_OWN: Final = {
    "file": {"file_path", "path", "mode", "rotate_bytes", "rotate_keep"},
    "socket": {"address", "socket_type", "write_timeout"},
    "syslog": {"facility", "tag", "address"},
    "stdout": set[str](),
}
_ANY_EXECUTE: Final = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH


# How a file is opened: given the deadline, the path, and what opens it.
Opening = Callable[[float, str, Callable[[], Device]], Device]


@dataclass(frozen=True, slots=True)
class Asked:
    """A device as configuration or API name it."""

    path: str
    type: str
    options: Mapping[str, str]
    description: str = ""


def at_once(seconds: float, name: str, work: Callable[[], Device]) -> Device:  # noqa: ARG001
    """Opens where it is called, in a thread that may hang."""
    return work()


def enable(
    asked: Asked, *, fixed: bool, opening: Opening = within, stand_in: Device | None = None
) -> Enabled:
    """The device in use; raises Invalid(`bad-audit-device`) or Unavailable.

    One that is not `fixed` was asked for by the API: it gets no prefix of the caller's choice and
    no file that is something else, because a log is a way to write into files. A `stand_in` is
    used as it is, and nothing is opened.
    """
    options = asked.options
    if asked.type not in TYPES:
        raise _bad(f"unknown backend type: {asked.type!r}")
    unknown = sorted(set(options) - _SHARED - _OWN[asked.type])
    if unknown:
        raise _bad(f"unknown option {unknown[0]!r} for an audit device of type {asked.type}")
    if options.get("format", "json") != "json":
        raise _bad("the only format is json")
    if any("\0" in each for each in options.values()):
        raise _bad("an option has a zero byte in it")
    if options.get("filter") or _flag(options, "fallback"):
        raise _bad("filter and fallback are not supported")
    deadline = _seconds(options.get("deadline") or options.get("write_timeout"))
    if not fixed and stand_in is None:
        _check_from_api(asked)
    form = RecordForm(
        log_raw=_flag(options, "log_raw"),
        hmac_accessor=_flag(options, "hmac_accessor", default=True),
        elide_lists=_flag(options, "elide_list_responses"),
    )
    prefix = options.get("prefix", "").encode()
    device = stand_in or _device(asked, deadline, opening)
    return Enabled(
        asked.path, device, asked.type, form, prefix, deadline, options, asked.description, fixed
    )


def _device(asked: Asked, deadline: float, opening: Opening) -> Device:
    options = asked.options
    if asked.type == "stdout":
        return standard_output(deadline)
    if asked.type == "syslog":
        try:
            return SyslogDevice(
                options.get("facility", "AUTH"), options.get("tag", "vault"),
                options.get("address", "/dev/log"), deadline,
            )  # fmt: skip
        except KeyError:
            raise _bad(f"unknown syslog facility {options['facility']!r}") from None
    if asked.type == "socket":
        kind = options.get("socket_type", "tcp")
        if kind not in ("tcp", "udp", "unix") or not options.get("address"):
            raise _bad("a socket device needs address, and socket_type tcp, udp or unix")
        if kind != "unix":
            _check_address(options["address"])
        return SocketDevice(kind, options["address"], deadline)
    return _file(options, deadline, opening)


def _check_address(address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        # A port beyond 65535 is another one to the system, and so another program's.
        good = bool(port_number(port))
        # As it is looked up: no label is empty or longer than 63 bytes.
        host.strip("[]").encode("idna")
    except ValueError:
        good = False
    if not good:
        raise _bad("the address of a socket device is HOST:PORT, with a port from 1 to 65535")


def _file(options: Mapping[str, str], deadline: float, opening: Opening) -> Device:
    path = options.get("file_path") or options.get("path") or ""
    if not path:
        raise _bad("file_path is required")
    if path in ("stdout", "/dev/stdout"):
        return standard_output(deadline)
    if path == "discard":
        path = "/dev/null"
    try:
        # 0000 leaves a file that is there as it is, and so does no mode.
        mode = int(options.get("mode") or "0", 8)
        size, keep = int(options.get("rotate_bytes", 0)), int(options.get("rotate_keep", 10))
    except ValueError:
        raise _bad("mode is octal, rotate_bytes and rotate_keep are numbers") from None
    if mode & _ANY_EXECUTE or mode > 0o777:
        raise _bad("an audit file is never executable")
    if size < 0 or keep < 1:
        # Taken as they stand they would rotate at each record, or keep one file alone.
        raise _bad("rotate_bytes is 0, for never, or more, and rotate_keep is 1 or more")

    def opened() -> Device:
        with contextlib.suppress(OSError):
            if stat.S_ISFIFO(Path(path).stat().st_mode):
                return named_pipe(Path(path), deadline)
        return GuardedFile(FileDevice(Path(path), mode=mode or None, rotate_bytes=size, keep=keep))

    return opening(deadline, path, opened)


def _check_from_api(asked: Asked) -> None:
    if asked.options.get("prefix"):
        raise _bad("a prefix can only be set in the server's configuration")
    if asked.type != "file":
        return
    path = Path(asked.options.get("file_path") or asked.options.get("path") or "")
    try:
        found = path.stat()
    except OSError:
        return
    if not stat.S_ISREG(found.st_mode):
        return
    if found.st_mode & _ANY_EXECUTE:
        raise _bad(f"{path} is executable")
    with path.open("rb") as source:
        if source.read(1) not in (b"", b"{"):
            raise _bad(f"{path} is there and is not an audit log")


def _flag(options: Mapping[str, str], name: str, *, default: bool = False) -> bool:
    try:
        return truth(options.get(name, default) or False)
    except ValueError:
        raise _bad(f"{name} must be true or false") from None


def _seconds(text: str | None) -> float:
    if not text:
        return DEADLINE_SECONDS
    try:
        seconds = float(text[:-2]) / 1000 if text.endswith("ms") else float(text.removesuffix("s"))
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 30:
        raise _bad("a deadline is between 1ms and 30s")
    return seconds


def _bad(what: str) -> Invalid:
    return Invalid("bad-audit-device", what, hint="docs/store-operations.md, Audit devices")
