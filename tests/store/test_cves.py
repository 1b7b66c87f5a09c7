"""Holes that Vault and OpenBao had, each under its id: what concerns paths, names, bodies, leases."""

import pytest


async def test_cve_2026_93335_a_rule_about_one_spelling_is_a_rule_about_all(store) -> None:
    """Deny bypassed through case variants of names that are folded behind the decision."""
    token = await store.token_with(
        'path "sys/policies/acl/*" { capabilities = ["create", "read", "update", "delete"] }'
        ' path "sys/policies/acl/admin" { capabilities = ["deny"] }'
    )
    await store.ask("PUT", "sys/policies/acl/admin", {"policy": "# admin"})
    for name in ("admin", "ADMIN", "Admin", "%41dmin"):
        path = f"sys/policies/acl/{name}"
        assert (await store.ask("GET", path, token=token))[0] == 403, name
        assert (await store.ask("PUT", path, {"policy": "# mine"}, token=token))[0] == 403, name
        asked = {"path": path.replace("%41", "A")}
        _, said = await store.ask("POST", "sys/explain-self", asked, token=token)
        assert said["data"]["allowed"] is False
    status, said = await store.ask("PUT", "sys/policies/acl/Other", {"policy": "# x"}, token=token)
    assert status == 200
    assert "other" in said["warnings"][0]


@pytest.mark.parametrize(
    "rule", ["auth/userpass/users/Ada", "auth/userpass/users/A*", "auth/userpass/users/ADA"]
)
async def test_cve_2026_93335_a_rule_with_capitals_is_a_rule_about_all(store, rule) -> None:
    """The other side: a path in lower case is met by a rule that was not written so."""
    await store.ask("POST", "sys/auth/userpass", {"type": "userpass"})
    await store.ask("PUT", "auth/userpass/users/ada", {"password": "pw"})
    denied = await store.token_with(
        'path "auth/userpass/users/*" { capabilities = ["read"] }'
        f' path "{rule}" {{ capabilities = ["deny"] }}'
    )
    allowed = await store.token_with(f'path "{rule}" {{ capabilities = ["read"] }}')
    for token, status in ((denied, 403), (allowed, 200)):
        for name in ("ada", "Ada", "ADA"):
            path = f"auth/userpass/users/{name}"
            assert (await store.ask("GET", path, token=token))[0] == status, name
            _, said = await store.ask("POST", "sys/capabilities-self", {"path": path}, token=token)
            assert said["data"]["capabilities"] == (["read"] if status == 200 else ["deny"])
            _, said = await store.ask("POST", "sys/explain-self", {"path": path}, token=token)
            assert said["data"]["allowed"] is (status == 200)
            assert [each["governs"] for each in said["data"]["rules"]].count(True) == 1


async def test_cve_2026_93335_places_differ_by_their_case_and_names_in_them_do_not(store) -> None:
    """Mounts are two in two spellings; a rule about one is none about the other."""
    for mount in ("Team", "team"):
        await store.ask("POST", f"sys/auth/{mount}", {"type": "approle"})
        await store.ask("PUT", f"auth/{mount}/role/app", {"token_policies": "default"})
    token = await store.token_with('path "auth/Team/role/App" { capabilities = ["read"] }')
    assert (await store.ask("GET", "auth/Team/role/APP", token=token))[0] == 200
    assert (await store.ask("GET", "auth/team/role/App", token=token))[0] == 403
    token = await store.token_with('path "secret/data/App" { capabilities = ["read"] }')
    assert (await store.ask("GET", "secret/data/App", token=token))[0] == 404
    assert (await store.ask("GET", "secret/data/app", token=token))[0] == 403


@pytest.mark.parametrize(
    "path",
    [
        "secret/data/open/../closed", "secret/data/open/%2e%2e/closed", "secret/data/open/./x",
        "secret/data/open/.%2e/closed", "secret/data/open%2f..%2fclosed",
    ],
)  # fmt: skip
async def test_cve_2026_3605_relative_segments_are_refused_before_the_decision(store, path) -> None:
    from yarl import URL

    token = await store.token_with('path "secret/data/open/*" { capabilities = ["read"] }')
    await store.ask("PUT", "secret/data/closed", {"data": {"k": "v"}})
    url = URL(f"{store.address}/v1/{path}", encoded=True)
    reply = await store.http.request("GET", url, headers={"X-Vault-Token": token})
    assert reply.status == 400


@pytest.mark.parametrize("path", ["secret/metadata/app", "secret/metadata/app/"])
@pytest.mark.parametrize("rule", ["secret/metadata/app", "secret/metadata/app/"])
@pytest.mark.parametrize("method", ["LIST", "SCAN"])
async def test_cve_2026_63131_a_slash_more_or_less_escapes_no_deny(
    store, path, rule, method
) -> None:
    await store.ask("PUT", "secret/data/app/x", {"data": {"k": "v"}})
    token = await store.token_with(
        'path "secret/metadata/*" { capabilities = ["list", "scan"] }'
        f' path "{rule}" {{ capabilities = ["deny"] }}'
    )
    assert (await store.ask(method, path, token=token))[0] == 403


async def test_cve_2025_62513_no_value_stands_in_a_record_unless_the_mount_says_so(store) -> None:
    await store.ask("POST", "sys/mounts/transit", {"type": "transit"})
    await store.ask("PUT", "transit/encrypt/k", {"plaintext": "bWFya2VkLXZhbHVl"})
    await store.ask("PUT", "secret/data/a", {"data": {"k": "marked-value"}})
    await store.ask("GET", "secret/data/a")
    await store.ask("PUT", "cubbyhole/a", {"k": "marked-value"})
    records = str(store.records())
    assert "marked-value" not in records
    assert "bWFya2VkLXZhbHVl" not in records
    await store.ask("POST", "sys/mounts/old", {"type": "kv-v1"})
    keys = {"audit_non_hmac_request_keys": ["owner"], "audit_non_hmac_response_keys": ["owner"]}
    await store.ask("POST", "sys/mounts/old/tune", keys)
    await store.ask("PUT", "old/a", {"owner": "team-a", "k": "marked-value"})
    await store.ask("GET", "old/a")
    request, answer = store.records()[-4], store.records()[-1]
    assert request["request"]["data"]["owner"] == "team-a"
    assert answer["response"]["data"]["owner"] == "team-a"
    assert "marked-value" not in str(store.records())


@pytest.mark.parametrize("namespace", ["ROOT", "root/x", "./root", "team"])
async def test_ghsa_mwr2_only_the_root_namespace_is_the_root_namespace(store, namespace) -> None:
    assert (await store.ask("GET", "sys/mounts", X_Vault_Namespace=namespace))[0] in (400, 404)


async def test_ghsa_8w8f_a_derived_rsa_key_is_refused(store) -> None:
    await store.ask("POST", "sys/mounts/transit", {"type": "transit"})
    body = {"type": "rsa-2048", "derived": True}
    assert (await store.ask("POST", "transit/keys/k", body))[0] == 400
