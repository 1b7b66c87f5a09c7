"""Quotas: 429 with the time to wait, before anything is authenticated; leases counted on their own."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from strongroom.model.errors import Invalid
from strongroom.store.quotas import (
    COUNT_SECONDS,
    LEASES,
    MOUNT,
    Bucket,
    LeaseCount,
    Quotas,
    RateLimit,
    fits,
)


@pytest.mark.parametrize(
    ("quota", "path", "covers"),
    [
        ("", "secret/data/a", True),
        ("secret/", "secret/data/a", True),
        ("secret/", "secret2/data/a", False),
        ("secret/data/a*", "secret/data/abc", True),
        ("secret/data/a", "secret/data/a", True),
        ("secret/data/a", "secret/data/ab", False),
        ("secret/metadata/a", "secret/metadata/a/", True),
        ("secret/data/a", "secret/data/A", False),
        ("auth/userpass/login/bob", "auth/userpass/login/BOB", True),
        ("auth/userpass/login/Bo*", "auth/userpass/login/bob", True),
        ("auth/userpass/login/bob", "auth/userpass/login/bobby", False),
    ],
)
def test_what_a_quota_covers(quota, path, covers) -> None:
    assert fits(quota, path) is covers


def test_a_bucket_fills_with_time_and_blocks_when_told() -> None:
    limit = RateLimit("q", "", rate=2, interval=1.0)
    bucket = Bucket(2, 0.0)
    assert [bucket.take(limit, 0.0) > 0 for _ in range(3)] == [False, False, True]
    assert bucket.take(limit, 0.5) == 0
    assert bucket.take(limit, 0.5) == 0.5
    # A long rest fills it to the rate and no further.
    assert [bucket.take(limit, 100.0) > 0 for _ in range(3)] == [False, False, True]
    blocking = RateLimit("q", "", rate=1, interval=1.0, block=30.0)
    bucket = Bucket(1, 0.0)
    assert [bucket.take(blocking, at) for at in (0.0, 0.1, 20.1)] == [0.0, 30.0, 10.0]
    assert bucket.take(blocking, 31.0) == 0


async def test_too_many_requests_are_told_when_to_come_back(store) -> None:
    await store.ask("PUT", "secret/data/a", {"data": {"k": "v"}})
    await store.ask("GET", "secret/data/a")
    body = {"rate": 3, "interval": "10s", "path": "secret"}
    assert (await store.ask("POST", "sys/quotas/rate-limit/q", body))[0] == 204
    await store.ask("POST", "sys/quotas/config", {"enable_rate_limit_response_headers": True})
    statuses = [(await store.ask("GET", "secret/data/a"))[0] for _ in range(4)]
    assert statuses == [200, 200, 200, 429]
    url = f"{store.address}/v1/secret/data/a"
    reply = await store.http.request("GET", url, headers={"X-Vault-Token": "nobody"})
    assert reply.status == 429
    said = {name.lower(): value for name, value in reply.headers}
    assert said["retry-after"] == "4"
    assert said["x-ratelimit-limit"] == "3"
    assert said["x-ratelimit-remaining"] == "0"
    assert (await store.ask("GET", "sys/mounts"))[0] == 200
    await store.clock.advance(3.4)
    assert (await store.ask("GET", "secret/data/a"))[0] == 200
    assert (await store.ask("DELETE", "sys/quotas/rate-limit/q"))[0] == 204
    assert (await store.ask("GET", "secret/data/a"))[0] == 200


@pytest.mark.parametrize("how", ["written anew", "deleted and made again"])
async def test_who_was_kept_out_by_a_quota_is_let_in_when_it_is_another(store, how: str) -> None:
    """A block of an hour held on after the quota had none any more."""
    quota, body = "sys/quotas/rate-limit/q", {"rate": 1, "interval": "1h", "path": "secret"}
    await store.ask("POST", quota, {**body, "block_interval": "1h"})
    assert [(await store.ask("GET", "secret/data/a"))[0] for _ in range(2)] == [404, 429]
    # What other quotas say is nothing to those of this one.
    await store.ask("POST", "sys/quotas/rate-limit/other", {"rate": 9, "path": "cubbyhole"})
    assert (await store.ask("GET", "secret/data/a"))[0] == 429
    if how == "deleted and made again":
        await store.ask("DELETE", quota)
    await store.ask("POST", quota, {**body, "rate": 100})
    assert (await store.ask("GET", "secret/data/a"))[0] == 404


async def test_the_most_exact_quota_counts_and_exempt_paths_do_not(store) -> None:
    await store.ask("POST", "sys/quotas/rate-limit/all", {"rate": 1, "interval": "60s"})
    assert (await store.ask("GET", "sys/mounts"))[0] == 200
    assert (await store.ask("GET", "sys/mounts"))[0] == 429
    await store.clock.advance(60)
    await store.ask("POST", "sys/quotas/config", {"rate_limit_exempt_paths": ["sys/*"]})
    for _ in range(3):
        assert (await store.ask("GET", "sys/mounts"))[0] == 200
    body = {"rate": 100, "path": "secret/data/often"}
    await store.ask("POST", "sys/quotas/rate-limit/often", body)
    statuses = [(await store.ask("GET", "secret/data/often"))[0] for _ in range(5)]
    assert statuses == [404] * 5
    await store.clock.advance(60)
    statuses = [(await store.ask("GET", "secret/data/other"))[0] for _ in range(2)]
    assert statuses == [404, 429]


async def test_who_would_lift_a_quota_is_not_kept_out_by_it(store) -> None:
    body = {"rate": 1, "interval": "8760h", "block_interval": "8760h"}
    assert (await store.ask("POST", "sys/quotas/rate-limit/all", body))[0] == 204
    statuses = [(await store.ask("GET", "sys/mounts"))[0] for _ in range(2)]
    assert statuses == [200, 429]
    # Nobody gets more there than a little, with a token or without.
    refused = [(await store.ask("GET", "sys/quotas/config", token="none"))[0] for _ in range(11)]
    assert refused == [403] * 10 + [429]
    await store.clock.advance(1)
    assert (await store.ask("DELETE", "sys/quotas/rate-limit/all"))[0] == 204
    assert (await store.ask("GET", "sys/mounts"))[0] == 200


async def test_probes_and_unsealing_are_not_counted_until_that_is_said(store) -> None:
    _, said = await store.ask("GET", "sys/quotas/config")
    assert said["data"] == {
        "enable_rate_limit_audit_logging": False,
        "enable_rate_limit_response_headers": False,
        "rate_limit_exempt_paths": [
            "sys/generate-root/attempt", "sys/generate-root/update", "sys/health",
            "sys/seal-status", "sys/unseal",
        ],
    }  # fmt: skip
    await store.ask("POST", "sys/quotas/rate-limit/all", {"rate": 2, "interval": "1h"})
    assert [(await store.ask("GET", "sys/health"))[0] for _ in range(3)] == [200] * 3
    await store.ask("POST", "sys/quotas/config", {"rate_limit_exempt_paths": []})
    assert [(await store.ask("GET", "sys/health"))[0] for _ in range(2)] == [200, 429]


async def test_what_a_quota_refuses_is_recorded_where_that_is_wanted(store) -> None:
    await store.ask(
        "POST", "sys/quotas/rate-limit/q", {"rate": 1, "interval": "1h", "path": "secret"}
    )

    async def refused() -> list[str]:
        before = len(store.records())
        assert (await store.ask("GET", "secret/data/a"))[0] == 429
        return [each.get("error", "") for each in store.records()[before:]]

    await store.ask("GET", "secret/data/a")
    assert await refused() == []
    await store.ask("POST", "sys/quotas/config", {"enable_rate_limit_audit_logging": True})
    said = 'request path "secret/data/a": rate limit quota exceeded'
    assert await refused() == ["", said]


async def test_a_new_cluster_counts_leases_and_tokens_from_the_start(store) -> None:
    _, said = await store.ask("GET", "sys/quotas/lease-count/default")
    assert said["data"]["max_leases"] == 300_000
    assert said["data"]["counter"] >= 1
    assert (await store.ask("LIST", "sys/quotas/lease-count"))[1]["data"]["keys"] == ["default"]


async def test_there_are_no_more_leases_than_the_quota_says(store) -> None:
    await store.ask("POST", "sys/mounts/iss", {"type": "issuer"})
    body = {"path": "iss", "max_leases": 2}
    assert (await store.ask("POST", "sys/quotas/lease-count/q", body))[0] == 204
    answers = [await store.ask("GET", "iss/creds/app") for _ in range(3)]
    assert [status for status, _ in answers] == [200, 200, 429]
    assert "lease count quota exceeded" in answers[2][1]["errors"][0]
    assert len(store.issuers[0].names) == 2
    lease_id = answers[0][1]["lease_id"]
    await store.ask("PUT", "sys/leases/revoke", {"lease_id": lease_id, "sync": True})
    store.clock.step_wall(1)
    assert (await store.ask("GET", "iss/creds/app"))[0] == 200
    tokens = {"path": "auth/token", "max_leases": 1}
    await store.ask("POST", "sys/quotas/lease-count/t", tokens)
    status, _ = await store.ask("POST", "auth/token/create", {"ttl": "1h", "policies": ["default"]})
    assert status == 429


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("rate-limit/q", {}),
        ("rate-limit/q", {"rate": -1}),
        ("rate-limit/q", {"rate": "many"}),
        ("rate-limit/q", {"rate": True}),
        ("rate-limit/q", {"rate": 0.5}),
        ("rate-limit/q", {"rate": 1e300}),
        ("rate-limit/q", {"rate": 5, "path": "nowhere"}),
        ("rate-limit/q", {"rate": 5, "path": "secret", "role": "r"}),
        # Roles are those of logins: these would never count anything.
        ("rate-limit/q", {"rate": 5, "path": "auth/token", "role": "r"}),
        ("rate-limit/q", {"rate": 5, "path": "auth/token/create", "role": "r"}),
        ("rate-limit/q", {"rate": 5, "path": "../x"}),
        ("lease-count/q", {}),
        ("lease-count/q", {"max_leases": 5, "path": ""}),
    ],
)
async def test_a_quota_that_cannot_be_is_refused(store, path, body) -> None:
    assert (await store.ask("POST", f"sys/quotas/{path}", body))[0] == 400
    assert (await store.ask("GET", f"sys/quotas/{path}"))[0] == 404


async def test_quotas_of_a_mount_move_with_it_and_go_with_it(store) -> None:
    await store.ask("POST", "sys/mounts/m", {"type": "kv"})
    await store.ask("POST", "sys/mounts/m2", {"type": "kv"})
    quotas = {"a": "m", "b": "m/deep/*", "other": "m2", "all": ""}
    for name, path in quotas.items():
        body = {"rate": 1, "interval": "1h", "path": path}
        assert (await store.ask("POST", f"sys/quotas/rate-limit/{name}", body))[0] == 204
    body = {"max_leases": 5, "path": "m"}
    assert (await store.ask("POST", "sys/quotas/lease-count/c", body))[0] == 204
    exempt = {"rate_limit_exempt_paths": ["sys/*"]}
    assert (await store.ask("POST", "sys/quotas/config", exempt))[0] == 204
    moved = {"from": "m", "to": "new/place"}
    assert (await store.ask("POST", "sys/remount", moved))[0] == 200
    answers = [(await store.ask("GET", "new/place/x"))[0] for _ in range(2)]
    assert answers == [404, 429]
    paths = {name: await _path_of(store, f"rate-limit/{name}") for name in quotas}
    assert paths == {"a": "new/place/", "b": "new/place/deep/*", "other": "m2/", "all": ""}
    assert await _path_of(store, "lease-count/c") == "new/place/"
    assert (await store.ask("DELETE", "sys/mounts/new/place"))[0] == 204
    _, said = await store.ask("LIST", "sys/quotas/rate-limit")
    assert said["data"]["keys"] == ["all", "other"]
    assert (await store.ask("GET", "sys/quotas/lease-count/c"))[0] == 404


async def _path_of(store, quota: str) -> str:
    _, said = await store.ask("GET", f"sys/quotas/{quota}")
    return said["data"]["path"]


async def test_a_quota_of_a_transaction_that_is_undone_limits_nobody(store) -> None:
    """It was read there, and kept until some other thing was changed."""
    quotas, phantom = Quotas(), LeaseCount("phantom", "secret/", 1)

    def undone(transaction) -> None:
        transaction.put_document(MOUNT, LEASES, phantom.name, asdict(phantom))
        quotas.admit_lease(transaction, "secret/a", "ada", 0.0)
        raise Invalid("undone", "undone")

    with pytest.raises(Invalid):
        await store.engine.transact(undone)
    for _ in range(3):
        await store.engine.transact(lambda each: quotas.admit_lease(each, "secret/a", "ada", 0.0))


def test_a_count_is_taken_anew_after_its_time_and_when_the_clock_was_set_back() -> None:
    """Else it would hold until the clock has come there again."""
    taken: list[str] = []

    class Counting:
        def count_under(self, prefix: str, most: int) -> int:
            taken.append(prefix)
            return 0

    quotas, quota = Quotas(), LeaseCount("all", "", 5)
    for now, times in ((100.0, 1), (101.9, 1), (102.0, 2), (50.0, 3), (51.0, 3)):
        quotas._count(Counting(), quota, now, COUNT_SECONDS)
        assert len(taken) == times, now
    # While more than half is free nobody is counted alone.
    assert quotas._has_room(Counting(), quota, "ada", 51.0)


@pytest.mark.parametrize(
    ("most", "times"), [(1_000, 10), (300_000, 3), (10_000_000, 2)], ids=["few", "usual", "many"]
)
def test_a_full_quota_is_counted_the_less_often_the_larger_it_is(most, times) -> None:
    """Each count of 300,000 took a fifth of the writer's time while everybody was refused."""
    taken: list[int] = []

    class Full:
        def count_under(self, prefix: str, limit: int) -> int:
            taken.append(limit)
            return limit

    quotas, quota = Quotas(), LeaseCount("all", "a/", most)
    for step in range(20):
        assert not quotas._has_room(Full(), quota, "ada", 100.0 + step / 8)
    assert len(taken) == times


