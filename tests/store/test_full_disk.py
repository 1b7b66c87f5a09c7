"""A disk that is full under a real server: what callers read, and that nothing is lost or torn."""

import asyncio
import contextlib
import errno
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest
from server_process import CLOCK, Server, fill, nothing_is_lost, value

from strongroom.app.dev.postgres import ThrowawayPostgres
from strongroom.app.waiting import until
from strongroom.model.errors import Unavailable
from strongroom.store.engine.snapshot_archive import pack, plain
from strongroom.wire.client import HttpClient

pytestmark = pytest.mark.component

Mount = Callable[..., Path]


class Writes:
    """One writer after another, each with a secret of its own; what was sent and acknowledged."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.sent: dict[int, int] = {}
        self.acked: dict[int, int] = {}

    async def one(self, writer: int) -> tuple[int, str]:
        number = self.sent[writer] = self.sent.get(writer, 0) + 1
        status, said = await asyncio.wait_for(
            self.server.ask(
                "POST", f"secret/data/kill/{writer}", {"data": value(writer, number * 60)}
            ),
            60,
        )
        if status == 200:
            self.acked[writer] = self.sent[writer]
        return status, "".join(said.get("errors", []))

    async def until_refused(self) -> str:
        for number in range(2000):
            status, said = await self.one(number % 50)
            if status != 200:
                assert status == 503
                return said
        raise AssertionError("the disk did not fill")

    async def until_taken(self, what: str) -> None:
        async def taken() -> bool | None:
            return (await self.one(0))[0] == 200 or None

        await until(what, taken, CLOCK)

    async def nothing_is_lost(self) -> None:
        scale = {key: number * 60 for key, number in self.sent.items()}
        await nothing_is_lost(
            self.server, scale, {key: number * 60 for key, number in self.acked.items()}
        )


async def test_a_full_disk_under_sqlite_refuses_writes_and_goes_on_when_there_is_space(
    mount: Mount, tmp_path: Path
) -> None:
    small = mount("4m")
    async with HttpClient() as http:
        server = Server(small, http, audit_file=tmp_path / "audit.log")
        try:
            await server.start()
            writes = Writes(server)
            await writes.one(0)
            fill(small / "filler")
            full = (
                "the database cannot be used: SQLITE_FULL;"
                " free space on the disk; nothing was written"
            )
            assert await writes.until_refused() == full
            # Every kind of write; and as often as one likes.
            for path, body in (
                ("auth/token/create", {}),
                ("sys/policies/acl/p", {"policy": 'path "x" { capabilities = ["read"] }'}),
                ("secret/data/other", {"data": {"k": "x" * 9000}}),
            ):
                status, said = await server.ask("POST", path, body)
                assert (status, said) == (503, {"errors": [full]})
            await writes.nothing_is_lost()
            assert (await server.ask("GET", "secret/data/other"))[0] == 404
            assert (await server.ask("GET", "sys/health"))[0] == 200
            (small / "filler").unlink()
            assert (await writes.one(0))[0] == 200
            fill(small / "filler")
            assert await writes.until_refused() == full
            # Who starts on a full disk serves what is there, or is told the same.
            server.kill()
            try:
                await server.start()
            except Unavailable as refusal:
                assert str(refusal).startswith(full.partition(";")[0])
                (small / "filler").unlink()
                await server.start()
            await writes.nothing_is_lost()
            (small / "filler").unlink(missing_ok=True)
            assert (await writes.one(0))[0] == 200
            await writes.nothing_is_lost()
        finally:
            server.kill()


async def test_database_and_audit_file_on_one_full_disk_serve_nothing_unrecorded(
    mount: Mount,
) -> None:
    small = mount("4m")
    async with HttpClient() as http:
        server = Server(small, http, audit_file=small / "audit.log")
        try:
            await server.start()
            writes = Writes(server)
            await writes.one(0)
            fill(small / "filler")
            said = await writes.until_refused()
            for _ in range(100):
                if "record the request" in said:
                    break
                said = (await writes.one(1))[1]
            named = f"the audit device {small}/audit.log cannot be written"
            assert said == (
                f"no audit device can record the request: {named}: No space left on device;"
                " it was refused; repair the audit device"
            )
            for path in ("secret/data/kill/0", "auth/token/lookup-self"):
                status, refused = await server.ask("GET", path)
                assert (status, named in refused["errors"][0]) == (503, True)

            async def not_ready() -> bool | None:
                reply = await http.request("GET", server.url("")[:-3] + "readyz")
                return (reply.status == 503 and named in reply.body.decode()) or None

            await until("the node to be not ready", not_ready, CLOCK)
            (small / "filler").unlink()
            await writes.until_taken("a write")
            await writes.nothing_is_lost()
            lines = (small / "audit.log").read_bytes().splitlines()
            assert json.loads(lines[-1])["type"] == "response"
        finally:
            server.kill()


@pytest.fixture
def small_postgres(mount: Mount) -> Iterator[tuple[ThrowawayPostgres, Path]]:
    """A PostgreSQL whose data lie on a small file system, and the place of that."""
    place = Path(tempfile.mkdtemp(prefix="sr-pg-"))
    mount("192m", place)
    made = ThrowawayPostgres(place / "p")
    try:
        made.start()
        yield made, place
    finally:
        made.kill()
        shutil.rmtree(place, ignore_errors=True)


async def test_a_full_disk_under_postgres_refuses_writes_keeps_reads_and_recovers(
    small_postgres: tuple[ThrowawayPostgres, Path], tmp_path: Path
) -> None:
    database, place = small_postgres
    async with HttpClient() as http:
        server = Server(tmp_path, http, database=database.create_database("strongroom"))
        try:
            await server.start()
            writes = Writes(server)
            await writes.one(0)
            fill(place / "filler")
            assert await writes.until_refused() == (
                "the database cannot be used: no space is left on PostgreSQL's disk (53100);"
                " free space there; nothing was written"
            )
            await writes.nothing_is_lost()
            (place / "filler").unlink()
            await writes.until_taken("a write")
            await writes.nothing_is_lost()
        finally:
            server.kill()


async def test_postgres_that_ends_for_want_of_space_for_its_log_loses_no_acknowledged_write(
    small_postgres: tuple[ThrowawayPostgres, Path], tmp_path: Path
) -> None:
    database, place = small_postgres
    async with HttpClient() as http:
        server = Server(tmp_path, http, database=database.create_database("strongroom"))
        try:
            await server.start()
            writes = Writes(server)
            for number in range(20):
                await writes.one(number)
            fill(place / "filler")
            # The log is filled from beside: a server that cannot extend it panics.
            message = "SELECT pg_logical_emit_message(false, 'fill', repeat('x', 8000000))"
            with contextlib.suppress(Unavailable):
                for _ in range(40):
                    await asyncio.to_thread(database.query, message)
            assert "PANIC" in (place / "p" / "postgres.log").read_text()
            for number in range(5):
                began = CLOCK.monotonic()
                status, said = await writes.one(number)
                assert (status, "the database" in said) == (503, True)
                assert CLOCK.monotonic() - began < 30
            (place / "filler").unlink()

            async def runs() -> bool:
                # A recovery that began while there was no space ends it once more.
                if not database.runs:
                    await asyncio.to_thread(database.start)
                await asyncio.to_thread(database.query, "SELECT 1")
                return True

            await until("the database to answer", runs, CLOCK)
            await writes.until_taken("the node to write again")
            await writes.nothing_is_lost()
        finally:
            server.kill()


async def test_a_snapshot_that_has_no_room_is_refused_and_says_where(mount: Mount) -> None:
    small = mount("64m")
    async with HttpClient() as http:
        server = Server(small, http, audit_file=small.parent / "audit.log")
        try:
            await server.start()
            for number in range(11):
                body = {"data": {"k": "x" * 1_000_000}}
                assert (await server.ask("POST", f"secret/data/{number}", body))[0] == 200
            fill(small / "filler")
            for query in ("", "?plain=true", "?plain=true&verify=true"):
                status, said = await server.ask("GET", f"sys/storage/raft/snapshot{query}")
                assert status == 503
                assert said["errors"][0].startswith(
                    "the snapshot cannot be kept on disk: No space left on device;"
                    f" see {small}/data: "
                )
            (small / "filler").unlink()
            path = f"{server.url('sys/storage/raft/snapshot')}?verify=true"
            reply = await http.request("GET", path, headers={"X-Vault-Token": server.root})
            assert (reply.status, len(reply.body) > 11_000_000) == (200, True)
        finally:
            server.kill()


class Full(BytesIO):
    def write(self, _: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_an_archive_that_has_no_room_to_be_unpacked_is_not_called_damaged() -> None:
    archive = BytesIO()
    pack(BytesIO(bytes(100_000)), archive)
    with pytest.raises(OSError, match="No space left"):
        plain(archive, Full())
