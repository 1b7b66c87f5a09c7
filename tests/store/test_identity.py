"""Identity: one entity for each caller, groups that add policies, and templates of policies."""

import pytest

from strongroom.store.assembly import add_missing_mounts

READ = 'path "secret/data/{}" {{ capabilities = ["read"] }}'


@pytest.fixture
async def people(store):
    """A userpass method with two users."""
    await store.ask("POST", "sys/auth/userpass", {"type": "userpass"})
    for name in ("ada", "bob"):
        await store.ask("POST", f"auth/userpass/users/{name}", {"password": "pw-" + name})
    await store.ask("PUT", "secret/data/team", {"data": {"k": "v"}})
    await store.ask("PUT", "sys/policies/acl/team", {"policy": READ.format("team")})
    return store


async def login(store, name: str) -> dict:
    status, said = await store.ask(
        "POST", f"auth/userpass/login/{name}", {"password": "pw-" + name.lower()}, token=""
    )
    assert status == 200, said
    return said["auth"]


async def accessor(store, path: str = "userpass/") -> str:
    return (await store.ask("GET", "sys/auth"))[1]["data"][path]["accessor"]


async def test_an_entity_is_made_at_the_first_login_and_found_at_the_next(people) -> None:
    first, second = await login(people, "ada"), await login(people, "Ada")
    assert first["entity_id"] == second["entity_id"] != (await login(people, "bob"))["entity_id"]
    _, said = await people.ask("GET", f"identity/entity/id/{first['entity_id']}")
    entity = said["data"]
    assert entity["name"].startswith("entity_")
    (alias,) = entity["aliases"]
    assert (alias["name"], alias["mount_type"], alias["mount_path"]) == (
        "ada", "userpass", "auth/userpass/",
    )  # fmt: skip
    assert alias["metadata"] == {"username": "ada"}
    looked = await people.ask("GET", "auth/token/lookup-self", token=first["client_token"])
    assert looked[1]["data"]["entity_id"] == first["entity_id"]
    assert people.records()[-1]["auth"]["entity_id"] == first["entity_id"]


async def test_policies_of_the_entity_count_at_once(people) -> None:
    auth = await login(people, "ada")
    token, entity = auth["client_token"], auth["entity_id"]
    assert (await people.ask("GET", "secret/data/team", token=token))[0] == 403
    body = {"policies": ["team"]}
    assert (await people.ask("POST", f"identity/entity/id/{entity}", body))[0] == 204
    assert (await people.ask("GET", "secret/data/team", token=token))[0] == 200
    looked = (await people.ask("GET", "auth/token/lookup-self", token=token))[1]["data"]
    assert looked["identity_policies"] == ["team"]
    again = await login(people, "ada")
    assert again["policies"] == ["default", "team"]
    assert again["token_policies"] == ["default"]
    assert again["identity_policies"] == ["team"]
    assert people.records()[-1]["response"]["auth"]["identity_policies"] == ["team"]
    said = await people.ask(
        "POST", "sys/capabilities", {"token": token, "path": "secret/data/team"}
    )
    assert said[1]["data"]["capabilities"] == ["read"]


async def test_an_entity_that_is_named_twice_is_merged_once(people) -> None:
    first, second = [
        (await people.ask("POST", "identity/entity", {"name": name}))[1]["data"]["id"]
        for name in ("first", "second")
    ]
    body = {"from_entity_ids": [second, second], "to_entity_id": first}
    assert await people.ask("POST", "identity/entity/merge", body) == (204, None)
    _, shown = await people.ask("GET", f"identity/entity/id/{first}")
    assert shown["data"]["merged_entity_ids"] == [second]


async def test_a_template_that_does_not_close_is_refused_when_it_is_written(people) -> None:
    body = {"policy": 'path "secret/data/{{identity.entity.name/*" { capabilities = ["deny"] }'}
    status, said = await people.ask("PUT", "sys/policies/acl/half", body)
    assert (status, "unbalanced templating" in said["errors"][0]) == (400, True)
    assert (await people.ask("GET", "sys/policies/acl/half"))[0] == 404


