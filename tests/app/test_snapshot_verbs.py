"""`operator snapshot` against a running store: the file, what is printed, and exit statuses."""

import asyncio
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import serving

from strongroom.model.clock import SimulatedClock
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.contract import Engine
from strongroom.store.engine.postgres import PostgresEngine
from strongroom.store.engine.sqlite import SqliteEngine

pytestmark = pytest.mark.long


async def strongroom(store: Any, *words: str) -> tuple[int, str, str]:
    """Run the command with the store's root token."""
    around = {**os.environ, "VAULT_ADDR": store.address, "VAULT_TOKEN": store.root}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "strongroom", "operator", *words,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=around,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 120)
    return process.returncode or 0, out.decode(), err.decode()


@pytest.mark.parametrize("verb", [("snapshot",), ("raft", "snapshot")])
async def test_save_and_restore(store: Any, tmp_path: Path, verb: tuple[str, ...]) -> None:
    file = tmp_path / "store.snap"
    await store.ask("POST", "secret/data/a", {"data": {"k": "before"}})
    status, out, err = await strongroom(store, *verb, "save", str(file))
    assert status == 0, err
    assert "rows of kv_version" in out
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.glob("store.snap*")] == ["store.snap"]
    await store.ask("POST", "secret/data/a", {"data": {"k": "after"}})
    status, out, err = await strongroom(store, *verb, "restore", str(file))
    assert (status, out.startswith("Success!")) == (0, True), err
    _, body = await store.ask("GET", "secret/data/a")
    assert body["data"]["data"] == {"k": "before"}


