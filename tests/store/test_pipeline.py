"""The pipeline from the outside: who may, what is recorded, what is refused."""

import asyncio
import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import serving

from strongroom.model.clock import SimulatedClock
from strongroom.model.errors import Unavailable
from strongroom.model.secret import Secret
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.sqlite import SqliteEngine
from strongroom.store.upkeep import old_consumers
from strongroom.wire.vault import VaultClient


async def test_a_wrong_token_an_expired_and_a_misplaced_one_get_the_same_answer(store) -> None:
    """Vault's two sentences: its Agent and Proxy log in again at the second one alone."""
    await store.ask("PUT", "secret/data/a", {"data": {"k": "v"}})
    _, made = await store.ask("POST", "auth/token/create", {"policies": ["root"], "ttl": "10s"})
    brief = made["auth"]["client_token"]
    assert (await store.ask("GET", "secret/data/a", token=brief))[0] == 200
    await store.ask("POST", "auth/token/roles/far", {"token_bound_cidrs": ["10.0.0.0/8"]})
    _, made = await store.ask("POST", "auth/token/create/far", {"policies": ["default"]})
    far = made["auth"]["client_token"]
    store.clock.step_wall(11)
    answers = [await store.ask("GET", "secret/data/a", token=each) for each in ("x", brief, far)]
    said = "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"
    assert answers == [(403, {"errors": [said]})] * 3
    assert store.records()[-1]["error"] == said
    none = await store.ask("GET", "secret/data/a", token="")
    assert none == (403, {"errors": ["permission denied"]})


async def test_a_policy_decides_and_a_change_of_it_counts_at_once(store) -> None:
    token = await store.token_with('path "secret/data/app/*" { capabilities = ["read"] }')
    await store.ask("PUT", "secret/data/app/x", {"data": {"k": "v"}})
    assert (await store.ask("GET", "secret/data/app/x", token=token))[0] == 200
    assert (await store.ask("GET", "secret/data/app/x", token=token))[0] == 200
    assert (await store.ask("PUT", "secret/data/app/x", {"data": {}}, token=token))[0] == 403
    assert (await store.ask("GET", "secret/data/other", token=token))[0] == 403
    name = (await store.ask("GET", "auth/token/lookup-self", token=token))[1]["data"]["policies"]
    for each in name:
        if each != "default":
            await store.ask(
                "PUT",
                f"sys/policies/acl/{each}",
                {"policy": 'path "x" { capabilities = ["read"] }'},
            )
    assert (await store.ask("GET", "secret/data/app/x", token=token))[0] == 403


async def test_create_and_update_are_told_apart(store) -> None:
    token = await store.token_with('path "secret/data/c/*" { capabilities = ["create"] }')
    assert (await store.ask("PUT", "secret/data/c/x", {"data": {"k": "1"}}, token=token))[0] == 200
    assert (await store.ask("PUT", "secret/data/c/x", {"data": {"k": "2"}}, token=token))[0] == 403


async def test_every_answer_is_never_older_than_the_newest_write(store) -> None:
    for number in range(20):
        await store.ask("PUT", "secret/data/a", {"data": {"n": number}})
        _, read = await store.ask("GET", "secret/data/a")
        assert read["data"]["data"] == {"n": number}


async def spoil_values(store) -> None:
    """So that every read that opens a value is a 500."""
    await store.engine.transact(lambda each: each._sql.run("UPDATE kv_version SET body = ?", b"x"))


