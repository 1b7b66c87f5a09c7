"""Leases from making to the end, with an engine of these tests; nothing made is ever lost."""

import asyncio
from functools import partial

import pytest

from strongroom.model.errors import Invalid
from strongroom.store.leases import ATTEMPTS


@pytest.fixture
async def issuing(store):
    await store.ask("POST", "sys/mounts/iss", {"type": "issuer"})
    return store


async def issued(store, path: str = "iss/creds/app", token: str | None = None) -> dict:
    status, said = await store.ask("GET", path, token=token)
    assert status == 200, said
    return said


async def test_a_lease_is_looked_up_renewed_and_revoked(issuing) -> None:
    made = await issued(issuing, "iss/creds/app?ttl=1h")
    lease_id = made["lease_id"]
    assert lease_id.startswith("iss/creds/app/")
    assert len(lease_id.rpartition("/")[2]) == 24
    assert (made["renewable"], made["lease_duration"]) == (True, 3600)
    body = {"lease_id": lease_id}
    _, said = await issuing.ask("PUT", "sys/leases/lookup", body)
    assert said["data"]["ttl"] == 3600
    assert said["data"]["last_renewal"] is None
    issuing.clock.step_wall(1000)
    _, said = await issuing.ask("PUT", "sys/leases/renew", {**body, "increment": "2h"})
    assert (said["lease_id"], said["lease_duration"]) == (lease_id, 7200)
    assert issuing.issuers[0].renewed == {lease_id: issuing.clock.now() + 7200}
    assert (await issuing.ask("PUT", "sys/leases/revoke", body))[0] == 204
    assert issuing.issuers[0].names == set()
    assert (await issuing.ask("PUT", "sys/leases/lookup", body))[0] == 400
    assert (await issuing.ask("PUT", "sys/leases/renew", body))[0] == 400
    assert (await issuing.ask("PUT", f"sys/leases/revoke/{lease_id}", {"sync": True}))[0] == 204


async def test_a_lease_has_its_maximum_and_then_its_end(issuing) -> None:
    await issuing.ask("POST", "sys/mounts/iss/tune", {"max_lease_ttl": "2h"})
    lease_id = (await issued(issuing, "iss/creds/app?ttl=90m"))["lease_id"]
    issuing.clock.step_wall(3600)
    _, said = await issuing.ask("PUT", "sys/leases/renew", {"lease_id": lease_id})
    assert said["lease_duration"] == 3600
    issuing.clock.step_wall(3599)
    assert await issuing.expire() == 0
    # Renewed in its last second it does not outlive its maximum.
    _, said = await issuing.ask("PUT", "sys/leases/renew", {"lease_id": lease_id})
    assert said["lease_duration"] == 1
    issuing.clock.step_wall(1)
    assert await issuing.expire() == 1
    assert issuing.issuers[0].undone == [lease_id]
    assert (await issuing.ask("PUT", "sys/leases/renew", {"lease_id": lease_id}))[0] == 400


async def test_an_answer_202_means_later_and_durable(issuing) -> None:
    lease_id = (await issued(issuing))["lease_id"]
    later = {"lease_id": lease_id, "sync": False}
    assert (await issuing.ask("PUT", "sys/leases/revoke", later))[0] == 202
    assert issuing.issuers[0].names
    assert await issuing.expire() == 1
    assert not issuing.issuers[0].names


@pytest.mark.parametrize("where", ["make", "killed"])
async def test_what_was_never_confirmed_is_undone(issuing, where) -> None:
    issuer = issuing.issuers[0]
    issuer.broken = where
    status, _ = await issuing.ask("GET", "iss/creds/app")
    assert status == (503 if where == "make" else 500)
    assert len(issuer.names) == (where == "killed")
    issuer.broken = ""
    assert await issuing.expire() == 0
    issuing.clock.step_wall(301)
    assert await issuing.expire() == 1
    assert issuer.names == set()
    assert (await issuing.ask("LIST", "sys/leases/lookup/iss/creds/app"))[0] == 404


