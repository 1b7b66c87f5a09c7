"""X-Forwarded-For: who is believed, and which of its addresses is the client's."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.model.errors import Invalid
from strongroom.wire.forwarded import ForwardedFor, client_of

PROXIES = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("::1/128"))
RULES = ForwardedFor(PROXIES)
LENIENT = ForwardedFor(PROXIES, needed=False, trusted_only=False)


@pytest.mark.parametrize(
    ("peer", "header", "rules", "client"),
    [
        ("10.0.0.1", "192.0.2.1", RULES, "192.0.2.1"),
        ("::1", "2001:db8::1", RULES, "2001:db8::1"),
        # What the client itself wrote stands to the left of what the proxy saw.
        ("10.0.0.1", "127.0.0.1, 192.0.2.1", RULES, "192.0.2.1"),
        ("10.0.0.1", "127.0.0.1, 192.0.2.1, 10.0.0.2", ForwardedFor(PROXIES, 1), "192.0.2.1"),
        ("192.0.2.9", "127.0.0.1", LENIENT, "192.0.2.9"),
        ("10.0.0.1", None, LENIENT, "10.0.0.1"),
        ("192.0.2.9", None, RULES, None),
        ("192.0.2.9", "127.0.0.1", RULES, None),
        ("", "127.0.0.1", RULES, None),
        ("10.0.0.1", None, RULES, None),
        ("10.0.0.1", "", RULES, None),
        ("10.0.0.1", "somebody", RULES, None),
        ("10.0.0.1", "192.0.2.1,", RULES, None),
        # A proxy that takes both families on one socket writes IPv4 so.
        ("10.0.0.1", "::ffff:192.0.2.1", RULES, "192.0.2.1"),
        ("10.0.0.1", "0:0:0:0:0:ffff:c000:201", RULES, "192.0.2.1"),
        # Behind a percent sign an address of IPv6 may have any text.
        ("10.0.0.1", "fe80::1%eth0", RULES, None),
        ("10.0.0.1", 'fe80::1%"}}', RULES, None),
        ("10.0.0.1", "192.0.2.1", ForwardedFor(PROXIES, 1), None),
    ],
)
def test_a_trusted_proxy_says_who_its_client_is(peer, header, rules, client) -> None:
    if client is not None:
        assert client_of(peer, header, rules) == client
        return
    with pytest.raises(Invalid):
        client_of(peer, header, rules)


@given(st.text(max_size=40), st.ip_addresses())
def test_what_a_client_writes_does_not_change_what_its_proxy_saw(written, seen) -> None:
    plain = getattr(seen, "ipv4_mapped", None) or seen
    assert client_of("10.0.0.1", f"{written}, {seen}", RULES) == str(plain)
