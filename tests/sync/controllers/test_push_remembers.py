"""What was pushed where is known from the status alone, and nothing else is taken back."""

import json

import pytest
from tests.sync.controllers.test_push import GENERATED, NAMED, ROW, USER, held, push, ready, status

from strongroom.kube.resource import SECRETS
from strongroom.model.errors import Denied, NotFound
from strongroom.sync.crds import CLUSTER_SECRET_STORES, PUSH_SECRETS, SECRET_STORES
from strongroom.sync.providers.contract import PushTarget
from strongroom.sync.providers.fake import FakeProvider

META = {"remoteNamespace": "far"}
PROPERTY = {
    "match": {"secretKey": "user", "remoteRef": {"remoteKey": "out/db", "property": "user"}},
    "metadata": META,
}
BOTH = {"match": {"secretKey": "password", "remoteRef": {"remoteKey": "out/db", "property": "p"}}}
CHOSEN = {"labelSelector": {"matchLabels": {"push": "yes"}}}
FAKE = {"provider": {"fake": {}}}


class Deleting(FakeProvider):
    """Keeps what it is asked to delete, and refuses it while `refuses`."""

    def __init__(self) -> None:
        super().__init__()
        self.deleted: list[PushTarget] = []
        self.refuses = False

    async def delete(self, target: PushTarget) -> None:
        if self.refuses:
            raise Denied("store-denied", "permission denied")
        self.deleted.append(target)
        await super().delete(target)


@pytest.fixture
async def source(idle):
    idle.provider = Deleting()
    await idle.start()
    await idle.secret_of_somebody("source", password="p1", user="u1")
    await idle.clock.advance(0.1)
    return idle


@pytest.mark.parametrize("refused_first", [True, False])
async def test_after_a_restart_a_property_is_taken_back_and_not_the_whole(
    source, refused_first: bool
) -> None:
    """With the metadata that it was pushed with, which may name another namespace."""
    await push(source, data=[PROPERTY, BOTH], deletionPolicy="Delete")
    if refused_first:
        # Told of by a status that was written when no row asked for it any more.
        source.provider.refuses = True
        edit = {"spec": {"data": [BOTH]}}
        await source.api.merge_patch(PUSH_SECRETS, "ps", "n", edit)
        await source.clock.advance(5)
        assert await ready(source) == ("False", "Errored")
        source.provider.refuses = False
    await source.stop()
    await source.api.merge_patch(PUSH_SECRETS, "ps", "n", {"spec": {"data": [BOTH]}})
    await source.start()
    await source.clock.advance(400)
    (gone,) = source.provider.deleted
    assert (gone.key, gone.property, gone.metadata) == ("out/db", "user", META)
    assert json.loads(held(source, "out/db")) == {"p": "p1"}


async def test_a_row_that_went_while_nothing_was_to_be_taken_back_stays_for_good(source) -> None:
    await push(source, data=[ROW, USER])
    await source.api.merge_patch(PUSH_SECRETS, "ps", "n", {"spec": {"data": [ROW]}})
    await source.clock.advance(1)
    assert set((await status(source))["syncedPushSecrets"]["SecretStore/s"]) == {"out/db"}
    await source.api.merge_patch(PUSH_SECRETS, "ps", "n", {"spec": {"deletionPolicy": "Delete"}})
    await source.clock.advance(1)
    await source.api.delete(PUSH_SECRETS, "ps", "n")
    await source.clock.advance(5)
    assert [each.key for each in source.provider.deleted] == ["out/db"]
    assert held(source, "out/user") == "u1"


async def test_a_store_that_is_gone_holds_no_push_secret(source) -> None:
    await push(source, deletionPolicy="Delete")
    loose = {"metadata": {"finalizers": None}}
    await source.api.delete(SECRET_STORES, "s", "n")
    await source.api.merge_patch(SECRET_STORES, "s", "n", loose)
    await source.api.delete(PUSH_SECRETS, "ps", "n")
    await source.clock.advance(60)
    with pytest.raises(NotFound):
        await source.api.get(PUSH_SECRETS, "ps", "n")
    assert held(source, "out/db") == "p1"


@pytest.mark.parametrize("kind", ["SecretStore", "ClusterSecretStore"])
async def test_a_label_chooses_stores_of_the_kind_that_is_named_alone(source, kind: str) -> None:
    labels = {"push": "yes"}
    here, anywhere = {"name": "t", "namespace": "n"}, {"name": "everywhere"}
    await push(source, secretStoreRefs=[{**CHOSEN, "kind": kind}])
    for resource, metadata in ((SECRET_STORES, here), (CLUSTER_SECRET_STORES, anywhere)):
        item = {"metadata": {**metadata, "labels": labels}, "spec": FAKE}
        await source.api.create(resource, item)
    await source.clock.advance(5)
    name = "t" if kind == "SecretStore" else "everywhere"
    assert set((await status(source))["syncedPushSecrets"]) == {f"{kind}/{name}"}


async def test_of_a_source_only_the_keys_that_match_are_pushed(source) -> None:
    await source.api.merge_patch(SECRETS, "source", "n", {"data": {"private": "eA=="}})
    for name, to in (("each", {}), ("all", {"remoteKey": "out/all"})):
        match = {"storeRef": {"name": "s"}, "match": {"regexp": "^(user|password)$"}, **to}
        await push(source, name, selector=NAMED, dataTo=[match])
    assert set(source.provider.secrets) == {"user", "password", "out/all"}
    assert set(json.loads(held(source, "out/all"))) == {"user", "password"}


async def test_after_a_restart_a_push_that_was_refused_is_not_taken_for_done(source) -> None:
    await push(source, selector=GENERATED)
    item = await source.api.get(PUSH_SECRETS, "ps", "n")
    (condition,) = item["status"]["conditions"]
    await source.stop()
    said = {"status": {"conditions": [{**condition, "status": "False", "reason": "Errored"}]}}
    await source.api.merge_patch(PUSH_SECRETS, "ps", "n", said, subresource="status")
    await source.start()
    await source.clock.advance(60)
    assert (source.generators.made, await ready(source)) == (2, ("True", "Synced"))
