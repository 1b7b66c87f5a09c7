"""The manifests of docs/generators.md as they stand there: each makes what the page says."""

import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from strongroom.kube.fake import FakeKubeApi
from strongroom.kube.resource import SECRETS, SERVICE_ACCOUNTS
from strongroom.model.errors import Denied, Invalid, Refusal, Unavailable
from strongroom.sync.crds import EXTERNAL_SECRETS
from strongroom.sync.generators.contract import Made, Sources
from strongroom.sync.generators.kinds import ServedKinds, resource_of
from strongroom.sync.generators.states import ServedGenerators
from strongroom.sync.providers.azure_fake import AzureFake
from strongroom.sync.providers.references import Surroundings
from strongroom.sync.providers.vault_fake import VaultFake
from strongroom.sync.spec import parse_spec
from strongroom.wire.http import Response

PAGE = (Path(__file__).parents[2] / "docs" / "generators.md").read_text()
BLOCKS = [each.partition("```")[0] for each in PAGE.split("```yaml\n")[1:]]
MANIFESTS = [each for block in BLOCKS for each in yaml.safe_load_all(block)]
GENERATORS = {
    each["kind"]: each for each in MANIFESTS if each["apiVersion"].startswith("generators.")
}
KEYS = {
    "Password": {"password", "pepper"},
    "UUID": {"uuid"},
    "SSHKey": {"privateKey", "publicKey"},
    "Fake": {"user"},
    "Webhook": {"user", "word"},
    "VaultDynamicSecret": {"username", "password"},
    "ClusterGenerator": {"password"},
    "GCRAccessToken": {"username", "password", "expiry"},
    "ACRAccessToken": {"username", "password"},
    "ECRAuthorizationToken": {"username", "password", "proxy_endpoint", "expires_at"},
    "STSSessionToken": {"access_key_id", "secret_access_key", "session_token", "expiration"},
}
ASKING = "shop"
CLOUD = pytest.mark.component
CASES = [
    pytest.param(kind, marks=[CLOUD] if kind in ("ECRAuthorizationToken", "STSSessionToken") else [])
    for kind in KEYS
]  # fmt: skip


@dataclass
class World:
    """What stands behind the page's addresses; `shut` turns everybody out."""

    around: Surroundings
    moved: dict[str, str] = field(default_factory=dict)
    shut: Callable[[], None] = lambda: None

    def manifest(self, kind: str) -> dict[str, Any]:
        """The page's manifest, with addresses of this machine."""
        text = json.dumps(GENERATORS[kind])
        for address, there in self.moved.items():
            assert address in text
            text = text.replace(address, there)
        return json.loads(text)

    async def make(self, kind: str) -> Made:
        return await self.workshop.make(self.manifest(kind), ASKING)

    @property
    def workshop(self) -> ServedKinds:
        return ServedKinds(Sources(self.around, random.SystemRandom()))


class Issuer:
    """The webhook's other end."""

    answer = Response(200, b'{"data": {"user": "u", "word": "marked-word"}}')

    def __call__(self, request, exchange) -> None:
        known = request.headers.get("authorization") == "Bearer marked-token"
        exchange.reply(self.answer if known and request.method == "POST" else Response(403))


class Vault(VaultFake):
    """Credentials under a lease, for whoever has logged in."""

    def _answer(self, request) -> Response:
        path, _, query = request.target.removeprefix("/v1/").partition("?")
        if path != "database/creds/app" or query != "ttl=1h":
            return super()._answer(request)
        if request.headers.get("x-vault-token") not in self.tokens:
            return Response(403, b'{"errors": ["permission denied"]}')
        data = {"username": "v-app", "password": "marked-word"}
        said = {"lease_id": "database/creds/app/1", "lease_duration": 3600, "data": data}
        return Response(200, json.dumps(said).encode())


class Registry:
    """The token endpoints of a registry of Azure."""

    def __init__(self, entra: AzureFake) -> None:
        self.entra = entra

    def __call__(self, request, exchange) -> None:
        form = dict(each.split("=", 1) for each in request.body.decode().split("&"))
        if request.target == "/oauth2/exchange" and form["access_token"] in self.entra.tokens:
            exchange.reply(Response(200, b'{"refresh_token": "marked-refresh"}'))
        elif request.target == "/oauth2/token" and form["refresh_token"] == "marked-refresh":
            exchange.reply(Response(200, b'{"access_token": "marked-access"}'))
        else:
            exchange.reply(Response(401))


async def account(api: FakeKubeApi, name: str, **annotations: str) -> None:
    metadata = {"name": name, "namespace": ASKING, "annotations": annotations}
    await api.create(SERVICE_ACCOUNTS, {"metadata": metadata})


async def secret(api: FakeKubeApi, name: str, labels: dict[str, str], **data: str) -> None:
    metadata = {"name": name, "namespace": ASKING, "labels": labels}
    await api.create(SECRETS, {"metadata": metadata, "stringData": data})


async def webhook(api, clock, serve, **_: Any) -> World:
    issuer = Issuer()
    address = await serve("plain", issuer)
    labels = {"generators.external-secrets.io/type": "webhook"}
    await secret(api, "issuer-token", labels, token="marked-token")

    def shut() -> None:
        issuer.answer = Response(403, b"marked-token is not welcome")

    return World(Surroundings(api, clock), {"https://issuer.example.com": address}, shut)


