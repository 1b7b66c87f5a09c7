"""Kubernetes stores on a real API server: each identity, its rights, and what it may not do."""

import asyncio
import base64
import contextlib
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml

from strongroom.app.cluster.control_plane import CERTIFICATE_USER, ControlPlane
from strongroom.app.waiting import until
from strongroom.kube.client import KubeClient
from strongroom.kube.fake import FakeKubeApi
from strongroom.kube.informer import Informer
from strongroom.kube.resource import (
    CONFIG_MAPS,
    NAMESPACES,
    ROLE_BINDINGS,
    ROLES,
    SECRETS,
    SERVICE_ACCOUNTS,
    Object,
)
from strongroom.kube.token_review import request_token
from strongroom.model.clock import SystemClock
from strongroom.model.errors import Denied, Invalid, NotFound
from strongroom.model.secret import Secret
from strongroom.sync.crds import SECRET_STORES
from strongroom.sync.providers.contract import Find, Provider, PushTarget
from strongroom.sync.providers.fields import Fields
from strongroom.sync.providers.kinds import Providers
from strongroom.sync.providers.references import References, Surroundings
from strongroom.sync.spec import RemoteRef
from strongroom.sync.store_controller import StoreController
from strongroom.sync.stores import ApiLookup, Stores
from strongroom.sync.template_spec import parse_template
from strongroom.sync.template_texts import template_texts
from strongroom.sync.values import pick

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
CLOCK = SystemClock()
NUMBERS = itertools.count(1)
READER = ("get",)
WRITER = ("get", "list", "create", "update", "delete")


@dataclass
class Bed:
    """Two namespaces of a real cluster: stores stand in `home`, Secrets in `far`."""

    control: ControlPlane
    api: KubeClient
    home: str
    far: str
    made: list[Provider] = field(default_factory=list)

    @property
    def authority(self) -> str:
        return self.control.ca_file.read_text()

    async def keep(self, **values: str | bytes) -> None:
        data = {
            name: base64.b64encode(each if isinstance(each, bytes) else each.encode()).decode()
            for name, each in values.items()
        }
        await self.api.create(SECRETS, {"metadata": self.at("auth"), "data": data})

    def at(self, name: str) -> dict[str, str]:
        return {"name": name, "namespace": self.home}

    async def account(self, *verbs: str, names: tuple[str, ...] = ()) -> None:
        """A service account `app` of `home` with these verbs on Secrets of `far`."""
        await self.api.create(SERVICE_ACCOUNTS, {"metadata": self.at("app")})
        subject = {"kind": "ServiceAccount", "name": "app", "namespace": self.home}
        await self.allow(subject, *verbs, names=names)

    async def allow(self, subject: Object, *verbs: str, names: tuple[str, ...] = ()) -> None:
        rule: Object = {"apiGroups": [""], "resources": ["secrets"], "verbs": list(verbs)}
        rule |= {"resourceNames": list(names)} if names else {}
        where = {"name": "app", "namespace": self.far}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "app"}
        await self.api.create(ROLES, {"metadata": where, "rules": [rule]})
        binding = {"metadata": where, "subjects": [subject], "roleRef": role}
        await self.api.create(ROLE_BINDINGS, binding)

    def spec(self, **spec: Any) -> dict[str, Any]:
        bundle = base64.b64encode(self.authority.encode()).decode()
        server = {"url": self.control.url, "caBundle": bundle}
        return {"provider": {"kubernetes": {"server": server, "remoteNamespace": self.far, **spec}}}

    async def provider(self, *, cluster: bool = False, **spec: Any) -> Provider:
        metadata = {"name": "s"} if cluster else self.at("s")
        store = {"metadata": metadata, "spec": self.spec(**spec)}
        self.made.append(await Providers(Surroundings(self.api, CLOCK))(store, self.home))
        return self.made[-1]

    async def reads(self, **spec: Any) -> bool:
        """Whether a store of this spec is valid and sees the Secret, as soon as rights count."""
        provider = await self.provider(**spec)

        async def valid() -> bool | None:
            try:
                await provider.validate()
            except Denied:
                return None
            return True

        await until("the rights", valid, CLOCK, seconds=120)
        return (await provider.fetch(RemoteRef("db"))).data == {"p": b"one"}


@pytest.fixture
async def bed(cluster: ControlPlane) -> AsyncIterator[Bed]:
    number = next(NUMBERS)
    async with KubeClient(cluster.config(), CLOCK) as api:
        found = Bed(cluster, api, f"home-{number}", f"far-{number}")
        for name in (found.home, found.far):
            await api.create(NAMESPACES, {"metadata": {"name": name}})
        where = {"name": "db", "namespace": found.far}
        await api.create(SECRETS, {"metadata": where, "data": {"p": "b25l"}})
        yield found
        for each in found.made:
            await each.close()


ACCOUNT = {"serviceAccount": {"name": "app"}}
BEARER = {"token": {"bearerToken": {"name": "auth", "key": "token"}}}


async def test_a_service_account(bed: Bed) -> None:
    await bed.account(*READER)
    assert await bed.reads(auth=ACCOUNT)


