"""Snapshots over HTTP: what a restore brings back, what is refused, and that nothing leaks."""

import asyncio
import gzip
import hashlib
import tarfile
from contextlib import AsyncExitStack
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hvac.exceptions import InvalidRequest
from tests.conftest import serving

from strongroom.model.clock import SimulatedClock
from strongroom.model.errors import Invalid, Unavailable
from strongroom.store.engine._snapshot_rows import (
    FIRST_ROWS,
    PAGE_BYTES,
    PAGE_ROWS,
    rows_after,
)
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.postgres import PostgresEngine
from strongroom.store.engine.snapshot_archive import MOST_BYTES, plain
from strongroom.store.engine.snapshot_file import _LENGTH, MAGIC, _frames, inspect
from strongroom.store.engine.sqlite import SqliteEngine
from strongroom.store.seal.backends import AutoSeal
from strongroom.store.seal.cluster import ClusterSeal, SealSetting
from strongroom.store.snapshots import judge, restore
from strongroom.wire.keywrap.key_file import KeyFileWrapper

SNAPSHOT = "sys/storage/raft/snapshot"
CANARY = "canary-7f3a-value"


async def put(store: Any, name: str, value: str) -> None:
    status, _ = await store.ask("POST", f"secret/data/{name}", {"data": {"k": value}})
    assert status == 200


async def get(store: Any, name: str) -> Any:
    status, body = await store.ask("GET", f"secret/data/{name}")
    return body["data"]["data"]["k"] if status == 200 else status


async def taken(store: Any, query: str = "?plain=true") -> bytes:
    reply = await store.http.request(
        "GET", f"{store.address}/v1/{SNAPSHOT}{query}", headers={"X-Vault-Token": store.root}
    )
    assert reply.status == 200, reply.body
    return bytes(reply.body)


async def test_hvac_takes_and_restores_a_snapshot(store: Any) -> None:
    client = store.hvac()
    await put(store, "a/b", "before")
    token = await store.token_with('path "secret/*" { capabilities = ["read"] }')
    content = (await store.run(client.sys.take_raft_snapshot)).content
    await put(store, "a/b", "after")
    await put(store, "new", "after")
    await store.ask("POST", "auth/token/revoke", {"token": token})
    assert await get(store, "a/b") == "after"
    reply = await store.run(client.sys.restore_raft_snapshot, content)
    assert reply.status_code == 204
    assert await get(store, "a/b") == "before"
    assert await get(store, "new") == 404
    assert (await store.ask("GET", "secret/data/a/b", token=token))[0] == 200
    # New folders get numbers of their own.
    await put(store, "later/one", "x")
    assert await get(store, "later/one") == "x"
    assert await get(store, "a/b") == "before"


async def test_no_value_and_no_name_of_a_secret_is_in_the_file(store: Any) -> None:
    await put(store, f"{CANARY}-name", CANARY)
    content = await taken(store)
    assert CANARY.encode() not in content
    assert store.root.encode() not in content


async def test_a_file_that_says_of_more_rows_than_it_has_is_damaged(store: Any) -> None:
    """Whoever cuts rows out can make a checksum anew."""
    await put(store, "a", "v")
    frames = [*_frames(BytesIO(await taken(store)))]
    last = max(place for place, each in enumerate(frames) if each[0] == "rows")
    for left, whole in ((frames, True), (frames[:last] + frames[last + 1 :], False)):
        bodies = [msgspec.msgpack.encode(each) for each in left]
        content = MAGIC + b"".join(_LENGTH.pack(len(each)) + each for each in bodies)
        file = BytesIO(content + hashlib.sha256(content).digest() + bytes(32))
        if whole:
            assert inspect(file).rows
        else:
            with pytest.raises(Invalid, match="rows are missing"):
                inspect(file)


def test_of_an_archive_that_holds_too_much_nothing_is_unpacked() -> None:
    """It is small beside what it says that it holds, and the disk is not."""
    entry = tarfile.TarInfo("strongroom.snapshot")
    entry.size = MOST_BYTES + 1
    into = BytesIO()
    with pytest.raises(Invalid):
        plain(BytesIO(gzip.compress(entry.tobuf() + bytes(3 << 20))), into)
    assert into.getvalue() == b""