async def vault(api, clock, serve, **_: Any) -> World:
    fake = Vault()
    fake.logins["auth/kubernetes/login"] = lambda body, _: (
        api.tokens.get(body["jwt"], {}).get("audiences") == ["vault"]
    )
    await account(api, "shop")
    address = await serve("plain", fake)

    def shut() -> None:
        fake.logins.clear()
        fake.tokens.clear()

    moved = {"https://store.example.com:8200": address}
    return World(Surroundings(api, clock), moved, shut)


async def google(api, clock, serve, bed, **_: Any) -> World:
    bed.fake.metadata = {
        "project/project-id": "p",
        "instance/attributes/cluster-location": "l",
        "instance/attributes/cluster-name": "c",
    }
    bed.fake.subjects = lambda token, _: token in api.tokens
    await account(api, "images")

    def shut() -> None:
        bed.fake.subjects = lambda _token, _audience: False

    return World(Surroundings(api, clock, bed.environment), {}, shut)


async def azure(api, clock, serve, **_: Any) -> World:
    entra = AzureFake("https://management.azure.com")
    entra.assertions = lambda client, token: client == "app-id" and token in api.tokens
    await account(api, "images", **{"azure.workload.identity/client-id": "app-id"})
    address = await serve("plain", entra)
    registry = await serve("tls", Registry(entra))

    def shut() -> None:
        entra.assertions = lambda _client, _token: False

    moved = {"shop.azurecr.io": registry.removeprefix("https://")}
    return World(Surroundings(api, clock, {"AZURE_AUTHORITY_HOST": address}), moved, shut)


async def amazon(_api, _clock, bed, **_: Any) -> World:
    role = {"eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/pod"}
    await account(bed.api, "images", **role)
    await secret(bed.api, "aws", {}, id="AKIA", secret="marked-secret")

    def shut() -> None:
        bed.gate.answer = Response(403, b'{"__type": "AccessDeniedException", "message": "no"}')

    environment = bed.environment | {"AWS_ECR_ENDPOINT": bed.address}
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        del environment[name]
    return World(Surroundings(bed.api, bed.clock, environment), {}, shut)


WORLDS = {
    "Webhook": webhook,
    "VaultDynamicSecret": vault,
    "GCRAccessToken": google,
    "ACRAccessToken": azure,
    "ECRAuthorizationToken": amazon,
    "STSSessionToken": amazon,
}


BEDS = {"GCRAccessToken": "gcp", "ECRAuthorizationToken": "aws", "STSSessionToken": "aws"}


@pytest.fixture
def bed(kind, request) -> Any:
    """The vendor that plays behind a kind, if it is one that providers' tests have."""
    return request.getfixturevalue(BEDS[kind]) if kind in BEDS else None


@pytest.fixture
async def serve(plain, tls, tmp_path, monkeypatch) -> AsyncIterator[Callable[..., Any]]:
    """Serves a handler, `plain` or over `tls` that this process trusts; the address."""
    async with AsyncExitStack() as stack:

        async def serving(how: str, handler: Any) -> str:
            if how == "plain":
                return await stack.enter_async_context(plain(handler))
            address, authority = await stack.enter_async_context(tls(handler, tmp_path))
            # The variable by which OpenSSL is told of authorities.
            monkeypatch.setenv("SSL_CERT_FILE", str(authority))
            return address

        yield serving


@pytest.fixture
async def world(kind, api, clock, serve, bed) -> World:
    prepare = WORLDS.get(kind)
    if prepare is None:
        return World(Surroundings(api, clock))
    return await prepare(api, clock, serve=serve, bed=bed)


@pytest.mark.parametrize("kind", CASES)
async def test_a_manifest_of_the_page_makes_what_the_page_says(kind, world) -> None:
    made = await world.make(kind)
    assert set(made.values) == KEYS[kind]
    assert all(made.values.values())
    secrets = [each.decode() for name, each in made.values.items() if "word" in name]
    assert not [each for each in secrets if each in repr(made)]
    assert not [each for each in secrets if each in json.dumps(made.state)]
    if made.state is not None:
        assert kind == "VaultDynamicSecret"
    elif kind not in WORLDS and kind != "Fake":
        assert made.values != (await world.make(kind)).values


@pytest.mark.parametrize("kind", [each for each in CASES if each.values[0] in WORLDS])
async def test_who_is_turned_out_is_told_so_without_a_value(kind, world) -> None:
    world.shut()
    with pytest.raises(Refusal) as caught:
        await world.make(kind)
    assert isinstance(caught.value, Denied | Unavailable | Invalid)
    assert "marked" not in str(caught.value)


@pytest.mark.parametrize("kind", ["Password"])
async def test_the_pages_external_secret_finds_its_generator(kind, world) -> None:
    (manifest,) = (each for each in MANIFESTS if each["kind"] == "ExternalSecret")
    api = world.around.api
    generator = world.manifest(kind)
    await api.create(resource_of(next(iter(parse_spec(manifest).generators))), generator)
    item = await api.create(EXTERNAL_SECRETS, manifest)
    (source,) = parse_spec(item).sources
    served = ServedGenerators(api, world.workshop, world.around.clock)
    assert set(await served.generate(source.generator, item, "0")) == KEYS[kind]


def test_the_page_has_every_kind() -> None:
    assert set(GENERATORS) == set(KEYS)