@pytest.mark.parametrize("body", [b"<html>", b""])
async def test_a_web_page_is_no_word_that_a_snapshot_was_restored(
    store: Any, tmp_path: Path, body: bytes
) -> None:
    """As a proxy's page for signing in, or an empty one, with the status 200."""
    file = tmp_path / "store.snap"
    assert (await strongroom(store, "snapshot", "save", str(file)))[0] == 0

    async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await reader.read()
        writer.close()

    async with await asyncio.start_server(page, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        words = ("snapshot", "restore", f"-address=http://127.0.0.1:{port}", str(file))
        status, out, err = await strongroom(store, *words)
    assert (status, out) == (2, "")
    assert "is no store" in err


async def test_drill_and_inspect_say_what_is_there(store: Any, tmp_path: Path) -> None:
    file = tmp_path / "store.snap"
    assert (await strongroom(store, "snapshot", "save", str(file)))[0] == 0
    status, out, err = await strongroom(store, "snapshot", "drill", str(file), "-format=json")
    assert status == 0, err
    drilled = json.loads(out)
    assert drilled["damaged"] == []
    assert drilled["opened"] >= 5
    status, out, _ = await strongroom(store, "snapshot", "inspect", str(file), "-format=json")
    inspected = json.loads(out)
    assert status == 0
    assert inspected == {name: drilled[name] for name in inspected}


async def test_what_cannot_be_done_is_said_and_leaves_the_file_of_before(
    store: Any, tmp_path: Path
) -> None:
    file = tmp_path / "store.snap"
    file.write_bytes(b"the one of yesterday")
    store.root, root = "hvs.wrong", store.root
    status, _, err = await strongroom(store, "snapshot", "save", str(file))
    store.root = root
    assert status != 0
    assert "permission denied" in err or "invalid token" in err
    assert file.read_bytes() == b"the one of yesterday"
    status, _, err = await strongroom(store, "snapshot", "restore", str(file))
    assert status != 0
    assert "not a snapshot of Strongroom's" in err
    status, _, err = await strongroom(store, "snapshot", "inspect", str(tmp_path / "none"))
    assert status != 0
    assert "No such file" in err


@pytest.mark.parametrize("into", ["folder", pytest.param("postgres", marks=pytest.mark.component)])
async def test_a_restore_without_a_server_is_opened_by_the_seal(
    store: Any, tmp_path: Path, into: str, request: pytest.FixtureRequest
) -> None:
    file, folder = tmp_path / "store.snap", tmp_path / "new"
    await store.ask("POST", "secret/data/a", {"data": {"k": "v"}})
    assert (await strongroom(store, "snapshot", "save", str(file)))[0] == 0
    url = request.getfixturevalue("postgres_url") if into == "postgres" else ""
    where = ("-database", url) if url else ("-data", str(folder))
    status, out, err = await strongroom(store, "snapshot", "restore", str(file), *where)
    assert (status, out.startswith("Success!")) == (0, True), err
    barrier = Barrier()
    engine: Engine
    if url:
        engine = await PostgresEngine.open(url, barrier)
    else:
        engine = SqliteEngine(folder / "strongroom.db", barrier)
    async with serving(engine, barrier, tmp_path / "key", SimulatedClock()) as again:
        status, body = await again.ask("GET", "secret/data/a", token=store.root)
        assert (status, body["data"]["data"]) == (200, {"k": "v"})


async def test_a_database_of_another_cluster_is_not_overwritten(store: Any, tmp_path: Path) -> None:
    file, folder = tmp_path / "store.snap", tmp_path / "other"
    assert (await strongroom(store, "snapshot", "save", str(file)))[0] == 0
    folder.mkdir()
    barrier = Barrier()
    engine = SqliteEngine(folder / "strongroom.db", barrier)
    words = ("snapshot", "restore", str(file), "-data", str(folder))
    async with serving(engine, barrier, folder / "key", SimulatedClock()) as other:
        await other.ask("POST", "secret/data/theirs", {"data": {"k": "v"}})
        status, _, err = await strongroom(store, *words)
        assert (status != 0, "-force" in err) == (True, True)
        assert (await other.ask("GET", "secret/data/theirs"))[0] == 200
    status, _, err = await strongroom(store, *words, "-force")
    assert status == 0, err


@pytest.mark.parametrize("seal", ["-seal-key-file", "-config"])
async def test_a_restore_without_a_server_checks_the_keyed_hash_or_says_that_it_did_not(
    store: Any, tmp_path: Path, seal: str
) -> None:
    file, folder = tmp_path / "store.snap", tmp_path / "new"
    assert (await strongroom(store, "snapshot", "save", str(file)))[0] == 0
    config = tmp_path / "store.hcl"
    config.write_text(
        f'storage "raft" {{ path = "{folder}" }}\n'
        'listener "tcp" { tls_disable = true }\n'
        f'seal "static" {{ key_file = "{tmp_path / "key"}" }}\n'
    )
    keys = (seal, str(config if seal == "-config" else tmp_path / "key"))
    forged = tmp_path / "forged.snap"
    forged.write_bytes(file.read_bytes()[:-32] + bytes(32))

    async def restore(which: Path, *more: str) -> tuple[int, str]:
        words = ("snapshot", "restore", str(which), "-data", str(folder), *more)
        status, _, err = await strongroom(store, *words)
        return status, err

    status, said = await restore(forged, *keys)
    assert (status != 0, "somebody who could make a new checksum, but has no key" in said) == (
        True,
        True,
    )
    assert await restore(file, *keys) == (0, "")
    status, said = await restore(forged)
    assert (status, said.startswith("Not checked: whether the file was changed")) == (0, True)


async def test_a_restore_without_a_server_takes_the_seal_that_the_environment_names(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the server does that has the same configuration."""
    file, config = tmp_path / "store.snap", tmp_path / "store.hcl"
    assert (await strongroom(store, "snapshot", "save", str(file)))[0] == 0
    config.write_text(
        f'storage "raft" {{ path = "{tmp_path / "new"}" }}\n'
        'listener "tcp" { tls_disable = true }\n'
        f'seal "pkcs11" {{ key_file = "{tmp_path / "key"}" }}\n'
    )
    monkeypatch.setenv("VAULT_SEAL_TYPE", "static")
    words = ("snapshot", "restore", str(file), "-data", str(tmp_path / "new"))
    assert await strongroom(store, *words, f"-config={config}") == (
        0, "Success! The store is as it was when the snapshot was taken.\n", "",
    )  # fmt: skip
