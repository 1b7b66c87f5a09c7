"""Each generator by itself: what it makes, and what it says to a spec that cannot be used."""

import asyncio
import base64
import json
import random
import uuid
from urllib.parse import parse_qsl

import pytest
from cryptography.hazmat.primitives.serialization import (
    load_ssh_private_key,
    load_ssh_public_key,
)
from hypothesis import given
from hypothesis import strategies as st

from strongroom.kube.resource import SECRETS
from strongroom.model.errors import Denied, Invalid, Unavailable
from strongroom.model.secret import Secret
from strongroom.sync.generators.azure import Exchange, login_fields
from strongroom.sync.generators.contract import Made, Sources
from strongroom.sync.generators.kinds import KINDS, ServedKinds, resource_of, spec_of
from strongroom.sync.providers.fields import Fields
from strongroom.sync.providers.references import Surroundings
from strongroom.sync.providers.vault_fake import VaultFake
from strongroom.sync.spec import GeneratorRef
from strongroom.wire.client import HttpClient
from strongroom.wire.http import Response

SYMBOLS = set('~!@#$%^&*()_+`-={}|[]\\:"<>?,./')


def generator(kind: str, spec: dict, namespace: str = "n") -> dict:
    where = {"namespace": namespace} if namespace else {}
    return {"kind": kind, "metadata": {"name": "g", **where}, "spec": spec}


async def made_by(kind: str, spec: dict, around: Surroundings | None = None, seed: int = 1) -> Made:
    sources = Sources(around or Surroundings(None, None), random.Random(seed))  # type: ignore[arg-type]
    return await ServedKinds(sources).make(generator(kind, spec), "n")


# those that need nobody


@pytest.mark.parametrize("spec", [{}, {"symbolCharacters": ""}])
async def test_a_password_is_by_default_a_quarter_digits_and_a_quarter_symbols(spec) -> None:
    word = (await made_by("Password", spec)).values["password"].decode()
    assert len(word) == len(set(word)) == 24
    assert sum(each.isdigit() for each in word) == 6
    assert len(SYMBOLS & set(word)) == 6
    assert word != (await made_by("Password", {}, seed=2)).values["password"].decode()


@given(
    st.integers(1, 64), st.integers(0, 12), st.integers(0, 12), st.booleans(), st.booleans(),
    st.integers(),
)  # fmt: skip
async def test_a_password_has_what_was_asked_for_or_is_refused(
    length, digits, symbols, no_upper, repeat, seed
) -> None:
    spec = {
        "length": length, "digits": digits, "symbols": symbols, "noUpper": no_upper,
        "allowRepeat": repeat, "symbolCharacters": "-_.",
    }  # fmt: skip
    letters = length - digits - symbols
    fits = letters >= 0 and (
        repeat or (digits <= 10 and symbols <= 3 and letters <= (26 if no_upper else 52))
    )
    try:
        word = (await made_by("Password", spec, seed=seed)).values["password"].decode()
    except Invalid:
        assert not fits
        return
    assert fits
    assert len(word) == length
    assert sum(each.isdigit() for each in word) == digits
    assert sum(each in "-_." for each in word) == symbols
    assert not (no_upper and any(each.isupper() for each in word))
    assert repeat or len(set(word)) == length


@pytest.mark.parametrize(
    ("encoding", "decode"),
    [
        ("raw", bytes),
        ("base64", base64.b64decode),
        ("base64url", base64.urlsafe_b64decode),
        ("base32", base64.b32decode),
        ("hex", lambda value: bytes.fromhex(value.decode())),
    ],
)
async def test_a_password_is_encoded_under_each_of_its_keys(encoding, decode) -> None:
    made = await made_by("Password", {"encoding": encoding, "secretKeys": ["a", "b"]})
    plain = {key: decode(value) for key, value in made.values.items()}
    assert set(plain) == {"a", "b"}
    assert {len(each) for each in plain.values()} == {24}
    assert plain["a"] != plain["b"]


