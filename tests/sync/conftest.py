"""A provider of each kind with somebody behind it who writes secrets and shuts identities out."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from strongroom.app.waiting import until
from strongroom.crypto.signatures import new_key_pair, private_key_text, rsa_public_numbers
from strongroom.crypto.x509_dev import issue
from strongroom.kube.api import Scope
from strongroom.kube.client import KubeClient
from strongroom.kube.config import KubeConfig, load_kubeconfig
from strongroom.kube.fake import FakeKubeApi
from strongroom.kube.resource import (
    NAMESPACES,
    ROLE_BINDINGS,
    ROLES,
    SECRETS,
    SERVICE_ACCOUNTS,
    Object,
    Resource,
)
from strongroom.model.clock import SimulatedClock, SystemClock
from strongroom.model.errors import Conflict, Denied
from strongroom.model.secret import Secret
from strongroom.store.auth.jwt_verify import (
    Leeways,
    check_audience,
    check_times,
    keys_of_set,
    verified_claims,
)
from strongroom.sync.providers.azure_fake import AzureFake
from strongroom.sync.providers.contract import Fetched, Provider
from strongroom.sync.providers.fake import FakeProvider
from strongroom.sync.providers.gcp_fake import GcpFake
from strongroom.sync.providers.kinds import Providers
from strongroom.sync.providers.kubernetes import KubernetesProvider, KubernetesSettings
from strongroom.sync.providers.references import Surroundings
from strongroom.sync.providers.session import Session
from strongroom.sync.providers.vault import VaultProvider, VaultSettings
from strongroom.sync.providers.vault_fake import VaultFake
from strongroom.wire.client import HttpClient
from strongroom.wire.http import Request, Response
from strongroom.wire.limits import Limits
from strongroom.wire.listener import Exchange, Listener
from strongroom.wire.oauth import signed_jwt
from strongroom.wire.tls import server_context
from strongroom.wire.vault import VaultClient

Put = Callable[[str, dict | bytes, Mapping[str, str] | None], Awaitable[None]]


@dataclass
class Given:
    """A provider, how to write a version behind it, how to shut it out, and what it cannot do."""

    provider: Provider
    put: Put
    shut_out: Callable[[], Awaitable[None]]
    lacks: frozenset[str] = frozenset()
    key: Callable[[str], str] = str
    version: Callable[[Fetched], str] = lambda found: str(found.version)
    tag: Callable[[str], str] = str
    absent_version: Callable[[str], str] = str


CLOCK = SystemClock()


@asynccontextmanager
async def serving(handler: Any) -> AsyncIterator[str]:
    """A fake's handler behind a listener; its address."""
    listener = Listener(handler, Limits(), CLOCK)
    _, port = await listener.start("127.0.0.1", 0)
    yield f"http://127.0.0.1:{port}"
    await listener.drain(0.1)


@asynccontextmanager
async def serving_tls(handler: Any, folder: Path) -> AsyncIterator[tuple[str, Path]]:
    """The same over TLS, which vendors' clients insist on; the address and the authority."""
    made = issue(("localhost", "127.0.0.1"), CLOCK.now())
    for name, content in (("ca", made.authority), ("crt", made.certificate), ("key", made.key)):
        (folder / name).write_bytes(content)
    listener = Listener(handler, Limits(), CLOCK)
    context = server_context(folder / "crt", folder / "key")
    _, port = await listener.start("127.0.0.1", 0, tls=context)
    yield f"https://localhost:{port}", folder / "ca"
    await listener.drain(0.1)


@pytest.fixture
def plain() -> Callable[[Any], Any]:
    return serving


@pytest.fixture
def tls() -> Callable[[Any, Path], Any]:
    return serving_tls


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock()


@pytest.fixture
def api(clock: SimulatedClock) -> FakeKubeApi:
    return FakeKubeApi(clock)


@pytest.fixture
async def fake_given() -> Given:
    fake = FakeProvider()

    async def put(key: str, data: dict | bytes, tags: Mapping[str, str] | None = None) -> None:
        fake.put_data(key, data, tags)

    async def shut_out() -> None:
        fake.broken = Denied("store-denied", "permission denied")

    return Given(fake, put, shut_out)


KV2 = """path "secret/data/*" { capabilities = ["create", "read", "update", "delete"] }
path "secret/metadata/*" { capabilities = ["create", "read", "update", "delete", "list"] }"""