async def test_a_disabled_or_deleted_entity_is_refused(people) -> None:
    auth = await login(people, "ada")
    entity, token = auth["entity_id"], auth["client_token"]
    await people.ask("POST", f"identity/entity/id/{entity}", {"disabled": True})
    assert (await people.ask("GET", "auth/token/lookup-self", token=token))[0] == 403
    assert await people.ask(
        "POST", "auth/userpass/login/ada", {"password": "pw-ada"}, token=""
    ) == (403, {"errors": ["permission denied"]})
    await people.ask("POST", f"identity/entity/id/{entity}", {"disabled": False})
    assert (await people.ask("GET", "auth/token/lookup-self", token=token))[0] == 200
    assert (await people.ask("DELETE", f"identity/entity/id/{entity}"))[0] == 204
    assert (await people.ask("GET", "auth/token/lookup-self", token=token))[0] == 403
    assert (await login(people, "ada"))["entity_id"] != entity


async def test_an_entity_without_policies_has_a_list_of_none(people) -> None:
    """As in Vault: programs go through the list."""
    _, made = await people.ask("POST", "identity/entity", {"name": "plain"})
    for path in ("id/" + made["data"]["id"], "name/plain"):
        assert (await people.ask("GET", f"identity/entity/{path}"))[1]["data"]["policies"] == []


async def test_groups_add_policies_through_groups(people) -> None:
    auth = await login(people, "ada")
    _, inner = await people.ask(
        "POST", "identity/group", {"name": "inner", "member_entity_ids": [auth["entity_id"]]}
    )
    _, outer = await people.ask(
        "POST",
        "identity/group",
        {"name": "outer", "policies": ["team"], "member_group_ids": [inner["data"]["id"]]},
    )
    assert (await people.ask("GET", "secret/data/team", token=auth["client_token"]))[0] == 200
    _, said = await people.ask("GET", f"identity/entity/id/{auth['entity_id']}")
    assert said["data"]["direct_group_ids"] == [inner["data"]["id"]]
    assert said["data"]["inherited_group_ids"] == [outer["data"]["id"]]
    status, said = await people.ask(
        "POST", "identity/group/name/inner", {"member_group_ids": [outer["data"]["id"]]}
    )
    assert status == 400
    assert "cycle" in said["errors"][0]
    await people.ask("POST", "identity/group/name/inner", {"member_entity_ids": []})
    assert (await people.ask("GET", "secret/data/team", token=auth["client_token"]))[0] == 403


async def test_merging_keeps_tokens_and_asks_which_alias_stays(people) -> None:
    ada, bob = await login(people, "ada"), await login(people, "bob")
    await people.ask("POST", f"identity/entity/id/{ada['entity_id']}", {"policies": ["team"]})
    body = {"from_entity_ids": [bob["entity_id"]], "to_entity_id": ada["entity_id"]}
    status, said = await people.ask("POST", "identity/entity/merge", body)
    assert status == 400
    assert "same mount" in said["errors"][0]
    _, shown = await people.ask("GET", f"identity/entity/id/{bob['entity_id']}")
    body["conflicting_alias_ids_to_keep"] = [shown["data"]["aliases"][0]["id"]]
    assert (await people.ask("POST", "identity/entity/merge", body))[0] == 204
    _, shown = await people.ask("GET", f"identity/entity/id/{ada['entity_id']}")
    assert [each["name"] for each in shown["data"]["aliases"]] == ["bob"]
    assert shown["data"]["merged_entity_ids"] == [bob["entity_id"]]
    assert (await people.ask("GET", "secret/data/team", token=bob["client_token"]))[0] == 200
    assert (await login(people, "bob"))["entity_id"] == ada["entity_id"]


async def test_templates_are_filled_with_the_caller(people) -> None:
    mount = await accessor(people)
    policy = "".join(
        f'path "secret/data/{each}" {{ capabilities = ["read"] }}\n'
        for each in (
            "by-name/{{identity.entity.name}}",
            "by-alias/{{identity.entity.aliases.%s.name}}/*" % mount,
            "by-team/{{identity.entity.metadata.team}}",
            "by-group/{{identity.groups.names.devs.id}}",
        )
    )
    await people.ask("PUT", "sys/policies/acl/default", {"policy": policy})
    auth = await login(people, "ada")
    await people.ask(
        "POST",
        f"identity/entity/id/{auth['entity_id']}",
        {"name": "Ada L", "metadata": {"team": "red"}},
    )
    _, group = await people.ask(
        "POST", "identity/group", {"name": "devs", "member_entity_ids": [auth["entity_id"]]}
    )
    paths = {
        "by-name/Ada L": True,
        "by-name/bob": False,
        "by-alias/ada/x": True,
        "by-alias/bob/x": False,
        "by-team/red": True,
        f"by-group/{group['data']['id']}": True,
    }
    said = await people.ask(
        "POST",
        "sys/capabilities",
        {"token": auth["client_token"], "paths": [f"secret/data/{each}" for each in paths]},
    )
    found = {path: said[1]["data"][f"secret/data/{path}"] == ["read"] for path in paths}
    assert found == paths


