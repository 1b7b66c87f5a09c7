"""What a reviewer of tokens owes the store: the fake of the tests and the one that asks a cluster."""

from contextlib import suppress

import pytest

from strongroom.app.token_reviewer import ClusterReviewer
from strongroom.kube.client import KubeClient
from strongroom.kube.resource import NAMESPACES, SERVICE_ACCOUNTS
from strongroom.kube.token_review import request_token
from strongroom.model.clock import SystemClock
from strongroom.model.errors import Conflict, Denied, Unavailable
from strongroom.model.principal import ReviewedToken
from strongroom.model.secret import Secret

CLOCK = SystemClock()
AUDIENCE = ("strongroom",)


async def reviewed_by(kind: str, request: pytest.FixtureRequest):
    """A review function and a token it knows."""
    if kind == "fake":
        store = request.getfixturevalue("store")
        store.reviewer.known["good"] = ReviewedToken(
            "review", "app", "uid", AUDIENCE, token_id="JTI=1"
        )

        async def ask(token: Secret, audiences=AUDIENCE) -> ReviewedToken:
            return await store.reviewer.review("https://c", "", Secret("r"), token, audiences)

        return ask, Secret("good")
    cluster = request.getfixturevalue("cluster")
    async with KubeClient(cluster.config(), CLOCK) as api:
        account = {"metadata": {"name": "app", "namespace": "review"}}
        for resource, item in (
            (NAMESPACES, {"metadata": {"name": "review"}}),
            (SERVICE_ACCOUNTS, account),
        ):
            with suppress(Conflict):  # Each database of the store comes by here.
                await api.create(resource, item)
        token = await request_token(api, "review", "app", AUDIENCE, 600)
    reviewer, ca = ClusterReviewer(CLOCK), cluster.ca_file.read_text()

    async def ask_cluster(token: Secret, audiences=AUDIENCE) -> ReviewedToken:
        admin = Secret(cluster.admin_token)
        return await reviewer.review(cluster.url, ca, admin, token, audiences)

    return ask_cluster, token


@pytest.mark.parametrize("kind", ["fake", pytest.param("real", marks=pytest.mark.cluster)])
@pytest.mark.timeout(120)
async def test_a_known_token_is_described_and_every_other_refused(kind, request, store) -> None:
    ask, token = await reviewed_by(kind, request)
    found = await ask(token)
    assert (found.namespace, found.service_account, found.audiences) == ("review", "app", AUDIENCE)
    assert found.token_id.startswith("JTI=")
    for wrong in ("no token", "", token.reveal_text() + "x"):
        with pytest.raises(Denied) as caught:
            await ask(Secret(wrong))
        assert token.reveal_text() not in str(caught.value)


async def test_a_cluster_that_does_not_answer_is_unavailable() -> None:
    reviewer = ClusterReviewer(CLOCK)
    with pytest.raises(Unavailable):
        await reviewer.review("https://127.0.0.1:1", "", Secret("r"), Secret("t"), AUDIENCE)
