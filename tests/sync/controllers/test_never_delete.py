"""What is not this ExternalSecret's is never deleted, by whatever way a deletion may come."""

from typing import Any
from unittest.mock import ANY

import pytest

from strongroom.kube.fake import FakeKubeApi
from strongroom.kube.resource import NAMESPACES, SECRETS, Object, Resource
from strongroom.model.errors import Conflict
from strongroom.sync.controller import FINALIZER
from strongroom.sync.crds import (
    CLUSTER_EXTERNAL_SECRETS,
    CLUSTER_SECRET_STORES,
    EXTERNAL_SECRETS,
)
from strongroom.sync.desired import CREATED_BY
from strongroom.sync.spec import parse_spec
from strongroom.sync.target import Targets

DATA = [{"secretKey": "password", "remoteRef": {"key": "prod/db", "property": "password"}}]
GONE = [{"extract": {"key": "gone"}}]


async def test_what_is_gone_at_the_store_deletes_no_secret_of_another(bench) -> None:
    await bench.external("owner", target={"name": "shared"})
    target = {"name": "shared", "deletionPolicy": "Delete"}
    await bench.external("thief", dataFrom=GONE, target=target)
    assert await bench.secret("shared") == {"password": "one"}
    said = await bench.condition(name="thief")
    assert (said["status"], "[not-ours]" in said["message"]) == ("False", True)


async def test_the_end_of_an_object_deletes_no_secret_of_another(bench) -> None:
    await bench.external("owner", target={"name": "shared"})
    await bench.external("thief", target={"name": "shared", "deletionPolicy": "Delete"})
    await bench.api.delete(EXTERNAL_SECRETS, "thief", "n")
    await bench.clock.advance(1)
    assert await bench.secret("shared") == {"password": "one"}
    assert [
        each["metadata"]["name"] for each in (await bench.api.list(EXTERNAL_SECRETS)).items
    ] == ["owner"]


async def test_a_secret_without_an_owner_outlives_what_is_gone_at_the_store(bench) -> None:
    await bench.secret_of_somebody(mine="kept")
    await bench.external(dataFrom=GONE, target={"deletionPolicy": "Delete"})
    await bench.api.delete(EXTERNAL_SECRETS, "db", "n")
    await bench.clock.advance(1)
    assert await bench.secret() == {"mine": "kept"}


class Swapping:
    """The fake API, in which somebody replaces the Secret between the look and what follows."""

    def __init__(self, api: FakeKubeApi) -> None:
        self._api = api

    def __getattr__(self, name: str) -> Any:
        return getattr(self._api, name)

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Object:
        found = await self._api.get(resource, name, namespace)
        await self._api.delete(resource, name, namespace)
        metadata = {"name": name, "namespace": namespace}
        await self._api.create(resource, {"metadata": metadata, "stringData": {"other": "kept"}})
        return found


async def test_a_secret_that_took_the_place_of_ours_is_not_deleted(bench) -> None:
    await bench.external(target={"deletionPolicy": "Delete"})
    item = await bench.item()
    await bench.stop()
    with pytest.raises(Conflict):
        await Targets(Swapping(bench.api)).delete(item, parse_spec(item))  # type: ignore[arg-type]
    assert await bench.secret() == {"other": "kept"}


