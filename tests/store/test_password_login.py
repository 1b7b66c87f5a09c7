"""userpass and lockout: who is let in, who is not, and that nobody learns which users exist."""

import asyncio
import threading

import pytest

from strongroom.crypto.passwords import NOBODY, hash_password, verify_password
from strongroom.store.auth.lockout import Rules, after_failure, is_locked, lockout_settings
from strongroom.store.auth.userpass import Userpass


@pytest.fixture
async def users(store):
    await store.ask("POST", "sys/auth/userpass", {"type": "userpass"})
    body = {"password": "right", "token_policies": "team,other", "token_ttl": "10m"}
    await store.ask("POST", "auth/userpass/users/Ada", body)
    return store


async def login(store, name="ada", password="right"):
    path = f"auth/userpass/login/{name}"
    return await store.ask("POST", path, {"password": password}, token="")


def test_a_hash_is_salted_and_says_how_it_was_made() -> None:
    one, two = hash_password(b"x"), hash_password(b"x")
    assert one != two
    assert one.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert verify_password(b"x", one)
    assert not verify_password(b"y", one)
    assert not verify_password(b"", NOBODY)


async def test_a_login_carries_the_users_settings(users) -> None:
    status, said = await login(users, "ADA")
    assert status == 200
    auth = said["auth"]
    assert auth["policies"] == ["default", "other", "team"]
    assert auth["lease_duration"] == 600
    assert auth["metadata"] == {"username": "ada"}
    assert "right" not in str(users.records())
    shown = (await users.ask("GET", "auth/userpass/users/ada"))[1]["data"]
    assert "password_hash" not in shown
    assert shown["token_ttl"] == 600


async def test_wrong_unknown_and_missing_are_told_apart_no_more_than_in_vault(users) -> None:
    wrong = (400, {"errors": ["invalid username or password"]})
    assert await login(users, password="wrong") == wrong
    assert await login(users, name="nobody") == wrong
    assert await login(users, password="") == (400, {"errors": ["missing password"]})
    assert (await login(users, name="ada%20"))[0] == 400


async def test_a_password_that_is_too_long_is_called_so(users) -> None:
    said = {"errors": ["a password has at most 4,096 characters"]}
    assert await login(users, password="x" * 4097) == (400, said)
    for path in ("ada", "new", "ada/password"):
        body = {"password": "x" * 4097}
        assert await users.ask("POST", f"auth/userpass/users/{path}", body) == (400, said)
    body = {"password": "x" * 4096}
    assert (await users.ask("POST", "auth/userpass/users/new", body))[0] == 204
    assert (await login(users, name="new", password="x" * 4096))[0] == 200


async def test_a_login_never_gives_a_root_token(users) -> None:
    """Whoever may write users would be root for good by one login."""
    for kind in ("service", "batch"):
        body = {"password": "pw", "token_policies": "Root", "token_type": kind}
        assert (await users.ask("POST", "auth/userpass/users/eve", body))[0] == 204
        refused = await login(users, "eve", "pw")
        assert refused[0] == 400
        assert refused[1]["errors"][0].startswith("auth methods cannot create root tokens")
    assert (await users.ask("GET", "identity/entity/id?list=true"))[0] == 404


async def test_a_limit_of_uses_is_not_lost_where_the_mount_gives_batch_tokens(users) -> None:
    for uses, expected in ((1, 400), (0, 200)):
        await users.ask("POST", "auth/userpass/users/ada", {"token_num_uses": uses})
        await users.ask("POST", "sys/auth/userpass/tune", {"token_type": "batch"})
        assert (await login(users))[0] == expected
    await users.ask("POST", "auth/userpass/users/ada", {"token_num_uses": 1})
    await users.ask("POST", "sys/auth/userpass/tune", {"token_type": "default-service"})
    token = (await login(users))[1]["auth"]["client_token"]
    looks = [await users.ask("GET", "auth/token/lookup-self", token=token) for _ in range(2)]
    assert [status for status, _ in looks] == [200, 403]


