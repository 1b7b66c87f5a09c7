"""The servers that a PostgreSQL URL names; pure.

Form: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-MULTIPLE-HOSTS - hosts by
comma where one would stand, in the authority or in `host=` and `port=` of the query.
"""

from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

from strongroom.model.digits import whole_number
from strongroom.model.errors import Invalid

PORT: Final = 5432

# How long libpq waits, and when it asks whether a peer is alive. Both are decided here.
_WAITS: Final = (
    "connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count",
    "tcp_user_timeout",
)  # fmt: skip

# Files of TLS.
_FILES: Final = ("sslrootcert", "sslcert", "sslkey", "sslcrl")

Server = tuple[str, int]


def servers_of(url: str) -> tuple[Server, ...]:
    """Host (or folder of a socket) and port of each; () for a URL that names one or none.

    Raises Invalid(`bad-database-url`) for ports that are no numbers or do not fit the hosts.
    """
    parts = urlsplit(url)
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    named = parts.netloc.rpartition("@")[2]
    if named:
        pairs = [_host_and_port(each) for each in named.split(",")]
        hosts, ports = [host for host, _ in pairs], [port for _, port in pairs]
    else:
        hosts = query.get("host", "").split(",")
        ports = query.get("port", "").split(",")
    if len(hosts) < 2:
        return ()
    if len(ports) == 1:
        ports *= len(hosts)
    if len(ports) != len(hosts) or any(each and whole_number(each) is None for each in ports):
        raise Invalid(
            "bad-database-url",
            "the ports of the database's URL do not fit its hosts",
            hint="one port for all, or one for each: postgresql://user@a:5432,b:5432/name",
        )
    return tuple((host, int(port or PORT)) for host, port in zip(hosts, ports, strict=True))


def _host_and_port(text: str) -> tuple[str, str]:
    # An IPv6 address stands in brackets, and has colons of its own.
    head, bracket, tail = text.rpartition("]")
    if bracket:
        return head.removeprefix("["), tail.removeprefix(":")
    host, _, port = text.partition(":")
    return unquote(host), port


def without_waits(url: str) -> str:
    """The URL without words that a driver other than libpq would hand to the server."""
    place, _, query = url.partition("?")
    kept = "&".join(each for each in query.split("&") if each.partition("=")[0] not in _WAITS)
    return f"{place}?{kept}" if kept else place


def files_of(url: str) -> tuple[str, ...]:
    """The files that the URL names."""
    query = parse_qs(urlsplit(url).query)
    return tuple(query[each][-1] for each in _FILES if each in query)
