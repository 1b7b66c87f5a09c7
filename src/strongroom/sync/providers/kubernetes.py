"""The Kubernetes provider: Secrets of another namespace, or of another cluster.

Fields: https://external-secrets.io/latest/provider/kubernetes/.
"""

import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from strongroom.kube.api import KubeApi, Scope
from strongroom.kube.client import USER_AGENT, KubeClient
from strongroom.kube.config import KubeConfig, embedded_kubeconfig
from strongroom.kube.refusals import NO_ROUTE
from strongroom.kube.resource import SECRETS, Object, Resource
from strongroom.model.clock import Clock
from strongroom.model.errors import Denied, NotFound, Unavailable
from strongroom.model.secret import Secret
from strongroom.sync.desired import owned_fields
from strongroom.sync.providers.contract import (
    Fetched,
    Find,
    OneByOne,
    Provider,
    Pushed,
    PushTarget,
    Traits,
    push_metadata,
    understood,
)
from strongroom.sync.providers.fields import Fields
from strongroom.sync.providers.objects import pushed_object
from strongroom.sync.providers.references import References, Surroundings
from strongroom.sync.providers.session import Session
from strongroom.sync.spec import RemoteRef
from strongroom.sync.values import Marks, as_bytes
from strongroom.wire.tls import ClientPem

TOKEN_SECONDS: Final = 3600
# A bearer token from a Secret is read again after this time, so that a replaced one is taken up.
REREAD_SECONDS: Final = 600.0
_REVIEWS: Final = "authorization.k8s.io"
_RULES: Final = Resource(
    _REVIEWS, "v1", "selfsubjectrulesreviews", "SelfSubjectRulesReview", namespaced=False
)
_ACCESS: Final = Resource(
    _REVIEWS, "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced=False
)
_SERVICE: Final = "the API server"
_VERBS: Final = ("get", "list", "create", "update", "delete")
_PUSHED: Final = (
    "labels", "annotations", "sourceMergePolicy", "targetMergePolicy", "remoteNamespace"
)  # fmt: skip
_MERGES: Final = ("Merge", "Replace", "Ignore")
# Whom managedFields name for what was pushed, here and by the other controller.
PUSHERS: Final = (USER_AGENT, "external-secrets")
R = TypeVar("R")
Login = Callable[[], Awaitable[tuple[Secret | None, float]]]


async def _certificate_speaks() -> tuple[Secret | None, float]:
    return None, 0


class Cluster:
    """An API server with one identity. `api` is asked only within `entered`, which logs in."""

    def __init__(self, config: KubeConfig, login: Login, clock: Clock) -> None:
        self._token: Secret | None = None
        self._login = login
        self.session: Session[Secret | None] = Session(self._enter, clock)
        if login is not _certificate_speaks:
            config = replace(config, token_source=lambda: self._token)
        # Secrets have no depth, and a server that a namespace chose may answer anything.
        self.api = KubeClient(config, clock, cuts=False)

    async def _enter(self) -> tuple[Secret | None, float]:
        self._token, seconds = await self._login()
        return self._token, seconds

    async def close(self) -> None:
        """Close connections."""
        await self.api.__aexit__()


async def build(spec: Fields, references: References, around: Surroundings) -> Provider:
    """The provider of `spec.provider.kubernetes`; raises Invalid."""
    config, login = await _remote(spec, references)
    cluster = Cluster(config, login, around.clock)
    anywhere = references.store_kind == "ClusterSecretStore"
    settings = KubernetesSettings(spec.text("remoteNamespace", "default"), anywhere)
    return KubernetesProvider(settings, cluster.api, cluster.session, cluster.close)


async def _remote(spec: Fields, references: References) -> tuple[KubeConfig, Login]:
    kubeconfig = spec.part("authRef")
    if kubeconfig is not None:
        text = await references.text(kubeconfig, "config")
        return embedded_kubeconfig(text), _certificate_speaks
    server = spec.part("server") or Fields({}, f"{spec.where}.server")
    url = server.text("url", "kubernetes.default")
    url = url if "://" in url else f"https://{url}"
    if urlsplit(url).scheme not in ("http", "https"):
        raise server.bad("url", "must be a URL or the name of a host")
    config = KubeConfig(url.rstrip("/"), await references.authority(server))
    auth = spec.needed("auth")
    kind = auth.one_of("cert", "token", "serviceAccount")
    part = auth.needed(kind)
    if kind == "cert":
        certificate = await references.text(part.needed("clientCert"), "tls.crt")
        key = await references.secret(part.needed("clientKey"), "tls.key")
        return replace(config, client_pem=ClientPem(certificate, key)), _certificate_speaks
    selector = part.needed("bearerToken") if kind == "token" else part
    selector.required("name")

    async def login() -> tuple[Secret | None, float]:
        if kind == "token":
            return Secret(await references.text(selector, "token")), REREAD_SECONDS
        return await references.account_token(selector, (), TOKEN_SECONDS), TOKEN_SECONDS

    return config, login


