"""Every method that hvac has for `sys/`, by hvac's own list: one without a case here fails.

What belongs to an edition that costs money, or to a storage that is not there, has a case too:
it is refused in Vault's form, and never answered as if it had been done.
"""

import inspect

import pytest
from hvac.api.system_backend import (
    Auth,
    Capabilities,
    Lease,
    Mount,
    Namespace,
    Policies,
    Policy,
    Quota,
    Wrapping,
)
from hvac.exceptions import Forbidden, InvalidPath, InvalidRequest, UnexpectedError

POLICY = 'path "secret/data/*" { capabilities = ["read"] }'
AREAS = (Auth, Capabilities, Lease, Mount, Namespace, Policies, Policy, Quota, Wrapping)

# mounts


def enable_secrets_engine(client) -> None:
    client.sys.enable_secrets_engine("kv", path="team", options={"version": "2"}, description="d")
    assert client.sys.list_mounted_secrets_engines()["data"]["team/"]["description"] == "d"


def list_mounted_secrets_engines(client) -> None:
    said = client.sys.list_mounted_secrets_engines()
    assert {"secret/", "sys/", "cubbyhole/"} <= set(said["data"])
    assert said["secret/"]["type"] == "kv"


def retrieve_mount_option(client) -> None:
    assert client.sys.retrieve_mount_option("secret", "version", "1") == "2"


def read_mount_configuration(client) -> None:
    assert client.sys.read_mount_configuration("secret")["data"]["max_lease_ttl"] == 2764800


def tune_mount_configuration(client) -> None:
    client.sys.tune_mount_configuration(
        "secret",
        default_lease_ttl="1h",
        description="d",
        audit_non_hmac_request_keys=["a"],
        listing_visibility="unauth",
        passthrough_request_headers=["X-One"],
        options={"version": "2"},
    )
    data = client.sys.read_mount_configuration("secret")["data"]
    assert (data["default_lease_ttl"], data["description"]) == (3600, "d")
    assert data["passthrough_request_headers"] == ["X-One"]


def move_backend(client) -> None:
    client.sys.move_backend("secret", "moved")
    assert "moved/" in client.sys.list_mounted_secrets_engines()["data"]


def disable_secrets_engine(client) -> None:
    enable_secrets_engine(client)
    client.sys.disable_secrets_engine("team")
    client.sys.disable_secrets_engine("team")
    assert "team/" not in client.sys.list_mounted_secrets_engines()["data"]


# auth methods


def enable_auth_method(client) -> None:
    client.sys.enable_auth_method("userpass", path="people", description="d")
    assert client.sys.list_auth_methods()["data"]["people/"]["type"] == "userpass"


def list_auth_methods(client) -> None:
    assert client.sys.list_auth_methods()["token/"]["type"] == "token"


def read_auth_method_tuning(client) -> None:
    enable_auth_method(client)
    assert client.sys.read_auth_method_tuning("people")["data"]["default_lease_ttl"] == 2764800


def tune_auth_method(client) -> None:
    enable_auth_method(client)
    client.sys.tune_auth_method("people", default_lease_ttl="2h", max_lease_ttl="4h")
    data = client.sys.read_auth_method_tuning("people")["data"]
    assert (data["default_lease_ttl"], data["max_lease_ttl"]) == (7200, 14400)


def disable_auth_method(client) -> None:
    enable_auth_method(client)
    client.sys.disable_auth_method("people")
    assert "people/" not in client.sys.list_auth_methods()["data"]


# policies


def create_or_update_policy(client) -> None:
    client.sys.create_or_update_policy("p", POLICY)
    client.sys.create_or_update_policy("p", {"path": {"a/*": {"capabilities": ["read"]}}})


def read_policy(client) -> None:
    client.sys.create_or_update_policy("p", POLICY)
    assert client.sys.read_policy("p")["data"]["rules"] == POLICY


def list_policies(client) -> None:
    create_or_update_policy(client)
    assert client.sys.list_policies()["data"]["policies"] == ["default", "p", "root"]


def delete_policy(client) -> None:
    create_or_update_policy(client)
    client.sys.delete_policy("p")
    with pytest.raises(InvalidPath):
        client.sys.read_policy("p")
    for fixed in ("root", "default"):
        with pytest.raises(InvalidRequest):
            client.sys.delete_policy(fixed)


def create_or_update_acl_policy(client) -> None:
    client.sys.create_or_update_acl_policy("p", POLICY)


def read_acl_policy(client) -> None:
    create_or_update_acl_policy(client)
    assert client.sys.read_acl_policy("p")["data"] == {"name": "p", "policy": POLICY}


def list_acl_policies(client) -> None:
    create_or_update_acl_policy(client)
    assert client.sys.list_acl_policies()["data"]["keys"] == ["default", "p", "root"]