async def test_a_uuid_is_one() -> None:
    made = uuid.UUID((await made_by("UUID", {})).values["uuid"].decode())
    assert (made.version, made.variant) == (4, uuid.RFC_4122)


async def test_nobody_waits_for_the_making_of_a_large_key() -> None:
    """An operator that stands still for as long loses the lead."""
    making = asyncio.create_task(made_by("SSHKey", {"keyType": "rsa", "keySize": 4096}))
    turns = 0
    while not making.done():
        await asyncio.sleep(0)
        turns += 1
    assert (await making).values
    assert turns > 10


@pytest.mark.parametrize(
    ("spec", "bits"),
    [
        ({}, 2048),
        ({"keyType": "rsa", "keySize": 3072}, 3072),
        ({"keyType": "ecdsa", "keySize": 384}, 384),
        ({"keyType": "ed25519", "comment": "me@here"}, None),
    ],
)
async def test_an_ssh_key_is_a_pair_that_fits(spec, bits) -> None:
    values = (await made_by("SSHKey", spec)).values
    private = load_ssh_private_key(values["privateKey"], None)
    public = load_ssh_public_key(values["publicKey"])
    assert private.public_key() == public
    assert getattr(public, "key_size", None) == bits
    assert values["publicKey"].endswith(f"{spec.get('comment', '')}\n".encode())


async def test_a_fake_makes_what_it_says() -> None:
    assert (await made_by("Fake", {"data": {"a": "1"}})).values == {"a": b"1"}


@pytest.mark.parametrize(
    ("kind", "spec", "field"),
    [
        ("Password", {"length": 100_000}, "spec.length"),
        ("Password", {"digits": 20, "symbols": 20}, "spec.length"),
        ("Password", {"symbols": 5, "symbolCharacters": "--"}, "spec.symbols"),
        ("Password", {"encoding": "rot13"}, "spec.encoding"),
        ("SSHKey", {"keySize": 1024}, "spec.keySize"),
        ("SSHKey", {"keyType": "dsa"}, "spec.keyType"),
        ("SSHKey", {"comment": "a\nb"}, "spec.keySize"),
        ("Fake", {"data": {"a": 1}}, "spec.data"),
        ("VaultDynamicSecret", {"path": "x"}, "spec.provider"),
        ("ECRAuthorizationToken", {}, "spec.region"),
        ("GCRAccessToken", {}, "spec.projectID"),
        ("ACRAccessToken", {"registry": "r"}, "spec.auth"),
        ("ClusterGenerator", {"kind": "Password", "generator": {}}, "passwordSpec"),
        ("ClusterGenerator", {"kind": "Grafana", "generator": {}}, "Grafana"),
    ],
)
async def test_a_spec_that_cannot_be_used_is_named(kind, spec, field, api, clock) -> None:
    with pytest.raises(Invalid, match=field):
        await made_by(kind, spec, Surroundings(api, clock))


def test_kinds_and_versions_that_are_not_served_are_refused() -> None:
    for ref in (GeneratorRef("Grafana", "g"), GeneratorRef("Password", "p", "example.com/v1")):
        with pytest.raises(Invalid, match="is not served") as caught:
            resource_of(ref)
        assert caught.value.code == "unsupported-generator"
    assert {resource_of(GeneratorRef(kind, "g")).kind for kind in KINDS} == set(KINDS)


def test_a_cluster_generator_holds_the_spec_of_its_kind() -> None:
    whole = {"passwordSpec": {"length": 9}, "uuidSpec": {}}
    kind, spec = spec_of(generator("ClusterGenerator", {"kind": "Password", "generator": whole}))
    assert (kind, spec.number("length", 0)) == ("Password", 9)


# those that ask somebody


