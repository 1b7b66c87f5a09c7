"""Bad days: no Secret is emptied, deleted or half written unless its policy says so."""

import asyncio

import pytest
from tests.sync.controllers.conftest import Unruly

from strongroom.kube.api import Gone
from strongroom.kube.election import Election
from strongroom.kube.fake import FakeKubeApi
from strongroom.kube.resource import SECRETS
from strongroom.model.clock import SimulatedClock
from strongroom.model.errors import Conflict, Denied, Invalid, Refusal, Throttled, Unavailable
from strongroom.model.secret import Secret
from strongroom.sync.assembly import Doors, Operator, Options
from strongroom.sync.crds import EXTERNAL_SECRETS, SECRET_STORES
from strongroom.sync.providers.contract import Fetched
from strongroom.sync.providers.fake import FakeProvider
from strongroom.sync.providers.fields import Fields
from strongroom.sync.providers.references import References, Surroundings
from strongroom.sync.providers.session import Session
from strongroom.sync.spec import RemoteRef
from strongroom.sync.templates import GoTemplates

FROM = [{"extract": {"key": "prod/db"}}]
BOTH = {"password": "one", "username": "app"}
FAILURES = {
    "403": Denied("store-denied", "permission denied"),
    "429": Throttled("store-throttled", "slow down", retry_after=30.0),
    "500": Unavailable("store-unavailable", "status 500"),
    "garbage": Unavailable("bad-reply", "the reply is no JSON"),
    "half a body": Unavailable("unreachable", "the reply ended early"),
    "nothing": Unavailable("unreachable", "timed out"),
}


async def passing(bench, operator: Operator, seconds: float) -> None:
    """Time passes second by second, and in each all is worked on that is ready."""
    for _ in range(int(seconds)):
        await bench.clock.advance(1)
        while len(operator.sync.queue):
            await bench.clock.advance(0)


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_store_that_fails_for_a_minute(bench, failure: str) -> None:
    await bench.external(dataFrom=FROM, refreshInterval="10s")
    before = await bench.metadata()
    bench.provider.broken = FAILURES[failure]
    reads = bench.provider.reads
    for _ in range(60):
        await bench.clock.advance(1)
        assert await bench.secret() == BOTH
    assert bench.provider.reads - reads <= 12
    assert await bench.metadata() == before
    said = await bench.condition()
    if failure == "403":
        assert (said["status"], said["reason"]) == ("False", "SecretSyncedError")
    else:
        assert said["status"] == "True"
        stale = await bench.condition("Stale")
        assert stale["status"] == "True"
        assert FAILURES[failure].code in stale["message"]
        assert "last good value of 2023-11-14T" in stale["message"]
    bench.provider.broken = None
    bench.provider.put("prod/db", password="two", username="app")
    await bench.clock.advance(60)
    assert await bench.secret() == {**BOTH, "password": "two"}
    assert (await bench.condition())["status"] == "True"
    assert await bench.condition("Stale") == {}


async def test_a_store_that_is_away_at_first_says_so_and_is_caught_up_with(bench) -> None:
    bench.provider.broken = FAILURES["nothing"]
    await bench.external(dataFrom=FROM)
    assert not await bench.has_secret()
    assert (await bench.condition())["status"] == "False"
    bench.provider.broken = None
    await bench.clock.advance(60)
    assert await bench.secret() == BOTH


async def test_garbage_in_one_value_changes_no_key(bench) -> None:
    rows = [
        {"secretKey": "a", "remoteRef": {"key": "prod/db", "property": "username"}},
        {
            "secretKey": "b",
            "remoteRef": {"key": "prod/db", "property": "password", "decodingStrategy": "Base64"},
        },
    ]
    bench.provider.put("prod/db", username="app", password="b25l")
    await bench.external(data=rows, refreshInterval="1m")
    assert await bench.secret() == {"a": "app", "b": "one"}
    bench.provider.put("prod/db", username="new", password="no base64!")
    await bench.clock.advance(70)
    assert await bench.secret() == {"a": "app", "b": "one"}
    assert "bad-encoding" in (await bench.condition())["message"]


async def test_retry_after_holds_for_all_objects_of_a_store(bench) -> None:
    for number in range(20):
        await bench.external(f"es-{number}", refreshInterval="10s")
    bench.provider.broken = Throttled("store-throttled", "slow down", retry_after=45.0)
    await bench.clock.advance(11)
    reads = bench.provider.reads
    await bench.clock.advance(30)
    assert bench.provider.reads == reads
    bench.provider.broken = None
    await bench.clock.advance(30)
    assert bench.provider.reads > reads


