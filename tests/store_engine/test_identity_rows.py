"""Identity, secret ids and failed logins: one suite for the fake and the real engines."""

import dataclasses

from tests.store_engine.opened import reads

from strongroom.store.engine.auth_contract import FailedLoginRow, SecretIdRow
from strongroom.store.engine.contract import Engine, MountRow, Transaction
from strongroom.store.engine.identity_contract import AliasRow, EntityRow, GroupRow

ADA = EntityRow("e1", "Ada", {"team": "red"}, ("p",), created=1.0, updated=1.0)
ALIAS = AliasRow("a1", "e1", "auth_userpass_1", "ada", {"username": "ada"})
SECRET = SecretIdRow("m", "role", b"\x01" * 32, "accessor1", 1.0, 100.0, ttl=99, uses_left=2)


@reads
async def test_an_entity_is_found_by_id_name_and_alias(engine: Engine) -> None:
    await engine.transact(lambda each: each.new_entity(ADA, ALIAS))
    view = engine.view
    assert view.entity("e1") == view.entity_by_name("ADA") == ADA
    assert view.alias_by_name("auth_userpass_1", "ada") == view.alias("a1") == ALIAS
    assert view.alias_by_name("auth_userpass_1", "Ada") is None
    assert view.alias_by_name("auth_userpass_1", "ada", group=True) is None
    assert list(view.aliases_of("e1")) == list(view.aliases()) == [ALIAS]
    assert list(view.entities()) == [ADA]
    assert view.entity_count() == 1
    assert view.entity("none") is view.entity_by_name("none") is view.alias("none") is None


@reads
async def test_only_what_matters_to_tokens_moves_the_generation(engine: Engine) -> None:
    before = engine.view.generation()
    await engine.transact(lambda each: each.new_entity(ADA, ALIAS))
    assert engine.view.generation() == before
    for work in (
        lambda each: each.put_entity(dataclasses.replace(ADA, disabled=True)),
        lambda each: each.put_alias(dataclasses.replace(ALIAS, metadata={})),
        lambda each: (
            each.put_group(GroupRow("g1", "devs")) or each.add_member("g1", "e1", "entity")
        ),
        lambda each: each.put_group(GroupRow("g1", "devs", policies=("p",))),
        lambda each: each.remove_member("g1", "e1"),
        lambda each: each.delete_alias("a1"),
        lambda each: each.delete_entity("e1"),
    ):
        await engine.transact(work)
        assert engine.view.generation() > before
        before = engine.view.generation()


@reads
async def test_groups_have_members_and_lose_them(engine: Engine) -> None:
    def work(each: Transaction) -> None:
        each.new_entity(ADA, ALIAS)
        for number in (1, 2):
            each.put_group(GroupRow(f"g{number}", f"Group{number}"))
        each.add_member("g1", "e1", "entity")
        each.add_member("g1", "e1", "entity")
        each.add_member("g2", "g1", "group")
        each.put_alias(AliasRow("a2", "g2", "auth_jwt_1", "admins", group=True))

    await engine.transact(work)
    view = engine.view
    assert list(view.groups_of("e1")) == ["g1"]
    assert list(view.groups_of("g1")) == ["g2"]
    assert list(view.members("g1", "entity")) == ["e1"]
    assert list(view.members("g2", "entity")) == []
    assert list(view.members("g2", "group")) == ["g1"]
    found = view.group_by_name("GROUP1")
    assert found is not None
    assert found.id == "g1"
    assert [each.id for each in view.groups()] == ["g1", "g2"]
    assert [each.id for each in view.aliases(group=True)] == ["a2"]
    await engine.transact(lambda each: each.delete_group("g2"))
    assert view.alias("a2") is None
    assert list(view.groups_of("g1")) == []
    await engine.transact(lambda each: each.delete_entity("e1"))
    assert list(view.members("g1", "entity")) == []
    assert view.alias("a1") is None


