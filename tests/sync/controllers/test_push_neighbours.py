"""PushSecrets beside others: what one namespace writes is no business of another's."""

import asyncio
from dataclasses import replace

import pytest

from strongroom.kube.api import EVERYTHING
from strongroom.kube.resource import NAMESPACES, SECRETS
from strongroom.sync.crds import CLUSTER_SECRET_STORES, PUSH_SECRETS, SECRET_STORES
from strongroom.sync.providers.fake import FakeProvider
from strongroom.sync.push_concerns import PushConcerns

ROW = {"match": {"secretKey": "password", "remoteRef": {"remoteKey": "out/db"}}}
GENERATED = {"generatorRef": {"kind": "Password", "name": "p"}}
BOGUS = {"matchExpressions": [{"key": "team", "operator": "Bogus"}]}
FAKE = {"provider": {"fake": {}}}
EDIT = {"spec": {"retrySettings": {"maxRetries": 1}}}


def pushing(selector: dict, store: dict | None = None, namespace: str = "n", **spec) -> dict:
    spec |= {"secretStoreRefs": [store or {"name": "s"}], "selector": selector, "data": [ROW]}
    return {"metadata": {"name": "ps", "namespace": namespace}, "spec": spec}


@pytest.fixture
async def beside(bench):
    """A second namespace with a store of its own, and a cluster's store."""
    await bench.api.create(NAMESPACES, {"metadata": {"name": "m"}})
    await bench.api.create(
        SECRET_STORES, {"metadata": {"name": "s", "namespace": "m"}, "spec": FAKE}
    )
    await bench.api.create(CLUSTER_SECRET_STORES, {"metadata": {"name": "s"}, "spec": FAKE})
    await bench.clock.advance(0.1)
    return bench


@pytest.mark.parametrize(
    ("resource", "namespace", "edit"),
    [
        (SECRET_STORES, "m", EDIT),
        (CLUSTER_SECRET_STORES, "", EDIT),
        # Of its own store a label says only which PushSecrets choose it.
        (SECRET_STORES, "n", {"metadata": {"labels": {"team": "x"}}}),
    ],
)
async def test_an_edit_that_concerns_it_not_has_nothing_made_anew(
    beside, resource, namespace: str, edit: dict
) -> None:
    await beside.api.create(PUSH_SECRETS, pushing(GENERATED))
    await beside.clock.advance(1)
    assert beside.generators.made == 1
    await beside.api.merge_patch(resource, "s", namespace, edit)
    await beside.clock.advance(60)
    assert beside.generators.made == 1


async def test_a_store_that_its_labels_choose_is_pushed_to(beside) -> None:
    await beside.secret_of_somebody("source", password="p1")
    chosen = {"labelSelector": {"matchLabels": {"team": "x"}}}
    await beside.api.create(PUSH_SECRETS, pushing({"secret": {"name": "source"}}, chosen))
    await beside.clock.advance(1)
    assert "out/db" not in beside.provider.secrets
    await beside.api.merge_patch(SECRET_STORES, "s", "n", {"metadata": {"labels": {"team": "x"}}})
    await beside.clock.advance(1)
    assert "out/db" in beside.provider.secrets


@pytest.mark.parametrize(
    "wrong",
    [
        pushing({"secret": {"selector": BOGUS}}, namespace="m"),
        pushing({"secret": {"name": "x"}}, {"labelSelector": BOGUS}, "m", deletionPolicy="Delete"),
    ],
    ids=["source", "store"],
)
async def test_a_selector_that_is_none_stops_nobody_else(beside, wrong: dict) -> None:
    await beside.api.create(PUSH_SECRETS, wrong)
    await beside.clock.advance(1)
    (told,) = (await beside.api.get(PUSH_SECRETS, "ps", "m"))["status"]["conditions"]
    assert "bad-selector" in told["message"]
    chosen = {"secret": {"selector": {"matchLabels": {"team": "x"}}}}
    await beside.api.create(PUSH_SECRETS, pushing(chosen, deletionPolicy="Delete"))
    labels = {"team": "x"}
    item = {"metadata": {"name": "source", "namespace": "n", "labels": labels}}
    await beside.api.create(SECRETS, item | {"stringData": {"password": "p1"}})
    await beside.clock.advance(2)
    assert beside.provider.secrets["out/db"][-1] == b"p1"
    # Nor does it keep another from its end.
    await beside.api.delete(PUSH_SECRETS, "ps", "n")
    await beside.clock.advance(2)
    assert [
        each["metadata"]["namespace"] for each in (await beside.api.list(PUSH_SECRETS)).items
    ] == ["m"]


