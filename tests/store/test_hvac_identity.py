"""hvac drives the auth and identity endpoints it knows; one that is not driven is named."""

import inspect

from hvac.api.auth_methods import AppRole, Token, Userpass
from hvac.api.secrets_engines import Identity

# It asks no store.
NO_REQUEST = {"validate_member_id_params_for_group_type"}


def methods(kind: type) -> set[str]:
    """Every public method a class of hvac defines itself."""
    return {
        name
        for name, each in vars(kind).items()
        if not name.startswith("_") and inspect.isroutine(each)
    }


class Driven:
    """An hvac API whose methods run beside the loop, and are remembered.

    What hvac sends is known: no reply says that a parameter was ignored.
    """

    def __init__(self, store, api) -> None:
        self._store, self._api, self.called = store, api, set()

    async def __call__(self, name: str, /, *args, **kwargs):
        self.called.add(name)
        reply = await self._store.run(getattr(self._api, name), *args, **kwargs)
        warnings = (reply.get("warnings") or []) if isinstance(reply, dict) else []
        assert not [each for each in warnings if each.startswith("Endpoint ignored")]
        return reply


async def test_every_token_method(store) -> None:
    run = Driven(store, store.hvac().auth.token)
    await run("create_or_update_role", "r", allowed_policies=["default"])
    assert (await run("read_role", "r"))["data"]["name"] == "r"
    assert (await run("list_roles"))["data"]["keys"] == ["r"]
    made = (await run("create", policies=["default"], ttl="1h"))["auth"]
    assert (await run("create_orphan", policies=["default"]))["auth"]["orphan"] is True
    token, accessor = made["client_token"], made["accessor"]
    assert (await run("lookup", token))["data"]["accessor"] == accessor
    assert (await run("lookup_accessor", accessor))["data"]["id"] == ""
    assert (await run("lookup_self"))["data"]["path"] == "auth/token/root"
    assert (await run("renew", token, increment="2h"))["auth"]["lease_duration"] == 7200
    assert (await run("renew_accessor", accessor))["auth"]["client_token"] == ""
    assert accessor in (await run("list_accessors"))["data"]["keys"]
    other = Driven(store, store.hvac(token).auth.token)
    await other("renew_self")
    await other("revoke_self")
    for name, field in (
        ("revoke", "client_token"), ("revoke_accessor", "accessor"),
        ("revoke_and_orphan_children", "client_token"),
    ):  # fmt: skip
        made = (await run("create", policies=["default"]))["auth"]
        await run(name, made[field])
    await run("tidy")
    await run("delete_role", "r")
    assert methods(Token) - run.called - other.called == set()


async def test_every_approle_method(store) -> None:
    client = store.hvac()
    await store.run(client.sys.enable_auth_method, "approle")
    run = Driven(store, client.auth.approle)
    await run("create_or_update_approle", "ci", token_policies=["default"])
    assert (await run("list_roles"))["data"]["keys"] == ["ci"]
    assert (await run("read_role", "ci"))["data"]["bind_secret_id"] is True
    await run("update_role_id", "ci", "mine")
    assert (await run("read_role_id", "ci"))["data"]["role_id"] == "mine"
    await run("create_custom_secret_id", "ci", "chosen")
    assert (await run("read_secret_id", "ci", "chosen"))["data"]["secret_id_num_uses"] == 0
    await run("destroy_secret_id", "ci", "chosen")
    made = (await run("generate_secret_id", "ci", metadata={"a": "b"}))["data"]
    accessor = made["secret_id_accessor"]
    assert (await run("list_secret_id_accessors", "ci"))["data"]["keys"] == [accessor]
    assert (await run("read_secret_id_accessor", "ci", accessor))["data"]["metadata"] == {"a": "b"}
    said = await run("login", "mine", made["secret_id"], use_token=False)
    assert said["auth"]["metadata"] == {"a": "b", "role_name": "ci"}
    await run("destroy_secret_id_accessor", "ci", accessor)
    await run("delete_role", "ci")
    assert methods(AppRole) - run.called == set()


async def test_every_userpass_method(store) -> None:
    client = store.hvac()
    await store.run(client.sys.enable_auth_method, "userpass")
    run = Driven(store, client.auth.userpass)
    await run("create_or_update_user", "ada", password="pw", policies="default")
    assert (await run("list_user"))["data"]["keys"] == ["ada"]
    assert (await run("read_user", "ada"))["data"]["token_policies"] == ["default"]
    await run("update_password_on_user", "ada", "new")
    assert (await run("login", "ada", "new", use_token=False))["auth"]["entity_id"]
    await run("delete_user", "ada")
    assert methods(Userpass) - run.called == set()


