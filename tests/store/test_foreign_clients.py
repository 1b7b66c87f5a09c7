"""What clients in other languages send as a matter of course, seen by driving the store with them."""

import uuid


async def test_spring_vault_sets_metadata(store) -> None:
    """Its Duration, and the null and the zeros of what it was not given."""
    body = {
        "cas_required": False, "custom_metadata": None, "delete_version_after": "5400s0ns",
        "max_versions": 0,
    }  # fmt: skip
    assert await store.ask("POST", "secret/metadata/a", body) == (204, None)
    _, said = await store.ask("GET", "secret/metadata/a")
    assert said["data"]["delete_version_after"] == "1h30m0s"


async def test_a_key_that_may_not_leave_is_a_wrong_request(store) -> None:
    """400 as Vault says it: who gets 403 looks for a policy to mend."""
    await store.ask("POST", "sys/mounts/transit", {"type": "transit"})
    for name, body in (("kept", {}), ("target", {"type": "rsa-2048"})):
        assert (await store.ask("POST", f"transit/keys/{name}", body))[0] == 200
    for path in ("export/encryption-key/kept", "byok-export/target/kept"):
        status, said = await store.ask("GET", f"transit/{path}")
        assert (status, said["errors"]) == (400, ["private key material is not exportable"])


async def test_leases_of_logins_are_changed_by_who_may(store) -> None:
    """By their holder where the default policy says so; a prefix and by force with sudo alone."""
    await store.ask("POST", "sys/auth/userpass", {"type": "userpass"})
    await store.ask("POST", "auth/userpass/users/ann", {"password": "p", "token_ttl": "1h"})
    tokens = []
    for _ in range(3):
        _, said = await store.ask("POST", "auth/userpass/login/ann", {"password": "p"}, token="")
        tokens.append(said["auth"]["client_token"])
    _, leases = await store.ask("LIST", "sys/leases/lookup/auth/userpass/login/ann")
    first = f"auth/userpass/login/ann/{leases['data']['keys'][0]}"
    status, said = await store.ask("PUT", "sys/leases/renew", {"lease_id": first}, token=tokens[0])
    assert (status, said["errors"]) == (400, ["tokens cannot be renewed through this endpoint"])
    assert (await store.ask("PUT", f"sys/leases/renew/{first}", {}))[0] == 400
    assert (await store.ask("PUT", f"sys/leases/revoke/{first}"))[0] == 204
    _, leases = await store.ask("LIST", "sys/leases/lookup/auth/userpass/login/ann")
    assert len(leases["data"]["keys"]) == 2
    second = f"auth/userpass/login/ann/{leases['data']['keys'][0]}"
    assert (await store.ask("PUT", "sys/leases/revoke", {"lease_id": second}))[0] == 204
    # A rule that allows it is not enough.
    weak = await store.token_with('path "sys/leases/revoke-*" { capabilities = ["update"] }')
    for verb in ("revoke-prefix", "revoke-force"):
        assert (await store.ask("PUT", f"sys/leases/{verb}/auth/userpass/login", token=weak))[
            0
        ] == 403
    assert (await store.ask("PUT", "sys/leases/revoke-prefix/auth/userpass/login"))[0] == 204
    for token in tokens:
        assert (await store.ask("GET", "auth/token/lookup-self", token=token))[0] == 403
    assert (await store.ask("PUT", "sys/leases/revoke-force/secret"))[0] == 204


async def test_a_list_of_aliases_says_what_vault_says(store) -> None:
    """vaultrs reads no list in which `local` is missing."""
    await store.ask("POST", "sys/auth/userpass", {"type": "userpass"})
    _, auth = await store.ask("GET", "sys/auth")
    accessor = auth["data"]["userpass/"]["accessor"]
    _, made = await store.ask("POST", "identity/entity", {"name": "ann"})
    body = {"canonical_id": made["data"]["id"], "mount_accessor": accessor, "name": "ann"}
    _, alias = await store.ask(
        "POST", "identity/entity-alias", {**body, "custom_metadata": {"team": "a"}}
    )
    _, said = await store.ask("LIST", "identity/entity-alias/id")
    assert said["data"]["key_info"] == {
        alias["data"]["id"]: {
            **body, "custom_metadata": {"team": "a"}, "local": False,
            "mount_path": "auth/userpass/", "mount_type": "userpass",
        }
    }  # fmt: skip


