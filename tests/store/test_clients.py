"""The public Python client of Vault against the store, unchanged."""

import hvac.exceptions
import pytest


async def test_hvac_writes_reads_and_retires_versions(store) -> None:
    client = store.hvac()
    kv = client.secrets.kv.v2
    assert await store.run(client.is_authenticated)
    for number in (1, 2, 3):
        made = await store.run(kv.create_or_update_secret, path="prod/db", secret={"n": number})
        assert made["data"]["version"] == number
    assert (await store.run(kv.read_secret_version, path="prod/db", raise_on_deleted_version=True))[
        "data"
    ]["data"] == {"n": 3}
    old = await store.run(
        kv.read_secret_version, path="prod/db", version=1, raise_on_deleted_version=True
    )
    assert old["data"]["metadata"]["version"] == 1
    await store.run(kv.delete_secret_versions, path="prod/db", versions=[2])
    with pytest.raises(hvac.exceptions.InvalidPath):
        await store.run(
            kv.read_secret_version, path="prod/db", version=2, raise_on_deleted_version=True
        )
    gone = await store.run(
        kv.read_secret_version, path="prod/db", version=2, raise_on_deleted_version=False
    )
    assert gone["data"]["data"] is None
    assert gone["data"]["metadata"]["deletion_time"]
    await store.run(kv.undelete_secret_versions, path="prod/db", versions=[2])
    back = await store.run(
        kv.read_secret_version, path="prod/db", version=2, raise_on_deleted_version=True
    )
    assert back["data"]["data"] == {"n": 2}
    await store.run(kv.destroy_secret_versions, path="prod/db", versions=[1])
    metadata = await store.run(kv.read_secret_metadata, path="prod/db")
    assert metadata["data"]["versions"]["1"]["destroyed"] is True
    assert metadata["data"]["current_version"] == 3
    assert (await store.run(kv.list_secrets, path=""))["data"]["keys"] == ["prod/"]
    await store.run(kv.delete_metadata_and_all_versions, path="prod/db")
    with pytest.raises(hvac.exceptions.InvalidPath):
        await store.run(kv.list_secrets, path="prod")


@pytest.mark.filterwarnings("ignore:The raise_on_deleted_version:DeprecationWarning")
async def test_hvac_check_and_set_patch_and_metadata(store) -> None:
    kv = store.hvac().secrets.kv.v2
    await store.run(kv.create_or_update_secret, path="a", secret={"x": "1", "y": "2"}, cas=0)
    with pytest.raises(hvac.exceptions.InvalidRequest):
        await store.run(kv.create_or_update_secret, path="a", secret={"x": "9"}, cas=0)
    await store.run(kv.patch, path="a", secret={"x": "3"})
    read = await store.run(kv.read_secret_version, path="a", raise_on_deleted_version=True)
    assert read["data"]["data"] == {"x": "3", "y": "2"}
    await store.run(
        kv.update_metadata,
        path="a",
        max_versions=2,
        cas_required=True,
        custom_metadata={"owner": "team"},
    )
    with pytest.raises(hvac.exceptions.InvalidRequest):
        await store.run(kv.create_or_update_secret, path="a", secret={"x": "9"})
    seen = await store.run(kv.read_secret_metadata, path="a")
    assert seen["data"]["custom_metadata"] == {"owner": "team"}
    await store.run(kv.configure, max_versions=5, mount_point="secret")
    assert (await store.run(kv.read_configuration, mount_point="secret"))["data"][
        "max_versions"
    ] == 5


async def test_old_versions_leave_when_there_are_too_many(store) -> None:
    kv = store.hvac().secrets.kv.v2
    for number in range(12):
        await store.run(kv.create_or_update_secret, path="a", secret={"n": number})
    metadata = (await store.run(kv.read_secret_metadata, path="a"))["data"]
    assert sorted(map(int, metadata["versions"])) == list(range(3, 13))
    with pytest.raises(hvac.exceptions.InvalidPath):
        await store.run(kv.read_secret_version, path="a", version=1, raise_on_deleted_version=True)


