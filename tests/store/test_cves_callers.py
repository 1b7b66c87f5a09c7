"""Holes that Vault and OpenBao had, each under its id: what concerns callers and what they hold."""

import pytest

from strongroom.crypto import shamir
from strongroom.store.assembly import TOKEN_PURPOSE
from strongroom.store.engine.identity_contract import EntityRow, GroupRow
from strongroom.store.identity.resolve import Identity

READ = 'path "secret/data/{}" {{ capabilities = ["read"] }}'


@pytest.fixture
async def people(store):
    """A userpass method with two users, and a secret that the policy `team` lets read."""
    await store.ask("POST", "sys/auth/userpass", {"type": "userpass"})
    for name in ("ada", "bob"):
        await store.ask("POST", f"auth/userpass/users/{name}", {"password": "pw-" + name})
    await store.ask("PUT", "secret/data/team", {"data": {"k": "v"}})
    await store.ask("PUT", "sys/policies/acl/team", {"policy": READ.format("team")})
    return store


async def login(store, name: str) -> dict:
    body = {"password": f"pw-{name}"}
    status, said = await store.ask("POST", f"auth/userpass/login/{name}", body, token="")
    assert status == 200, said
    return said["auth"]


async def accessor(store, path: str = "userpass/") -> str:
    return (await store.ask("GET", "sys/auth"))[1]["data"][path]["accessor"]


@pytest.mark.parametrize("name", ["root", "ROOT", " root ", "Root\n"])
async def test_cve_2025_64761_no_group_makes_its_members_root(people, name) -> None:
    """A group of the root policy, written in another case, made its members root."""
    auth = await login(people, "ada")
    body = {"name": "g", "member_entity_ids": [auth["entity_id"]], "policies": ["team"]}
    assert (await people.ask("POST", "identity/group", body))[0] == 200
    for path in ("identity/group/name/g", "identity/group"):
        status, _ = await people.ask("POST", path, {**body, "policies": ["team", name]})
        assert status == 400
    assert (await people.ask("GET", "sys/audit", token=auth["client_token"]))[0] == 403
    _, said = await people.ask("GET", "auth/token/lookup-self", token=auth["client_token"])
    assert said["data"]["identity_policies"] == ["team"]


async def test_cve_2021_41802_an_alias_is_not_taken_over_by_who_may_write_aliases(people) -> None:
    """Writing an alias of somebody else's name gave the writer that entity's policies."""
    ada, bob = await login(people, "ada"), await login(people, "bob")
    await people.ask("POST", f"identity/entity/id/{ada['entity_id']}", {"policies": ["team"]})
    _, shown = await people.ask("GET", f"identity/entity/id/{bob['entity_id']}")
    alias = shown["data"]["aliases"][0]["id"]
    body = {"name": "ada", "mount_accessor": await accessor(people)}
    status, _ = await people.ask("POST", f"identity/entity-alias/id/{alias}", body)
    assert status == 400
    again = await login(people, "bob")
    assert again["entity_id"] == bob["entity_id"]
    assert (await people.ask("GET", "secret/data/team", token=again["client_token"]))[0] == 403
    assert (await login(people, "ada"))["entity_id"] == ada["entity_id"]


async def test_cve_2022_40186_a_login_changes_its_own_alias_alone(people) -> None:
    """With an alias in two methods, a login put its metadata at the other's alias."""
    await people.ask("POST", "sys/auth/other", {"type": "userpass"})
    await people.ask("POST", "auth/other/users/ada", {"password": "pw-ada"})
    ada = await login(people, "ada")
    body = {
        "name": "ada",
        "canonical_id": ada["entity_id"],
        "mount_accessor": await accessor(people, "other/"),
        "custom_metadata": {"floor": "2"},
    }
    assert (await people.ask("POST", "identity/entity-alias", body))[0] == 200
    await login(people, "ada")
    _, shown = await people.ask("GET", f"identity/entity/id/{ada['entity_id']}")
    aliases = {each["mount_path"]: each for each in shown["data"]["aliases"]}
    assert aliases["auth/other/"]["custom_metadata"] == {"floor": "2"}
    assert not aliases["auth/other/"]["metadata"]
    assert aliases["auth/userpass/"]["metadata"] == {"username": "ada"}
    assert not aliases["auth/userpass/"]["custom_metadata"]