@pytest.fixture
async def vault_given(store) -> AsyncIterator[Given]:
    token = await store.token_with(KV2)

    async def put(key: str, data: dict | bytes, tags: Mapping[str, str] | None = None) -> None:
        status, _ = await store.ask("POST", f"secret/data/{key}", {"data": data})
        assert status == 200
        if tags is not None:
            body = {"custom_metadata": dict(tags)}
            await store.ask("POST", f"secret/metadata/{key}", body)

    async for given in _vault_given(store, token, VaultSettings(store.address, "secret"), put):
        yield Given(*given, frozenset({"binary"}))


KV1 = 'path "old/*" { capabilities = ["create", "read", "update", "delete", "list"] }'


@pytest.fixture
async def vault_v1_given(store) -> AsyncIterator[Given]:
    await store.ask("POST", "sys/mounts/old", {"type": "kv", "options": {"version": "1"}})
    token = await store.token_with(KV1)

    async def put(key: str, data: dict | bytes, tags: Mapping[str, str] | None = None) -> None:
        assert (await store.ask("POST", f"old/{key}", data))[0] in (200, 204)

    settings = VaultSettings(store.address, "old", "v1")
    async for given in _vault_given(store, token, settings, put):
        yield Given(*given, frozenset({"binary", "versions", "tags"}))


@pytest.fixture
async def vault_server(clock: SimulatedClock) -> AsyncIterator[tuple[VaultFake, str]]:
    fake = VaultFake()
    async with serving(fake) as address:
        yield fake, address


@pytest.fixture
async def vault_fake_given(vault_server) -> AsyncIterator[Given]:
    async for given in _vault_fake_given(*vault_server, "v2"):
        yield given


@pytest.fixture
async def vault_fake_v1_given(vault_server) -> AsyncIterator[Given]:
    async for given in _vault_fake_given(*vault_server, "v1"):
        yield given


async def _vault_fake_given(fake: VaultFake, address: str, version: str) -> AsyncIterator[Given]:
    mount = {"v1": "old", "v2": "secret"}[version]

    async def login(client) -> tuple[Secret, float]:
        return Secret("fake-root"), 0

    async def put(key: str, data: dict | bytes, tags: Mapping[str, str] | None = None) -> None:
        kind, body = ("data/", {"data": data}) if mount == "secret" else ("", data)
        await admin("POST", f"{mount}/{kind}{key}", body)
        if tags is not None:
            await admin("POST", f"{mount}/metadata/{key}", {"custom_metadata": dict(tags)})

    async def shut_out() -> None:
        fake.tokens.clear()

    async with HttpClient() as http:
        admin = VaultClient(address, Secret("fake-root"), http).request
        provider = VaultProvider(VaultSettings(address, mount, version), login, CLOCK)
        lacks = {"binary", "feed"} | ({"versions", "tags"} if mount == "old" else set())
        yield Given(provider, put, shut_out, frozenset(lacks))
        await provider.close()


async def _vault_given(store, token: str, settings: VaultSettings, put: Put):
    async def login(client) -> tuple[Secret, float]:
        await client.request("GET", "sys/health")
        return Secret(token), 0

    async def revoke() -> None:
        await store.ask("POST", "auth/token/revoke", {"token": token})

    provider = VaultProvider(settings, login, SimulatedClock())
    yield provider, put, revoke
    await provider.close()


class Issuer(FakeKubeApi):
    """The fake API server with a real issuer: tokens of service accounts are signed (RFC 7519).

    A listener's handler for what a verifier asks an issuer: the discovery document and the keys.
    """

    def __init__(self, clock: SimulatedClock) -> None:
        super().__init__(clock)
        self.clock = clock
        self.address = ""
        self._pair = new_key_pair("rsa-2048")

    async def create(
        self, resource: Resource, item: Object, subresource: str = "", manager: str = ""
    ) -> Object:
        made = await super().create(resource, item, subresource, manager)
        if subresource == "token":
            ((opaque, known),) = list(self.tokens.items())[-1:]
            made["status"]["token"] = self.signed(known["username"], *known["audiences"])
            self.tokens[made["status"]["token"]] = self.tokens.pop(opaque)
        return made

    def signed(self, subject: str, *audiences: str, pair: bytes = b"", **claims: Any) -> str:
        """A token of this issuer for ten minutes; `pair` signs it in place of the issuer's key."""
        now = int(self.clock.now())
        said = {
            "iss": self.address, "sub": subject, "aud": list(audiences),
            "iat": now, "exp": now + 600, **claims,
        }  # fmt: skip
        return signed_jwt({"kid": "one"}, said, private_key_text(pair or self._pair))

    def __call__(self, request: Request, exchange: Exchange) -> None:
        modulus, exponent = (
            base64.urlsafe_b64encode(each).rstrip(b"=").decode()
            for each in rsa_public_numbers(self._pair)
        )
        key = {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "one"}
        pages = {
            "/.well-known/openid-configuration": {
                "issuer": self.address, "jwks_uri": f"{self.address}/openid/v1/jwks",
            },
            "/openid/v1/jwks": {"keys": [{**key, "n": modulus, "e": exponent}]},
        }  # fmt: skip
        exchange.reply(Response(200, json.dumps(pages[request.target]).encode()))


