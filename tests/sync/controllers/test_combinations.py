"""Every creation policy with every deletion policy, and a change from each to each other."""

import pytest

from strongroom.kube.resource import SECRETS
from strongroom.sync.crds import EXTERNAL_SECRETS
from strongroom.sync.desired import CREATED_BY

CREATION = ("Owner", "Orphan", "Merge", "CreateOrMerge", "None")
DELETION = ("Retain", "Delete", "Merge")
IMPOSSIBLE = {
    ("Merge", "Delete"),
    ("CreateOrMerge", "Delete"),
    ("None", "Delete"),
    ("None", "Merge"),
}
POSSIBLE = [(a, b) for a in CREATION for b in DELETION if (a, b) not in IMPOSSIBLE]
ROWS = [
    {"secretKey": "password", "remoteRef": {"key": "prod/db", "property": "password"}},
    {"secretKey": "other", "remoteRef": {"key": "prod/other", "property": "k"}},
]


def target(creation: str, deletion: str) -> dict[str, str]:
    return {"creationPolicy": creation, "deletionPolicy": deletion}


async def synced(bench, creation: str, deletion: str) -> None:
    """A Secret with two keys; where it is shared, somebody's own key beside them."""
    bench.provider.put("prod/other", k="two")
    if "Merge" in creation:
        await bench.secret_of_somebody(theirs="kept")
    await bench.external(target=target(creation, deletion), data=ROWS, refreshInterval="1m")


def theirs(creation: str) -> dict[str, str]:
    return {"theirs": "kept"} if "Merge" in creation else {}


@pytest.mark.parametrize(("creation", "deletion"), sorted(IMPOSSIBLE))
async def test_what_cannot_go_together_is_said_and_writes_nothing(
    bench, creation: str, deletion: str
) -> None:
    await bench.external(target=target(creation, deletion))
    assert "cannot go with" in (await bench.condition())["message"]
    assert not await bench.has_secret()


@pytest.mark.parametrize(("creation", "deletion"), POSSIBLE)
async def test_one_key_that_is_gone_at_the_store(bench, creation: str, deletion: str) -> None:
    await synced(bench, creation, deletion)
    if creation == "None":
        assert not await bench.has_secret()
        return
    both = {"password": "one", "other": "two"}
    assert await bench.secret() == both | theirs(creation)
    del bench.provider.secrets["prod/other"]
    await bench.clock.advance(70)
    skips = deletion != "Retain"
    left = {"password": "one"} if skips else both
    assert await bench.secret() == left | theirs(creation)
    assert (await bench.condition())["status"] == str(skips)


@pytest.mark.parametrize(("creation", "deletion"), POSSIBLE)
async def test_all_keys_gone_at_the_store(bench, creation: str, deletion: str) -> None:
    await synced(bench, creation, deletion)
    if creation == "None":
        return
    for key in ("prod/other", "prod/db"):
        del bench.provider.secrets[key]
    await bench.clock.advance(70)
    if (creation, deletion) == ("Orphan", "Delete"):
        # What is not owned is not deleted, and the policy's wish is not passed over in silence.
        assert await bench.secret() == {"password": "one", "other": "two"}
        said = await bench.condition()
        assert said["status"] == "False"
        assert "deletes no Secret of creationPolicy=Orphan" in said["message"]
        return
    if deletion == "Delete":
        assert not await bench.has_secret()
        assert (await bench.condition())["reason"] == "SecretDeleted"
        return
    both = {} if deletion == "Merge" else {"password": "one", "other": "two"}
    item = await bench.api.get(SECRETS, "db", "n")
    assert (await bench.secret() if item.get("data") else {}) == both | theirs(creation)


@pytest.mark.parametrize(("creation", "deletion"), POSSIBLE)
async def test_the_end_of_the_external_secret(bench, creation: str, deletion: str) -> None:
    """By our hand it goes if it is owned and to be deleted; the cluster collects what is owned."""
    await synced(bench, creation, deletion)
    there = await bench.has_secret()
    owned = there and bool((await bench.metadata()).get("ownerReferences"))
    await bench.api.delete(EXTERNAL_SECRETS, "db", "n")
    await bench.clock.advance(5)
    assert owned is (creation == "Owner")
    gone = (creation, deletion) == ("Owner", "Delete")
    assert await bench.has_secret() is (there and not gone)


@pytest.mark.parametrize("deletion", ["Delete", "Merge"])
async def test_of_a_key_that_stands_twice_the_last_that_is_there_counts(
    bench, deletion: str
) -> None:
    bench.provider.put("prod/other", k="two")
    rows = [{**ROWS[0]}, {"secretKey": "password", "remoteRef": ROWS[1]["remoteRef"]}]
    await bench.external(target=target("Owner", deletion), data=rows, refreshInterval="1m")
    assert await bench.secret() == {"password": "two"}
    del bench.provider.secrets["prod/other"]
    await bench.clock.advance(70)
    assert await bench.secret() == {"password": "one"}


