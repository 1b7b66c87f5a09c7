"""hvac's list of everything it knows: each class is driven by a suite of ours or named as outside."""

import importlib
import inspect
import pkgutil

import hvac
import hvac.api
import pytest
from hvac.api.auth_methods import JWT, OIDC, Cert, Kubernetes
from hvac.api.system_backend import Raft
from hvac.api.vault_api_base import VaultApiBase
from hvac.exceptions import InvalidRequest
from tests.store.test_cert_auth import Maker, der, pem
from tests.store.test_hvac_identity import Driven, methods
from tests.store.test_jwt_auth import AUDIENCE, REDIRECT
from tests.store.test_kubernetes_auth import jwt as kubernetes_jwt

from strongroom.model.principal import ReviewedToken

# Which file drives every method of a class; each of them compares with the class itself.
DRIVEN = {
    "KvV1": "test_hvac_kv", "KvV2": "test_hvac_kv", "Transit": "test_hvac_transit",
    "Identity": "test_hvac_identity", "Token": "test_hvac_identity",
    "AppRole": "test_hvac_identity", "Userpass": "test_hvac_identity",
    "Kubernetes": "test_hvac_methods", "JWT": "test_hvac_methods", "OIDC": "test_hvac_methods",
    "Cert": "test_hvac_methods",
    "Auth": "test_hvac_system", "Capabilities": "test_hvac_system", "Lease": "test_hvac_system",
    "Mount": "test_hvac_system", "Namespace": "test_hvac_system", "Policies": "test_hvac_system",
    "Policy": "test_hvac_system", "Quota": "test_hvac_system", "Wrapping": "test_hvac_system",
    "Audit": "test_hvac_seal", "Health": "test_hvac_seal", "Init": "test_hvac_seal",
    "Raft": "test_hvac_methods", "Key": "test_hvac_seal", "Leader": "test_hvac_seal", "Seal": "test_hvac_seal",
}  # fmt: skip
OUTSIDE = {
    "no such secrets engine": {
        "ActiveDirectory", "Aws", "Azure", "Consul", "Database", "Gcp", "Ldap", "Pki", "RabbitMQ",
        "Ssh", "Transform",
    },
    "no such auth method": {"Github", "LegacyMfa", "Okta", "Radius"},
    "holds other classes": {
        "Kv", "VaultApiBase", "VaultApiCategory", "SecretsEngines", "AuthMethods",
        "SystemBackend", "SystemBackendMixin",
    },
}  # fmt: skip


def known_to_hvac() -> set[str]:
    found = {"SystemBackend"}
    for module in pkgutil.walk_packages(hvac.api.__path__, "hvac.api."):
        for name, each in inspect.getmembers(importlib.import_module(module.name)):
            if inspect.isclass(each) and issubclass(each, VaultApiBase):
                found.add(name)
    return found


def test_every_class_of_hvac_is_driven_or_said_to_be_outside() -> None:
    outside = set().union(*OUTSIDE.values())
    assert known_to_hvac() - outside == set(DRIVEN)
    assert outside - known_to_hvac() <= {"VaultApiCategory", "SystemBackendMixin"}


@pytest.fixture
def client(store):
    return store.hvac()


async def test_every_kubernetes_method(store, client) -> None:
    await store.run(client.sys.enable_auth_method, "kubernetes")
    run = Driven(store, client.auth.kubernetes)
    await run("configure", "https://cluster", token_reviewer_jwt="r", disable_local_ca_jwt=True)
    assert (await run("read_config"))["kubernetes_host"] == "https://cluster"
    await run(
        "create_role", "App", bound_service_account_names="app",
        bound_service_account_namespaces="tour", policies=["default"], ttl="1h",
    )  # fmt: skip
    assert (await run("list_roles"))["keys"] == ["app"]
    assert (await run("read_role", "app"))["bound_service_account_names"] == ["app"]
    store.reviewer.known[kubernetes_jwt("app")] = ReviewedToken("tour", "app", "uid")
    said = await run("login", "app", kubernetes_jwt("app"), use_token=False)
    assert said["auth"]["metadata"]["service_account_name"] == "app"
    await run("delete_role", "app")
    assert methods(Kubernetes) - run.called == set()


async def test_every_jwt_method(store, client, issuer) -> None:
    await store.run(client.sys.enable_auth_method, "jwt")
    run = Driven(store, client.auth.jwt)
    await run("configure", oidc_discovery_url=issuer.url)
    assert (await run("read_config"))["data"]["oidc_discovery_url"] == issuer.url
    await run(
        "create_role", "app", "sub", [], role_type="jwt", bound_audiences=[AUDIENCE],
        token_policies=["default"],
    )  # fmt: skip
    assert (await run("list_roles"))["data"]["keys"] == ["app"]
    assert (await run("read_role", "app"))["data"]["bound_audiences"] == [AUDIENCE]
    said = await run("jwt_login", "app", issuer.sign(aud=AUDIENCE), use_token=False)
    assert said["auth"]["policies"] == ["default"]
    await run("delete_role", "app")
    told = {"resolve_path", "oidc_authorization_url_request", "oidc_callback"}
    assert methods(JWT) - run.called == told  # Those that are OpenID Connect's, see below.


