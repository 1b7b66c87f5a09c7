"""Bounds on what a peer may send or hold, checked before anything is parsed."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes, counts and seconds for one listener."""

    header_bytes: int = 64 * 1024
    header_fields: int = 100
    body_bytes: int = 32 * 1024 * 1024
    # Of bodies that are not whole yet, of all connections together: nobody is authenticated yet.
    buffered_bytes: int = 256 * 1024 * 1024
    # Of replies that their peers have not read, of all connections together.
    unread_bytes: int = 256 * 1024 * 1024
    # From the first byte of a request to the end of its headers, and on to the end of its body.
    header_seconds: float = 10.0
    body_seconds: float = 60.0
    # Between requests of a kept-alive connection.
    idle_seconds: float = 300.0
    connections: int = 12_000
    # Requests of one connection that may wait for their replies before it is read again.
    pipelined: int = 32
