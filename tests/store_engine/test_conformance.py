"""What every engine owes the store: one suite for the fake, SQLite and PostgreSQL."""

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.store_engine.opened import opened, reads

from strongroom.model.errors import Conflict, Invalid
from strongroom.store.engine.auth_contract import SecretIdRow
from strongroom.store.engine.contract import (
    LONG_PAST,
    NO_MARK,
    ClusterRow,
    ConsumerRow,
    Engine,
    EventRow,
    KvMetadata,
    KvVersionInfo,
    LeaseRow,
    MountRow,
    TokenRow,
    Transaction,
)
from strongroom.store.engine.sqlite import SqliteEngine


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


@reads
async def test_the_cluster_row_is_written_once(engine: Engine) -> None:
    first, second = (ClusterRow(name, "n", "static", b"ring", 1.0) for name in ("a", "b"))
    assert await engine.transact(lambda each: each.put_cluster(first))
    assert not await engine.transact(lambda each: each.put_cluster(second))
    assert engine.view.cluster() == first
    await engine.transact(lambda each: each.replace_ring(b"other"))
    assert (found := engine.view.cluster()) is not None
    assert found.wrapped_ring == b"other"


@reads
async def test_what_raises_is_undone_and_the_rest_stays(engine: Engine) -> None:
    def broken(each: Transaction) -> None:
        each.put_policy("half", "text")
        raise Conflict("no", "no")

    whole = engine.transact(lambda each: each.put_policy("whole", "text"))
    results = await asyncio.gather(engine.transact(broken), whole, return_exceptions=True)
    assert isinstance(results[0], Conflict)
    assert engine.view.policy_names() == ["whole"]


@reads
@pytest.mark.parametrize(
    "engine", ["sqlite", pytest.param("postgres", marks=pytest.mark.component)], indirect=True
)
async def test_what_cannot_be_kept_is_its_callers_mistake_and_nobody_elses(engine: Engine) -> None:
    """Reads and writes of one turn share a trip to the server, and must not share a refusal."""
    whole = engine.transact(lambda each: each.put_policy("whole", "text"))
    wide = engine.transact(lambda each: each.events_after(2**70, 1))
    results = await asyncio.gather(wide, whole, return_exceptions=True)
    assert isinstance(results[0], Invalid)
    assert engine.view.policy("whole") == "text"
    if engine.waits:
        broken = engine.transact(lambda each: each.put_policy("zero\0byte", "text"))
        more = engine.transact(lambda each: each.put_policy("more", "text"))
        results = await asyncio.gather(broken, more, return_exceptions=True)
        assert isinstance(results[0], Invalid)

        async def read(name: str) -> str | None:
            return engine.view.policy(name)

        asked = (engine.waiting(read(name)) for name in ("zero\0byte", "more"))
        refused, found = await asyncio.gather(*asked, return_exceptions=True)
        assert isinstance(refused, Invalid)
        assert found == "text"


@reads
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
        before = engine.revision()
        await engine.transact(change)
        assert engine.generation_at(before) in (generation, engine.view.generation())
        assert engine.view.generation() > generation
        generation = engine.view.generation()
        assert engine.generation_at(engine.revision()) == generation
        assert engine.generation_at(before) >= generation


@reads
async def test_what_is_known_with_the_revision_is_there(engine: Engine) -> None:
    asked = [("m", "a"), ("m", "folder"), ("m", "gone"), ("m", "never"), ("other", "a")]
    for name in ("a", "folder/in it", "gone", "again"):
        await put_secret(engine, name, b"1")
    assert engine.view.kv_exists("m", "a")
    assert engine.view.kv_exists("m", "gone")
    assert not engine.view.kv_exists("m", "folder")
    await engine.transact(lambda each: each.delete_kv("m", "gone"))
    before = engine.revision()
    revision, known = engine.revision_and_known(asked)
    assert revision == before == engine.revision()
    # Engines whose reads do not wait are asked for each.
    assert known == ({("m", "a")} if engine.waits else set())
    assert engine.generation_at(revision) == engine.view.generation()
    # The number of its node is another now.
    await put_secret(engine, "gone", b"2")
    revision, known = engine.revision_and_known(asked)
    assert revision != before
    assert known <= {("m", "a"), ("m", "gone")}
    assert engine.revision_and_known([]) == (revision, frozenset())


