"""A cluster goes from External Secrets Operator to Strongroom and back without one Secret rewritten."""

import base64

from strongroom.kube.resource import SECRETS
from strongroom.sync.crds import EXTERNAL_SECRETS
from strongroom.sync.desired import DATA_HASH, created_by, data_hash, synced_version

DATA = {"password": base64.b64encode(b"one").decode()}
LAST_APPLIED = '{"apiVersion":"external-secrets.io/v1"}'


async def written_by_the_other(bench, *, synced_seconds_ago: float = 10.0) -> None:
    """An ExternalSecret and its Secret as version 2.9.0 leaves them."""
    annotations = {"kubectl.kubernetes.io/last-applied-configuration": LAST_APPLIED, "note": "x"}
    item = await bench.api.create(
        EXTERNAL_SECRETS,
        {
            "metadata": {
                "name": "db",
                "namespace": "n",
                "labels": {"app": "web"},
                "annotations": annotations,
                "finalizers": ["externalsecrets.external-secrets.io/externalsecret-cleanup"],
            },
            "spec": {
                "refreshInterval": "1h0m0s",
                "secretStoreRef": {"name": "s", "kind": "SecretStore"},
                "target": {"creationPolicy": "Owner", "deletionPolicy": "Retain"},
                "data": [
                    {
                        "secretKey": "password",
                        "remoteRef": {"key": "prod/db", "property": "password"},
                    }
                ],
            },
        },
    )
    from strongroom.sync.status import seconds

    then = seconds(bench.clock.now() - synced_seconds_ago)
    status = {
        "refreshTime": then,
        "syncedResourceVersion": synced_version(item),
        "binding": {"name": "db"},
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "SecretSynced",
                "message": "secret synced",
                "lastTransitionTime": then,
            }
        ],
    }
    await bench.api.merge_patch(EXTERNAL_SECRETS, "db", "n", {"status": status}, "status")
    secret = {
        "metadata": {
            "name": "db",
            "namespace": "n",
            "labels": {
                "app": "web",
                "reconcile.external-secrets.io/managed": "true",
                "reconcile.external-secrets.io/created-by": created_by("n", "db"),
            },
            "annotations": {
                **annotations,
                "reconcile.external-secrets.io/data-hash": data_hash({"password": b"one"}),
            },
            "ownerReferences": [
                {
                    "apiVersion": "external-secrets.io/v1",
                    "kind": "ExternalSecret",
                    "name": "db",
                    "uid": item["metadata"]["uid"],
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "type": "Opaque",
        "immutable": False,
        "data": DATA,
    }
    manager = "externalsecrets.external-secrets.io/db"
    await bench.api.create(SECRETS, secret, manager=manager)


async def test_nothing_is_written_when_nothing_is_due(idle) -> None:
    await written_by_the_other(idle)
    await idle.start()
    await idle.clock.advance(5)
    writes, reads = idle.api.writes, idle.provider.reads
    await idle.clock.advance(1000)
    assert (idle.api.writes, idle.provider.reads) == (writes, reads) == (writes, 0)
    assert not [note for note in await idle.notes() if "secret" in note]


async def test_nothing_is_written_when_all_is_due_and_unchanged(idle) -> None:
    idle.provider.has_feed = False
    await written_by_the_other(idle, synced_seconds_ago=7200)
    before = await idle.metadata()
    status = (await idle.item())["status"]
    await idle.start()
    await idle.clock.advance(5)
    assert idle.provider.reads == 1
    assert await idle.metadata() == before
    assert (await idle.item())["status"] == status


async def test_a_repair_after_the_switch_looks_as_the_other_would_have_made_it(idle) -> None:
    await written_by_the_other(idle)
    await idle.start()
    await idle.clock.advance(1)
    await idle.edit(password="changed")
    metadata = await idle.metadata()
    assert await idle.secret() == {"password": "one"}
    hashed = metadata["annotations"]["reconcile.external-secrets.io/data-hash"]
    assert hashed == data_hash({"password": b"one"})
    managers = {
        each["manager"]
        for each in metadata["managedFields"]
        if "f:password" in (each["fieldsV1"].get("f:data") or {})
    }
    assert managers == {"externalsecrets.external-secrets.io/db"}


async def test_what_is_made_here_carries_all_that_the_other_looks_for(bench) -> None:
    await bench.external()
    metadata = await bench.metadata()
    hashed = metadata["annotations"]["reconcile.external-secrets.io/data-hash"]
    assert hashed == data_hash({"password": b"one"})
    assert metadata["labels"]["reconcile.external-secrets.io/managed"] == "true"
    status = (await bench.item())["status"]
    assert status["syncedResourceVersion"] == synced_version(await bench.item())
    theirs = {"refreshTime", "syncedResourceVersion", "binding", "conditions"}
    # Ours beside them; the other's definition drops it.
    assert set(status) == {*theirs, "sourceVersions"}


async def test_the_versions_can_be_left_out(idle) -> None:
    await idle.start(versioned=False)
    await idle.external()
    assert set((await idle.metadata())["annotations"]) == {DATA_HASH}


async def test_the_hash_can_be_left_out(idle) -> None:
    await idle.start(hashed=False)
    await idle.external()
    annotations = (await idle.metadata())["annotations"]
    assert set(annotations) == {"strongroom.dev/source-versions"}
