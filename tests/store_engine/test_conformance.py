"""What every engine owes the store: one suite for the fake and for SQLite."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.crypto.aead import Tampered
from strongroom.crypto.keyring import KeyRing
from strongroom.model.errors import Conflict
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.contract import (
    ClusterRow,
    ConsumerRow,
    Engine,
    EventRow,
    KvMetadata,
    KvVersionInfo,
    MountRow,
    TokenRow,
    Transaction,
)
from strongroom.store.engine.memory import MemoryEngine
from strongroom.store.engine.sqlite import SqliteEngine


def opened() -> Barrier:
    barrier = Barrier()
    barrier.unseal(KeyRing.new(0.0))
    return barrier


@pytest.fixture(params=["memory", "sqlite"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    made: Engine = (
        MemoryEngine() if request.param == "memory" else SqliteEngine(tmp_path / "db", opened())
    )
    yield made
    made.close()


def token(number: int, parent: bytes | None = None, expires: float | None = None) -> TokenRow:
    return TokenRow(
        id=bytes([number]) * 32,
        accessor=f"accessor{number}",
        parent=parent,
        policies=("default",),
        display_name="t",
        path="auth/token/create",
        created=1.0,
        ttl=60,
        expires=expires,
        metadata={"pod_uid": "u"},
    )


async def put_secret(engine: Engine, path: str, *versions: bytes, mount: str = "m") -> None:
    infos = tuple(KvVersionInfo(number + 1, 1.0) for number in range(len(versions)))

    def work(each: Transaction) -> None:
        each.put_kv_metadata(
            KvMetadata(mount, path, 1.0, 2.0, current_version=len(versions), versions=infos)
        )
        for number, data in enumerate(versions, 1):
            each.put_kv_data(mount, path, number, data)

    await engine.transact(work)


async def test_the_cluster_row_is_written_once(engine: Engine) -> None:
    first, second = (ClusterRow(name, "n", "static", b"ring", 1.0) for name in ("a", "b"))
    assert await engine.transact(lambda each: each.put_cluster(first))
    assert not await engine.transact(lambda each: each.put_cluster(second))
    assert engine.view.cluster() == first
    await engine.transact(lambda each: each.replace_ring(b"other"))
    assert (found := engine.view.cluster()) is not None
    assert found.wrapped_ring == b"other"


async def test_what_raises_is_undone_and_the_rest_stays(engine: Engine) -> None:
    def broken(each: Transaction) -> None:
        each.put_policy("half", "text")
        raise Conflict("no", "no")

    whole = engine.transact(lambda each: each.put_policy("whole", "text"))
    results = await asyncio.gather(engine.transact(broken), whole, return_exceptions=True)
    assert isinstance(results[0], Conflict)
    assert engine.view.policy_names() == ["whole"]


async def test_the_revision_moves_with_every_commit_the_generation_with_control_rows(
    engine: Engine,
) -> None:
    revision, generation = engine.revision(), engine.view.generation()
    await put_secret(engine, "a", b"1")
    assert engine.revision() != revision
    assert engine.view.generation() == generation
    await engine.transact(lambda each: each.put_token(token(1)))
    assert engine.view.generation() == generation
    for change in (
        lambda each: each.put_token(token(1)),
        lambda each: each.put_policy("p", "x"),
        lambda each: each.delete_policy("p"),
        lambda each: each.delete_token(token(1).id),
        lambda each: each.put_mount(MountRow("secret", "kv/", "kv", "u", "a")),
    ):
        await engine.transact(change)
        assert engine.view.generation() > generation
        generation = engine.view.generation()


async def test_a_mount_takes_everything_under_it_along(engine: Engine) -> None:
    row = MountRow("secret", "kv/", "kv", "m", "kv_1", options={"version": "2"})
    await engine.transact(lambda each: each.put_mount(row))
    await put_secret(engine, "a/b", b"1")
    await engine.transact(lambda each: each.put_document("m", "config", "", {"x": 1}))
    assert engine.view.mounts() == [row]
    await engine.transact(lambda each: each.delete_mount(row))
    assert engine.view.mounts() == []
    assert engine.view.kv_metadata("m", "a/b") is None
    assert engine.view.document("m", "config", "") is None


async def test_revoking_a_token_takes_its_children_unless_they_become_orphans(
    engine: Engine,
) -> None:
    rows = [token(1), token(2, token(1).id), token(3, token(2).id), token(4, token(1).id)]
    await engine.transact(lambda each: [each.put_token(row) for row in rows])
    assert engine.view.token_by_accessor("accessor3") == rows[2]
    gone = await engine.transact(lambda each: each.delete_token(rows[1].id))
    assert sorted(gone) == sorted([rows[1].id, rows[2].id])
    await engine.transact(lambda each: each.delete_token(rows[0].id, orphan=True))
    left = engine.view.token(rows[3].id)
    assert left is not None
    assert left.parent is None
    assert engine.view.accessors() == ["accessor4"]


async def test_a_limited_token_counts_down_and_then_refuses(engine: Engine) -> None:
    import dataclasses

    row = dataclasses.replace(token(1), uses_left=2)
    await engine.transact(lambda each: each.put_token(row))
    used = [await engine.transact(lambda each: each.use_token(row.id)) for _ in range(3)]
    assert used == [True, True, False]
    assert (left := engine.view.token(row.id)) is not None
    assert left.uses_left < 0


async def test_expired_tokens_go_a_page_at_a_time(engine: Engine) -> None:
    rows = [token(number, expires=float(number)) for number in range(1, 6)]
    await engine.transact(lambda each: [each.put_token(row) for row in rows])
    assert await engine.transact(lambda each: each.delete_expired_tokens(3.0, 2)) == 2
    assert await engine.transact(lambda each: each.delete_expired_tokens(3.0, 2)) == 1
    assert len(engine.view.accessors()) == 2


async def test_folders_list_names_and_pages_go_on(engine: Engine) -> None:
    for path in ("a", "b/c", "b/d/e", "b"):
        await put_secret(engine, path, b"1")
    assert engine.view.kv_list("m", "") == ["a", "b", "b/"]
    assert engine.view.kv_list("m", "b") == ["c", "d/"]
    assert engine.view.kv_list("m", "nothing") == []
    for number in range(25):
        await put_secret(engine, f"many/s{number:02}", b"1")
    seen: list[str] = []
    while page := engine.view.kv_list("m", "many", after=seen[-1] if seen else "", limit=10):
        seen += page
    assert sorted(seen) == [f"s{number:02}" for number in range(25)]


async def test_data_goes_with_its_entry_and_empty_folders_go_too(engine: Engine) -> None:
    await put_secret(engine, "a/b", b"one", b"two")
    assert engine.view.kv_data("m", "a/b", 1) == b"one"
    row = engine.view.kv_metadata("m", "a/b")
    assert row is not None
    import dataclasses

    kept = dataclasses.replace(row, versions=row.versions[1:])
    await engine.transact(lambda each: each.put_kv_metadata(kept))
    assert engine.view.kv_data("m", "a/b", 1) is None
    assert engine.view.kv_data("m", "a/b", 2) == b"two"
    await engine.transact(lambda each: each.delete_kv("m", "a/b"))
    assert engine.view.kv_list("m", "") == []


async def test_consumers_and_events_keep_their_order(engine: Engine) -> None:
    def consumer(actor: str, version: int) -> ConsumerRow:
        return ConsumerRow("p", actor, "pod", "n", "s", "x", "u", "node", "j", version, 1.0, None)

    for each in (consumer("b", 1), consumer("a", 1), consumer("b", 2)):
        await engine.transact(lambda rows, each=each: rows.put_consumer(each))  # type: ignore[misc]
    assert [(row.actor, row.version) for row in engine.view.consumers("p")] == [("a", 1), ("b", 2)]
    for version in (1, 2):
        event = EventRow(0, 5.0, "secret/data/x", "write", version, "secret/")
        await engine.transact(lambda rows, event=event: rows.append_event(event))  # type: ignore[misc]
    events = engine.view.events_after(0, 10)
    assert [each.version for each in events] == [1, 2]
    assert engine.view.last_event() == events[-1].sequence


# SQLite alone


async def test_a_second_process_sees_what_was_committed(tmp_path: Path) -> None:
    barrier = opened()
    one, two = (SqliteEngine(tmp_path / "db", barrier) for _ in range(2))
    try:
        seen = two.revision()
        await one.transact(lambda each: each.put_policy("p", "text"))
        assert two.revision() != seen
        assert two.view.policy("p") == "text"
    finally:
        one.close()
        two.close()


async def test_a_row_moved_or_rolled_back_by_hand_is_refused_and_named(tmp_path: Path) -> None:
    import sqlite3

    engine = SqliteEngine(tmp_path / "db", opened())
    await engine.transact(lambda each: each.put_policy("weak", "old"))
    raw = sqlite3.connect(tmp_path / "db", isolation_level=None)
    (old,) = raw.execute("SELECT body FROM policy").fetchone()
    await engine.transact(lambda each: each.put_policy("weak", "new"))
    await engine.transact(lambda each: each.put_policy("strong", "x"))
    raw.execute("UPDATE policy SET body = ? WHERE name = 'weak'", (old,))
    with pytest.raises(Tampered, match="weak"):
        engine.view.policy("weak")
    raw.execute("UPDATE policy SET body = (SELECT body FROM policy WHERE name = 'strong')")
    with pytest.raises(Tampered, match="weak"):
        engine.view.policy("weak")
    raw.close()
    engine.close()


async def test_no_name_or_value_lies_in_the_file_in_the_clear(tmp_path: Path) -> None:
    engine = SqliteEngine(tmp_path / "db", opened())
    await put_secret(engine, "marked-folder/marked-name", b'{"k":"marked-value"}')
    engine.close()
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for marked in (b"marked-folder", b"marked-name", b"marked-value"):
        assert marked not in stored