def test_a_client_that_is_refused_is_not_counted_each_time() -> None:
    """Nobody wrote while the half of the default quota that it has was counted again and again."""
    counted: list[str] = []

    class Counting:
        def count_under(self, prefix: str, most: int) -> int:
            counted.append("all")
            return 60

        def count_of(self, client: str, most: int) -> int:
            counted.append(f"{client} to {most}")
            return 40

    quotas, quota = Quotas(), LeaseCount("all", "", 100)
    asked = [(100 + step / 10, who) for step in range(19) for who in ("ada", "ada")]
    assert not any(quotas._has_room(Counting(), quota, who, now) for now, who in asked)
    assert counted == ["all", "ada to 40"]


async def test_a_quota_of_a_user_or_role_counts_every_spelling(store) -> None:
    await store.ask("POST", "sys/auth/userpass", {"type": "userpass"})
    await store.ask("POST", "sys/auth/jwt", {"type": "jwt"})
    user = {"rate": 2, "interval": "60s", "path": "auth/userpass/login/bob"}
    await store.ask("POST", "sys/quotas/rate-limit/user", user)
    role = {"rate": 2, "interval": "60s", "path": "auth/jwt", "role": "Dev"}
    await store.ask("POST", "sys/quotas/rate-limit/role", role)
    said = [
        (await store.ask("POST", f"auth/userpass/login/{name}", {"password": "x"}, token=""))[0]
        for name in ("bob", "Bob", "BOB", "bOb")
    ]
    assert said == [400, 400, 429, 429]
    said = [
        (await store.ask("POST", "auth/jwt/login", {"role": name, "jwt": "x"}, token=""))[0]
        for name in ("Dev", "dev", "DEV", "other")
    ]
    assert said == [400, 400, 429, 400]


