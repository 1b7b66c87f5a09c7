"""IPv4 and IPv6 on one socket, and IPv4 peers by their usual addresses. For `listener`."""

import ipaddress
import socket
from typing import Final

# What an IPv4 address looks like to a socket that takes both: ::ffff:192.0.2.1.
MAPPED: Final = "::ffff:"


def both_families(port: int, *, reuse_port: bool) -> socket.socket:
    """A bound socket for `::` that takes IPv4 too, as in Vault; raises OSError."""
    made = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind(("::", port))
    except OSError:
        made.close()
        raise
    return made


def usual(address: str) -> str:
    """An address as networks, quotas and records have it: IPv4 is IPv4 wherever it came in."""
    if not address.lower().startswith(MAPPED):
        return address
    try:
        mapped = ipaddress.IPv6Address(address).ipv4_mapped
    except ValueError:
        return address
    return str(mapped) if mapped else address
