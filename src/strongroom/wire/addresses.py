"""IPv4 and IPv6 on one socket, and IPv4 peers by their usual addresses. For `listener`."""

import asyncio
import errno
import ipaddress
import socket
from typing import Any, Final

# What an IPv4 address looks like to a socket that takes both: ::ffff:192.0.2.1.
MAPPED: Final = "::ffff:"
# All addresses of IPv6, and with them those of IPv4, as in Vault.
ALL: Final = "::"


# Where clouds tell a machine or a pod who it is, beside the link-local addresses: AWS and Google
# by IPv6, Azure's host, Alibaba, Oracle.
_METADATA: Final = frozenset(
    {
        "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "168.63.129.16", "100.100.100.200",
        "192.0.0.192",
    }
)  # fmt: skip
# IPv6 addresses that a network translates to the IPv4 address at their end (RFC 6052).
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")


def is_metadata(address: str) -> bool:
    """Whether an address may be a cloud's metadata service, which hands out identities. Pure."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    if found in _NAT64:
        mapped = ipaddress.IPv4Address(int(found) & 0xFFFF_FFFF)
    found = mapped or found
    return found.is_link_local or str(found) in _METADATA


async def bound(host: str, port: int, *, reuse_port: bool) -> list[socket.socket]:
    """A bound socket for each address of a host; raises OSError.

    One for `::` takes IPv4 too. An address that this machine does not have is passed over where
    it has another.
    """
    found = await asyncio.get_running_loop().getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    made: list[socket.socket] = []
    absent: OSError | None = None
    for family, _, protocol, _, address in dict.fromkeys(found):
        try:
            # An event loop sends small replies at once where a socket says that it is TCP's.
            opened = socket.socket(family, socket.SOCK_STREAM, protocol)
            made.append(_bound(opened, address, both=host == ALL, reuse_port=reuse_port))
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                for each in made:
                    each.close()
                raise
            absent = error
    if not made and absent is not None:
        raise absent
    return made


def _bound(
    made: socket.socket,
    address: Any,  # noqa: ANN401 - as getaddrinfo gives it
    *,
    both: bool,
    reuse_port: bool,
) -> socket.socket:
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if made.family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if both else 1)
        made.bind(address)
    except OSError:
        made.close()
        raise
    return made


def peer_of(name: object) -> tuple[str, int]:
    """Address and port of a socket's `peername`; "" and 0 for a unix socket's, which has none."""
    return (usual(name[0]), name[1]) if isinstance(name, tuple) else ("", 0)


def usual(address: str) -> str:
    """An address as networks, quotas and records have it: IPv4 is IPv4 wherever it came in."""
    if not address.lower().startswith(MAPPED):
        return address
    try:
        mapped = ipaddress.IPv6Address(address).ipv4_mapped
    except ValueError:
        return address
    return str(mapped) if mapped else address