async def test_a_quota_of_a_role_counts_logins_that_get_it_by_default(store) -> None:
    """Who left the name away went by the limit."""
    await store.ask("POST", "sys/auth/jwt", {"type": "jwt"})
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    config = {"jwt_validation_pubkeys": [pem], "default_role": "dev"}
    assert (await store.ask("POST", "auth/jwt/config", config))[0] == 204
    quota = {"rate": 2, "interval": "60s", "path": "auth/jwt", "role": "dev"}
    await store.ask("POST", "sys/quotas/rate-limit/role", quota)
    said = [
        (await store.ask("POST", "auth/jwt/login", {**body, "jwt": "x"}, token=""))[0]
        for body in ({}, {"role": "dev"}, {}, {"role": ""}, {"role": "other"})
    ]
    assert said == [400, 400, 429, 429, 400]
    # Nobody logs in by these, though they name no role.
    for method, path in (("GET", "config"), ("LIST", "role"), ("GET", "config")):
        status, _ = await store.ask(method, f"auth/jwt/{path}")
        assert status == (404 if path == "role" else 200)


@pytest.fixture
async def nine(store) -> Callable[..., Awaitable[tuple[int, dict]]]:
    """A store with room for nine tokens beside root, and two users, who log in by what it gives."""
    await store.ask("POST", "sys/auth/userpass", {"type": "userpass"})
    for user in ("ada", "bob"):
        await store.ask("POST", f"auth/userpass/users/{user}", {"password": "pw"})
    await store.ask("PUT", "sys/quotas/lease-count/default", {"path": "", "max_leases": 10})

    async def login(user: str = "bob", wrap: str = "") -> tuple[int, dict]:
        headers = {"X_Vault_Wrap_TTL": wrap} if wrap else {}
        path, body = f"auth/userpass/login/{user}", {"password": "pw"}
        return await store.ask("POST", path, body, token="", **headers)

    return login


