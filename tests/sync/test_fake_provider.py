"""Stores of kind `fake`: values that stand in the manifest."""

import asyncio
from typing import Any

import pytest

from strongroom.kube.informer import Informer
from strongroom.model.errors import Invalid, NotFound, Unavailable
from strongroom.sync.crds import SECRET_STORES
from strongroom.sync.patterns import compile_pattern
from strongroom.sync.providers.contract import Find, Provider
from strongroom.sync.providers.kinds import Providers
from strongroom.sync.providers.references import Surroundings
from strongroom.sync.spec import RemoteRef
from strongroom.sync.store_controller import StoreController
from strongroom.sync.stores import ApiLookup, Stores
from strongroom.sync.values import extract, pick


@pytest.fixture
def made(api, clock):
    async def make(**spec: Any) -> Provider:
        metadata = {"name": "s", "namespace": "n"}
        store = {"metadata": metadata, "spec": {"provider": {"fake": spec}}}
        return await Providers(Surroundings(api, clock))(store, "n")

    return make


DATA = [
    {"key": "/db", "value": '{"user": "u", "deep": {"port": 5432}}'},
    {"key": "/db", "value": "older", "version": "v1"},
    {"key": "/text", "value": "plain"},
    {"key": "/once", "value": "only", "version": "v9"},
    {"key": "/number", "value": 5},
]


async def value(provider: Provider, key: str, prop: str = "", version: str = "") -> bytes:
    ref = RemoteRef(key, prop, version)
    return pick((await provider.fetch(ref)).data, ref)


async def test_values_properties_and_versions(made) -> None:
    provider = await made(data=DATA)
    await provider.validate()
    assert await value(provider, "/text") == b"plain"
    assert await value(provider, "/db", "user") == b"u"
    assert await value(provider, "/db", "deep.port") == b"5432"
    assert await value(provider, "/db", version="v1") == b"older"
    assert await value(provider, "/number") == b"5"
    found = await provider.fetch(RemoteRef("/db"))
    assert extract(found.data, RemoteRef("/db"))["user"] == b"u"


async def test_of_named_versions_the_last_by_name_is_found(made) -> None:
    found = await (await made(data=DATA)).find(Find(matches=compile_pattern("^/(db|once)").search))
    assert {name: each.data for name, each in found.items()} == {"/db": b"older", "/once": b"only"}


@pytest.mark.parametrize(("key", "version"), [("/none", ""), ("/db", "v2"), ("/once", "")])
async def test_a_version_is_part_of_the_name(made, key: str, version: str) -> None:
    with pytest.raises(NotFound, match=key):
        await value(await made(data=DATA), key, version=version)


async def test_a_validation_result_makes_a_store_that_fails(made) -> None:
    provider = await made(data=DATA, validationResult=2)
    with pytest.raises(Unavailable, match="validationResult"):
        await provider.validate()
    for usable in (0, 1):
        provider = await made(data=DATA, validationResult=usable)
        await provider.validate()
        assert provider.traits.unchecked == bool(usable)
        assert await value(provider, "/text") == b"plain"


@pytest.mark.parametrize(
    ("result", "status", "reason"),
    [(0, "True", "Valid"), (1, "True", "ValidationUnknown"), (2, "False", "ValidationFailed")],
)
async def test_a_validation_result_is_told_at_the_store(
    api, clock, result: int, status: str, reason: str
) -> None:
    spec = {"provider": {"fake": {"data": DATA, "validationResult": result}}}
    metadata = {"name": "s", "namespace": "n", "generation": 1}
    await api.create(SECRET_STORES, {"metadata": metadata, "spec": spec})
    stores = Stores(ApiLookup(api), Providers(Surroundings(api, clock)), clock)
    informer = Informer(api, SECRET_STORES, clock)
    controller = StoreController(api, informer, stores, clock)
    following = asyncio.create_task(informer.run())
    await informer.synced.wait()
    await controller.reconcile(("n", "s"))
    following.cancel()
    found = (await api.get(SECRET_STORES, "s", "n"))["status"]
    assert found["capabilities"] == "ReadWrite"
    (said,) = found["conditions"]
    assert (said["status"], said["reason"]) == (status, reason)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"data": {}}, None),
        ({"data": "x"}, "data must be a list"),
        ({"data": [{"value": "x"}]}, r"data\[0\].key is needed"),
        ({"data": [{"key": "a", "value": {}}]}, r"data\[0\].value must be a string"),
        ({"validationResult": "x"}, "validationResult must be a whole number"),
    ],
)
async def test_a_spec_that_cannot_be_used_names_its_field(made, spec: dict, said: str) -> None:
    if said is None:
        assert not await (await made(**spec)).find(Find())
        return
    with pytest.raises(Invalid, match=said):
        await made(**spec)
