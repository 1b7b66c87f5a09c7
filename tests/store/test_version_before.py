"""The program of before the newest step of the schema, run for real beside this one and after it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from earlier_program import CLOCK, ROOT, Node, commit_before_the_newest_step, source_of
from shared_things import SETUP, THINGS, Answer

from strongroom.app.cluster.control_plane import free_port
from strongroom.app.dev.postgres import ThrowawayPostgres
from strongroom.app.waiting import until
from strongroom.store.engine.schema import STEPS
from strongroom.wire.client import HttpClient

pytestmark = [pytest.mark.component, pytest.mark.long, pytest.mark.timeout(900)]


class Shared:
    """What is there, and what is known of it."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Answer] = {}

    async def make(self, node: Node, suffix: str) -> None:
        """One thing of each kind."""

        async def one(kind: str) -> None:
            name = f"{kind}{suffix}"
            self._known[kind, name] = await THINGS[kind].make(node, name)

        await asyncio.gather(*(one(kind) for kind in THINGS))

    async def change(self, node: Node) -> None:
        """Everything, in a way that only whoever reads it as it is can."""

        async def one(kind: str, name: str, known: Answer) -> None:
            self._known[kind, name] = await THINGS[kind].change(node, name, known)

        await asyncio.gather(*(one(*key, known) for key, known in self._known.items()))

    async def hold(self, *nodes: Node) -> None:
        """That every node says what is known of everything."""
        for node in nodes:
            await asyncio.gather(
                *(
                    THINGS[kind].holds(node, name, known)
                    for (kind, name), known in self._known.items()
                )
            )


@pytest.fixture
async def before(tmp_path: Path) -> AsyncIterator[Node]:
    """A node of the version before, not started."""
    source = source_of(commit_before_the_newest_step(), tmp_path / "before")
    async with HttpClient() as http:
        node = Node("before", source, tmp_path / "data", tmp_path / "key", http)
        yield node
        node.kill()


@pytest.fixture
def after(before: Node) -> AsyncIterator[Node]:
    """A node of this version on the same folder, not started."""
    node = replace(before, name="after", source=ROOT / "src")
    yield node
    node.kill()


def taken(server: ThrowawayPostgres, database: str) -> int:
    return int(server.query("SELECT taken FROM schema_state", database))


async def sealed_anew(node: Node) -> None:
    """Every row, by the newest term of the key ring."""

    async def done() -> bool | None:
        return (await node.done("GET", "sys/rotate/status"))["data"]["done"] or None

    await until("the rows to be sealed anew", done, CLOCK)
    assert not (await node.done("GET", "sys/rotate/status"))["data"]["damaged"]


async def test_both_serve_one_postgresql_whoever_is_killed(
    before: Node, after: Node, postgres_server: ThrowawayPostgres, postgres_url: str
) -> None:
    database = postgres_url.partition("@/")[2].partition("?")[0]
    before.database = after.database = postgres_url
    after.data, after.port = before.data.with_name("data-after"), free_port()
    shared = Shared()
    await before.start()
    assert taken(postgres_server, database) < len(STEPS)
    for path, body in SETUP:
        await before.done("POST", path, body)
    await shared.make(before, "0")
    # The next version comes: it takes the step, and the one before serves on.
    after.root = before.root
    await after.start()
    assert taken(postgres_server, database) == len(STEPS)
    await shared.hold(after, before)
    await shared.make(after, "1")
    await shared.hold(before)
    for writer, reader in ((after, before), (before, after)):
        await shared.change(writer)
        await shared.hold(reader, writer)
    # Either is killed, and the other serves on meanwhile; the one before starts here as well.
    for killed, other in ((before, after), (after, before)):
        killed.kill()
        await shared.change(other)
        await killed.start()
        await shared.hold(killed, other)
    for rotating, other in ((after, before), (before, after)):
        await rotating.done("PUT", "sys/rotate")
        await shared.hold(other)
        await shared.change(other)
        await shared.change(rotating)
        await shared.hold(other, rotating)
    await sealed_anew(after)
    await shared.hold(before, after)
    before.stop()
    await shared.change(after)
    await shared.hold(after)


async def test_they_follow_each_other_on_one_sqlite_folder(before: Node, after: Node) -> None:
    shared = Shared()
    await before.start()
    for path, body in SETUP:
        await before.done("POST", path, body)
    await shared.make(before, "0")
    before.stop()
    after.root = before.root
    for number, node in enumerate((after, before, after), 1):
        await node.start()
        await shared.hold(node)
        await shared.change(node)
        await shared.make(node, str(number))
        await node.done("PUT", "sys/rotate")
        await shared.hold(node)
        node.kill()
