"""A call that takes too long is answered once, whatever its write does afterwards."""

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from tests.conftest import serving

from strongroom.model.clock import SimulatedClock
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.contract import About, Engine, Transaction
from strongroom.store.engine.sqlite import SqliteEngine


class Holding:
    """An engine whose writes begin when they are let go."""

    def __init__(self, engine: SqliteEngine) -> None:
        self._engine = engine
        self.holds = False
        self._held: list[tuple[Callable[[Transaction], Any], asyncio.Future[Any]]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def transact(
        self, work: Callable[[Transaction], Any], *, about: About | None = None
    ) -> "asyncio.Future[Any]":
        if not self.holds:
            return self._engine.transact(work, about=about)
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._held.append((work, done))
        return done

    async def let_go(self) -> None:
        self.holds = False
        for work, done in self._held:
            result = await self._engine.transact(work)
            if not done.done():
                done.set_result(result)


@pytest.mark.parametrize(
    ("path", "body", "found"),
    [
        # A call that is one write, and one that awaits it.
        ("secret/data/late", {"data": {"k": "v"}}, "secret/data/late"),
        ("sys/policies/acl/late", {"policy": 'path "a" {}'}, "sys/policies/acl/late"),
    ],
)
async def test_a_late_write_is_done_and_not_answered_again(
    tmp_path: Path, empty_database: Path, path: str, body: dict[str, Any], found: str
) -> None:
    barrier = Barrier()
    engine = Holding(SqliteEngine(shutil.copy(empty_database, tmp_path / "db"), barrier))
    serve = serving(
        cast("Engine", engine), barrier, tmp_path / "key", SimulatedClock(), request_seconds=0.05
    )
    async with serve as store:
        before = len(store.records())
        engine.holds = True
        status, said = await store.ask("POST", path, body)
        assert (status, said) == (503, {"errors": ["the request took too long"]})
        await engine.let_go()
        assert (await store.ask("GET", found))[0] == 200
        assert path not in json.dumps((await store.ask("GET", "sys/in-flight-req"))[1])
        asked = [each for each in store.records()[before:] if each["request"]["path"] == path]
        assert [(each["type"], each.get("error", "")) for each in asked] == [
            ("request", ""),
            ("response", "the request took too long"),
            ("request", ""),
            ("response", ""),
        ]
