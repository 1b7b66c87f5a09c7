"""PostgreSQL fails over to its standby under load: what callers read, and that nothing is lost."""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from server_process import CLOCK, Server, harm_while_writing

from strongroom.app.dev.postgres import ThrowawayPostgres
from strongroom.app.waiting import until
from strongroom.model.errors import Unavailable
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.postgres import READ_SECONDS, PostgresEngine
from strongroom.wire.client import HttpClient

pytestmark = [pytest.mark.component, pytest.mark.timeout(600)]

Pair = tuple[ThrowawayPostgres, ThrowawayPostgres, str]
UNCONFIRMED = (
    "the database did not confirm the write in time; it may be there or not: read it again;"
    " see that PostgreSQL's standbys stream"
)
CUT_ALL = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE datname = 'strongroom' AND pid <> pg_backend_pid()"
)


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A primary, a standby that confirms each commit, and the URL of both, standby first."""
    folder = Path(tempfile.mkdtemp(prefix="sr-pg-"))
    folder.chmod(0o755)
    primary = ThrowawayPostgres(folder / "a")
    started = [primary]
    try:
        primary.start()
        primary.create_database("strongroom")
        standby = primary.copy_to(folder / "b")
        started.append(standby)
        standby.start()
        primary.query("ALTER SYSTEM SET synchronous_standby_names = 'b'")
        primary.query("SELECT pg_reload_conf()")
        hosts = f"host={folder}/b,{folder}/a"
        yield primary, standby, f"postgresql://postgres@/strongroom?{hosts}"
    finally:
        for each in started:
            each.resume()
            each.kill()
        shutil.rmtree(folder, ignore_errors=True)


async def in_step(primary: ThrowawayPostgres) -> None:
    async def streams() -> bool | None:
        state = await asyncio.to_thread(primary.query, "SELECT sync_state FROM pg_stat_replication")
        return state == "sync" or None

    await until("the standby to confirm commits", streams, CLOCK)


@pytest.mark.parametrize("end", ["kill", "pause"])
async def test_a_failover_loses_no_acknowledged_write_and_the_old_primary_is_not_used_again(
    pair: Pair, tmp_path: Path, end: str
) -> None:
    primary, standby, url = pair
    await in_step(primary)
    async with HttpClient() as http:
        server = Server(tmp_path, http, database=url)

        async def fail_over() -> None:
            await CLOCK.sleep(0.2)
            (primary.kill if end == "kill" else primary.pause)()
            began = CLOCK.monotonic()
            assert (await server.ask("GET", "secret/data/kill/0"))[0] == 503
            assert CLOCK.monotonic() - began < 20

            async def told() -> bool | None:
                status, said = await server.ask("GET", "secret/data/kill/0")
                assert status == 503
                return "the server that answers is a standby" in said["errors"][0] or None

            # With the primary dead or silent the standby answers, and is not used.
            await until("the node to see the standby", told, CLOCK)
            began = CLOCK.monotonic()
            for method, path in (
                ("GET", "secret/data/kill/1"),
                ("POST", "secret/data/kill/x"),
            ) * 10:
                assert (await server.ask(method, path, {"data": {}}))[0] == 503
            # Not each of them has waited for its deadline.
            assert CLOCK.monotonic() - began < 20 * READ_SECONDS / 2
            await asyncio.to_thread(standby.promote)

        try:
            await harm_while_writing(server, 1, fail_over)
            since = CLOCK.now()
            await asyncio.to_thread(primary.start if end == "kill" else primary.resume)
            for number in range(5):
                # Whenever the node connects anew both take writes: it finds the newer one.
                await asyncio.to_thread(standby.query, CUT_ALL)
                body = {"data": {"n": number}}

                async def written(body: dict = body) -> bool | None:
                    return (await server.ask("POST", "secret/data/n", body))[0] == 200 or None

                await until("a write", written, CLOCK)
                status, said = await server.ask("GET", "secret/data/n")
                assert (status, said["data"]["data"]) == (200, {"n": number})
            # Alone the old primary would hold each commit for a standby that is none any more. It
            # does so with those it was stopped in the middle of, which nobody was told are done.
            tried = (
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
                f" AND backend_start > to_timestamp({since})"
            )
            assert await asyncio.to_thread(primary.query, tried) == "0"
        finally:
            server.kill()


async def test_a_node_that_starts_anew_uses_the_new_primary_however_late_it_answers(
    pair: Pair,
) -> None:
    primary, standby, url = pair
    await in_step(primary)
    primary.kill()
    await asyncio.to_thread(standby.promote)
    # Nobody has fenced the old one: it is back, takes writes, and is the first to answer.
    await asyncio.to_thread(primary.start)
    standby.pause()
    opening = asyncio.create_task(PostgresEngine.open(url, Barrier()))
    await CLOCK.sleep(0.3)
    standby.resume()
    engine = await opening
    try:
        async with engine._connections.lend(READ_SECONDS) as connection:
            (timeline,) = await connection.fetchrow(
                "SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)"
            )
        assert int(timeline, 16) == 2
    finally:
        await engine.close()


async def test_a_commit_that_the_standby_did_not_confirm_is_not_acknowledged(
    pair: Pair, tmp_path: Path
) -> None:
    primary, standby, url = pair
    await in_step(primary)
    async with HttpClient() as http:
        server = Server(tmp_path, http, database=url)
        try:
            await server.start()
            assert (await server.ask("POST", "secret/data/a", {"data": {"k": "v"}}))[0] == 200
            standby.pause()
            asked = asyncio.create_task(server.ask("POST", "secret/data/a", {"data": {"k": "w"}}))
            cancel = (
                "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity"
                " WHERE wait_event = 'SyncRep'"
            )

            async def answered() -> bool | None:
                # Not once: what commits first may be the node's own.
                await asyncio.to_thread(primary.query, cancel)
                return asked.done() or None

            await until("the commit to wait, and be cancelled", answered, CLOCK)
            assert await asked == (503, {"errors": [UNCONFIRMED]})
            # Whom nobody cancels hears the same before long, and reads go on.
            body = {"data": {"k": "w"}}
            assert await server.ask("POST", "secret/data/a", body) == (
                503,
                {"errors": [UNCONFIRMED]},
            )
            assert (await server.ask("GET", "secret/data/a"))[0] == 200
            standby.resume()

            async def written() -> bool | None:
                body = {"data": {"k": "x"}}
                return (await server.ask("POST", "secret/data/a", body))[0] == 200 or None

            await until("a write", written, CLOCK)
        finally:
            server.kill()


async def test_a_node_that_finds_only_a_standby_does_not_start(pair: Pair, tmp_path: Path) -> None:
    primary, _, url = pair
    primary.kill()
    async with HttpClient() as http:
        with pytest.raises(Unavailable) as caught:
            await Server(tmp_path, http, database=url).start()
    assert str(caught.value) == (
        "the database takes no writes: the server that answers is a standby [storage-standby];"
        " the node goes on when it is promoted or another server of the URL answers"
    )