def delete_acl_policy(client) -> None:
    create_or_update_acl_policy(client)
    client.sys.delete_acl_policy("p")
    with pytest.raises(InvalidPath):
        client.sys.read_acl_policy("p")


def refused(call, *arguments, **fields) -> None:
    with pytest.raises((InvalidPath, InvalidRequest, UnexpectedError)) as caught:
        call(*arguments, **fields)
    assert "unsupported" in str(caught.value)


def list_egp_policies(client) -> None:
    refused(client.sys.list_egp_policies)


def read_egp_policy(client) -> None:
    refused(client.sys.read_egp_policy, "p")


def create_or_update_egp_policy(client) -> None:
    refused(client.sys.create_or_update_egp_policy, "p", "main = rule { true }", "advisory", ["*"])


def delete_egp_policy(client) -> None:
    refused(client.sys.delete_egp_policy, "p")


def list_rgp_policies(client) -> None:
    refused(client.sys.list_rgp_policies)


def read_rgp_policy(client) -> None:
    refused(client.sys.read_rgp_policy, "p")


def create_or_update_rgp_policy(client) -> None:
    refused(client.sys.create_or_update_rgp_policy, "p", "main = rule { true }", "advisory")


def delete_rgp_policy(client) -> None:
    refused(client.sys.delete_rgp_policy, "p")


def create_namespace(client) -> None:
    refused(client.sys.create_namespace, "team")


def list_namespaces(client) -> None:
    refused(client.sys.list_namespaces)


def delete_namespace(client) -> None:
    refused(client.sys.delete_namespace, "team")


def get_capabilities(client) -> None:
    client.sys.create_or_update_policy("p", POLICY)
    made = client.auth.token.create(policies=["p"])["auth"]
    for who in ({"token": made["client_token"]}, {"accessor": made["accessor"]}):
        said = client.sys.get_capabilities(["secret/data/a", "other"], **who)["data"]
        assert said["secret/data/a"] == ["read"]
        assert said["other"] == ["deny"]
    assert client.sys.get_capabilities(["x"])["data"]["capabilities"] == ["root"]


# leases


def lease(client) -> str:
    client.sys.enable_secrets_engine("issuer", path="iss")
    return client.read("iss/creds/app")["lease_id"]


def read_lease(client) -> None:
    lease_id = lease(client)
    assert client.sys.read_lease(lease_id)["data"]["id"] == lease_id
    with pytest.raises(InvalidRequest):
        client.sys.read_lease("iss/creds/app/none")


def list_leases(client) -> None:
    lease_id = lease(client)
    said = client.sys.list_leases("iss/creds/app")["data"]["keys"]
    assert said == [lease_id.rpartition("/")[2]]


def renew_lease(client) -> None:
    assert client.sys.renew_lease(lease(client), increment=60)["lease_duration"] == 60


def revoke_lease(client) -> None:
    lease_id = lease(client)
    client.sys.revoke_lease(lease_id)
    with pytest.raises(InvalidRequest):
        client.sys.read_lease(lease_id)


def revoke_prefix(client) -> None:
    lease_id = lease(client)
    client.sys.revoke_prefix("iss/creds")
    with pytest.raises(InvalidRequest):
        client.sys.read_lease(lease_id)


def revoke_force(client) -> None:
    lease_id = lease(client)
    client.sys.revoke_force("iss/creds")
    with pytest.raises(InvalidRequest):
        client.sys.read_lease(lease_id)


# quotas


def create_or_update_quota(client) -> None:
    client.sys.create_or_update_quota("q", rate=1000.5, path="secret", interval="2m")


def read_quota(client) -> None:
    create_or_update_quota(client)
    data = client.sys.read_quota("q")["data"]
    assert (data["rate"], data["interval"], data["path"]) == (1000.5, 120, "secret/")


def list_quotas(client) -> None:
    create_or_update_quota(client)
    assert client.sys.list_quotas()["data"]["keys"] == ["q"]


def delete_quota(client) -> None:
    create_or_update_quota(client)
    client.sys.delete_quota("q")
    with pytest.raises(InvalidPath):
        client.sys.list_quotas()


# wrapping


def wrap(client) -> None:
    assert client.sys.wrap({"k": "v"}, ttl=60)["wrap_info"]["ttl"] == 60


def unwrap(client) -> None:
    token = client.sys.wrap({"k": "v"}, ttl=60)["wrap_info"]["token"]
    assert client.sys.unwrap(token)["data"] == {"k": "v"}
    with pytest.raises((InvalidRequest, Forbidden)):
        client.sys.unwrap(token)


METHODS = [
    name
    for area in AREAS
    for name, _ in inspect.getmembers(area, inspect.isfunction)
    if not name.startswith("_")
]
CASES = {name: each for name, each in globals().items() if name in METHODS}


@pytest.mark.parametrize("method", METHODS)
async def test_hvac_system(store, method) -> None:
    assert method in CASES, "a method of hvac without a case"
    await store.run(CASES[method], store.hvac())