def test_what_a_secret_or_store_concerns_is_known_by_name_and_labels() -> None:
    concerns = PushConcerns()
    concerns.put(("n", "named"), pushing({"secret": {"name": "a"}}))
    labelled = {"secret": {"selector": {"matchLabels": {"team": "x"}}}}
    concerns.put(("n", "chosen"), pushing(labelled, {"name": "s", "kind": "ClusterSecretStore"}))
    choice = {"labelSelector": {"matchLabels": {"team": "x"}}}
    concerns.put(("m", "choosing"), pushing({"secret": {"name": "a"}}, choice, "m"))
    assert concerns.of(("Secret", "n", "a")) == {("n", "named")}
    assert concerns.of(("Secret", "n", "a"), {}, {"team": "x"}) == {("n", "named"), ("n", "chosen")}
    assert concerns.of(("SecretStore", "n", "s")) == {("n", "named")}
    assert concerns.of(("SecretStore", "m", "s"), {"team": "x"}) == {("m", "choosing")}
    assert concerns.of(("ClusterSecretStore", "", "s"), {"team": "x"}) == {("n", "chosen")}
    for gone in (None, pushing({"secret": {"selector": BOGUS}})):
        concerns.put(("n", "chosen"), gone)
        assert not concerns.of(("Secret", "n", "b"), {"team": "x"})


class Interrupted(FakeProvider):
    """Something happens while the first value is pushed."""

    def __init__(self, happens) -> None:
        super().__init__()
        self.happens = happens

    async def push(self, target, value):
        happens, self.happens = self.happens, None
        if happens is not None:
            await happens()
        return await super().push(target, value)


async def test_a_store_that_is_labelled_during_a_push_is_pushed_to_as_well(beside) -> None:
    async def labelled() -> None:
        await beside.api.merge_patch(
            SECRET_STORES, "t", "n", {"metadata": {"labels": {"team": "x"}}}
        )
        for _ in range(20):
            await asyncio.sleep(0)

    beside.provider = Interrupted(labelled)
    for name, labels in (("r", {"team": "x"}), ("t", {})):
        metadata = {"name": name, "namespace": "n", "labels": labels}
        await beside.api.create(SECRET_STORES, {"metadata": metadata, "spec": FAKE})
    await beside.secret_of_somebody("source", password="p1")
    chosen = {"labelSelector": {"matchLabels": {"team": "x"}}}
    await beside.api.create(PUSH_SECRETS, pushing({"secret": {"name": "source"}}, chosen))
    for _ in range(20):
        await beside.clock.advance(0.1)
    status = (await beside.api.get(PUSH_SECRETS, "ps", "n"))["status"]
    assert sorted(status["syncedPushSecrets"]) == ["SecretStore/r", "SecretStore/t"]


async def test_nobody_waits_for_a_key_that_is_made_for_a_push(beside) -> None:
    await beside.secret_of_somebody("source", password="p1")
    template = {"data": {"password": '{{ genPrivateKey "rsa" }}'}}
    item = pushing({"secret": {"name": "source"}}, template=template)
    await beside.api.create(PUSH_SECRETS, item)
    turns = 0
    while "out/db" not in beside.provider.secrets:
        await beside.clock.advance(0)
        turns += 1
    assert b"PRIVATE KEY" in beside.provider.secrets["out/db"][-1]
    assert turns > 10


class SecondPageLater:
    """An API server that lists the first PushSecret, and the others when it is let."""

    def __init__(self, api) -> None:
        self._api = api
        self.let = asyncio.Event()

    async def pages(self, resource, scope=EVERYTHING):
        async for page in self._api.pages(resource, scope):
            if resource == PUSH_SECRETS:
                yield replace(page, items=page.items[:1])
                await self.let.wait()
            yield page

    def __getattr__(self, name: str):
        return getattr(self._api, name)


async def test_a_store_is_not_let_go_before_all_that_need_it_are_known(beside) -> None:
    await beside.secret_of_somebody("source", password="p1")
    for name in ("a", "b"):
        item = pushing({"secret": {"name": "source"}}, deletionPolicy="Delete")
        item["metadata"]["name"] = name
        item["spec"]["data"] = [
            {"match": {"secretKey": "password", "remoteRef": {"remoteKey": f"out/{name}"}}}
        ]
        await beside.api.create(PUSH_SECRETS, item)
    await beside.clock.advance(1)
    await beside.stop()
    await beside.api.delete(PUSH_SECRETS, "a", "n")
    await beside.api.delete(SECRET_STORES, "s", "n")
    late = SecondPageLater(beside.api)
    await beside.start(late)
    await beside.clock.advance(2)
    late.let.set()
    await beside.clock.advance(2)
    assert sorted(beside.provider.secrets) == ["out/b", "prod/db"]
    assert [each["metadata"]["name"] for each in (await beside.api.list(PUSH_SECRETS)).items] == [
        "b"
    ]
    # The other has its value taken back as well, and then the store may go.
    await beside.api.delete(PUSH_SECRETS, "b", "n")
    await beside.clock.advance(2)
    assert sorted(beside.provider.secrets) == ["prod/db"]
    left = [each["metadata"]["namespace"] for each in (await beside.api.list(SECRET_STORES)).items]
    assert left == ["m"]