async def test_a_bearer_token(bed: Bed) -> None:
    await bed.account(*READER)
    token = await request_token(bed.api, bed.home, "app", (), 600)
    await bed.keep(token=token.reveal_text() + "\n")
    assert await bed.reads(auth=BEARER)


def certificate_files(control: ControlPlane) -> tuple[bytes, bytes]:
    return tuple((control.folder / f"client.{end}").read_bytes() for end in ("crt", "key"))  # type: ignore[return-value]


async def test_a_client_certificate(bed: Bed) -> None:
    await bed.allow({"kind": "User", "name": CERTIFICATE_USER}, *READER)
    crt, key = certificate_files(bed.control)
    await bed.keep(**{"tls.crt": crt, "tls.key": key})
    pair = {"clientCert": {"name": "auth"}, "clientKey": {"name": "auth"}}
    assert await bed.reads(auth={"cert": pair})


@pytest.mark.parametrize("kind", ["token", "certificate"])
async def test_a_kubeconfig(bed: Bed, kind: str) -> None:
    if kind == "token":
        await bed.account(*READER)
        token = await request_token(bed.api, bed.home, "app", (), 600)
        user = {"token": token.reveal_text()}
    else:
        await bed.allow({"kind": "User", "name": CERTIFICATE_USER}, *READER)
        crt, key = (base64.b64encode(x).decode() for x in certificate_files(bed.control))
        user = {"client-certificate-data": crt, "client-key-data": key}
    bundle = base64.b64encode(bed.authority.encode()).decode()
    cluster = {"server": bed.control.url, "certificate-authority-data": bundle}
    config = {
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
    }
    await bed.keep(config=yaml.safe_dump(config))
    assert await bed.reads(authRef={"name": "auth", "key": "config"}, server=None)


@pytest.mark.parametrize("kind", ["Secret", "ConfigMap"])
async def test_an_authority_is_looked_up(bed: Bed, kind: str) -> None:
    await bed.account(*READER)
    await bed.keep(ca=bed.authority)
    trust = {"metadata": bed.at("trust"), "data": {"ca.crt": bed.authority}}
    await bed.api.create(CONFIG_MAPS, trust)
    ref = {"name": "auth", "key": "ca"} if kind == "Secret" else {"name": "trust"}
    server = {"url": bed.control.url, "caProvider": {"type": kind, **ref}}
    assert await bed.reads(auth=ACCOUNT, server=server)
    server["caProvider"]["name"] = "nowhere"
    with pytest.raises(Invalid, match="points to nothing"):
        await bed.provider(auth=ACCOUNT, server=server)


async def test_an_identity_that_may_read_one_secret_by_name_is_valid(bed: Bed) -> None:
    await bed.account(*READER, names=("db",))
    assert await bed.reads(auth=ACCOUNT)
    provider = await bed.provider(auth=ACCOUNT)
    with pytest.raises(Denied, match='cannot get resource "secrets"'):
        await provider.fetch(RemoteRef("other"))


async def condition(bed: Bed, **spec: Any) -> dict[str, Any]:
    """What the controller says of a store of this spec, whose references are the real cluster's."""
    here = FakeKubeApi(CLOCK)
    metadata = {**bed.at("s"), "generation": 1}
    await here.create(SECRET_STORES, {"metadata": metadata, "spec": bed.spec(**spec)})
    stores = Stores(ApiLookup(here), Providers(Surroundings(bed.api, CLOCK)), CLOCK)
    informer = Informer(here, SECRET_STORES, CLOCK)
    controller = StoreController(here, informer, stores, CLOCK)
    following = asyncio.create_task(informer.run())
    await informer.synced.wait()
    await controller.reconcile((bed.home, "s"))
    following.cancel()
    await stores.close()
    found = await here.get(SECRET_STORES, "s", bed.home)
    return dict(found["status"]["conditions"][0])


async def test_a_store_whose_identity_may_not_get_names_the_verb(bed: Bed) -> None:
    await bed.account("list", "create")
    provider = await bed.provider(auth=ACCOUNT)

    async def known() -> bool | None:
        with pytest.raises(
            Denied, match=f"may not get secrets in the namespace {bed.far}"
        ) as caught:
            await provider.validate()
        return "create, list" in caught.value.message or None

    await until("the rights", known, CLOCK, seconds=120)
    said = await condition(bed, auth=ACCOUNT)
    assert (said["status"], said["reason"]) == ("False", "ValidationFailed")
    assert "may not get secrets" in said["message"]
    with pytest.raises(Denied, match='cannot get resource "secrets"'):
        await provider.fetch(RemoteRef("db"))


async def test_each_call_names_the_verb_that_is_missing(bed: Bed) -> None:
    await bed.account(*READER)
    assert await bed.reads(auth=ACCOUNT)
    provider = await bed.provider(auth=ACCOUNT)
    calls = {
        "list": lambda: provider.find(Find()),
        "create": lambda: provider.push(PushTarget("new", "p"), Secret("x")),
        "update": lambda: provider.push(PushTarget("db", "p"), Secret("x")),
        "delete": lambda: provider.delete(PushTarget("db")),
    }
    for verb, call in calls.items():
        with pytest.raises(Denied, match=f'cannot {verb} resource "secrets"'):
            await call()


