"""`retrySettings`: how often a call is made again, of each provider, and when it is not."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from strongroom.kube.fake import FakeKubeApi
from strongroom.kube.resource import SECRETS
from strongroom.model.clock import SimulatedClock
from strongroom.model.errors import Denied, Invalid, NotFound, Refusal, Throttled, Unavailable
from strongroom.sync.providers.contract import Fetched, Find, PushTarget, Traits
from strongroom.sync.providers.fake import FakeProvider
from strongroom.sync.providers.fields import Fields
from strongroom.sync.providers.kinds import KINDS, Providers
from strongroom.sync.providers.references import Surroundings
from strongroom.sync.providers.retries import LONGEST_SECONDS, Ends, Persistent, Retries
from strongroom.sync.spec import RemoteRef
from strongroom.wire.http import Request, Response
from strongroom.wire.listener import Exchange


class Pauses(SimulatedClock):
    """A clock that notes how long it is asked to sleep, and wakes at once."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.fixture
def clock() -> Pauses:
    return Pauses()


AWAY = Unavailable("store-unavailable", "no answer")


class Failing:
    """A call that is refused a number of times, and then answered."""

    def __init__(self, *refusals: Refusal) -> None:
        self.refusals = list(refusals)
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        if self.refusals:
            raise self.refusals.pop(0)
        return "answer"


async def test_a_call_is_made_again_until_it_is_answered(clock: Pauses) -> None:
    call = Failing(AWAY, AWAY)
    assert await Retries(3, 2.0).run(clock, call) == "answer"
    assert (call.calls, clock.slept) == (3, [2.0, 2.0])


async def test_the_last_refusal_is_the_answer(clock: Pauses) -> None:
    call = Failing(*[AWAY] * 9)
    with pytest.raises(Unavailable):
        await Retries(3, 1.0).run(clock, call)
    assert call.calls == 4


@pytest.mark.parametrize(
    "refusal",
    [
        Denied("store-denied", "no"),
        NotFound("store-not-found", "no"),
        Invalid("bad-field", "no"),
        Throttled("store-busy", "later", retry_after=3.0),
    ],
)
async def test_what_another_call_cannot_mend_is_not_called_again(
    clock: Pauses, refusal: Refusal
) -> None:
    call = Failing(refusal)
    with pytest.raises(type(refusal)):
        await Retries(3, 1.0).run(clock, call)
    assert (call.calls, clock.slept) == (1, [])


async def test_a_server_that_is_busy_and_says_no_more_is_called_again(clock: Pauses) -> None:
    assert await Retries(1, 1.0).run(clock, Failing(Throttled("busy", "busy"))) == "answer"


async def test_nobody_waits_longer_than_a_minute(clock: Pauses) -> None:
    call = Failing(*[AWAY] * 99)
    with pytest.raises(Unavailable):
        await Retries(50, 25.0).run(clock, call)
    assert clock.slept == [25.0, 25.0]
    assert sum(clock.slept) <= LONGEST_SECONDS


async def test_what_the_calls_take_counts_as_well(clock: Pauses) -> None:
    """Each may wait for its time-out, and a worker of all waits with it."""

    class Hanging(Failing):
        async def __call__(self) -> str:
            await clock.advance(30)
            return await super().__call__()

    call = Hanging(*[AWAY] * 99)
    with pytest.raises(Unavailable):
        await Retries(50, 1.0).run(clock, call)
    assert call.calls == 2


async def test_a_batch_is_asked_again_for_no_longer_than_a_minute(clock: Pauses) -> None:
    class Away(FakeProvider):
        async def fetch_many(self, refs: Any) -> list[Fetched | Refusal]:
            return [AWAY for _ in refs]

    provider = Persistent(Away(Traits(batch=10)), Retries(1000, 25.0), clock)
    assert await provider.fetch_many([RemoteRef("a")]) == [AWAY]
    assert clock.slept == [25.0, 25.0]


async def test_every_call_comes_to_an_end(clock: Pauses) -> None:
    """A server may answer each request in time, and a list never end."""
    from strongroom.model.secret import Secret

    class Endless(FakeProvider):
        async def _endless(self, *_: Any) -> Any:
            while True:
                await asyncio.sleep(0)

        validate = fetch = fetch_many = find = push = delete = exists = _endless

    target = PushTarget("a")
    calls: list[Callable[[Persistent], Any]] = [
        lambda p: p.validate(),
        lambda p: p.fetch(RemoteRef("a")),
        lambda p: p.fetch_many([RemoteRef("a")]),
        lambda p: p.find(Find()),
        lambda p: p.push(target, Secret("x")),
        lambda p: p.delete(target),
        lambda p: p.exists(target),
    ]
    for call in calls:
        with pytest.raises(Unavailable, match="did not come to an end in 0 s"):
            await call(Persistent(Endless(), Retries(), clock, Ends(0, 0)))


