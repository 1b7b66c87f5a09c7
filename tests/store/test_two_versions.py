"""A server that runs while a later version brings its database up to date beside it."""

import asyncio

import pytest
from server_process import CLOCK, WRITERS, Server, nothing_is_lost, write_on

from strongroom.app.waiting import until
from strongroom.model.errors import Unavailable
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.contract import Engine
from strongroom.store.engine.postgres import PostgresEngine
from strongroom.store.engine.schema import STEPS, Step
from strongroom.store.engine.sqlite import SqliteEngine

pytestmark = pytest.mark.component

EXPANDED = (
    *STEPS,
    Step("ALTER TABLE node ADD COLUMN colour {whole} NOT NULL DEFAULT 7"),
    Step("CREATE TABLE later (id {whole} PRIMARY KEY, body {bytes} NOT NULL)"),
)
CONTRACTED = (*EXPANDED, Step("DROP TABLE consumer", oldest=len(EXPANDED), release="9.9.0"))
TOO_NEW = (
    "the database needs Strongroom 9.9.0 or newer:"
    f" it needs {len(EXPANDED)} steps of the schema, this program knows {len(STEPS)}"
)


async def migrate(server: Server, steps: tuple[Step, ...]) -> None:
    """What the start of a later version does."""
    engine: Engine
    if server.options.database:
        engine = await PostgresEngine.open(server.options.database, Barrier(), steps)
    else:
        path = server.options.data / "strongroom.db"
        engine = await asyncio.to_thread(SqliteEngine, path, Barrier(), steps)
    await engine.close()


async def test_a_server_serves_on_beside_the_next_version_and_stops_for_the_one_after(
    server: Server,
) -> None:
    sent: dict[int, int] = {}
    acked: dict[int, int] = {}
    await server.start()
    stop = asyncio.Event()
    writers = [
        asyncio.create_task(write_on(server, each, sent, acked, stop)) for each in range(WRITERS)
    ]
    for steps in (EXPANDED[:-1], EXPANDED):
        await migrate(server, steps)
        before = dict(acked)

        async def all_write(before: dict[int, int] = before) -> bool | None:
            return all(acked.get(each, 0) > before.get(each, 0) for each in range(WRITERS)) or None

        await until("all to write", all_write, CLOCK)
    stop.set()
    await asyncio.gather(*writers)
    # Nobody was refused meanwhile.
    assert sent == acked
    await nothing_is_lost(server, sent, acked)
    # It starts on that database too.
    server.kill()
    await server.start()
    await nothing_is_lost(server, sent, acked)

    await migrate(server, CONTRACTED)
    refusal = {"errors": [f"{TOO_NEW}; start that version; nothing was changed"]}
    for _ in range(3):
        for method, path in (
            ("GET", "secret/data/kill/0"),
            ("POST", "secret/data/kill/0"),
            ("GET", "auth/token/lookup-self"),
        ):
            assert await server.ask(method, path, {"data": {}}) == (503, refusal)

    async def not_ready() -> bool | None:
        reply = await server.http.request("GET", server.url("")[:-3] + "readyz")
        return (reply.status == 503 and TOO_NEW in reply.body.decode()) or None

    await until("the server to be not ready", not_ready, CLOCK)
    server.kill()
    with pytest.raises(Unavailable) as caught:
        await server.start()
    assert (caught.value.code, caught.value.message) == ("schema-too-new", TOO_NEW)