async def test_a_cluster_that_is_sealed_meanwhile_is_no_other_cluster(store: Any) -> None:
    """With -force its row, with the shares of its seal, would be replaced."""
    content = await taken(store)
    assert (await store.ask("PUT", "sys/seal"))[0] == 204
    for force in (False, True):
        with pytest.raises(Unavailable, match="sealed"):
            await judge(BytesIO(content), store.seal, force=force)


async def test_a_drill_says_what_it_found_and_changes_nothing(store: Any) -> None:
    await put(store, "a", "v")
    content = await taken(store, "?plain=true&verify=true")
    await put(store, "a", "later")
    status, body = await store.ask("POST", f"{SNAPSHOT}-drill", content)
    assert status == 200
    found = body["data"]
    assert found["damaged"] == []
    assert found["rows"]["kv_version"] == 1
    assert found["oldest_key_term"] == 1
    assert found["opened"] >= 5
    assert await get(store, "a") == "later"


async def test_rows_of_an_older_key_term_open_after_a_restore(store: Any) -> None:
    await put(store, "a", "v")
    content = await taken(store)
    assert (await store.ask("PUT", "sys/rotate"))[0] == 204
    await put(store, "b", "w")
    newer = await taken(store)
    assert (await store.ask("POST", SNAPSHOT, content))[0] == 204
    assert (await get(store, "a"), await get(store, "b")) == ("v", 404)
    # The ring is never taken back: a term stands for one key alone.
    assert (await store.ask("GET", "sys/key-status"))[1]["data"]["term"] == 2
    assert (await store.ask("GET", "sys/rotate/status"))[1]["data"]["done"] is False
    assert (await store.ask("POST", SNAPSHOT, newer))[0] == 204
    assert (await get(store, "a"), await get(store, "b")) == ("v", "w")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: content[:-1], "it ends too early"),
        (lambda content: content[:-200], "it ends at byte"),
        (lambda content: content[:300], "in the table"),
        (lambda content: content + b"x", "something follows its end"),
        (lambda content: content[:-70] + b"\x00" + content[-69:], "is damaged"),
        (lambda _: b"", "not a snapshot"),
        (lambda _: b'{"a": 1}', "not a snapshot"),
    ],
)
async def test_a_file_that_is_not_whole_is_refused_and_says_why(
    store: Any, change: Any, said: str
) -> None:
    await put(store, "a", "v")
    content = await taken(store)
    await put(store, "a", "kept")
    for path in (SNAPSHOT, f"{SNAPSHOT}-force", f"{SNAPSHOT}-drill"):
        status, body = await store.ask("POST", path, change(content))
        assert status == 400
        assert said in body["errors"][0]
    assert await get(store, "a") == "kept"


async def test_the_archive_is_what_vaults_client_waits_for(store: Any) -> None:
    """Without the last entry its `operator raft snapshot save` and backup jobs call it broken off."""
    await put(store, "a", "v")
    content = await taken(store, "")
    with tarfile.open(fileobj=BytesIO(content), mode="r:gz") as tar:
        held = {each.name: tar.extractfile(each).read() for each in tar}  # type: ignore[union-attr]
    assert list(held) == ["strongroom.snapshot", "SHA256SUMS", "SHA256SUMS.sealed"]
    file = held["strongroom.snapshot"]
    assert held["SHA256SUMS"].split()[0] == hashlib.sha256(file).hexdigest().encode()
    assert held["SHA256SUMS.sealed"].strip() == file[-32:].hex().encode()
    for form in (content, file):
        await put(store, "a", "later")
        assert (await store.ask("POST", SNAPSHOT, form))[0] == 204
        assert await get(store, "a") == "v"
        assert (await store.ask("POST", f"{SNAPSHOT}-drill", form))[0] == 200