@reads
async def test_a_secret_id_is_found_counted_and_spent(engine: Engine) -> None:
    other = dataclasses.replace(SECRET, id=b"\x02" * 32, accessor="accessor2", expires=None)
    await engine.transact(lambda each: each.put_secret_id(SECRET) or each.put_secret_id(other))
    view = engine.view
    assert view.secret_id("m", SECRET.id) == view.secret_id_by_accessor("m", "accessor1") == SECRET
    assert view.secret_id("n", SECRET.id) is view.secret_id_by_accessor("n", "accessor1") is None
    assert list(view.secret_id_accessors("m", "role")) == ["accessor1", "accessor2"]
    uses = [
        await engine.transact(lambda each: each.use_secret_id("m", SECRET.id)) for _ in range(3)
    ]
    assert uses == [True, True, False]
    assert (found := view.secret_id("m", SECRET.id)) is not None
    assert found.uses_left == -1
    assert await engine.transact(lambda each: each.delete_spent_secret_ids(50.0, 10)) == 1
    assert list(view.secret_id_accessors("m", "role")) == ["accessor2"]
    await engine.transact(lambda each: each.put_secret_id(SECRET))
    assert await engine.transact(lambda each: each.delete_spent_secret_ids(100.0, 10)) == 1
    await engine.transact(lambda each: each.delete_secret_id("m", other.id))
    assert view.secret_id("m", other.id) is None
    await engine.transact(lambda each: each.put_secret_id(other))
    await engine.transact(lambda each: each.delete_secret_ids("m", "role"))
    assert list(view.secret_id_accessors("m", "role")) == []


@reads
async def test_failed_logins_are_kept_until_they_lapse(engine: Engine) -> None:
    rows = [FailedLoginRow("m", f"u{number}", number, 10.0 * number) for number in (1, 2, 3)]
    for row in rows:
        await engine.transact(lambda each, row=row: each.put_failed_login(row))
    locked = dataclasses.replace(rows[0], failures=5, locked=10.0)
    await engine.transact(lambda each: each.put_failed_login(locked))
    view = engine.view
    assert view.failed_login("m", "u1") == locked
    assert view.failed_login("m", "none") is None
    assert list(view.failed_logins()) == [locked, *rows[1:]]
    assert await engine.transact(lambda each: each.forget_failed_logins(15.0, 10)) == 1
    await engine.transact(lambda each: each.delete_failed_login("m", "u2"))
    assert list(view.failed_logins()) == rows[2:]


@reads
async def test_of_failed_logins_those_stay_that_lapse_last(engine: Engine) -> None:
    rows = [FailedLoginRow("m", f"u{number}", 1, 100.0 - number) for number in range(6)]
    other = FailedLoginRow("n", "u", 1, 1.0)
    for row in (*rows, other):
        await engine.transact(lambda each, row=row: each.put_failed_login(row))
    assert await engine.transact(lambda each: each.trim_failed_logins("m", 6, 10)) == 0
    assert await engine.transact(lambda each: each.trim_failed_logins("m", 3, 2)) == 2
    assert await engine.transact(lambda each: each.trim_failed_logins("m", 3, 2)) == 1
    assert list(engine.view.failed_logins()) == [*rows[:3], other]


@reads
async def test_a_removed_method_leaves_nothing(engine: Engine) -> None:
    mount = MountRow("auth", "userpass/", "userpass", "m", "auth_userpass_1")

    def work(each: Transaction) -> None:
        each.put_mount(mount)
        each.new_entity(ADA, ALIAS)
        each.put_secret_id(SECRET)
        each.put_failed_login(FailedLoginRow("m", "u", 1, 10.0))
        each.delete_mount(mount)

    await engine.transact(work)
    assert engine.view.alias("a1") is None
    assert engine.view.entity("e1") == ADA
    assert engine.view.secret_id("m", SECRET.id) is None
    assert list(engine.view.failed_logins()) == []
