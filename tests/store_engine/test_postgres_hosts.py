"""Which servers a PostgreSQL URL names."""

import pytest

from strongroom.model.errors import Invalid
from strongroom.store.engine._hosts import servers_of


@pytest.mark.parametrize(
    ("url", "servers"),
    [
        ("postgresql://u@h/db", ()),
        ("postgresql:///db?host=/run/a", ()),
        ("postgresql:///db", ()),
        ("postgresql://u:p@a,b/db", (("a", 5432), ("b", 5432))),
        ("postgresql://u:p%40x@a:1,b:2/db?sslmode=require", (("a", 1), ("b", 2))),
        ("postgresql://u@[2001:db8::1]:6432,[::1]/db", (("2001:db8::1", 6432), ("::1", 5432))),
        ("postgresql://u@/db?host=/run/a,/run/b", (("/run/a", 5432), ("/run/b", 5432))),
        ("postgresql://u@/db?host=a,b&port=7", (("a", 7), ("b", 7))),
        ("postgresql://u@/db?port=7,8&host=a,b", (("a", 7), ("b", 8))),
    ],
)
def test_hosts_and_ports_of_a_url(url: str, servers: tuple[tuple[str, int], ...]) -> None:
    assert servers_of(url) == servers


@pytest.mark.parametrize(
    "url",
    ["postgresql://a:x,b/db", "postgresql://a:²,b/db", "postgresql:///db?host=a,b,c&port=1,2"],
)
def test_ports_that_fit_no_host_are_refused(url: str) -> None:
    with pytest.raises(Invalid, match="do not fit its hosts"):
        servers_of(url)