@pytest.mark.parametrize(
    "many",
    [500, pytest.param(10_000, marks=[pytest.mark.soak, pytest.mark.timeout(600)])],
)
@pytest.mark.long
async def test_many_objects_with_a_store_that_is_down_hold_up_nobody_else(idle, many: int) -> None:
    other = FakeProvider()
    other.put("prod/db", password="one")
    idle.provider.broken = FAILURES["nothing"]
    await idle.api.create(
        SECRET_STORES,
        {"metadata": {"name": "good", "namespace": "n"}, "spec": {"provider": {"fake": {}}}},
    )

    async def make(store, namespace):
        return other if store["metadata"]["name"] == "good" else idle.provider

    doors = Doors(make=make, render=GoTemplates(idle.clock))
    operator = Operator(idle.api, doors, idle.clock, Options())
    running = asyncio.create_task(operator.run())
    spec = {"secretStoreRef": {"name": "s"}, "dataFrom": FROM, "refreshInterval": "1h"}
    for number in range(many):
        metadata = {"name": f"es-{number}", "namespace": "n"}
        await idle.api.create(EXTERNAL_SECRETS, {"metadata": metadata, "spec": spec})
    await passing(idle, operator, 5)
    await idle.external("lively", secretStoreRef={"name": "good"})
    assert await idle.secret("lively") == {"password": "one"}
    # One probe at a time finds out whether it is back, whoever many wait.
    await passing(idle, operator, 120)
    reads = idle.provider.reads
    await passing(idle, operator, 300)
    assert idle.provider.reads - reads <= 12
    idle.provider.broken = None
    await passing(idle, operator, 60)
    assert len((await idle.api.list(SECRETS)).items) == many + 1
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_the_api_server_restarts(idle, unruly) -> None:
    bench = idle
    away = Unavailable("unreachable", "no answer")
    unruly.failures = {"create": [away] * 3, "merge_patch": [away] * 3}
    await bench.external()
    assert not await bench.has_secret()
    await bench.clock.advance(30)
    assert await bench.secret() == {"password": "one"}
    assert (await bench.condition())["status"] == "True"


async def test_a_write_whose_answer_was_lost_is_not_done_twice(idle, unruly) -> None:
    bench = idle
    unruly.after = {"create": [Unavailable("unreachable", "the connection broke")]}
    await bench.external()
    await bench.clock.advance(30)
    assert await bench.secret() == {"password": "one"}
    uid = (await bench.metadata())["uid"]
    await bench.clock.advance(4000)
    assert (await bench.metadata())["uid"] == uid


async def test_a_watch_that_expires_misses_nothing(bench) -> None:
    await bench.external()
    bench.api.forget_history()
    await bench.edit(password="changed")
    await bench.external("late")
    assert await bench.secret() == {"password": "one"}
    assert await bench.secret("late") == {"password": "one"}


async def test_a_watch_that_breaks_again_and_again_is_taken_up(idle) -> None:
    class Flaky(Unruly):
        breaks = 5

        def watch(self, *args, **kwargs):
            if self.breaks:
                self.breaks -= 1
                raise Gone("kube-gone", "too old") if self.breaks % 2 else Unavailable("x", "broke")
            return self.api.watch(*args, **kwargs)

    await idle.start(Flaky(idle.api))
    await idle.external()
    await idle.clock.advance(30)
    assert await idle.secret() == {"password": "one"}


async def test_conflicts_are_looked_at_again(idle, unruly) -> None:
    bench = idle
    await bench.external()
    conflict = Conflict("kube-conflict", "the object has been modified")
    unruly.failures = {"merge_patch": [conflict, conflict]}
    await bench.api.merge_patch(
        SECRETS, "db", "n", {"data": {"password": "eA=="}}, manager="kubectl-edit"
    )
    await bench.clock.advance(1)
    assert await bench.secret() == {"password": "one"}
    # It is nobody's fault, and nobody is told.
    assert not [note for note in await bench.notes() if note.startswith("UpdateFailed")]


