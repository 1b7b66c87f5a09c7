"""Stores to providers: one provider for each store, generation and namespace that asks.

Logins follow https://external-secrets.io/latest/provider/hashicorp-vault/#authentication.
"""

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from strongroom.kube.api import KubeApi
from strongroom.kube.resource import CONFIG_MAPS, NAMESPACES, SECRETS, Object
from strongroom.kube.token_review import request_token
from strongroom.model.clock import Clock
from strongroom.model.errors import Denied, Invalid, NotFound
from strongroom.model.secret import Secret
from strongroom.sync.crds import CLUSTER_SECRET_STORES, SECRET_STORES
from strongroom.sync.providers.contract import Provider
from strongroom.sync.providers.vault import Login, VaultProvider, VaultSettings
from strongroom.sync.spec import StoreRef
from strongroom.wire.vault import VaultClient

TOKEN_SECONDS: Final = 600


@dataclass(frozen=True, slots=True)
class StoreKey:
    """What a provider may be shared by."""

    uid: str
    generation: int
    namespace: str


class ProviderFactory(Protocol):
    """Makes a provider of a store for the namespace that asks."""

    async def __call__(self, store: Object, namespace: str) -> Provider:
        """Raises Invalid for a store that cannot be used."""


class Stores:
    """The providers in use."""

    def __init__(self, api: KubeApi, make: ProviderFactory) -> None:
        self._api = api
        self._make = make
        self._providers: dict[StoreKey, Provider] = {}
        self.on_new: Callable[[StoreKey, Provider], None] = lambda _key, _provider: None

    async def provider(self, ref: StoreRef, namespace: str) -> Provider:
        """The provider of a reference; raises NotFound(`no-store`), Denied or Invalid."""
        store = await self._store(ref, namespace)
        metadata = store["metadata"]
        key = StoreKey(metadata["uid"], int(metadata.get("generation", 0)), namespace)
        found = self._providers.get(key)
        if found is None:
            await self._drop_older(key)
            found = await self._make(store, namespace)
            self._providers[key] = found
            self.on_new(key, found)
        return found

    async def _store(self, ref: StoreRef, namespace: str) -> Object:
        cluster = ref.kind == "ClusterSecretStore"
        resource = CLUSTER_SECRET_STORES if cluster else SECRET_STORES
        try:
            store = await self._api.get(resource, ref.name, "" if cluster else namespace)
        except NotFound:
            raise NotFound(
                "no-store", f"{ref.kind} {ref.name} does not exist", hint="create it first"
            ) from None
        if cluster and not await self._allowed(store, namespace):
            raise Denied(
                "store-not-for-namespace", f"{ref.name} does not allow the namespace {namespace}"
            )
        return store

    async def _allowed(self, store: Object, namespace: str) -> bool:
        conditions = (store.get("spec") or {}).get("conditions") or []
        if not conditions:
            return True
        labels: Mapping[str, str] = {}
        if any(each.get("namespaceSelector") for each in conditions):
            found = await self._api.get(NAMESPACES, namespace)
            labels = found["metadata"].get("labels") or {}
        return any(allows(each, namespace, labels) for each in conditions)

    async def _drop_older(self, key: StoreKey) -> None:
        for other in [each for each in self._providers if each.uid == key.uid]:
            if other.namespace == key.namespace:
                await self._providers.pop(other).close()

    async def close(self) -> None:
        """Let go of all."""
        for provider in self._providers.values():
            await provider.close()
        self._providers.clear()


def allows(condition: Mapping[str, Any], namespace: str, labels: Mapping[str, str]) -> bool:
    """Whether one condition of a cluster store lets a namespace in. Pure."""
    if namespace in (condition.get("namespaces") or []):
        return True
    if any(re.fullmatch(each, namespace) for each in condition.get("namespaceRegexes") or []):
        return True
    wanted: Mapping[str, str] = (condition.get("namespaceSelector") or {}).get("matchLabels") or {}
    return bool(wanted) and all(labels.get(key) == value for key, value in wanted.items())


