"""What a store needs of the cluster and is missing: never taken for a secret that is not there."""

import pytest

from strongroom.kube.resource import CONFIG_MAPS, SECRETS
from strongroom.model.errors import Denied, Invalid, NotFound, Throttled, Unavailable
from strongroom.sync.providers.contract import Find, PushTarget
from strongroom.sync.providers.kinds import Providers
from strongroom.sync.providers.references import Surroundings
from strongroom.sync.providers.session import Session
from strongroom.sync.spec import RemoteRef

GONE = {"name": "gone", "key": "k"}
ACCOUNT = {"name": "gone"}
KEYS = {"accessKeyIDSecretRef": GONE, "secretAccessKeySecretRef": GONE}
VAULT = {"server": "http://127.0.0.1:9", "path": "secret"}
TOKEN = {"tokenSecretRef": GONE}
AWS = {"service": "SecretsManager", "region": "eu-west-1"}
FEDERATED = {
    "awsSecurityCredentials": {"region": "r", "awsCredentialsSecretRef": {"name": "gone"}},
    "audience": "a",
}
AZURE = {"vaultUrl": "http://127.0.0.1:9", "tenantId": "t"}
CA = {"type": "ConfigMap", "name": "gone", "key": "ca.crt"}
PAIR = {"clientCert": GONE, "clientKey": GONE}

STORES = [
    {"vault": {**VAULT, "auth": TOKEN}},
    {"vault": {**VAULT, "auth": {"kubernetes": {"role": "r", "serviceAccountRef": ACCOUNT}}}},
    {"vault": {**VAULT, "auth": {"appRole": {"roleId": "r", "secretRef": GONE}}}},
    {"vault": {**VAULT, "auth": TOKEN, "caProvider": CA}},
    {"vault": {**VAULT, "auth": {"cert": {"clientCert": GONE, "secretRef": GONE}}}},
    {"aws": {**AWS, "auth": {"secretRef": KEYS}}},
    {"aws": {**AWS, "auth": {"jwt": {"serviceAccountRef": ACCOUNT}}}},
    {"aws": {**AWS, "service": "ParameterStore", "auth": {"secretRef": KEYS}}},
    {"gcpsm": {"projectID": "p", "auth": {"secretRef": {"secretAccessKeySecretRef": GONE}}}},
    {"gcpsm": {"projectID": "p", "auth": {"workloadIdentityFederation": FEDERATED}}},
    {"azurekv": {**AZURE, "authSecretRef": {"clientId": GONE, "clientSecret": GONE}}},
    {
        "azurekv": {
            "vaultUrl": "http://127.0.0.1:9", "authType": "WorkloadIdentity",
            "serviceAccountRef": ACCOUNT,
        }
    },
    {"kubernetes": {"auth": {"token": {"bearerToken": GONE}}}},
    {"kubernetes": {"auth": {"serviceAccount": ACCOUNT}}},
    {"kubernetes": {"auth": {"cert": PAIR}}},
    {"kubernetes": {"authRef": GONE}},
    {"webhook": {"url": "http://127.0.0.1:9", "secrets": [{"name": "a", "secretRef": GONE}]}},
]  # fmt: skip


def named(provider: dict) -> str:
    (kind,) = provider
    return kind


async def said_by(api, clock, provider: dict, call) -> None:
    store = {"metadata": {"name": "s", "namespace": "n"}, "spec": {"provider": provider}}
    made = None
    try:
        made = await Providers(Surroundings(api, clock))(store, "n")
        await call(made)
    finally:
        if made is not None:
            await made.close()


CALLS = {
    "validate": lambda made: made.validate(),
    "fetch": lambda made: made.fetch(RemoteRef("db")),
    "exists": lambda made: made.exists(PushTarget("db")),
    "delete": lambda made: made.delete(PushTarget("db")),
}


