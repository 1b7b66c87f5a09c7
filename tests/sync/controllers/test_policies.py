"""creationPolicy and deletionPolicy, every pair that may be."""

import asyncio

import pytest

from strongroom.kube.resource import SECRETS
from strongroom.model.errors import Denied, NotFound, Unavailable
from strongroom.sync.controller import FINALIZER
from strongroom.sync.crds import EXTERNAL_SECRETS
from strongroom.sync.providers.contract import Fetched
from strongroom.sync.providers.fake import FakeProvider
from strongroom.sync.spec import RemoteRef

FROM = [{"extract": {"key": "prod/db"}}]
BOTH = {"password": "one", "username": "app"}


async def put_and_refresh(bench, **data: str) -> None:
    """A new value at the store, and the time that it takes to be read."""
    bench.provider.put("prod/db", **data)
    await bench.clock.advance(70)


@pytest.mark.parametrize("creation", ["Owner", "Orphan", "CreateOrMerge"])
async def test_a_missing_secret_is_created(bench, creation: str) -> None:
    await bench.external(dataFrom=FROM, target={"creationPolicy": creation})
    assert await bench.secret() == BOTH
    owned = "ownerReferences" in await bench.metadata()
    assert owned is (creation == "Owner")
    assert (await bench.item())["status"]["binding"] == {"name": "db"}


async def test_merge_waits_for_its_secret_and_none_writes_nothing(bench) -> None:
    await bench.external(target={"creationPolicy": "Merge"}, refreshInterval="1m")
    said = await bench.condition()
    assert (said["status"], said["reason"]) == ("True", "SecretMissing")
    assert "binding" not in (await bench.item())["status"]
    await bench.external("none", target={"creationPolicy": "None"})
    assert not await bench.has_secret("none")
    assert (await bench.condition(name="none"))["reason"] == "SecretSynced"
    await bench.secret_of_somebody(mine="x")
    await bench.clock.advance(70)
    assert await bench.secret() == {"mine": "x", "password": "one"}
    assert (await bench.condition())["reason"] == "SecretSynced"


@pytest.mark.parametrize("creation", ["Owner", "Orphan"])
async def test_an_existing_secret_is_left_alone_until_there_is_consent(
    bench, creation: str
) -> None:
    await bench.secret_of_somebody(mine="x")
    await bench.external(target={"creationPolicy": creation})
    assert await bench.secret() == {"mine": "x"}
    assert "not-ours" in (await bench.condition())["message"]
    consent = {"metadata": {"annotations": {"strongroom.dev/adopt": "true"}}}
    await bench.api.merge_patch(EXTERNAL_SECRETS, "db", "n", consent)
    await bench.clock.advance(0.5)
    assert await bench.secret() == {"password": "one"}


@pytest.mark.parametrize("creation", ["Merge", "CreateOrMerge"])
async def test_merging_keeps_other_keys_and_takes_back_its_own(bench, creation: str) -> None:
    await bench.secret_of_somebody(mine="x", password="theirs")
    await bench.external(dataFrom=FROM, target={"creationPolicy": creation})
    assert await bench.secret() == {"mine": "x", **BOTH}
    row = {"secretKey": "user", "remoteRef": {"key": "prod/db", "property": "username"}}
    spec = {"spec": {"dataFrom": None, "data": [row]}}
    await bench.api.merge_patch(EXTERNAL_SECRETS, "db", "n", spec)
    await bench.clock.advance(0.5)
    assert await bench.secret() == {"mine": "x", "user": "app"}
    assert "ownerReferences" not in await bench.metadata()


async def test_retain_keeps_the_last_value_of_a_key_that_is_gone(bench) -> None:
    await bench.external(refreshInterval="1m")
    del bench.provider.secrets["prod/db"]
    await bench.clock.advance(70)
    assert await bench.secret() == {"password": "one"}
    assert (await bench.condition())["status"] == "False"


