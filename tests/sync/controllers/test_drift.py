"""Drift: repaired, told with its actor, and not fought over for ever."""

import base64

import pytest

from strongroom.kube.resource import SECRETS
from strongroom.model.errors import Denied, Refusal, Unavailable
from strongroom.sync.crds import EXTERNAL_SECRETS
from strongroom.sync.desired import field_manager


async def test_a_foreign_key_is_removed_and_its_author_named(bench) -> None:
    await bench.external()
    await bench.edit(extra="marked-value", password="marked-value")
    assert await bench.secret() == {"password": "one"}
    (note,) = [each for each in await bench.notes() if each.startswith("DriftRepaired")]
    for part in ("kubectl-edit", "changed password", "added extra", "repaired"):
        assert part in note
    assert "marked-value" not in str(await bench.notes())


async def test_a_repair_reads_nothing_from_the_store(bench) -> None:
    await bench.external()
    reads = bench.provider.reads
    bench.provider.put("unrelated", a="b")
    await bench.edit(password="changed")
    assert await bench.secret() == {"password": "one"}
    assert bench.provider.reads == reads


async def test_a_repair_needs_no_store_that_answers(bench) -> None:
    from strongroom.model.errors import Unavailable

    await bench.external()
    bench.provider.broken = Unavailable("unreachable", "no answer")
    await bench.api.delete(SECRETS, "db", "n")
    await bench.clock.advance(0.2)
    assert await bench.secret() == {"password": "one"}


async def test_foreign_labels_are_nobodys_business_and_ours_are_restored(bench) -> None:
    await bench.external(metadata={"labels": {"team": "x"}})
    labels = {"metadata": {"labels": {"theirs": "y", "team": "z"}}}
    await bench.api.merge_patch(SECRETS, "db", "n", labels, manager="kubectl-label")
    await bench.clock.advance(0.5)
    kept = (await bench.metadata())["labels"]
    assert (kept["theirs"], kept["team"]) == ("y", "x")


async def test_an_orphans_drift_is_told_and_kept(bench) -> None:
    await bench.external(target={"creationPolicy": "Orphan"})
    await bench.edit(password="theirs")
    assert await bench.secret() == {"password": "theirs"}
    (note,) = [each for each in await bench.notes() if each.startswith("DriftKept")]
    assert "kubectl-edit" in note


async def test_an_orphans_drift_is_kept_while_the_store_is_away_too(idle) -> None:
    idle.provider.has_feed = False
    await idle.start()
    await idle.external(target={"creationPolicy": "Orphan"}, refreshInterval="10s")
    idle.provider.broken = Unavailable("unreachable", "no answer")
    await idle.clock.advance(60)
    await idle.edit(password="theirs")
    await idle.clock.advance(60)
    assert await idle.secret() == {"password": "theirs"}


@pytest.mark.parametrize(
    "trouble", [Unavailable("unreachable", "no answer"), Denied("store-denied", "not allowed")]
)
@pytest.mark.parametrize("drift", [False, True])
async def test_an_orphan_says_when_the_trouble_with_its_store_is_over(
    idle, trouble: Refusal, drift: bool
) -> None:
    idle.provider.has_feed = False
    await idle.start()
    await idle.external(target={"creationPolicy": "Orphan"}, refreshInterval="10s")
    if drift:
        await idle.edit(password="theirs")
    idle.provider.broken = trouble
    await idle.clock.advance(60)
    trouble_told = await idle.condition("Stale") or await idle.condition()
    assert trouble.code in trouble_told["message"]
    idle.provider.broken = None
    await idle.clock.advance(120)
    assert (await idle.condition())["status"] == "True"
    assert not await idle.condition("Stale")
    assert await idle.secret() == {"password": "theirs" if drift else "one"}


async def test_drift_while_nobody_watched_is_found_at_the_start(bench) -> None:
    await bench.external()
    await bench.stop()
    await bench.edit(password="changed")
    await bench.start()
    await bench.clock.advance(1)
    assert await bench.secret() == {"password": "one"}


async def started_anew(bench, **spec) -> None:
    """An operator that has not read the object yet, which is not due."""
    await bench.external(refreshInterval="1h", **spec)
    await bench.stop()
    await bench.start()
    await bench.clock.advance(1)


