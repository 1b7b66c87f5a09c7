"""Identities of Kubernetes stores: what each shows to another cluster's API server."""

import base64
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from strongroom.crypto.x509_dev import DevCertificates, issue
from strongroom.kube.fake import FakeKubeApi
from strongroom.kube.resource import CONFIG_MAPS, SECRETS, SERVICE_ACCOUNTS
from strongroom.model.clock import SimulatedClock, SystemClock
from strongroom.model.errors import Denied, Invalid, NotFound, Unavailable
from strongroom.model.secret import Secret
from strongroom.sync.providers.contract import Find, Provider, PushTarget, SourceMetadata
from strongroom.sync.providers.kinds import Providers
from strongroom.sync.providers.kubernetes import (
    KubernetesProvider,
    KubernetesSettings,
    pushed_marks,
)
from strongroom.sync.providers.references import Surroundings
from strongroom.sync.providers.session import Session
from strongroom.sync.spec import RemoteRef
from strongroom.wire.http import Request, Response
from strongroom.wire.limits import Limits
from strongroom.wire.listener import Exchange, Listener
from strongroom.wire.tls import server_context

READER = {"apiGroups": ["*"], "resources": ["secrets"], "verbs": ["get"]}


@dataclass
class FarServer:
    """An API server with one Secret, for whoever shows a token or certificate that it knows."""

    tokens: set[str] = field(default_factory=set)
    certificates: set[bytes] = field(default_factory=set)
    seen: list[str] = field(default_factory=list)
    answer: Response | None = None
    rules: list[dict[str, Any]] = field(default_factory=lambda: [READER])
    incomplete: bool = False
    allowed: bool = False

    def __call__(self, request: Request, exchange: Exchange) -> None:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        known = token in self.tokens or request.client_certificate in self.certificates
        self.seen.append(token or ("certificate" if request.client_certificate else "nobody"))
        answer = self.answer or self._answer(request.target)
        exchange.reply(answer if known else _status(401, "Unauthorized"))

    def _answer(self, target: str) -> Response:
        if target.endswith("/selfsubjectrulesreviews"):
            status = {"resourceRules": self.rules, "incomplete": self.incomplete}
            return _json(201, {"status": status})
        if target.endswith("/selfsubjectaccessreviews"):
            return _json(201, {"status": {"allowed": self.allowed}})
        if target.endswith("/namespaces/far/secrets/db"):
            data = {"password": base64.b64encode(b"one").decode()}
            return _json(200, {"metadata": {"name": "db", "resourceVersion": "7"}, "data": data})
        return _status(404, "NotFound")


def _json(status: int, body: dict[str, Any]) -> Response:
    return Response(status, json.dumps(body).encode())


def _status(status: int, reason: str) -> Response:
    return _json(status, {"kind": "Status", "reason": reason, "message": "said by the far side"})