class VaultStores:
    """Makes Vault providers, with the logins a store may ask for."""

    def __init__(self, api: KubeApi, clock: Clock) -> None:
        self._api = api
        self._clock = clock

    async def __call__(self, store: Object, namespace: str) -> Provider:
        providers = (store.get("spec") or {}).get("provider") or {}
        spec = providers.get("vault") or providers.get("openBao")
        if not isinstance(spec, dict):
            raise Invalid(
                "unsupported-provider",
                f"the provider {', '.join(providers) or '(none)'} is not supported by this version",
            )
        # Names of Secrets may point elsewhere only from a cluster store.
        home = store["metadata"].get("namespace", "")
        ca = await self._ca(spec.get("caProvider"), home or namespace)
        login = self._login(spec.get("auth") or {}, home, namespace)
        return VaultProvider(VaultSettings.from_spec(spec, ca), login, self._clock)

    async def _ca(self, ref: Mapping[str, Any] | None, namespace: str) -> str:
        if not ref:
            return ""
        where = ref.get("namespace") or namespace
        if ref.get("type") == "ConfigMap":
            found = await self._api.get(CONFIG_MAPS, str(ref["name"]), where)
            return str((found.get("data") or {}).get(ref.get("key") or "ca.crt", ""))
        return (await self._secret(ref, namespace, ref.get("key") or "ca.crt")).reveal_text()

    async def _secret(self, ref: Mapping[str, Any], namespace: str, key: str) -> Secret:
        where = ref.get("namespace") or namespace
        found = await self._api.get(SECRETS, str(ref.get("name")), where)
        value = (found.get("data") or {}).get(key)
        if value is None:
            raise NotFound("no-secret-key", f"the Secret {ref.get('name')} has no key {key}")
        return Secret(base64.b64decode(value))

    def _login(self, auth: Mapping[str, Any], home: str, namespace: str) -> Login:
        where = home or namespace
        if auth.get("tokenSecretRef"):
            ref = auth["tokenSecretRef"]

            async def with_token(client: VaultClient) -> tuple[Secret, int]:  # noqa: ARG001
                token = await self._secret(_local(ref, home), where, str(ref.get("key") or "token"))
                return Secret(token.reveal().strip()), TOKEN_SECONDS

            return with_token
        if auth.get("kubernetes"):
            return self._kubernetes(auth["kubernetes"], home, where)
        raise Invalid(
            "unsupported-auth",
            f"auth {', '.join(auth) or '(none)'} is not supported by this version",
            hint="use tokenSecretRef or kubernetes",
        )

    def _kubernetes(self, auth: Mapping[str, Any], home: str, namespace: str) -> Login:
        role, mount = str(auth.get("role") or ""), str(auth.get("mountPath") or "kubernetes")
        account: Mapping[str, Any] = auth.get("serviceAccountRef") or {}
        secret: Mapping[str, Any] = auth.get("secretRef") or {}
        if not role or not (account or secret):
            raise Invalid(
                "bad-auth", "kubernetes auth needs role and serviceAccountRef or secretRef"
            )

        async def login(client: VaultClient) -> tuple[Secret, int]:
            if account:
                where = _local(account, home).get("namespace") or namespace
                audiences = tuple(account.get("audiences") or ("vault",))
                jwt = await request_token(
                    self._api, where, str(account["name"]), audiences, TOKEN_SECONDS
                )
            else:
                key = str(secret.get("key") or "token")
                jwt = await self._secret(_local(secret, home), namespace, key)
            result = await client.login_kubernetes(role, jwt, mount)
            return result.token, result.lease_duration

        return login


def _local(ref: Mapping[str, Any], home: str) -> Mapping[str, Any]:
    """A reference from a namespaced store stays in its namespace."""
    return {key: value for key, value in ref.items() if key != "namespace"} if home else ref