async def test_the_first_drift_after_a_start_is_told_with_its_actor(bench) -> None:
    await started_anew(bench)
    await bench.edit(password="theirs")
    assert await bench.secret() == {"password": "one"}
    (note,) = [each for each in await bench.notes() if each.startswith("DriftRepaired")]
    assert "changed password by kubectl-edit" in note


async def test_an_orphans_drift_after_a_start_is_kept(bench) -> None:
    await started_anew(bench, target={"creationPolicy": "Orphan"})
    await bench.edit(password="theirs")
    assert await bench.secret() == {"password": "theirs"}
    assert [each for each in await bench.notes() if each.startswith("DriftKept")]


@pytest.mark.parametrize("creation", ["Owner", "Orphan"])
async def test_what_the_store_changed_before_a_start_is_nobodys_drift(bench, creation: str) -> None:
    """Though somebody has written to the Secret as well."""
    await bench.external(refreshInterval="1h", target={"creationPolicy": creation})
    await bench.stop()
    bench.provider.put("prod/db", password="two", username="app")
    await bench.edit(password="theirs")
    await bench.start()
    await bench.clock.advance(1)
    assert await bench.secret() == {"password": "two"}
    assert not [each for each in await bench.notes() if each.startswith("Drift")]


@pytest.mark.parametrize("creation", ["Owner", "Orphan"])
async def test_what_an_edit_before_a_start_asks_for_is_nobodys_drift(bench, creation: str) -> None:
    """As while it runs, where `force-sync` gives an Orphan its values back."""
    await bench.external(refreshInterval="1h", target={"creationPolicy": creation})
    await bench.stop()
    await bench.edit(password="theirs")
    edit = {"metadata": {"annotations": {"force-sync": "1"}}}
    await bench.api.merge_patch(EXTERNAL_SECRETS, "db", "n", edit)
    await bench.start()
    await bench.clock.advance(1)
    assert await bench.secret() == {"password": "one"}
    assert not [each for each in await bench.notes() if each.startswith("Drift")]


async def test_an_orphan_that_somebody_else_left_is_not_kept_as_ones_own(bench) -> None:
    """Its values are those that are wanted, but it was never made for the new object."""
    await bench.external("first", target={"creationPolicy": "Orphan", "name": "db"})
    await bench.api.delete(EXTERNAL_SECRETS, "first", "n")
    await bench.edit(password="theirs")
    await bench.external("second", target={"creationPolicy": "Orphan", "name": "db"})
    assert "not-ours" in (await bench.condition(name="second"))["message"]


async def test_an_orphans_drift_after_a_start_is_kept_where_edits_count_for_nothing(bench) -> None:
    await bench.external(refreshPolicy="CreatedOnce", target={"creationPolicy": "Orphan"})
    edit = {"metadata": {"annotations": {"force-sync": "1"}}}
    await bench.api.merge_patch(EXTERNAL_SECRETS, "db", "n", edit)
    await bench.clock.advance(1)
    await bench.stop()
    await bench.edit(password="theirs")
    await bench.start()
    await bench.clock.advance(1)
    assert await bench.secret() == {"password": "theirs"}


async def test_a_fight_is_recognised_named_and_stopped(bench) -> None:
    await bench.external(refreshInterval="1h")
    for _ in range(5):
        await bench.edit(who="argocd-controller", password="theirs")
    said = await bench.condition("Contended")
    assert (said["status"], said["reason"]) == ("True", "FightDetected")
    assert "argocd-controller" in said["message"]
    assert (await bench.condition())["status"] == "False"
    writes = bench.api.writes
    for _ in range(5):
        await bench.edit(who="argocd-controller", password=f"theirs-{_}")
    assert bench.api.writes == writes + 5
    assert await bench.secret() == {"password": "theirs-4"}
    # The truce is over after ten minutes, and an opponent that has gone leaves peace.
    await bench.clock.advance(700)
    assert await bench.secret() == {"password": "one"}
    assert (await bench.condition())["status"] == "True"
    assert await bench.condition("Contended") == {}


async def fought_over(bench, **spec) -> None:
    await bench.external(**spec)
    for _ in range(5):
        await bench.edit(who="argocd-controller", password="theirs")
    assert (await bench.condition("Contended"))["status"] == "True"
    await bench.edit(who="argocd-controller", password="theirs")


