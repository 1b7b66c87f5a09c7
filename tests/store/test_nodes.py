"""Several nodes on one PostgreSQL: all of them read and write, and none answers from the past."""

import asyncio
from pathlib import Path

import pytest
from server_process import CLOCK, Server

from strongroom.app.waiting import until
from strongroom.crypto.keyfile import create_key_file
from strongroom.model.clock import SystemClock
from strongroom.model.secret import Secret
from strongroom.store.assembly import open_cluster
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.postgres import PostgresEngine
from strongroom.store.seal.backends import AutoSeal
from strongroom.store.seal.cluster import ClusterSeal, SealSetting
from strongroom.wire.client import HttpClient
from strongroom.wire.keywrap.key_file import KeyFileWrapper
from strongroom.wire.vault import VaultClient

pytestmark = pytest.mark.component


async def start(url: str, key: Path) -> tuple[str, str]:
    """One node's start: whose root token it was given, if any, and the cluster it is part of."""
    barrier, clock = Barrier(), SystemClock()
    engine = await PostgresEngine.open(url, barrier)
    try:
        setting = SealSetting(AutoSeal("static", KeyFileWrapper("static", key)))
        root = await open_cluster(
            engine, ClusterSeal(engine, barrier, setting, clock), barrier, clock
        )

        async def cluster() -> str:
            return engine.view.cluster().cluster_id

        return root.reveal_text() if root else "", await engine.waiting(cluster())
    finally:
        await engine.close()


async def test_ten_nodes_that_start_together_make_one_cluster(
    postgres_url: str, tmp_path: Path
) -> None:
    create_key_file(tmp_path / "key")
    started = await asyncio.gather(*(start(postgres_url, tmp_path / "key") for _ in range(10)))
    assert len([root for root, _ in started if root]) == 1
    assert len({cluster for _, cluster in started}) == 1


async def test_a_write_through_one_node_is_read_through_every_other_at_once(nodes) -> None:
    for number in range(30):
        writer = nodes[number % 3]
        body = {"data": {"n": number}}
        assert (await writer.ask("POST", "secret/data/a", body))[0] == 200
        for node in nodes:
            # Twice: the second time from what the node remembers.
            for _ in range(2):
                status, said = await node.ask("GET", "secret/data/a")
                assert (status, said["data"]["data"]) == (200, {"n": number})


async def test_check_and_set_holds_across_nodes(nodes) -> None:
    first = {"data": {"n": 0}}
    assert (await nodes[0].ask("POST", "secret/data/counter", first))[0] == 200

    async def add(node, times: int) -> int:
        done = 0
        while done < times:
            status, said = await node.ask("GET", "secret/data/counter")
            assert status == 200, said
            found = said["data"]
            body = {
                "data": {"n": found["data"]["n"] + 1},
                "options": {"cas": found["metadata"]["version"]},
            }
            done += (await node.ask("POST", "secret/data/counter", body))[0] == 200
        return done

    await asyncio.gather(*(add(node, 15) for node in nodes))
    assert (await nodes[1].ask("GET", "secret/data/counter"))[1]["data"]["data"] == {"n": 45}


async def test_a_revoked_token_a_changed_policy_and_a_new_mount_hold_on_every_node(nodes) -> None:
    token = await nodes[0].token_with('path "secret/data/*" { capabilities = ["read", "update"] }')
    await nodes[0].ask("POST", "secret/data/a", {"data": {"k": "v"}})
    for node in nodes:
        assert (await node.ask("GET", "secret/data/a", token=token))[0] == 200
    await nodes[1].ask("PUT", "sys/mounts/other", {"type": "kv", "options": {"version": "2"}})
    assert (await nodes[2].ask("POST", "other/data/x", {"data": {"k": "v"}}))[0] == 200
    await nodes[2].ask("POST", "auth/token/revoke", {"token": token})
    for node in nodes:
        assert (await node.ask("GET", "secret/data/a", token=token))[0] == 403


async def test_a_token_of_three_uses_is_used_three_times_by_the_cluster(nodes) -> None:
    policy = 'path "secret/data/*" { capabilities = ["read"] }'
    token = await nodes[0].token_with(policy, num_uses=3)
    await nodes[0].ask("POST", "secret/data/a", {"data": {"k": "v"}})
    asked = [nodes[number % 3].ask("GET", "secret/data/a", token=token) for number in range(9)]
    statuses = [status for status, _ in await asyncio.gather(*asked)]
    assert sorted(statuses) == [200] * 3 + [403] * 6


async def test_a_new_key_term_is_followed_by_every_node(nodes) -> None:
    await nodes[0].ask("POST", "secret/data/a", {"data": {"k": "v"}})
    assert (await nodes[1].ask("PUT", "sys/rotate"))[0] == 204
    for node in nodes:
        assert (await node.ask("GET", "sys/key-status"))[1]["data"]["term"] == 2
        assert (await node.ask("POST", "secret/data/b", {"data": {"k": "w"}}))[0] == 200
        assert (await node.ask("GET", "secret/data/b"))[1]["data"]["data"] == {"k": "w"}


async def test_a_subscriber_of_one_node_hears_of_a_write_through_another(nodes) -> None:
    listening, writing = nodes[0], nodes[1]
    client = VaultClient(listening.address, Secret(listening.root), listening.http)

    async def first_event() -> dict:
        async for event in client.subscribe("kv*"):
            return event
        raise AssertionError("the feed ended")

    heard = asyncio.create_task(first_event())
    while not any(b"events/subscribe" in line for line in listening.device.lines):
        await asyncio.sleep(0.01)
    while not heard.done():
        await writing.ask("POST", "secret/data/a", {"data": {"k": "v"}})
        await listening.clock.advance(0.2)
    assert (await heard)["data"]["event"]["metadata"]["path"] == "secret/data/a"


async def test_servers_on_one_database_list_each_other(postgres_url: str, tmp_path: Path) -> None:
    async with HttpClient() as http:
        servers = [Server(tmp_path, http, database=postgres_url) for _ in range(2)]
        try:
            for each in servers:
                await each.start()
            servers[1].root = servers[0].root

            async def listed() -> bool | None:
                found = [await each.ask("GET", "sys/ha-status") for each in servers]
                places = [{node["api_address"] for node in said["nodes"]} for _, said in found]
                mine = {f"http://127.0.0.1:{each.options.port}" for each in servers}
                return places == [mine, mine] or None

            await until("each to hear of the other", listed, CLOCK)
        finally:
            for each in servers:
                each.kill()