@dataclass
class Bed:
    """This cluster, and the far one behind TLS."""

    api: FakeKubeApi
    clock: SimulatedClock
    far: FarServer
    address: str
    authority: bytes
    client: DevCertificates

    @property
    def bundle(self) -> str:
        return base64.b64encode(self.authority).decode()

    async def keep(self, resource: Any = SECRETS, **values: bytes) -> None:
        if resource == SECRETS:
            data = {name: base64.b64encode(each).decode() for name, each in values.items()}
        else:
            data = {name: each.decode() for name, each in values.items()}
        await self.api.create(
            resource, {"metadata": {"name": "auth", "namespace": "n"}, "data": data}
        )

    async def provider(self, **spec: Any) -> Provider:
        store = {
            "metadata": {"name": "s", "namespace": "n"},
            "spec": {"provider": {"kubernetes": {"remoteNamespace": "far", **spec}}},
        }
        return await Providers(Surroundings(self.api, self.clock))(store, "n")

    async def reads(self, **spec: Any) -> dict[str, Any]:
        """What a store of this spec sees of the far Secret."""
        provider = await self.provider(**spec)
        try:
            await provider.validate()
            return dict((await provider.fetch(RemoteRef("db"))).data)
        finally:
            await provider.close()

    @property
    def server(self) -> dict[str, str]:
        return {"url": self.address, "caBundle": self.bundle}

    def kubeconfig(self, user: dict[str, str], **cluster: str) -> bytes:
        said = {"server": self.address, "certificate-authority-data": self.bundle, **cluster}
        return yaml.safe_dump({
            "current-context": "far",
            "contexts": [{"name": "far", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": said}],
            "users": [{"name": "u", "user": user}],
        }).encode()  # fmt: skip


@pytest.fixture
async def bed(api: FakeKubeApi, clock: SimulatedClock, tmp_path: Path) -> AsyncIterator[Bed]:
    now = SystemClock().now()
    made, client = issue(("localhost",), now), issue(("reader",), now)
    (tmp_path / "crt").write_bytes(made.certificate)
    (tmp_path / "key").write_bytes(made.key)
    context = server_context(tmp_path / "crt", tmp_path / "key")
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(cadata=client.authority.decode())
    far = FarServer()
    listener = Listener(far, Limits(), SystemClock())
    _, port = await listener.start("127.0.0.1", 0, tls=context)
    yield Bed(api, clock, far, f"https://localhost:{port}", made.authority, client)
    await listener.drain(0.1)


ONE = {"password": b"one"}
TOKEN = {"token": {"bearerToken": {"name": "auth", "key": "token"}}}


async def test_a_service_accounts_token_is_asked_for_and_shared(bed: Bed) -> None:
    await bed.api.create(SERVICE_ACCOUNTS, {"metadata": {"name": "app", "namespace": "n"}})

    class Trusting(set):
        """The far cluster trusts every token that this one gave."""

        def __contains__(self, token: object) -> bool:
            return token in bed.api.tokens

    bed.far.tokens = Trusting()
    assert await bed.reads(server=bed.server, auth={"serviceAccount": {"name": "app"}}) == ONE
    assert len(set(bed.far.seen)) == 1
    (given,) = bed.api.tokens.values()
    assert given["username"] == "system:serviceaccount:n:app"


async def test_a_bearer_token_is_read_again_when_it_is_refused(bed: Bed) -> None:
    bed.far.tokens = {"first"}
    await bed.keep(token=b"first\n")
    provider = await bed.provider(server=bed.server, auth=TOKEN)
    assert (await provider.fetch(RemoteRef("db"))).data == ONE
    await bed.api.delete(SECRETS, "auth", "n")
    await bed.keep(token=b"second")
    bed.far.tokens = {"second"}
    await bed.clock.advance(30)
    assert (await provider.fetch(RemoteRef("db"))).data == ONE
    assert bed.far.seen == ["first", "first", "second"]
    await provider.close()


async def test_a_client_certificate_is_shown_in_the_handshake(bed: Bed) -> None:
    bed.far.certificates = {ssl.PEM_cert_to_DER_cert(bed.client.certificate.decode())}
    await bed.keep(**{"tls.crt": bed.client.certificate, "tls.key": bed.client.key})
    pair = {"clientCert": {"name": "auth"}, "clientKey": {"name": "auth"}}
    assert await bed.reads(server=bed.server, auth={"cert": pair}) == ONE
    assert set(bed.far.seen) == {"certificate"}


@pytest.mark.parametrize("kind", ["token", "certificate"])
async def test_a_kubeconfig_says_where_and_who(bed: Bed, kind: str) -> None:
    bed.far.tokens = {"t"}
    bed.far.certificates = {ssl.PEM_cert_to_DER_cert(bed.client.certificate.decode())}
    encoded = {
        name: base64.b64encode(each).decode()
        for name, each in (
            ("client-certificate-data", bed.client.certificate),
            ("client-key-data", bed.client.key),
        )
    }
    await bed.keep(config=bed.kubeconfig({"token": "t"} if kind == "token" else encoded))
    assert await bed.reads(authRef={"name": "auth", "key": "config"}) == ONE
    assert set(bed.far.seen) == {"t" if kind == "token" else kind}


@pytest.mark.parametrize(
    "user",
    [
        {"exec": {"command": "/bin/steal"}},
        {"tokenFile": "/var/run/secrets/kubernetes.io/serviceaccount/token"},
        {"client-certificate": "/etc/a.crt", "client-key": "/etc/a.key"},
        {},
    ],
)
async def test_a_kubeconfig_can_run_and_read_nothing_here(bed: Bed, user: dict) -> None:
    await bed.keep(config=bed.kubeconfig(user))
    with pytest.raises(Invalid, match="client-certificate-data") as caught:
        await bed.provider(authRef={"name": "auth", "key": "config"})
    assert caught.value.code == "bad-kubeconfig"
    assert bed.far.seen == []


MERGED = "\n".join(
    ["a: &a {x: y}"]
    + [
        f"{name}: &{name} {{<<: [{','.join([f'*{before}'] * 9)}]}}"
        for before, name in pairwise("abcdefghijklmnop")
    ]
)


@pytest.mark.parametrize(
    "text",
    [MERGED, "a: " + "x" * 300_000, "[" * 5000, "- " * 100_000 + "a"],
    ids=["aliases", "large", "deep", "deeper-than-a-stack"],
)
async def test_a_kubeconfig_that_stands_for_too_much_holds_nobody_up(bed: Bed, text: str) -> None:
    await bed.keep(config=text.encode())
    with pytest.raises(Invalid) as caught:
        await bed.provider(authRef={"name": "auth", "key": "config"})
    assert caught.value.code == "bad-kubeconfig"


async def test_an_authority_may_stand_in_a_config_map(bed: Bed) -> None:
    bed.far.tokens = {"t"}
    await bed.keep(token=b"t")
    await bed.keep(CONFIG_MAPS, ca=bed.authority)
    provider = {"type": "ConfigMap", "name": "auth", "key": "ca"}
    assert await bed.reads(server={"url": bed.address, "caProvider": provider}, auth=TOKEN) == ONE


async def test_a_server_that_the_authority_did_not_sign_hears_no_token(bed: Bed) -> None:
    bed.far.tokens = {"t"}
    await bed.keep(token=b"t")
    other = base64.b64encode(bed.client.authority).decode()
    with pytest.raises(Unavailable):
        await bed.reads(server={"url": bed.address, "caBundle": other}, auth=TOKEN)
    assert bed.far.seen == []


async def test_who_is_not_known_is_denied_and_nothing_is_taken_for_absent(bed: Bed) -> None:
    await bed.keep(token=b"t")
    for call in (lambda p: p.validate(), lambda p: p.fetch(RemoteRef("db"))):
        provider = await bed.provider(server=bed.server, auth=TOKEN)
        with pytest.raises(Denied):
            await call(provider)
        await provider.close()
    bed.far.tokens = {"t"}
    provider = await bed.provider(server=bed.server, auth=TOKEN)
    with pytest.raises(NotFound):
        await provider.fetch(RemoteRef("gone"))
    await provider.close()


async def test_a_reply_made_to_be_cut_is_no_answer(bed: Bed) -> None:
    """What the own API server holds is cut where it lies too deep, which takes its time."""
    bed.far.tokens = {"t"}
    await bed.keep(token=b"t")
    deep = b'{"metadata":{"name":"db","resourceVersion":"7"},"data":{},"x":%b}'
    provider = await bed.provider(server=bed.server, auth=TOKEN)
    for inside in (b"[" * 5000 + b"]" * 5000, b"[" * 4_000_000):
        bed.far.answer = Response(200, deep % inside)
        with pytest.raises(Unavailable) as caught:
            await provider.fetch(RemoteRef("db"))
        assert caught.value.code == "bad-reply"
    await provider.close()


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({}, "spec.provider.kubernetes.auth is needed"),
        ({"auth": {}}, "cert, token, serviceAccount"),
        ({"auth": {**TOKEN, "serviceAccount": {"name": "a"}}}, "has token and serviceAccount"),
        ({"auth": {"token": {}}}, "token.bearerToken is needed"),
        ({"auth": {"serviceAccount": {}}}, "serviceAccount.name is needed"),
        ({"auth": TOKEN, "server": {"url": "ftp://x"}}, "server.url must be a URL"),
        ({"auth": TOKEN, "server": {"caBundle": "%"}}, "server.caBundle is not base64"),
    ],
)
async def test_a_spec_that_cannot_be_used_names_its_field(bed: Bed, spec: dict, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        await bed.provider(**spec)


CALLS = {
    "validate": lambda p: p.validate(),
    "fetch": lambda p: p.fetch(RemoteRef("db")),
    "find": lambda p: p.find(Find()),
    "push": lambda p: p.push(PushTarget("db", "p"), Secret("x")),
    "delete": lambda p: p.delete(PushTarget("db")),
    "exists": lambda p: p.exists(PushTarget("db")),
}
PAGES = {
    "a proxy's page": Response(404, b"<html>no backend</html>"),
    "another API's word": Response(404, b'{"error": "not found"}'),
    "garbage": Response(200, b"\xff\xfe"),
}


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("call", CALLS)
async def test_what_no_api_server_says_is_no_answer(bed: Bed, call: str, page: str) -> None:
    """Policies delete on what is not there."""
    bed.far.tokens = {"t"}
    bed.far.answer = PAGES[page]
    await bed.keep(token=b"t")
    provider = await bed.provider(server=bed.server, auth=TOKEN)
    with pytest.raises(Unavailable):
        await CALLS[call](provider)
    await provider.close()


@pytest.mark.parametrize(
    ("rules", "incomplete", "allowed", "said"),
    [
        ([{**READER, "verbs": ["*"]}], False, False, ""),
        ([{**READER, "resources": ["*"]}], False, False, ""),
        ([{**READER, "resourceNames": ["db"]}], False, False, ""),
        ([], True, True, ""),
        ([], True, False, "it may: nothing"),
        ([], False, True, "it may: nothing"),
        ([{**READER, "apiGroups": ["apps"]}], False, False, "it may: nothing"),
        ([{**READER, "verbs": ["list", "watch"]}], False, False, "it may: list, watch"),
    ],
)
async def test_rights_are_judged_by_what_the_server_lists(
    bed: Bed, rules: list[dict], incomplete: bool, allowed: bool, said: str
) -> None:
    bed.far.tokens = {"t"}
    bed.far.rules, bed.far.incomplete, bed.far.allowed = rules, incomplete, allowed
    await bed.keep(token=b"t")
    provider = await bed.provider(server=bed.server, auth=TOKEN)
    if said:
        with pytest.raises(Denied, match=said) as caught:
            await provider.validate()
        assert "may not get secrets in the namespace far" in caught.value.message
    else:
        await provider.validate()
    await provider.close()


THERE = {"there": "t", "both": "t"}
OF_SOURCE = {"source": "s", "both": "s", "row": "s"}
OF_ROW = {"row": "r"}
LAID = {"source": "s", "both": "s", "row": "r"}


@pytest.mark.parametrize(
    ("policies", "wanted"),
    [
        ({}, {**THERE, **LAID}),
        ({"sourceMergePolicy": "Merge", "targetMergePolicy": "Merge"}, {**THERE, **LAID}),
        ({"sourceMergePolicy": "Replace"}, {**THERE, **OF_ROW}),
        ({"targetMergePolicy": "Replace"}, LAID),
        ({"sourceMergePolicy": "Replace", "targetMergePolicy": "Replace"}, OF_ROW),
        ({"targetMergePolicy": "Ignore"}, THERE),
    ],
)
def test_marks_of_a_pushed_secret_are_merged_by_two_policies(policies, wanted: dict) -> None:
    row = {"labels": OF_ROW, "annotations": OF_ROW, **policies}
    source = SourceMetadata("n", "", OF_SOURCE, OF_SOURCE)
    target = PushTarget("k", metadata=row, source=source)
    held = {"labels": THERE, "annotations": THERE}
    assert pushed_marks(target, held) == {"labels": wanted, "annotations": wanted}


@pytest.mark.parametrize("policy", ["sourceMergePolicy", "targetMergePolicy"])
def test_a_policy_that_is_none_is_named(policy: str) -> None:
    given = "Ignore" if policy == "sourceMergePolicy" else "None"
    with pytest.raises(Invalid, match=f"{policy} must be one of Merge, Replace"):
        pushed_marks(PushTarget("k", metadata={policy: given}), {})


@pytest.mark.parametrize("name", ["", "theirs"])
async def test_a_whole_push_keeps_what_is_there_and_takes_back_its_own(
    api: FakeKubeApi, clock: SimulatedClock, name: str
) -> None:
    """`name`: a key that another writer has before the push, or "" when there is no Secret."""

    async def login() -> tuple[Secret | None, float]:
        return None, 0

    provider = KubernetesProvider(KubernetesSettings("far"), api, Session(login, clock))
    if name:
        before = {"metadata": {"name": "shared", "namespace": "far"}, "data": {name: "eA=="}}
        await api.create(SECRETS, before, manager="somebody")
    there = {name: b"x"} if name else {}
    target = PushTarget("shared", whole={"a": b"1", "b": b"2"})
    await provider.push(target, Secret(b""))
    assert (await provider.fetch(RemoteRef("shared"))).data == {**there, "a": b"1", "b": b"2"}
    # A second source of the same Secret does not undo the first.
    second = PushTarget("shared", whole={"c": b"3"})
    assert (await provider.push(second, Secret(b""))).changed
    assert not (await provider.push(target, Secret(b""))).changed
    # Nobody can tell what was pushed once somebody else has written it.
    theirs = {"data": {"c": "eQ=="}}
    await api.merge_patch(SECRETS, "shared", "far", theirs, manager="somebody")
    await provider.delete(PushTarget("shared"))
    assert (await provider.fetch(RemoteRef("shared"))).data == {**there, "c": b"y"}
    await provider.delete(PushTarget("shared"))
    assert (await provider.fetch(RemoteRef("shared"))).data == {**there, "c": b"y"}


@pytest.mark.parametrize("pusher", ["strongroom", "external-secrets"])
async def test_a_secret_that_is_a_push_alone_goes_with_it(
    api: FakeKubeApi, clock: SimulatedClock, pusher: str
) -> None:
    async def login() -> tuple[Secret | None, float]:
        return None, 0

    provider = KubernetesProvider(KubernetesSettings("far"), api, Session(login, clock))
    pushed = {"metadata": {"name": "own", "namespace": "far"}, "data": {"a": "MQ=="}}
    await api.create(SECRETS, pushed, manager=pusher)
    await provider.push(PushTarget("own", whole={"b": b"2"}), Secret(b""))
    await provider.delete(PushTarget("own", "nothing"))
    await provider.delete(PushTarget("own"))
    assert not await provider.exists(PushTarget("own"))


@pytest.mark.parametrize("call", ["push", "exists", "delete"])
async def test_a_namespaces_store_pushes_into_no_other_namespace_than_its_own(
    bed: Bed, call: str
) -> None:
    bed.far.tokens = {"t"}
    await bed.keep(token=b"t")
    provider = await bed.provider(server=bed.server, auth=TOKEN)
    target = PushTarget("db", "p", metadata={"remoteNamespace": "kube-system"})
    calls = {
        "push": lambda: provider.push(target, Secret("x")),
        "exists": lambda: provider.exists(target),
        "delete": lambda: provider.delete(target),
    }
    with pytest.raises(Invalid, match="ClusterSecretStores alone"):
        await calls[call]()
    await provider.close()