async def test_a_leader_that_dies_between_its_two_writes(idle) -> None:
    """The Secret was written and its status was not: the next leader completes it, once."""

    class Dying(Unruly):
        writes = 0

        async def hang(self) -> None:
            await asyncio.Event().wait()

        def __getattr__(self, name: str):
            whole = super().__getattr__(name)
            if name != "merge_patch":
                return whole

            async def call(resource, *args, **kwargs):
                if resource == EXTERNAL_SECRETS:
                    await self.hang()
                return await whole(resource, *args, **kwargs)

            return call

    def replica(api, name: str):
        async def make(store, namespace):
            return idle.provider

        operator = Operator(
            api, Doors(make=make, render=GoTemplates(idle.clock)), idle.clock, Options()
        )
        election = Election(api, idle.clock, ("n", "lease"), name)
        return asyncio.create_task(operator.run(election)), election

    first, held = replica(Dying(idle.api), "first")
    await idle.clock.advance(1)
    second, _ = replica(idle.api, "second")
    await idle.external()
    assert await idle.secret() == {"password": "one"}
    assert "status" not in await idle.item()
    held.leading = False
    first.cancel()
    before = await idle.metadata()
    await idle.clock.advance(30)
    assert (await idle.condition())["reason"] == "SecretSynced"
    assert await idle.metadata() == before
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)


@pytest.mark.parametrize("step", [86_400.0 * 365, -86_400.0 * 365])
async def test_a_wall_clock_that_jumps_neither_storms_nor_sleeps(idle, step: float) -> None:
    idle.provider.has_feed = False
    await idle.start()
    await idle.external(refreshInterval="1m")
    idle.clock.step_wall(step)
    reads = idle.provider.reads
    await idle.clock.advance(300)
    assert 4 <= idle.provider.reads - reads <= 7
    await idle.start()
    reads = idle.provider.reads
    await idle.clock.advance(300)
    assert 4 <= idle.provider.reads - reads <= 7


async def test_a_store_that_disappears_takes_nothing_with_it(bench) -> None:
    await bench.external(dataFrom=FROM, refreshInterval="1m", target={"deletionPolicy": "Delete"})
    await bench.api.delete(SECRET_STORES, "s", "n")
    await bench.clock.advance(600)
    assert await bench.secret() == BOTH
    said = await bench.condition()
    assert (said["status"], "[no-store]" in said["message"]) == ("False", True)


class Locked(FakeProvider):
    """Lets in by a token in the Secret `cred`, read as every provider reads its credentials."""

    def __init__(self, api: FakeKubeApi, clock: SimulatedClock) -> None:
        super().__init__()
        store = {"metadata": {"name": "s", "namespace": "n"}}
        selector = Fields({"name": "cred", "key": "token"}, "spec.provider.fake.token")
        references = References(Surroundings(api, clock), store, "n")

        async def login() -> tuple[Secret, float]:
            return await references.secret(selector), 60

        self.session = Session(login, clock)

    async def validate(self) -> None:
        await self.session.enter()

    async def fetch(self, ref: RemoteRef) -> Fetched:
        await self.session.enter()
        return await super().fetch(ref)


async def test_an_auth_secret_that_disappears_takes_nothing_with_it(idle) -> None:
    """A login that finds nothing must not look like a secret that is not there."""
    credential = {"metadata": {"name": "cred", "namespace": "n"}, "data": {"token": "dA=="}}
    await idle.api.create(SECRETS, dict(credential))
    idle.provider = Locked(idle.api, idle.clock)
    idle.provider.put("prod/db", **BOTH)
    await idle.start()
    await idle.external(dataFrom=FROM, refreshInterval="1m", target={"deletionPolicy": "Delete"})
    await idle.api.delete(SECRETS, "cred", "n")
    await idle.clock.advance(600)
    assert await idle.secret() == BOTH
    said = await idle.condition()
    assert (said["status"], "[credential-missing]" in said["message"]) == ("False", True)
    # Let in again, the store is believed.
    await idle.api.create(SECRETS, dict(credential))
    idle.provider.secrets.clear()
    await idle.clock.advance(600)
    assert not await idle.has_secret()


async def test_a_store_is_not_away_for_an_api_server_that_is(idle) -> None:
    """What a store is asked with is read there; then nothing is known to be wrong with the store."""
    credential = {"metadata": {"name": "cred", "namespace": "n"}, "data": {"token": "dA=="}}
    await idle.api.create(SECRETS, dict(credential))
    credentials = Unruly(idle.api)
    idle.provider = Locked(credentials, idle.clock)
    idle.provider.put("prod/db", **BOTH)
    operator = await idle.start()
    await idle.external(dataFrom=FROM, refreshInterval="1m")
    before = (await idle.item())["status"]
    credentials.failures = {"get": [Unavailable("unreachable", "no answer")] * 1000}
    await passing(idle, operator, 300)
    # That it rests is no reason to ask the API server ever more often.
    assert 1000 - len(credentials.failures["get"]) < 40
    assert (await idle.item())["status"] == before
    credentials.failures = {}
    idle.provider.put("prod/db", **BOTH | {"password": "two"})
    await passing(idle, operator, 31)
    assert await idle.secret() == BOTH | {"password": "two"}


