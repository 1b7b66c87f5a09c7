"""The key ring's terms over HTTP, and the background work that follows a rotation."""

import asyncio
from collections.abc import Callable
from typing import Any

from strongroom.model.clock import rfc3339
from strongroom.store.assembly import upkeep
from strongroom.store.engine.contract import KvMetadata, KvVersionInfo, Transaction
from strongroom.store.upkeep import LEAD_SECONDS, REMOVED, Chore, Upkeep


async def turn(store: Any) -> None:
    """One process's background work, once."""
    keeping = upkeep(store.engine, store.barrier, store.clock, store.seal)
    await store.engine.waiting(keeping.turn())


async def test_rotate_adds_a_term_and_the_rows_follow_in_the_background(store: Any) -> None:
    await store.ask("POST", "secret/data/a", {"data": {"k": "v"}})
    status, before = await store.ask("GET", "sys/key-status")
    assert (status, before["data"]["term"]) == (200, 1)
    assert before["term"] == 1  # Older clients read it at the top.
    assert (await store.ask("GET", "sys/rotate/status"))[1]["data"]["done"] is True
    assert (await store.ask("PUT", "sys/rotate"))[0] == 204
    assert (await store.ask("GET", "sys/key-status"))[1]["data"]["term"] == 2
    assert (await store.ask("GET", "sys/rotate/status"))[1]["data"]["done"] is False
    assert (await store.ask("GET", "secret/data/a"))[1]["data"]["data"] == {"k": "v"}
    await turn(store)
    done = (await store.ask("GET", "sys/rotate/status"))[1]["data"]
    assert (done["done"], done["term"], done["damaged"]) == (True, 2, [])
    assert done["resealed"] >= 5
    assert (await store.ask("GET", "secret/data/a"))[1]["data"]["data"] == {"k": "v"}
    assert (await store.ask("GET", "sys/key-status"))[1]["data"]["encryptions"] > 0


async def test_what_was_sealed_is_counted_at_once_and_once(store: Any) -> None:
    async def encryptions() -> int:
        return int((await store.ask("GET", "sys/key-status"))[1]["data"]["encryptions"])

    before = await encryptions()
    assert before > 0
    await store.ask("POST", "secret/data/a", {"data": {"k": "v"}})
    after = await encryptions()
    assert after > before
    keeping = upkeep(store.engine, store.barrier, store.clock, store.seal)
    await store.engine.waiting(keeping.turn())
    assert after <= await encryptions() < 2 * after


async def test_an_older_cluster_gets_the_mounts_it_lacks_however_it_was_unsealed(
    store: Any,
) -> None:
    rows = await store.read(lambda view: list(view.mounts()))
    identity = next(row for row in rows if row.type == "identity")
    await store.engine.transact(lambda each: each.delete_mount(identity))
    assert (await store.ask("GET", "identity/entity/id?list=true"))[0] == 404
    assert "identity/" not in (await store.ask("GET", "sys/mounts"))[1]["data"]
    await turn(store)
    assert "identity/" in (await store.ask("GET", "sys/mounts"))[1]["data"]


async def test_the_ring_rotates_by_itself_at_its_age(store: Any) -> None:
    config = {"interval": "24h", "max_operations": 2_000_000}
    assert (await store.ask("POST", "sys/rotate/config", config))[0] == 204
    found = (await store.ask("GET", "sys/rotate/config"))[1]["data"]
    assert found == {"enabled": True, "interval": "24h0m0s", "max_operations": 2_000_000}
    await turn(store)
    assert (await store.ask("GET", "sys/key-status"))[1]["data"]["term"] == 1
    store.clock.step_wall(86_401)
    await turn(store)
    assert (await store.ask("GET", "sys/key-status"))[1]["data"]["term"] == 2


async def test_a_config_that_would_never_or_always_rotate_is_refused(store: Any) -> None:
    for config in ({"interval": "1h"}, {"max_operations": 1000}, {"max_operations": 2**32}):
        assert (await store.ask("POST", "sys/rotate/config", config))[0] == 400


async def test_two_who_change_the_config_at_once_both_have_their_way(store: Any) -> None:
    path = "sys/rotate/config"
    changes = {"interval": "48h"}, {"max_operations": 2_000_000}, {"enabled": False}
    answers = await asyncio.gather(*(store.ask("POST", path, change) for change in changes))
    assert [status for status, _ in answers] == [204] * 3
    found = (await store.ask("GET", path))[1]["data"]
    assert found == {"enabled": False, "interval": "48h0m0s", "max_operations": 2_000_000}


async def test_rotation_needs_sudo(store: Any) -> None:
    token = await store.token_with('path "sys/rotate" { capabilities = ["update"] }')
    assert (await store.ask("PUT", "sys/rotate", token=token))[0] == 403


async def test_how_it_rotates_by_itself_needs_none_as_in_vault(store: Any) -> None:
    token = await store.token_with('path "sys/rotate/config" { capabilities = ["read"] }')
    assert (await store.ask("GET", "sys/rotate/config", token=token))[0] == 200
    assert (await store.ask("POST", "sys/rotate/config", {}, token=token))[0] == 403