class Gate:
    """A door before a service: passes requests on, counts them, and refuses when it is told to.

    It also is the trust policy that moto's STS has not: a web identity token must be signed by
    the issuer's published key, for the audience of STS, and still be good.
    """

    def __init__(self, target: str, issuer: Issuer) -> None:
        self.target = target
        self.issuer = issuer
        self.answer: Response | None = None
        self.answers: dict[str, Response] = {}
        self.calls: list[str] = []
        self.forms: list[dict[str, str]] = []
        self.http = HttpClient()
        self.running: set[asyncio.Task[None]] = set()

    def __call__(self, request: Request, exchange: Exchange) -> None:
        task = asyncio.ensure_future(self._pass(request, exchange))
        self.running.add(task)
        task.add_done_callback(self.running.discard)

    async def _pass(self, request: Request, exchange: Exchange) -> None:
        target = request.headers.get("x-amz-target", "")
        form = dict(parse_qsl(request.body.decode())) if not target else {}
        name = target.rpartition(".")[2] or form.get("Action", "")
        self.calls.append(name)
        self.forms.append(form)
        answer = self.answers.get(name) or self.answer
        token = form.get("WebIdentityToken")
        if token and not await self._trusts(token):
            answer = sts_error("InvalidIdentityToken")
        if answer is not None:
            exchange.reply(answer)
            return
        headers = {
            name: value
            for name, value in request.headers.items()
            if name not in ("content-length", "connection", "accept-encoding")
        }
        url = self.target + request.target
        reply = await self.http.request(request.method, url, headers=headers, body=request.body)
        exchange.reply(Response(reply.status, reply.body, content_type=reply.content_type))

    async def _trusts(self, token: str) -> bool:
        """What AWS checks of a token, by what the issuer publishes."""
        address = self.issuer.address
        page = await self.http.request("GET", f"{address}/.well-known/openid-configuration")
        keys = await self.http.request("GET", json.loads(page.body)["jwks_uri"])
        try:
            claims = verified_claims(token, keys_of_set(json.loads(keys.body)["keys"]))
            check_audience(claims, ("sts.amazonaws.com",))
            check_times(claims, Leeways(), self.issuer.clock.now())
        except Denied:
            return False
        return claims["iss"] == address and str(claims["sub"]).startswith("system:serviceaccount:")


def aws_error(code: str, status: int = 400) -> Response:
    return Response(status, json.dumps({"__type": code, "message": "said by AWS"}).encode())


def sts_error(code: str) -> Response:
    body = f"<ErrorResponse><Error><Code>{code}</Code><Message>m</Message></Error></ErrorResponse>"
    return Response(403, body.encode(), content_type="text/xml")


@dataclass
class AwsBed:
    """moto behind a gate, and what a pod's environment says about it."""

    gate: Gate
    address: str
    api: Issuer
    clock: SimulatedClock
    http: HttpClient

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "s",
            "AWS_SECRETSMANAGER_ENDPOINT": self.address, "AWS_SSM_ENDPOINT": self.address,
            "AWS_STS_ENDPOINT": self.address,
        }  # fmt: skip

    async def provider(
        self, spec: dict[str, Any], environment: dict[str, str] | None = None
    ) -> Provider:
        aws = {"region": "eu-west-1", "service": "SecretsManager", **spec}
        around = Surroundings(self.api, self.clock, self.environment | (environment or {}))
        return await Providers(around)(a_store({"aws": aws}), "n")

    async def call(self, target: str, **body: Any) -> dict[str, Any]:
        """Ask moto as an administrator."""
        headers = {"X-Amz-Target": target, "Content-Type": "application/x-amz-json-1.1"}
        service = {"secretsmanager": "secretsmanager", "AmazonSSM": "ssm"}[
            target.split(".", maxsplit=1)[0]
        ]
        scope = f"Credential=A/20260101/eu-west-1/{service}/aws4_request"
        headers["Authorization"] = f"AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=x"
        reply = await self.http.request(
            "POST", self.gate.target + "/", headers=headers, body=json.dumps(body).encode()
        )
        assert reply.status == 200, reply.body
        return json.loads(reply.body or b"{}")