async def test_retain_keeps_the_last_values_when_a_find_finds_nothing(bench) -> None:
    find = [{"find": {"name": {"regexp": "^prod/"}}}]
    await bench.external(dataFrom=find, refreshInterval="1m")
    assert set(await bench.secret()) == {"prod_db"}
    del bench.provider.secrets["prod/db"]
    await bench.clock.advance(70)
    assert set(await bench.secret()) == {"prod_db"}
    said = await bench.condition()
    assert (said["status"], said["message"]) == (
        "True",
        "secret retained due to DeletionPolicy=Retain",
    )


@pytest.mark.parametrize("deletion", ["Retain", "Delete", "Merge"])
async def test_a_find_below_a_path_that_is_gone_is_a_missing_secret(bench, deletion: str) -> None:
    bench.provider.put("team/one", v="1")
    target, sources = {"deletionPolicy": deletion}, [*FROM, {"find": {"path": "team/"}}]
    await bench.external(dataFrom=sources, refreshInterval="1m", target=target)
    both = await bench.secret()
    assert set(both) == {*BOTH, "team_one"}

    async def gone(_wanted) -> dict:
        raise NotFound("store-not-found", "nothing is below secret/team/")

    bench.provider.find = gone
    await bench.clock.advance(70)
    kept = deletion == "Retain"
    assert await bench.secret() == (both if kept else BOTH)
    assert (await bench.condition())["status"] == str(not kept)
    if not kept:
        said = "secret does not exist at provider using spec.dataFrom[1]"
        assert any(said in note for note in await bench.notes())


async def test_delete_deletes_when_nothing_is_left_and_creates_again(bench) -> None:
    await bench.external(refreshInterval="1m", target={"deletionPolicy": "Delete"})
    before = bench.provider.secrets.pop("prod/db")
    await bench.clock.advance(70)
    assert not await bench.has_secret()
    said = await bench.condition()
    assert (said["status"], said["reason"]) == ("True", "SecretDeleted")
    notes = await bench.notes()
    assert any(note.startswith("MissingProviderSecret") for note in notes)
    assert "Deleted: secret deleted due to DeletionPolicy=Delete" in notes
    bench.provider.secrets["prod/db"] = before
    await bench.clock.advance(70)
    assert await bench.secret() == {"password": "one"}


async def test_delete_and_merge_skip_missing_keys_and_keep_the_rest(bench) -> None:
    bench.provider.put("prod/more", token="t")
    rows = [
        {"secretKey": "password", "remoteRef": {"key": "prod/db", "property": "password"}},
        {"secretKey": "token", "remoteRef": {"key": "prod/more", "property": "token"}},
    ]
    for deletion in ("Delete", "Merge"):
        target = {"name": deletion.lower(), "deletionPolicy": deletion}
        await bench.external(deletion.lower(), data=rows, refreshInterval="1m", target=target)
    del bench.provider.secrets["prod/more"]
    await bench.clock.advance(70)
    assert await bench.secret("delete") == {"password": "one"}
    assert await bench.secret("merge") == {"password": "one"}
    del bench.provider.secrets["prod/db"]
    await bench.clock.advance(70)
    assert not await bench.has_secret("delete")
    assert await bench.secret("merge") == {}


@pytest.mark.parametrize("deletion", ["Delete", "Merge", "Retain"])
@pytest.mark.parametrize(
    "refusal",
    [Unavailable("unreachable", "no answer"), Denied("store-denied", "permission denied")],
)
async def test_a_store_that_fails_deletes_nothing(bench, deletion: str, refusal) -> None:
    await bench.external(dataFrom=FROM, refreshInterval="1m", target={"deletionPolicy": deletion})
    bench.provider.broken = refusal
    await bench.clock.advance(400)
    assert await bench.secret() == BOTH


async def test_missing_is_believed_only_from_a_store_that_lets_us_in(bench) -> None:
    await bench.external(refreshInterval="1m", target={"deletionPolicy": "Delete"})

    async def not_valid() -> None:
        raise Denied("store-denied", "the login is gone")

    # A store that answers "not found" to whoever it does not know.
    del bench.provider.secrets["prod/db"]
    bench.provider.validate = not_valid
    await bench.clock.advance(200)
    assert await bench.secret() == {"password": "one"}


