"""Unary gRPC on a unix socket: bounds, and what clients of other makes send as authority."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import grpc.aio
import pytest

from strongroom.model.errors import Denied, Invalid, NotFound, TooLarge, Unavailable
from strongroom.wire.grpc_unix import MAX_MESSAGE_BYTES, UnixServer, call_unix

SERVICE = "test.Service"
REFUSALS = {
    "invalid_argument": Invalid("a", "malformed"),
    "permission_denied": Denied("b", "not allowed"),
    "not_found": NotFound("c", "not there"),
    "unavailable": Unavailable("d", "away"),
}


class Gate:
    """Methods that wait until they are let through, and one that refuses as it is told."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.inside = 0

    async def wait(self, message: bytes) -> bytes:
        self.inside += 1
        await self.open.wait()
        return message

    async def refuse(self, message: bytes) -> bytes:
        raise REFUSALS[message.decode()]

    async def echo(self, message: bytes) -> bytes:
        return message


@pytest.fixture
async def served() -> AsyncIterator[tuple[Path, Gate]]:
    gate = Gate()
    methods = {"Wait": gate.wait, "Refuse": gate.refuse, "Echo": gate.echo}
    with tempfile.TemporaryDirectory(prefix="sr-") as folder:
        server = UnixServer(SERVICE, methods, max_calls=4)
        await server.start(Path(folder) / "s")
        yield Path(folder) / "s", gate
        gate.open.set()
        await server.stop()


async def test_beyond_its_bound_a_call_is_refused_at_once_and_the_others_answer(served) -> None:
    path, gate = served
    waiting = [asyncio.create_task(call_unix(path, f"/{SERVICE}/Wait", b"x")) for _ in range(4)]
    while gate.inside < 4:
        await asyncio.sleep(0.01)
    with pytest.raises(Unavailable, match="resource_exhausted"):
        await call_unix(path, f"/{SERVICE}/Echo", b"x")
    gate.open.set()
    assert await asyncio.gather(*waiting) == [b"x"] * 4


@pytest.mark.parametrize("code", REFUSALS)
async def test_each_family_has_its_own_status(served, code: str) -> None:
    path, _ = served
    with pytest.raises(Unavailable, match=f"{code}: {REFUSALS[code].message}"):
        await call_unix(path, f"/{SERVICE}/Refuse", code.encode())
    assert isinstance(TooLarge("x", "y"), Invalid)


@pytest.mark.parametrize("authority", ["localhost", "/run/kms.sock", "@kms", ""])
async def test_what_api_servers_of_any_version_send_as_authority_is_taken(
    served, authority: str
) -> None:
    """From 1.32 on `localhost`, before that the socket's path (kubernetes#126929)."""
    path, _ = served
    options = [("grpc.default_authority", authority)]
    async with grpc.aio.insecure_channel(f"unix:{path}", options=options) as channel:
        reply = await channel.unary_unary(f"/{SERVICE}/Echo")(b"hello", timeout=60)
    assert reply == b"hello"


async def test_where_nothing_can_be_written_the_reason_is_told() -> None:
    for folder in ("/proc", "/sys"):
        with pytest.raises(Unavailable, match=f"cannot write {folder}/s.lock") as caught:
            await UnixServer(SERVICE, {}).start(Path(folder) / "s")
        assert caught.value.code == "socket-path"
    with tempfile.TemporaryDirectory(prefix="sr-") as folder:
        path = Path(folder) / "s"
        path.symlink_to(path)
        with pytest.raises(Unavailable, match="cannot use"):
            await UnixServer(SERVICE, {}).start(path)


@pytest.mark.parametrize(
    ("mode", "owner", "taken"),
    [
        (0o755, 0, True),
        (0o1777, 0, True),  # As /tmp: nobody takes another's file away there.
        (0o770, 0, False),
        (0o757, 0, False),
        (0o755, 1, False),
    ],
)
async def test_a_socket_lies_where_nobody_else_may_put_one(mode, owner, taken) -> None:
    if owner and os.geteuid():
        pytest.skip("only root gives a folder away")
    with tempfile.TemporaryDirectory(prefix="sr-") as name:
        folder, server = Path(name), UnixServer(SERVICE, {})
        folder.chmod(mode)
        if owner:
            os.chown(folder, owner, owner)
        if not taken:
            with pytest.raises(Unavailable, match="others may write to it") as caught:
                await server.start(folder / "s")
            assert caught.value.code == "socket-folder"
            return
        mask = os.umask(0o022)
        try:
            await server.start(folder / "s")
        finally:
            assert os.umask(mask) == 0o022
        await server.stop()


async def test_a_socket_that_was_deleted_under_a_server_is_not_served_by_another(served) -> None:
    """Each would have a part of the calls, and of two plugins each its own keys."""
    path, _ = served
    path.unlink()
    with pytest.raises(Unavailable) as caught:
        await UnixServer(SERVICE, {}).start(path)
    assert caught.value.code == "socket-in-use"


async def test_a_message_has_a_greatest_length(served) -> None:
    path, _ = served
    assert len(await call_unix(path, f"/{SERVICE}/Echo", bytes(MAX_MESSAGE_BYTES))) > 1_000_000
    with pytest.raises(Unavailable, match="resource_exhausted"):
        await call_unix(path, f"/{SERVICE}/Echo", bytes(MAX_MESSAGE_BYTES + 1))
