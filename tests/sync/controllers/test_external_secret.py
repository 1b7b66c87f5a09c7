"""ExternalSecrets from manifest to Secret, and what happens when something changes."""

import asyncio
import json
from typing import Any

import pytest

from strongroom.kube.api import EVERYTHING
from strongroom.kube.fake import FakeKubeApi
from strongroom.kube.resource import SECRETS
from strongroom.model.errors import Denied, NotFound, Unavailable
from strongroom.sync.crds import EXTERNAL_SECRETS
from strongroom.sync.desired import SOURCE_VERSIONS
from strongroom.sync.providers.contract import Change
from strongroom.sync.providers.fake import FakeProvider


async def test_a_new_object_becomes_a_secret_with_its_version(bench) -> None:
    await bench.external()
    assert await bench.secret() == {"password": "one"}
    item = await bench.api.get(SECRETS, "db", "n")
    assert json.loads(item["metadata"]["annotations"]["strongroom.dev/source-versions"]) == {
        "prod/db": 1
    }
    assert (await bench.condition())["reason"] == "SecretSynced"
    assert (await bench.item())["status"]["sourceVersions"] == "prod/db@1"
    assert any(note.startswith("Created") for note in await bench.notes())


async def test_what_it_wrote_itself_is_no_reason_to_look_again(bench) -> None:
    await bench.external()
    calls = 'externalsecret_sync_calls_total{name="db",namespace="n"} 1'
    assert calls in list(bench.operator.lines())
    await bench.edit(password="x")
    # One look for somebody else's write, none for the repair of it.
    assert calls[:-1] + "2" in list(bench.operator.lines())
    assert await bench.secret() == {"password": "one"}


async def test_one_read_serves_all_rows_and_later_rows_win(bench) -> None:
    row = {"secretKey": "password", "remoteRef": {"key": "prod/db", "property": "username"}}
    await bench.external(data=[row], dataFrom=[{"extract": {"key": "prod/db"}}])
    assert await bench.secret() == {"password": "app", "username": "app"}
    assert bench.provider.reads == 1


async def test_the_feed_brings_a_change_at_once(bench) -> None:
    await bench.external()
    bench.provider.put("prod/db", password="two")
    await bench.clock.advance(0.5)
    assert await bench.secret() == {"password": "two"}


@pytest.mark.parametrize(
    ("wanted", "comes"),
    [
        ({"name": {"regexp": "^prod/"}}, True),
        ({"path": "prod"}, True),
        ({"path": "prod", "tags": {"team": "x"}}, False),
        ({"name": {"regexp": "^test/"}}, False),
        ({"path": "test"}, False),
    ],
)
async def test_the_feed_brings_what_is_new_to_whoever_looks_for_it(
    bench, wanted: dict, comes: bool
) -> None:
    await bench.external(dataFrom=[{"find": wanted}])
    reads = bench.provider.reads
    bench.provider.put("prod/new", v="x")
    await bench.clock.advance(0.5)
    assert (await bench.has_secret() and "prod_new" in await bench.secret()) is comes
    assert comes or bench.provider.reads == reads
    # Without a feed the notice of a cloud says as much.
    bench.provider.secrets["prod/newer"] = bench.provider.secrets["prod/new"]
    bench.operator.feeds.noticed("prod/newer")
    await bench.clock.advance(0.5)
    assert (await bench.has_secret() and "prod_newer" in await bench.secret()) is comes
    assert comes or bench.provider.reads == reads


async def test_a_pattern_for_what_a_server_has_many_of_comes_to_an_end(bench) -> None:
    for number in range(60):
        bench.provider.put("ab" * 20_000 + str(number), v="x")
    await bench.external(dataFrom=[{"find": {"name": {"regexp": "a[ab]{250}c"}}}])
    ready = await bench.condition()
    assert (ready["status"], "too large for so many names" in ready["message"]) == ("False", True)


async def test_a_pattern_that_is_too_large_for_a_new_name_keeps_no_other_from_the_feed(
    bench,
) -> None:
    await bench.external(dataFrom=[{"find": {"name": {"regexp": r"^prod/|\pL{200}x"}}}])
    short = [{"regexp": {"source": "^.*$", "target": "new"}}]
    every = [{"find": {"path": "test"}, "rewrite": short}]
    await bench.external("other", dataFrom=every, refreshInterval="24h")
    bench.provider.put("test/" + "long" * 200, v="x")
    await bench.clock.advance(0.5)
    assert await bench.has_secret("other")