async def test_a_fight_stays_stopped_though_the_object_is_due(idle) -> None:
    idle.provider.has_feed = False
    await idle.start()
    await fought_over(idle, refreshInterval="10s")
    writes, reads = idle.api.writes, idle.provider.reads
    await idle.clock.advance(500)
    assert idle.api.writes == writes
    assert idle.provider.reads > reads + 40
    assert await idle.secret() == {"password": "theirs"}
    # What is new at the store is no repair.
    idle.provider.put("prod/db", password="two")
    await idle.clock.advance(11)
    assert await idle.secret() == {"password": "two"}
    await idle.clock.advance(100)
    assert await in_order(idle)


async def in_order(bench) -> bool:
    ready = (await bench.condition())["status"] == "True"
    return ready and await bench.condition("Contended") == {}


async def test_a_fight_stays_stopped_when_the_operator_starts_anew(bench) -> None:
    await fought_over(bench, refreshInterval="1h")
    writes = bench.api.writes
    await bench.clock.advance(60)
    await bench.start()
    await bench.clock.advance(400)
    assert bench.api.writes == writes
    assert await bench.secret() == {"password": "theirs"}
    await bench.clock.advance(200)
    assert await bench.secret() == {"password": "one"}
    assert await in_order(bench)


async def test_an_edit_ends_a_truce_also_one_of_the_process_before(bench) -> None:
    for again, value in ((False, "app"), (True, "one")):
        if not again:
            await fought_over(bench, refreshInterval="1h")
        else:
            for _ in range(6):
                await bench.edit(who="argocd-controller", password="theirs")
            await bench.start()
            assert await bench.secret() == {"password": "theirs"}
        prop = "username" if value == "app" else "password"
        row = {"secretKey": "password", "remoteRef": {"key": "prod/db", "property": prop}}
        await bench.api.merge_patch(EXTERNAL_SECRETS, "db", "n", {"spec": {"data": [row]}})
        await bench.clock.advance(0.5)
        assert await bench.secret() == {"password": value}
        assert await in_order(bench)


async def test_two_external_secrets_that_merge_one_key_name_each_other(bench) -> None:
    bench.provider.put("prod/other", password="two")
    await bench.secret_of_somebody(mine="x")
    row = {"secretKey": "password", "remoteRef": {"key": "prod/other", "property": "password"}}
    target = {"name": "db", "creationPolicy": "Merge"}
    await bench.external("first", target=target)
    await bench.external("second", data=[row], target=target)
    await bench.clock.advance(30)
    writes = bench.api.writes
    await bench.clock.advance(60)
    assert bench.api.writes == writes
    named = [
        (await bench.condition("Contended", each)).get("message", "")
        for each in ("first", "second")
    ]
    assert any("ExternalSecret" in each for each in named)


async def test_an_external_secret_cannot_take_anothers_secret(bench) -> None:
    await bench.external("owner", target={"name": "shared"})
    await bench.external("thief", target={"name": "shared"})
    assert "belongs to ExternalSecret owner" in (await bench.condition(name="thief"))["message"]
    assert await bench.secret("shared") == {"password": "one"}
    assert (await bench.condition(name="owner"))["status"] == "True"


@pytest.mark.parametrize("policy", ["Merge", "CreateOrMerge"])
async def test_nobody_merges_into_what_another_external_secret_owns(bench, policy: str) -> None:
    await bench.external("owner", target={"name": "shared"})
    row = {"secretKey": "more", "remoteRef": {"key": "prod/db", "property": "username"}}
    target = {"name": "shared", "creationPolicy": policy}
    await bench.external("guest", data=[row], target=target)
    await bench.clock.advance(30)
    assert "belongs to ExternalSecret owner" in (await bench.condition(name="guest"))["message"]
    assert await bench.secret("shared") == {"password": "one"}
    assert (await bench.condition(name="owner"))["status"] == "True"


async def test_a_secret_of_another_controller_is_merged_into(bench) -> None:
    await bench.secret_of_somebody(mine="x")
    owner = {"apiVersion": "example.com/v1", "kind": "Certificate", "name": "c", "uid": "u-1"}
    owned = {"metadata": {"ownerReferences": [owner | {"controller": True}]}}
    await bench.api.merge_patch(SECRETS, "db", "n", owned)
    await bench.external(target={"creationPolicy": "Merge"})
    assert await bench.secret() == {"mine": "x", "password": "one"}


