"""The Vault client against a scripted server on our own listener: families, versions, feed."""

import json
from collections.abc import AsyncIterator

import pytest

from strongroom.model.clock import SystemClock
from strongroom.model.errors import Conflict, Denied, Invalid, NotFound, Unavailable
from strongroom.model.secret import Secret
from strongroom.wire.client import HttpClient
from strongroom.wire.http import Request, Response
from strongroom.wire.limits import Limits
from strongroom.wire.listener import Exchange, Listener
from strongroom.wire.vault import KvVersion, VaultClient


def version(data: object, number: int, deleted: str = "") -> dict:
    metadata = {
        "version": number,
        "created_time": "t",
        "deletion_time": deleted,
        "destroyed": False,
    }
    return {"data": {"data": data, "metadata": metadata | {"deletion_time": deleted}}}


def nested(levels: int) -> dict:
    found: dict = {}
    for _ in range(levels):
        found = {"a": found}
    return found


REPLIES = {
    "/v1/secret/data/deep": (200, version(nested(330), 1)),
    "/v1/secret/data/gone": (404, version(None, 2, "d")),
    "/v1/secret/data/db?version=1": (200, version({"password": "canary-1"}, 1)),
    "/v1/secret/metadata/prod?list=true": (200, {"data": {"keys": ["db", "web/"]}}),
    "/v1/status/400": (400, {"errors": ["check-and-set parameter did not match"]}),
    "/v1/status/403": (403, {"errors": ["permission denied"]}),
    "/v1/wrapped": (403, {"errors": ["2 errors occurred:\n\t* one\n\t* two\n\n", "three"]}),
    "/v1/status/404": (404, {"errors": []}),
    "/v1/status/412": (412, {"errors": []}),
    "/v1/status/503": (503, {"errors": ["sealed"]}),
    "/v1/status/204": (204, None),
    **{
        f"/v1/auth/{name}/login": (200, {"auth": {"client_token": token, "lease_duration": 1}})
        for name, token in (("number", 1_000_000), ("null", None), ("list", ["t"]), ("map", {}))
    },
}


def scripted(request: Request, exchange: Exchange) -> None:
    if request.target.startswith("/v1/sys/events"):
        socket = exchange.accept_websocket(request)
        socket.send_text(json.dumps({"id": "1", "token": request.headers["x-vault-token"]}))
        socket.close()
        return
    status, body = REPLIES.get(request.target, (404, {"errors": []}))
    exchange.reply(Response(status, b"" if body is None else json.dumps(body).encode()))


@pytest.fixture
async def client() -> AsyncIterator[VaultClient]:
    listener = Listener(scripted, Limits(), SystemClock())
    host, port = await listener.start("127.0.0.1", 0)
    async with HttpClient() as http:
        yield VaultClient(f"http://{host}:{port}", Secret("hvs.t"), http)
    await listener.drain(0.2)


@pytest.mark.parametrize(
    ("status", "family"),
    [(400, Invalid), (403, Denied), (404, NotFound), (412, Conflict), (503, Unavailable)],
)
async def test_statuses_become_families(client, status, family) -> None:
    """With the server's sentence where it gave one."""
    with pytest.raises(family) as caught:
        await client.request("GET", f"status/{status}")
    said = (REPLIES[f"/v1/status/{status}"][1]["errors"] or [""])[0]
    assert said in caught.value.message
    assert str(status) in caught.value.message


async def test_versions_lists_and_empty_replies(client) -> None:
    """A deleted version is a version without data; its repr shows names, not values."""
    assert await client.kv2_read("secret", "gone") == KvVersion({}, 2, "t", "d", False)
    one = await client.kv2_read("secret", "db", 1)
    assert one.data == {"password": "canary-1"}
    assert "canary" not in repr(one)
    assert await client.list("secret/metadata/prod") == ["db", "web/"]
    assert await client.list("secret/metadata/none") == []
    assert await client.request("GET", "status/204") == {}
    with pytest.raises(NotFound):
        await client.kv2_read("secret", "never")


async def test_the_feed_is_a_websocket_with_the_token(client) -> None:
    """One event, then the server closes and the iterator ends."""
    assert [event async for event in client.subscribe()] == [{"id": "1", "token": "hvs.t"}]


async def test_nobody_there_is_unavailable() -> None:
    """Named, with a hint, and without the token."""
    async with HttpClient() as http:
        client = VaultClient("http://127.0.0.1:9", Secret("hvs.canary"), http)
        with pytest.raises(Unavailable) as caught:
            await client.request("GET", "sys/health")
    assert caught.value.code == "unreachable"
    assert "canary" not in str(caught.value)


async def test_errors_that_the_server_wraps_are_one_line(client: VaultClient) -> None:
    with pytest.raises(Denied) as caught:
        await client.request("GET", "wrapped")
    assert caught.value.message == "wrapped: one; two; three (status 403)"


@pytest.mark.parametrize("name", ["number", "null", "list", "map"])
async def test_a_login_without_a_text_for_a_token_is_no_answer(
    client: VaultClient, name: str
) -> None:
    """A tenant's own server gave a number, and the operator made gigabytes of zeros of it."""
    with pytest.raises(Unavailable, match="holds no token"):
        await client.login(f"auth/{name}/login", {})


async def test_a_secret_may_be_nested_deeper_than_functions_call_each_other(client) -> None:
    """Where any tenant may write one, whoever read it met a bug in place of a value."""
    found = (await client.kv2_read("secret", "deep")).data
    levels = 0
    while found:
        found, levels = found["a"], levels + 1
    assert levels == 330