async def test_password_and_policies_have_paths_of_their_own(users) -> None:
    await users.ask("POST", "auth/userpass/users/ada/password", {"password": "new"})
    assert (await login(users))[0] == 400
    token = (await login(users, password="new"))[1]["auth"]["client_token"]
    assert (await users.ask("POST", "auth/token/renew-self", token=token))[0] == 200
    await users.ask("POST", "auth/userpass/users/ada/policies", {"token_policies": "less"})
    status, said = await users.ask("POST", "auth/token/renew-self", token=token)
    assert (status, said) == (400, {"errors": ["policies have changed, not renewing"]})
    path = "auth/userpass/users/nobody/password"
    assert (await users.ask("POST", path, {"password": "x"}))[0] == 400
    assert (await users.ask("POST", "auth/userpass/users/new", {}))[1] == {
        "errors": ["missing password"]
    }
    assert (await users.ask("LIST", "auth/userpass/users"))[1]["data"]["keys"] == ["ada"]
    await users.ask("DELETE", "auth/userpass/users/ada")
    assert (await login(users, password="new"))[0] == 400


async def test_five_failures_lock_a_user_whether_or_not_there_is_one(users) -> None:
    for name in ("ada", "nobody"):
        for _ in range(5):
            assert (await login(users, name, "wrong"))[0] == 400
        assert await login(users, name) == (403, {"errors": ["permission denied"]})
    said = (await users.ask("GET", "sys/locked-users"))[1]["data"]
    assert said["total"] == 2
    (mount,) = said["by_namespace"][0]["mount_accessors"]
    assert mount["alias_identifiers"] == ["ada", "nobody"]
    path = f"sys/locked-users/{mount['mount_accessor']}/unlock/ada"
    assert (await users.ask("POST", path))[0] == 204
    assert (await login(users))[0] == 200
    users.clock.step_wall(901)
    assert (await login(users, "nobody"))[0] == 400
    assert (await users.ask("GET", "sys/locked-users"))[1]["data"]["total"] == 0


async def test_cve_2025_6004_spelling_does_not_give_more_attempts(users) -> None:
    for name in ("ada", "Ada", "ADA", "aDa", "adA"):
        assert (await login(users, name, "wrong"))[0] == 400
    assert (await login(users, "AdA"))[0] == 403
    for name in ("ada%20", "%20ada", "ada%09", "ada%2F"):
        assert (await login(users, name))[0] in (400, 404)


async def test_lockout_is_tuned_where_logins_are_counted(users) -> None:
    await users.ask("POST", "sys/auth/jwt", {"type": "jwt"})
    config = {"user_lockout_config": {"lockout_threshold": 3}}
    for path in ("auth/jwt", "auth/token", "mounts/secret"):
        status, said = await users.ask("POST", f"sys/{path}/tune", config)
        assert status == 400, path
        assert "tuning of user lockout configuration" in said["errors"][0]
    for mistaken, status in ((None, 204), ({}, 204), ("3", 400), ([3], 400)):
        body = {"user_lockout_config": mistaken}
        assert (await users.ask("POST", "sys/auth/userpass/tune", body))[0] == status, mistaken


async def test_a_new_mount_keeps_no_lockout_that_counts_for_nothing(users) -> None:
    config = {"user_lockout_config": {"lockout_threshold": 3}}
    for kind, told in (("jwt", True), ("approle", False)):
        body = {"type": kind, "config": config}
        status, said = await users.ask("POST", f"sys/auth/{kind}", body)
        assert (status, "[user_lockout_config]" in str(said)) == (
            (200, True) if told else (204, False)
        )
        kept = (await users.ask("GET", f"sys/auth/{kind}"))[1]["data"]["config"]
        assert ("user_lockout_config" in kept) is not told