@pytest.mark.parametrize("how", ["token", "lease", "later", "prefix", "force"])
async def test_what_is_revoked_while_it_is_made_is_undone_after_it_was_made(issuing, how) -> None:
    """Its row stays until then: undone before it is there, it would stand for ever."""
    issuer = issuing.issuers[0]
    token = await issuing.token_with('path "iss/*" { capabilities = ["read"] }')
    ends = {
        "token": ("auth/token/revoke", {"token": token}),
        "prefix": ("sys/leases/revoke-prefix/iss/creds", {}),
        "force": ("sys/leases/revoke-force/iss/creds", {}),
    }
    made: list[str] = []

    async def revoke(lease_id: str) -> None:
        made.append(lease_id)
        one = ("sys/leases/revoke", {"lease_id": lease_id, "sync": how != "later"})
        for _ in range(2):
            status, _ = await issuing.ask("POST", *ends.get(how, one))
            assert status in (202, 204)
            await asyncio.create_task(issuing.expire())

    issuer.meanwhile = revoke
    assert (await issuing.ask("GET", "iss/creds/app", token=token))[0] == 403
    assert await issuing.expire() == 1
    assert (issuer.names, issuer.undone) == (set(), made)
    assert (await issuing.ask("LIST", "sys/leases/lookup/iss/creds/app"))[0] == 404


async def test_a_mount_waits_for_what_is_being_made_in_it(issuing) -> None:
    issuer = issuing.issuers[0]
    said: list[object] = []

    async def unmount(lease_id: str) -> None:
        said.append(await issuing.ask("DELETE", "sys/mounts/iss"))

    issuer.meanwhile = unmount
    assert (await issuing.ask("GET", "iss/creds/app"))[0] == 403
    assert said == [(503, {"errors": [
        "a lease of iss/ is still being made; it is undone when it is made, or within 300 s;"
        " try again then"
    ]})]  # fmt: skip
    assert (await issuing.ask("DELETE", "sys/mounts/iss"))[0] == 204
    assert issuer.names == set()


async def test_a_token_takes_its_leases_along(issuing) -> None:
    policy = 'path "iss/*" { capabilities = ["read"] }'
    for revoke in (True, False):
        token = await issuing.token_with(policy, ttl="1h")
        await issued(issuing, token=token)
        assert len(issuing.issuers[0].names) == 1
        if revoke:
            await issuing.ask("POST", "auth/token/revoke-self", {}, token=token)
        else:
            issuing.clock.step_wall(3601)
        assert await issuing.expire() >= 1
        assert issuing.issuers[0].names == set()


async def test_cve_2020_25816_a_lease_of_a_batch_token_ends_with_it(issuing) -> None:
    policy = 'path "iss/*" { capabilities = ["read"] }'
    token = await issuing.token_with(policy, ttl="10m", type="batch")
    made = await issued(issuing, "iss/creds/app?ttl=2h", token=token)
    assert made["lease_duration"] == 600
    _, said = await issuing.ask(
        "PUT", "sys/leases/renew", {"lease_id": made["lease_id"], "increment": "2h"}
    )
    assert said["lease_duration"] == 600
    issuing.clock.step_wall(600)
    assert await issuing.expire() == 1


async def test_a_revocation_that_fails_is_tried_again_and_then_left_to_a_person(issuing) -> None:
    lease_id = (await issued(issuing))["lease_id"]
    issuer = issuing.issuers[0]
    issuer.broken = "revoke"
    status, said = await issuing.ask("PUT", "sys/leases/revoke", {"lease_id": lease_id, "sync": 1})
    assert (status, said["errors"]) == (503, ["the backend is away"])
    pauses = []
    for _ in range(ATTEMPTS - 1):
        due = await issuing.read(lambda view: view.next_due())
        pauses.append(due - issuing.clock.now())
        issuing.clock.step_wall(pauses[-1])
        assert await issuing.expire() == 1
    assert pauses == [10.0, 20.0, 40.0, 80.0, 160.0]
    assert await issuing.expire() == 0
    for path in ("sys/leases", "sys/leases/count"):
        _, said = await issuing.ask("GET", f"{path}?type=irrevocable")
        assert said["data"]["lease_count"] == 1
    assert said["data"]["counts"] == {"iss/": 1}
    _, said = await issuing.ask("GET", "sys/leases?type=irrevocable")
    assert said["data"]["leases"] == [{"lease_id": lease_id, "error": "the backend is away"}]
    assert (await issuing.ask("GET", "sys/leases/count"))[0] == 400
    assert (await issuing.ask("PUT", "sys/leases/revoke-force/iss", {}))[0] == 204
    _, said = await issuing.ask("GET", "sys/leases/count?type=irrevocable")
    assert said["data"]["lease_count"] == 0


