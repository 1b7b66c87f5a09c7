"""The engine each test of this folder runs on: the fake, SQLite and PostgreSQL in turn."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.store_engine.opened import opened

from strongroom.store.engine.contract import Engine
from strongroom.store.engine.memory import MemoryEngine
from strongroom.store.engine.postgres import PostgresEngine
from strongroom.store.engine.sqlite import SqliteEngine


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