async def test_a_store_without_retries_has_ends_too(api: FakeKubeApi, clock: Pauses) -> None:
    spec = {"provider": {"fake": {"data": []}}}
    store = {"metadata": {"name": "s", "namespace": "n"}, "spec": spec}
    assert isinstance(await Providers(Surroundings(api, clock))(store, "n"), Persistent)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (None, Retries()),
        ({}, Retries()),
        ({"maxRetries": 5, "retryInterval": "10s"}, Retries(5, 10.0)),
        ({"maxRetries": 5}, Retries(5, 1.0)),
        ({"retryInterval": "500ms"}, Retries(2, 0.5)),
        ({"maxRetries": 0, "retryInterval": "1s"}, Retries(0, 1.0)),
        # A store that is away is not asked without a break.
        ({"maxRetries": 5, "retryInterval": "0s"}, Retries(5, 0.1)),
    ],
)
def test_the_fields(given: Any, found: Retries) -> None:
    assert Retries.from_spec(Fields({"retrySettings": given}, "spec")) == found


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"maxRetries": -1}, "spec.retrySettings.maxRetries must not be negative"),
        ({"maxRetries": "x"}, "spec.retrySettings.maxRetries must be a whole number"),
        ({"retryInterval": "soon"}, "spec.retrySettings.retryInterval is no duration"),
    ],
)
def test_a_field_that_cannot_be_used_is_named(given: dict, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        Retries.from_spec(Fields({"retrySettings": given}, "spec"))


async def test_of_a_batch_only_what_got_no_answer_is_asked_for_again(clock: Pauses) -> None:
    class Batches(FakeProvider):
        def __init__(self) -> None:
            super().__init__(Traits(batch=10))
            self.asked: list[list[str]] = []

        async def fetch_many(self, refs: Any) -> list[Fetched | Refusal]:
            self.asked.append([each.key for each in refs])
            first = len(self.asked) == 1
            return [
                AWAY if first and each.key == "b" else Fetched(each.key, 1, {}) for each in refs
            ]

    batches = Batches()
    provider = Persistent(batches, Retries(2, 1.0), clock)
    found = await provider.fetch_many([RemoteRef("a"), RemoteRef("b")])
    assert [each.path for each in found if isinstance(each, Fetched)] == ["a", "b"]
    assert batches.asked == [["a", "b"], ["b"]]
    assert clock.slept == [1.0]


# each provider, by its own spec


def key(name: str) -> dict[str, str]:
    return {"name": "auth", "key": name}


SPECS: dict[str, Callable[[str], dict[str, Any]]] = {
    "vault": lambda at: {"server": at, "path": "secret", "auth": {"tokenSecretRef": key("a")}},
    "openBao": lambda at: {"server": at, "path": "secret", "auth": {"tokenSecretRef": key("a")}},
    "aws": lambda _: {
        "service": "SecretsManager", "region": "eu-west-1",
        "auth": {"secretRef": {"accessKeyIDSecretRef": key("a"), "secretAccessKeySecretRef": key("a")}},
    },
    "gcpsm": lambda _: {"projectID": "p"},
    "azurekv": lambda at: {"vaultUrl": at, "authType": "ManagedIdentity"},
    "kubernetes": lambda at: {
        "server": {"url": at}, "auth": {"token": {"bearerToken": key("a")}}
    },
    "webhook": lambda at: {"url": at + "/{{ .remoteRef.key }}"},
}  # fmt: skip


@pytest.mark.parametrize("kind", [each for each in KINDS if each != "fake"])
@pytest.mark.parametrize("times", [0, 2])
async def test_every_provider_takes_them(
    api: FakeKubeApi, clock: Pauses, plain: Any, kind: str, times: int
) -> None:
    seen: list[str] = []

    def broken(request: Request, exchange: Exchange) -> None:
        seen.append(request.target)
        exchange.reply(Response(500, b"{}"))

    await api.create(
        SECRETS, {"metadata": {"name": "auth", "namespace": "n"}, "data": {"a": "YQ=="}}
    )
    async with plain(broken) as address:
        around = {
            "AWS_SECRETSMANAGER_ENDPOINT": address,
            "GCE_METADATA_HOST": address.removeprefix("http://"),
            "AZURE_POD_IDENTITY_AUTHORITY_HOST": address,
        }
        spec: dict[str, Any] = {"provider": {kind: SPECS[kind](address)}}
        spec["retrySettings"] = {"maxRetries": times, "retryInterval": "3s"}
        store = {"metadata": {"name": "s", "namespace": "n"}, "spec": spec}
        provider = await Providers(Surroundings(api, clock, around, ("n",)))(store, "n")
        with pytest.raises(Unavailable):
            await provider.fetch(RemoteRef("db"))
        await provider.close()
    assert len(seen) == 1 + times
    assert clock.slept == [3.0] * times


async def test_every_call_of_a_provider_is_made_again(clock: Pauses) -> None:
    from strongroom.model.secret import Secret

    target = PushTarget("a")
    calls: list[Callable[[Persistent], Any]] = [
        lambda p: p.validate(),
        lambda p: p.fetch(RemoteRef("a")),
        lambda p: p.find(Find()),
        lambda p: p.push(target, Secret("x")),
        lambda p: p.delete(target),
        lambda p: p.exists(target),
    ]

    class Away(FakeProvider):
        calls = 0

        async def _away(self, *_: Any) -> Any:
            self.calls += 1
            raise AWAY

        validate = fetch = find = push = delete = exists = _away

    for call in calls:
        away = Away()
        with pytest.raises(Unavailable):
            await call(Persistent(away, Retries(2, 1.0), clock))
        assert away.calls == 3