async def test_prefixes_are_whole_segments(issuing) -> None:
    await issued(issuing, "iss/creds/app")
    await issued(issuing, "iss/creds/app")
    await issued(issuing, "iss/creds/application")
    _, said = await issuing.ask("LIST", "sys/leases/lookup/iss/creds")
    assert said["data"]["keys"] == ["app/", "application/"]
    assert (await issuing.ask("LIST", "sys/leases/lookup"))[1]["data"]["keys"] == ["auth/", "iss/"]
    _, said = await issuing.ask("LIST", "sys/leases/lookup/iss/creds/app")
    assert len(said["data"]["keys"]) == 2
    assert (await issuing.ask("PUT", "sys/leases/revoke-prefix/iss/creds/app", {"sync": False}))[
        0
    ] == 202
    assert await issuing.expire() == 2
    await issued(issuing, "iss/creds/app")
    body = {"sync": True}
    assert (await issuing.ask("PUT", "sys/leases/revoke-prefix/iss/creds/app", body))[0] == 204
    assert len(issuing.issuers[0].names) == 1


async def test_tokens_have_leases_too(store) -> None:
    token = await store.token_with("# nothing", ttl="1h")
    _, said = await store.ask("LIST", "sys/leases/lookup/auth/token/create")
    (name,) = said["data"]["keys"]
    assert name.startswith("h")
    lease_id = f"auth/token/create/{name}"
    _, said = await store.ask("PUT", "sys/leases/lookup", {"lease_id": lease_id})
    assert said["data"]["ttl"] == 3600
    assert (await store.ask("PUT", "sys/leases/renew", {"lease_id": lease_id}))[0] == 400
    assert (await store.ask("PUT", "sys/leases/revoke", {"lease_id": lease_id}))[0] == 204
    assert (await store.ask("GET", "auth/token/lookup-self", token=token))[0] == 403
    token = await store.token_with("# nothing", ttl="1h")
    assert (await store.ask("PUT", "sys/leases/revoke-prefix/auth/token/create", {}))[0] == 204
    assert (await store.ask("GET", "auth/token/lookup-self", token=token))[0] == 403
    assert (await store.ask("GET", "auth/token/lookup-self"))[0] == 200
    assert await store.expire() == 1


async def test_tidy_says_that_it_has_begun(issuing) -> None:
    status, said = await issuing.ask("POST", "sys/leases/tidy", {})
    assert status == 202
    assert "Tidy operation" in said["warnings"][0]


# mounts with leases


async def test_a_mount_goes_after_its_leases(issuing) -> None:
    await issued(issuing)
    issuer = issuing.issuers[0]
    issuer.broken = "revoke"
    assert (await issuing.ask("DELETE", "sys/mounts/iss"))[0] == 503
    assert "iss/" in (await issuing.ask("GET", "sys/mounts"))[1]["data"]
    issuer.broken = ""
    assert (await issuing.ask("DELETE", "sys/mounts/iss"))[0] == 204
    assert issuer.names == set()
    assert "iss/" not in (await issuing.ask("GET", "sys/mounts"))[1]["data"]