class Answers:
    """Keeps requests, and answers by path."""

    def __init__(self, **answers: object) -> None:
        self.answers = answers
        self.requests: list = []

    def __call__(self, request, exchange) -> None:
        self.requests.append(request)
        name = request.target.rpartition("/")[2].partition("?")[0]
        said = self.answers.get(name, Response(404))
        if not isinstance(said, Response):
            said = Response(200, json.dumps(said).encode())
        exchange.reply(said)


async def labelled_secret(api, value: str) -> None:
    data = {"token": base64.b64encode(b"marked-token").decode()}
    labels = {"generators.external-secrets.io/type": value}
    metadata = {"name": "cred", "namespace": "n", "labels": labels}
    await api.create(SECRETS, {"metadata": metadata, "data": data})


def webhook(address: str, **more: object) -> dict:
    return {
        "url": f"{address}/new", "method": "POST", "body": "{}",
        "headers": {"Authorization": "Bearer {{ .auth.token }}"},
        "secrets": [{"name": "auth", "secretRef": {"name": "cred"}}], **more,
    }  # fmt: skip


async def test_a_webhooks_answer_is_taken_apart(api, clock, plain) -> None:
    await labelled_secret(api, "webhook")
    answers = Answers(new={"data": {"user": "u", "port": 5432}})
    async with plain(answers) as address:
        spec = webhook(address, result={"jsonPath": "$.data"})
        made = await made_by("Webhook", spec, Surroundings(api, clock))
    assert made.values == {"user": b"u", "port": b"5432"}
    assert answers.requests[0].headers["authorization"] == "Bearer marked-token"


async def test_a_webhook_is_sent_no_secret_without_the_generators_label(api, clock, plain) -> None:
    await labelled_secret(api, "other")
    answers = Answers(new={})
    async with plain(answers) as address:
        with pytest.raises(Denied, match=r"generators\.external-secrets\.io/type=webhook"):
            await made_by("Webhook", webhook(address), Surroundings(api, clock))
    assert answers.requests == []


async def test_a_webhook_that_answers_with_no_object_is_refused(api, clock, plain) -> None:
    await labelled_secret(api, "webhook")
    async with plain(Answers(new=Response(200, b'"marked-value"'))) as address:
        with pytest.raises(Invalid) as caught:
            await made_by("Webhook", webhook(address), Surroundings(api, clock))
    assert caught.value.code == "not-an-object"
    assert "marked-value" not in str(caught.value)


class Dynamic(VaultFake):
    """A Vault with a secrets engine that makes credentials under a lease."""

    def __init__(self) -> None:
        super().__init__()
        self.leases: list[str] = []
        self.asked: list[tuple[str, str, bytes]] = []

    def _answer(self, request) -> Response:
        path, _, query = request.target.removeprefix("/v1/").partition("?")
        known = request.headers.get("x-vault-token") in self.tokens
        if known and path.startswith("database/"):
            self.asked.append((request.method, query, request.body))
            if path == "database/none":
                return Response(204)
            self.leases.append(lease := f"{path}/{len(self.asked)}")
            data = {"username": "v-app", "password": "marked-word", "roles": ["a"]}
            said = {"lease_id": lease, "lease_duration": 60, "data": data, "auth": {"n": 1}}
            return Response(200, json.dumps(said).encode())
        if known and path == "sys/leases/revoke":
            self.leases.remove(json.loads(request.body)["lease_id"])
            return Response(204)
        return super()._answer(request)


def vault_spec(address: str, **more: object) -> dict:
    auth = {"tokenSecretRef": {"name": "vault", "key": "token"}}
    return {
        "path": "database/creds/app",
        "provider": {"server": address, "path": "secret", "auth": auth},
        **more,
    }


@pytest.fixture
async def dynamic(api, plain):
    data = {"token": base64.b64encode(b"fake-root").decode()}
    await api.create(SECRETS, {"metadata": {"name": "vault", "namespace": "n"}, "data": data})
    fake = Dynamic()
    async with plain(fake) as address:
        yield fake, address


