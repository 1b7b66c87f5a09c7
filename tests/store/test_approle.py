"""AppRole: roles, secret ids that are used up, and nothing that reaches into another role."""

import pytest

from strongroom.store.auth.approle import AppRole
from strongroom.store.auth.lockout import Lockout


@pytest.fixture
async def role(store):
    await store.ask("POST", "sys/auth/approle", {"type": "approle"})
    body = {"token_policies": ["team"], "token_ttl": "10m", "secret_id_ttl": "1h"}
    assert (await store.ask("POST", "auth/approle/role/Ci", body))[0] == 204
    return store


async def role_id(store, name="ci") -> str:
    return (await store.ask("GET", f"auth/approle/role/{name}/role-id"))[1]["data"]["role_id"]


async def secret_id(store, name="ci", **body) -> dict:
    status, said = await store.ask("POST", f"auth/approle/role/{name}/secret-id", body)
    assert status == 200, said
    return said["data"]


async def login(store, role: str, secret: str):
    body = {"role_id": role, "secret_id": secret}
    return await store.ask("POST", "auth/approle/login", body, token="")


async def test_a_login_by_role_and_secret_id(role) -> None:
    made = await secret_id(role, metadata='{"job": "7"}')
    assert (made["secret_id_ttl"], made["secret_id_num_uses"]) == (3600, 0)
    status, said = await login(role, await role_id(role), made["secret_id"])
    assert status == 200
    auth = said["auth"]
    assert auth["metadata"] == {"job": "7", "role_name": "ci"}
    assert auth["policies"] == ["default", "team"]
    assert auth["lease_duration"] == 600
    looked = await role.ask("GET", "auth/token/lookup-self", token=auth["client_token"])
    assert looked[1]["data"]["display_name"] == "approle"
    assert made["secret_id"] not in str(role.records())


async def test_metadata_may_be_written_as_on_a_command_line(role) -> None:
    """`vault write auth/approle/role/ci/secret-id metadata=env=prod,job=7`, as in Vault."""
    for text, wanted in (
        ("env=prod", {"env": "prod"}),
        (" a = b ,,c=d", {"a": "b", "c": "d"}),
        ("eyJhIjoiYiJ9", {"a": "b"}),
        ("ZW52PXByb2Q=", {"env": "prod"}),
    ):
        made = await secret_id(role, metadata=text)
        _, said = await login(role, await role_id(role), made["secret_id"])
        assert said["auth"]["metadata"] == {**wanted, "role_name": "ci"}
    for text in ("a=b=c", "a=", "=b", "alone", "a=b,alone", '{"a": "b"', "[1]", "WzFd", "////"):
        path = "auth/approle/role/ci/secret-id"
        assert (await role.ask("POST", path, {"metadata": text}))[0] == 400, text


async def test_a_wrong_pair_has_one_answer(role) -> None:
    good, made = await role_id(role), await secret_id(role)
    wrong = (400, {"errors": ["invalid role or secret ID"]})
    assert await login(role, good, "wrong") == wrong
    assert await login(role, "wrong", made["secret_id"]) == wrong
    assert await login(role, "wrong", "") == wrong
    assert await login(role, good, "") == (400, {"errors": ["missing secret_id"]})
    assert await login(role, "", "x") == (400, {"errors": ["missing role_id"]})


async def test_a_secret_id_is_used_up_and_expires(role) -> None:
    good = await role_id(role)
    twice = (await secret_id(role, num_uses=2))["secret_id"]
    assert [(await login(role, good, twice))[0] for _ in range(3)] == [200, 200, 400]
    brief = (await secret_id(role, ttl="1m"))["secret_id"]
    role.clock.step_wall(61)
    assert (await login(role, good, brief))[0] == 400
    status, _said = await role.ask("POST", "auth/approle/tidy/secret-id")
    assert status == 202
    assert (await role.ask("LIST", "auth/approle/role/ci/secret-id"))[0] == 404


async def test_a_secret_id_cannot_have_more_than_its_role(role) -> None:
    await role.ask(
        "POST",
        "auth/approle/role/ci",
        {"secret_id_num_uses": 3, "secret_id_bound_cidrs": "10.0.0.0/8"},
    )
    path = "auth/approle/role/ci/secret-id"
    for body in (
        {"num_uses": 4}, {"ttl": "2h"}, {"cidr_list": "11.0.0.0/24"}, {"cidr_list": "nowhere"},
        {"metadata": "no json"}, {"metadata": {"a": 1}}, {"num_uses": -1},
    ):  # fmt: skip
        assert (await role.ask("POST", path, body))[0] == 400, body
    made = await secret_id(role, cidr_list="10.1.0.0/16", num_uses=2, ttl="10m")
    looked = await role.ask("POST", f"{path}/lookup", {"secret_id": made["secret_id"]})
    assert looked[1]["data"]["cidr_list"] == ["10.1.0.0/16"]
    status, said = await login(role, await role_id(role), made["secret_id"])
    assert status == 400
    assert "unauthorized by CIDR restrictions on the role" in said["errors"][0]