async def test_one_process_of_a_cluster_does_the_background_work(store: Any) -> None:
    one, two = (upkeep(store.engine, store.barrier, store.clock, store.seal) for _ in range(2))
    await store.ask("PUT", "sys/rotate")
    await store.engine.waiting(one.turn())
    assert (await store.ask("GET", "sys/rotate/status"))[1]["data"]["done"] is True
    await store.ask("PUT", "sys/rotate")
    await store.engine.waiting(two.turn())
    assert (await store.ask("GET", "sys/rotate/status"))[1]["data"]["done"] is False
    # The leader is gone; its time runs out, also when somebody steps the clock back meanwhile.
    store.clock.step_wall(-86_400.0)
    await store.clock.advance(14)
    await store.engine.waiting(two.turn())
    assert (await store.ask("GET", "sys/rotate/status"))[1]["data"]["done"] is False
    await store.clock.advance(2)
    await store.engine.waiting(two.turn())
    assert (await store.ask("GET", "sys/rotate/status"))[1]["data"]["done"] is True


async def test_a_leader_that_was_replaced_while_it_slept_does_no_step(store: Any) -> None:
    """It learns of that in the step's own transaction, however fresh its lead seems to it."""
    done: list[str] = []

    def step(name: str) -> Callable[[Any, float], bool]:
        return lambda *_: bool(done.append(name))

    one, two = (
        Upkeep(store.engine, store.barrier, store.clock, name, (Chore("c", 0.0, step(name)),))
        for name in ("one", "two")
    )
    await store.engine.waiting(one.turn())
    # By its own clock the first still leads; by the second's it is long over.
    store.clock.step_wall(3600.0)
    await store.engine.waiting(two.turn())
    store.clock.step_wall(-3600.0)
    await store.engine.waiting(one.turn())
    assert done == ["one", "two"]


async def test_the_versions_that_served_are_kept_with_their_times(store) -> None:
    async def led_by(version: str) -> float:
        node = upkeep(store.engine, store.barrier, store.clock, store.seal, version=version)
        store.clock.step_wall(100)
        await store.engine.waiting(node.turn())
        return store.clock.now()

    first = await led_by("0.1.0")
    store.clock.step_wall(LEAD_SECONDS)
    second = await led_by("0.10.0")
    store.clock.step_wall(LEAD_SECONDS)
    await led_by("0.1.0")
    _, said = await store.ask("LIST", "sys/version-history")
    known = [name for name in said["data"]["keys"] if name]
    assert known == ["0.1.0", "0.10.0"]
    info = said["data"]["key_info"]
    assert info["0.1.0"] == {
        "timestamp_installed": rfc3339(first), "previous_version": None, "build_date": "",
    }  # fmt: skip
    assert info["0.10.0"]["timestamp_installed"] == rfc3339(second)
    assert info["0.10.0"]["previous_version"] == "0.1.0"
    assert (await store.ask("GET", "sys/version-history?list=true"))[0] == 200
    token = await store.token_with('path "sys/version" { capabilities = ["list"] }')
    assert (await store.ask("LIST", "sys/version-history", token=token))[0] == 403


async def test_a_write_that_a_removal_has_overtaken_leaves_nothing(store: Any) -> None:
    """It was let in before and is committed after; nothing else of anybody is touched."""
    for path in ("gone", "kept"):
        await store.ask("POST", f"sys/mounts/{path}", {"type": "kv", "options": {"version": "2"}})
        await store.ask("POST", f"{path}/data/a/b", {"data": {"k": "v"}})
    await store.ask("POST", "sys/auth/approle", {"type": "approle"})
    await store.ask("POST", "auth/approle/role/r", {"role_id": "rid"})
    _, made = await store.ask("POST", "auth/approle/role/r/secret-id", {})
    mounts = {each.path: each for each in await store.read(lambda view: view.mounts())}
    gone = mounts["gone/"].uuid
    assert (await store.ask("DELETE", "sys/mounts/gone"))[0] == 204
    row = KvMetadata(gone, "a/b", 1.0, 1.0, 1, versions=(KvVersionInfo(1, 1.0),))

    def late(transaction: Transaction) -> None:
        transaction.put_kv_version(row, b"{}")
        transaction.put_document(gone, "config", "", {"max_versions": 2})

    await store.engine.transact(late)
    for minutes, left in ((30, {"max_versions": 2}), (31, None)):
        store.clock.step_wall(60.0 * minutes)
        await turn(store)
        assert await store.read(lambda view: view.document(gone, "config", "")) == left
        there = await store.read(lambda view: view.kv_metadata(gone, "a/b"))
        assert (there is None) == (left is None)
    assert await store.read(lambda view: view.document_names(*REMOVED)) == []
    assert (await store.ask("GET", "kept/data/a/b"))[1]["data"]["data"] == {"k": "v"}
    login = {"role_id": "rid", "secret_id": made["data"]["secret_id"]}
    assert (await store.ask("POST", "auth/approle/login", login, token=""))[0] == 200