async def test_an_answer_is_remembered_until_its_own_secret_is_written(store) -> None:
    for name in ("a", "b"):
        await store.ask("PUT", f"secret/data/{name}", {"data": {"n": 1}})
        assert (await store.ask("GET", f"secret/data/{name}"))[0] == 200
    await spoil_values(store)
    await store.ask("PUT", "secret/data/other", {"data": {"n": 1}})
    for name in ("a", "b"):
        status, read = await store.ask("GET", f"secret/data/{name}")
        assert (status, read["data"]["data"]) == (200, {"n": 1})
    body = {"custom_metadata": {"owner": "me"}}
    await store.ask("PUT", "secret/metadata/a", body)
    # It is read anew, and its value does not open.
    assert (await store.ask("GET", "secret/data/a"))[0] == 500
    await store.ask("PUT", "secret/data/a", {"data": {"n": 2}})
    _, read = await store.ask("GET", "secret/data/a")
    assert (read["data"]["data"], read["data"]["metadata"]["custom_metadata"]) == (
        {"n": 2}, {"owner": "me"}
    )  # fmt: skip
    await store.ask("DELETE", "secret/data/a")
    assert (await store.ask("GET", "secret/data/a"))[0] == 404
    await store.ask("DELETE", "secret/metadata/b")
    assert (await store.ask("GET", "secret/data/b"))[0] == 404


async def test_what_is_remembered_ends_with_the_policy_that_allowed_it(store) -> None:
    await store.ask("PUT", "secret/data/a", {"data": {"n": 1}})
    token = await store.token_with('path "secret/data/a" { capabilities = ["read"] }')
    assert (await store.ask("GET", "secret/data/a", token=token))[0] == 200
    _, mine = await store.ask("GET", "auth/token/lookup-self", token=token)
    (name,) = {*mine["data"]["policies"]} - {"default"}
    text = 'path "secret/data/b" { capabilities = ["read"] }'
    await store.ask("PUT", f"sys/policies/acl/{name}", {"policy": text})
    assert (await store.ask("GET", "secret/data/a", token=token))[0] == 403


async def test_a_record_says_which_mount_served_also_if_another_has_its_path_later(store) -> None:
    shown = (await store.ask("GET", "sys/mounts"))[1]["data"]
    shown |= {
        f"auth/{path}": each
        for path, each in (await store.ask("GET", "sys/auth"))[1]["data"].items()
    }
    for path, mount, kind in (
        ("secret/data/a", "secret/", "secret"),
        ("auth/token/lookup-self", "auth/token/", "auth"),
        ("identity/entity/id/x", "identity/", "secret"),
        ("sys/mounts", "sys/", None),
    ):
        for _ in range(2):
            await store.ask("GET", path)
            for record in store.records()[-2:]:
                request = record["request"]
                assert request["mount_point"] == mount
                assert request["mount_accessor"] == shown[mount]["accessor"]
                assert request.get("mount_class") == kind
    await store.ask("GET", "nowhere/x")
    assert "mount_accessor" not in store.records()[-1]["request"]


async def test_a_record_has_the_port_of_the_connection_for_kept_answers_too(store) -> None:
    """Behind a network address translation the port alone says whose connection it was."""
    await store.ask("PUT", "secret/data/a", {"data": {"k": "v"}})
    reader, writer = await asyncio.open_connection("127.0.0.1", store.port)
    port = writer.get_extra_info("sockname")[1]
    line = f"GET /v1/secret/data/a HTTP/1.1\r\nHost: h\r\nX-Vault-Token: {store.root}\r\n\r\n"
    for _ in range(4):
        writer.write(line.encode())
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(re.search(rb"(?i)content-length: (\d+)", head)[1]))
        for record in store.records()[-2:]:
            assert record["request"]["path"] == "secret/data/a"
            assert record["request"]["remote_port"] == port
    writer.close()


async def test_a_request_and_its_response_are_recorded_without_values(store) -> None:
    await store.ask("PUT", "secret/data/a", {"data": {"k": "marked-value"}})
    await store.ask("GET", "secret/data/a")
    await store.ask("GET", "secret/data/a")
    await store.ask("GET", "secret/data/a", token="marked-token")
    records = store.records()
    assert b"marked" not in b"".join(store.device.lines)
    assert [each["type"] for each in records] == ["request", "response"] * 4
    assert [each["request"]["operation"] for each in records[::2]] == [
        "create",
        "read",
        "read",
        "read",
    ]
    assert records[3]["response"]["data"]["metadata"]["version"] == 1
    assert records[4]["request"]["id"] != records[2]["request"]["id"]
    first, second = (records[place]["request"] for place in (2, 4))
    assert second | {"id": "", "remote_port": 0} == first | {"id": "", "remote_port": 0}
    assert "invalid token" in records[7]["error"]
    (device,) = (await store.ask("GET", "sys/audit"))[1]["data"]
    value = (await store.ask("POST", f"sys/audit-hash/{device}", {"input": "marked-value"}))[1]
    assert value["hash"] == records[0]["request"]["data"]["data"]["k"]


