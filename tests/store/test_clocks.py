"""Clocks that are stepped or wrong: what ends then, when, and what is said of it."""

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from strongroom.model.clock import SimulatedClock
from strongroom.store.assembly import upkeep
from strongroom.store.clock_watch import ClockWatch
from strongroom.store.notices import Notices

HOUR = 3600.0
YEAR = 365 * 24 * HOUR
READS = 'path "secret/*" { capabilities = ["read"] }'

Alive = Callable[[], Awaitable[bool]]


async def a_token(store: Any, **fields: Any) -> Alive:
    await store.ask("POST", "secret/data/a", {"data": {"k": "v"}})
    token = await store.token_with(READS, ttl="60s", **fields)

    async def alive() -> bool:
        return bool((await store.ask("GET", "secret/data/a", token=token))[0] == 200)

    return alive


async def a_batch_token(store: Any) -> Alive:
    return await a_token(store, type="batch")


async def a_wrapped_reply(store: Any) -> Alive:
    await store.ask("POST", "secret/data/a", {"data": {"k": "v"}})
    _, made = await store.ask("GET", "secret/data/a", X_Vault_Wrap_TTL="60s")
    token = made["wrap_info"]["token"]

    async def alive() -> bool:
        status, _ = await store.ask("POST", "sys/wrapping/lookup", {"token": token})
        return bool(status == 200)

    return alive


async def a_secret_id(store: Any) -> Alive:
    await store.ask("POST", "sys/auth/approle", {"type": "approle"})
    role = "auth/approle/role/r"
    await store.ask("POST", role, {"secret_id_ttl": "60s", "token_ttl": "10s"})
    _, found = await store.ask("GET", f"{role}/role-id")
    _, made = await store.ask("POST", f"{role}/secret-id", {})
    body = {"role_id": found["data"]["role_id"], "secret_id": made["data"]["secret_id"]}

    async def alive() -> bool:
        return bool((await store.ask("POST", "auth/approle/login", body, token=""))[0] == 200)

    return alive


async def a_version(store: Any) -> Alive:
    await store.ask("POST", "secret/metadata/v", {"delete_version_after": "60s"})
    await store.ask("POST", "secret/data/v", {"data": {"k": "v"}})

    async def alive() -> bool:
        return bool((await store.ask("GET", "secret/data/v"))[0] == 200)

    return alive


async def a_lock(store: Any) -> Alive:
    await store.ask("POST", "sys/auth/userpass", {"type": "userpass"})
    tune = {"lockout_duration": "60s", "lockout_threshold": "1"}
    body = {"user_lockout_config": tune}
    assert (await store.ask("POST", "sys/auth/userpass/tune", body))[0] in (200, 204)
    await store.ask("POST", "auth/userpass/users/ada", {"password": "p"})
    await store.ask("POST", "auth/userpass/login/ada", {"password": "no"}, token="")

    async def alive() -> bool:
        status, _ = await store.ask("POST", "auth/userpass/login/ada", {"password": "p"}, token="")
        return bool(status != 200)

    return alive


@pytest.mark.parametrize(
    "make", [a_token, a_batch_token, a_wrapped_reply, a_secret_id, a_version, a_lock]
)
async def test_what_lives_a_minute_ends_by_the_clock_and_outlives_no_step(
    store: Any, make: Callable[[Any], Awaitable[Alive]]
) -> None:
    alive = await make(store)
    assert await alive()
    # Back by an hour, and put right again: nothing has ended early, nothing lives on.
    store.clock.step_wall(-HOUR)
    assert await alive()
    store.clock.step_wall(HOUR + 58)
    assert await alive()
    store.clock.step_wall(4)
    assert not await alive()


async def test_what_was_remembered_of_a_reply_ends_with_its_version(store: Any) -> None:
    """The quick way of a GET knows until when an answer holds, by the same clock."""
    alive = await a_version(store)
    for _ in range(3):
        assert await alive()
    store.clock.step_wall(62)
    assert not await alive()
    store.clock.step_wall(-30)
    assert await alive()
    store.clock.step_wall(30)
    assert not await alive()


async def test_what_was_deleted_or_revoked_stays_so_by_a_clock_that_is_behind(store: Any) -> None:
    """By that of another node, or by this one when it was stepped back."""
    await store.ask("POST", "sys/auth/userpass", {"type": "userpass"})
    await store.ask("POST", "auth/userpass/users/ada", {"password": "p"})
    login = await store.ask("POST", "auth/userpass/login/ada", {"password": "p"}, token="")
    token = login[1]["auth"]["client_token"]
    await store.ask("POST", "secret/data/a", {"data": {"k": "v"}})
    await store.ask("POST", "secret/data/b", {"data": {"k": "v"}})
    assert (await store.ask("PUT", "sys/leases/revoke-prefix/auth/userpass"))[0] == 204
    assert (await store.ask("DELETE", "secret/data/a"))[0] == 204
    assert (await store.ask("POST", "secret/delete/b", {"versions": [1]}))[0] == 204
    store.clock.step_wall(-HOUR)
    assert (await store.ask("GET", "auth/token/lookup-self", token=token))[0] == 403
    for path in ("secret/data/a", "secret/data/b"):
        assert (await store.ask("GET", path))[0] == 404
    assert (await store.ask("POST", "secret/undelete/a", {"versions": [1]}))[0] == 204
    assert (await store.ask("GET", "secret/data/a"))[0] == 200