async def test_an_archive_that_is_not_ours_or_not_whole_is_refused(store: Any) -> None:
    await put(store, "a", "v")
    content = await taken(store, "")
    other = BytesIO()
    with tarfile.open(fileobj=other, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("state.bin"), BytesIO())
    flipped = content[:2000] + bytes([content[2000] ^ 1]) + content[2001:]
    for sent, said in (
        (content[:1500], "ends too early"),
        (content[:2], "ends too early"),
        (flipped, "damaged"),
        (other.getvalue(), "not a snapshot"),
        # The file in it is whole, its end is not.
        (content[:-1], "ends too early"),
        (content[:-100], "ends too early"),
        (content[:-600], "ends too early"),
        (content[:-5] + bytes([content[-5] ^ 1]) + content[-4:], "was changed"),
        (content + gzip.compress(bytes(2 << 20)), "more follows"),
    ):
        status, body = await store.ask("POST", SNAPSHOT, sent)
        assert (status, said in body["errors"][0]) == (400, True), body
    assert await get(store, "a") == "v"


async def test_a_file_with_a_new_checksum_is_still_not_ours(store: Any) -> None:
    await put(store, "a", "v")
    content = await taken(store)
    changed = content[:-64].replace(b"default", b"defau1t")
    assert changed != content[:-64]
    forged = changed + hashlib.sha256(changed).digest() + content[-32:]
    status, body = await store.ask("POST", SNAPSHOT, forged)
    assert (status, "has no key" in body["errors"][0]) == (400, True)