async def test_a_child_that_took_the_place_of_ours_is_not_withdrawn(bench) -> None:
    store = {"metadata": {"name": "wide"}, "spec": {"provider": {"fake": {}}}}
    await bench.api.create(CLUSTER_SECRET_STORES, store)
    spec = {"secretStoreRef": {"name": "wide", "kind": "ClusterSecretStore"}, "data": DATA}
    labels = {"metadata": {"labels": {"env": "prod"}}}
    await bench.api.merge_patch(NAMESPACES, "n", "", labels)
    chosen = [{"matchLabels": {"env": "prod"}}]
    made = {"externalSecretSpec": spec, "namespaceSelectors": chosen}
    await bench.api.create(CLUSTER_EXTERNAL_SECRETS, {"metadata": {"name": "all"}, "spec": made})
    await bench.clock.advance(1)
    child = await bench.item("all")
    fan_out = next(each for each in bench.operator.fan_outs if "external" in each.name)
    parent = await bench.api.get(CLUSTER_EXTERNAL_SECRETS, "all")
    await bench.stop()
    # The cache still has the child that is gone, in whose place somebody made another.
    await bench.api.delete(EXTERNAL_SECRETS, "all", "n")
    await bench.external("all")
    assert fan_out._children.get("n", "all") == {**child, "metadata": ANY, "status": ANY}
    await fan_out._withdraw(parent, "", set())
    assert (await bench.item("all"))["metadata"]["uid"] != child["metadata"]["uid"]


async def test_an_object_that_cannot_be_read_any_more_ends_and_deletes_nothing(bench) -> None:
    await bench.external(target={"deletionPolicy": "Delete"})
    broken = {"spec": {"data": [{"secretKey": "a b", "remoteRef": {}}]}}
    await bench.api.merge_patch(EXTERNAL_SECRETS, "db", "n", broken)
    await bench.clock.advance(1)
    assert (await bench.condition())["status"] == "False"
    await bench.api.delete(EXTERNAL_SECRETS, "db", "n")
    await bench.clock.advance(1)
    assert not (await bench.api.list(EXTERNAL_SECRETS)).items
    assert await bench.secret() == {"password": "one"}


async def test_what_we_own_without_our_label_is_no_orphan(bench) -> None:
    await bench.external()
    item, secret = await bench.item(), await bench.api.get(SECRETS, "db", "n")
    await bench.stop()
    del secret["metadata"]["labels"][CREATED_BY]
    assert not await Targets(bench.api).delete_orphan(item, secret)
    assert await bench.secret() == {"password": "one"}


class Holding:
    """The fake API, in which somebody else begins to hold an object just before it is patched."""

    def __init__(self, api: FakeKubeApi) -> None:
        self._api = api
        self.held = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._api, name)

    async def merge_patch(self, resource: Resource, *args: Any, **kwargs: Any) -> Object:
        if resource == EXTERNAL_SECRETS and not self.held:
            self.held = True
            theirs = {"metadata": {"finalizers": ["example.com/theirs"]}}
            await self._api.merge_patch(resource, args[0], args[1], theirs)
        return await self._api.merge_patch(resource, *args, **kwargs)


async def test_another_ones_finalizer_is_never_taken_off(idle) -> None:
    await idle.start(Holding(idle.api))
    await idle.external(target={"deletionPolicy": "Delete"})
    await idle.clock.advance(2)
    finalizers = (await idle.item())["metadata"]["finalizers"]
    assert {"example.com/theirs", FINALIZER} == set(finalizers)
    assert await idle.secret() == {"password": "one"}


async def test_a_copy_with_our_label_is_no_orphan(bench) -> None:
    await bench.external()
    labels = (await bench.metadata())["labels"]
    assert CREATED_BY in labels
    for name, owners in (("copy", []), ("of-another", [("ExternalSecret", "db", "gone-uid")])):
        references = [
            {"apiVersion": "v1", "kind": kind, "name": of, "uid": uid} for kind, of, uid in owners
        ]
        metadata = {
            "name": name,
            "namespace": "n",
            "labels": labels,
            "ownerReferences": references,
        }
        await bench.api.create(SECRETS, {"metadata": metadata, "stringData": {"k": "kept"}})
    edit = {"spec": {"target": {"name": "new"}}}
    await bench.api.merge_patch(EXTERNAL_SECRETS, "db", "n", edit)
    await bench.clock.advance(1)
    assert not await bench.has_secret("db")
    for name in ("copy", "of-another"):
        assert await bench.secret(name) == {"k": "kept"}