async def test_a_restored_key_has_the_name_that_the_body_gives(store) -> None:
    """vaultrs sends it there; without it the copy ran into its original."""
    await store.ask("POST", "sys/mounts/transit", {"type": "transit"})
    body = {"exportable": True, "allow_plaintext_backup": True}
    await store.ask("POST", "transit/keys/first", body)
    _, said = await store.ask("GET", "transit/backup/first")
    backup = said["data"]["backup"]
    for name, status in (("second", 204), ("a/b", 400), ("a\nb", 400), ("", 400)):
        body = {"backup": backup, "name": name}
        assert (await store.ask("POST", "transit/restore", body))[0] == status, name
    # The path's name is the one that counts, as everywhere.
    body = {"backup": backup, "name": "fourth"}
    assert (await store.ask("POST", "transit/restore/third", body))[0] == 204
    _, said = await store.ask("LIST", "transit/keys")
    assert said["data"]["keys"] == ["first", "second", "third"]


async def test_an_empty_reply_has_a_type(store) -> None:
    """vault-java-driver's `seal()` fails when a 204 does not say application/json, as Vault's do."""
    headers = {"X-Vault-Token": store.root}
    address = f"{store.address}/v1/sys/policies/acl/gone"
    reply = await store.http.request("DELETE", address, headers=headers)
    named = {name.lower(): value for name, value in reply.headers}
    assert (reply.status, reply.body, named["content-type"]) == (204, b"", "application/json")


async def test_an_upgrade_of_kv_says_what_has_changed(store) -> None:
    """vault-java-driver's `upgrade()` waits for Vault's 200, which has a warning in it."""
    await store.ask("POST", "sys/mounts/old", {"type": "kv"})
    body = {"options": {"version": 2}}
    status, said = await store.ask("POST", "sys/mounts/old/tune", body)
    assert (status, len(said["warnings"])) == (200, 1)
    assert "version 2" in said["warnings"][0]
    assert await store.ask("POST", "sys/mounts/old/tune", body) == (204, None)


async def test_null_is_not_given(store) -> None:
    """async-hvac sends each parameter that it knows, those it was not given as null."""
    body = {"renewable": None, "policies": ["default"], "no_parent": None, "ttl": None}
    status, said = await store.ask("POST", "auth/token/create", body)
    assert (status, said["auth"]["renewable"], said["auth"]["orphan"]) == (200, True, False)


async def test_an_audited_header_is_shown_by_the_name_that_was_asked_for(store) -> None:
    """Terraform's `vault_audit_request_header` looks for its own spelling, and crashes without."""
    path = "sys/config/auditing/request-headers"
    assert (await store.ask("POST", f"{path}/X-Req", {"hmac": True}))[0] == 204
    for spelling in ("X-Req", "x-req"):
        _, said = await store.ask("GET", f"{path}/{spelling}")
        assert said["data"] == {spelling: {"hmac": True}}
    _, said = await store.ask("GET", path)
    assert said["data"]["headers"] == {"x-req": {"hmac": True}}
    status, said = await store.ask("GET", f"{path}/X-Other")
    assert (status, said["errors"]) == (400, ["Could not find header in config"])


async def test_the_tuning_of_a_mount_is_beside_the_envelope_too(store) -> None:
    """As Vault's documentation shows it, and where the npm package @litehex/node-vault reads it."""
    await store.ask("POST", "sys/auth/approle", {"type": "approle"})
    for path in ("mounts/secret", "auth/approle", "mounts/auth/approle"):
        _, said = await store.ask("GET", f"sys/{path}/tune")
        assert said["data"]["default_lease_ttl"] > 0
        assert {name: said[name] for name in said["data"]} == said["data"]


