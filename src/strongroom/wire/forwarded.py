"""Whose request a proxy passes on: `X-Forwarded-For`, believed of trusted proxies alone. Pure.

Each proxy appends the address it was asked from, so the list is read from its end; what is further
to the left was written by whoever asked, who may write anything.
Settings: https://developer.hashicorp.com/vault/docs/configuration/listener/tcp.
"""

import contextlib
import ipaddress
from dataclasses import dataclass
from typing import Final

from strongroom.model.errors import Invalid
from strongroom.wire.addresses import usual

HEADER: Final = "x-forwarded-for"
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class ForwardedFor:
    """Which proxies are trusted, how many of them stand in a row behind the first, and what is
    refused: a request without the header, and one with it from somebody who is not trusted."""

    trusted: tuple[Network, ...]
    skip: int = 0
    needed: bool = True
    trusted_only: bool = True


def client_of(peer: str, header: str | None, rules: ForwardedFor) -> str:
    """The address of the client behind the connection's; raises Invalid(`forwarded-for`)."""
    if not header:
        if rules.needed:
            raise _refusal(
                "missing x-forwarded-for header and configured to reject when not present"
            )
        return peer
    if not _is_in(peer, rules.trusted):
        if rules.trusted_only:
            raise _refusal(
                "client address not authorized for x-forwarded-for and configured to reject"
                " connection"
            )
        return peer
    chain = [each.strip() for each in header.split(",")]
    index = len(chain) - 1 - rules.skip
    if index < 0:
        raise _refusal(
            f"x-forwarded-for has {len(chain)} addresses, and {rules.skip} of them are skipped"
        )
    # A zone (`fe80::1%...`) is any text, and means something on the proxy's machine alone.
    if "%" not in chain[index]:
        with contextlib.suppress(ValueError):
            return usual(str(ipaddress.ip_address(chain[index])))
    raise _refusal("x-forwarded-for does not hold an address where the client's is")


def _is_in(peer: str, networks: tuple[Network, ...]) -> bool:
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return False
    return any(address in each for each in networks)


def _refusal(message: str) -> Invalid:
    return Invalid("forwarded-for", message)