async def test_drift_is_undone_while_a_store_rests_for_an_api_server_that_was_away(idle) -> None:
    """Whoever is asked for a credential is left alone for a while, and the Secret waits for none."""
    credential = {"metadata": {"name": "cred", "namespace": "n"}, "data": {"token": "dA=="}}
    await idle.api.create(SECRETS, dict(credential))
    credentials = Unruly(idle.api)
    idle.provider = Locked(credentials, idle.clock)
    idle.provider.put("prod/db", **BOTH)
    operator = await idle.start()
    await idle.external(dataFrom=FROM, refreshInterval="1m")
    credentials.failures = {"get": [Unavailable("unreachable", "no answer")] * 1000}
    await passing(idle, operator, 300)
    await idle.api.delete(SECRETS, "db", "n")
    await passing(idle, operator, 2)
    assert await idle.secret() == BOTH
    assert not await idle.condition("Stale")


async def test_a_provider_with_a_bug_is_no_crash(bench) -> None:
    await bench.external(refreshInterval="1m")

    async def broken(ref):
        raise KeyError("marked-value")

    works, bench.provider.fetch = bench.provider.fetch, broken
    await bench.clock.advance(100)
    assert await bench.secret() == {"password": "one"}
    bench.provider.fetch = works
    await bench.external("other")
    assert await bench.secret("other") == {"password": "one"}
    assert "marked-value" not in str(await bench.notes())


async def test_a_broken_object_is_not_asked_for_more_often_than_a_good_one(bench) -> None:
    row = {"secretKey": "a", "remoteRef": {"key": "missing"}}
    await bench.external(data=[row], refreshInterval="10m")
    await bench.clock.advance(3600)
    reads = bench.provider.reads
    await bench.clock.advance(6 * 3600)
    assert bench.provider.reads - reads <= 6 * 6 + 1


async def test_an_unknown_provider_is_told_at_the_store_and_at_the_object(bench) -> None:
    store = {"metadata": {"name": "odd", "namespace": "n"}, "spec": {"provider": {"odd": {}}}}
    await bench.api.create(SECRET_STORES, store)
    await bench.external(secretStoreRef={"name": "odd"})
    said = (await bench.api.get(SECRET_STORES, "odd", "n"))["status"]["conditions"][0]
    assert said["reason"] == "InvalidProviderConfig"
    assert "unsupported-provider" in (await bench.condition())["message"]


async def test_a_status_that_cannot_be_written_fails_nothing(idle, unruly) -> None:
    bench = idle
    unruly.failures = {"merge_patch": [Conflict("kube-conflict", "modified")]}
    await bench.external()
    assert await bench.secret() == {"password": "one"}


async def test_what_was_read_and_not_written_before_the_lead_was_lost_is_asked_for_again(
    idle,
) -> None:
    """The API server is away for so long that the lead is lost with a change in hand."""
    unruly = Unruly(idle.api)
    operator = await idle.start(unruly)
    await idle.external()
    unruly.failures = {"get": [Unavailable("unreachable", "no answer")] * 2}
    idle.provider.put("prod/db", password="two")
    await idle.clock.advance(0.5)
    assert await idle.secret() == {"password": "one"}
    idle.running.cancel()
    await asyncio.gather(idle.running, return_exceptions=True)
    unruly.failures = {}
    idle.running = asyncio.create_task(operator.run())
    await idle.clock.advance(1)
    assert await idle.secret() == {"password": "two"}


async def test_what_changed_while_nobody_led_is_asked_for_when_the_lead_is_taken_again(
    bench,
) -> None:
    await bench.external()
    bench.running.cancel()
    await asyncio.gather(bench.running, return_exceptions=True)
    bench.provider.put("prod/db", password="two")
    bench.running = asyncio.create_task(bench.operator.run())
    await bench.clock.advance(1)
    assert await bench.secret() == {"password": "two"}


