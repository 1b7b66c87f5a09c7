"""Every login of a Vault store against a real server process, with references of a real cluster."""

import base64
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from tests.sync.providers.store_process import StoreProcess

from strongroom.app.cluster.control_plane import ControlPlane
from strongroom.crypto.signatures import new_key_pair, private_key_text
from strongroom.crypto.x509_dev import DevCertificates, issue
from strongroom.kube.client import KubeClient
from strongroom.kube.resource import (
    CONFIG_MAPS,
    NAMESPACES,
    SECRETS,
    SERVICE_ACCOUNTS,
)
from strongroom.model.clock import SystemClock
from strongroom.model.errors import Denied, Invalid, Refusal, Unavailable
from strongroom.model.secret import Secret
from strongroom.sync.providers.contract import Find, Provider, PushTarget
from strongroom.sync.providers.kinds import Providers
from strongroom.sync.providers.references import Surroundings
from strongroom.sync.spec import RemoteRef
from strongroom.wire.oauth import signed_jwt

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
CLOCK = SystemClock()
NUMBERS = itertools.count(1)


@dataclass
class Bed:
    """A namespace of a real cluster, and a mount of a real store with the secret `db`."""

    server: StoreProcess
    control: ControlPlane
    api: KubeClient
    namespace: str
    mount: str
    made: list[Provider] = field(default_factory=list)

    async def keep(self, **values: str | bytes) -> None:
        """A Secret `auth` with what logins refer to."""
        data = {
            name: base64.b64encode(each if isinstance(each, bytes) else each.encode()).decode()
            for name, each in values.items()
        }
        where = {"name": "auth", "namespace": self.namespace}
        await self.api.create(SECRETS, {"metadata": where, "data": data})

    async def account(self) -> None:
        """A service account `app`."""
        where = {"name": "app", "namespace": self.namespace}
        await self.api.create(SERVICE_ACCOUNTS, {"metadata": where})

    async def provider(self, auth: dict[str, Any], **more: Any) -> Provider:
        bundle = base64.b64encode(self.server.authority.encode()).decode()
        vault = {
            "server": self.server.address, "path": self.mount, "auth": auth, "caBundle": bundle,
            **more,
        }  # fmt: skip
        store = {
            "metadata": {"name": "s", "namespace": self.namespace},
            "spec": {"provider": {"vault": {k: v for k, v in vault.items() if v is not None}}},
        }
        self.made.append(await Providers(Surroundings(self.api, CLOCK))(store, self.namespace))
        return self.made[-1]

    async def reads(self, auth: dict[str, Any], **more: Any) -> bool:
        """Whether a store with this login is valid and sees the secret."""
        provider = await self.provider(auth, **more)
        await provider.validate()
        return (await provider.fetch(RemoteRef("db"))).data == {"p": "one"}


@pytest.fixture
async def bed(server: StoreProcess, cluster: ControlPlane) -> AsyncIterator[Bed]:
    namespace = f"logins-{next(NUMBERS)}"
    mount = await server.mount("2")
    await server.tell(f"{mount}/data/db", data={"p": "one"})
    async with KubeClient(cluster.config(), CLOCK) as api:
        await api.create(NAMESPACES, {"metadata": {"name": namespace}})
        found = Bed(server, cluster, api, namespace, mount)
        yield found
        for each in found.made:
            await each.close()


def key(name: str) -> dict[str, str]:
    return {"name": "auth", "key": name}


TOKEN = {"tokenSecretRef": key("token")}


async def test_token(bed: Bed) -> None:
    token = await bed.server.token(bed.mount)
    await bed.keep(token=token + "\n")
    assert await bed.reads(TOKEN)


@pytest.mark.parametrize("role", ["roleId", "roleRef"])
async def test_app_role(bed: Bed, role: str) -> None:
    path = await bed.server.auth("approle")
    await bed.server.tell(f"auth/{path}/role/app", token_policies=bed.mount)
    _, said = await bed.server.ask("GET", f"auth/{path}/role/app/role-id")
    identity = said["data"]["role_id"]
    made = await bed.server.tell(f"auth/{path}/role/app/secret-id")
    await bed.keep(id=identity, secret=made["secret_id"])
    one = {"roleId": identity} if role == "roleId" else {"roleRef": key("id")}
    assert await bed.reads({"appRole": {"path": path, "secretRef": key("secret"), **one}})