async def test_vaults_credentials_come_with_a_lease_that_can_be_ended(dynamic, api, clock) -> None:
    fake, address = dynamic
    around = Surroundings(api, clock)
    made = await made_by("VaultDynamicSecret", vault_spec(address), around)
    assert made.values == {"username": b"v-app", "password": b"marked-word", "roles": b'["a"]'}
    assert made.state == {
        "leaseID": fake.leases[0], "leaseDuration": 60, "leaseRenewable": False,
    }  # fmt: skip
    assert "marked-word" not in f"{made}"
    item = generator("VaultDynamicSecret", vault_spec(address))
    await ServedKinds(Sources(around, random.Random())).release(item, "n", made.state)
    assert fake.leases == []


@pytest.mark.parametrize(
    ("spec", "method", "query", "body"),
    [
        ({}, "GET", "", b""),
        ({"getParameters": {"a": ["1", "2"]}}, "GET", "a=1&a=2", b""),
        ({"method": "POST", "parameters": {"ttl": "1h"}}, "POST", "", b'{"ttl":"1h"}'),
        ({"method": "LIST"}, "LIST", "", b""),
    ],
)
async def test_vault_is_asked_as_the_manifest_says(dynamic, api, clock, spec, method, query, body):
    fake, address = dynamic
    await made_by("VaultDynamicSecret", vault_spec(address, **spec), Surroundings(api, clock))
    assert fake.asked == [(method, query, body)]


@pytest.mark.parametrize(
    ("kind", "keys"),
    [("Auth", {"n"}), ("Raw", {"lease_id", "lease_duration", "data", "auth"})],
)
async def test_parts_of_vaults_answer(dynamic, api, clock, kind, keys) -> None:
    spec = vault_spec(dynamic[1], resultType=kind)
    assert set((await made_by("VaultDynamicSecret", spec, Surroundings(api, clock))).values) == keys


async def test_an_empty_answer_of_vault_has_to_be_allowed(dynamic, api, clock) -> None:
    spec, around = vault_spec(dynamic[1], path="database/none"), Surroundings(api, clock)
    with pytest.raises(Invalid, match="answers without data"):
        await made_by("VaultDynamicSecret", spec, around)
    spec["allowEmptyResponse"] = True
    assert (await made_by("VaultDynamicSecret", spec, around)).values == {}


async def test_a_token_of_our_own_store_is_made_and_ended(store, api, clock) -> None:
    token = base64.b64encode(store.root.encode()).decode()
    metadata = {"name": "vault", "namespace": "n"}
    await api.create(SECRETS, {"metadata": metadata, "data": {"token": token}})
    spec = vault_spec(
        store.address, path="auth/token/create", method="POST", resultType="Auth",
        parameters={"ttl": "60s", "policies": ["default"]},
    )  # fmt: skip
    around = Surroundings(api, clock)
    made = await made_by("VaultDynamicSecret", spec, around)
    token = made.values["client_token"].decode()
    assert (await store.ask("GET", "auth/token/lookup-self", token=token))[0] == 200
    assert made.state == {"accessor": made.values["accessor"].decode()}
    item = generator("VaultDynamicSecret", spec)
    for _ in range(2):
        # The second time it has ended already, which is as good.
        await ServedKinds(Sources(around, random.Random())).release(item, "n", made.state)
        assert (await store.ask("GET", "auth/token/lookup-self", token=token))[0] == 403


async def test_a_token_of_google_is_the_password_of_its_registries(gcp) -> None:
    auth = {"secretRef": {"secretAccessKeySecretRef": {"name": "gcp", "key": "key"}}}
    around = Surroundings(gcp.api, gcp.clock, gcp.environment)
    made = await made_by("GCRAccessToken", {"projectID": "p", "auth": auth}, around)
    assert made.values["username"] == b"oauth2accesstoken"
    assert gcp.fake.tokens[made.values["password"].decode()] == "reader@p"
    assert int(made.values["expiry"]) > gcp.clock.now()