async def test_nothing_is_served_when_it_cannot_be_recorded(store) -> None:
    await store.ask("PUT", "secret/data/a", {"data": {"k": "v"}})
    await store.ask("GET", "secret/data/a")
    store.device.broken = True
    for method, body in (("GET", None), ("PUT", {"data": {"k": "w"}}), ("LIST", None)):
        status, said = await store.ask(method, "secret/data/a", body)
        assert status == 503
        assert "audit" in said["errors"][0]
    assert (await store.ask("GET", "sys/health"))[0] == 200
    store.device.broken = False
    _, read = await store.ask("GET", "secret/data/a")
    assert read["data"]["data"] == {"k": "v"}


async def test_bad_input_is_refused_clearly(store) -> None:
    assert (await store.ask("PUT", "secret/data/a", b"{"))[0] == 400
    assert (await store.ask("PUT", "secret/data/a", {"nodata": 1}))[0] == 400
    assert (await store.ask("PUT", "secret/data/a", {"data": [1]}))[0] == 400
    assert (await store.ask("PUT", "secret/data/a", b"x" * (3 * 1024 * 1024)))[0] == 413
    assert (await store.ask("GET", "nowhere/at/all"))[0] == 404
    assert (await store.ask("GET", "secret/data/missing")) == (404, {"errors": []})
    assert (await store.ask("LIST", "secret/metadata/missing")) == (404, {"errors": []})
    assert (await store.ask("DELETE", "sys/health"))[0] == 405
    status, said = await store.ask(
        "PUT", "sys/policies/acl/p", {"policy": 'path "a" {\n  capabilities = [\n'}
    )
    assert status == 400
    assert "line" in said["errors"][0]
    assert (await store.ask("GET", "secret/data/a", X_Vault_Namespace="team"))[0] == 404
    status, said = await store.ask("GET", "secret/foo")
    assert status == 404
    assert "secret/data/foo" in said["warnings"][0]


async def test_a_limited_token_is_counted_on_every_use(store) -> None:
    token = await store.token_with('path "secret/data/*" { capabilities = ["read"] }', num_uses=2)
    await store.ask("PUT", "secret/data/a", {"data": {"k": "v"}})
    statuses = [(await store.ask("GET", "secret/data/a", token=token))[0] for _ in range(3)]
    assert statuses == [200, 200, 403]


async def test_what_is_refused_is_a_use_of_the_token_too(store) -> None:
    token = await store.token_with('path "secret/data/*" { capabilities = ["read"] }', num_uses=2)
    await store.ask("PUT", "secret/data/a", {"data": {"k": "v"}})
    status, said = await store.ask("GET", "sys/mounts", token=token)
    assert (status, said["errors"][0].endswith("permission denied\n\n")) == (403, True)
    assert store.records()[-1]["type"] == "response"
    assert "permission denied" in store.records()[-1]["error"]
    statuses = [(await store.ask("GET", "secret/data/a", token=token))[0] for _ in range(2)]
    assert statuses == [200, 403]


async def test_the_feed_tells_who_may_read(store) -> None:
    await store.ask("PUT", "secret/data/app/x", {"data": {"k": "v"}})
    token = await store.token_with('path "secret/data/app/*" { capabilities = ["read"] }')
    client = VaultClient(store.address, Secret(token), store.http)
    heard = []

    async def listen() -> None:
        async for event in client.subscribe("kv*"):
            heard.append(event["data"])
            if len(heard) == 2:
                return

    listening = asyncio.create_task(listen())
    while not any(b"events/subscribe" in line for line in store.device.lines):
        await asyncio.sleep(0.01)
    await store.ask("PUT", "secret/data/other", {"data": {"k": "v"}})
    await store.ask("PUT", "secret/data/app/x", {"data": {"k": "w"}})
    await store.ask("DELETE", "secret/data/app/x")
    await asyncio.wait_for(listening, 60)
    assert [each["event"]["metadata"]["data_path"] for each in heard] == ["secret/data/app/x"] * 2
    assert [each["event_type"] for each in heard] == ["kv-v2/data-write", "kv-v2/data-delete"]
    assert heard[0]["event"]["metadata"]["current_version"] == "2"