@pytest.mark.parametrize("after", ["Orphan", "Merge", "CreateOrMerge"])
async def test_a_secret_is_let_go_when_its_policy_says_so(bench, after: str) -> None:
    await bench.external()
    held = await bench.metadata()
    assert held["ownerReferences"]
    assert CREATED_BY in held["labels"]
    change = {"spec": {"target": {"creationPolicy": after}}}
    await bench.api.merge_patch(EXTERNAL_SECRETS, "db", "n", change)
    await bench.clock.advance(1)
    held = await bench.metadata()
    assert not held.get("ownerReferences")
    assert CREATED_BY not in held["labels"]
    assert await bench.secret() == {"password": "one"}
    writes = bench.api.writes
    await bench.clock.advance(10)
    assert bench.api.writes == writes


@pytest.mark.parametrize("before", ["Orphan", "CreateOrMerge"])
async def test_a_secret_is_owned_when_its_policy_says_so(bench, before: str) -> None:
    await bench.external(target={"creationPolicy": before})
    assert not (await bench.metadata()).get("ownerReferences")
    change = {"spec": {"target": {"creationPolicy": "Owner"}}}
    await bench.api.merge_patch(EXTERNAL_SECRETS, "db", "n", change)
    await bench.clock.advance(1)
    held = await bench.metadata()
    assert held["ownerReferences"][0]["kind"] == "ExternalSecret"
    assert CREATED_BY in held["labels"]


@pytest.mark.parametrize("after", ["Owner", "Orphan"])
async def test_what_was_merged_into_is_not_taken_over_without_consent(bench, after: str) -> None:
    await bench.secret_of_somebody(theirs="kept")
    await bench.external(target={"creationPolicy": "Merge"})
    change = {"spec": {"target": {"creationPolicy": after}}}
    await bench.api.merge_patch(EXTERNAL_SECRETS, "db", "n", change)
    await bench.clock.advance(1)
    assert await bench.secret() == {"theirs": "kept", "password": "one"}
    assert not (await bench.metadata()).get("ownerReferences")
    said = (await bench.condition())["message"]
    assert "would lose what others wrote: theirs" in said
    consent = {"metadata": {"annotations": {"strongroom.dev/adopt": "true"}}}
    await bench.api.merge_patch(EXTERNAL_SECRETS, "db", "n", consent)
    await bench.clock.advance(1)
    assert await bench.secret() == {"password": "one"}


@pytest.mark.parametrize("creation", ["Owner", "Orphan", "Merge"])
async def test_an_object_that_was_made_again_goes_on_with_its_secret(idle, creation: str) -> None:
    """As after a restore: the Secret refers to one of the same name that is no more."""
    reference = {
        "apiVersion": "external-secrets.io/v1beta1", "kind": "ExternalSecret", "name": "db",
        "uid": "of-before", "controller": True, "blockOwnerDeletion": True,
    }  # fmt: skip
    other = {"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "another"}
    metadata = {"name": "db", "namespace": "n", "ownerReferences": [other, reference]}
    await idle.api.create(SECRETS, {"metadata": metadata, "data": {"password": "b2xk"}})
    await idle.start()
    await idle.external(target={"creationPolicy": creation})
    await idle.clock.advance(1)
    assert await idle.secret() == {"password": "one"}
    uids = [each["uid"] for each in (await idle.metadata())["ownerReferences"]]
    owned = [(await idle.item())["metadata"]["uid"]] if creation == "Owner" else []
    assert uids == ["another", *owned]
    writes = idle.api.writes
    await idle.clock.advance(10)
    assert idle.api.writes == writes


async def test_an_orphan_with_a_key_of_somebody_is_still_its_own(bench) -> None:
    orphan = {"creationPolicy": "Orphan"}
    await bench.external(target=orphan, refreshInterval="1m")
    await bench.edit(added="x")
    bench.provider.put("prod/db", password="two")
    await bench.clock.advance(70)
    assert await bench.secret() == {"password": "two"}


@pytest.mark.parametrize("policy", ["Periodic", "OnChange", "CreatedOnce"])
async def test_a_new_target_name_is_created_under_every_refresh_policy(bench, policy: str) -> None:
    await bench.external(refreshPolicy=policy)
    change = {"spec": {"target": {"name": "new"}}}
    await bench.api.merge_patch(EXTERNAL_SECRETS, "db", "n", change)
    await bench.clock.advance(1)
    assert await bench.secret("new") == {"password": "one"}
    assert not await bench.has_secret("db")
    writes = bench.api.writes
    await bench.clock.advance(10)
    assert bench.api.writes == writes


async def test_an_edit_reaches_an_orphan_whose_values_stay(bench) -> None:
    orphan = {"creationPolicy": "Orphan"}
    await bench.external(target=orphan)
    template = {"metadata": {"labels": {"team": "x"}}}
    change = {"spec": {"target": {"template": template}}}
    await bench.api.merge_patch(EXTERNAL_SECRETS, "db", "n", change)
    await bench.clock.advance(1)
    assert (await bench.metadata())["labels"]["team"] == "x"
