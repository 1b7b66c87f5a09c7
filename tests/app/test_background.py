"""What a server does beside its requests: nothing of it ends without a word, or for good."""

import asyncio
import logging
import sqlite3
from pathlib import Path

import pytest
from server_process import CLOCK, Server

from strongroom.app.background import Background
from strongroom.app.store_config.settings import DATABASE
from strongroom.app.waiting import until
from strongroom.model.clock import SimulatedClock
from strongroom.store.notices import Notices
from strongroom.wire.client import HttpClient


async def test_a_task_that_ends_by_an_error_is_said_counted_shown_and_begun_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, notices = SimulatedClock(), Notices()
    background = Background(clock, notices)
    begun, ended = 0, asyncio.Event()

    async def fails_twice() -> None:
        nonlocal begun
        begun += 1
        if begun < 3:
            raise KeyError("a value that nobody may read")
        try:
            await clock.sleep(1e6)
        finally:
            ended.set()

    with caplog.at_level(logging.INFO, "strongroom.app"):
        background.start("some watch", fails_twice)
        background.start("other watch", lambda: clock.sleep(1e6))
        await clock.advance(0)
        assert list(background.failing) == ["some watch"]
        await clock.advance(3)
    place = background.failing["some watch"].rpartition(":")[0]
    assert place == "internal error: KeyError in fails_twice"
    assert [each.partition(":")[0] for each in caplog.messages] == ["some watch ended"] * 2
    assert "nobody may read" not in caplog.text
    assert [each[-3:] for each in caplog.messages] == ["1 s", "2 s"]
    assert (begun, notices.counts["some watch"], notices.counts["other watch"]) == (3, 2, 0)
    # Shown as zero from the start, so that the first failure is a rise.
    assert "other watch" in notices.counts
    # A minute from when it began again, not from when it ended.
    await clock.advance(59.5)
    assert list(background.failing) == ["some watch"]
    await clock.advance(0.5)
    assert background.failing == {}
    assert not ended.is_set()
    background.stop()
    await asyncio.wait_for(ended.wait(), 60)


@pytest.mark.component
async def test_a_server_whose_watch_meets_what_nobody_foresaw_says_so_and_goes_on(
    tmp_path: Path,
) -> None:
    async with HttpClient() as http:
        server = Server(tmp_path, http)
        await server.start()
        try:
            database = sqlite3.connect(tmp_path / "data" / DATABASE, isolation_level=None)
            (row,) = database.execute("SELECT * FROM schema_state").fetchall()
            database.execute("DELETE FROM schema_state")

            async def ended() -> str | None:
                _, said = await server.ask("GET", "sys/health")
                found: dict[str, str] = said.get("background_failures", {})
                return found.get("cluster watch")

            said = await until("the watch to end", ended, CLOCK)
            assert said.startswith("internal error: TypeError in check_schema:")
            places = ", ".join("?" * len(row))
            database.execute(f"INSERT INTO schema_state VALUES ({places})", row)

            async def counted() -> float:
                reply = await http.request(
                    "GET", server.url("sys/metrics?format=prometheus"),
                    headers={"X-Vault-Token": server.root},
                )  # fmt: skip
                lines = [
                    each for each in reply.body.decode().splitlines()
                    if "background_failures_total{" in each and 'part="cluster watch"' in each
                ]  # fmt: skip
                return float(lines[0].split()[-1])

            assert await counted() >= 1
            # It watches again: what another process does to the cluster is seen.
            database.execute("UPDATE schema_state SET oldest = 999")

            async def seen() -> bool | None:
                reply = await http.request("GET", f"http://127.0.0.1:{server.options.port}/readyz")
                return (
                    True
                    if b"a newer Strongroom" in reply.body or b"999 steps" in reply.body
                    else None
                )

            await until("the watch to be back", seen, CLOCK)
        finally:
            server.kill()
