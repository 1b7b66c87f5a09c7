"""Stores: when they are validated again, whose they are, and which namespaces may use them."""

import asyncio

import pytest

from strongroom.kube.resource import Object
from strongroom.sync.crds import CLUSTER_SECRET_STORES, PUSH_SECRETS, SECRET_STORES
from strongroom.sync.desired import synced_version
from strongroom.sync.providers.contract import Traits
from strongroom.sync.providers.fake import FakeProvider

ROW = {"match": {"secretKey": "password", "remoteRef": {"remoteKey": "out/db"}}}


class Counting(FakeProvider):
    """Counts how often it is validated."""

    validated = 0

    async def validate(self) -> None:
        self.validated += 1
        await super().validate()


async def push(bench, kind: str = "SecretStore", **spec) -> Object:
    await bench.secret_of_somebody("source", password="p1")
    given = {
        "secretStoreRefs": [{"name": "s", "kind": kind}],
        "selector": {"secret": {"name": "source"}},
        "data": [ROW],
        **spec,
    }
    await bench.api.create(
        PUSH_SECRETS, {"metadata": {"name": "ps", "namespace": "n"}, "spec": given}
    )
    await bench.clock.advance(1)
    return await bench.api.get(PUSH_SECRETS, "ps", "n")


@pytest.mark.parametrize(
    ("interval", "times"), [(None, 3), (60, 11), ("2m", 6), ("0", 3)]
)  # in ten minutes, the first time counted
async def test_a_store_is_validated_again_by_its_interval(idle, interval, times: int) -> None:
    idle.provider = Counting()
    if interval is not None:
        spec = {"spec": {"refreshInterval": interval}}
        await idle.api.merge_patch(SECRET_STORES, "s", "n", spec)
    await idle.start()
    for _ in range(610):
        await idle.clock.advance(1)
    assert idle.provider.validated == times


async def test_a_store_that_was_made_anew_while_the_watch_had_lapsed_is_another(bench) -> None:
    await bench.external(refreshInterval="24h")
    await push(bench, refreshInterval="24h")
    reads, made = bench.provider.reads, bench.providers_made
    del bench.provider.secrets["out/db"]
    await bench.api.delete(SECRET_STORES, "s", "n")
    store = {"metadata": {"name": "s", "namespace": "n"}, "spec": {"provider": {"fake": {}}}}
    await bench.api.create(SECRET_STORES, store)
    bench.api.forget_history()
    await bench.clock.advance(5)
    assert (await bench.api.get(SECRET_STORES, "s", "n"))["status"]["conditions"]
    assert (bench.provider.reads, bench.providers_made) == (reads + 1, made + 1)
    assert bench.provider.secrets["out/db"] == [b"p1"]


class Hanging(FakeProvider):
    """Never says whether it is good, from when it is told to."""

    hangs = False

    async def validate(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()


async def test_stores_that_hang_in_one_namespace_keep_none_from_being_validated(idle) -> None:
    provider = idle.provider = Hanging()
    await idle.start()
    provider.hangs = True
    for number in range(20):
        store = {"metadata": {"name": f"s{number}", "namespace": "hangs"}}
        await idle.api.create(SECRET_STORES, store | {"spec": {"provider": {"fake": {}}}})
    await idle.clock.advance(1)
    provider.hangs = False
    store = {"metadata": {"name": "t", "namespace": "n"}, "spec": {"provider": {"fake": {}}}}
    await idle.api.create(SECRET_STORES, store)
    await idle.clock.advance(1)
    assert (await idle.api.get(SECRET_STORES, "t", "n"))["status"]["conditions"]


async def test_what_a_store_can_be_used_in_spite_of_is_said_at_it(idle) -> None:
    idle.provider = FakeProvider(Traits("ReadWrite", notes=("auth has b besides a",)))
    await idle.start()
    (said,) = (await idle.api.get(SECRET_STORES, "s", "n"))["status"]["conditions"]
    assert (said["status"], said["reason"]) == ("True", "Valid")
    assert said["message"] == "store validated; auth has b besides a"


@pytest.mark.parametrize(("owner", "ours"), [("strongroom", True), ("other", False), ("", True)])
async def test_a_store_of_another_class_is_neither_judged_nor_pushed_to(
    idle, owner: str, ours: bool
) -> None:
    await idle.api.merge_patch(SECRET_STORES, "s", "n", {"spec": {"controller": owner}})
    await idle.start(controller_class="strongroom")
    await push(idle)
    assert ("status" in await idle.api.get(SECRET_STORES, "s", "n")) is ours
    assert ("out/db" in idle.provider.secrets) is ours


@pytest.mark.parametrize(
    ("conditions", "admitted"),
    [
        ([], True),
        ([{"namespaces": ["m"]}], False),
        ([{"namespaces": ["m"]}, {"namespaceSelector": {"matchLabels": {"team": "x"}}}], True),
        ([{"namespaceSelector": {"matchLabels": {"team": "y"}}}], False),
        ([{"namespaceRegexes": ["^m$", "^n$"]}], True),
    ],
)
async def test_a_cluster_store_is_pushed_to_by_those_whom_it_admits(
    bench, conditions: list, admitted: bool
) -> None:
    spec = {"provider": {"fake": {}}, "conditions": conditions}
    await bench.api.create(CLUSTER_SECRET_STORES, {"metadata": {"name": "s"}, "spec": spec})
    item = await push(bench, "ClusterSecretStore")
    assert ("out/db" in bench.provider.secrets) is admitted
    (ready,) = item["status"]["conditions"]
    assert ready["reason"] == ("Synced" if admitted else "Errored")
    assert ("[store-not-for-namespace]" in ready["message"]) is not admitted


async def test_a_push_tells_when_and_what_it_pushed_and_took_back(bench) -> None:
    item = await push(bench, deletionPolicy="Delete")
    assert item["metadata"]["finalizers"] == ["pushsecret.externalsecrets.io/finalizer"]
    assert item["status"]["syncedResourceVersion"] == synced_version(item)
    assert item["status"]["refreshTime"].startswith("2023-11-14T")
    await bench.api.delete(PUSH_SECRETS, "ps", "n")
    await bench.clock.advance(1)
    assert "PushedDeleted: took back out/db from SecretStore s" in await bench.notes()
