"""Where a store's rows lie: a folder that can be made, or the address of a PostgreSQL server."""

from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

from strongroom.model.digits import whole_number
from strongroom.model.errors import Invalid, Unavailable

_HINT: Final = "postgresql://USER@HOST:5432/NAME, and the password in PGPASSWORD"
# What `target_session_attrs` may ask for: of all servers the one that takes writes is used.
_TARGETS: Final = ("any", "primary", "read-write")


def made_folder(path: Path) -> None:
    """Make the folder where it is missing; raises Unavailable(`data-folder`)."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(
            "data-folder",
            f"cannot make the folder {path}: {error.strerror}",
            hint="name a folder that this user may write to",
        ) from error


def check_url(url: str) -> None:
    """Raises Invalid(`bad-database`) for what is no address; it is not repeated, for its password.

    Form: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS.
    """
    try:
        parts = urlsplit(url)
        # Several hosts with a port each are allowed.
        ports = [
            host.rpartition(":")[2]
            for host in parts.netloc.rpartition("@")[2].split(",")
            if ":" in host.rpartition("]")[2]
        ]
    except ValueError:
        parts, ports = urlsplit(""), []
    if parts.scheme not in ("postgresql", "postgres"):
        raise _bad("it does not begin with postgresql://")
    if any(port and whole_number(port) is None for port in ports):
        raise _bad("a port of it is no number; in a password, : / @ are written %3A %2F %40")
    for target in parse_qs(parts.query).get("target_session_attrs", ()):
        if target not in _TARGETS:
            raise _bad(
                f"it asks for target_session_attrs={target}, and of its servers only the one that"
                " takes writes is ever used",
                f"leave it out, or write one of {', '.join(_TARGETS)}",
            )


def _bad(why: str, hint: str = _HINT) -> Invalid:
    why = f"the address of the database cannot be used: {why}"
    return Invalid("bad-database", why, hint=hint)
