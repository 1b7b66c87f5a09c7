"""A real server process: killed while it writes, its database killed, stopped and started under
it, and left without a place for its audit log."""

import asyncio
import dataclasses
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from server_process import (
    CLOCK,
    WRITERS,
    Relay,
    Server,
    fill,
    harm_while_writing,
    nothing_is_lost,
    write_until_it_dies,
)

from strongroom.app.dev.postgres import ThrowawayPostgres
from strongroom.app.waiting import until
from strongroom.audit.devices import DEADLINE_SECONDS
from strongroom.model.errors import Unanswered, Unavailable
from strongroom.store.engine.postgres import READ_SECONDS
from strongroom.wire.client import HttpClient

KILLS = {"sqlite": 200, "postgres": 25}


@pytest.mark.component
@pytest.mark.timeout(900)
async def test_killed_over_and_over_it_loses_nothing_it_acknowledged(server: Server) -> None:
    chance = random.Random(20261124)
    sent: dict[int, int] = {}
    acked: dict[int, int] = {}
    ids: list[str] = []
    told: list[Unavailable] = []
    kills = KILLS["postgres" if server.options.database else "sqlite"]
    for _ in range(kills):
        await server.start()
        await nothing_is_lost(server, sent, acked)
        tasks = [
            asyncio.create_task(write_until_it_dies(server, each, sent, acked, ids, told))
            for each in range(WRITERS)
        ]
        # Some rounds end before anything was acknowledged, and others not, on whatever machine.
        enough = len(ids) + chance.randrange(3)
        while len(ids) < enough and not all(each.done() for each in tasks):
            await CLOCK.sleep(0.001)
        await CLOCK.sleep(chance.uniform(0.001, 0.04))
        server.kill()
        await asyncio.gather(*tasks)
    # Enough to lose.
    assert len(ids) > kills // 5
    # Who had sent something is told that it may be there, and who had not, no such thing.
    cut = [each for each in told if isinstance(each, Unanswered)]
    assert len(cut) > kills // 5
    for each in told:
        assert each.message.startswith("no answer from http://127.0.0.1:")
        assert each in cut or "Connect" in each.message
    recorded = server.options.audit_file.read_bytes()
    assert all(each.encode() in recorded for each in ids)


