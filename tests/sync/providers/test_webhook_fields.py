"""Fields of webhook stores that say how the endpoint is asked."""

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

from strongroom.crypto.x509_dev import issue
from strongroom.kube.fake import FakeKubeApi
from strongroom.kube.resource import CONFIG_MAPS, SECRETS
from strongroom.model.clock import SimulatedClock, SystemClock
from strongroom.model.errors import Invalid, Unavailable
from strongroom.model.secret import Secret
from strongroom.sync.providers.contract import Provider, PushTarget
from strongroom.sync.providers.fields import Fields
from strongroom.sync.providers.kinds import Providers
from strongroom.sync.providers.references import Surroundings
from strongroom.sync.providers.retries import CALL_SECONDS
from strongroom.sync.providers.webhook import WebhookTemplates
from strongroom.sync.spec import RemoteRef
from strongroom.wire.http import Request, Response
from strongroom.wire.listener import Exchange


class Endpoint:
    """Says back what it was asked; nothing at all while it is silent."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.silent = False

    def __call__(self, request: Request, exchange: Exchange) -> None:
        self.requests.append(request)
        if not self.silent:
            exchange.reply(Response(200, b'{"value": "one"}'))


async def provider_of(api: FakeKubeApi, url: str, **spec: Any) -> Provider:
    store = {
        "metadata": {"name": "s", "namespace": "n"},
        "spec": {"provider": {"webhook": {"url": url, **spec}}},
    }
    return await Providers(Surroundings(api, SimulatedClock()))(store, "n")


@pytest.mark.parametrize(
    ("spec", "method", "body"),
    [
        ({}, "GET", b""),
        ({"method": "post"}, "POST", b""),
        (
            {"method": "PUT", "body": '{"k": "{{ .remoteRef.key }}", "v": "{{ .remoteRef.version }}"}'},
            "PUT",
            b'{"k": "db", "v": "3"}',
        ),
    ],
)  # fmt: skip
async def test_method_and_body(
    api: FakeKubeApi, plain: Any, spec: dict, method: str, body: bytes
) -> None:
    endpoint = Endpoint()
    async with plain(endpoint) as address:
        provider = await provider_of(api, address, **spec)
        found = await provider.fetch(RemoteRef("db", version="3"))
        assert found.data == b'{"value": "one"}'
        await provider.close()
    (request,) = endpoint.requests
    assert (request.method, request.body) == (method, body)


async def test_a_body_of_a_push_is_a_template_too(api: FakeKubeApi, plain: Any) -> None:
    endpoint = Endpoint()
    async with plain(endpoint) as address:
        body = '{"name": "{{ .remoteRef.remoteKey }}", "value": "{{ index .remoteRef "db" }}"}'
        provider = await provider_of(api, address, method="PATCH", body=body)
        await provider.push(PushTarget("db"), Secret("marked-value"))
        await provider.close()
    (request,) = endpoint.requests
    assert (request.method, request.body) == ("PATCH", b'{"name": "db", "value": "marked-value"}')


async def test_a_timeout_ends_the_wait(api: FakeKubeApi, plain: Any) -> None:
    endpoint = Endpoint()
    endpoint.silent = True
    async with plain(endpoint) as address:
        provider = await provider_of(api, address, timeout="100ms")
        with pytest.raises(Unavailable, match="no answer"):
            await asyncio.wait_for(provider.fetch(RemoteRef("db")), 60)
        await provider.close()


@pytest.mark.parametrize("kind", ["caBundle", "Secret", "ConfigMap"])
async def test_an_authority_of_ones_own(
    api: FakeKubeApi, tls: Any, tmp_path: Path, kind: str
) -> None:
    endpoint = Endpoint()
    async with tls(endpoint, tmp_path) as (address, authority):
        pem = authority.read_bytes()
        bundle = base64.b64encode(pem).decode()
        where = {"name": "trust", "namespace": "n"}
        await api.create(SECRETS, {"metadata": where, "data": {"pem": bundle}})
        await api.create(CONFIG_MAPS, {"metadata": where, "data": {"pem": pem.decode()}})
        ref = {"type": kind, "name": "trust", "key": "pem"}
        spec = {"caBundle": bundle} if kind == "caBundle" else {"caProvider": ref}
        provider = await provider_of(api, address, **spec)
        assert (await provider.fetch(RemoteRef("db"))).data == b'{"value": "one"}'
        await provider.close()
        other = base64.b64encode(issue(("x",), SystemClock().now()).authority).decode()
        stranger = await provider_of(api, address, caBundle=other)
        with pytest.raises(Unavailable):
            await stranger.fetch(RemoteRef("db"))
        await stranger.close()
    assert len(endpoint.requests) == 1


async def test_an_authority_that_is_none_is_named(api: FakeKubeApi) -> None:
    with pytest.raises(Invalid, match=r"webhook\.caBundle is not base64"):
        await provider_of(api, "https://x", caBundle="%")


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("", 30.0), ("5s", 5.0), ("0s", CALL_SECONDS), ("87600h", CALL_SECONDS)],
)
def test_no_request_may_take_for_ever(given: str, seconds: float) -> None:
    """Two dozen that hang were all workers that an operator has for every namespace."""
    spec = Fields({"url": "http://hook", "timeout": given}, "spec.provider.webhook")
    assert WebhookTemplates.from_spec(spec).timeout == seconds
