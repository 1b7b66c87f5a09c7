"""The engine each test of this folder runs on: the fake, SQLite and PostgreSQL in turn."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from strongroom.crypto.keyring import KeyRing
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.contract import Engine
from strongroom.store.engine.memory import MemoryEngine
from strongroom.store.engine.postgres import PostgresEngine
from strongroom.store.engine.sqlite import SqliteEngine


def opened() -> Barrier:
    barrier = Barrier()
    barrier.unseal(KeyRing.new(0.0))
    return barrier


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.component)])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Engine]:
    made: Engine
    if request.param == "memory":
        made = MemoryEngine()
    elif request.param == "sqlite":
        made = SqliteEngine(tmp_path / "db", opened())
    else:
        made = await PostgresEngine.open(request.getfixturevalue("postgres_url"), opened())
    yield made
    await made.close()
