"""Vault's documented fields of identity: each is taken on every path that has it, and shown.

What the fields mean for whoever logs in is in `test_identity`.
Fields: https://developer.hashicorp.com/vault/api-docs/secret/identity, as of 1.16.
"""

from dataclasses import dataclass, field
from typing import Any

import pytest

SHOWN = {
    "entity": {
        "aliases", "creation_time", "direct_group_ids", "disabled", "group_ids", "id",
        "inherited_group_ids", "last_update_time", "merged_entity_ids", "metadata", "name",
        "policies",
    },
    "group": {
        "alias", "creation_time", "id", "last_update_time", "member_entity_ids",
        "member_group_ids", "metadata", "modify_index", "name", "parent_group_ids", "policies",
        "type",
    },
    "entity-alias": {
        "canonical_id", "creation_time", "custom_metadata", "id", "last_update_time", "local",
        "metadata", "mount_accessor", "mount_path", "mount_type", "name",
    },
    "group-alias": {
        "canonical_id", "creation_time", "id", "last_update_time", "merged_from_canonical_ids",
        "metadata", "mount_accessor", "mount_path", "mount_type", "name",
    },
}  # fmt: skip


@dataclass
class World:
    """Two of everything that a field may name; words of a table stand for their ids."""

    store: Any
    ids: dict[str, str] = field(default_factory=dict)

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        return await self.store.ask(method, f"identity/{path}", body)

    async def make(self, path: str, **body: Any) -> str:
        status, said = await self.ask("POST", path, body)
        assert status == 200, said
        return said["data"]["id"]

    async def shown(self, kind: str, row_id: str) -> dict[str, Any]:
        status, said = await self.ask("GET", f"{kind}/id/{row_id}")
        assert status == 200, said
        return said["data"]

    def meant(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.ids.get(each, each) for each in value]
        return self.ids.get(value, value) if isinstance(value, str) else value


@pytest.fixture
async def world(store) -> World:
    made = World(store)
    for name in ("one", "two"):
        await store.ask("POST", f"sys/auth/up{name}", {"type": "userpass"})
        _, said = await store.ask("GET", f"sys/auth/up{name}")
        made.ids[f"@mount {name}"] = said["data"]["accessor"]
        made.ids[f"@entity {name}"] = await made.make("entity", name=f"entity-{name}")
        made.ids[f"@group {name}"] = await made.make("group", name=f"group-{name}")
        made.ids[f"@outside {name}"] = await made.make(
            "group", name=f"outside-{name}", type="external"
        )
    return made


# Kind, field, a value to make it with, another to change it to.
FIELDS = [
    ("entity", "name", "ada", "eve"),
    ("entity", "metadata", {"team": "red"}, {"team": "blue", "floor": "2"}),
    ("entity", "policies", ["a", "b"], ["c"]),
    ("entity", "disabled", True, False),
    ("group", "name", "ops", "devs"),
    ("group", "type", "external", None),
    ("group", "metadata", {"team": "red"}, {}),
    ("group", "policies", ["a", "b"], ["c"]),
    ("group", "member_entity_ids", ["@entity one"], ["@entity two"]),
    ("group", "member_group_ids", ["@group one"], ["@group two"]),
    ("entity-alias", "name", "ada", "eve"),
    ("entity-alias", "canonical_id", "@entity one", "@entity two"),
    ("entity-alias", "mount_accessor", "@mount one", "@mount two"),
    ("entity-alias", "custom_metadata", {"mail": "a@x"}, {"mail": "b@x"}),
    ("group-alias", "name", "ada", "eve"),
    ("group-alias", "canonical_id", "@outside one", "@outside two"),
    ("group-alias", "mount_accessor", "@mount one", "@mount two"),
]
NEEDED = {
    "entity": {"name": "it"},
    "group": {"name": "it"},
    "entity-alias": {
        "name": "it", "canonical_id": "@entity one", "mount_accessor": "@mount one",
    },
    "group-alias": {
        "name": "it", "canonical_id": "@outside one", "mount_accessor": "@mount one",
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "name", "first", "second"), FIELDS, ids=[f"{each[0]} {each[1]}" for each in FIELDS]
)
async def test_each_documented_field_is_taken_and_shown(world, kind, name, first, second) -> None:
    body = {key: world.meant(value) for key, value in {**NEEDED[kind], name: first}.items()}
    made = await world.make(kind, **body)
    shown = await world.shown(kind, made)
    assert shown[name] == world.meant(first)
    assert SHOWN[kind] <= shown.keys()
    if second is None:
        return
    # By id in the path, by id in the body, and by name where a kind has that.
    ways = [(f"{kind}/id/{made}", {}), (kind, {"id": made})]
    if kind in ("entity", "group") and name != "name":
        ways += [(f"{kind}/name/it", {}), (kind, {"name": "it"})]
    for number, (path, more) in enumerate(ways):
        value = second if number % 2 == 0 else first
        status, said = await world.ask("POST", path, {name: world.meant(value), **more})
        assert status in (200, 204), said
        now = await world.shown(kind, made)
        assert now[name] == (world.meant(value) or None if value == {} else world.meant(value))
        # What was not given stays.
        for key, kept in body.items():
            assert key == name or now[key] == kept
    assert (await world.ask("DELETE", f"{kind}/id/{made}"))[0] == 204
    assert (await world.ask("GET", f"{kind}/id/{made}"))[0] == 404