async def _until_refused(ask: Callable[[], Awaitable[tuple[int, dict]]]) -> int:
    for made in range(9):
        status, said = await ask()
        if status != 200:
            assert status == 429
            assert "lease count quota exceeded" in said["errors"][0]
            return made
    pytest.fail("nobody was refused")


async def test_one_client_leaves_as_much_of_the_default_quota_as_it_has(store, nine) -> None:
    """By logins for a month, or by wrapping anything, one kept everybody else out."""
    assert await _until_refused(lambda: nine("ada")) == 5
    # Whoever comes second leaves half of the rest, and there is room for a third.
    assert await _until_refused(nine) == 2
    status, said = await store.ask("POST", "auth/token/create", {"ttl": "1h"})
    assert status == 200, said


@pytest.mark.parametrize(
    ("path", "body", "wrap"),
    [
        ("sys/wrapping/wrap", {"a": "b"}, "700h"),
        ("sys/capabilities-self", {"paths": ["a"]}, "700h"),
        ("auth/token/create", {"ttl": "700h"}, ""),
        ("auth/token/create", {"ttl": "700h"}, "700h"),
        ("auth/token/create-orphan", {"ttl": "700h"}, ""),
    ],
)
@pytest.mark.parametrize("kind", ["service", "batch"])
async def test_what_a_client_makes_counts_for_it(store, nine, path, body, wrap, kind) -> None:
    rule = 'path "auth/token/*" { capabilities = ["create", "update", "sudo"] }'
    await store.ask("POST", "sys/policies/acl/maker", {"policy": rule})
    role = {"token_type": kind, "orphan": True, "renewable": False}
    await store.ask("POST", "auth/token/roles/team", role)
    asked = {"policies": ["maker"]}
    _, said = await store.ask("POST", "auth/token/create/team", asked)
    token = said["auth"]["client_token"]
    headers = {"X_Vault_Wrap_TTL": wrap} if wrap else {}
    made = _until_refused(lambda: store.ask("POST", path, body, token=token, **headers))
    if kind == "batch" and "create" in path:
        made.close()  # It may make none.
        return
    # Two of each where the answer is a token and is wrapped in another.
    assert await made == (2 if wrap and "create" in path else 4)
    assert (await nine())[0] == 200