async def test_the_feed_tells_who_may_subscribe_and_not_read(store) -> None:
    """As the policies that Vault's pages on events give."""
    token = await store.token_with(
        'path "sys/events/subscribe/kv*" { capabilities = ["read"] }'
        ' path "secret/data/app" { capabilities = ["subscribe"] subscribe_event_types = ["kv*"] }'
    )
    client = VaultClient(store.address, Secret(token), store.http)
    heard = []

    async def listen() -> None:
        async for event in client.subscribe("kv*"):
            heard.append(event["data"]["event"]["metadata"]["data_path"])
            return

    listening = asyncio.create_task(listen())
    while not any(b"events/subscribe" in line for line in store.device.lines):
        await asyncio.sleep(0.01)
    await store.ask("PUT", "secret/data/other", {"data": {"k": "v"}})
    await store.ask("PUT", "secret/data/app", {"data": {"k": "w"}})
    await asyncio.wait_for(listening, 60)
    assert heard == ["secret/data/app"]


async def test_the_feed_tells_what_was_since_an_entry_and_goes_on_without_a_gap(store) -> None:
    token = await store.token_with('path "secret/data/app/*" { capabilities = ["read"] }')
    client = VaultClient(store.address, Secret(token), store.http)
    for number in range(3):
        await store.ask("PUT", f"secret/data/app/{number}", {"data": {"k": "v"}})
    await store.ask("PUT", "secret/data/other", {"data": {"k": "v"}})

    def told(event: dict[str, Any]) -> Any:
        if "changes" in event:
            return event["whole"], [each["path"] for each in event["changes"]]
        data = event["data"]
        return data["event"]["metadata"]["data_path"] or data["event_type"]

    feed = client.subscribe("kv*", after="0")
    paths = [f"secret/data/app/{number}" for number in range(3)]
    assert [told(await anext(feed)) for _ in range(3)] == [
        (True, []), (True, paths), "strongroom/present",
    ]  # fmt: skip
    # Another who comes late does not hear twice, nor makes the first hear twice.
    late = client.subscribe("kv*", after="2")
    assert [told(await anext(late)) for _ in range(3)] == [
        (True, []), (True, paths[2:]), "strongroom/present",
    ]  # fmt: skip
    await store.ask("PUT", "secret/data/app/3", {"data": {"k": "v"}})
    await store.ask("PUT", "secret/data/app/4", {"data": {"k": "v"}})
    for each in (feed, late):
        heard = [told(await anext(each)) for _ in range(2)]
        assert heard == ["secret/data/app/3", "secret/data/app/4"]
        await each.aclose()
    # A number of another database.
    beyond = client.subscribe("kv*", after="999")
    assert told(await anext(beyond)) == (False, [])
    await beyond.aclose()
    assert (await store.ask("GET", "sys/events/subscribe/kv*?after=x"))[0] == 400


UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec_WebSocket_Version": "13",
    "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("", "missing event type"),
        ("/", "missing event type"),
        ("/kv*?filter=data_path+matches+x", "events are not filtered by an expression"),
    ],
)
async def test_a_subscription_that_cannot_be_kept_is_refused(store, asked, said) -> None:
    """Who asks for some changes and is told of all of them may act on all of them."""
    status, reply = await store.ask("GET", f"sys/events/subscribe{asked}", **UPGRADE)
    assert (status, reply["errors"][0].partition(";")[0]) == (400, said)