async def test_drift_is_repaired_while_the_store_is_away_and_the_object_is_overdue(idle) -> None:
    bench = idle
    bench.provider.has_feed = False
    await bench.start()
    await bench.external(refreshInterval="10s")
    bench.provider.broken = Unavailable("unreachable", "no answer")
    await bench.clock.advance(60)
    assert (await bench.condition("Stale"))["status"] == "True"
    await bench.edit(password="edited")
    assert await bench.secret() == {"password": "one"}
    assert any(note.startswith("DriftRepaired") for note in await bench.notes())
    assert (await bench.condition("Stale"))["status"] == "True"
    assert (await bench.condition())["status"] == "True"
    await bench.api.delete(SECRETS, "db", "n")
    await bench.clock.advance(0.2)
    assert await bench.secret() == {"password": "one"}


async def test_two_that_say_the_same_of_one_secret_come_to_rest(bench) -> None:
    # The same value of two places, whose versions both would write down.
    bench.provider.put("prod/other", password="one")
    await bench.secret_of_somebody(mine="x")
    await bench.external(target={"creationPolicy": "Merge"})
    row = {"secretKey": "password", "remoteRef": {"key": "prod/other", "property": "password"}}
    merge = {"name": "db", "creationPolicy": "Merge"}
    await bench.external("other", data=[row], target=merge)
    await bench.clock.advance(5)
    writes = bench.api.writes
    await bench.clock.advance(600)
    assert bench.api.writes == writes
    for name in ("db", "other"):
        assert (await bench.condition(name=name))["status"] == "True"


async def test_two_that_want_another_label_of_one_secret_are_stopped(bench) -> None:
    for name in ("first", "second"):
        label = {"metadata": {"labels": {"who": name}}}
        target = {"name": "db", "creationPolicy": "Merge", "template": label}
        await bench.external(name, target=target)
    await bench.secret_of_somebody(theirs="kept")
    await bench.external("owner", target={"name": "db", "creationPolicy": "Merge"})
    await bench.clock.advance(3700)
    writes = bench.api.writes
    await bench.clock.advance(500)
    assert bench.api.writes - writes <= 40
    assert any(each.startswith("FightDetected") for each in await bench.notes())


async def test_what_is_merged_comes_when_its_secret_does(bench) -> None:
    await bench.external(
        "late", target={"name": "db", "creationPolicy": "Merge"}, refreshInterval="0"
    )
    assert (await bench.condition(name="late"))["reason"] == "SecretMissing"
    row = {"secretKey": "user", "remoteRef": {"key": "prod/db", "property": "username"}}
    await bench.external("db", data=[row], target={"creationPolicy": "CreateOrMerge"})
    await bench.clock.advance(5)
    assert await bench.secret() == {"user": "app", "password": "one"}
    assert (await bench.condition(name="late"))["reason"] == "SecretSynced"


async def test_an_update_whose_status_is_refused_is_nobodys_drift(unruly, idle) -> None:
    await idle.external(refreshInterval="10s")
    idle.provider.put("prod/db", password="two")
    unruly.only = EXTERNAL_SECRETS
    unruly.failures["merge_patch"] = [Unavailable("unreachable", "timed out")] * 8
    await idle.clock.advance(180)
    assert await idle.secret() == {"password": "two"}
    assert not unruly.failures["merge_patch"]
    assert (await idle.condition())["status"] == "True"
    assert not [each for each in await idle.notes() if "Drift" in each or "Fight" in each]
    # What somebody did is told once, however often its status is refused.
    unruly.failures["merge_patch"] = [Unavailable("unreachable", "timed out")] * 8
    await idle.edit(password="by hand")
    await idle.clock.advance(180)
    assert await idle.secret() == {"password": "two"}
    told = [each for each in await idle.notes() if "Drift" in each or "Fight" in each]
    assert [each.partition(":")[0] for each in told] == ["DriftRepaired"]
    assert await idle.condition("Contended") == {}


