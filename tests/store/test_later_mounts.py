"""A mount of a type that only a later version has: its nodes serve it, and the others leave it."""

import dataclasses
from typing import Any

import pytest

from strongroom.store.engine.contract import LeaseRow, MountRow, TokenRow
from strongroom.store.leases import ATTEMPTS

SAID = (
    " is a mount of the type later, which this version does not have;"
    " ask a node of the version that it was mounted with"
)


@pytest.fixture
async def beside(store: Any) -> Any:
    """What a node of the later version has written."""

    def write(each: Any) -> None:
        each.put_mount(MountRow("secret", "new/", "later", "u-1", "later_1"))
        each.put_mount(MountRow("auth", "new/", "later", "u-2", "later_2"))
        for number in range(3):
            each.put_lease(LeaseRow(f"new/creds/{number}", "u-1", None, 1.0, 2.0, 1, 2.0))

    await store.engine.transact(write)
    assert (await store.ask("POST", "sys/mounts/iss", {"type": "issuer"}))[0] == 204
    return store


async def test_it_is_refused_by_name_and_all_else_is_served(beside: Any) -> None:
    for path, mount in (
        ("new/creds/1", "new/"),
        ("new?help=1", "new/"),
        ("auth/new/login", "auth/new/"),
    ):
        assert await beside.ask("GET", path) == (503, {"errors": [mount + SAID]})
    assert (await beside.ask("GET", "sys/mounts"))[1]["data"]["new/"]["type"] == "later"
    described = (await beside.ask("GET", "sys/internal/specs/openapi"))[1]["paths"]
    assert any(path.startswith("/iss/") for path in described)
    assert not any("/new/" in path for path in described)
    assert (await beside.ask("POST", "secret/data/a", {"data": {"k": "v"}}))[0] == 200


async def test_its_leases_are_left_to_who_can_undo_them(beside: Any) -> None:
    made = (await beside.ask("GET", "iss/creds/app?ttl=1h"))[1]["lease_id"]
    beside.clock.step_wall(3601)
    for _ in range(ATTEMPTS + 1):
        await beside.expire()
        # Nobody keeps it from them meanwhile, and it has not failed.
        for number in range(3):
            row = await beside.read(lambda view, n=number: view.lease(f"new/creds/{n}"))
            assert (row.state, row.due, row.attempts) == ("live", 2.0, 0)
        beside.clock.step_wall(3600)
    # They do not stand in the way of others.
    assert beside.issuers[0].undone == [made]


async def test_one_that_is_revoked_here_is_due_there(beside: Any) -> None:
    body = {"lease_id": "new/creds/1"}
    for _ in range(ATTEMPTS + 1):
        assert await beside.ask("PUT", "sys/leases/revoke", body) == (
            503,
            {"errors": ["new/" + SAID]},
        )
        row = await beside.read(lambda view: view.lease("new/creds/1"))
        assert (row.state, row.due, row.attempts) == ("revoking", beside.clock.now(), 0)
    assert (await beside.ask("DELETE", "sys/mounts/new"))[0] == 503
    assert "new/" in (await beside.ask("GET", "sys/mounts"))[1]["data"]


async def test_a_token_of_such_a_method_is_renewed_there(beside: Any) -> None:
    now = beside.clock.now()
    row = TokenRow(
        b"t" * 32, "a", None, ("default",), "new-ada", "auth/new/login", now, 60, now + 60,
        mount="u-2",
    )  # fmt: skip
    for role in ("ada", ""):
        later = dataclasses.replace(row, role=role)
        await beside.engine.transact(lambda each, row=later: each.put_token(row))
        refused = await beside.ask("POST", "auth/token/renew-accessor", {"accessor": "a"})
        assert refused == (503, {"errors": ["auth/new/" + SAID]})