async def test_every_oidc_method(store, client, issuer) -> None:
    await store.run(client.sys.enable_auth_method, "oidc")
    run = Driven(store, client.auth.oidc)
    await run(
        "configure", oidc_discovery_url=issuer.url, oidc_client_id=issuer.client,
        oidc_client_secret=issuer.secret, default_role="people", jwt_supported_algs=["ES256"],
    )  # fmt: skip
    await run("create_role", "people", "sub", [REDIRECT], token_policies=["default"])
    assert (await run("read_role", "people"))["data"]["role_type"] == "oidc"
    said = await run("oidc_authorization_url_request", "people", REDIRECT)
    back = await issuer.go(said["data"]["auth_url"])
    said = await run("oidc_callback", back["state"], "nonce", back["code"])
    assert said["auth"]["policies"] == ["default"]
    assert methods(OIDC) - run.called == set()
    assert {"oidc_authorization_url_request", "oidc_callback"} <= run.called


async def test_every_cert_method(store, client, tmp_path) -> None:
    await store.run(client.sys.enable_auth_method, "cert")
    maker = Maker(store.clock.now())
    authority, shown = tmp_path / "ca.pem", tmp_path / "client.pem"
    authority.write_text(pem(maker.certificate))
    run = Driven(store, client.auth.cert)
    await run(
        "create_ca_certificate_role",
        "web",
        certificate_file=str(authority),
        token_policies=["default"],
    )
    assert (await run("list_certificate_roles"))["data"]["keys"] == ["web"]
    assert (await run("read_ca_certificate_role", "web"))["data"]["display_name"] == "web"
    await run("configure_tls_certificate", disable_binding=True)
    certificate = maker.client()
    shown.write_text(pem(certificate))
    store.certificate = der(certificate)
    said = await run(
        "login", "web", cert_pem=str(shown), key_pem=str(shown),
        use_token=False,
    )  # fmt: skip
    assert said["auth"]["metadata"]["cert_name"] == "web"
    await run("delete_certificate_role", "web")
    assert {each for each in methods(Cert) if each[0].islower()} - run.called == set()


# The storage is a database, so there are no peers to join or to remove; automatic snapshots are
# Vault Enterprise's. Only snapshots are served.
NO_PEERS = {"join_raft_cluster", "read_raft_config", "remove_raft_node"}
ENTERPRISE = {
    "read_raft_auto_snapshot_config", "list_raft_auto_snapshot_configs",
    "delete_raft_auto_snapshot_config", "create_or_update_raft_auto_snapshot_config",
    "read_raft_auto_snapshot_status",
}  # fmt: skip


async def test_every_raft_method(store, client) -> None:
    run = Driven(store, client.sys)
    content = (await run("take_raft_snapshot")).content
    await store.run(client.write_data, "cubbyhole/later", data={"k": "v"})
    assert (await run("restore_raft_snapshot", content)).status_code == 204
    assert await store.run(client.read, "cubbyhole/later") is None
    assert (await run("force_restore_raft_snapshot", content)).status_code == 204
    assert methods(Raft) - run.called == NO_PEERS | ENTERPRISE
    # Each of these says why.
    with pytest.raises(InvalidRequest, match="the storage is a database, not Raft"):
        await run("read_raft_config")
    with pytest.raises(InvalidRequest, match="the storage is a database, not Raft"):
        await run("remove_raft_node", "node1")
    with pytest.raises(InvalidRequest, match="the storage is a database, not Raft"):
        await run("join_raft_cluster", "https://other:8200")


# What a client keeps to itself: its connection, its token, and the groups of methods above.
OF_THE_CLIENT = {
    "adapter", "url", "token", "session", "allow_redirects", "auth", "secrets", "sys",
    "get_policy",  # Driven with `parse=False` below; parsing needs a package of its own.
}  # fmt: skip


async def test_every_method_of_the_client_itself(store, client) -> None:
    def drive() -> set[str]:
        called = set()

        def call(name: str, /, *args, **more):
            called.add(name)
            found = getattr(client, name)
            return found(*args, **more) if callable(found) else found

        call("write", "cubbyhole/a", k="v")
        call("write_data", "cubbyhole/b", data={"k": "v"})
        assert call("read", "cubbyhole/a")["data"] == {"k": "v"}
        assert call("list", "cubbyhole")["data"]["keys"] == ["a", "b"]
        call("delete", "cubbyhole/a")
        assert client.read("cubbyhole/a") is None
        wrapped = client.read("cubbyhole/b", wrap_ttl="60s")["wrap_info"]["token"]
        assert client.sys.unwrap(wrapped)["data"] == {"k": "v"}
        assert call("seal_status")["sealed"] is False
        assert call("ha_status")["is_self"] is True
        assert call("key_status")["term"] == 1
        assert call("rekey_status")["started"] is False
        assert call("generate_root_status")["started"] is False
        assert "token/lookup-self" in client.get_policy("default")
        made = client.auth.token.create(policies=["default"], ttl="1h")["auth"]
        assert call("lookup_token", made["client_token"])["data"]["ttl"] == 3600
        assert client.lookup_token(made["accessor"], accessor=True)["data"]["id"] == ""
        assert call("renew_token", made["client_token"])["auth"]["lease_duration"] == 3600
        call("revoke_token", made["accessor"], accessor=True)
        made = client.auth.token.create(policies=["default"], wrap_ttl="60s")
        root = client.token
        call("auth_cubbyhole", made["wrap_info"]["token"])
        assert client.token.startswith("hvs.")
        assert call("is_authenticated") is True
        call("logout", revoke_token=True)
        assert client.is_authenticated() is False
        client.token = root
        client.sys.enable_auth_method("userpass")
        client.auth.userpass.create_or_update_user("ada", password="pw")
        call("login", "/v1/auth/userpass/login/ada", json={"password": "pw"})
        assert client.lookup_token()["data"]["display_name"] == "userpass-ada"
        return called

    called = await store.run(drive)
    public = {name for name in vars(hvac.Client) if not name.startswith("_")}
    assert public - called == OF_THE_CLIENT