@pytest.mark.parametrize("kind", ["entity", "group"])
async def test_by_name_in_the_path_one_is_made_read_listed_and_removed(world, kind) -> None:
    body = {"policies": ["a"], "metadata": {"team": "red"}}
    status, said = await world.ask("POST", f"{kind}/name/new", body)
    assert (status, said["data"]["name"]) == (200, "new")
    status, said = await world.ask("GET", f"{kind}/name/new")
    assert (said["data"]["policies"], said["data"]["metadata"]) == (["a"], {"team": "red"})
    assert "new" in (await world.ask("LIST", f"{kind}/name"))[1]["data"]["keys"]
    assert (await world.ask("DELETE", f"{kind}/name/new"))[0] == 204
    assert (await world.ask("GET", f"{kind}/name/new"))[0] == 404


async def test_a_name_is_made_up_where_none_is_given(world) -> None:
    for kind in ("entity", "group"):
        shown = await world.shown(kind, await world.make(kind))
        assert shown["name"].startswith(f"{kind}_")


@pytest.mark.parametrize("kind", [*SHOWN])
async def test_ids_are_listed_with_what_they_are(world, kind) -> None:
    body = {key: world.meant(value) for key, value in NEEDED[kind].items()}
    made = await world.make(kind, **body)
    _, said = await world.ask("LIST", f"{kind}/id")
    assert made in said["data"]["keys"]
    assert said["data"]["key_info"][made]["name"] == "it"


async def test_many_entities_are_removed_at_once(world) -> None:
    ids = [world.ids["@entity one"], world.ids["@entity two"]]
    assert (await world.ask("POST", "entity/batch-delete", {"entity_ids": ids}))[0] == 204
    for each in ids:
        assert (await world.ask("GET", f"entity/id/{each}"))[0] == 404
    assert (await world.ask("POST", "entity/batch-delete", {}))[0] == 400


@pytest.mark.parametrize("kind", ["entity", "group"])
async def test_each_way_to_look_one_up(world, kind) -> None:
    owner = world.ids["@entity one" if kind == "entity" else "@outside one"]
    other = world.ids["@entity two" if kind == "entity" else "@outside two"]
    mount, elsewhere = world.ids["@mount one"], world.ids["@mount two"]
    alias = await world.make(f"{kind}-alias", name="ada", canonical_id=owner, mount_accessor=mount)
    await world.make(f"{kind}-alias", name="ada", canonical_id=other, mount_accessor=elsewhere)
    name = (await world.shown(kind, owner))["name"]
    for body, found in (
        ({"id": owner}, owner),
        ({"name": name}, owner),
        ({"alias_id": alias}, owner),
        ({"alias_name": "ada", "alias_mount_accessor": mount}, owner),
        ({"alias_name": "ada", "alias_mount_accessor": elsewhere}, other),
        ({"id": "none"}, None),
        ({"alias_id": "none"}, None),
        ({"alias_name": "eve", "alias_mount_accessor": mount}, None),
    ):
        status, said = await world.ask("POST", f"lookup/{kind}", body)
        assert (status, said["data"]["id"] if said else None) == (200 if found else 204, found)
    for body in ({}, {"alias_name": "ada"}, {"alias_mount_accessor": mount}):
        assert (await world.ask("POST", f"lookup/{kind}", body))[0] == 400
    # An alias of the other kind leads nowhere.
    wrong = "group" if kind == "entity" else "entity"
    assert (await world.ask("POST", f"lookup/{wrong}", {"alias_id": alias}))[0] == 204


async def test_each_field_of_a_merge(world) -> None:
    one, two = world.ids["@entity one"], world.ids["@entity two"]
    mount = world.ids["@mount one"]
    aliases = [
        await world.make("entity-alias", name=name, canonical_id=owner, mount_accessor=mount)
        for name, owner in (("ada", one), ("eve", two))
    ]
    third = await world.make("entity", name="third", policies=["c"])
    group = world.ids["@group one"]
    await world.ask("POST", f"group/id/{group}", {"member_entity_ids": [two]})
    for body in (
        {"to_entity_id": one},
        {"from_entity_ids": [two]},
        {"from_entity_ids": ["none"], "to_entity_id": one},
        {"from_entity_ids": [one], "to_entity_id": one},
        # Two aliases of one method: which stays has to be said.
        {"from_entity_ids": [two], "to_entity_id": one},
    ):
        status, said = await world.ask("POST", "entity/merge", {**body, "force": True})
        assert status == 400, (body, said)
    body = {"from_entity_ids": [third], "to_entity_id": one, "force": True}
    assert (await world.ask("POST", "entity/merge", body))[0] == 204
    body = {
        "from_entity_ids": [two], "to_entity_id": one,
        "conflicting_alias_ids_to_keep": [aliases[1]],
    }  # fmt: skip
    assert (await world.ask("POST", "entity/merge", body))[0] == 204
    shown = await world.shown("entity", one)
    assert [each["id"] for each in shown["aliases"]] == [aliases[1]]
    assert shown["aliases"][0]["merged_from_canonical_ids"] == [two]
    assert (shown["policies"], shown["merged_entity_ids"]) == (["c"], [third, two])
    assert shown["direct_group_ids"] == [group]
    assert (await world.ask("GET", f"entity/id/{two}"))[0] == 404


async def test_groups_of_groups_are_told_apart(world) -> None:
    one, two = world.ids["@group one"], world.ids["@group two"]
    entity = world.ids["@entity one"]
    await world.ask("POST", f"group/id/{one}", {"member_entity_ids": [entity]})
    await world.ask("POST", f"group/id/{two}", {"member_group_ids": [one]})
    shown = await world.shown("entity", entity)
    assert shown["direct_group_ids"] == [one]
    assert shown["inherited_group_ids"] == [two]
    assert sorted(shown["group_ids"]) == sorted([one, two])
    assert (await world.shown("group", one))["parent_group_ids"] == [two]
