"""A server that can write no more ends, so that its supervisor starts one that can."""

import asyncio
import dataclasses
import os
from pathlib import Path

import pytest

from strongroom.app.before_start import prepare
from strongroom.app.cluster.control_plane import free_port
from strongroom.app.server import Opened, Worker, opens_by_itself, serve
from strongroom.app.store_config.flags import ServerOptions
from strongroom.app.store_config.settings import ServerSettings
from strongroom.model.clock import SystemClock
from strongroom.model.errors import Unavailable
from strongroom.store.engine.contract import Transaction
from strongroom.store.engine.sqlite import SqliteEngine
from strongroom.wire.client import HttpClient

SECONDS = 60.0


@pytest.fixture
def settings(tmp_path: Path) -> ServerSettings:
    data = tmp_path / "data"
    return ServerOptions(
        data, "127.0.0.1", free_port(), tmp_path / "key", tmp_path / "audit.log", None
    ).settings


def harm(parts: Opened) -> None:
    """End the thread that writes: the lock that it holds cannot be given back."""
    engine = parts.engine
    assert isinstance(engine, SqliteEngine)

    def work(_: Transaction) -> None:
        broken = os.open("/", os.O_PATH)
        os.dup2(broken, engine._writer._turn)
        os.close(broken)

    writing = asyncio.ensure_future(engine.transact(work))
    writing.add_done_callback(lambda done: done.exception())


# That a thread dies is what this is about.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_server_whose_writer_has_ended_ends_and_one_that_follows_writes(
    settings: ServerSettings,
) -> None:
    await prepare(settings, SystemClock())
    opened: list[Opened] = []

    async def begin(parts: Opened) -> None:
        opened.append(parts)

    async def started() -> asyncio.Task[None]:
        ready = asyncio.Event()
        made = asyncio.create_task(serve(settings, Worker(ready=ready.set), begin=begin))
        async with asyncio.timeout(SECONDS):
            await ready.wait()
        return made

    serving = await started()
    harm(opened[0])
    async with asyncio.timeout(SECONDS):
        with pytest.raises(Unavailable, match="wrote nothing any more") as ended:
            await serving
    assert ended.value.code == "writing-ended"
    # Whoever was let go can be followed at once, on the same port and the same database.
    again = await started()
    await opened[1].engine.transact(lambda each: each.put_policy("after", "text"))
    async with HttpClient() as http:
        reply = await http.request("GET", f"{settings.listeners[0].url}/readyz")
    assert reply.status == 200
    again.cancel()
    await asyncio.wait([again])
    await opened[1].engine.close()


def test_one_that_only_holders_of_keys_can_open_goes_on(settings: ServerSettings) -> None:
    shamir = dataclasses.replace(settings, seal=None)
    joining = dataclasses.replace(shamir, join_key_file=Path("key"))
    assert opens_by_itself(settings, Worker())
    assert opens_by_itself(joining, Worker())
    assert opens_by_itself(shamir, Worker(count=2))
    assert not opens_by_itself(shamir, Worker())