@reads
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


@reads
async def test_what_came_to_a_mount_after_it_was_removed_goes(engine: Engine) -> None:
    await put_secret(engine, "a/b", b"1")
    await engine.transact(lambda each: each.put_document("late", "config", "", {"x": 1}))
    await engine.transact(lambda each: each.put_document("other", "config", "", {"x": 1}))
    late = SecretIdRow("late", "role", b"\x01" * 32, "accessor1", 1.0, None)
    await engine.transact(lambda each: each.put_secret_id(late))
    await engine.transact(lambda each: each.delete_rows_of_mount("m"))
    await engine.transact(lambda each: each.delete_rows_of_mount("late"))
    assert engine.view.kv_metadata("m", "a/b") is None
    assert engine.view.document("late", "config", "") is None
    assert engine.view.secret_id("late", late.id) is None
    assert engine.view.document("other", "config", "") == {"x": 1}


@reads
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
    assert engine.view.token_count() == 1


@reads
async def test_a_limited_token_counts_down_and_then_refuses(engine: Engine) -> None:
    row = dataclasses.replace(token(1), uses_left=2)
    await engine.transact(lambda each: each.put_token(row))
    used = [await engine.transact(lambda each: each.use_token(row.id)) for _ in range(3)]
    assert used == [True, True, False]
    assert (left := engine.view.token(row.id)) is not None
    assert left.uses_left < 0


@reads
async def test_expired_tokens_go_a_page_at_a_time(engine: Engine) -> None:
    rows = [token(number, expires=float(number)) for number in range(1, 6)]
    await engine.transact(lambda each: [each.put_token(row) for row in rows])
    assert await engine.transact(lambda each: each.delete_expired_tokens(3.0, 2)) == 2
    assert await engine.transact(lambda each: each.delete_expired_tokens(3.0, 2)) == 1
    assert len(engine.view.accessors()) == 2


@reads
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


@reads
async def test_a_folder_that_was_removed_and_made_again_is_found(engine: Engine) -> None:
    for body in (b"1", b"2"):
        await put_secret(engine, "top/mid/one", body)
        # Who has gone down it knows where it lies, until it lies somewhere else.
        assert engine.view.kv_list("m", "top") == ["mid/"]
        assert engine.view.kv_list("m", "top/mid") == ["one"]
        assert engine.view.kv_list("m", "top/mid/one") == []
        assert engine.view.kv_exists("m", "top/mid/one")
        await engine.transact(lambda each: each.delete_kv("m", "top/mid/one"))
        assert engine.view.kv_list("m", "top/mid") == []
        assert not engine.view.kv_exists("m", "top/mid/one")


@reads
async def test_a_page_ends_between_a_secret_and_the_folder_of_its_name(engine: Engine) -> None:
    for path in ("a", "b", "b/x", "c/y"):
        await put_secret(engine, path, b"1")
    for limit in (1, 2, 3, 4):
        seen: list[str] = []
        while page := engine.view.kv_list("m", "", after=seen[-1] if seen else "", limit=limit):
            assert len(page) <= limit
            seen += page
        assert sorted(seen) == ["a", "b", "b/", "c/"]
        assert seen.index("b") + 1 == seen.index("b/")
    assert "a" not in engine.view.kv_list("m", "", after="a")