def a_store(provider: dict[str, Any], namespace: str = "n", **metadata: Any) -> dict[str, Any]:
    """A SecretStore's manifest, or with namespace "" a ClusterSecretStore's."""
    where = {"namespace": namespace} if namespace else {}
    return {
        "metadata": {"name": "s", "uid": "u", "generation": 1, **where, **metadata},
        "spec": {"provider": provider},
    }


@pytest.fixture
async def aws(moto: str) -> AsyncIterator[AwsBed]:
    # The credentials of moto's STS end by the machine's clock.
    clock = SimulatedClock(CLOCK.now())
    api = Issuer(clock)
    gate = Gate(moto, api)
    async with serving(gate) as address, serving(api) as api.address, HttpClient() as http:
        await http.request("POST", f"{moto}/moto-api/reset")
        yield AwsBed(gate, address, api, clock, http)
        await gate.http.close()


def _aws_given(aws: AwsBed, provider: Provider, put: Put, **more: Any) -> Given:
    async def shut_out() -> None:
        aws.gate.answer = aws_error("AccessDeniedException")
        aws.gate.answers["GetCallerIdentity"] = sts_error("InvalidClientTokenId")

    return Given(provider, put, shut_out, **more)


@pytest.fixture
async def aws_secrets_manager_given(aws: AwsBed) -> AsyncIterator[Given]:
    provider = await aws.provider({})
    made: set[str] = set()

    async def put(key: str, data: dict | bytes, tags: Mapping[str, str] | None = None) -> None:
        text = json.dumps(data) if isinstance(data, dict) else None
        value = (
            {"SecretString": text}
            if text
            else {"SecretBinary": base64.b64encode(bytes(data)).decode()}  # type: ignore[arg-type]
        )
        if key in made:
            await aws.call("secretsmanager.PutSecretValue", SecretId=key, **value)
        else:
            pairs = [{"Key": k, "Value": v} for k, v in (tags or {}).items()]
            await aws.call("secretsmanager.CreateSecret", Name=key, Tags=pairs, **value)
        made.add(key)

    yield _aws_given(
        aws, provider, put, lacks=frozenset({"feed"}),
        version=lambda found: f"uuid/{found.version}",
        absent_version=lambda version: f"uuid/{version:0>36}" if version else "",
    )  # fmt: skip
    await provider.close()


@pytest.fixture
async def aws_parameter_store_given(aws: AwsBed) -> AsyncIterator[Given]:
    provider = await aws.provider({"service": "ParameterStore"})

    async def put(key: str, data: dict | bytes, tags: Mapping[str, str] | None = None) -> None:
        body = {"Name": key, "Value": json.dumps(data), "Type": "SecureString", "Overwrite": True}
        await aws.call("AmazonSSM.PutParameter", **body)
        if tags:
            pairs = [{"Key": k, "Value": v} for k, v in tags.items()]
            await aws.call(
                "AmazonSSM.AddTagsToResource",
                ResourceType="Parameter", ResourceId=key, Tags=pairs,
            )  # fmt: skip

    yield _aws_given(
        aws, provider, put, lacks=frozenset({"feed", "binary"}), key=lambda name: f"/{name}"
    )
    await provider.close()


@dataclass
class GcpBed:
    """The fake of Google behind a listener, with one service account's key in a Secret."""

    fake: GcpFake
    address: str
    api: FakeKubeApi
    clock: SimulatedClock

    @property
    def environment(self) -> dict[str, str]:
        override = "CLOUDSDK_API_ENDPOINT_OVERRIDES_"
        services = ("SECRETMANAGER", "STS", "IAMCREDENTIALS", "SECURETOKEN")
        found = {override + each: self.address for each in services}
        return found | {"GCE_METADATA_HOST": self.address.removeprefix("http://")}

    async def provider(self, spec: dict[str, Any], environment: dict | None = None) -> Provider:
        around = Surroundings(self.api, self.clock, self.environment | (environment or {}))
        return await Providers(around)(a_store({"gcpsm": {"projectID": "p", **spec}}), "n")