@dataclass(frozen=True, slots=True)
class KubernetesSettings:
    """Which namespace; `anywhere` lets a PushSecret name another, as cluster stores may."""

    namespace: str
    anywhere: bool = False


async def _nothing() -> None:
    return None


class KubernetesProvider(OneByOne):
    """Secrets of one namespace. Implements Provider.

    Secrets carry no mark of who pushed them, as with the other controller: what a PushSecret
    names is its own to write.
    """

    traits = Traits("ReadWrite", bytes_by_key=True, marked=False)

    def __init__(
        self,
        settings: KubernetesSettings,
        api: KubeApi,
        session: Session[Secret | None],
        closing: Callable[[], Awaitable[None]] = _nothing,
    ) -> None:
        self._settings = settings
        self._api = api
        self._session = session
        self._closing = closing

    async def _ask(self, work: Callable[[], Awaitable[R]]) -> R:
        """Do something with the session.

        What an API server does not say of an object is no answer: policies delete on NotFound.
        """
        try:
            with understood(_SERVICE):
                return await self._session.use(lambda _: work())
        except NotFound as refusal:
            if refusal.code != NO_ROUTE:
                raise
            raise Unavailable(
                "bad-reply", refusal.message, hint="is the address an API server's?"
            ) from None

    async def _get(self, name: str, namespace: str = "") -> Object:
        where = namespace or self._settings.namespace
        return await self._ask(lambda: self._api.get(SECRETS, name, where))

    async def validate(self) -> None:
        where = self._settings.namespace
        said = await self._review(_RULES, {"namespace": where})
        verbs = allowed_verbs(said.get("resourceRules") or [])
        if "get" in verbs:
            return
        if said.get("incomplete"):
            # An authorizer that cannot list what it allows can still be asked.
            asked = {"namespace": where, "verb": "get", "resource": "secrets"}
            if (await self._review(_ACCESS, {"resourceAttributes": asked})).get("allowed"):
                return
        raise Denied(
            "kube-forbidden",
            f"this identity may not get secrets in the namespace {where}"
            f" (it may: {', '.join(sorted(verbs)) or 'nothing'})",
            hint="bind a Role with get on secrets to it; find needs list, PushSecrets need "
            "create, update and delete",
        )

    async def _review(self, resource: Resource, spec: Mapping[str, Any]) -> Mapping[str, Any]:
        kinds = {"apiVersion": resource.api_version, "kind": resource.kind}
        item = {**kinds, "spec": dict(spec)}
        return dict((await self._ask(lambda: self._api.create(resource, dict(item))))["status"])

    # reading

    async def fetch(self, ref: RemoteRef) -> Fetched:
        item = await self._get(ref.key)
        with understood(_SERVICE):
            return self._fetched(item, metadata=ref.metadata)

    def _fetched(self, item: Object, *, metadata: bool) -> Fetched:
        said = item["metadata"]
        path = f"{self._settings.namespace}/{said['name']}"
        data: Mapping[str, Any] = _data(item)
        if metadata:
            data = Marks({name: said.get(name) or {} for name in ("labels", "annotations")})
        return Fetched(path, str(said.get("resourceVersion", "")), data)

    async def find(self, wanted: Find) -> Mapping[str, Fetched]:
        selector = ",".join(f"{key}={value}" for key, value in sorted(wanted.tags.items()))
        scope = Scope(self._settings.namespace, label_selector=selector)
        listing = await self._ask(lambda: self._api.list(SECRETS, scope))
        return {
            item["metadata"]["name"]: self._fetched(item, metadata=wanted.metadata)
            for item in listing.items
            if wanted.wants(item["metadata"]["name"])
        }

    # writing

    async def push(self, target: PushTarget, value: Secret) -> Pushed:
        namespace = self._place(target)
        try:
            before: Object | None = await self._get(target.key, namespace)
        except NotFound:
            before = None
        old = _data(before) if before else {}
        new = _wanted(target, value, old)
        held = (before or {}).get("metadata") or {}
        marks = pushed_marks(target, held)
        settled = all(marks[part] == (held.get(part) or {}) for part in marks)
        if before and settled and new == old:
            return Pushed(changed=False, version=str(held.get("resourceVersion", "")))
        item: Object = {
            # A Secret's type cannot be changed.
            **(before or {"type": target.source.type or "Opaque"}),
            "metadata": {**held, "name": target.key, "namespace": namespace, **marks},
            "data": {name: base64.b64encode(each).decode() for name, each in new.items()},
        }  # fmt: skip
        work = self._api.replace if before else self._api.create
        said = await self._ask(lambda: work(SECRETS, item, manager=USER_AGENT))
        return Pushed(changed=True, version=str(said["metadata"].get("resourceVersion", "")))

    def _place(self, target: PushTarget) -> str:
        """The namespace that a push is for; raises Invalid for one it may not have."""
        meta = push_metadata(target, *_PUSHED)
        named = meta.text("remoteNamespace")
        if named and not self._settings.anywhere:
            raise meta.bad("remoteNamespace", "is for ClusterSecretStores alone")
        return named or self._settings.namespace

    async def exists(self, target: PushTarget) -> bool:
        try:
            found = await self._get(target.key, self._place(target))
        except NotFound:
            return False
        return not target.property or target.property in _data(found)

    async def delete(self, target: PushTarget) -> None:
        """Take back the property, or without one every key that nobody else wrote last."""
        where = self._place(target)
        try:
            before = await self._get(target.key, where)
            data = before.get("data") or {}
            left = kept_keys(before, target.property)
            if data and left == data.keys():
                return
            if target.property and target.property not in data:
                return
            if left:
                # A replace with the version that was read: nobody else's change is lost.
                item = {**before, "data": {name: data[name] for name in left}}
                await self._ask(lambda: self._api.replace(SECRETS, item, manager=USER_AGENT))
                return
            await self._ask(lambda: self._api.delete(SECRETS, target.key, where))
        except NotFound:
            return

    async def close(self) -> None:
        await self._closing()