@reads
async def test_data_goes_with_its_entry_and_empty_folders_go_too(engine: Engine) -> None:
    await put_secret(engine, "a/b", b"one", b"two")
    assert engine.view.kv_data("m", "a/b", 1) == b"one"
    row = engine.view.kv_metadata("m", "a/b")
    assert row is not None
    kept = msgspec.structs.replace(row, versions=row.versions[1:])
    await engine.transact(lambda each: each.put_kv_metadata(kept))
    assert engine.view.kv_data("m", "a/b", 1) is None
    assert engine.view.kv_data("m", "a/b", 2) == b"two"
    await engine.transact(lambda each: each.delete_kv("m", "a/b"))
    assert engine.view.kv_list("m", "") == []


@reads
async def test_a_new_version_comes_as_old_ones_go(engine: Engine) -> None:
    """One, none, several at once; each that is kept has its own data, each that is not has none."""
    await put_secret(engine, "a", b"1", b"2", b"3")

    async def write(*kept: int, number: int) -> None:
        infos = tuple(KvVersionInfo(each, 1.0) for each in (*kept, number))
        row = KvMetadata("m", "a", 1.0, 2.0, current_version=number, versions=infos)
        await engine.transact(lambda each: each.put_kv_version(row, b"%d" % number))
        metadata = engine.view.kv_metadata("m", "a")
        assert metadata is not None
        assert (metadata.current_version, metadata.versions) == (number, infos)
        data = {each: engine.view.kv_data("m", "a", each) for each in range(1, 9)}
        there = {each: body for each, body in data.items() if body is not None}
        assert there == {each: b"%d" % each for each in (*kept, number)}

    await write(2, 3, number=4)
    await write(2, 3, 4, number=5)
    await write(5, number=6)
    await write(number=7)
    await engine.transact(lambda each: each.delete_kv("m", "a"))
    await write(number=1)


@reads
async def test_consumers_and_events_keep_their_order(engine: Engine) -> None:
    def consumer(actor: str, version: int) -> ConsumerRow:
        return ConsumerRow("p", actor, "pod", "n", "s", "x", "u", "node", "j", version, 1.0, None)

    for each in (consumer("b", 1), consumer("a", 1), consumer("b", 2)):
        await engine.transact(lambda rows, each=each: rows.put_consumer(each))  # type: ignore[misc]
    assert [(row.actor, row.version) for row in engine.view.consumers("p")] == [("a", 1), ("b", 2)]
    lapsed = dataclasses.replace(consumer("c", 1), expires=5.0)
    await engine.transact(lambda rows: rows.put_consumer(lapsed))
    renewed = dataclasses.replace(consumer("d", 1), expires=5.0)
    await engine.transact(lambda rows: rows.put_consumer(renewed))
    ends: dict[str, float] = {"c": 5.0, "d": 7.0}

    def end_of(row: ConsumerRow) -> float:
        return ends[row.actor]

    for before, left in ((6.0, ["a", "b", "d"]), (7.0, ["a", "b", "d"]), (8.0, ["a", "b"])):
        for _ in range(2):
            await engine.transact(
                lambda rows, before=before: rows.forget_consumers(before, end_of, 1)  # type: ignore[misc]
            )
        assert [row.actor for row in engine.view.consumers("p")] == left
    for version in (1, 2):
        event = EventRow(0, 5.0, "secret/data/x", "delete", version, "secret/", versions=(1, 7))
        await engine.transact(lambda rows, event=event: rows.append_event(event))  # type: ignore[misc]
    events = engine.view.events_after(0, 10)
    assert [each.version for each in events] == [1, 2]
    assert [each.versions for each in events] == [(1, 7)] * 2
    assert engine.view.last_event() == events[-1].sequence


def lease(name: str, due: float | None = 10.0, **fields: Any) -> LeaseRow:
    made = LeaseRow(name, "m", token(1).id, 1.0, 10.0, 9, due, data={"user": "marked"})
    return dataclasses.replace(made, **fields)