async def test_a_push_writes_labels_annotations_and_bytes(bed: Bed) -> None:
    await bed.account(*WRITER)
    assert await bed.reads(auth=ACCOUNT)
    provider = await bed.provider(auth=ACCOUNT)
    labels = {"team": "blue", "app.kubernetes.io/name": "web"}
    metadata = {"labels": labels, "annotations": {"why": "pushed"}}
    whole = {"a": b"\x00\xff", "b": b"text"}
    target = PushTarget("new", whole=whole, metadata=metadata)
    first = await provider.push(target, Secret("{}"))
    assert first.changed
    assert not (await provider.push(target, Secret("{}"))).changed
    found = await bed.api.get(SECRETS, "new", bed.far)
    assert found["metadata"]["labels"] == metadata["labels"]
    assert found["metadata"]["annotations"] == metadata["annotations"]
    assert {name: base64.b64decode(each) for name, each in found["data"].items()} == whole
    # Tags find it, and metadata are read.
    assert set(await provider.find(Find(tags={"team": "blue"}))) == {"new"}
    said = await provider.fetch(RemoteRef("new", metadata=True))
    assert said.data["annotations"] == metadata["annotations"]
    assert pick(said.data, RemoteRef("new", "labels.app.kubernetes.io/name")) == b"web"
    await provider.delete(PushTarget("new", "a"))
    assert set((await provider.fetch(RemoteRef("new"))).data) == {"b"}
    theirs = {"data": {"theirs": "eA=="}}
    await bed.api.merge_patch(SECRETS, "new", bed.far, theirs, manager="kubectl")
    assert (await provider.push(target, Secret("{}"))).changed
    await provider.delete(PushTarget("new"))
    assert (await provider.fetch(RemoteRef("new"))).data == {"theirs": b"x"}
    await bed.api.merge_patch(SECRETS, "new", bed.far, {"data": {"theirs": None}})
    await provider.delete(PushTarget("new"))
    with pytest.raises(NotFound):
        await provider.fetch(RemoteRef("new"))


async def test_a_push_of_a_cluster_store_may_name_another_namespace(bed: Bed) -> None:
    await bed.account(*WRITER)
    assert await bed.reads(auth=ACCOUNT)
    auth = {"serviceAccount": {"name": "app", "namespace": bed.home}}
    target = PushTarget("new", "p", metadata={"remoteNamespace": bed.far})
    provider = await bed.provider(cluster=True, auth=auth, remoteNamespace="elsewhere")
    assert (await provider.push(target, Secret("x"))).changed
    assert (await bed.api.get(SECRETS, "new", bed.far))["data"] == {"p": "eA=="}
    assert await provider.exists(target)
    # What is taken back is what was pushed, not its namesake where the store is.
    await provider.delete(target)
    assert not await provider.exists(target)
    with pytest.raises(NotFound):
        await bed.api.get(SECRETS, "new", bed.far)
    with pytest.raises(Invalid, match="remoteNamespace is for ClusterSecretStores alone"):
        await (await bed.provider(auth=ACCOUNT)).push(target, Secret("x"))


@pytest.mark.parametrize("form", ["../../{far}/secrets/db", "%2e%2e/%2E%2e/{far}/secrets/db"])
async def test_the_name_of_a_reference_leads_to_no_other_namespace(bed: Bed, form: str) -> None:
    """By the operator's own rights every Secret of the cluster would be there to read."""
    name = form.format(far=bed.far)
    store = {"metadata": bed.at("s"), "spec": {}}
    references = References(Surroundings(bed.api, CLOCK), store, bed.home)
    selector = Fields({"name": name, "key": "p"}, "spec.provider.vault.auth.tokenSecretRef")
    with pytest.raises(Invalid, match="bad-name"):
        await references.text(selector)
    source = {"secret": {"name": name, "items": [{"key": "p"}]}}
    with pytest.raises(Invalid, match="bad-name"):
        await template_texts(bed.api, bed.home, parse_template({"templateFrom": [source]}))


async def test_the_name_of_a_target_writes_into_no_other_namespace(bed: Bed) -> None:
    with pytest.raises(Invalid, match="bad-name"):
        await bed.api.merge_patch(
            SECRETS, f"../../{bed.far}/secrets/db", bed.home, {"data": {"p": "dHdv"}}
        )
    held = await bed.api.get(SECRETS, "db", bed.far)
    assert held["data"] == {"p": "b25l"}


async def test_a_remote_key_is_one_secret_and_no_collection(bed: Bed) -> None:
    await bed.account(*WRITER, "deletecollection")
    assert await bed.reads(auth=ACCOUNT)
    provider = await bed.provider(auth=ACCOUNT)
    for key in ("?limit=500", "db?x=y", "../secrets/db", "."):
        with pytest.raises((Invalid, NotFound)):
            await provider.fetch(RemoteRef(key))
        with contextlib.suppress(Invalid):
            await provider.delete(PushTarget(key))
    assert (await bed.api.get(SECRETS, "db", bed.far))["data"] == {"p": "b25l"}