def kept_keys(item: Object, name: str) -> set[str]:
    """The keys of a Secret that stay when what was pushed to its property is taken back. Pure.

    Without a property it is what others have written last, for a push leaves their keys there.
    """
    keys = set(item.get("data") or {})
    if name:
        return keys - {name}
    writers = {str(each.get("manager")) for each in item["metadata"].get("managedFields") or []}
    others = [owned_fields(item, each) for each in sorted(writers.difference(PUSHERS))]
    return {key for key in keys if any(("data", key) in each for each in others)}


def pushed_marks(target: PushTarget, held: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Labels and annotations of a pushed Secret whose metadata now are `held`. Pure.

    The source's, overlaid by those of the push's metadata (`sourceMergePolicy: Replace`: these
    alone), are laid over those that are there, or by `targetMergePolicy` replace them or are
    ignored. Raises Invalid.
    """
    meta = push_metadata(target, *_PUSHED)
    alone = meta.choice("sourceMergePolicy", _MERGES[:2], "Merge") == "Replace"
    policy = meta.choice("targetMergePolicy", _MERGES, "Merge")
    marks = {}
    for part, source in (
        ("labels", target.source.labels),
        ("annotations", target.source.annotations),
    ):
        said = {**({} if alone else source), **meta.labels(part)}
        there = dict(held.get(part) or {})
        marks[part] = {"Merge": {**there, **said}, "Replace": said, "Ignore": there}[policy]
    return marks


def allowed_verbs(rules: Sequence[Mapping[str, Any]]) -> set[str]:
    """What rules allow with Secrets, be it only with some of them by name. Pure."""
    found: set[str] = set()
    for rule in rules:
        groups, kinds = rule.get("apiGroups") or [], rule.get("resources") or []
        if {"", "*"} & set(groups) and {"secrets", "*"} & set(kinds):
            found.update(rule.get("verbs") or [])
    return found | set(_VERBS) if "*" in found else found


def _data(item: Object) -> dict[str, bytes]:
    try:
        return {
            name: base64.b64decode(value, validate=True)
            for name, value in (item.get("data") or {}).items()
        }
    except (binascii.Error, TypeError):
        raise Unavailable("bad-reply", "the Secret's data are not base64") from None


def _wanted(target: PushTarget, value: Secret, old: Mapping[str, bytes]) -> dict[str, bytes]:
    """What the Secret shall hold: one key more, or all of the source's; what is there stays."""
    if target.property:
        return {**old, target.property: value.reveal()}
    if target.whole is not None:
        return {**old, **target.whole}
    whole = pushed_object(value.reveal(), target.key)
    return {**old, **{name: as_bytes(each) for name, each in whole.items()}}