async def test_hvac_policies_mounts_and_tokens(store) -> None:
    client = store.hvac()
    policy = 'path "secret/data/*" { capabilities = ["read"] }'
    await store.run(client.sys.create_or_update_policy, name="Reader", policy=policy)
    assert "reader" in (await store.run(client.sys.list_policies))["data"]["policies"]
    assert (await store.run(client.sys.read_policy, name="reader"))["data"]["rules"] == policy
    await store.run(client.sys.enable_secrets_engine, "kv", path="team", options={"version": "2"})
    assert "team/" in (await store.run(client.sys.list_mounted_secrets_engines))["data"]
    await store.run(
        client.secrets.kv.v2.create_or_update_secret,
        path="x",
        secret={"k": "v"},
        mount_point="team",
    )
    with pytest.raises(hvac.exceptions.InvalidRequest):
        await store.run(
            client.sys.enable_secrets_engine, "kv", path="team", options={"version": "2"}
        )
    await store.run(client.sys.disable_secrets_engine, path="team")
    with pytest.raises(hvac.exceptions.InvalidPath):
        await store.run(
            client.secrets.kv.v2.read_secret_version,
            path="x",
            mount_point="team",
            raise_on_deleted_version=True,
        )
    made = await store.run(
        client.auth.token.create, policies=["reader"], ttl="1h", meta={"who": "me"}
    )
    assert made["auth"]["policies"] == ["default", "reader"]
    child = store.hvac(made["auth"]["client_token"])
    looked = await store.run(child.auth.token.lookup_self)
    assert looked["data"]["id"] == made["auth"]["client_token"]
    assert 3590 < looked["data"]["ttl"] <= 3600
    assert (await store.run(child.auth.token.renew_self, increment="2h"))["auth"][
        "lease_duration"
    ] == 7200
    with pytest.raises(hvac.exceptions.InvalidRequest):
        await store.run(client.auth.token.renew, token=store.root)
    said = await store.run(child.sys.get_capabilities, paths=["secret/data/x", "sys/mounts"])
    assert said["data"]["secret/data/x"] == ["read"]
    assert said["data"]["sys/mounts"] == ["deny"]
    await store.run(client.auth.token.revoke_accessor, made["auth"]["accessor"])
    with pytest.raises(hvac.exceptions.Forbidden):
        await store.run(child.auth.token.lookup_self)


async def test_a_child_gets_no_more_than_its_parent(store) -> None:
    token = await store.token_with('path "auth/token/create" { capabilities = ["update"] }')
    assert (await store.ask("POST", "auth/token/create", {"policies": ["root"]}, token=token))[
        0
    ] == 400
    assert (await store.ask("POST", "auth/token/create", {"policies": ["other"]}, token=token))[
        0
    ] == 400
    assert (await store.ask("POST", "auth/token/create", {"period": "1h"}, token=token))[0] == 400
    status, made = await store.ask("POST", "auth/token/create", {}, token=token)
    assert status == 200
    parent = (await store.ask("GET", "auth/token/lookup-self", token=token))[1]["data"]["accessor"]
    await store.ask("POST", "auth/token/revoke-accessor", {"accessor": parent})
    child = made["auth"]["client_token"]
    assert (await store.ask("GET", "auth/token/lookup-self", token=child))[0] == 403


async def test_the_preflight_of_the_command_line_client(store) -> None:
    token = await store.token_with('path "secret/data/app/*" { capabilities = ["read"] }')
    status, said = await store.ask("GET", "sys/internal/ui/mounts/secret/app/x", token=token)
    assert status == 200
    assert (said["data"]["path"], said["data"]["options"]) == ("secret/", {"version": "2"})
    other = await store.token_with('path "elsewhere/*" { capabilities = ["read"] }')
    assert (await store.ask("GET", "sys/internal/ui/mounts/secret/x", token=other))[0] == 403
    assert (
        "secret/"
        in (await store.ask("GET", "sys/internal/ui/mounts", token=token))[1]["data"]["secret"]
    )
    assert (await store.ask("GET", "sys/internal/ui/mounts", token=""))[1]["data"]["secret"] == {}