async def test_a_missing_property_is_an_error_under_every_policy(bench) -> None:
    await bench.external(refreshInterval="1m", target={"deletionPolicy": "Delete"})
    await put_and_refresh(bench, other="x")
    assert await bench.secret() == {"password": "one"}
    assert "cannot find the property" in (await bench.condition())["message"]


async def test_the_secret_goes_with_its_external_secret_when_the_policy_says_so(bench) -> None:
    finalizer = "externalsecrets.external-secrets.io/externalsecret-cleanup"
    await bench.external(target={"deletionPolicy": "Delete"})
    assert (await bench.item())["metadata"]["finalizers"] == [finalizer]
    await bench.api.delete(EXTERNAL_SECRETS, "db", "n")
    await bench.clock.advance(0.5)
    assert not await bench.has_secret()
    with pytest.raises(NotFound):
        await bench.item()
    # The other controller's finalizer is honoured at an object that needs none of ours.
    await bench.external("kept", {"finalizers": [finalizer]}, target={"creationPolicy": "Orphan"})
    await bench.api.delete(EXTERNAL_SECRETS, "kept", "n")
    await bench.clock.advance(0.5)
    with pytest.raises(NotFound):
        await bench.item("kept")
    assert await bench.secret("kept") == {"password": "one"}


async def test_a_new_target_name_leaves_no_orphan(bench) -> None:
    await bench.external()
    await bench.api.merge_patch(EXTERNAL_SECRETS, "db", "n", {"spec": {"target": {"name": "new"}}})
    await bench.clock.advance(0.5)
    assert await bench.secret("new") == {"password": "one"}
    assert not await bench.has_secret("db")
    assert "Deleted: secret deleted because it was orphaned" in await bench.notes()


async def test_an_immutable_secret_stays_and_says_so_once(bench) -> None:
    await bench.external(refreshInterval="1m", target={"immutable": True})
    assert (await bench.api.get(SECRETS, "db", "n"))["immutable"] is True
    await put_and_refresh(bench, password="two")
    assert await bench.secret() == {"password": "one"}
    assert "[immutable]" in (await bench.condition())["message"]
    writes = bench.api.writes
    await bench.clock.advance(600)
    assert bench.api.writes == writes


async def test_created_once_is_never_read_again_but_repaired(bench) -> None:
    await bench.external(refreshPolicy="CreatedOnce", refreshInterval="1m")
    await put_and_refresh(bench, password="two")
    force = {"metadata": {"annotations": {"force-sync": "1"}}}
    await bench.api.merge_patch(EXTERNAL_SECRETS, "db", "n", force)
    await bench.clock.advance(70)
    assert await bench.secret() == {"password": "one"}
    await bench.edit(password="marked")
    assert await bench.secret() == {"password": "one"}


async def test_on_change_reads_when_the_object_changes(idle) -> None:
    idle.provider.has_feed = False
    await idle.start()
    await idle.external(refreshPolicy="OnChange", refreshInterval="1m")
    await put_and_refresh(idle, password="two")
    assert await idle.secret() == {"password": "one"}
    force = {"metadata": {"annotations": {"force-sync": "1"}}}
    await idle.api.merge_patch(EXTERNAL_SECRETS, "db", "n", force)
    await idle.clock.advance(0.5)
    assert await idle.secret() == {"password": "two"}


async def test_an_interval_of_nought_still_honours_an_edit(idle) -> None:
    idle.provider.has_feed = False
    await idle.start()
    await idle.external(refreshInterval="0")
    await put_and_refresh(idle, password="two", username="app")
    await idle.clock.advance(10_000)
    assert await idle.secret() == {"password": "one"}
    row = {"secretKey": "user", "remoteRef": {"key": "prod/db", "property": "username"}}
    await idle.api.merge_patch(EXTERNAL_SECRETS, "db", "n", {"spec": {"data": [row]}})
    await idle.clock.advance(0.5)
    assert await idle.secret() == {"user": "app"}


async def test_windows_gate_the_periodic_refresh_only(idle) -> None:
    idle.provider.has_feed = False
    await idle.start()
    never = {"kind": "deny", "windows": [{"schedule": "* * * * *", "duration": "1h"}]}
    await idle.external(refreshInterval="1m", syncWindows=never)
    await put_and_refresh(idle, password="two")
    assert await idle.secret() == {"password": "one"}
    await idle.edit(password="marked")
    assert await idle.secret() == {"password": "one"}