async def test_a_rate_limit_follows_no_step(store: Any) -> None:
    body = {"rate": 2, "interval": "10s", "path": "secret/"}
    assert (await store.ask("POST", "sys/quotas/rate-limit/r", body))[0] == 204

    async def statuses(number: int) -> list[int]:
        return [(await store.ask("GET", "secret/data/none"))[0] for _ in range(number)]

    assert await statuses(3) == [404, 404, 429]
    for step in (YEAR, -2 * YEAR, YEAR):
        store.clock.step_wall(step)
        assert await statuses(1) == [429]
    await store.clock.advance(11)
    assert await statuses(3) == [404, 404, 429]


async def test_a_leader_whose_clock_was_wrong_by_a_year_holds_nobody_up_when_it_dies(
    store: Any,
) -> None:
    ahead = SimulatedClock(store.clock.now() + YEAR)
    wrong = upkeep(store.engine, store.barrier, ahead, store.seal)
    right = upkeep(store.engine, store.barrier, store.clock, store.seal)
    await store.ask("PUT", "sys/rotate")
    await store.engine.waiting(wrong.turn())

    async def done() -> bool:
        return bool((await store.ask("GET", "sys/rotate/status"))[1]["data"]["done"])

    assert await done()
    await store.ask("PUT", "sys/rotate")
    # While it lives it goes on to lead, ...
    for _ in range(4):
        await ahead.advance(6)
        await store.clock.advance(6)
        await store.engine.waiting(wrong.turn())
        await store.engine.waiting(right.turn())
    assert await done()
    await store.ask("PUT", "sys/rotate")
    await store.engine.waiting(right.turn())
    assert not await done()
    # ... and when it is silent another takes over, whatever the row says.
    await store.clock.advance(16)
    await store.engine.waiting(right.turn())
    assert await done()


@pytest.mark.component
@pytest.mark.parametrize("nodes", [(0.0, HOUR, -HOUR)], indirect=True)
async def test_a_node_with_a_wrong_clock_is_wrong_by_as_much_and_harms_no_other(
    nodes: Any,
) -> None:
    right, ahead, behind = nodes
    await right.ask("POST", "secret/data/a", {"data": {"k": "v"}})
    short = await right.token_with(READS, ttl="30m")
    long = await right.token_with(READS, ttl="2h")
    fresh = await behind.token_with(READS, ttl="30m")

    async def reads(node: Any, token: str) -> bool:
        return bool((await node.ask("GET", "secret/data/a", token=token))[0] == 200)

    # Each node decides by its own clock.
    assert [await reads(node, short) for node in nodes] == [True, False, True]
    assert [await reads(node, long) for node in nodes] == [True, True, True]
    # What the node behind gives for half an hour is over by the right clock: it does not live on.
    assert [await reads(node, fresh) for node in nodes] == [False, False, True]
    # Whoever removes first decides for all; it is early by its own error and no more.
    await behind.expire()
    assert await reads(right, short)
    await ahead.expire()
    # A node that remembers it goes on by its own clock, until something makes it look again.
    assert await reads(right, short)
    await right.ask("PUT", "sys/policies/acl/other", {"policy": READS})
    assert [await reads(node, short) for node in nodes] == [False, False, False]
    assert [await reads(node, long) for node in nodes] == [True, True, True]
    right.clock.step_wall(0.9 * HOUR)
    assert await reads(right, long)
    # What has no end is not touched.
    assert (await right.ask("GET", "secret/data/a"))[1]["data"]["data"] == {"k": "v"}


async def test_a_step_is_said_and_counted(store: Any, caplog: pytest.LogCaptureFixture) -> None:
    notices, clock = Notices(), SimulatedClock(time.time())
    watch = ClockWatch(clock, notices)

    async def look() -> None:
        await store.read(watch.look)

    with caplog.at_level(logging.ERROR, "strongroom.store"):
        await look()
        clock.step_wall(0.5)  # What NTP does all day.
        await look()
        assert caplog.messages == []
        clock.step_wall(-HOUR)
        await look()
        await look()
    said = list(caplog.messages)
    assert notices.counts["clock"] == len(said)
    if store.engine.waits:
        # There is a clock to compare with: the database's.
        assert said.pop().startswith("clock: it is -3")
    assert said == ["clock: it was stepped by -3600 s; tokens and leases end by the new time"]