async def test_what_is_new_while_a_feed_was_broken_comes_to_whoever_looks_for_it(idle) -> None:
    idle.provider = feed = Feed()
    idle.provider.put("prod/db", password="one")
    await idle.start()
    await idle.external(dataFrom=[{"find": {"name": {"regexp": "^prod/"}}}], refreshInterval="24h")
    feed.put(BREAK)
    await idle.clock.advance(0.5)
    feed.put("prod/new", v="x")
    await idle.clock.advance(5)
    assert feed.followed == 2
    assert "prod_new" in await idle.secret()


@pytest.mark.parametrize("source", ["rows", "extract", "find"])
async def test_the_feed_wakes_what_was_not_read_since_the_start(bench, source: str) -> None:
    found = {"find": {"name": {"regexp": "db"}}}
    given = {"rows": {}, "extract": {"dataFrom": [{"extract": {"key": "prod/db"}}]},
             "find": {"dataFrom": [found]}}  # fmt: skip
    await bench.external(**given[source])
    bench.provider.put("prod/other", password="x")
    before = await bench.secret()
    bench.provider.remembers = False
    await bench.start()
    await bench.clock.advance(1)
    reads = bench.provider.reads
    bench.provider.put("prod/other", password="y")
    await bench.clock.advance(0.5)
    # Of what it does not read it is woken only when that cannot be told.
    assert (bench.provider.reads > reads) is (source == "find")
    bench.provider.put("prod/db", password="two")
    await bench.clock.advance(0.5)
    assert await bench.secret() != before
    assert "two" in str(await bench.secret())


async def test_without_a_feed_the_interval_brings_it(idle) -> None:
    bench = idle
    bench.provider.has_feed = False
    await bench.start()
    await bench.external(refreshInterval="10m")
    bench.provider.put("prod/db", password="two")
    await bench.clock.advance(500)
    assert await bench.secret() == {"password": "one"}
    await bench.clock.advance(150)
    assert await bench.secret() == {"password": "two"}


async def test_a_due_and_unchanged_object_costs_no_write(bench) -> None:
    await bench.external(refreshInterval="1m")
    await bench.clock.advance(1)
    writes, reads = bench.api.writes, bench.provider.reads
    await bench.clock.advance(300)
    assert bench.provider.reads >= reads + 4
    assert bench.api.writes == writes


async def test_drift_is_repaired_at_once_and_reported_with_the_actor(bench) -> None:
    await bench.external()
    await bench.api.apply(
        SECRETS,
        {
            "metadata": {"name": "db", "namespace": "n"},
            "data": {"password": "bWFya2Vk", "extra": "eA=="},
        },
        "kubectl-edit",
    )
    await bench.clock.advance(0.5)
    assert await bench.secret() == {"password": "one"}
    notes = [note for note in await bench.notes() if note.startswith("DriftRepaired")]
    assert len(notes) == 1
    assert "kubectl-edit" in notes[0]
    assert "marked" not in notes[0]
    await bench.api.delete(SECRETS, "db", "n")
    await bench.clock.advance(0.5)
    assert await bench.secret() == {"password": "one"}
    assert any("was deleted" in note for note in await bench.notes())


async def test_what_somebody_else_made_is_left_alone(bench) -> None:
    await bench.api.create(
        SECRETS, {"metadata": {"name": "db", "namespace": "n"}, "stringData": {"mine": "x"}}
    )
    await bench.external()
    assert await bench.secret() == {"mine": "x"}
    said = await bench.condition()
    assert (said["status"], said["reason"]) == ("False", "SecretSyncedError")
    assert "not-ours" in said["message"]


async def test_merge_keeps_other_keys(bench) -> None:
    await bench.api.create(
        SECRETS, {"metadata": {"name": "db", "namespace": "n"}, "stringData": {"mine": "x"}}
    )
    await bench.external(target={"creationPolicy": "Merge"})
    assert await bench.secret() == {"mine": "x", "password": "one"}


async def test_a_provider_that_is_away_leaves_the_last_good_value_and_says_so(bench) -> None:
    await bench.external(refreshInterval="1m")
    bench.provider.broken = Unavailable("unreachable", "no answer")
    await bench.clock.advance(70)
    assert await bench.secret() == {"password": "one"}
    assert (await bench.condition())["status"] == "True"
    assert "unreachable" in (await bench.condition("Stale"))["message"]
    bench.provider.broken = None
    bench.provider.put("prod/db", password="two")
    await bench.clock.advance(600)
    assert await bench.secret() == {"password": "two"}
    assert await bench.condition("Stale") == {}


