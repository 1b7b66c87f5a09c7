"""Whoever asks through a trusted proxy is who the proxy says, for networks, records and quotas."""

import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from strongroom.app.server import admits_behind_proxy, behind_proxy
from strongroom.model.clock import SystemClock
from strongroom.wire.client import HttpClient
from strongroom.wire.forwarded import ForwardedFor
from strongroom.wire.http import Request, Response
from strongroom.wire.limits import Limits
from strongroom.wire.listener import Exchange, Listener

HERE = (ipaddress.ip_network("127.0.0.0/8"),)
ELSEWHERE = (ipaddress.ip_network("192.0.2.0/24"),)
CLIENT = {"X_Forwarded_For": "192.0.2.7"}
READS, TEAM = 'path "secret/data/a" { capabilities = ["read"] }', {"token_policies": "team"}


@asynccontextmanager
async def proxied(store, rules: ForwardedFor) -> AsyncIterator[None]:
    """The same store, asked at an address whose listener has these rules."""
    listener = Listener(behind_proxy(store.handler, rules), Limits(), store.clock)
    _, port = await listener.start("127.0.0.1", 0)
    direct, store.port = store.port, port
    yield
    store.port = direct
    await store.http.close()
    await listener.drain(0)


async def test_bound_networks_are_those_of_the_client_behind_the_proxy(store) -> None:
    await store.ask("POST", "sys/auth/approle", {"type": "approle"})
    role = {
        "role_id": "rid", "bind_secret_id": False, "secret_id_bound_cidrs": "192.0.2.0/24",
        "token_bound_cidrs": "192.0.2.0/28",
    }  # fmt: skip
    assert (await store.ask("POST", "auth/approle/role/r", role))[0] == 204
    body = {"role_id": "rid"}
    async with proxied(store, ForwardedFor(HERE)):
        status, said = await store.ask("POST", "auth/approle/login", body, token="", **CLIENT)
        assert status == 200
        token = said["auth"]["client_token"]
        look = ("GET", "auth/token/lookup-self", None, token)
        assert (await store.ask(*look, **CLIENT))[0] == 200
        recorded = store.records()[-1]["request"]
        assert recorded["remote_address"] == "192.0.2.7"
        # As in Vault, the proxy's: it has told of the address alone.
        assert 0 < recorded["remote_port"] < 65536
        # In the role's network of secret ids, and outside the token's.
        assert (await store.ask(*look, X_Forwarded_For="192.0.2.77"))[0] == 403
        # What the client wrote itself, to the left of what the proxy saw.
        assert (await store.ask(*look, X_Forwarded_For="192.0.2.7, 198.51.100.1"))[0] == 403
        assert (await store.ask(*look))[0] == 400
        # Nor is it given what the store remembers of an answer to the token.
        await store.ask("POST", "sys/policies/acl/team", {"policy": READS}, **CLIENT)
        await store.ask("POST", "secret/data/a", {"data": {"k": "v"}}, **CLIENT)
        assert (await store.ask("POST", "auth/approle/role/r", TEAM, **CLIENT))[0] == 204
        _, said = await store.ask("POST", "auth/approle/login", body, token="", **CLIENT)
        read = ("GET", "secret/data/a", None, said["auth"]["client_token"])
        for _ in range(3):
            assert (await store.ask(*read, **CLIENT))[0] == 200
        assert (await store.ask(*read, X_Forwarded_For="192.0.2.77"))[0] == 403
    assert (await store.ask(*look))[0] == 403
    assert (await store.ask(*look, **CLIENT))[0] == 403


async def test_who_is_no_trusted_proxy_says_nothing_about_its_client(store) -> None:
    look = ("GET", "auth/token/lookup-self")
    async with proxied(store, ForwardedFor(ELSEWHERE)):
        status, said = await store.ask(*look, **CLIENT)
        assert (status, "not authorized for x-forwarded-for" in said["errors"][0]) == (400, True)
    async with proxied(store, ForwardedFor(ELSEWHERE, needed=False, trusted_only=False)):
        assert (await store.ask(*look, **CLIENT))[0] == 200
        assert store.records()[-1]["request"]["remote_address"] == "127.0.0.1"


async def test_probes_are_answered_whoever_asks() -> None:
    """A kubelet names no client, and whoever is refused here is killed."""

    def alive(_: Request, exchange: Exchange) -> None:
        exchange.reply(Response(200))

    for rules, headers in ((ForwardedFor(HERE), {}), (ForwardedFor(ELSEWHERE), CLIENT)):
        listener = Listener(behind_proxy(alive, rules), Limits(), SystemClock())
        host, port = await listener.start("127.0.0.1", 0)
        said = {name.replace("_", "-"): value for name, value in headers.items()}
        async with HttpClient() as http:
            for path, status in (("livez", 200), ("readyz?verbose", 200), ("v1/sys/health", 400)):
                asked = await http.request("GET", f"http://{host}:{port}/{path}", headers=said)
                assert (path, asked.status) == (path, status)
        await listener.drain(0)


async def test_a_large_body_is_admitted_for_the_client_and_not_for_the_proxy() -> None:
    asked = []

    async def admits(request: Request) -> bool:
        asked.append(request.peer)
        return True

    ask = admits_behind_proxy(admits, ForwardedFor(HERE))
    request = Request("POST", "/v1/x", {"x-forwarded-for": "192.0.2.7"}, peer="127.0.0.1")
    assert await ask(request)
    assert (asked, request.peer) == (["192.0.2.7"], "127.0.0.1")
    assert not await ask(Request("POST", "/v1/x", {}, peer="127.0.0.1"))
    assert admits_behind_proxy(admits, None) is admits
