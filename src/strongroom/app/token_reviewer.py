"""TokenReview for the store's Kubernetes auth: one client for each cluster and reviewer."""

from collections.abc import Sequence

from strongroom.kube.client import KubeClient
from strongroom.kube.config import KubeConfig
from strongroom.kube.token_review import review_token
from strongroom.model.clock import Clock
from strongroom.model.principal import ReviewedToken
from strongroom.model.secret import Secret


class ClusterReviewer:
    """Asks the API server that a mount's configuration names."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def review(
        self, host: str, ca: str, reviewer: Secret, token: Secret, audiences: Sequence[str]
    ) -> ReviewedToken:
        """See store.auth.kubernetes.TokenReviewer."""
        config = KubeConfig(server=host, ca_data=ca, token=reviewer)
        async with KubeClient(config, self._clock) as api:
            return await review_token(api, token, tuple(audiences))
