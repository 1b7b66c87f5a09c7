"""Reads the ledger: synced Secrets and pods from the cluster, acknowledgements from the store."""

from collections.abc import Sequence
from typing import Final, Protocol

from strongroom.kube.api import KubeApi, Scope
from strongroom.kube.resource import PODS, SECRETS, Object, Resource
from strongroom.model.errors import Denied, Invalid, NotFound
from strongroom.model.reference import SecretRef
from strongroom.rotate.consumers import (
    Ledger,
    finished,
    from_acknowledgements,
    from_environment,
    from_external_secrets,
    from_secrets,
    made_of,
)
from strongroom.wire.vault import VaultClient

MANAGED: Final = "reconcile.external-secrets.io/managed=true"
EXTERNAL_SECRETS: Final = Resource("external-secrets.io", "v1", "externalsecrets", "ExternalSecret")


async def external_secrets(api: KubeApi) -> Sequence[Object]:
    """All of them; none where the cluster does not know the kind."""
    try:
        return (await api.list(EXTERNAL_SECRETS)).items
    except NotFound:
        return ()
    except Denied:
        # Rights are asked for before the kind is, so this is said where there is none too.
        if await api.serves(EXTERNAL_SECRETS.group):
            raise
        return ()


class Evidence(Protocol):
    """Where a ledger comes from."""

    async def ledger(self, ref: SecretRef, written: float) -> Ledger:
        """Who holds what; `written` is when the new version was, 0 before."""


class LiveEvidence:
    """The store's acknowledgements, and a cluster's Secrets and pods when there is one."""

    def __init__(self, store: VaultClient, api: KubeApi | None) -> None:
        self._store = store
        self._api = api

    async def ledger(self, ref: SecretRef, written: float) -> Ledger:
        """Read everything now."""
        path = ref.api_path
        pods = (await self._api.list(PODS)).items if self._api else ()
        secrets: Sequence[Object] = ()
        if self._api:
            scope = Scope(label_selector=MANAGED, metadata_only=True)
            secrets = tuple((await self._api.list(SECRETS, scope)).items)
        made = made_of(path, await external_secrets(self._api)) if self._api else []
        try:
            reply = await self._store.request("GET", "sys/consumers", query={"path": path})
            rows = reply.within("data").listed("consumers")
        except (NotFound, Invalid) as refusal:
            # A store of another make has no acknowledgements, and no such path.
            if isinstance(refusal, Invalid) and refusal.code != "store-no-route":
                raise
            rows = []
        alive = {pod["metadata"]["uid"] for pod in pods if not finished(pod)}
        consumers = from_secrets(path, secrets)
        consumers += from_external_secrets(made, consumers)
        consumers += from_acknowledgements(rows, alive if self._api else None)
        consumers += from_environment(path, pods, secrets, written, made)
        return Ledger(tuple(consumers))
