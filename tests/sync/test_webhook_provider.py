"""The webhook provider against an endpoint that keeps what it is sent."""

import base64
import json
from dataclasses import dataclass, field

import pytest

from strongroom.kube.resource import SECRETS
from strongroom.model.errors import Denied, Invalid, NotFound, Refusal, Throttled, Unavailable
from strongroom.model.secret import Secret
from strongroom.sync.crds import CLUSTER_SECRET_STORES
from strongroom.sync.providers.contract import Find, PushTarget
from strongroom.sync.providers.kinds import Providers
from strongroom.sync.providers.references import Surroundings
from strongroom.sync.spec import RemoteRef, StoreRef
from strongroom.sync.stores import ApiLookup, Stores
from strongroom.sync.values import extract, pick
from strongroom.wire.http import Request, Response


@dataclass
class Endpoint:
    """Answers by path; keeps requests."""

    answers: dict[str, Response] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)

    def __call__(self, request: Request, exchange) -> None:
        self.requests.append(request)
        exchange.reply(self.answers.get(request.target, Response(404)))

    def says(self, path: str, body: object) -> None:
        self.answers[path] = Response(200, json.dumps(body).encode())


@dataclass
class Bed:
    endpoint: Endpoint
    address: str
    api: object
    clock: object

    async def provider(self, **spec):
        spec.setdefault("url", "/get?key={{ .remoteRef.key }}")
        spec["url"] = self.address + spec["url"]
        store = {
            "metadata": {"name": "s", "namespace": "n"},
            "spec": {"provider": {"webhook": spec}},
        }
        return await Providers(Surroundings(self.api, self.clock))(store, "n")

    async def secret(self, labelled: bool = True) -> None:
        labels = {"external-secrets.io/type": "webhook"} if labelled else {}
        data = {"token": base64.b64encode(b"marked-token").decode()}
        metadata = {"name": "cred", "namespace": "n", "labels": labels}
        await self.api.create(SECRETS, {"metadata": metadata, "data": data})


@pytest.fixture
async def bed(api, clock, plain):
    endpoint = Endpoint()
    async with plain(endpoint) as address:
        yield Bed(endpoint, address, api, clock)


CRED = [{"name": "auth", "secretRef": {"name": "cred"}}]


async def test_the_reference_and_secrets_are_put_into_the_request(bed) -> None:
    await bed.secret()
    bed.endpoint.says("/get?key=a/b+c&v=2", {"data": {"value": "one"}})
    provider = await bed.provider(
        url="/get?key={{ .remoteRef.key }}&v={{ .remoteRef.version }}",
        method="post",
        headers={"Authorization": "Bearer {{ .auth.token }}"},
        body='{"k": "{{ .remoteRef.key }}", "ns": "{{ .remoteRef.namespace }}"}',
        result={"jsonPath": "$.data.value"},
        secrets=CRED,
    )
    found = await provider.fetch(RemoteRef("a/b c", version="2"))
    assert found.data == b"one"
    (request,) = bed.endpoint.requests
    assert request.method == "POST"
    assert request.headers["authorization"] == "Bearer marked-token"
    assert json.loads(request.body) == {"k": "a/b c", "ns": "n"}
    await provider.close()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("", b'{"a":{"b":"x","n":3,"t":true,"z":null},"list":[{"k":"p","v":"w"}]}'),
        ("$.a.b", b"x"), ("$.a.n", b"3"), ("$.a.t", b"true"), ("$.a.z", b""),
        ("$.a", b'{"b":"x","n":3,"t":true,"z":null}'), ("$.list", b'{"k":"p","v":"w"}'),
        ("$.list[?(@.k=='p')].v", b"w"), ("$.a.{{ .remoteRef.property }}", b"x"),
    ],
)  # fmt: skip
async def test_results_are_picked_as_users_wrote_them(bed, path: str, value: bytes) -> None:
    said = b'{"a":{"b":"x","n":3,"t":true,"z":null},"list":[{"k":"p","v":"w"}]}'
    bed.endpoint.answers["/get?key=k"] = Response(200, said)
    provider = await bed.provider(result={"jsonPath": path})
    ref = RemoteRef("k", property="b")
    assert pick((await provider.fetch(ref)).data, ref) == value
    assert provider.traits.by_property
    await provider.close()


async def test_objects_are_extracted_also_from_json_in_text(bed) -> None:
    bed.endpoint.says("/get?key=k", {"a": {"u": "x", "n": 1}, "text": '{"u": "y"}'})
    for path, wanted in (("$.a", {"u": b"x", "n": b"1"}), ("$.text", {"u": b"y"})):
        provider = await bed.provider(result={"jsonPath": path})
        found = await provider.fetch(RemoteRef("k"))
        assert extract(found.data, RemoteRef("k")) == wanted
        await provider.close()