async def test_a_subscription_is_a_use_of_the_token(store) -> None:
    policy = 'path "secret/*" { capabilities = ["read"] }'
    await store.ask("PUT", "sys/policies/acl/reader", {"policy": policy})
    body = {"policies": ["reader"], "num_uses": 2}
    _, made = await store.ask("POST", "auth/token/create", body)
    token = made["auth"]["client_token"]
    client = VaultClient(store.address, Secret(token), store.http)
    feed = client.subscribe("kv*", after="0")
    assert (await anext(feed))["whole"] is True
    assert (await store.ask("GET", "secret/data/a", token=token))[0] == 404
    assert (await store.ask("GET", "secret/data/a", token=token))[0] == 403
    await feed.aclose()
    reply = await store.ask("GET", "sys/events/subscribe/kv*", token=token, **UPGRADE)
    assert reply[0] == 403


class _View:
    """A view of a database that does not say where the feed is."""

    def __init__(self, view: Any) -> None:
        self._view = view
        self.asked_for_mounts = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._view, name)

    def last_event(self) -> int:
        raise Unavailable("storage-down", "the database does not answer")

    def mounts(self) -> Any:
        self.asked_for_mounts += 1
        return self._view.mounts()


class _Engine:
    def __init__(self, engine: SqliteEngine) -> None:
        self._engine = engine
        self.view = _View(engine.view)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


@pytest.mark.parametrize("after", ["", "&after=0"])
async def test_no_socket_is_opened_to_whom_nothing_can_be_told(tmp_path: Path, after: str) -> None:
    barrier = Barrier()
    engine: Any = _Engine(SqliteEngine(tmp_path / "db", barrier))
    async with serving(engine, barrier, tmp_path / "key", SimulatedClock()) as store:
        path = f"sys/events/subscribe/kv*?json=true{after}"
        status, said = await store.ask("GET", path, **UPGRADE)
        assert (status, said) == (503, {"errors": ["the database does not answer"]})
        assert store.records()[-1]["error"] == "the database does not answer"


async def test_a_reader_acknowledges_and_is_listed(store) -> None:
    await store.ask("PUT", "secret/data/a", {"data": {"k": "v"}})
    token = await store.token_with('path "secret/data/a" { capabilities = ["read"] }')
    body = {"path": "secret/data/a", "version": 1}
    assert (await store.ask("PUT", "sys/consumers/ack", body, token=token))[0] == 204
    assert (
        await store.ask("PUT", "sys/consumers/ack", {**body, "path": "secret/data/b"}, token=token)
    )[0] == 403
    _, said = await store.ask("GET", "sys/consumers?path=secret/data/a")
    assert [each["version"] for each in said["data"]["consumers"]] == [1]
    assert (await store.ask("GET", "sys/consumers?path=secret/data/a", token=token))[0] == 403


async def test_an_acknowledgement_opens_no_row_of_a_mount(tmp_path: Path) -> None:
    barrier = Barrier()
    engine: Any = _Engine(SqliteEngine(tmp_path / "db", barrier))
    async with serving(engine, barrier, tmp_path / "key", SimulatedClock()) as store:
        body = {"path": "secret/data/a", "version": 1}
        await store.ask("PUT", "sys/consumers/ack", body)
        before = engine.view.asked_for_mounts
        assert (await store.ask("PUT", "sys/consumers/ack", body))[0] == 204
        assert engine.view.asked_for_mounts == before


async def test_an_acknowledgement_lives_as_long_as_its_token_renewed_or_revoked(store) -> None:
    body = {"path": "secret/data/a", "version": 1}

    async def lapsed() -> bool:
        _, said = await store.ask("GET", "sys/consumers?path=secret/data/a")
        return bool(said["data"]["consumers"][0]["lapsed"])

    policy = 'path "secret/data/a" { capabilities = ["read"] }'
    token = await store.token_with(policy, ttl="10m", explicit_max_ttl="1h")
    await store.ask("PUT", "sys/consumers/ack", body, token=token)
    await store.clock.advance(300)
    await store.ask("POST", "auth/token/renew-self", {}, token=token)
    await store.clock.advance(400)
    assert not await lapsed()
    await store.ask("POST", "auth/token/revoke", {"token": token})
    assert await lapsed()
    endless = await store.token_with(policy, type="service", no_parent=True, period="1h")
    await store.ask("PUT", "sys/consumers/ack", body, token=endless)
    await store.ask("POST", "auth/token/revoke", {"token": endless})
    _, said = await store.ask("GET", "sys/consumers?path=secret/data/a")
    assert [each["lapsed"] for each in said["data"]["consumers"]] == [True, True]


