"""`sys/audit` and its neighbours: devices by API, fixed ones, forms, request headers, failures."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from strongroom.audit.devices import Enabled, MemoryDevice
from strongroom.audit.kinds import Asked, enable
from strongroom.model.errors import Unavailable


class Store:
    """An open node and its root token."""

    def __init__(self, node: Any, root: str) -> None:
        self.node, self.root, self.device = node, root, node.device

    async def ask(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, Any]:
        return await self.node.ask(method, path, body, self.root, **headers)

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.device.lines]


async def opened(start: Any, **more: Any) -> Store:
    node = start(**more)
    keys, root = await node.init(1, 1)
    await node.unseal(keys)
    store = Store(node, root)
    mount = {"type": "kv", "options": {"version": "2"}}
    assert (await store.ask("POST", "sys/mounts/secret", mount))[0] == 204
    return store


@pytest.fixture
async def store(start: Any) -> Store:
    """With one device in memory, and none by the API."""
    return await opened(start)


@pytest.fixture
async def open_store(start: Any, tmp_path: Path) -> AsyncIterator[Store]:
    """One that takes audit devices by API, with a fixed file beside the device in memory."""
    options = {"file_path": str(tmp_path / "fixed.log")}
    fixed = enable(Asked("fixed/", "file", options), fixed=True)
    yield await opened(start, audit=(fixed,))
    fixed.device.close()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_without_the_switch_the_api_enables_nothing(store, tmp_path: Path) -> None:
    body = {"type": "file", "options": {"file_path": str(tmp_path / "a")}}
    status, reply = await store.ask("PUT", "sys/audit/mine", body)
    assert (status, "unsafe_allow_api_audit_creation" in reply["errors"][0]) == (400, True)
    assert not (tmp_path / "a").exists()


async def test_a_device_comes_records_in_its_form_and_goes(open_store, tmp_path: Path) -> None:
    store, path = open_store, tmp_path / "raw.log"
    options = {"file_path": str(path), "log_raw": True, "elide_list_responses": "true"}
    body = {"type": "file", "description": "everything", "options": options}
    assert await store.ask("PUT", "sys/audit/raw", body) == (204, None)
    _, reply = await store.ask("GET", "sys/audit")
    assert reply["raw/"] == reply["data"]["raw/"]
    assert reply["raw/"]["options"]["log_raw"] == "true"
    assert (await store.ask("PUT", "sys/audit/raw", body))[0] == 400
    await store.ask("POST", "secret/data/a", {"data": {"password": "marked-value"}})
    for _ in range(2):  # the second may come from memory
        assert (await store.ask("GET", "secret/data/a"))[0] == 200
    await store.ask("LIST", "secret/metadata")
    found = lines(path)
    assert sum("marked-value" in json.dumps(each) for each in found) == 4  # write twice, two reads
    listed = [each for each in found if each.get("request", {}).get("operation") == "list"]
    assert listed[-1]["response"]["data"]["keys"] == 1
    for other in (tmp_path / "fixed.log").read_text(), "".join(map(str, store.device.lines)):
        assert "marked-value" not in other
        assert "hmac-sha256:" in other
    assert (await store.ask("DELETE", "sys/audit/raw"))[0] == 204
    count = len(lines(path))
    await store.ask("GET", "secret/data/a")
    assert len(lines(path)) == count
    assert "raw/" not in (await store.ask("GET", "sys/audit"))[1]["data"]


async def test_of_those_who_enable_one_path_at_once_one_does(open_store, tmp_path: Path) -> None:
    def enabling(number: int) -> Any:
        options = {"file_path": str(tmp_path / str(number))}
        return open_store.ask("PUT", "sys/audit/one", {"type": "file", "options": options})

    found = await asyncio.gather(*(enabling(number) for number in range(4)))
    assert sorted(status for status, _ in found) == [204, 400, 400, 400]
    assert all("path already in use" in reply["errors"][0] for _, reply in found if reply)
    kept = (await open_store.ask("GET", "sys/audit"))[1]["data"]["one/"]["options"]["file_path"]
    mine = [status for status, _ in found].index(204)
    assert kept == str(tmp_path / str(mine))


async def test_a_device_of_the_configuration_stays(open_store) -> None:
    status, reply = await open_store.ask("DELETE", "sys/audit/fixed")
    assert (status, "defined in the server's configuration" in reply["errors"][0]) == (400, True)
    assert "fixed/" in (await open_store.ask("GET", "sys/audit"))[1]["data"]


async def test_a_device_that_cannot_write_is_not_enabled(open_store, tmp_path: Path) -> None:
    for path, said in (
        ("/dev/full", "No space left on device"),
        (str(tmp_path / "no/where"), "No such file or directory"),
    ):
        body = {"type": "file", "options": {"file_path": path}}
        status, reply = await open_store.ask("PUT", "sys/audit/bad", body)
        wrong = f"sanity check failed: the audit device {path} cannot be written: {said}"
        assert (status, reply["errors"]) == (400, [wrong])
    assert "bad/" not in (await open_store.ask("GET", "sys/audit"))[1]["data"]


async def test_a_device_that_was_away_at_the_start_records_once_it_is_back(
    open_store, start, tmp_path: Path
) -> None:
    folder, away = tmp_path / "logs", tmp_path / "away"
    folder.mkdir()
    options = {"file_path": str(folder / "one.log"), "log_raw": "true"}
    body = {"type": "file", "options": options}
    assert (await open_store.ask("PUT", "sys/audit/one", body))[0] == 204
    folder.rename(away)
    node = start()  # another process of the cluster
    assert await node.seal.unseal_by_itself()
    _, health = await node.ask("GET", "sys/health")
    assert "No such file" in health["audit_failures"]["one/"]
    node.device.broken = True
    assert (await node.ask("GET", "secret/data/a", token=open_store.root))[0] == 503
    assert "No such file" in node.broker.failing["one/"]
    assert node.broker.silent
    assert (await node.ask("GET", "/readyz"))[0] == 503
    away.rename(folder)
    assert (await node.ask("GET", "secret/data/a", token=open_store.root))[0] == 404
    assert "one/" not in node.broker.failing
    assert open_store.root in (folder / "one.log").read_text().splitlines()[-1]  # in its own form


async def test_one_that_fails_is_reported_and_none_left_refuses(open_store) -> None:
    store = open_store
    store.device.broken = True
    assert (await store.ask("GET", "auth/token/lookup-self"))[0] == 200
    _, health = await store.ask("GET", "sys/health")
    assert health["audit_failures"] == {"memory": "the audit device memory is broken"}
    _, text = await store.ask("GET", "sys/metrics?format=prometheus")
    assert 'strongroom_audit_failures_total{device="memory"' in text
    store.device.broken = False
    await store.ask("GET", "auth/token/lookup-self")
    assert "audit_failures" not in (await store.ask("GET", "sys/health"))[1]


class TakesNoAnswers(MemoryDevice):
    """As a disk that is full from a request's record on."""

    def write(self, lines: bytes) -> None:
        if b'"type":"response"' in lines:
            raise Unavailable("audit-unwritable", "the audit device memory is full")
        super().write(lines)