async def test_a_moved_mount_keeps_its_secrets_and_revokes_its_leases(issuing) -> None:
    await issued(issuing)
    await issuing.ask("PUT", "secret/data/a/b", {"data": {"k": "v"}})
    for source, target in (("secret", "new/place"), ("iss", "elsewhere/")):
        status, said = await issuing.ask("POST", "sys/remount", {"from": source, "to": target})
        assert status == 200
        path = f"sys/remount/status/{said['data']['migration_id']}"
        _, said = await issuing.ask("GET", path)
        assert said["data"]["migration_info"]["status"] == "success"
    assert issuing.issuers[0].names == set()
    assert (await issuing.ask("GET", "new/place/data/a/b"))[1]["data"]["data"] == {"k": "v"}
    assert (await issuing.ask("GET", "secret/data/a/b"))[0] == 404
    for source, target in (
        ("absent", "x"), ("new/place", "elsewhere"), ("sys", "x"), ("new/place", "sys/x"),
        ("new/place", "auth/x"), ("new/place", "../x"), ("", "x"), ("auth/token", "auth/x"),
        ("new/place", " x"), ("new/place", "x "), (" new/place", "x"), ("new/place ", "x"),
    ):  # fmt: skip
        status, _ = await issuing.ask("POST", "sys/remount", {"from": source, "to": target})
        assert status == 400, (source, target)
    assert (await issuing.ask("GET", "sys/remount/status/none"))[0] == 404


@pytest.mark.parametrize("target", ["iss", "secret", "secret/x"])
async def test_a_move_that_cannot_be_made_revokes_nothing(issuing, target: str) -> None:
    lease_id = (await issued(issuing))["lease_id"]
    names = set(issuing.issuers[0].names)
    moved = {"from": "iss", "to": target}
    status, said = await issuing.ask("POST", "sys/remount", moved)
    assert (status, said["errors"][0][:27]) == (400, "path is already in use at " + target[0])
    assert issuing.issuers[0].names == names != set()
    assert (await issuing.ask("POST", "sys/leases/lookup", {"lease_id": lease_id}))[0] == 200


# many


def put_token(transaction, row):
    transaction.put_token(row)


async def test_expired_tokens_go_in_batches_beside_a_reader(store) -> None:
    from strongroom.store.tokens import Grant, new_row

    await store.ask("PUT", "secret/data/a", {"data": {"k": "v"}})
    now = store.clock.now()
    grant = Grant(policies=("default",), display_name="x", path="auth/x/login", ttl=60)

    rows = [new_row(grant, b"%032d" % each, f"accessor{each}", now) for each in range(2000)]
    # Many units share a round trip, of which one that writes them all has 2,000.
    await asyncio.gather(*(store.engine.transact(partial(put_token, row=each)) for each in rows))
    store.clock.step_wall(61)
    ending = asyncio.create_task(store.expire())
    read = 0
    while not ending.done():
        assert (await store.ask("GET", "secret/data/a"))[0] == 200
        read += 1
        await store.clock.advance(0.01)
    assert await ending == 2000
    assert read > 5
    assert await store.read(lambda view: view.next_due()) is None


def test_a_lease_that_cannot_be_renewed_says_so() -> None:
    from strongroom.store.engine.contract import LeaseRow
    from strongroom.store.leases import renewed

    row = LeaseRow("a/b", "m", None, 0.0, 10.0, 10, 10.0, max_ttl=10, renewable=False)
    with pytest.raises(Invalid, match="not renewable"):
        renewed(row, 0, 1.0)


async def test_a_damaged_lease_is_named_and_does_not_keep_the_others_from_their_end(
    issuing,
) -> None:
    """One row that cannot be opened must not stop revocation in the whole cluster."""
    damaged = (await issued(issuing, "iss/creds/app?ttl=1h"))["lease_id"]
    await issued(issuing, "iss/creds/app?ttl=2h")
    await issuing.engine.transact(
        lambda each: each._sql.run("UPDATE lease SET body = ? WHERE id = ?", bytes(80), damaged)
    )
    issuing.clock.step_wall(3 * 3600)
    await issuing.expire()
    # What the damaged one made still stands; what the other made is gone.
    assert len(issuing.issuers[0].names) == 1
    assert len(issuing.issuers[0].undone) == 1
    status, said = await issuing.ask("GET", "sys/leases?type=irrevocable")
    assert status == 200
    assert damaged in str(said["data"])
    assert f"the row {damaged} (version" in str(said["data"])
    assert await issuing.expire() == 0
