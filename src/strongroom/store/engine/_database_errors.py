"""What PostgreSQL or its driver says, as callers hear it."""

import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import asyncpg

from strongroom.model.errors import Refusal, Unavailable

# Classes of SQLSTATE that say: not now (connection, read-only, login, conflict, resources,
# intervention, system, internal). Everything else is a bug of ours.
_NOT_NOW: Final = ("08", "25", "28", "3D", "40", "53", "55", "57", "58", "XX")
# The connection itself, whether the server or the driver says so.
_CUT: Final = "08"
# The server is being stopped, has crashed, or is starting.
_AWAY: Final = ("57P01", "57P02", "57P03")
_IDLE: Final = "25P03"
_FULL: Final = "53100"
_NO_ROOM: Final = "53300"
# A prepared statement that is gone, or that another session has made.
_POOLED: Final = ("26000", "42P05")
# A table that every start makes is not there.
_NO_TABLE: Final = "42P01"
# The role may not, or has no schema.
_NO_RIGHT: Final = ("42501", "3F000")
# Those states after which another connection may fare no better.
_GONE: Final = ("08", "25", "28", "3D", "57P")
DRIVER_ERRORS: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)


class NotPrimary(Unavailable):
    """The server that answers must not be used."""


def is_gone(error: Exception) -> bool:
    """Whether the database itself may be gone."""
    return isinstance(error, NotPrimary) or is_cut(error) or _state(error).startswith(_GONE)


def is_cut(error: Exception) -> bool:
    """Whether a connection ended, or did not answer in time."""
    # A wrong argument is an InterfaceError too, and a ValueError: a bug, not a lost connection.
    # A connection that dies in the middle of an answer can end as an InternalClientError.
    cut = isinstance(error, OSError | asyncpg.InterfaceError | asyncpg.InternalClientError)
    return cut and not (isinstance(error, ValueError) and not isinstance(error, OSError))


def is_uncertain(error: Exception) -> bool:
    """Whether a COMMIT that ended so may have been done: nobody has said that it was not.

    A server that crashes, or ends a session, may have written it before; one that ends an idle
    transaction has never heard of the COMMIT.
    """
    state = _state(error)
    ended = getattr(error, "severity_en", "") in ("FATAL", "PANIC") and state != _IDLE
    return ended or is_cut(error) or state.startswith(_CUT)


def unconfirmed(*, late: bool) -> Refusal:
    """For a write that may be there or not."""
    if late:
        return Unavailable(
            "storage-unconfirmed",
            "the database did not confirm the write in time",
            hint="it may be there or not: read it again; see that PostgreSQL's standbys stream",
        )
    return Unavailable(
        "storage-unconfirmed",
        "the connection to the database ended before the write was confirmed",
        hint="it may be there or not: read it again before you write",
    )


def refusal_of(error: Exception) -> Exception:
    """A driver's error as Unavailable; any other error as it is."""
    state = _state(error)
    if _is_tls(error):
        return _tls(error)
    if isinstance(error, asyncpg.ClientConfigurationError):
        return bad_address(str(error.args[0]))
    if is_cut(error) or state.startswith(_CUT) or state in _AWAY:
        return _gone()
    if state == _FULL:
        return Unavailable(
            "storage-full",
            "the database cannot be used: no space is left on PostgreSQL's disk (53100)",
            hint="free space there; nothing was written",
        )
    if state == _NO_ROOM:
        return Unavailable(
            "storage-connections",
            "the database cannot be used: it takes no more connections (53300)",
            hint="each worker of a node opens up to six: raise max_connections, or the limit of the"
            " role or database",
        )
    if state in _POOLED:
        return Unavailable(
            "storage-pooled",
            f"the database cannot be used: a pooler gives one session to several clients ({state})",
            hint="name PostgreSQL itself, or a pooler that keeps a session for each connection"
            " (pool_mode = session)",
        )
    if state == _NO_TABLE:
        return Unavailable(
            "storage-empty",
            f"the database cannot be used: it has no tables of this store any more ({state})",
            hint="it was made anew, or is being restored: stop the nodes, restore it, start them",
        )
    if state in _NO_RIGHT:
        return Unavailable(
            "storage-unavailable",
            f"the database cannot be used: {type(error).__name__} ({state})",
            hint="the role of the URL needs a schema that it may create tables in: GRANT USAGE,"
            " CREATE ON SCHEMA, or make it the database's owner; PostgreSQL's log names what it"
            " lacks",
        )
    if state.startswith(_NOT_NOW):
        return Unavailable(
            "storage-unavailable",
            f"the database cannot be used: {type(error).__name__} ({state})",
            hint="see PostgreSQL's log",
        )
    return error


def bad_address(why: str) -> Refusal:
    """For what the driver, or the server, does not understand of the database's URL."""
    return Unavailable(
        "storage-address",
        f"the address of the database cannot be used: {why.rstrip('.')}",
        hint="see what stands behind the ? of the URL",
    )


def missing_file(paths: Sequence[str]) -> Refusal | None:
    """For the first of these files that cannot be read: the driver does not say which, or that."""
    for path in paths:
        try:
            Path(path).open("rb").close()
        except OSError as error:
            return _no_tls(f"{path}: {error.strerror}")
    return None


def _state(error: Exception) -> str:
    state = getattr(error, "sqlstate", None)
    return state if isinstance(state, str) else ""


def _is_tls(error: Exception) -> bool:
    if isinstance(error, ssl.SSLError):
        return not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError)
    # The driver's own, of a server that has no TLS.
    return type(error) is ConnectionError and "rejected SSL upgrade" in str(error)


def _tls(error: Exception) -> Refusal:
    why = "the server has no TLS"
    if isinstance(error, ssl.SSLCertVerificationError):
        why = f"its certificate is refused: {error.verify_message}"
    elif isinstance(error, ssl.SSLError):
        why = error.reason or "the handshake failed"
    return _no_tls(why)


def _no_tls(why: str) -> Refusal:
    return Unavailable(
        "storage-tls",
        f"the database cannot be reached by TLS: {why}",
        hint="see sslmode and sslrootcert in the URL, and ssl in PostgreSQL's configuration",
    )


def _gone() -> Refusal:
    return Unavailable(
        "storage-unavailable",
        "the database cannot be reached",
        hint="see that PostgreSQL runs and accepts connections; a node that serves finds it again"
        " by itself, a start has to be repeated",
    )