async def _kubernetes(bed: Bed) -> str:
    """An auth method that has this cluster review tokens."""
    path = await bed.server.auth("kubernetes")
    await bed.server.tell(
        f"auth/{path}/config",
        kubernetes_host=bed.control.url,
        kubernetes_ca_cert=bed.control.ca_file.read_text(),
        token_reviewer_jwt=bed.control.admin_token,
    )
    await bed.server.tell(
        f"auth/{path}/role/app",
        bound_service_account_names="app", bound_service_account_namespaces=bed.namespace,
        audience="vault", token_policies=bed.mount,
    )  # fmt: skip
    await bed.account()
    return path


async def test_kubernetes_by_a_service_account(bed: Bed) -> None:
    path = await _kubernetes(bed)
    account = {"serviceAccountRef": {"name": "app"}}
    assert await bed.reads({"kubernetes": {"mountPath": path, "role": "app", **account}})


async def test_kubernetes_by_a_token_in_a_secret(bed: Bed) -> None:
    path = await _kubernetes(bed)
    body = {"spec": {"audiences": ["vault"], "expirationSeconds": 600}}
    where = {"metadata": {"name": "app", "namespace": bed.namespace}}
    kinds = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"}
    made = await bed.api.create(SERVICE_ACCOUNTS, {**kinds, **where, **body}, "token")
    await bed.keep(jwt=made["status"]["token"])
    ref = {"secretRef": key("jwt")}
    assert await bed.reads({"kubernetes": {"mountPath": path, "role": "app", **ref}})


async def test_kubernetes_refuses_another_account_and_another_audience(bed: Bed) -> None:
    path = await _kubernetes(bed)
    where = {"name": "other", "namespace": bed.namespace}
    await bed.api.create(SERVICE_ACCOUNTS, {"metadata": where})
    for account in ({"name": "other"}, {"name": "app", "audiences": ["elsewhere"]}):
        auth = {"kubernetes": {"mountPath": path, "role": "app", "serviceAccountRef": account}}
        with pytest.raises(Denied):
            await bed.reads(auth)


async def test_jwt_of_a_service_account(bed: Bed) -> None:
    path = await bed.server.auth("jwt")
    cert = x509.load_pem_x509_certificate((bed.control.folder / "sa.crt").read_bytes())
    kind = serialization.PublicFormat.SubjectPublicKeyInfo
    pem = cert.public_key().public_bytes(serialization.Encoding.PEM, kind).decode()
    await bed.server.tell(f"auth/{path}/config", jwt_validation_pubkeys=[pem])
    await bed.server.tell(
        f"auth/{path}/role/app",
        role_type="jwt", user_claim="sub", bound_audiences=["store"], token_policies=bed.mount,
        bound_subject=f"system:serviceaccount:{bed.namespace}:app",
    )  # fmt: skip
    await bed.account()
    account = {
        "serviceAccountRef": {"name": "app"}, "audiences": ["store"], "expirationSeconds": 900,
    }  # fmt: skip
    auth = {"jwt": {"path": path, "role": "app", "kubernetesServiceAccountToken": account}}
    assert await bed.reads(auth)
    account["audiences"] = ["elsewhere"]
    with pytest.raises(Refusal) as caught:
        await bed.reads(auth)
    assert isinstance(caught.value, Denied | Invalid)


async def test_jwt_in_a_secret(bed: Bed) -> None:
    path = await bed.server.auth("jwt")
    pair = new_key_pair("rsa-2048")
    private = serialization.load_pem_private_key(private_key_text(pair).encode(), None)
    kind = serialization.PublicFormat.SubjectPublicKeyInfo
    pem = private.public_key().public_bytes(serialization.Encoding.PEM, kind).decode()
    await bed.server.tell(f"auth/{path}/config", jwt_validation_pubkeys=[pem], default_role="app")
    await bed.server.tell(
        f"auth/{path}/role/app",
        role_type="jwt", user_claim="sub", bound_audiences=["store"], token_policies=bed.mount,
    )  # fmt: skip
    now = int(CLOCK.now())
    claims = {"sub": "ci", "aud": "store", "iat": now, "exp": now + 600}
    await bed.keep(jwt=signed_jwt({}, claims, private_key_text(pair)))
    # Without a role the auth method's own default counts.
    assert await bed.reads({"jwt": {"path": path, "secretRef": key("jwt")}})


async def test_user_pass(bed: Bed) -> None:
    path = await bed.server.auth("userpass")
    await bed.server.tell(
        f"auth/{path}/users/app", password="marked-password", token_policies=bed.mount
    )
    await bed.keep(password="marked-password", wrong="marked-wrong")
    auth = {"path": path, "username": "app", "secretRef": key("password")}
    assert await bed.reads({"userPass": auth})
    with pytest.raises(Refusal) as caught:
        await bed.reads({"userPass": {**auth, "secretRef": key("wrong")}})
    assert "marked" not in str(caught.value)