@pytest.mark.parametrize("provider", STORES, ids=named)
@pytest.mark.parametrize("call", CALLS)
async def test_a_missing_credential_is_the_stores_fault(api, clock, provider, call: str) -> None:
    with pytest.raises(Invalid, match="gone") as caught:
        await said_by(api, clock, provider, CALLS[call])
    assert caught.value.code == "credential-missing"
    assert f"spec.provider.{named(provider)}" in caught.value.message


async def test_find_says_so_as_well(api, clock) -> None:
    with pytest.raises(Invalid, match="points to nothing"):
        await said_by(api, clock, STORES[0], lambda made: made.find(Find()))


@pytest.mark.parametrize(("resource", "kind"), [(SECRETS, "Secret"), (CONFIG_MAPS, "ConfigMap")])
async def test_a_missing_key_is_named(api, clock, resource, kind: str) -> None:
    await api.create(resource, {"metadata": {"name": "gone", "namespace": "n"}, "data": {}})
    authority = {"type": kind, "name": "gone", "key": "ca"}
    provider = {"vault": {**VAULT, "auth": TOKEN, "caProvider": authority}}
    with pytest.raises(Invalid, match=f"the {kind} gone has no key ca"):
        await said_by(api, clock, provider, CALLS["fetch"])


async def test_a_login_that_finds_nothing_is_no_answer(clock) -> None:
    async def login():
        raise NotFound("store-not-found", "auth/nowhere/login: nothing there")

    with pytest.raises(Unavailable, match="auth/nowhere") as caught:
        await Session(login, clock).enter()
    assert caught.value.code == "no-login"


async def test_a_login_serves_until_its_end_while_no_other_can_be_had(clock) -> None:
    answers: list[str | Unavailable] = ["one", *[Unavailable("unreachable", "no answer")] * 2]

    async def login() -> tuple[str, float]:
        answer = answers.pop(0)
        if isinstance(answer, Unavailable):
            raise answer
        return answer, 100.0

    session = Session(login, clock)
    assert await session.enter() == "one"
    await clock.advance(70)
    assert await session.enter() == await session.enter() == "one"
    assert len(answers) == 1
    await clock.advance(30)
    with pytest.raises(Unavailable):
        await session.enter()
    answers.append("two")
    assert await session.enter() == "two"


async def test_who_gives_a_login_and_asks_to_be_left_alone_is(clock) -> None:
    asked = 0

    async def login() -> tuple[str, float]:
        nonlocal asked
        asked += 1
        if asked > 1:
            raise Throttled("store-throttled", "slow down", retry_after=25.0)
        return "one", 100.0

    session = Session(login, clock)
    await session.enter()
    for _ in range(30):
        await clock.advance(3)
        assert await session.enter() == "one"
    assert asked == 2


@pytest.mark.parametrize("bad", [1, 100])
async def test_what_is_refused_for_good_costs_all_others_one_login_a_minute(clock, bad) -> None:
    logins, revoked = 0, set()

    async def login() -> tuple[int, float]:
        nonlocal logins
        logins += 1
        return logins, 3600.0

    async def good(token: int) -> int:
        if token in revoked:
            raise Denied("store-denied", "permission denied")
        return token

    async def refused(token: int) -> None:
        raise Denied("store-denied", "permission denied")

    session = Session(login, clock)

    async def a_minute() -> int:
        before = logins
        for _ in range(6):
            for number in range(bad):
                with pytest.raises(Denied):
                    await session.use(refused, number)
            assert await session.use(good, "good") == logins
            await clock.advance(10)
        return logins - before

    for _ in range(20):
        await a_minute()
    assert [await a_minute() for _ in range(3)] == [1, 1, 1]
    # A login that serves nobody is another thing, and so is what was let in again.
    await clock.advance(15)
    revoked.add(logins)
    assert await session.use(good, "good") == logins
    assert await session.use(good, 0) == logins
    await clock.advance(15)
    revoked.add(logins)
    assert await session.use(good, 0) == logins