async def test_a_registry_of_azure_exchanges_twice_for_a_scope(plain) -> None:
    answers = Answers(exchange={"refresh_token": "r"}, token={"access_token": "a"})
    async with plain(answers) as address, HttpClient() as http:
        exchange = Exchange(http, address, "r.azurecr.io")
        held = await exchange.refresh_token(Secret("entra"), "t")
        assert (held, await exchange.access_token(held, "repository:x:pull")) == (
            Secret("r"),
            Secret("a"),
        )
    first, second = (dict(parse_qsl(each.body.decode())) for each in answers.requests)
    assert first == {
        "service": "r.azurecr.io", "grant_type": "access_token", "access_token": "entra",
        "tenant": "t",
    }  # fmt: skip
    assert second == {
        "service": "r.azurecr.io", "grant_type": "refresh_token", "refresh_token": "r",
        "scope": "repository:x:pull",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("said", "kind"), [(Response(401), Denied), ({"no": "token"}, Unavailable)]
)
async def test_a_registry_that_gives_no_token_says_so(plain, said, kind) -> None:
    async with plain(Answers(exchange=said)) as address, HttpClient() as http:
        with pytest.raises(kind):
            await Exchange(http, address, "r").refresh_token(Secret("entra"), "t")


@pytest.mark.parametrize(
    ("auth", "wanted"),
    [
        (
            {"servicePrincipal": {"secretRef": {"clientId": {"name": "a"}}}},
            {"authType": "ServicePrincipal", "authSecretRef": {"clientId": {"name": "a"}}},
        ),
        (
            {"managedIdentity": {"identityId": "i"}},
            {"authType": "ManagedIdentity", "identityId": "i"},
        ),
        (
            {"workloadIdentity": {"serviceAccountRef": {"name": "s"}}},
            {"authType": "WorkloadIdentity", "serviceAccountRef": {"name": "s"}},
        ),
    ],
)
def test_azures_identities_are_those_of_a_key_vault_store(auth, wanted) -> None:
    shaped = login_fields(Fields({"tenantId": "t", "auth": auth}, "spec")).raw()
    assert {**wanted, "tenantId": "t"}.items() <= shaped.items()


# AWS, on moto


KEYS = {
    "secretRef": {
        "accessKeyIDSecretRef": {"name": "aws", "key": "id"},
        "secretAccessKeySecretRef": {"name": "aws", "key": "secret"},
    }
}


async def aws_made(aws, kind: str, **spec: object) -> dict[str, bytes]:
    data = {"id": base64.b64encode(b"AKIA").decode(), "secret": base64.b64encode(b"s").decode()}
    await aws.api.create(SECRETS, {"metadata": {"name": "aws", "namespace": "n"}, "data": data})
    environment = aws.environment | {"AWS_ECR_ENDPOINT": aws.address}
    around = Surroundings(aws.api, aws.clock, environment)
    spec = {"region": "eu-west-1", "auth": KEYS, **spec}
    return dict((await made_by(kind, spec, around)).values)


@pytest.mark.component
async def test_a_login_of_amazons_registry(aws) -> None:
    made = await aws_made(aws, "ECRAuthorizationToken")
    assert made["username"] == b"AWS"
    assert made["proxy_endpoint"].startswith(b"https://")
    assert made["password"]
    assert int(made["expires_at"]) > 0


@pytest.mark.component
async def test_a_session_token_of_aws(aws) -> None:
    made = await aws_made(
        aws, "STSSessionToken", requestParameters={"sessionDuration": 1800, "tokenCode": "123456"}
    )
    assert set(made) == {"access_key_id", "secret_access_key", "session_token", "expiration"}
    assert int(made["expiration"]) > aws.clock.now()
    form = aws.gate.forms[-1]
    assert (form["DurationSeconds"], form["TokenCode"]) == ("1800", "123456")
