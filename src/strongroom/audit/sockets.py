"""Devices that are somebody else's program: a TCP, UDP or unix socket, and syslog.

Each write has the device's deadline; after a failure the connection is made anew, so that a
record never begins in the middle of another. Syslog lines are RFC 3164 as the local daemon reads.
"""

import os
import socket
import time
from typing import Final

from strongroom.audit.devices import unwritable

# What a UDP datagram over IPv4 holds: 65,535 bytes less its own header and IP's (RFC 768, 791).
LONGEST_DATAGRAM: Final = 65_507
# What Linux keeps for itself of a unix socket's send buffer.
_UNIX_OVERHEAD: Final = 32
_FACILITIES: Final = {
    name: number
    for number, name in enumerate(
        ("KERN", "USER", "MAIL", "DAEMON", "AUTH", "SYSLOG", "LPR", "NEWS", "UUCP", "CRON",
         "AUTHPRIV", "FTP")
    )
} | {f"LOCAL{number}": 16 + number for number in range(8)}  # fmt: skip
_INFO: Final = 6


class SocketDevice:
    """`kind` is tcp, udp or unix; `address` HOST:PORT or a path."""

    def __init__(self, kind: str, address: str, deadline: float) -> None:
        self.name = f"{kind}://{address}"
        self.blocking = True
        self.longest = LONGEST_DATAGRAM if kind == "udp" else 0
        self._kind = kind
        self._address = address
        self._deadline = deadline
        self._socket: socket.socket | None = None

    def write(self, lines: bytes) -> None:
        """Send whole lines, one datagram each over UDP, where a longer one is refused."""
        try:
            sending = self._connected()
            if self._kind == "udp":
                for line in lines.splitlines():
                    sending.send(line)
            else:
                sending.sendall(lines)
        except OSError as error:
            self.close()
            raise unwritable(self.name, error) from error

    def _connected(self) -> socket.socket:
        if self._socket is not None:
            if self._kind == "udp" or not _has_ended(self._socket):
                return self._socket
            self.close()
        if self._kind == "unix":
            made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            made.settimeout(self._deadline)
            made.connect(self._address)
        elif self._kind == "udp":
            host, _, port = self._address.rpartition(":")
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            made = socket.socket(family, socket.SOCK_DGRAM)
            made.settimeout(self._deadline)
            made.connect((host.strip("[]"), int(port)))
        else:
            host, _, port = self._address.rpartition(":")
            made = socket.create_connection((host.strip("[]"), int(port)), self._deadline)
        made.settimeout(self._deadline)
        self._socket = made
        return made

    def reopen(self) -> None:
        """Connect anew at the next write."""
        self.close()

    def close(self) -> None:
        """Let the connection go."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _has_ended(connection: socket.socket) -> bool:
    """Whether the peer has closed: what is sent then would be lost without an error."""
    deadline = connection.gettimeout()
    # With a deadline `recv` waits for the peer to say something, whatever its flags are.
    connection.setblocking(False)
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(deadline)


def _unix_datagram() -> int:
    """How many bytes a datagram to a unix socket has at most: unix(7), SO_SNDBUF."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as trial:
        return trial.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) - _UNIX_OVERHEAD


def _stamp() -> str:
    return time.strftime("%b %e %H:%M:%S ")


class SyslogDevice:
    """The machine's syslog daemon by its socket."""

    def __init__(
        self, facility: str = "AUTH", tag: str = "vault", address: str = "/dev/log",
        deadline: float = 2.0,
    ) -> None:  # fmt: skip
        """Raises KeyError for an unknown facility."""
        self.name = f"syslog:{address}"
        self.blocking = True
        self._head = f"<{_FACILITIES[facility.upper()] * 8 + _INFO}>"
        self._tag = f"{tag}[{os.getpid()}]: "
        self.longest = _unix_datagram() - len(self._head + self._tag + _stamp())
        self._address = address
        self._deadline = deadline
        self._socket: socket.socket | None = None

    def write(self, lines: bytes) -> None:
        """One datagram a line."""
        head = f"{self._head}{_stamp()}{self._tag}".encode()
        try:
            if self._socket is None:
                made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                made.settimeout(self._deadline)
                made.connect(self._address)
                self._socket = made
            for line in lines.splitlines():
                self._socket.send(head + line)
        except OSError as error:
            self.close()
            raise unwritable(self.name, error) from error

    def reopen(self) -> None:
        """Connect anew at the next write."""
        self.close()

    def close(self) -> None:
        """Let the connection go."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
