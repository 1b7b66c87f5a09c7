"""A row that somebody else holds locked is left for later, and nothing waits for it."""

import asyncio
import re

import asyncpg
import pytest
from tests.store_engine.test_conformance import lease

from strongroom.crypto.keyring import KeyRing
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.contract import LeaseRow, Transaction
from strongroom.store.engine.postgres import PostgresEngine

pytestmark = pytest.mark.component
SECONDS = 60.0  # of a wait that ends when it should


async def test_leases_are_claimed_past_one_that_an_administrator_holds(postgres_url: str) -> None:
    barrier = Barrier()
    barrier.unseal(KeyRing.new(0.0))
    engine = await PostgresEngine.open(postgres_url, barrier)
    rows = [lease("a/1", 10.0), lease("a/2", 20.0), lease("a/3", 30.0), lease("a/4", 90.0)]

    async def claimed(limit: int) -> list[LeaseRow]:
        def claim(each: Transaction) -> list[LeaseRow]:
            return list(each.claim_leases(50.0, 100.0, limit))

        async with asyncio.timeout(SECONDS):
            return await engine.transact_alone(claim)

    try:
        await engine.transact(lambda each: [each.put_lease(row) for row in rows])
        administrator = await asyncpg.connect(re.sub(r"^\w+", "postgresql", postgres_url))
        try:
            async with administrator.transaction():
                await administrator.execute("SELECT * FROM lease WHERE id = 'a/1' FOR UPDATE")
                # The oldest is not to be had; those behind it are, as many as are wanted.
                assert [row.id for row in await claimed(1)] == ["a/2"]
                assert [row.id for row in await claimed(5)] == ["a/3"]
                assert await claimed(5) == []
            assert [(row.id, row.due) for row in await claimed(5)] == [("a/1", 100.0)]
        finally:
            await administrator.close()
    finally:
        await engine.close()
