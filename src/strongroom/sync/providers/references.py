"""What a store may read in the cluster on its own behalf: the one place of the namespace rule.

A SecretStore reads in its own namespace and nowhere else. A ClusterSecretStore reads where its
selector says, or in the namespace that asks.
"""

import base64
import binascii
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from strongroom.kube.api import KubeApi
from strongroom.kube.resource import CONFIG_MAPS, SECRETS, SERVICE_ACCOUNTS, Object, Resource
from strongroom.kube.token_review import request_token
from strongroom.model.clock import Clock
from strongroom.model.errors import Invalid, NotFound, Unavailable
from strongroom.model.secret import Secret
from strongroom.sync.providers.contract import ClusterAway
from strongroom.sync.providers.fields import Fields
from strongroom.wire.addresses import is_metadata
from strongroom.wire.client import Route

TOKEN_SECONDS: Final = 600
EVERYWHERE: Final = "*"
OWN_TOKEN: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
# What selectors of Secrets, ConfigMaps and service accounts consist of.
_SELECTOR: Final = frozenset(("name", "namespace", "key", "type", "audiences"))


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is around every provider.

    `environment` holds the variables that clouds and clusters give to a pod (AWS_*, GOOGLE_*,
    AZURE_*), with which their SDKs' users also point at other endpoints. `lends_in` are namespaces
    whose stores may use what the operator is at addresses of their choice, `EVERYWHERE` for all.
    """

    api: KubeApi
    clock: Clock
    environment: Mapping[str, str] = field(default_factory=dict)
    lends_in: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class WholeSecret:
    """A Secret's labels and its keys."""

    labels: Mapping[str, str]
    data: Mapping[str, bytes] = field(repr=False)


@contextmanager
def _there(selector: Fields) -> Iterator[None]:
    """Around what a store needs of the cluster.

    That it is missing is the store's fault, and must never be taken for a remote secret that is
    not there: policies delete on that.
    """
    try:
        yield
    except NotFound as refusal:
        raise Invalid(
            "credential-missing",
            f"{selector.where} points to nothing: {refusal.message}",
            hint="create it; what was synced stays until then",
        ) from None
    except Unavailable as refusal:
        if refusal.code != "unreachable":
            # The server is there, and cannot read what is asked for: that is told.
            raise
        raise ClusterAway(refusal) from None