async def test_refusals_stand_at_the_object(bench) -> None:
    bench.provider.broken = Denied("store-denied", "permission denied")
    await bench.external()
    assert (await bench.condition())["status"] == "False"
    assert "store-denied" in (await bench.condition())["message"]
    await bench.external("nostore", secretStoreRef={"name": "missing"})
    assert "does not exist" in (await bench.condition(name="nostore"))["message"]
    await bench.external("bad", data=[{"secretKey": "a b", "remoteRef": {"key": "x"}}])
    assert "bad-key" in (await bench.condition(name="bad"))["message"]


async def test_a_missing_key_keeps_or_deletes_as_the_policy_says(bench) -> None:
    await bench.external(refreshInterval="1m", target={"deletionPolicy": "Delete"})
    await bench.external("kept", refreshInterval="1m", target={"name": "kept"})
    del bench.provider.secrets["prod/db"]
    await bench.clock.advance(70)
    with pytest.raises(NotFound):
        await bench.secret()
    assert await bench.secret("kept") == {"password": "one"}
    assert (await bench.condition(name="kept"))["status"] == "False"


async def test_an_edit_of_the_spec_counts_at_once(bench) -> None:
    await bench.external()
    row = {"secretKey": "user", "remoteRef": {"key": "prod/db", "property": "username"}}
    await bench.api.merge_patch(EXTERNAL_SECRETS, "db", "n", {"spec": {"data": [row]}})
    await bench.clock.advance(0.5)
    assert await bench.secret() == {"user": "app"}


async def test_two_objects_share_one_provider(bench) -> None:
    await bench.external()
    await bench.external("other", target={"name": "other"})
    assert await bench.secret("other") == {"password": "one"}


BREAK = "break"


class Feed(FakeProvider):
    """Its feed is refused, or breaks with a key; counts how often it was followed."""

    def __init__(self, refusal: Exception | None = None) -> None:
        super().__init__()
        self.refusal = refusal
        self.followed = 0

    async def changes(self, since=""):
        self.followed += 1
        if self.refusal is not None:
            raise self.refusal
        async for each in super().changes(since):
            if isinstance(each, Change) and each.path == BREAK:
                raise Unavailable("unreachable", "no answer")
            yield each


async def test_an_identity_that_may_not_follow_does_not_have_all_read_again_and_again(
    idle, caplog
) -> None:
    idle.provider = feed = Feed(Denied("feed-denied", "no"))
    feed.put("prod/db", password="one")
    await idle.start()
    await idle.external()
    assert "change feed of SecretStore n/s: feed-denied" in caplog.messages
    reads = feed.reads
    await idle.clock.advance(250)
    assert (feed.reads, feed.followed) == (reads, 1)
    feed.refusal = None
    await idle.clock.advance(100)
    feed.put("prod/db", password="two")
    await idle.clock.advance(1)
    assert await idle.secret() == {"password": "two"}


async def test_what_a_broken_feed_missed_is_read_when_the_store_is_back(idle, caplog) -> None:
    idle.provider = feed = Feed()
    for key in ("busy", "prod/db"):
        feed.put(key, password="one")
    await idle.start()
    row = {"secretKey": "a", "remoteRef": {"key": "busy", "property": "password"}}
    await idle.external("busy", refreshInterval="2s", data=[row])
    await idle.external(refreshInterval="24h")
    feed.broken = Unavailable("unreachable", "no answer")
    await idle.clock.advance(10)
    feed.put(BREAK)
    feed.put("prod/db", password="two")
    await idle.clock.advance(10)
    assert feed.followed == 2
    assert "change feed of SecretStore n/s: unreachable" in caplog.messages
    assert await idle.secret() == {"password": "one"}
    feed.broken = None
    await idle.clock.advance(60)
    assert await idle.secret() == {"password": "two"}


def row_of(key: str) -> list[dict[str, Any]]:
    return [{"secretKey": "password", "remoteRef": {"key": key, "property": "password"}}]


async def two_objects(idle: Any, interval: str = "24h") -> None:
    """Two objects with keys of the same last part, and a store that others use as well."""
    for key in ("prod/db", "test/db", "far/off"):
        idle.provider.put(key, password="one")
    await idle.start()
    await idle.external("db", data=row_of("prod/db"), refreshInterval=interval)
    await idle.external("test", data=row_of("test/db"), refreshInterval=interval)
    await idle.clock.advance(1)


async def test_what_changed_while_no_operator_ran_is_read_and_nothing_else(idle) -> None:
    await two_objects(idle)
    await idle.stop()
    idle.provider.put("prod/db", password="two")
    reads = idle.provider.reads
    await idle.start()
    await idle.clock.advance(5)
    assert await idle.secret() == {"password": "two"}
    assert idle.provider.reads == reads + 1
    await idle.start()
    await idle.clock.advance(5)
    assert idle.provider.reads == reads + 1