@pytest.mark.parametrize(
    ("path", "code"), [("$.absent", "no-result"), ("$.list", "no-result"), ("$.[", "bad-json-path")]
)
async def test_a_path_that_finds_nothing_is_no_missing_secret(bed, path: str, code: str) -> None:
    bed.endpoint.says("/get?key=k", {"a": "marked-value", "list": []})
    provider = await bed.provider(result={"jsonPath": path})
    with pytest.raises(Invalid, match=code) as caught:
        await provider.fetch(RemoteRef("k"))
    assert "marked-value" not in str(caught.value)
    await provider.close()


async def test_a_secret_that_is_not_labelled_is_sent_nowhere(bed) -> None:
    await bed.secret(labelled=False)
    provider = await bed.provider(url="/{{ .auth.token }}", secrets=CRED)
    for work in (provider.validate(), provider.fetch(RemoteRef("k"))):
        with pytest.raises(Denied, match="not labelled"):
            await work
    assert bed.endpoint.requests == []
    await provider.close()


@pytest.mark.parametrize(
    ("answer", "family"),
    [
        (Response(404), NotFound), (Response(401), Denied), (Response(304), Unavailable),
        (Response(429, b"", (("Retry-After", "7"),)), Throttled), (Response(500), Unavailable),
        (Response(400, b'{"error": "marked-token is bad"}'), Invalid),
    ],
)  # fmt: skip
async def test_statuses_are_refusals_and_nothing_sent_comes_back(bed, answer, family) -> None:
    await bed.secret()
    bed.endpoint.answers["/get?t=marked-token"] = answer
    provider = await bed.provider(url="/get?t={{ .auth.token }}", secrets=CRED)
    with pytest.raises(Refusal) as caught:
        await provider.fetch(RemoteRef("k"))
    assert isinstance(caught.value, family)
    assert "marked-token" not in str(caught.value)
    if family is Throttled:
        assert caught.value.retry_after == 7
    await provider.close()


async def test_no_answer_names_the_host_alone(api, clock) -> None:
    bed = Bed(Endpoint(), "http://127.0.0.1:1", api, clock)
    await bed.secret()
    provider = await bed.provider(url="/{{ .auth.token }}", secrets=CRED)
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1") as caught:
        await provider.fetch(RemoteRef("k"))
    assert "marked-token" not in str(caught.value)
    await provider.close()


async def test_a_push_posts_the_value_and_a_delete_deletes(bed) -> None:
    bed.endpoint.says("/x/db", {})
    provider = await bed.provider(url="/x/{{ .remoteRef.remoteKey }}")
    await provider.push(PushTarget("db"), Secret("one"))
    await provider.delete(PushTarget("db"))
    await provider.delete(PushTarget("absent"))
    sent = [(each.method, each.target, each.body) for each in bed.endpoint.requests]
    assert sent == [
        ("GET", "/x/db", b""),
        ("POST", "/x/db", b"one"),
        ("DELETE", "/x/db", b""),
        ("DELETE", "/x/absent", b""),
    ]
    await provider.close()
    body = '{"v": "{{ index .remoteRef .remoteRef.remoteKey }}"}'
    provider = await bed.provider(url="/x/{{ .remoteRef.remoteKey }}", body=body, method="PUT")
    await provider.push(PushTarget("db"), Secret("two"))
    assert (bed.endpoint.requests[-1].method, bed.endpoint.requests[-1].body) == (
        "PUT",
        b'{"v": "two"}',
    )
    await provider.close()


@pytest.mark.parametrize(
    ("held", "changed"),
    [({"v": "one"}, False), ({"v": "two"}, True), ({"v": None}, True), ({}, True)],
)
async def test_what_an_endpoint_answers_with_already_is_not_written(
    bed, held: dict, changed: bool
) -> None:
    bed.endpoint.says("/x/db?p=", held)
    url = "/x/{{ .remoteRef.remoteKey }}?p={{ .remoteRef.property }}"
    provider = await bed.provider(
        url="/x/{{ .remoteRef.remoteKey }}?p=", result={"jsonPath": "$.v"}
    )
    pushed = await provider.push(PushTarget("db"), Secret("one"))
    assert pushed.changed == changed
    assert ("POST" in [each.method for each in bed.endpoint.requests]) == changed
    await provider.close()
    bed.endpoint.says("/x/db?p=name", {"v": "one"})
    provider = await bed.provider(url=url, result={"jsonPath": "$.v"})
    assert not (await provider.push(PushTarget("db", "name"), Secret("one"))).changed
    await provider.close()