@pytest.mark.parametrize("value", ["*", "+", "a/b", "a*", "a,b", "..", "{{identity.entity.id}}"])
async def test_ghsa_59w7_a_template_value_never_widens_a_policy(people, value) -> None:
    await people.ask(
        "PUT",
        "sys/policies/acl/default",
        {"policy": READ.format("{{identity.entity.metadata.team}}/*").replace("{{{{", "{{")},
    )
    auth = await login(people, "ada")
    await people.ask(
        "POST", f"identity/entity/id/{auth['entity_id']}", {"metadata": {"team": value}}
    )
    said = await people.ask(
        "POST",
        "sys/capabilities",
        {
            "token": auth["client_token"],
            "paths": ["secret/data/x/y", f"secret/data/{value}/y", "secret/data/a/b/c"],
        },
    )
    assert all(each == ["deny"] for each in said[1]["data"].values())


@pytest.mark.parametrize("value", ["red", "a/b", "r+d", "a,b", "a*b", "*", "+", "é\u200b", "{x}"])
async def test_a_template_value_never_lifts_a_denial(people, value) -> None:
    denial = 'path "secret/data/{{identity.entity.metadata.team}}/own" { capabilities = ["deny"] }'
    body = {"policy": READ.format("*") + denial}
    await people.ask("PUT", "sys/policies/acl/default", body)
    auth = await login(people, "ada")
    entity = f"identity/entity/id/{auth['entity_id']}"
    await people.ask("POST", entity, {"metadata": {"team": value}})
    denied, allowed = f"secret/data/{value}/own", f"secret/data/{value}/other"
    body = {"token": auth["client_token"], "paths": [denied, allowed]}
    said = (await people.ask("POST", "sys/capabilities", body))[1]["data"]
    assert (said[denied], said[allowed]) == (["deny"], ["read"])
    # Without a value there is nobody whom it could mean.
    await people.ask("POST", entity, {"metadata": {}})
    said = (await people.ask("POST", "sys/capabilities", body))[1]["data"]
    assert said[denied] == ["read"]


@pytest.mark.parametrize("name", ["root", "Root", " root", "ROOT\t"])
async def test_cve_2025_5999_root_is_never_given_by_identity(people, name) -> None:
    auth = await login(people, "ada")
    for path in (f"identity/entity/id/{auth['entity_id']}", "identity/group"):
        status, said = await people.ask("POST", path, {"policies": [name]})
        assert (status, said) == (400, {"errors": ["policies cannot contain root"]})
    assert (await people.ask("GET", "sys/audit", token=auth["client_token"]))[0] == 403


async def test_cve_2024_9180_who_may_write_entities_does_not_become_root(people) -> None:
    operator = await people.token_with('path "identity/*" { capabilities = ["create", "update"] }')
    auth = await login(people, "ada")
    await people.ask(
        "POST", f"identity/entity/id/{auth['entity_id']}", {"policies": ["root"]}, token=operator
    )
    assert (await people.ask("GET", "sys/audit", token=auth["client_token"]))[0] == 403


async def test_cve_2021_43998_an_entity_has_one_alias_for_a_method(people) -> None:
    auth = await login(people, "ada")
    body = {
        "name": "carol",
        "canonical_id": auth["entity_id"],
        "mount_accessor": await accessor(people),
    }
    status, said = await people.ask("POST", "identity/entity-alias", body)
    assert status == 400
    assert "is there already" in said["errors"][0]