async def test_a_wrapped_login_counts_for_who_logs_in(store, nine) -> None:
    await _until_refused(lambda: nine("ada", "700h"))
    assert (await nine())[0] == 200


async def test_a_wrapping_token_that_is_wrapped_anew_counts_for_its_maker(store, nine) -> None:
    _, login = await nine("ada")
    token = login["auth"]["client_token"]
    wrap = {"X_Vault_Wrap_TTL": "700h"}
    _, said = await store.ask("POST", "sys/wrapping/wrap", {"a": "b"}, token=token, **wrap)
    one = {"token": said["wrap_info"]["token"]}
    _, again = await store.ask("POST", "sys/wrapping/rewrap", one)
    accessors = [login["auth"]["accessor"], again["wrap_info"]["accessor"]]
    clients = await store.engine.transact(
        lambda each: {each.token_by_accessor(accessor).client for accessor in accessors}
    )
    assert clients == {login["auth"]["entity_id"]}


async def test_root_makes_tokens_for_others_up_to_the_quota(store, nine) -> None:
    for _ in range(9):
        assert (await store.ask("POST", "auth/token/create", {"ttl": "1h"}))[0] == 200
    assert (await store.ask("POST", "auth/token/create", {"ttl": "1h"}))[0] == 429


async def test_a_quota_of_a_mount_may_be_used_up_by_one_client(store, nine) -> None:
    quota = {"path": "auth/userpass", "max_leases": 4}
    await store.ask("POST", "sys/quotas/lease-count/users", quota)
    assert await _until_refused(nine) == 4