async def test_an_acknowledgement_stays_while_its_token_is_renewed(store) -> None:
    policy = 'path "secret/data/a" { capabilities = ["read"] }'
    renewed = await store.token_with(policy, period="48h")
    left = await store.token_with(policy, period="48h")
    for token in (renewed, left):
        body = {"path": "secret/data/a", "version": 1}
        await store.ask("PUT", "sys/consumers/ack", body, token=token)

    async def lapsed() -> list[bool]:
        _, said = await store.ask("GET", "sys/consumers?path=secret/data/a")
        return sorted(each["lapsed"] for each in said["data"]["consumers"])

    async def days(number: int) -> None:
        for _ in range(number):
            store.clock.step_wall(86400)
            await store.ask("POST", "auth/token/renew-self", {}, token=renewed)
            now = store.clock.now()
            await store.engine.transact(lambda each, now=now: old_consumers(each, now))

    await days(8)
    assert await lapsed() == [False, True]
    await days(2)
    assert await lapsed() == [False]
    await store.ask("POST", "auth/token/revoke", {"token": renewed})
    assert await lapsed() == [True]


async def test_the_status_paths_answer_anybody(store) -> None:
    for path, key in (
        ("health", "initialized"),
        ("seal-status", "t"),
        ("init", "initialized"),
        ("leader", "ha_enabled"),
    ):
        status, said = await store.ask("GET", f"sys/{path}", token="")
        assert status == 200
        assert key in said
    assert store.device.lines == []
    assert (await store.ask("PUT", "sys/init", {"secret_shares": 1}, token=""))[0] == 400


async def test_metrics_count_and_name_no_secret(store) -> None:
    await store.ask("PUT", "secret/data/marked", {"data": {"k": "marked"}})
    status, text = await store.ask("GET", "sys/metrics?format=prometheus")
    assert status == 200
    assert 'strongroom_requests_total{operation="create",status="200"' in text
    assert "marked" not in text
    assert "marked" not in json.dumps(store.records()[-1])


async def test_a_record_says_which_policies_allowed_the_call(store) -> None:
    """In Vault's fields: programs that watch a log look for what was refused by them."""
    for name, capability in (("one", "read"), ("two", "read"), ("three", "list")):
        text = f'path "secret/data/*" {{ capabilities = ["{capability}"] }}'
        await store.ask("PUT", f"sys/policies/acl/{name}", {"policy": text})
    await store.ask("PUT", "secret/data/a", {"data": {"k": "v"}})
    body = {"policies": ["one", "two", "three"], "ttl": "1h"}
    made = (await store.ask("POST", "auth/token/create", body))[1]["auth"]
    (by_root,) = {str(each["auth"]["policy_results"]) for each in store.records()}
    root = {"name": "root", "namespace_id": "root", "type": "acl"}
    assert by_root == str({"allowed": True, "granting_policies": [root]})

    async def recorded(method: str, path: str, token: str) -> dict:
        store.device.lines.clear()
        await store.ask(method, path, {} if method == "POST" else None, token=token)
        first, second = store.records()
        assert first["auth"] == second["auth"]
        return first["auth"]

    token = made["client_token"]
    granting = [{**root, "name": name} for name in ("one", "two")]
    for _ in range(3):  # The answer is remembered by then.
        auth = await recorded("GET", "secret/data/a", token)
        assert auth["policy_results"] == {"allowed": True, "granting_policies": granting}
    _, looked = await store.ask("POST", "auth/token/lookup", {"token": token})
    assert auth["token_ttl"] == 3600
    assert auth["token_issue_time"] == looked["data"]["issue_time"]
    auth = await recorded("DELETE", "secret/data/a", token)
    assert auth["policy_results"] == {"allowed": False}
    # Who asks for what needs no token is asked for no policy; nor is a bad token.
    await store.ask("POST", "sys/auth/userpass", {"type": "userpass"})
    auth = await recorded("POST", "auth/userpass/login/ada", "")
    assert auth == {"token_type": "default", "policy_results": {"allowed": True}}
    assert "policy_results" not in await recorded("GET", "secret/data/a", "hvs.unknown")