async def test_an_alias_made_by_hand_is_the_one_a_login_finds(people) -> None:
    _, entity = await people.ask("POST", "identity/entity", {"name": "Carol", "policies": "team"})
    body = {
        "name": "ADA",
        "canonical_id": entity["data"]["id"],
        "mount_accessor": await accessor(people),
        "custom_metadata": {"desk": "4"},
    }
    status, alias = await people.ask("POST", "identity/entity-alias", body)
    assert status == 200
    assert (await login(people, "ada"))["entity_id"] == entity["data"]["id"]
    _, shown = await people.ask("GET", f"identity/entity-alias/id/{alias['data']['id']}")
    assert shown["data"]["custom_metadata"] == {"desk": "4"}
    assert shown["data"]["metadata"] == {"username": "ada"}
    assert (await people.ask("DELETE", f"identity/entity-alias/id/{alias['data']['id']}"))[0] == 204
    assert (await login(people, "ada"))["entity_id"] != entity["data"]["id"]


async def test_what_is_not_there_and_what_cannot_be(people) -> None:
    for path in ("entity/id/none", "entity/name/none", "group/id/none", "entity-alias/id/none"):
        assert await people.ask("GET", f"identity/{path}") == (404, {"errors": []})
    assert (await people.ask("LIST", "identity/group/id"))[0] == 404
    for path, body in (
        ("entity", {"name": " "}),
        ("entity", {"metadata": {"k": ["x"]}}),
        ("entity", {"metadata": {"k": "v" * 513}}),
        ("entity/id/none", {"name": "x"}),
        ("group", {"type": "odd"}),
        ("group", {"member_entity_ids": ["none"]}),
        ("group", {"type": "external", "member_entity_ids": ["none"]}),
        ("entity-alias", {"name": "x", "mount_accessor": "none"}),
        ("entity-alias", {"name": "x"}),
        ("group-alias", {"name": "x", "mount_accessor": "none", "canonical_id": "none"}),
        ("lookup/entity", {}),
        ("entity/merge", {}),
        ("entity/batch-delete", {}),
    ):
        assert (await people.ask("POST", f"identity/{path}", body))[0] == 400, (path, body)
    assert await people.ask("POST", "identity/lookup/entity", {"name": "none"}) == (204, None)


async def test_an_alias_of_no_group_makes_one_from_outside(people) -> None:
    accessor = (await people.ask("GET", "sys/auth"))[1]["data"]["token/"]["accessor"]
    alias = {"name": "staff", "mount_accessor": accessor}
    _, made = await people.ask("POST", "identity/group-alias", alias)
    group = (await people.ask("GET", f"identity/group/id/{made['data']['canonical_id']}"))[1][
        "data"
    ]
    assert (group["type"], group["alias"]["id"]) == ("external", made["data"]["id"])
    _, again = await people.ask("POST", "identity/group-alias", alias)
    assert again["data"] == made["data"]
    assert len((await people.ask("LIST", "identity/group/id"))[1]["data"]["keys"]) == 1


@pytest.mark.parametrize("thing", ["entity", "group"])
async def test_a_name_keeps_its_case_and_is_found_in_any(people, thing) -> None:
    path = f"identity/{thing}/name"
    _, made = await people.ask("POST", f"{path}/Ada.Lovelace", {"metadata": {"a": "1"}})
    assert made["data"]["name"] == "Ada.Lovelace"
    for name in ("ada.lovelace", "ADA.LOVELACE"):
        status, said = await people.ask("GET", f"{path}/{name}")
        assert (status, said["data"]["name"]) == (200, "Ada.Lovelace")
        assert said["data"]["id"] == made["data"]["id"]
    assert (await people.ask("LIST", path))[1]["data"]["keys"] == ["Ada.Lovelace"]
    # Written again under another spelling it is the same one, as it is written now.
    await people.ask("POST", f"{path}/ADA.Lovelace", {"policies": ["team"]})
    said = (await people.ask("GET", f"identity/{thing}/id/{made['data']['id']}"))[1]["data"]
    assert (said["name"], said["policies"]) == ("ADA.Lovelace", ["team"])
    assert (await people.ask("DELETE", f"{path}/ada.lovelace"))[0] == 204
    assert (await people.ask("GET", f"{path}/ADA.Lovelace"))[0] == 404