@reads
async def test_leases_are_claimed_when_they_are_due_oldest_first(engine: Engine) -> None:
    rows = [lease("db/creds/a/1", 30.0), lease("db/creds/a/2", 10.0), lease("db/creds/b/1", 20.0)]
    rows.append(lease("db/creds/stuck", None, state="irrevocable", error="why"))
    await engine.transact(lambda each: [each.put_lease(row) for row in rows])
    assert engine.view.next_due() == 10.0
    assert engine.view.lease("db/creds/a/1") == rows[0]
    assert engine.view.lease_ids("db/creds/a/") == ["db/creds/a/1", "db/creds/a/2"]
    assert engine.view.lease_ids("db/", after="db/creds/a/1", limit=1) == ["db/creds/a/2"]
    assert [row.error for row in engine.view.stuck_leases(5)] == ["why"]
    claimed = await engine.transact(lambda each: each.claim_leases(25.0, 60.0, 5))
    assert [row.id for row in claimed] == ["db/creds/a/2", "db/creds/b/1"]
    assert {(row.state, row.attempts, row.due) for row in claimed} == {("revoking", 1, 60.0)}
    assert engine.view.lease("db/creds/b/1") == claimed[1]
    assert await engine.transact(lambda each: each.claim_leases(25.0, 60.0, 5)) == []
    await engine.transact(lambda each: each.delete_lease("db/creds/a/2"))
    await engine.transact(lambda each: each.revoke_leases(26.0, prefix="db/creds/a/"))
    assert engine.view.next_due() == 26.0
    await engine.transact(lambda each: each.revoke_leases(24.0, mount="m"))
    await engine.transact(lambda each: each.put_lease(lease("pki/1", 24.5, mount="n")))
    claimed = await engine.transact(lambda each: each.claim_leases(25.0, 60.0, 1, apart=["m"]))
    assert [row.id for row in claimed] == ["pki/1"]
    claimed = await engine.transact(lambda each: each.claim_leases(25.0, 60.0, 5, apart=["m", "n"]))
    assert claimed == []
    claimed = await engine.transact(lambda each: each.claim_leases(25.0, 60.0, 5))
    assert len(claimed) == 3


@reads
async def test_a_lease_that_is_being_made_is_not_due_before_its_time(engine: Engine) -> None:
    rows = [lease("a/1", 300.0, state="pending"), lease("a/2", 500.0), lease("a/3", None)]
    rows[2] = dataclasses.replace(rows[2], state="irrevocable", token=None)

    def write(each: Transaction) -> None:
        each.put_token(token(1))
        for row in rows:
            each.put_lease(row)

    await engine.transact(write)
    for revoke in (
        lambda each: each.delete_token(token(1).id, now=7.0),
        lambda each: each.revoke_leases(7.0, prefix="a/"),
        lambda each: each.revoke_leases(7.0, mount="m"),
    ):
        await engine.transact(revoke)
        left = [engine.view.lease(row.id) or row for row in rows]
        assert [(row.state, row.due) for row in left[:2]] == [
            ("abandoned", 300.0),
            ("revoking", 7.0),
        ]
    assert (left[2].state, left[2].due) == ("revoking", 7.0)
    claimed = await engine.transact(lambda each: each.claim_leases(300.0, 400.0, 5))
    assert {row.state for row in claimed} == {"revoking"}


@reads
async def test_a_token_takes_its_cubbyhole_along_and_its_leases_become_due(engine: Engine) -> None:
    rows = [token(1), token(2, token(1).id)]
    theirs = lease("db/creds/a/1", 500.0, token=rows[1].id)

    def write(each: Transaction) -> None:
        for row in rows:
            each.put_token(row)
            each.put_cubbyhole(row.id, "a/b", b"{}")
        each.put_cubbyhole(rows[0].id, "a/b", b'{"second":1}')
        each.put_lease(theirs)

    await engine.transact(write)
    assert engine.view.cubbyhole(rows[0].id, "a/b") == b'{"second":1}'
    assert engine.view.cubbyhole_paths(rows[1].id) == ["a/b"]
    assert engine.view.cubbyhole_size(rows[1].id) == 1
    await engine.transact(lambda each: each.delete_token(rows[0].id, now=7.0))
    assert engine.view.cubbyhole(rows[0].id, "a/b") is None
    assert engine.view.cubbyhole_paths(rows[1].id) == []
    assert engine.view.cubbyhole_size(rows[1].id) == 0
    left = engine.view.lease(theirs.id)
    assert left is not None
    assert (left.due, left.state, left.token) == (7.0, "revoking", None)