async def _client(bed: Bed) -> tuple[str, DevCertificates]:
    """A cert auth method that trusts the authority of a client certificate in `auth`."""
    path = await bed.server.auth("cert")
    made = issue(("client",), CLOCK.now())
    await bed.server.tell(
        f"auth/{path}/certs/app", certificate=made.authority.decode(), token_policies=bed.mount
    )
    await bed.keep(**{"tls.crt": made.certificate, "tls.key": made.key, "other": "x"})
    return path, made


async def test_a_client_certificate(bed: Bed) -> None:
    path, _ = await _client(bed)
    pair = {"clientCert": key("tls.crt"), "secretRef": key("tls.key")}
    assert await bed.reads({"cert": {"path": path, "vaultRole": "app", **pair}})
    assert await bed.reads({"cert": {"path": path, **pair}})
    with pytest.raises(Refusal) as caught:
        await bed.reads({"cert": {"path": path, "vaultRole": "another", **pair}})
    assert isinstance(caught.value, Denied | Invalid)


async def test_ldap_is_refused_by_name(bed: Bed) -> None:
    """Strongroom's store has no such method; a Vault server that has it is asked."""
    status, said = await bed.server.ask("POST", "sys/auth/ldap", {"type": "ldap"})
    assert status == 400
    assert "ldap" in said["errors"][0]
    await bed.keep(password="pw")
    provider = await bed.provider({"ldap": {"username": "app", "secretRef": key("password")}})
    with pytest.raises(Refusal, match="auth/ldap/login/app") as caught:
        await provider.fetch(RemoteRef("db"))
    assert isinstance(caught.value, Invalid | Denied | Unavailable)


# the rest of what says where


@pytest.mark.parametrize("kind", ["Secret", "ConfigMap"])
async def test_an_authority_is_looked_up(bed: Bed, kind: str) -> None:
    token = await bed.server.token(bed.mount)
    await bed.keep(token=token, ca=bed.server.authority)
    where = {"name": "trust", "namespace": bed.namespace}
    data = {"ca.crt": bed.server.authority}
    await bed.api.create(CONFIG_MAPS, {"metadata": where, "data": data})
    ref = {"name": "auth", "key": "ca"} if kind == "Secret" else {"name": "trust"}
    assert await bed.reads(TOKEN, caBundle=None, caProvider={"type": kind, **ref})
    with pytest.raises(Invalid, match=r"caProvider points to nothing") as caught:
        await bed.reads(TOKEN, caBundle=None, caProvider={"type": kind, "name": "nowhere"})
    assert caught.value.code == "credential-missing"


async def test_a_server_that_no_authority_signed_hears_no_token(bed: Bed) -> None:
    await bed.keep(token=await bed.server.token(bed.mount))
    other = base64.b64encode(issue(("x",), CLOCK.now()).authority).decode()
    with pytest.raises(Unavailable):
        await bed.reads(TOKEN, caBundle=other)


async def test_the_root_namespace_and_no_other_is_there(bed: Bed) -> None:
    await bed.keep(token=await bed.server.token(bed.mount))
    assert await bed.reads(TOKEN, namespace="root")
    # Policies delete on what is not there, so this is said of no secret.
    provider = await bed.provider(TOKEN, namespace="team-a")
    for call in (provider.validate(), provider.fetch(RemoteRef("db")), provider.find(Find())):
        with pytest.raises(Invalid, match="only the root namespace") as caught:
            await call
        assert caught.value.code == "store-no-namespace"


async def test_headers_and_consistency_fields_do_no_harm(bed: Bed) -> None:
    await bed.keep(token=await bed.server.token(bed.mount))
    assert await bed.reads(
        TOKEN, headers={"X-Team": "blue"}, readYourWrites=True, forwardInconsistent=True
    )


async def test_a_push_is_against_the_version_that_was_read(bed: Bed) -> None:
    """The mount itself refuses whoever does not say which version it has seen."""
    await bed.keep(token=await bed.server.token(bed.mount))
    await bed.server.tell(f"{bed.mount}/config", cas_required=True)
    status, said = await bed.server.ask("POST", f"{bed.mount}/data/x", {"data": {"a": "b"}})
    assert (status, "check-and-set" in said["errors"][0]) == (400, True)
    provider = await bed.provider(TOKEN, checkAndSet={"required": True})
    for value in ("one", "two"):
        assert (await provider.push(PushTarget("pushed", "p"), Secret(value))).changed
    assert (await provider.fetch(RemoteRef("pushed"))).data == {"p": "two"}
