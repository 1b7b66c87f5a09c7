"""What happens beside requests for as long as there are rows uses an index, never the whole table."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest

from strongroom.crypto.keyring import KeyRing
from strongroom.store.engine._foreseen_postgres import ASK, CHANGE
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.contract import About, Engine, KvMetadata, LeaseRow, TokenRow
from strongroom.store.engine.postgres import PostgresEngine
from strongroom.store.engine.sqlite import SqliteEngine

# Tables with a row for each client, secret or lease.
LARGE = ("token", "lease", "cubbyhole", "secret_id", "failed_login", "entity", "alias", "node")
Asked = list[tuple[str, Sequence[Any]]]


class Heard:
    """The statements of a unit of work, as they are carried out."""

    def __init__(self, sql: Any, asked: Asked) -> None:
        self._sql, self._asked = sql, asked
        self.dialect = sql.dialect

    def one(self, statement: str, *values: Any) -> Any:
        self._asked.append((statement, values))
        return self._sql.one(statement, *values)

    def all(self, statement: str, *values: Any) -> Any:
        self._asked.append((statement, values))
        return self._sql.all(statement, *values)

    def run(self, statement: str, *values: Any) -> None:
        self._asked.append((statement, values))
        self._sql.run(statement, *values)


def work(each: Any) -> None:
    """What has come to its end, what a token takes along, and how a login finds its entity."""
    each.next_due()
    each.delete_expired_tokens(50.0, 10)
    each.claim_leases(50.0, 60.0, 10)
    each.delete_token(b"t1", now=50.0)
    each.revoke_tokens("auth/y")
    each.revoke_leases(50.0, prefix="x/")
    each.revoke_leases(50.0, mount="m")
    each.lease_ids("x/", limit=10)
    each.stuck_leases(10)
    each.token_ids("auth/", limit=10)
    each.token_by_accessor("a1")
    each.delete_spent_secret_ids(50.0, 10)
    each.forget_failed_logins(50.0, 10)
    each.trim_failed_logins("m", 10, 10)
    each.alias_by_name("m", "n")
    each.kv_metadata("m", "a/b")
    each.delete_rows_of_mount("m")


def fill(each: Any) -> None:
    for number in range(3):
        name = f"{number}".encode()
        each.put_token(
            TokenRow(b"t" + name, f"a{number}", None, ("p",), "t", "auth/x", 1.0, 60, 40.0 + number)
        )
        each.put_lease(LeaseRow(f"x/{number}", "m", b"t" + name, 1.0, 2.0, 1, 45.0))


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.component)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(request.getfixturevalue("postgres_url") if request.param != "sqlite" else tmp_path)


async def test_background_work_reads_no_table_from_end_to_end(place: str) -> None:
    barrier = Barrier()
    barrier.unseal(KeyRing.new(0.0))
    on_postgres = place.startswith("postgresql")
    engine: Engine = (
        await PostgresEngine.open(place, barrier)
        if on_postgres
        else SqliteEngine(Path(place) / "db", barrier)
    )
    asked: Asked = []

    def heard(each: Any) -> None:
        each._sql, real = Heard(each._sql, asked), each._sql
        try:
            work(each)
        finally:
            each._sql = real

    try:
        await engine.transact(fill)
        await engine.transact_alone(heard)
        assert len(asked) > 15
        explain = explained_by_postgres(place) if on_postgres else explained_by_sqlite(engine)
        for statement, values in asked:
            plan = await explain(statement, values)
            whole = re.findall(r"(?:Seq Scan on|SCAN) (\w+)(?! USING)", plan)
            assert not set(whole) & set(LARGE), f"{statement}\n{plan}"
            if statement.startswith("SELECT path, id"):
                # A page that sorts reads all that is behind it, and so does the next.
                assert not re.search(r"TEMP B-TREE|Sort", plan), plan
    finally:
        await engine.close()


@pytest.mark.component
async def test_a_group_of_writes_is_not_planned_anew_each_time(postgres_url: str) -> None:
    barrier = Barrier()
    barrier.unseal(KeyRing.new(0.0))
    engine = await PostgresEngine.open(postgres_url, barrier)

    def write(each: Any) -> None:
        row = each.kv_metadata("m", "a") or KvMetadata("m", "a", 1.0, 1.0, 0)
        number = row.current_version + 1
        each.put_kv_version(msgspec.structs.replace(row, current_version=number), b"v")

    try:
        for _ in range(20):
            await engine.transact(write, about=About("m", "a"))
        async with engine._connections.lend(5.0) as connection:
            if connection.get_server_version() < (14,):
                pytest.skip("tells the number of plans from version 14 on")
            for statement in (ASK, CHANGE):
                kept, made = await connection.fetchrow(
                    "SELECT generic_plans, custom_plans FROM pg_prepared_statements"
                    " WHERE statement = $1",
                    statement,
                )
                # The server makes five before it compares.
                assert (kept > 10, made) == (True, 5), statement
    finally:
        await engine.close()


async def test_a_step_down_a_tree_costs_the_same_at_every_depth(tmp_path: Path) -> None:
    barrier = Barrier()
    barrier.unseal(KeyRing.new(0.0))
    engine: Any = SqliteEngine(tmp_path / "db", barrier)
    deep = "/".join(["a"] * 200)
    asked: Asked = []
    try:
        await engine.transact(
            lambda each: each.put_kv_metadata(KvMetadata("m", f"{deep}/x", 1.0, 1.0, 1))
        )
        view = engine.view
        view.nodes.forget()
        view._sql = Heard(view._sql, asked)
        for depth in range(200):
            assert view.kv_list("m", deep[: 2 * depth], limit=500) == ["a/"]
        assert view.kv_list("m", deep, limit=500) == ["x"]
        assert len(asked) < 5 * 200
    finally:
        await engine.close()


def explained_by_sqlite(engine: Any) -> Any:
    async def explain(statement: str, values: Sequence[Any]) -> str:
        rows = await engine.transact(
            lambda each: each._sql.all(f"EXPLAIN QUERY PLAN {statement}", *values)
        )
        return "\n".join(row[3] for row in rows)

    return explain


def explained_by_postgres(url: str) -> Any:
    async def explain(statement: str, values: Sequence[Any]) -> str:
        places = iter(range(1, 99))
        numbered = re.sub(r"\?", lambda _: f"${next(places)}", statement)
        connection = await asyncpg.connect(url)
        try:
            # So few rows are read whole by choice; what has no index is read so all the same.
            await connection.execute("SET enable_seqscan = off")
            return "\n".join(
                row[0] for row in await connection.fetch("EXPLAIN " + numbered, *values)
            )
        finally:
            await connection.close()

    return explain