async def test_networks_of_the_secret_id_and_of_the_token(role) -> None:
    good = await role_id(role)
    far = await secret_id(role, cidr_list="10.0.0.0/8")
    status, said = await login(role, good, far["secret_id"])
    assert (status, "on the secret ID" in said["errors"][0]) == (400, True)
    bound = await secret_id(role, token_bound_cidrs="10.0.0.0/8")
    assert await login(role, good, bound["secret_id"]) == (403, {"errors": ["permission denied"]})
    near = await secret_id(role, token_bound_cidrs="127.0.0.0/8")
    token = (await login(role, good, near["secret_id"]))[1]["auth"]["client_token"]
    looked = await role.ask("GET", "auth/token/lookup-self", token=token)
    assert looked[1]["data"]["bound_cidrs"] == ["127.0.0.0/8"]


async def test_cve_2023_24999_an_accessor_reaches_its_own_role_alone(role) -> None:
    await role.ask("POST", "auth/approle/role/other", {"token_policies": "x"})
    made = await secret_id(role)
    accessor = {"secret_id_accessor": made["secret_id_accessor"]}
    for verb in ("lookup", "destroy"):
        status, said = await role.ask(
            "POST", f"auth/approle/role/other/secret-id-accessor/{verb}", accessor
        )
        assert status == 404
        assert "failed to find accessor entry" in said["errors"][0]
        path = f"auth/approle/role/other/secret-id/{verb}"
        assert await role.ask("POST", path, {"secret_id": made["secret_id"]}) == (204, None)
    assert (await login(role, await role_id(role, "other"), made["secret_id"]))[0] == 400
    assert (await login(role, await role_id(role), made["secret_id"]))[0] == 200
    assert (await role.ask("POST", "auth/approle/role/ci/secret-id-accessor/destroy", accessor))[
        0
    ] == 204
    assert (await login(role, await role_id(role), made["secret_id"]))[0] == 400


@pytest.mark.parametrize(
    ("word", "field", "value", "reset"),
    [
        ("policies", "token_policies", ["a", "b"], []),
        ("bound-cidr-list", "secret_id_bound_cidrs", ["10.0.0.0/8"], []),
        ("secret-id-bound-cidrs", "secret_id_bound_cidrs", ["10.0.0.0/8"], []),
        ("token-bound-cidrs", "token_bound_cidrs", ["10.0.0.0/8"], []),
        ("secret-id-num-uses", "secret_id_num_uses", 4, 0),
        ("secret-id-ttl", "secret_id_ttl", 60, 0),
        ("period", "token_period", 120, 0),
        ("token-num-uses", "token_num_uses", 9, 0),
        ("token-ttl", "token_ttl", 30, 0),
        ("token-max-ttl", "token_max_ttl", 900, 0),
    ],
)
async def test_each_field_has_a_path_of_its_own(role, word, field, value, reset) -> None:
    path = f"auth/approle/role/ci/{word}"
    assert (await role.ask("POST", path, {field: value}))[0] == 204
    assert (await role.ask("GET", path))[1]["data"][field] == value
    assert (await role.ask("GET", "auth/approle/role/ci"))[1]["data"][field] == value
    assert (await role.ask("DELETE", path))[0] == 204
    assert (await role.ask("GET", path))[1]["data"][field] == reset
    assert (await role.ask("POST", path, {}))[0] == 400
    assert (await role.ask("GET", f"auth/approle/role/none/{word}"))[0] == 404


async def test_a_role_needs_something_that_binds_it(role) -> None:
    sentence = {"errors": ["at least one constraint should be enabled on the role"]}
    path = "auth/approle/role/ci/bind-secret-id"
    assert (await role.ask("POST", path, {"bind_secret_id": False})) == (400, sentence)
    await role.ask(
        "POST",
        "auth/approle/role/ci/secret-id-bound-cidrs",
        {"secret_id_bound_cidrs": "127.0.0.0/8"},
    )
    assert (await role.ask("POST", path, {"bind_secret_id": False}))[0] == 204
    assert (await login(role, await role_id(role), ""))[0] == 200
    assert (await role.ask("POST", "auth/approle/role/ci/secret-id", {}))[0] == 400
    assert (await role.ask("DELETE", path))[0] == 204
    assert (await role.ask("GET", path))[1]["data"]["bind_secret_id"] is True


async def test_role_ids_are_chosen_and_unique(role) -> None:
    path = "auth/approle/role/ci/role-id"
    old = await role_id(role)
    assert (await role.ask("POST", path, {"role_id": "mine"}))[0] == 204
    made = await secret_id(role)
    assert (await login(role, old, made["secret_id"]))[0] == 400
    assert (await login(role, "mine", made["secret_id"]))[0] == 200
    await role.ask("POST", "auth/approle/role/other", {})
    _status, said = await role.ask("POST", "auth/approle/role/other/role-id", {"role_id": "mine"})
    assert said == {"errors": ["role_id already in use by another role"]}