def secret_object(name: str, **values: str) -> dict[str, Any]:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return {"metadata": {"name": name, "namespace": "n"}, "data": data}


@pytest.fixture(scope="session")
def rsa_pem() -> str:
    return private_key_text(new_key_pair("rsa-2048"))


@pytest.fixture
async def gcp(api: FakeKubeApi, clock: SimulatedClock, rsa_pem: str) -> AsyncIterator[GcpBed]:
    fake = GcpFake()
    fake.now, fake.issuers = clock.now, {"reader@p"}
    async with serving(fake) as address:
        key = {
            "type": "service_account", "client_email": "reader@p", "private_key": rsa_pem,
            "token_uri": f"{address}/token",
        }  # fmt: skip
        await api.create(SECRETS, secret_object("gcp", key=json.dumps(key)))
        yield GcpBed(fake, address, api, clock)


GCP_KEY = {"auth": {"secretRef": {"secretAccessKeySecretRef": {"name": "gcp", "key": "key"}}}}


async def _gcp_given(gcp: GcpBed, location: str) -> AsyncIterator[Given]:
    provider = await gcp.provider({**GCP_KEY, "location": location})
    parent = f"projects/p/locations/{location}" if location else "projects/p"

    async def put(key: str, data: dict | bytes, tags: Mapping[str, str] | None = None) -> None:
        value = json.dumps(data).encode() if isinstance(data, dict) else data
        gcp.fake.put(f"{parent}/secrets/{key}", value, tags)

    async def shut_out() -> None:
        gcp.fake.answer_with = Response(403, b'{"error": {"message": "Permission denied"}}')
        gcp.fake.issuers.clear()
        await gcp.clock.advance(4000)

    yield Given(
        provider, put, shut_out, frozenset({"feed"}),
        key=lambda name: name.replace("/", "-"), tag=lambda name: f"labels.{name}",
    )  # fmt: skip
    await provider.close()


@pytest.fixture
async def gcp_given(gcp: GcpBed) -> AsyncIterator[Given]:
    async for given in _gcp_given(gcp, ""):
        yield given


@pytest.fixture
async def gcp_regional_given(gcp: GcpBed) -> AsyncIterator[Given]:
    async for given in _gcp_given(gcp, "europe-west1"):
        yield given


@dataclass
class AzureBed:
    """The fake of Azure behind a listener, with one application's secret in a Secret."""

    fake: AzureFake
    address: str
    api: FakeKubeApi
    clock: SimulatedClock

    async def provider(self, spec: dict[str, Any], environment: dict | None = None) -> Provider:
        moved = ("AZURE_AUTHORITY_HOST", "AZURE_POD_IDENTITY_AUTHORITY_HOST")
        everywhere = dict.fromkeys(moved, self.address) | (environment or {})
        # The fake is no address of Azure's, where alone the operator's own identity is shown.
        around = Surroundings(self.api, self.clock, everywhere, ("n",))
        return await Providers(around)(
            a_store({"azurekv": {"vaultUrl": self.address, **spec}}), "n"
        )


@pytest.fixture
async def azure(api: FakeKubeApi, clock: SimulatedClock) -> AsyncIterator[AzureBed]:
    fake = AzureFake()
    fake.secrets = {"app-id": "marked-secret"}
    async with serving(fake) as address:
        fake.address = address
        await api.create(SECRETS, secret_object("azure", id="app-id", secret="marked-secret"))
        yield AzureBed(fake, address, api, clock)


@pytest.fixture
async def azure_given(azure: AzureBed) -> AsyncIterator[Given]:
    auth = {
        "clientId": {"name": "azure", "key": "id"},
        "clientSecret": {"name": "azure", "key": "secret"},
    }
    provider = await azure.provider({"tenantId": "t", "authSecretRef": auth})

    async def put(key: str, data: dict | bytes, tags: Mapping[str, str] | None = None) -> None:
        azure.fake.put("secrets", key, value=json.dumps(data), tags=dict(tags or {}))

    async def shut_out() -> None:
        azure.fake.answer_with = Response(403, b'{"error": {"message": "Forbidden"}}')
        azure.fake.secrets.clear()
        await azure.clock.advance(4000)

    yield Given(
        provider, put, shut_out, frozenset({"feed", "binary", "paths"}),
        key=lambda name: name.replace("/", "-"),
    )  # fmt: skip
    await provider.close()


MAY_ALL = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["*"]}]