async def test_a_snapshot_of_another_cluster_needs_force_and_its_own_seal(
    store: Any, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    barrier = Barrier()
    engine = SqliteEngine(other / "db", barrier)
    async with serving(engine, barrier, other / "key", SimulatedClock()) as second:
        await put(second, "theirs", "v")
        content = await taken(second)
    await put(store, "ours", "v")
    with pytest.raises(InvalidRequest, match="taken under other keys"):
        await store.run(store.hvac().sys.restore_raft_snapshot, content)
    assert await get(store, "ours") == "v"
    reply = await store.run(store.hvac().sys.force_restore_raft_snapshot, content)
    assert reply.status_code == 204
    assert (await store.ask("GET", "secret/data/ours"))[0] == 503
    assert store.seal.sealed
    assert "restart" in store.seal.waiting_for
    # Its own seal opens it: nothing of it was lost.
    setting = SealSetting(AutoSeal("static", KeyFileWrapper("static", other / "key")))
    own = ClusterSeal(store.engine, Barrier(), setting, store.clock)

    async def opened() -> bool:
        return await own.unseal_by_itself()

    assert await store.engine.waiting(opened())
    assert not own.sealed


async def test_only_who_may_is_given_the_file_or_may_restore_it(store: Any) -> None:
    token = await store.token_with('path "secret/*" { capabilities = ["read"] }')
    assert (await store.ask("GET", SNAPSHOT, token=token))[0] == 403
    assert (await store.ask("POST", SNAPSHOT, b"x", token=token))[0] == 403


async def test_a_body_of_who_may_not_restore_is_not_kept(store: Any) -> None:
    """It is read and dropped, however large, and refused in words; the connection goes on."""
    large = bytes(6 * 1024 * 1024)
    for token in ("wrong", ""):
        status, said = await store.ask("POST", SNAPSHOT, large, token=token)
        assert (status, "permission denied" in said["errors"][0]) == (403, True)
    assert store.spool.kept == 0
    record = store.records()[-1]
    assert record["error"] == "permission denied"
    # Who may is told what is wrong with it, above the limit of other bodies as well.
    status, said = await store.ask("POST", SNAPSHOT, large)
    assert (status, "not a snapshot" in said["errors"][0]) == (400, True)
    assert store.spool.kept == 1
    status, said = await store.ask("POST", "secret/data/a", large)
    assert status == 413


async def test_a_snapshot_has_a_limit_of_its_own(store: Any) -> None:
    status, said = await store.ask("POST", SNAPSHOT, bytes(9 * 1024 * 1024))
    assert (status, said["errors"][0]) == (413, "the request body is too large")


async def test_a_peer_that_goes_away_leaves_nothing(store: Any, tmp_path: Path) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", store.port)
    head = f"POST /v1/{SNAPSHOT} HTTP/1.1\r\nHost: x\r\nX-Vault-Token: {store.root}\r\n"
    writer.write(head.encode() + b"Expect: 100-continue\r\nContent-Length: 5000000\r\n\r\n")
    assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"
    names = sorted(each.name for each in tmp_path.iterdir())
    writer.write(bytes(1_000_000))
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    # The file never has a name.
    assert sorted(each.name for each in tmp_path.iterdir()) == names
    assert await get(store, "nothing") == 404


async def test_pieces_and_requests_behind_them_keep_their_order(store: Any) -> None:
    await put(store, "a", "before")
    content = await taken(store)
    await put(store, "a", "after")
    reader, writer = await asyncio.open_connection("127.0.0.1", store.port)
    token = f"Host: x\r\nX-Vault-Token: {store.root}\r\n"
    writer.write(f"POST /v1/{SNAPSHOT} HTTP/1.1\r\n{token}".encode())
    writer.write(b"Transfer-Encoding: chunked\r\n\r\n")
    for start in range(0, len(content), 700):
        piece = content[start : start + 700]
        writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        await writer.drain()
    writer.write(b"0\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 204")
    while await reader.readline() != b"\r\n":
        pass
    writer.write(f"GET /v1/secret/data/a HTTP/1.1\r\n{token}Connection: close\r\n\r\n".encode())
    assert b'"before"' in await reader.read()
    writer.close()


def test_a_page_is_as_many_rows_as_fit() -> None:
    asked = FIRST_ROWS
    for _ in range(9):
        asked = rows_after(asked, [(1, b"small", None)] * asked)
    assert asked == PAGE_ROWS
    asked = rows_after(asked, [(bytes(1024 * 1024),)] * asked)
    assert asked == PAGE_BYTES // (1024 * 1024)
    assert rows_after(1, [(bytes(32 * 1024 * 1024),)]) == 1


@pytest.mark.component
async def test_it_moves_from_sqlite_to_postgresql_and_back(
    postgres_url: str, tmp_path: Path
) -> None:
    """One cluster, three databases: the row of the cluster is moved first, as on a new machine."""
    clock = SimulatedClock()
    async with AsyncExitStack() as stack:
        barrier = Barrier()
        first = SqliteEngine(tmp_path / "db", barrier)
        small = await stack.enter_async_context(serving(first, barrier, tmp_path / "key", clock))
        await put(small, "deep/er/one", "v")
        content = await taken(small)
        row = first.view.cluster()
        assert row is not None
        barrier = Barrier()
        engine = await PostgresEngine.open(postgres_url, barrier)
        await engine.transact(lambda each: each.put_cluster(row))
        large = await stack.enter_async_context(serving(engine, barrier, tmp_path / "key", clock))
        large.root = small.root
        found = await judge(BytesIO(content), large.seal)
        await restore(large.engine, large.seal, BytesIO(content), found, 0.0)
        assert await get(large, "deep/er/one") == "v"
        await put(large, "deep/er/two", "w")
        back = await taken(large)
        assert (await small.ask("POST", SNAPSHOT, back))[0] == 204
        assert await get(small, "deep/er/two") == "w"


@pytest.mark.component
async def test_every_node_answers_from_the_restored_rows(nodes: list[Any]) -> None:
    one, two, three = nodes
    await put(one, "a", "before")
    content = await taken(two)
    await put(three, "a", "after")
    assert [await get(each, "a") for each in nodes] == ["after"] * 3
    assert (await two.ask("POST", SNAPSHOT, content))[0] == 204
    assert [await get(each, "a") for each in nodes] == ["before"] * 3


def test_every_table_is_copied_or_stays(tmp_path: Path) -> None:
    import sqlite3

    from strongroom.store.engine._snapshot_rows import COPIED, STAY

    SqliteEngine(tmp_path / "db", Barrier())
    rows = sqlite3.connect(tmp_path / "db").execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    )
    assert sorted(name for (name,) in rows) == sorted({*COPIED, *STAY})