@reads
async def test_expiry_moves_the_generation_only_for_what_was_still_alive(engine: Engine) -> None:
    rows = [token(1, expires=1.0), token(2, expires=2.0), token(3, token(2).id, expires=99.0)]
    await engine.transact(lambda each: [each.put_token(row) for row in rows])
    generation = engine.view.generation()
    assert await engine.transact(lambda each: each.delete_expired_tokens(1.0, 10)) == 1
    assert engine.view.generation() == generation
    assert await engine.transact(lambda each: each.delete_expired_tokens(2.0, 10)) == 1
    assert engine.view.accessors() == []
    assert engine.view.generation() > generation


@reads
async def test_expired_tokens_take_along_what_they_made_and_what_they_keep(engine: Engine) -> None:
    rows = [token(1, expires=1.0), token(2, token(1).id, expires=1.5), token(3, token(2).id)]
    rows.append(token(4, expires=9.0))
    theirs = [lease(f"db/creds/a/{row.accessor}", 500.0, token=row.id) for row in rows]

    def write(each: Transaction) -> None:
        for row, made in zip(rows, theirs, strict=True):
            each.put_token(row)
            each.put_cubbyhole(row.id, "a/b", b"{}")
            each.put_lease(made)

    await engine.transact(write)
    # A page of one: its children go along, the expired one of them is counted as well.
    assert await engine.transact(lambda each: each.delete_expired_tokens(2.0, 1)) == 2
    assert engine.view.accessors() == ["accessor4"]
    assert [engine.view.cubbyhole_paths(row.id) for row in rows] == [[], [], [], ["a/b"]]
    left = [engine.view.lease(each.id) for each in theirs]
    assert [(each.due, each.state) for each in left if each] == [
        *[(2.0, "revoking")] * 3, (500.0, "live")
    ]  # fmt: skip
    assert await engine.transact(lambda each: each.delete_expired_tokens(2.0, 1)) == 0


@reads
async def test_a_secret_stands_until_it_is_written_or_gone(engine: Engine) -> None:
    async def mark() -> tuple[int, int]:
        row = engine.view.kv_metadata("m", "a/b")
        assert row is not None
        return row.mark

    await put_secret(engine, "a/b", b"one")
    first = await mark()
    await put_secret(engine, "a/c", b"other")
    await engine.transact(lambda each: each.put_token(token(1)))
    assert engine.view.kv_stands(first)
    assert await mark() == first
    await put_secret(engine, "a/b", b"one", b"two")
    second = await mark()
    assert (engine.view.kv_stands(first), engine.view.kv_stands(second)) == (False, True)
    await engine.transact(lambda each: each.delete_kv("m", "a/b"))
    assert not engine.view.kv_stands(second)
    # One that is made anew under the same path is another.
    await put_secret(engine, "a/b", b"one")
    for each in (first, second, NO_MARK):
        assert not engine.view.kv_stands(each)