async def test_who_is_told_that_nothing_records_is_told_whether_it_was_done(store) -> None:
    """A write whose answer alone could not be recorded was said to be refused."""
    store.node.broker.replace([Enabled("memory", TakesNoAnswers())])
    assert await store.ask("POST", "secret/data/a", {"data": {"k": "v"}}) == (503, {"errors": [
        "no audit device can record the answer: the audit device memory is full;"
        " what was asked is done: look before you ask again; repair the audit device"
    ]})  # fmt: skip
    _, refused = await store.ask("GET", "secret/data/none")
    assert "can record the request" in refused["errors"][0]
    store.node.broker.replace([Enabled("memory", store.device)])
    assert (await store.ask("GET", "secret/data/a"))[1]["data"]["data"] == {"k": "v"}
    store.device.broken = True
    _, refused = await store.ask("POST", "secret/data/a", {"data": {"k": "w"}})
    assert refused["errors"] == [
        "no audit device can record the request: the audit device memory is broken;"
        " it was refused; repair the audit device"
    ]
    store.device.broken = False
    assert (await store.ask("GET", "secret/data/a"))[1]["data"]["data"] == {"k": "v"}


async def test_a_request_whose_record_fits_no_datagram_is_refused_and_changes_nothing(
    store,
) -> None:
    """It was cut, and the request done."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as collector:
        collector.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{collector.getsockname()[1]}"
        options = {"address": address, "socket_type": "udp"}
        udp = enable(Asked("collector/", "socket", options), fixed=True)
        store.node.broker.replace([udp])
        wide = {"data": {f"name-{number}": "value" for number in range(1000)}}
        status, reply = await store.ask("POST", "secret/data/wide", wide)
        assert (status, len(reply["errors"])) == (503, 1)
        assert f"bytes does not fit the audit device udp://{address}" in reply["errors"][0]
        _, health = await store.ask("GET", "sys/health")
        assert "does not fit" in health["audit_failures"]["collector/"]
        assert (await store.ask("GET", "secret/data/wide"))[0] == 404
        assert "audit_failures" not in (await store.ask("GET", "sys/health"))[1]
        udp.device.close()


async def test_cve_2024_0831_one_device_is_raw_and_the_others_are_not(
    open_store, tmp_path: Path
) -> None:
    """`log_raw` of one device took effect in the others."""
    raw = tmp_path / "raw.log"
    body = {"type": "file", "options": {"file_path": str(raw), "log_raw": True}}
    assert (await open_store.ask("PUT", "sys/audit/raw", body))[0] == 204
    await open_store.ask("PUT", "secret/data/a", {"data": {"k": "marked-value"}})
    await open_store.ask("GET", "secret/data/a")
    assert "marked-value" in raw.read_text()
    assert "marked-value" not in (tmp_path / "fixed.log").read_text()
    assert b"marked-value" not in b"".join(open_store.device.lines)
    await open_store.ask("PUT", "sys/audit/late", {"type": "file", "options": {
        "file_path": str(tmp_path / "late.log")}})  # fmt: skip
    await open_store.ask("GET", "secret/data/a")
    assert "marked-value" not in (tmp_path / "late.log").read_text()


async def test_whose_token_came_is_hidden_as_each_device_wants_it(
    open_store, tmp_path: Path
) -> None:
    forms = {"raw": {"log_raw": True}, "open": {"hmac_accessor": False}}
    for name, form in forms.items():
        options = {"file_path": str(tmp_path / f"{name}.log"), **form}
        body = {"type": "file", "options": options}
        assert (await open_store.ask("PUT", f"sys/audit/{name}", body))[0] == 204
    said = (await open_store.ask("GET", "auth/token/lookup-self"))[1]["data"]
    hashes = {}
    for name in ("id", "accessor"):
        body = {"input": said[name]}
        _, known = await open_store.ask("PUT", "sys/audit-hash/fixed", body)
        hashes[name] = known["hash"]
    await open_store.ask("GET", "auth/token/lookup-self")
    for name, token, accessor in (
        ("fixed", hashes["id"], hashes["accessor"]),
        ("open", hashes["id"], said["accessor"]),
        ("raw", said["id"], said["accessor"]),
    ):
        for record in lines(tmp_path / f"{name}.log")[-2:]:
            asked, auth = record["request"], record["auth"]
            assert asked["client_token"] == auth["client_token"] == token
            assert asked["client_token_accessor"] == auth["accessor"] == accessor


async def flushed() -> None:
    """What was submitted is written at the end of the next turn of the event loop."""
    for _ in range(2):
        await asyncio.sleep(0)


async def test_a_store_that_cannot_record_is_not_ready_until_a_device_is_back(store) -> None:
    store.device.broken = True
    assert (await store.ask("GET", "auth/token/lookup-self"))[0] == 503
    said = {"audit": "no device records: the audit device memory is broken"}
    assert await store.ask("GET", "/readyz") == (503, {"ready": False, "problems": said})
    assert (await store.ask("GET", "/livez"))[0] == 200
    store.node.broker.probe()
    await flushed()
    assert (await store.ask("GET", "/readyz"))[0] == 503
    store.device.broken = False
    store.node.broker.probe()  # nobody sends requests to a server that is not ready
    await flushed()
    assert (await store.ask("GET", "/readyz"))[0] == 200
    assert store.records()[-1]["type"] == "test"


async def test_request_headers_are_recorded_as_configured(open_store) -> None:
    store, path = open_store, "sys/config/auditing/request-headers"
    assert (await store.ask("PUT", f"{path}/X-Team", {"hmac": True}))[0] == 204
    assert (await store.ask("PUT", f"{path}/x-ticket", {}))[0] == 204
    assert (await store.ask("PUT", f"{path}/X-Vault-Token", {}))[0] == 400
    _, reply = await store.ask("GET", path)
    assert reply["headers"] == {"x-team": {"hmac": True}, "x-ticket": {"hmac": False}}
    assert (await store.ask("GET", f"{path}/x-team"))[1]["data"] == {"x-team": {"hmac": True}}
    await store.ask("GET", "auth/token/lookup-self", x_team="blue", x_ticket="42", x_other="no")
    recorded = store.records()[-1]["request"]["headers"]
    assert recorded["x-ticket"] == ["42"]
    (hashed,) = recorded["x-team"]
    _, known = await store.ask("PUT", "sys/audit-hash/fixed", {"input": "blue"})
    assert hashed == known["data"]["hash"] == known["hash"]
    assert set(recorded) == {"x-team", "x-ticket"}
    await store.ask("DELETE", f"{path}/x-team")
    assert (await store.ask("GET", f"{path}/x-team"))[0] == 400


async def test_what_is_searched_for_is_what_is_recorded(store) -> None:
    await store.ask("POST", "secret/data/a", {"data": {"password": "findme"}})
    (device,) = (await store.ask("GET", "sys/audit"))[1]["data"]
    _, known = await store.ask("PUT", f"sys/audit-hash/{device}", {"input": "findme"})
    assert any(known["data"]["hash"] in json.dumps(each) for each in store.records())
    assert await store.ask("PUT", "sys/audit-hash/other", {"input": "findme"}) == (
        400, {"errors": ["unknown audit backend other/"]},
    )  # fmt: skip