@pytest.mark.parametrize("held", [{"v": "two"}, {"v": "one"}])
async def test_a_request_of_a_push_may_name_the_key_of_its_source(bed, held: dict) -> None:
    bed.endpoint.says("/x/db?k=a+b%26c", held)
    url = "/x/{{ .remoteRef.remoteKey }}?k={{ .remoteRef.secretKey }}"
    provider = await bed.provider(url=url, result={"jsonPath": "$.v"})
    target = PushTarget("db", secret_key="a b&c")
    assert (await provider.push(target, Secret("one"))).changed == (held["v"] != "one")
    assert await provider.exists(target)
    await provider.delete(target)
    assert {each.target for each in bed.endpoint.requests} == {"/x/db?k=a+b%26c"}
    assert [each.method for each in bed.endpoint.requests][-1] == "DELETE"
    await provider.close()


async def test_an_object_is_the_same_however_it_is_written(bed) -> None:
    bed.endpoint.says("/x/db", {"b": "2", "a": "1"})
    provider = await bed.provider(url="/x/{{ .remoteRef.remoteKey }}")
    assert not (await provider.push(PushTarget("db"), Secret('{"a":"1","b":"2"}'))).changed
    assert (await provider.push(PushTarget("db"), Secret('{"a":"1","b":"3"}'))).changed
    await provider.close()


async def test_what_cannot_be_compared_is_written_each_time_and_told_once(bed) -> None:
    bed.endpoint.says("/x/db", {})
    spec = {"url": "/x/{{ .remoteRef.remoteKey }}", "method": "POST"}
    provider = await bed.provider(**spec)
    values = ("one", "one", "two", "two", "one")
    told = [(await provider.push(PushTarget("db"), Secret(each))).changed for each in values]
    assert told == [True, False, True, False, True]
    # Its method is the store's own, so a read might write.
    assert [each.body for each in bed.endpoint.requests] == [each.encode() for each in values]
    await provider.close()


@pytest.mark.parametrize("method", ["PUT", "post", "PATCH"])
async def test_who_asks_whether_a_key_exists_writes_nothing(bed, method: str) -> None:
    """The body came without its value, and took the place of what IfNotExists is to leave alone."""
    bed.endpoint.says("/x/db", {})
    body = '{"v": "{{ index .remoteRef .remoteRef.remoteKey }}"}'
    provider = await bed.provider(url="/x/{{ .remoteRef.remoteKey }}", body=body, method=method)
    with pytest.raises(Invalid, match="no-exists"):
        await provider.exists(PushTarget("db"))
    assert bed.endpoint.requests == []
    await provider.close()


async def test_a_key_that_exists_is_told_by_a_read(bed) -> None:
    bed.endpoint.says("/get?key=db", {})
    provider = await bed.provider()
    assert await provider.exists(PushTarget("db"))
    assert not await provider.exists(PushTarget("absent"))
    with pytest.raises(Invalid, match="no-find"):
        await provider.find(Find())
    await provider.close()


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"url": "/{{ .remoteRef.key"}, "url"),
        ({"body": "{{ nothing }}"}, "body"),
        ({"headers": {"A": "{{"}}, "headers.A"),
        ({"timeout": "soon"}, "timeout"),
        ({"auth": {"ntlm": {}}}, "ntlm"),
        ({"secrets": [{"name": "x"}]}, "secretRef"),
    ],
)
async def test_a_spec_that_cannot_be_names_its_field(bed, spec: dict, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        await bed.provider(**spec)


async def test_a_store_of_all_namespaces_asks_in_the_name_of_each(bed) -> None:
    """Whoever asked first gave its name to the requests of all, and so its secrets to them."""
    hook = {"url": f"{bed.address}/{{{{ .remoteRef.namespace }}}}/{{{{ .remoteRef.key }}}}"}
    store = {"metadata": {"name": "hook"}, "spec": {"provider": {"webhook": hook}}}
    await bed.api.create(CLUSTER_SECRET_STORES, store)
    for each in ("one", "two"):
        bed.endpoint.says(f"/{each}/db", each)
    around = Surroundings(bed.api, bed.clock)
    stores = Stores(ApiLookup(bed.api), Providers(around), bed.clock)
    # The first is the look at the store itself, for nobody.
    for each in ("", "one", "two", "one"):
        reads = await stores.reads(StoreRef("hook", "ClusterSecretStore"), each)
        if not each:
            await reads.provider.validate()
            continue
        assert (await reads.provider.fetch(RemoteRef("db"))).data == json.dumps(each).encode()