async def test_cve_2026_46405_a_login_that_is_refused_leaves_no_token(people) -> None:
    """A method answered with an error and a token beside it."""
    await people.ask("POST", "sys/auth/approle", {"type": "approle"})
    await people.ask("POST", "auth/approle/role/ci", {"token_policies": "team"})
    _, said = await people.ask("GET", "auth/approle/role/ci/role-id")
    auth = await login(people, "ada")
    await people.ask("POST", f"identity/entity/id/{auth['entity_id']}", {"disabled": True})
    before = (await people.ask("LIST", "auth/token/accessors"))[1]["data"]["keys"]
    for path, body in (
        ("auth/userpass/login/ada", {"password": "pw-ada"}),  # Its entity is disabled.
        ("auth/userpass/login/ada", {"password": "wrong"}),
        ("auth/userpass/login/nobody", {"password": "pw-ada"}),
        ("auth/approle/login", {"role_id": said["data"]["role_id"], "secret_id": "wrong"}),
        ("auth/token/create", {"ttl": "never"}),
    ):
        token = None if path == "auth/token/create" else ""
        status, said_of_it = await people.ask("POST", path, body, token=token)
        assert status in (400, 403), path
        assert list(said_of_it) == ["errors"]
    assert (await people.ask("LIST", "auth/token/accessors"))[1]["data"]["keys"] == before


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "sys/leases/revoke", {"lease_id": "LEASE"}),
        ("PUT", "sys/leases/renew", {"lease_id": "LEASE"}),
        ("PUT", "sys/leases/lookup", {"lease_id": "LEASE"}),
        ("PUT", "sys/leases/revoke-prefix/auth/token", {}),
    ],
)
@pytest.mark.parametrize("namespace", ["team", "root/team", "..", "ROOT"])
async def test_cve_2026_45808_a_lease_is_not_reached_through_another_namespace(
    people, method, path, body, namespace
) -> None:
    """Leases were renewed and revoked across namespaces; here there is the root namespace only."""
    token = (await login(people, "ada"))["client_token"]
    await people.ask("POST", "sys/mounts/iss", {"type": "issuer"})
    _, made = await people.ask("GET", "iss/creds/app")
    body = dict.fromkeys(body, made["lease_id"])
    said = await people.ask(method, path, body, X_Vault_Namespace=namespace)
    assert said[0] in (400, 404)
    assert "namespace" in said[1]["errors"][0] or said[0] == 404
    _, still = await people.ask("PUT", "sys/leases/lookup", {"lease_id": made["lease_id"]})
    assert (still["data"]["last_renewal"], len(people.issuers[0].names)) == (None, 1)
    assert (await people.ask("GET", "auth/token/lookup-self", token=token))[0] == 200


@pytest.mark.parametrize("action", ["lookup-accessor", "renew-accessor", "revoke-accessor"])
async def test_cve_2026_40264_an_accessor_is_not_reached_through_another_namespace(
    people, action
) -> None:
    """GHSA-c36x-h252-g9x2 and this one: a token by its accessor from another tenant."""
    auth = await login(people, "ada")
    body = {"accessor": auth["accessor"]}
    said = await people.ask("POST", f"auth/token/{action}", body, X_Vault_Namespace="team")
    assert said[0] == 404
    assert (await people.ask("GET", "auth/token/lookup-self", token=auth["client_token"]))[0] == 200


@pytest.mark.parametrize("path", ["sys/renew", "sys/revoke", "sys/revoke-prefix/auth"])
async def test_cve_2026_45808_the_older_paths_of_leases_are_not_there(people, path) -> None:
    assert (await people.ask("PUT", path, {"lease_id": "x"}))[0] == 404


async def test_cve_2026_63132_a_token_is_found_by_its_keyed_hash_and_compared_by_no_text(
    people,
) -> None:
    """A recovery token was compared byte by byte; here no token's text is kept to compare with."""
    token = (await login(people, "ada"))["client_token"]
    kept = people.barrier.mac(TOKEN_PURPOSE).digest(token.encode())
    row = await people.read(lambda view: view.token(kept))
    assert row.display_name == "userpass-ada"
    assert token not in str(row)
    for near in (token[:-1], token + "A", token[:-1] + ("A" if token[-1] != "A" else "B")):
        assert (await people.ask("GET", "auth/token/lookup-self", token=near))[0] == 403


@pytest.mark.parametrize("key_type", ["aes256-gcm96", "chacha20-poly1305"])
async def test_cve_2023_4680_a_nonce_is_the_servers_to_choose(store, key_type) -> None:
    """A caller who chose the nonce could make one key use it twice."""
    await store.ask("POST", "sys/mounts/transit", {"type": "transit"})
    await store.ask("POST", "transit/keys/k", {"type": key_type})
    body = {"plaintext": "YQ==", "nonce": "AAAAAAAAAAAAAAAA"}
    assert (await store.ask("PUT", "transit/encrypt/k", body))[0] == 400
    batch = {"batch_input": [body]}
    _, said = await store.ask("PUT", "transit/encrypt/k", batch)
    assert "ciphertext" not in str(said)
    await store.ask("POST", "transit/keys/c", {"derived": True, "convergent_encryption": True})
    body["context"] = "YQ=="
    assert (await store.ask("PUT", "transit/encrypt/c", body))[0] == 400


def test_cve_2023_25000_shares_are_multiplied_without_tables_that_secrets_index() -> None:
    """A lookup by a secret byte leaves its trace in the cache."""
    names = set(shamir.split.__code__.co_names) | set(shamir.combine.__code__.co_names)
    functions = [value for value in vars(shamir).values() if hasattr(value, "__code__")]
    for function in functions:
        names |= set(function.__code__.co_names)
    tables = {
        name for name, value in vars(shamir).items() if isinstance(value, bytes | bytearray | list)
    }
    assert not names & tables


def test_cve_2025_5999_root_in_a_row_of_an_entity_or_group_counts_for_nothing() -> None:
    entity = EntityRow("e", "e", policies=("root", "team"))
    group = GroupRow("g", "g", "internal", policies=("root",))
    assert Identity(entity, (), (group,), frozenset({"g"})).policies == ("team",)