@pytest.mark.parametrize("thing", ["entity", "group"])
@pytest.mark.parametrize("name", ["chief", "Chief", "CHIEF", "%43hief", "chief%20", "%20Chief"])
async def test_cve_2026_93335_a_rule_about_a_name_holds_however_it_is_written(
    people, thing, name
) -> None:
    path = f"identity/{thing}/name"
    token = await people.token_with(
        f'path "{path}/*" {{ capabilities = ["create", "read", "update", "delete"] }}'
        f' path "{path}/chief" {{ capabilities = ["deny"] }}'
    )
    for method, body in (("POST", {"policies": ["team"]}), ("GET", None), ("DELETE", None)):
        await people.ask(method, f"{path}/{name}", body, token=token)
    assert (await people.ask("LIST", path))[0] == 404, "it was made"
    await people.ask("POST", f"{path}/Chief", {"metadata": {"a": "1"}})
    await people.ask("POST", f"{path}/{name}", {"policies": ["team"]}, token=token)
    await people.ask("DELETE", f"{path}/{name}", token=token)
    said = (await people.ask("GET", f"{path}/chief"))[1]["data"]
    assert (said["name"], said["policies"] or []) == ("Chief", [])


async def test_a_groups_writes_are_counted(people) -> None:
    async def index() -> int:
        said = (await people.ask("GET", "identity/group/name/Team"))[1]["data"]
        return said["modify_index"]

    await people.ask("POST", "identity/group", {"name": "Team"})
    assert await index() == 1
    await people.ask("POST", "identity/group/name/team", {"policies": ["team"]})
    await people.ask("POST", "identity/group/name/team", {"policies": ["team"]})
    assert await index() == 3


async def test_aliases_go_with_their_auth_method(people) -> None:
    auth = await login(people, "ada")
    await people.ask("DELETE", "sys/auth/userpass")
    _, shown = await people.ask("GET", f"identity/entity/id/{auth['entity_id']}")
    assert shown["data"]["aliases"] == []


async def test_a_child_token_is_the_same_entity_and_an_orphan_is_nobody(people) -> None:
    policy = 'path "auth/token/create*" { capabilities = ["update", "sudo"] }'
    await people.ask("PUT", "sys/policies/acl/default", {"policy": policy})
    auth = await login(people, "ada")
    made = []
    for path in ("auth/token/create", "auth/token/create-orphan"):
        said = await people.ask("POST", path, {}, token=auth["client_token"])
        made.append(said[1]["auth"]["entity_id"])
    assert made == [auth["entity_id"], ""]


async def test_a_cluster_of_an_earlier_version_gets_the_mount(store) -> None:
    def earlier(each) -> None:
        for row in each.mounts():
            if row.type == "identity":
                each.delete_mount(row)

    await store.engine.transact(earlier)
    assert (await store.ask("POST", "identity/entity", {}))[0] == 404
    await store.engine.transact(add_missing_mounts)
    assert (await store.ask("POST", "identity/entity", {}))[0] == 200


async def test_metadata_is_a_map_or_words(people) -> None:
    for given, kept in (
        ({"team": "red"}, {"team": "red"}),
        ("team=red", {"team": "red"}),
        (["team=red", "floor=a=b"], {"team": "red", "floor": "a=b"}),
        # A number is its digits, and true is 1.
        ({"uid": 1000, "admin": True}, {"uid": "1000", "admin": "1"}),
        ("", None),
    ):
        body = {"metadata": given}
        assert (await people.ask("POST", "identity/entity/name/one", body))[0] in (200, 204)
        _, shown = await people.ask("GET", "identity/entity/name/one")
        assert shown["data"]["metadata"] == kept
    for wrong in ("team", ["team"], 7, {"a": [1]}):
        body = {"metadata": wrong}
        assert (await people.ask("POST", "identity/entity/name/one", body))[0] == 400


@pytest.mark.parametrize("kind", ["entity", "group"])
async def test_who_is_looked_up_is_said_in_one_way(people, kind: str) -> None:
    """By the name alone one would be found who is not that of the id."""
    path, conflict = f"identity/lookup/{kind}", "query parameter conflict"
    both = {"alias_name": "a", "alias_mount_accessor": "m"}
    for body in ({"name": "a", "id": "x"}, {"name": "a", "id": ""}, {**both, "name": "a"}):
        status, said = await people.ask("POST", path, body)
        assert status == 400
        assert conflict in said["errors"][0]
    assert (await people.ask("POST", path, both))[0] == 204
    for lacking in ({}, {"alias_name": "a"}):
        status, said = await people.ask("POST", path, lacking)
        assert status == 400
        assert conflict not in said["errors"][0]