async def test_a_wrapped_secret_id_is_known_by_its_accessor(store) -> None:
    """Terraform's `with_wrapped_accessor` keeps it by the accessor, and fails at an empty one."""
    await store.ask("POST", "sys/auth/approle", {"type": "approle"})
    await store.ask("POST", "auth/approle/role/r", {"token_policies": "default"})
    path = "auth/approle/role/r/secret-id"
    _, wrapped = await store.ask("POST", path, X_Vault_Wrap_TTL="60")
    _, said = await store.ask("LIST", path)
    assert said["data"]["keys"] == [wrapped["wrap_info"]["wrapped_accessor"]]
    # A UUID, as Vault's are; the provider's own test wants one.
    assert str(uuid.UUID(said["data"]["keys"][0])) == said["data"]["keys"][0]


async def test_a_batch_to_sign_answers_200_with_the_errors_of_its_items(store) -> None:
    """As Vault does, and as Terraform's `vault_transit_sign` reads it; encryption answers 400."""
    await store.ask("POST", "sys/mounts/transit", {"type": "transit"})
    await store.ask("POST", "transit/keys/k", {"type": "ed25519"})
    batch = {"batch_input": [{"input": "YQ=="}, {"input": "no base64"}]}
    status, said = await store.ask("POST", "transit/sign/k", batch)
    good, bad = said["data"]["batch_results"]
    assert (status, "signature" in good, "error" in bad) == (200, True, True)
    batch["batch_input"][0]["signature"] = batch["batch_input"][1]["signature"] = good["signature"]
    status, said = await store.ask("POST", "transit/verify/k", batch)
    assert (status, said["data"]["batch_results"][0]["valid"]) == (200, True)
    assert "error" in said["data"]["batch_results"][1]
    assert said["data"]["batch_results"][1]["valid"] is False
    await store.ask("POST", "transit/keys/e")
    batch = {"batch_input": [{"plaintext": "YQ=="}, {"plaintext": "no base64"}]}
    assert (await store.ask("POST", "transit/encrypt/e", batch))[0] == 400


async def test_a_role_that_is_gone_is_told_by_500_to_who_asks_for_its_secret_id(store) -> None:
    """Terraform makes role and secret id anew after this, and stops at 400."""
    await store.ask("POST", "sys/auth/approle", {"type": "approle"})
    body = {"secret_id_accessor": "any"}
    for role in ("gone", "Gone"):
        status, said = await store.ask(
            "POST", f"auth/approle/role/{role}/secret-id-accessor/lookup", body
        )
        assert (status, said["errors"]) == (500, [f'role "{role}" does not exist'])


async def test_a_key_for_hmac_says_how_long_it_is(store) -> None:
    """Terraform's `vault_transit_secret_backend_key` crashes without."""
    await store.ask("POST", "sys/mounts/transit", {"type": "transit"})
    for kind, size in (("hmac", 32), ("aes256-gcm96", None)):
        _, said = await store.ask("POST", f"transit/keys/{kind}", {"type": kind})
        assert said["data"].get("key_size") == size


async def test_a_version_below_one_is_the_newest(store) -> None:
    """vault-env and the rest of Bank-Vaults read each secret with `version=-1`."""
    for value in ("a", "b"):
        await store.ask("POST", "secret/data/a", {"data": {"k": value}})
    for path in ("secret/data/a", "secret/subkeys/a"):
        for version in ("-1", "0"):
            status, said = await store.ask("GET", f"{path}?version={version}")
            assert (status, said["data"]["metadata"]["version"]) == (200, 2)
    # A comparison is with what was meant, or with nothing.
    assert (await store.ask("GET", "secret/diff/a?from=-1"))[0] == 400