async def test_every_identity_method(store) -> None:
    client = store.hvac()
    await store.run(client.sys.enable_auth_method, "userpass")
    methods_there = await store.run(client.sys.list_auth_methods)
    accessor = methods_there["data"]["userpass/"]["accessor"]
    run = Driven(store, client.secrets.identity)
    one = (await run("create_or_update_entity", "one", metadata={"a": "b"}))["data"]["id"]
    two = (await run("create_or_update_entity_by_name", "two"))["data"]["id"]
    assert (await run("read_entity", one))["data"]["metadata"] == {"a": "b"}
    assert (await run("read_entity_by_name", "two"))["data"]["id"] == two
    await run("update_entity", one, policies=["default"])
    assert set((await run("list_entities"))["data"]["keys"]) == {one, two}
    assert (await run("list_entities_by_name"))["data"]["keys"] == ["one", "two"]
    alias = (await run("create_or_update_entity_alias", "ada", one, accessor))["data"]["id"]
    assert (await run("read_entity_alias", alias))["data"]["canonical_id"] == one
    await run("update_entity_alias", alias, "bob", one, accessor)
    assert (await run("list_entity_aliases"))["data"]["keys"] == [alias]
    found = await run("lookup_entity", alias_name="bob", alias_mount_accessor=accessor)
    assert found["data"]["id"] == one
    group = (await run("create_or_update_group", "g", member_entity_ids=[one]))["data"]["id"]
    assert (await run("read_group", group))["data"]["member_entity_ids"] == [one]
    await run("update_group", group, "g", policies=["default"])
    assert (await run("list_groups"))["data"]["keys"] == [group]
    assert (await run("list_groups_by_name"))["data"]["keys"] == ["g"]
    assert (await run("lookup_group", name="g"))["data"]["id"] == group
    outside = (await run("create_or_update_group_by_name", "out", group_type="external"))["data"][
        "id"
    ]
    assert (await run("read_group_by_name", "out"))["data"]["type"] == "external"
    said = await run(
        "create_or_update_group_alias", "adm", mount_accessor=accessor, canonical_id=outside
    )
    group_alias = said["data"]["id"]
    await run(
        "update_group_alias", group_alias, "adm2", mount_accessor=accessor, canonical_id=outside
    )
    assert (await run("read_group_alias", group_alias))["data"]["name"] == "adm2"
    assert (await run("list_group_aliases"))["data"]["keys"] == [group_alias]
    await run("delete_group_alias", group_alias)
    await run("delete_group_by_name", "out")
    await run("delete_group", group)
    await run("delete_entity_alias", alias)
    await run("merge_entities", two, one)
    assert (await run("read_entity", one))["data"]["merged_entity_ids"] == [two]
    await run("delete_entity_by_name", "none")
    await run("delete_entity", one)
    await drive_identity_tokens(store, client, run)
    assert methods(Identity) - run.called == NO_REQUEST


async def drive_identity_tokens(store, client, run: Driven) -> None:
    assert (await run("configure_tokens_backend", "https://store.example"))["warnings"]
    assert (await run("read_tokens_backend_configuration"))["data"]["issuer"].endswith("example")
    await run("create_named_key", "k", allowed_client_ids=["shop"], algorithm="ES256")
    await run("create_or_update_role", "web", key="k", client_id="shop")
    assert (await run("read_named_key", "k"))["data"]["algorithm"] == "ES256"
    assert (await run("list_named_keys"))["data"]["keys"] == ["k"]
    assert (await run("read_role", "web"))["data"]["client_id"] == "shop"
    assert (await run("list_roles"))["data"]["keys"] == ["web"]
    policy = 'path "identity/oidc/token/web" { capabilities = ["read"] }'
    await store.run(client.sys.create_or_update_policy, "web", policy)
    users = client.auth.userpass
    await store.run(users.create_or_update_user, "eve", password="pw", policies="web")
    login = await store.run(users.login, "eve", "pw", use_token=False)
    caller = Driven(store, store.hvac(login["auth"]["client_token"]).secrets.identity)
    signed = (await caller("generate_signed_id_token", "web"))["data"]["token"]
    run.called |= caller.called
    assert await run("introspect_signed_id_token", signed, client_id="shop") == {"active": True}
    assert (await run("read_well_known_configurations"))["issuer"].startswith("https://store.ex")
    assert len((await run("read_active_public_keys"))["keys"]) == 2
    # What hvac sends here is a write of the key, and rotates nothing.
    await run("rotate_named_key", "k", verification_ttl="25h")
    assert (await run("read_named_key", "k"))["data"]["verification_ttl"] == 25 * 3600
    await run("delete_role", "web")
    await run("delete_named_key", "k")