async def test_custom_secret_ids_and_a_role_that_goes_with_them(role) -> None:
    path = "auth/approle/role/ci/custom-secret-id"
    assert (await role.ask("POST", path, {"secret_id": "chosen"}))[0] == 200
    assert (await role.ask("POST", path, {"secret_id": "chosen"}))[0] == 400
    assert (await role.ask("POST", path, {}))[0] == 400
    good = await role_id(role)
    assert (await login(role, good, "chosen"))[0] == 200
    shown = (await role.ask("GET", "auth/approle/role/ci/local-secret-ids"))[1]["data"]
    assert shown == {"local_secret_ids": False}
    assert (await role.ask("POST", "auth/approle/role/ci", {"local_secret_ids": True}))[0] == 400
    await role.ask("DELETE", "auth/approle/role/ci")
    await role.ask("POST", "auth/approle/role/ci", {"role_id": good})
    assert (await login(role, good, "chosen"))[0] == 400


async def test_failures_lock_a_role_id(role) -> None:
    good, made = await role_id(role), await secret_id(role)
    for _ in range(5):
        await login(role, good, "wrong")
    assert (await login(role, good, made["secret_id"]))[0] == 403
    said = (await role.ask("GET", "sys/locked-users"))[1]["data"]
    assert said["by_namespace"][0]["mount_accessors"][0]["alias_identifiers"] == [good]


async def test_a_long_role_id_is_counted_and_not_kept(role) -> None:
    """Anybody may send one, and each would lie in the database for a quarter of an hour."""
    long = "x" * 1_000_000
    for _ in range(5):
        assert (await login(role, long, "wrong"))[0] == 400
    assert (await login(role, long, "wrong"))[0] == 403
    said = (await role.ask("GET", "sys/locked-users"))[1]["data"]
    (locked,) = said["by_namespace"][0]["mount_accessors"]
    (name,) = locked["alias_identifiers"]
    assert name.startswith("sha256-")
    path = f"sys/locked-users/{locked['mount_accessor']}/unlock/{name}"
    assert (await role.ask("POST", path, {}))[0] == 204
    assert (await login(role, long, "wrong"))[0] == 400


async def test_made_up_role_ids_leave_a_bounded_number_of_rows(serve_with) -> None:
    """Strangers made the database grow by one for each; whether a role has the id is not seen."""

    def bounded(context, _):
        return AppRole(context, lockout=Lockout(context, most=30, trimmed_every=10))

    async with serve_with(approle=bounded) as store:
        await store.ask("POST", "sys/auth/approle", {"type": "approle"})
        await store.ask("POST", "auth/approle/role/ci", {"role_id": "known"})
        for number in range(100):
            assert (await login(store, f"made-up-{number}", "x"))[0] == 400
            store.clock.step_wall(1)
        rows = await store.read(lambda view: list(view.failed_logins()))
        assert 30 <= len(rows) <= 40
        # The newest stay, and one that is tried again and again is locked as before.
        assert "made-up-99" in {row.name for row in rows}
        for each in ("known", "unknown"):
            said = [(await login(store, each, "wrong"))[0] for _ in range(6)]
            assert said == [400] * 5 + [403]


async def test_ids_from_files_end_in_a_line_break(role) -> None:
    """A login leaves the break out, so one that is kept with it could never be used."""
    body = {"token_policies": "team", "role_id": "of-a-file\n"}
    assert (await role.ask("POST", "auth/approle/role/filed", body))[0] == 204
    path = "auth/approle/role/filed"
    status, said = await role.ask("POST", f"{path}/custom-secret-id", {"secret_id": " own\n"})
    assert (status, said["data"]["secret_id"]) == (200, "own")
    for pair in (("of-a-file", "own"), ("of-a-file\n", " own\n")):
        assert (await login(role, *pair))[0] == 200, pair
    assert (await role.ask("POST", f"{path}/role-id", {"role_id": "other\n"}))[0] == 204
    assert await role_id(role, "filed") == "other"
    assert (await role.ask("POST", f"{path}/role-id", {"role_id": " "}))[0] == 400
    assert (await role.ask("POST", f"{path}/custom-secret-id", {"secret_id": "\n"}))[0] == 400
    assert (await role.ask("POST", f"{path}/secret-id/destroy", {"secret_id": "own\n"}))[0] == 204
    assert (await login(role, "other", "own"))[0] == 400


async def test_a_secret_id_of_a_role_that_is_not_there(store) -> None:
    """404 by which a client of Vault's knows that the role is gone, 400 for what lists them."""
    await store.ask("POST", "sys/auth/approle", {"type": "approle"})
    for path in ("secret-id", "custom-secret-id"):
        at = f"auth/approle/role/None/{path}"
        status, said = await store.ask("POST", at, {"secret_id": "s"})
        assert (status, said) == (404, {"errors": ['role "none" does not exist']})
    assert (await store.ask("LIST", "auth/approle/role/none/secret-id"))[0] == 400
