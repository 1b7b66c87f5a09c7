"""The port that a program is told to listen on is still free when it comes to that."""

import socket

from strongroom.app.cluster.control_plane import EPHEMERAL, LOWEST_PORT, free_port


def test_a_free_port_is_one_that_no_connection_is_given() -> None:
    first = int(EPHEMERAL.read_text().split()[0])
    found = {free_port() for _ in range(50)}
    assert len(found) > 25
    if first - LOWEST_PORT > 1000:
        assert LOWEST_PORT <= min(found) <= max(found) < first
    for port in found:
        with socket.socket() as server:
            server.bind(("127.0.0.1", port))