class References:
    """The references of one store, for the namespace that asks.

    What is missing is an Invalid(`credential-missing`) in every method.
    """

    def __init__(self, around: Surroundings, store: Object, namespace: str) -> None:
        self._api = around.api
        self._home = str(store["metadata"].get("namespace") or "")
        self._asking = namespace
        self._lends_in = around.lends_in
        self.store_name = str(store["metadata"].get("name") or "")
        self.store_kind = "SecretStore" if self._home else "ClusterSecretStore"
        # Generators have references too.
        self._kind = str(store.get("kind") or self.store_kind)

    @property
    def asking(self) -> str:
        """The namespace that asks."""
        return self._asking

    def where(self, selector: Fields) -> str:
        """The namespace a selector points to; raises Invalid for one that leaves its store's."""
        named = selector.text("namespace")
        if not self._home:
            return named or self._asking
        if named not in ("", self._home):
            raise selector.bad(
                "namespace", f"must be {self._home}, the SecretStore's own, or empty"
            )
        return self._home

    async def secret(self, selector: Fields, key: str = "") -> Secret:
        """A value of a Secret; `key` when the selector names none."""
        return Secret(base64.b64decode(await self._entry(SECRETS, "no-secret-key", selector, key)))

    async def _entry(self, resource: Resource, absent: str, selector: Fields, key: str) -> str:
        name, wanted = selector.required("name"), selector.text("key") or key
        if not wanted:
            raise selector.bad("key", "is needed")
        with _there(selector):
            found = await self._api.get(resource, name, self.where(selector))
            value = (found.get("data") or {}).get(wanted)
            if value is None:
                raise NotFound(absent, f"the {resource.kind} {name} has no key {wanted}")
        return str(value)

    async def whole_secret(self, selector: Fields) -> "WholeSecret":
        """All keys of a Secret and its labels."""
        with _there(selector):
            item = await self._api.get(SECRETS, selector.required("name"), self.where(selector))
        data = {name: base64.b64decode(each) for name, each in (item.get("data") or {}).items()}
        return WholeSecret(dict(item["metadata"].get("labels") or {}), data)

    async def text(self, selector: Fields, key: str = "") -> str:
        """The same as text without the line end that editors add; raises Invalid for bytes."""
        try:
            return (await self.secret(selector, key)).reveal_text().strip()
        except UnicodeDecodeError:
            raise Invalid("bad-secret", f"{selector.where} points to no text") from None

    async def authority(self, spec: Fields) -> str:
        """PEM of `caBundle` or `caProvider`; "" when neither is there."""
        bundle = spec.text("caBundle")
        if bundle:
            try:
                return base64.b64decode(bundle, validate=True).decode()
            except (binascii.Error, UnicodeDecodeError):
                raise spec.bad("caBundle", "is not base64 of PEM") from None
        selector = spec.part("caProvider")
        if selector is None:
            return ""
        if selector.choice("type", ("Secret", "ConfigMap"), "Secret") == "Secret":
            return (await self.secret(selector, "ca.crt")).reveal_text()
        return await self.config_map(selector, "ca.crt")

    async def config_map(self, selector: Fields, key: str = "") -> str:
        """A value of a ConfigMap; `key` when the selector names none."""
        return await self._entry(CONFIG_MAPS, "no-config-map-key", selector, key)

    @property
    def lends(self) -> bool:
        """Whether the author of the store may use what the operator is, see `lend`."""
        return not self._home or not {self._home, EVERYWHERE}.isdisjoint(self._lends_in)

    @property
    def route(self) -> Route:
        """How an address is reached that the store's author chose.

        Not the clouds' metadata, which tells each pod who it is: the operator is another.
        """
        return Route(shuns=None if self.lends else is_metadata)

    def lend(self, part: Fields) -> None:
        """Before the operator shows who it is to an author, or at an address that one chose.

        Whoever may write a SecretStore or a generator would be taken for the operator everywhere.
        Raises Invalid(`own-identity`), unless the author speaks for the cluster or the operator
        lends it to that namespace.
        """
        if not self.lends:
            whole = "ClusterGenerator say it"
            if self._kind == "SecretStore":
                whole = "ClusterSecretStore say it, whose conditions name who may use it"
            raise Invalid(
                "own-identity",
                f"{part.where}: the {self._kind} of a namespace cannot use the operator's own"
                " identity at an address of its choice, nor be given it",
                hint=f"name a serviceAccountRef or secretRef of the namespace, let a {whole},"
                f" or start the operator with --lend-identity {self._home}",
            )

    def own_token(self) -> Secret:
        """The token of the operator's own pod; raises Unavailable outside of one."""
        try:
            return Secret(OWN_TOKEN.read_text().strip())
        except OSError:
            raise Unavailable(
                "no-own-token",
                "the operator has no service account token of its own",
                hint="name a serviceAccountRef or secretRef in the store",
            ) from None

    async def account(self, selector: Fields) -> Object:
        """A service account; its annotations name cloud identities."""
        name = selector.required("name")
        with _there(selector):
            return await self._api.get(SERVICE_ACCOUNTS, name, self.where(selector))

    async def account_token(
        self, selector: Fields, audiences: tuple[str, ...], seconds: int = TOKEN_SECONDS
    ) -> Secret:
        """A fresh token of a service account; its own audiences are asked for as well."""
        wanted = tuple(dict.fromkeys((*audiences, *selector.texts("audiences"))))
        name = selector.required("name")
        with _there(selector):
            return await request_token(self._api, self.where(selector), name, wanted, seconds)


def session_namespace(store: Object, namespace: str) -> str:
    """The namespace whose identity a session has: stores with the same answer share one. Pure.

    "" when it does not matter who asks: all selectors of a ClusterSecretStore say where they
    point, or it has none, and no template of a webhook may put the namespace into a request.
    """
    home = str(store["metadata"].get("namespace") or "")
    if home:
        return home
    provider = (store.get("spec") or {}).get("provider") or {}
    return namespace if "webhook" in provider or depends_on_namespace(provider) else ""


def depends_on_namespace(part: Any) -> bool:  # noqa: ANN401 - a manifest's value
    """Whether a selector somewhere in a provider's spec leaves its namespace open. Pure."""
    if isinstance(part, list):
        return any(depends_on_namespace(each) for each in part)
    if not isinstance(part, Mapping):
        return False
    if part.get("sessionTagsPolicy") in ("Simple", "Custom"):
        # AWS sees the namespace as a session tag.
        return True
    if isinstance(part.get("name"), str) and set(part) <= _SELECTOR:
        return not part.get("namespace")
    return any(depends_on_namespace(value) for value in part.values())