@pytest.mark.parametrize(
    "failure",
    [
        # An API server that has just started says this until it has read its own rules.
        Denied("kube-forbidden", "not yet ready to handle request"),
        Unavailable("unreachable", "no answer"),
    ],
    ids=["forbidden", "unreachable"],
)
async def test_a_change_that_cannot_be_written_at_first_is_written(
    idle, unruly, failure: Refusal
) -> None:
    await idle.external()
    unruly.failures = {"get": [failure]}
    idle.provider.put("prod/db", password="two")
    await idle.clock.advance(5)
    assert unruly.failures == {"get": []}
    assert await idle.secret() == {"password": "two"}


async def test_what_a_server_that_starts_forbids_is_not_told(idle, unruly) -> None:
    """Until it has read its roles it forbids everything: neither a status nor an Event says so."""
    await idle.external()
    before = (await idle.item())["status"]
    unruly.failures = {"get": [Denied("kube-forbidden", "cannot get secrets")] * 5}
    idle.provider.put("prod/db", password="two")
    await idle.clock.advance(7)
    assert (await idle.item())["status"] == before
    assert not [each for each in await idle.notes() if "forbidden" in each]
    await idle.clock.advance(8)
    assert await idle.secret() == {"password": "two"}
    unruly.failures = {"get": [Denied("kube-forbidden", "cannot get secrets")] * 1000}
    idle.provider.put("prod/db", password="three")
    await idle.clock.advance(20)
    assert (await idle.condition())["status"] == "True"
    await idle.clock.advance(20)
    assert (await idle.condition())["status"] == "False"


async def test_what_the_cluster_has_refused_for_hours_is_written_soon_after_it_may(
    idle, unruly
) -> None:
    """As with a right that was taken away, or a quota; the store is not asked for each try."""
    await idle.external(refreshInterval="24h")
    refused = [Denied("kube-forbidden", "exceeded quota")] * 1000
    unruly.only, unruly.failures = SECRETS, {"merge_patch": refused}
    idle.provider.put("prod/db", password="two")
    reads = idle.provider.reads
    await idle.clock.advance(6 * 3600)
    assert idle.provider.reads - reads == 1
    assert (await idle.condition())["status"] == "False"
    unruly.failures = {}
    await idle.clock.advance(301)
    assert await idle.secret() == {"password": "two"}
    assert (await idle.condition())["status"] == "True"


async def test_what_was_refused_for_what_it_says_is_read_anew(idle, unruly) -> None:
    """It may be mended at a store that tells nobody, such as the key that a TLS Secret lacks."""
    await idle.external(refreshInterval="24h")
    refused = [Invalid("kube-invalid", "data[tls.key]: Required value")] * 1000
    unruly.only, unruly.failures = SECRETS, {"merge_patch": refused}
    idle.provider.put("prod/db", password="wrong")
    await idle.clock.advance(60)
    idle.provider.secrets["prod/db"].append({"password": "right"})
    unruly.failures = {}
    await idle.clock.advance(120)
    assert await idle.secret() == {"password": "right"}


@pytest.mark.parametrize("refusal", [Denied("kube-forbidden", "no"), Unavailable("kube-x", "no")])
@pytest.mark.parametrize("policy", [{"refreshInterval": "0"}, {"refreshPolicy": "CreatedOnce"}])
async def test_what_is_read_once_is_not_as_old_as_the_refusal_was_long(
    idle, unruly, policy: dict[str, str], refusal: Refusal
) -> None:
    """Nothing would ever bring the newer value: what was read days ago is not written now."""
    unruly.only, unruly.failures = SECRETS, {"create": [refusal] * 100_000}
    await idle.external(**policy)
    await idle.clock.advance(2400)
    idle.provider.secrets["prod/db"].append({"password": "two"})
    await idle.clock.advance(600)
    unruly.failures = {}
    await idle.clock.advance(301)
    assert await idle.secret() == {"password": "two"}


async def test_for_what_is_refused_a_generator_is_not_asked_every_five_minutes(
    idle, unruly
) -> None:
    """Each try makes a credential, which ends again, as nobody can know when it will be taken."""
    unruly.only, unruly.failures = SECRETS, {"create": [Denied("kube-forbidden", "no")] * 1000}
    source = [{"sourceRef": {"generatorRef": {"kind": "Password", "name": "p"}}}]
    await idle.external(dataFrom=source, refreshInterval="12h")
    await idle.clock.advance(12 * 3600)
    assert idle.generators.made < 20
