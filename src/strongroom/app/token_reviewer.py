"""What the store's Kubernetes auth asks of clusters, over their APIs."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from strongroom.kube.client import KubeClient
from strongroom.kube.config import KubeConfig
from strongroom.kube.resource import NAMESPACES, SERVICE_ACCOUNTS
from strongroom.kube.token_review import review_token
from strongroom.model.clock import Clock
from strongroom.model.errors import Unavailable
from strongroom.model.labels import Labels
from strongroom.model.principal import ReviewedToken
from strongroom.model.secret import Secret
from strongroom.store.auth.kubernetes_cluster import ApiServer, PodIdentity

# Where Kubernetes mounts a pod's own service account.
POD_FOLDER: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
# Somebody waits for a login meanwhile.
ANSWER_SECONDS: Final = 10.0


class ClusterReviewer:
    """Asks the API server that a mount's configuration names. Implements TokenReviewer."""

    def __init__(
        self, clock: Clock, folder: Path = POD_FOLDER, seconds: float = ANSWER_SECONDS
    ) -> None:
        self._clock = clock
        self._folder = folder
        self._seconds = seconds

    def pod(self) -> PodIdentity | None:
        """See TokenReviewer; the kubelet renews the token in its file."""
        try:
            token = (self._folder / "token").read_text().strip()
            authority = (self._folder / "ca.crt").read_text()
        except OSError:
            return None
        return PodIdentity(Secret(token), authority) if token else None

    @asynccontextmanager
    async def _api(self, server: ApiServer) -> AsyncIterator[KubeClient]:
        config = KubeConfig(server=server.host, ca_data=server.ca, token=server.reviewer)
        try:
            async with asyncio.timeout(self._seconds), KubeClient(config, self._clock) as api:
                yield api
        except TimeoutError:
            raise Unavailable(
                "kube-timeout", f"{server.host} did not answer within {self._seconds:g} s"
            ) from None

    async def review(
        self, server: ApiServer, token: Secret, audiences: Sequence[str]
    ) -> ReviewedToken:
        """See TokenReviewer."""
        async with self._api(server) as api:
            return await review_token(api, token, tuple(audiences))

    async def namespace_labels(self, server: ApiServer, namespace: str) -> Labels:
        """See TokenReviewer."""
        async with self._api(server) as api:
            found = await api.get(NAMESPACES, namespace)
        return found["metadata"].get("labels") or {}

    async def annotations(self, server: ApiServer, namespace: str, account: str) -> Labels:
        """See TokenReviewer."""
        async with self._api(server) as api:
            found = await api.get(SERVICE_ACCOUNTS, account, namespace)
        return found["metadata"].get("annotations") or {}
