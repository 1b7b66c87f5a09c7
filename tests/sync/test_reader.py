"""What one object reads, and who has to wait for it."""

import asyncio

from strongroom.kube.fake import FakeKubeApi
from strongroom.kube.resource import Object
from strongroom.model.clock import SimulatedClock, SystemClock
from strongroom.sync.crds import SECRET_STORES
from strongroom.sync.providers.fake import FakeProvider
from strongroom.sync.reader import NoGenerators, Reader
from strongroom.sync.spec import parse_spec
from strongroom.sync.stores import ApiLookup, Stores
from strongroom.sync.templates import GoTemplates

ROWS = 50


async def test_nobody_waits_for_all_rows_of_a_large_value(
    api: FakeKubeApi, clock: SimulatedClock
) -> None:
    provider = FakeProvider()
    provider.put_data("large", b'{"a": {"b": "c"}, "rest": "%b"}' % (b"x" * 20_000))

    async def made(_store: Object, _namespace: str) -> FakeProvider:
        return provider

    metadata = {"name": "s", "namespace": "n"}
    await api.create(SECRET_STORES, {"metadata": metadata, "spec": {"provider": {"fake": {}}}})
    stores = Stores(ApiLookup(api), made, clock)
    reader = Reader(stores, NoGenerators(), GoTemplates(SystemClock()))
    ref = {"key": "large", "property": "a"}
    rows = [{"secretKey": f"k{at}", "remoteRef": ref} for at in range(ROWS)]
    spec = {"secretStoreRef": {"name": "s"}, "data": rows}
    item = {"metadata": {"name": "e", "namespace": "n"}, "spec": spec}
    reading, turns = asyncio.create_task(reader.collect(item, parse_spec(item))), 0
    while not reading.done():
        await asyncio.sleep(0)
        turns += 1
    assert len((await reading).data) == ROWS
    assert turns > ROWS