class Refusing(FakeKubeApi):
    """The fake API server while `refuses` is set: nobody may do anything."""

    refuses = False

    def _may(self) -> None:
        if self.refuses:
            raise Denied("kube-forbidden", "secrets is forbidden")

    async def get(self, *args, **more):
        self._may()
        return await super().get(*args, **more)

    async def create(self, resource, item, *args, **more):
        self._may()
        if resource.kind == "SelfSubjectRulesReview":
            return {**item, "status": {"resourceRules": MAY_ALL}}
        return await super().create(resource, item, *args, **more)


def _put_secrets(api, namespace: str) -> Put:
    async def put(key: str, data: dict | bytes, tags: Mapping[str, str] | None = None) -> None:
        item = secret_object(key, **data)  # type: ignore[arg-type]
        item["metadata"] = {"name": key, "namespace": namespace, "labels": dict(tags or {})}
        await api.apply(SECRETS, item, "somebody")

    return put


@pytest.fixture
async def kubernetes_given(clock: SimulatedClock) -> AsyncIterator[Given]:
    api = Refusing(clock)

    async def login() -> tuple[Secret | None, float]:
        return None, 0

    async def shut_out() -> None:
        api.refuses = True

    provider = KubernetesProvider(KubernetesSettings("far"), api, Session(login, clock))
    yield Given(
        provider, _put_secrets(api, "far"), shut_out, KUBERNETES_LACKS,
        key=lambda name: name.replace("/", "-"), tag=lambda name: f"labels.{name}",
    )  # fmt: skip
    await provider.close()


# Secrets have no versions to ask for, hold objects alone, and bear no mark of who pushed them.
KUBERNETES_LACKS = frozenset({"versions", "binary", "feed", "paths", "owners"})


async def _account(api, name: str, *verbs: str) -> None:
    """A service account that may do something with Secrets of the namespace `far`.

    What an earlier test has left is kept; what one has taken away is there again.
    """
    rule = {"apiGroups": [""], "resources": ["secrets"], "verbs": list(verbs)}
    where = {"name": name, "namespace": "far"}
    subject = {"kind": "ServiceAccount", "name": name, "namespace": "n"}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
    for resource, item in (
        (SERVICE_ACCOUNTS, {"metadata": {"name": name, "namespace": "n"}}),
        (ROLES, {"metadata": where, "rules": [rule]}),
        (ROLE_BINDINGS, {"metadata": where, "subjects": [subject], "roleRef": role}),
    ):
        with suppress(Conflict):
            await api.create(resource, item)


@dataclass
class KubernetesBed:
    """A real API server with an account in `n` that may work with Secrets of `far`."""

    api: KubeClient
    config: KubeConfig

    async def provider(self, spec: dict[str, Any]) -> Provider:
        bundle = base64.b64encode(self.config.ca_data.encode()).decode()
        server = {"url": self.config.server, "caBundle": bundle}
        whole = {"server": server, "remoteNamespace": "far", **spec}
        around = Surroundings(self.api, CLOCK)
        return await Providers(around)(a_store({"kubernetes": whole}), "n")


@pytest.fixture
async def kubernetes_bed(cluster) -> AsyncIterator[KubernetesBed]:
    config = load_kubeconfig(cluster.kubeconfig)
    async with KubeClient(config, CLOCK) as api:
        for name in ("n", "far"):
            with suppress(Conflict):
                await api.create(NAMESPACES, {"metadata": {"name": name}})
        await _account(api, "app", "get", "list", "create", "update", "delete")
        yield KubernetesBed(api, config)
        for item in (await api.list(SECRETS, Scope("far"))).items:
            await api.delete(SECRETS, item["metadata"]["name"], "far")


@pytest.fixture
async def kubernetes_real_given(kubernetes_bed: KubernetesBed) -> AsyncIterator[Given]:
    api = kubernetes_bed.api
    provider = await kubernetes_bed.provider({"auth": {"serviceAccount": {"name": "app"}}})

    async def shut_out() -> None:
        await api.delete(ROLE_BINDINGS, "app", "far")
        await api.delete(ROLES, "app", "far")

        async def forgotten() -> bool | None:
            try:
                await provider.validate()
            except Denied:
                return True
            return None

        await until("the binding is gone", forgotten, CLOCK, seconds=120)

    yield Given(
        provider, _put_secrets(api, "far"), shut_out, KUBERNETES_LACKS,
        key=lambda name: name.replace("/", "-"), tag=lambda name: f"labels.{name}",
    )  # fmt: skip
    await provider.close()