@pytest.mark.component
@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize(
    ("words", "seen", "hint"),
    [
        (
            ["kv", "put", "secret/a", "k=new"],
            ("GET", "secret/metadata/a", ["data", "current_version"]),
            "it may be done: look (strongroom kv get, read, list) before you do it again",
        ),
        (
            ["token", "create", "-policy=default"],
            ("LIST", "auth/token/accessors", ["data", "keys"]),
            "there may be a token that nobody has: until it ends, strongroom list"
            " auth/token/accessors has it too",
        ),
        (
            ["login", "-method=userpass", "username=ada", "password=pw"],
            ("LIST", "auth/token/accessors", ["data", "keys"]),
            "log in again: if a token was made, it ends unused",
        ),
        (
            ["write", "-f", "transit/keys/a/rotate"],
            ("GET", "transit/keys/a", ["data", "latest_version"]),
            "it may be done: look (strongroom kv get, read, list) before you do it again",
        ),
    ],
)  # fmt: skip
async def test_whose_node_is_killed_is_told_that_it_may_be_done_and_nothing_is_sent_twice(
    tmp_path: Path, words, seen, hint: str, done: bool
) -> None:
    async with HttpClient() as http:
        server = Server(tmp_path, http)
        await server.start()
        for path, body in (
            ("sys/mounts/secret", {"type": "kv", "options": {"version": "2"}}),
            ("secret/data/a", {"data": {"k": "old"}}),
            ("sys/mounts/transit", {"type": "transit"}),
            ("transit/keys/a", {}),
            ("sys/auth/userpass", {"type": "userpass"}),
            ("auth/userpass/users/ada", {"password": "pw"}),
        ):
            await server.ask("POST", path, body)

        async def count() -> int:
            method, path, names = seen
            _, found = await server.ask(method, path)
            for name in names:
                found = found[name]
            return len(found) if isinstance(found, list) else found

        before = await count()
        relay = Relay(server, done=done)
        between = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
        port = between.sockets[0].getsockname()[1]
        environment = {
            **os.environ, "VAULT_ADDR": f"http://127.0.0.1:{port}", "VAULT_TOKEN": server.root,
            "HOME": str(tmp_path),
        }  # fmt: skip
        command = [sys.executable, "-m", "strongroom", *words]
        client = await asyncio.create_subprocess_exec(
            *command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        out, err = await client.communicate()
        between.close()
        error, hinted = err.decode().splitlines()
        assert (client.returncode, out) == (2, b"")
        assert error.startswith(f"error: no answer from http://127.0.0.1:{port}/v1/")
        assert error.endswith(
            ": the connection was closed without a reply; whether it was done is not known"
            " [unreachable]"
        )
        assert hinted.startswith(f"hint: {hint}; if nothing is ever answered: https://")
        assert len(relay.fatal) == 1
        await server.start()
        try:
            assert await count() == before + done
        finally:
            server.kill()


@pytest.mark.component
@pytest.mark.timeout(600)
async def test_postgres_killed_or_restarted_under_load_loses_no_acknowledged_write(
    own_postgres: ThrowawayPostgres, tmp_path: Path
) -> None:
    chance = random.Random(20261125)

    async def harm() -> None:
        await CLOCK.sleep(chance.uniform(0.05, 0.3))
        await asyncio.to_thread(chance.choice([own_postgres.kill, own_postgres.stop]))
        await asyncio.to_thread(own_postgres.start)

    async with HttpClient() as http:
        server = Server(tmp_path, http, database=own_postgres.create_database("strongroom"))
        try:
            await harm_while_writing(server, 6, harm)
        finally:
            server.kill()


@pytest.mark.component
@pytest.mark.timeout(600)
async def test_postgres_paused_for_ten_seconds_is_refused_in_time_and_loses_nothing(
    own_postgres: ThrowawayPostgres, tmp_path: Path
) -> None:
    async with HttpClient() as http:
        server = Server(tmp_path, http, database=own_postgres.create_database("strongroom"))

        async def harm() -> None:
            await CLOCK.sleep(0.2)
            own_postgres.pause()
            paused = CLOCK.monotonic()
            assert (await server.ask("GET", "secret/data/kill/0"))[0] == 503
            assert CLOCK.monotonic() - paused < 20
            asked = CLOCK.monotonic()
            for path in ("secret/data/kill/1", "auth/token/lookup-self", "sys/health") * 10:
                assert (await server.ask("GET", path))[0] == 503
            # Not each of them has waited for its deadline.
            assert CLOCK.monotonic() - asked < 30 * READ_SECONDS / 2
            await CLOCK.sleep(max(0.0, 10 - (CLOCK.monotonic() - paused)))
            own_postgres.resume()

        try:
            await harm_while_writing(server, 1, harm)
        finally:
            own_postgres.resume()
            server.kill()


@pytest.mark.component
async def test_without_its_database_a_node_answers_503_at_once_and_comes_back(
    own_postgres: ThrowawayPostgres, tmp_path: Path
) -> None:
    async with HttpClient() as http:
        server = Server(tmp_path, http, database=own_postgres.create_database("strongroom"))
        await server.start()
        try:
            assert (await server.ask("POST", "secret/data/a", {"data": {"k": "v"}}))[0] == 200
            own_postgres.kill()
            began = CLOCK.monotonic()
            for method in ("GET", "POST") * 5:
                body = {"data": {"k": "w"}} if method == "POST" else None
                status, said = await server.ask(method, "secret/data/a", body)
                assert status == 503
                assert "the database cannot be reached" in said["errors"][0]
            assert CLOCK.monotonic() - began < 10 * READ_SECONDS / 2

            async def noticed() -> bool | None:
                return "storage" in (await probed(server, "readyz"))[1]["problems"] or None

            await until("the probes to tell", noticed, CLOCK)
            assert (await probed(server, "livez"))[0] == 200
            status, said = await probed(server, "readyz")
            assert (status, said["ready"]) == (503, False)
            assert said["problems"] == {"storage": "the database cannot be reached"}
            for path in ("v1/sys/health", "v1/sys/seal-status"):
                status, said = await probed(server, path)
                assert (status, "cannot be reached" in said["errors"][0]) == (503, True)
            own_postgres.start()

            async def back() -> bool | None:
                return (await server.ask("GET", "secret/data/a"))[0] == 200 or None

            await until("the node to find its database", back, CLOCK)
            assert (await server.ask("GET", "secret/data/a"))[1]["data"]["data"] == {"k": "v"}
        finally:
            server.kill()


@pytest.mark.component
async def test_without_space_for_the_audit_log_nothing_is_served(
    small: Path, server: Server
) -> None:
    server.options = dataclasses.replace(server.options, audit_file=small / "audit.log")
    await server.start()
    assert (await server.ask("POST", "secret/data/a", {"data": {"k": "before"}}))[0] == 200
    fill(small / "filler")
    for number in range(200):
        body = {"data": {"k": f"n{number}"}}
        status, said = await asyncio.wait_for(server.ask("POST", "secret/data/a", body), 60)
        if status != 200:
            break
    assert status == 503
    assert "audit" in said["errors"][0]
    for path in ("secret/data/a", "auth/token/lookup-self", "no/such"):
        assert (await asyncio.wait_for(server.ask("GET", path), 60))[0] == 503
    # Probes are answered: the process lives.
    status, said = await server.ask("GET", "sys/health")
    assert (status, "No space left" in "".join(said["audit_failures"].values())) == (200, True)
    assert (await probed(server, "livez"))[0] == 200
    assert (await probed(server, "v1/sys/seal-status"))[0] == 200
    status, said = await probed(server, "readyz")
    assert status == 503
    assert said["problems"]["audit"].startswith("no device records: ")
    (small / "filler").unlink()
    assert (await server.ask("GET", "secret/data/a"))[0] == 200
    lines = (small / "audit.log").read_bytes().splitlines()
    whole = [line for line in lines if _is_record(line)]
    assert len(lines) - len(whole) <= 1  # The line that was torn by the full disk.
    assert _is_record(lines[-1])


async def probed(server: Server, path: str) -> tuple[int, dict]:
    reply = await server.http.request("GET", f"http://127.0.0.1:{server.options.port}/{path}")
    return reply.status, json.loads(reply.body)


def _is_record(line: bytes) -> bool:
    try:
        return "type" in json.loads(line)
    except ValueError:
        return False


@pytest.mark.component
async def test_an_audit_device_that_hangs_is_passed_its_deadline_not_waited_for(
    server: Server, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    filler = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    server.options = dataclasses.replace(server.options, audit_file=pipe)
    await server.start()
    try:
        while True:
            os.write(filler, b"x" * 4096)
    except BlockingIOError:
        pass
    assert (await server.ask("GET", "secret/data/a"))[0] == 503
    # The next ones are refused at once, without another wait.
    asked = CLOCK.monotonic()
    for _ in range(20):
        assert (await server.ask("GET", "secret/data/a"))[0] == 503
    assert CLOCK.monotonic() - asked < 20 * DEADLINE_SECONDS / 2
    os.close(reader)
    os.close(filler)


async def test_an_audit_file_that_cannot_be_opened_is_no_start(tmp_path: Path) -> None:
    async with HttpClient() as http:
        with pytest.raises(Unavailable) as caught:
            await Server(tmp_path, http, audit_file=tmp_path).start()
    assert caught.value.code == "audit-unwritable"