async def test_a_secret_that_lost_its_label_is_not_called_deleted_after_a_start(bench) -> None:
    await bench.external()
    bench.provider.broken = Unavailable("unreachable", "timed out")
    await bench.stop()
    label = {"metadata": {"labels": {"reconcile.external-secrets.io/managed": None}}}
    await bench.api.merge_patch(SECRETS, "db", "n", label, manager="kubectl-label")
    await bench.start()
    await bench.clock.advance(60)
    assert (await bench.condition())["status"] == "True"
    assert (await bench.condition("Stale"))["status"] == "True"


@pytest.mark.parametrize("harm", ["edited", "deleted"])
async def test_what_cannot_be_repaired_after_a_start_is_told(bench, harm: str) -> None:
    await bench.external(refreshInterval="1h")
    bench.provider.broken = Unavailable("unreachable", "timed out")
    await bench.start()
    await bench.clock.advance(60)
    assert (await bench.condition())["status"] == "True"
    if harm == "edited":
        await bench.edit(password="by hand")
    else:
        await bench.api.delete(SECRETS, "db", "n")
    await bench.clock.advance(1)
    said, version = await bench.condition(), (await bench.item())["metadata"]["resourceVersion"]
    assert (said["status"], said["reason"]) == ("False", "SecretSyncedError")
    assert ("kubectl-edit has written" if harm == "edited" else "was deleted") in said["message"]
    assert (await bench.condition("Stale"))["status"] == "True"
    # It is said once, by the next process too.
    await bench.clock.advance(300)
    await bench.start()
    await bench.clock.advance(300)
    assert (await bench.item())["metadata"]["resourceVersion"] == version
    bench.provider.broken = None
    await bench.clock.advance(60)
    assert await bench.secret() == {"password": "one"}
    assert (await bench.condition())["status"] == "True"
    assert await bench.condition("Stale") == {}


async def test_whoever_shares_the_value_and_writes_a_label_does_no_harm_after_a_start(
    bench,
) -> None:
    await bench.external(refreshInterval="1h")
    await bench.clock.advance(60)
    password = base64.b64encode(b"one").decode()
    shared = {"metadata": {"name": "db", "namespace": "n"}, "data": {"password": password}}
    await bench.api.apply(SECRETS, shared, "helm")
    await bench.clock.advance(60)
    assert "helm" in str((await bench.metadata())["managedFields"])
    bench.provider.broken = Unavailable("unreachable", "timed out")
    await bench.start()
    await bench.clock.advance(60)
    assert (await bench.condition())["status"] == "True"
    assert (await bench.condition("Stale"))["status"] == "True"
    await bench.edit(who="helm", password="two")
    await bench.clock.advance(60)
    assert "helm has written" in (await bench.condition())["message"]


@pytest.mark.parametrize("policy", ["Merge", "CreateOrMerge", "Orphan"])
async def test_what_others_write_beside_a_merge_is_no_harm_after_a_start(bench, policy) -> None:
    await bench.secret_of_somebody(other="x")
    await bench.external(target={"creationPolicy": policy})
    await bench.clock.advance(1)
    before = await bench.condition()
    bench.provider.broken = Unavailable("unreachable", "timed out")
    await bench.start()
    await bench.edit(other="y")
    await bench.clock.advance(60)
    assert (await bench.condition())["status"] == before["status"]


@pytest.mark.parametrize("whole", [True, False])
async def test_an_etcd_that_was_put_back_is_not_called_an_unknown_writer(bench, whole) -> None:
    """The Secret is as it was written before; somebody's write is not taken for that."""
    await bench.external()
    before = await bench.api.get(SECRETS, "db", "n")
    bench.provider.put("prod/db", password="two")
    await bench.clock.advance(2)
    assert await bench.secret() == {"password": "two"}
    back = {"data": before["data"], "metadata": {"annotations": before["metadata"]["annotations"]}}
    if not whole:
        back["data"] = {"password": None}
    await bench.api.merge_patch(SECRETS, "db", "n", back, manager=field_manager("db"))
    await bench.clock.advance(2)
    assert await bench.secret() == {"password": "two"}
    (note,) = [each for each in await bench.notes() if each.startswith("DriftRepaired")]
    assert ("was etcd put back" in note) == whole
    assert ("unknown writer" in note) == (not whole)