async def test_lockout_is_tuned_by_mount(users) -> None:
    async def tune(**config) -> None:
        said = await users.ask("POST", "sys/auth/userpass/tune", {"user_lockout_config": config})
        assert said[0] == 204

    await tune(lockout_threshold="2", lockout_duration="1m", lockout_counter_reset_duration="30s")
    await login(users, password="wrong")
    users.clock.step_wall(31)
    assert (await login(users, password="wrong"))[0] == 400
    assert (await login(users))[0] == 200
    for _ in range(2):
        await login(users, password="wrong")
    assert (await login(users))[0] == 403
    users.clock.step_wall(61)
    assert (await login(users))[0] == 200
    await tune(lockout_disable=True)
    for _ in range(7):
        assert (await login(users, password="wrong"))[0] == 400
    assert (await login(users))[0] == 200
    shown = (await users.ask("GET", "sys/auth/userpass/tune"))[1]["data"]["user_lockout_config"]
    assert shown == {
        "lockout_threshold": 2,
        "lockout_duration": 60,
        "lockout_counter_reset_duration": 30,
        "lockout_disable": True,
    }


async def test_a_misspelt_lockout_disable_is_refused(users) -> None:
    """It counted as false, and nobody was told."""
    tune = {"user_lockout_config": {"lockout_disable": "ture"}}
    status, said = await users.ask("POST", "sys/auth/userpass/tune", tune)
    assert (status, said["errors"]) == (400, ["lockout_disable must be true or false"])
    tune = {"user_lockout_config": {"lockout_disable": "T"}}
    assert (await users.ask("POST", "sys/auth/userpass/tune", tune))[0] == 204
    shown = (await users.ask("GET", "sys/auth/userpass/tune"))[1]["data"]["user_lockout_config"]
    assert shown["lockout_disable"] is True


def test_failures_long_ago_do_not_count_and_a_lock_is_not_prolonged() -> None:
    rules, row = Rules(), None
    for number in range(4):
        row = after_failure(row, rules, number * 10.0, "m", "u")
    assert not is_locked(row, 31.0)
    assert after_failure(row, rules, 30.0 + 901, "m", "u").failures == 1
    row = after_failure(row, rules, 40.0, "m", "u")
    assert is_locked(row, 41.0)
    assert after_failure(row, rules, 500.0, "m", "u").locked == row.locked
    assert not is_locked(row, 40.0 + 900)


async def test_cve_2025_6010_and_6011_an_unknown_user_costs_what_a_known_one_does(
    serve_with,
) -> None:
    """One hash of the same parameters, whoever asks and whatever the answer."""
    computed: list[str] = []

    def counted(password: bytes, hashed: str) -> bool:
        computed.append(hashed.rpartition("p=1$")[0])
        return verify_password(password, hashed)

    async with serve_with(userpass=lambda context, _: Userpass(context, counted)) as store:
        await store.ask("POST", "sys/auth/userpass", {"type": "userpass"})
        await store.ask("POST", "auth/userpass/users/ada", {"password": "right"})
        costs = []
        for name, password in (("ada", "right"), ("ada", "wrong"), ("nobody", "wrong")):
            await login(store, name, password)
            costs.append(computed.copy())
            computed.clear()
        assert costs[0] == costs[1] == costs[2]
        assert len(costs[0]) == 1
        for _ in range(5):
            await login(store, "nobody", "wrong")
            await login(store, "ada", "wrong")
        computed.clear()
        # A locked user costs nothing, whether there is one or not.
        assert await login(store, "ada") == await login(store, "nobody")
        assert computed == []