async def test_what_was_refused_before_a_restart_is_tried_at_the_start(bench) -> None:
    await bench.external()
    bench.provider.broken = Denied("store-denied", "permission denied")
    bench.provider.put("prod/db", password="two")
    await bench.clock.advance(5)
    assert (await bench.condition())["status"] == "False"
    await bench.stop()
    bench.provider.broken = None
    bench.provider.has_feed = False
    await bench.start()
    await bench.clock.advance(1)
    assert await bench.secret() == {"password": "two"}
    assert (await bench.condition())["status"] == "True"


@pytest.mark.parametrize("creation", ["Orphan", "Merge", "None"])
@pytest.mark.parametrize("watched", [True, False])
async def test_what_is_made_anew_under_its_name_is_told_of(
    bench, creation: str, watched: bool
) -> None:
    """Also when nobody looked in between: with a queue that is long, or a watch that had lapsed."""
    await bench.secret_of_somebody("t", other="x")
    target = {"name": "t" if creation == "Merge" else "db", "creationPolicy": creation}
    await bench.external(target=target)
    await bench.api.delete(EXTERNAL_SECRETS, "db", "n")
    if watched:
        await bench.clock.advance(0.5)
    await bench.external(target=target)
    await bench.clock.advance(5)
    assert (await bench.condition())["status"] == "True"


class Slow(FakeProvider):
    """Reads wait until they may."""

    def __init__(self) -> None:
        super().__init__()
        self.may = asyncio.Event()
        self.put("prod/db", password="one", username="app")

    async def fetch(self, ref: RemoteRef) -> Fetched:
        await self.may.wait()
        return await super().fetch(ref)


@pytest.mark.parametrize("creation", ["Owner", "Orphan", "Merge"])
async def test_what_is_made_anew_while_its_forerunner_is_read_is_read(idle, creation: str) -> None:
    provider = idle.provider = Slow()
    await idle.start()
    await idle.secret_of_somebody("t", other="x")
    target = {"name": "t" if creation == "Merge" else "db", "creationPolicy": creation}
    await idle.external(target=target, refreshInterval="0")
    await idle.api.delete(EXTERNAL_SECRETS, "db", "n")
    await idle.clock.advance(0.5)
    user = [{"secretKey": "user", "remoteRef": {"key": "prod/db", "property": "username"}}]
    await idle.external(target=target, refreshInterval="0", data=user)
    provider.may.set()
    await idle.clock.advance(5)
    assert (await idle.secret(target["name"]))["user"] == "app"


async def test_what_is_made_anew_under_its_name_holds_what_goes_with_it(bench) -> None:
    target = {"creationPolicy": "Owner", "deletionPolicy": "Delete"}
    await bench.external(target=target)
    await bench.api.merge_patch(EXTERNAL_SECRETS, "db", "n", {"metadata": {"finalizers": None}})
    await bench.api.delete(EXTERNAL_SECRETS, "db", "n")
    await bench.external(target=target)
    await bench.clock.advance(5)
    assert (await bench.item())["metadata"]["finalizers"] == [FINALIZER]


async def test_what_the_store_told_of_one_that_was_made_anew_is_read(bench) -> None:
    """Another replica had the lead and synced it, and its status is believed."""
    await bench.external(target={"creationPolicy": "Orphan"})
    old = await bench.item()
    bench.running.cancel()
    await asyncio.gather(bench.running, return_exceptions=True)
    await bench.api.delete(EXTERNAL_SECRETS, "db", "n")
    metadata = {"name": "db", "namespace": "n"}
    await bench.api.create(EXTERNAL_SECRETS, {**old, "metadata": metadata})
    # Told of before the lead was lost, and not read yet.
    bench.provider.secrets["prod/db"].append({"password": "two"})
    bench.operator.sync.catch_up([("n", "db")])
    bench.running = asyncio.create_task(bench.operator.run())
    await bench.clock.advance(5)
    assert await bench.secret() == {"password": "two"}