async def test_a_record_says_whose_token_came_with_a_request_in_vaults_fields(store) -> None:
    """What counts and correlates clients reads them from the request."""
    await store.ask("PUT", "secret/data/a", {"data": {"k": "v"}})
    device = next(iter((await store.ask("GET", "sys/audit"))[1]["data"]))

    async def recorded(path: str, token: str) -> tuple[dict, dict]:
        hashed = (await store.ask("POST", f"sys/audit-hash/{device}", {"input": token}))[1]["hash"]
        store.device.lines.clear()
        await store.ask("GET", path, token=token)
        first, second = store.records()
        assert first["request"] == second["request"]
        asked = first["request"]
        assert asked.get("client_token", hashed) == hashed
        return asked, first["auth"]

    reader = await store.token_with('path "secret/*" { capabilities = ["read"] }')
    body = {"type": "batch", "policies": ["default"]}
    batch = (await store.ask("POST", "auth/token/create", body))[1]["auth"]
    for token in (store.root, reader, batch["client_token"]):
        for path in ("secret/data/a",) * 3 + ("secret/data/none", "sys/mounts", "nowhere/a"):
            asked, auth = await recorded(path, token)
            assert asked["client_token"] == auth["client_token"]
            assert asked.get("client_token_accessor", "") == auth["accessor"]
            text = "\x7f".join(sorted(auth["token_policies"])) + "\0root"
            digest = hashlib.sha256(text.encode()).digest()
            assert asked["client_id"] == base64.b64encode(digest).decode()
    none = {"client_token_accessor", "client_id"}
    asked, _ = await recorded("secret/data/a", "hvs.unknown")
    assert "client_token" in asked
    assert none.isdisjoint(asked)
    store.device.lines.clear()
    await store.ask("GET", "secret/data/a", token="")
    assert not {*none, "client_token"} & store.records()[0]["request"].keys()


async def test_the_record_of_a_login_names_who_has_come_and_for_how_long(store) -> None:
    await store.ask("POST", "sys/auth/userpass", {"type": "userpass"})
    user = {"password": "marked-word", "token_ttl": "1h"}
    await store.ask("POST", "auth/userpass/users/ada", user)
    _, said = await store.ask("POST", "auth/userpass/login/ada", user, token="")
    assert "display_name" not in said["auth"]
    auth = store.records()[-1]["response"]["auth"]
    assert (auth["display_name"], auth["token_ttl"]) == ("userpass-ada", 3600)
    token = said["auth"]["client_token"]
    await store.ask("GET", "auth/token/lookup-self", token=token)
    asked = store.records()[-1]["request"]
    assert asked["client_id"] == auth["entity_id"]
    assert asked["client_token"] == auth["client_token"] != token
    assert asked["client_token_accessor"] == auth["accessor"] != said["auth"]["accessor"]
    # And what the caller was warned of, and that the reply was to be wrapped.
    body = {"policies": ["none-such"], "display_name": "x"}
    _, said = await store.ask("POST", "auth/token/create", body)
    assert store.records()[-1]["response"]["warnings"] == said["warnings"] != []
    assert store.records()[-1]["response"]["auth"]["display_name"] == "token-x"
    assert "wrap_ttl" not in store.records()[-1]["request"]
    _, said = await store.ask("POST", "auth/token/create", body, x_vault_wrap_ttl="60")
    assert store.records()[-2]["request"]["wrap_ttl"] == 60
    for name in ("token", "accessor", "wrapped_accessor"):
        assert store.records()[-1]["response"]["wrap_info"][name].startswith("hmac-sha256:")
        assert said["wrap_info"][name] not in str(store.records()[-1])
    await store.ask("PUT", "auth/token/renew-self", {}, token=token)
    assert store.records()[-1]["response"]["auth"]["display_name"] == "userpass-ada"