@pytest.mark.parametrize(
    ("remembers", "forgotten"), [(False, 0), (True, 99)], ids=["no history", "forgotten"]
)
async def test_what_the_feed_cannot_tell_waits_for_its_interval(
    idle, caplog, remembers: bool, forgotten: int
) -> None:
    await two_objects(idle, interval="10m")
    await idle.stop()
    idle.provider.put("prod/db", password="two")
    idle.provider.remembers, idle.provider.forgotten = remembers, forgotten
    reads = idle.provider.reads
    with caplog.at_level("INFO", "strongroom.sync"):
        await idle.start()
        await idle.clock.advance(5)
    assert idle.provider.reads == reads
    assert any("waits for its interval" in each for each in caplog.messages) is remembers
    await idle.clock.advance(600)
    assert await idle.secret() == {"password": "two"}


async def test_a_deletion_while_no_operator_ran_is_found(idle) -> None:
    idle.provider.put("prod/db", password="one")
    await idle.start()
    await idle.external(refreshInterval="24h", target={"deletionPolicy": "Delete"})
    assert await idle.has_secret()
    await idle.stop()
    del idle.provider.secrets["prod/db"]
    idle.provider.history.append(Change("prod/db", str(len(idle.provider.history) + 1)))
    await idle.start()
    await idle.clock.advance(5)
    assert not await idle.has_secret()


@pytest.mark.parametrize("remembers", [True, False])
async def test_a_feed_that_broke_goes_on_where_it_was(idle, remembers: bool) -> None:
    idle.provider = feed = Feed()
    feed.remembers = remembers
    await two_objects(idle)
    reads = feed.reads
    feed.put(BREAK)
    await idle.clock.advance(0.5)
    feed.put("prod/db", password="two")
    await idle.clock.advance(5)
    assert feed.followed == 2
    assert await idle.secret() == {"password": "two"}
    # Without a position in the feed nobody knows what was missed.
    assert feed.reads == reads + (1 if remembers else 2)


async def test_a_feed_that_nobody_can_read_ends_no_other_and_is_followed_again(
    idle, caplog
) -> None:
    idle.provider = feed = Feed(ValueError("what the store sent"))
    feed.put("prod/db", password="one")
    await idle.start()
    await idle.external(refreshInterval="24h")
    await idle.clock.advance(5)
    assert feed.followed > 1
    assert any("ValueError" in each for each in caplog.messages)
    assert "what the store sent" not in caplog.text
    feed.refusal = None
    await idle.clock.advance(60)
    feed.put("prod/db", password="two")
    await idle.clock.advance(1)
    assert await idle.secret() == {"password": "two"}


@pytest.mark.parametrize("said", ["{", "[1]", "[" * 100_000], ids=["no JSON", "a list", "deep"])
async def test_a_target_whose_versions_cannot_be_read_is_read_anew(idle, said: str) -> None:
    await two_objects(idle)
    await idle.stop()
    annotations = {"metadata": {"annotations": {SOURCE_VERSIONS: said}}}
    await idle.api.merge_patch(SECRETS, "db", "n", annotations)
    idle.provider.put("prod/db", password="two")
    await idle.start()
    await idle.clock.advance(5)
    assert await idle.secret() == {"password": "two"}


async def test_a_feed_that_has_forgotten_what_was_missed_has_all_read(idle) -> None:
    idle.provider = feed = Feed()
    await two_objects(idle)
    reads = feed.reads
    feed.put(BREAK)
    await idle.clock.advance(0.5)
    feed.put("prod/db", password="two")
    feed.forgotten = 99
    await idle.clock.advance(5)
    assert await idle.secret() == {"password": "two"}
    assert feed.reads == reads + 2


class SlowLists:
    """An API server that lists no Secrets before it is let."""

    def __init__(self, api: FakeKubeApi) -> None:
        self._api = api
        self.let = asyncio.Event()

    async def pages(self, resource, scope=EVERYTHING):
        if resource == SECRETS:
            await self.let.wait()
        async for page in self._api.pages(resource, scope):
            yield page

    def __getattr__(self, name: str):
        return getattr(self._api, name)


async def test_what_was_never_synced_does_not_wait_for_the_caches_of_all_others(idle) -> None:
    bench = idle
    await bench.start()
    await bench.external("old")
    await bench.stop()
    await bench.external("new")
    await bench.api.delete(SECRETS, "old", "n")
    slow = SlowLists(bench.api)
    await bench.start(slow)
    await bench.clock.advance(1)
    assert await bench.has_secret("new")
    assert not await bench.has_secret("old")
    slow.let.set()
    await bench.clock.advance(1)
    assert await bench.has_secret("old")
    assert (await bench.condition(name="new"))["status"] == "True"