@pytest.mark.parametrize("what", ["password", "policies", "removed"])
async def test_a_user_who_is_changed_while_the_password_is_checked_gets_no_token(
    serve_with, what: str
) -> None:
    """Who is locked out by a new password, or by fewer policies, is locked out from then on."""
    checked, go_on = threading.Event(), threading.Event()

    def slowly(password: bytes, hashed: str) -> bool:
        right = verify_password(password, hashed)
        checked.set()
        return go_on.wait(60) and right

    async with serve_with(userpass=lambda context, _: Userpass(context, slowly)) as store:
        await store.ask("POST", "sys/auth/userpass", {"type": "userpass"})
        user = "auth/userpass/users/ada"
        await store.ask("POST", user, {"password": "right", "token_policies": "wide"})
        before = await store.read(lambda view: len(view.accessors()))
        entering = asyncio.create_task(login(store, "ada", "right"))
        await asyncio.to_thread(checked.wait, 60)
        change = {"password": {"password": "new"}, "policies": {"token_policies": "narrow"}}
        if what == "removed":
            assert (await store.ask("DELETE", user))[0] == 204
        else:
            assert (await store.ask("POST", f"{user}/{what}", change[what]))[0] == 204
        go_on.set()
        assert (await entering)[0] == 403
        assert await store.read(lambda view: len(view.accessors())) == before


def test_the_counters_reset_has_vaults_name_and_its_older_one_is_read() -> None:
    given = {"lockout_counter_reset_duration": "5m", "lockout_duration": "1h"}
    assert lockout_settings(given, {}) == {
        "lockout_counter_reset_duration": 300, "lockout_duration": 3600,
    }  # fmt: skip
    older = lockout_settings({"lockout_threshold": 3}, {"lockout_counter_reset": 60})
    assert older == {"lockout_threshold": 3, "lockout_counter_reset_duration": 60}


@pytest.mark.component
async def test_failures_through_one_node_lock_a_user_on_every_other(nodes) -> None:
    await nodes[0].ask("POST", "sys/auth/userpass", {"type": "userpass"})
    await nodes[0].ask("POST", "auth/userpass/users/ada", {"password": "right"})
    for attempt in range(5):
        assert (await login(nodes[attempt % 3], password="wrong"))[0] == 400
    for node in nodes:
        assert (await login(node))[0] == 403
    (found,) = (await nodes[1].ask("GET", "sys/locked-users"))[1]["data"]["by_namespace"]
    accessor = found["mount_accessors"][0]["mount_accessor"]
    await nodes[2].ask("POST", f"sys/locked-users/{accessor}/unlock/ada")
    for node in nodes:
        assert (await login(node))[0] == 200


async def test_a_right_password_that_comes_after_the_lock_is_refused(serve_with) -> None:
    """It was being verified while others failed; the lock is looked at again with the token."""
    verifying, locked = threading.Event(), threading.Event()

    def verify(password: bytes, hashed: str) -> bool:
        if password == b"right":
            verifying.set()
            assert locked.wait(30)
        return password == b"right"

    async with serve_with(userpass=lambda context, _: Userpass(context, verify)) as store:
        await store.ask("POST", "sys/auth/userpass", {"type": "userpass"})
        await store.ask("POST", "auth/userpass/users/ada", {"password": "right"})
        right = asyncio.create_task(login(store, "ada", "right"))
        await asyncio.to_thread(verifying.wait, 30)
        for _ in range(5):
            assert (await login(store, "ada", "wrong"))[0] == 400
        locked.set()
        assert (await right)[0] == 403


@pytest.mark.component
async def test_of_wrong_passwords_at_once_no_more_than_five_are_called_wrong(nodes) -> None:
    """Each process verified some more before it saw the lock, and said which were wrong."""
    await nodes[0].ask("POST", "sys/auth/userpass", {"type": "userpass"})
    await nodes[0].ask("POST", "auth/userpass/users/ada", {"password": "right"})
    said = await asyncio.gather(
        *(login(nodes[attempt % 3], password="wrong") for attempt in range(20))
    )
    assert sorted(status for status, _ in said) == [400] * 5 + [403] * 15
    assert {str(body) for status, body in said if status == 403} == {
        "{'errors': ['permission denied']}"
    }