@reads
async def test_tokens_are_found_and_cut_short_by_their_path(engine: Engine) -> None:
    paths = ["auth/a/login", "auth/a/login/x", "auth/a/login-other", "auth/b/login"]
    rows = [dataclasses.replace(token(number), path=path) for number, path in enumerate(paths, 1)]
    await engine.transact(lambda each: [each.put_token(row) for row in rows])
    found = engine.view.token_ids("auth/a/login")
    assert found == [(paths[0], rows[0].id), (paths[1], rows[1].id)]
    after = f"{paths[0]}/h{rows[0].id.hex()}"
    assert engine.view.token_ids("auth/a/login", after=after, limit=1) == found[1:]
    assert len(engine.view.token_ids("")) == 4
    pages, after = [], ""
    while page := engine.view.token_ids("", after=after, limit=1):
        pages += page
        after = f"{page[-1][0]}/h{page[-1][1].hex()}"
    assert pages == list(engine.view.token_ids(""))
    await engine.transact(lambda each: each.put_lease(lease("auth/b/x", 500.0)))
    assert engine.view.count_under("auth/b/", 10) == 2
    assert engine.view.count_under("", 3) == 3
    mine = dataclasses.replace(rows[0], entity_id="ada")
    made = dataclasses.replace(rows[1], entity_id="bob", maker="ada")
    await engine.transact(lambda each: [each.put_token(row) for row in (mine, made)])
    # The lease is with the first of them.
    assert [engine.view.count_of(each, 10) for each in ("ada", "bob", rows[2].client)] == [3, 0, 1]
    assert engine.view.count_of("ada", 2) == 2
    await engine.transact(lambda each: each.revoke_tokens("auth/a/login"))
    ends = [(engine.view.token(row.id) or row).expires for row in rows]
    assert ends == [LONG_PAST, LONG_PAST, None, None]
    for now, left in ((LONG_PAST - 1.0, 4), (LONG_PAST, 2)):
        assert len(engine.view.accessors(now)) == len(engine.view.token_ids("", now=now)) == left


@reads
async def test_what_they_made_is_cut_short_with_them(engine: Engine) -> None:
    made = [token(1), token(2, token(1).id), token(3, token(2).id, expires=3.0), token(4)]
    rows = [dataclasses.replace(made[0], path="auth/a/login"), *made[1:]]
    await engine.transact(lambda each: [each.put_token(row) for row in rows])
    await engine.transact(lambda each: each.revoke_tokens("auth/a"))
    ends = [(engine.view.token(row.id) or row).expires for row in rows]
    assert ends == [LONG_PAST, LONG_PAST, LONG_PAST, None]


@reads
async def test_tidy_takes_leases_and_cubbyholes_without_a_token(engine: Engine) -> None:
    gone, kept = lease("a/1", 500.0, token=b"x" * 32), lease("a/2", 500.0)

    def write(each: Transaction) -> None:
        each.put_token(token(1))
        each.put_lease(gone)
        each.put_lease(kept)
        each.put_lease(lease("a/3", 500.0, token=None))
        each.put_cubbyhole(token(1).id, "a", b"{}")
        each.put_cubbyhole(b"x" * 32, "a", b"{}")
        each.revoke_abandoned_leases(3.0)

    await engine.transact(write)
    due = [(engine.view.lease(f"a/{number}") or gone).due for number in (1, 2, 3)]
    assert due == [3.0, 500.0, 500.0]
    assert engine.view.cubbyhole(b"x" * 32, "a") is None
    assert engine.view.cubbyhole(token(1).id, "a") == b"{}"


@reads
async def test_a_mount_moves_with_everything_in_it(engine: Engine) -> None:
    row = MountRow("secret", "kv/", "kv", "m", "kv_1", options={"version": "2"})
    await engine.transact(lambda each: each.put_mount(row))
    await put_secret(engine, "a/b", b"1")
    await engine.transact(lambda each: each.move_mount(row, "other/"))
    assert engine.view.mounts() == [dataclasses.replace(row, path="other/")]
    assert engine.view.kv_data("m", "a/b", 1) == b"1"


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
        await one.close()
        await two.close()


async def test_no_name_or_value_lies_in_the_file_in_the_clear(tmp_path: Path) -> None:
    engine = SqliteEngine(tmp_path / "db", opened())
    await put_secret(engine, "marked-folder/marked-name", b'{"k":"marked-value"}')
    await engine.close()
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for marked in (b"marked-folder", b"marked-name", b"marked-value"):
        assert marked not in stored