class Listed:
    """Notes which kinds are listed, in order."""

    def __init__(self, api: FakeKubeApi) -> None:
        self._api = api
        self.kinds: list[str] = []

    def pages(self, resource, scope=EVERYTHING):
        self.kinds.append(resource.plural)
        return self._api.pages(resource, scope)

    def __getattr__(self, name: str):
        return getattr(self._api, name)


async def test_nothing_is_listed_before_what_was_never_synced_but_what_it_needs(idle) -> None:
    await idle.external()
    listed = Listed(idle.api)
    await idle.start(listed)
    await idle.clock.advance(1)
    before = listed.kinds[: listed.kinds.index("externalsecrets")]
    assert set(before) <= {"secretstores", "clustersecretstores", "namespaces"}
    assert {"secrets", "pushsecrets", "clusterexternalsecrets"} <= set(listed.kinds)


async def test_the_secret_under_an_earlier_name_goes_although_the_start_was_early(idle) -> None:
    bench = idle
    await bench.start()
    await bench.external()
    await bench.stop()
    item = await bench.item()
    await bench.api.merge_patch(EXTERNAL_SECRETS, "db", "n", {"spec": {"target": {"name": "b"}}})
    await bench.api.merge_patch(EXTERNAL_SECRETS, "db", "n", {"status": None}, "status")
    assert item["status"]
    slow = SlowLists(bench.api)
    await bench.start(slow)
    await bench.clock.advance(1)
    assert await bench.has_secret("b")
    assert await bench.has_secret("db")
    slow.let.set()
    await bench.clock.advance(1)
    assert not await bench.has_secret("db")


async def test_a_crowd_of_new_objects_is_told_by_their_statuses_alone(idle) -> None:
    bench = idle
    for number in range(80):
        await bench.external(f"crowd-{number}")
    await bench.start()
    await bench.clock.advance(1)
    for number in range(80):
        assert (await bench.condition(name=f"crowd-{number}"))["status"] == "True"
    before = len(await bench.notes())
    assert before < 40
    await bench.clock.advance(10)
    await bench.external("one")
    assert len(await bench.notes()) == before + 1


async def test_of_what_nobody_reads_any_more_no_version_is_remembered(bench) -> None:
    for number in range(20):
        bench.provider.put(f"key-{number}", password="one")
    await bench.external("other", data=row_of("key-0"))
    await bench.external(data=row_of("key-0"))
    for number in range(1, 20):
        change = {"spec": {"data": row_of(f"key-{number}")}}
        await bench.api.merge_patch(EXTERNAL_SECRETS, "db", "n", change)
        await bench.clock.advance(0.5)
    assert bench.operator.feeds.remembered() == 2
    await bench.api.delete(EXTERNAL_SECRETS, "db", "n")
    await bench.clock.advance(0.5)
    assert bench.operator.feeds.remembered() == 1


async def test_what_is_not_there_yet_is_read_as_soon_as_the_feed_tells_of_it(bench) -> None:
    await bench.external(data=row_of("prod/late"), refreshInterval="24h")
    await bench.clock.advance(3600)
    assert "not there" in (await bench.condition())["message"]
    reads = bench.provider.reads
    bench.provider.put("prod/unrelated", password="x")
    await bench.clock.advance(1)
    assert bench.provider.reads == reads
    bench.provider.put("prod/late", password="here")
    await bench.clock.advance(1)
    assert await bench.secret() == {"password": "here"}


@pytest.mark.parametrize("deletion", ["Delete", "Merge"])
@pytest.mark.parametrize("entry", ["row", "extract"])
async def test_what_is_skipped_as_missing_comes_back_by_the_feed(
    bench, deletion: str, entry: str
) -> None:
    spec = {"row": {}, "extract": {"data": [], "dataFrom": [{"extract": {"key": "prod/db"}}]}}
    await bench.external(target={"deletionPolicy": deletion}, refreshInterval="1h", **spec[entry])
    del bench.provider.secrets["prod/db"]
    await bench.clock.advance(3600)
    assert any("MissingProviderSecret" in each for each in await bench.notes())
    reads = bench.provider.reads
    bench.provider.put("prod/unrelated", password="x")
    await bench.clock.advance(1)
    assert bench.provider.reads == reads
    bench.provider.put("prod/db", password="back")
    await bench.clock.advance(1)
    assert (await bench.secret())["password"] == "back"
