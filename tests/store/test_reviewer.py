"""What a reviewer of tokens owes the store: the fake of the tests and the one that asks a cluster."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from strongroom.app.token_reviewer import ClusterReviewer
from strongroom.kube.client import KubeClient
from strongroom.kube.resource import NAMESPACES, SERVICE_ACCOUNTS
from strongroom.kube.token_review import request_token
from strongroom.model.clock import SystemClock
from strongroom.model.errors import Conflict, Denied, NotFound, Unavailable
from strongroom.model.principal import ReviewedToken
from strongroom.model.secret import Secret
from strongroom.store.auth.kubernetes_cluster import ApiServer, TokenReviewer

CLOCK = SystemClock()
AUDIENCE = ("strongroom",)


@dataclass
class Known:
    """A reviewer, its cluster, and a token of the service account `review/app` that it knows."""

    reviewer: TokenReviewer
    server: ApiServer
    token: Secret
    # The same cluster asked by somebody who may ask nothing.
    stranger: ApiServer


ACCOUNT = {
    "metadata": {
        "name": "app", "namespace": "review", "annotations": {"team": "red"},
    }
}  # fmt: skip


async def known(kind: str, request: pytest.FixtureRequest) -> Known:
    if kind == "fake":
        reviewer = request.getfixturevalue("store").reviewer
        reviewer.known["good"] = ReviewedToken("review", "app", "uid", AUDIENCE, token_id="JTI=1")
        reviewer.labels["review"] = {"stage": "prod"}
        reviewer.notes["review", "app"] = {"team": "red"}
        server = ApiServer("https://c", "", Secret("r"))
        return Known(reviewer, server, Secret("good"), server)
    cluster = request.getfixturevalue("cluster")
    async with KubeClient(cluster.config(), CLOCK) as api:
        labelled = {"metadata": {"name": "review", "labels": {"stage": "prod"}}}
        for resource, item in ((NAMESPACES, labelled), (SERVICE_ACCOUNTS, ACCOUNT)):
            with suppress(Conflict):  # Each database of the store comes by here.
                await api.create(resource, item)
        token = await request_token(api, "review", "app", AUDIENCE, 600)
        nobody = await request_token(api, "review", "app", (), 600)
    ca = cluster.ca_file.read_text()
    return Known(
        ClusterReviewer(CLOCK),
        ApiServer(cluster.url, ca, Secret(cluster.admin_token)),
        token,
        ApiServer(cluster.url, ca, nobody),
    )


both = pytest.mark.parametrize("kind", ["fake", pytest.param("real", marks=pytest.mark.cluster)])


@both
@pytest.mark.timeout(600)
async def test_a_known_token_is_described_and_every_other_refused(kind, request, store) -> None:
    cluster = await known(kind, request)
    found = await cluster.reviewer.review(cluster.server, cluster.token, AUDIENCE)
    assert (found.namespace, found.service_account, found.audiences) == ("review", "app", AUDIENCE)
    assert found.token_id.startswith("JTI=")
    for wrong in ("no token", "", cluster.token.reveal_text() + "x"):
        with pytest.raises(Denied) as caught:
            await cluster.reviewer.review(cluster.server, Secret(wrong), AUDIENCE)
        assert cluster.token.reveal_text() not in str(caught.value)


@both
@pytest.mark.timeout(600)
async def test_labels_and_annotations_are_told_to_who_may_read_them(kind, request, store) -> None:
    cluster = await known(kind, request)
    reviewer, server = cluster.reviewer, cluster.server
    assert (await reviewer.namespace_labels(server, "review"))["stage"] == "prod"
    assert (await reviewer.annotations(server, "review", "app"))["team"] == "red"
    with pytest.raises(NotFound):
        await reviewer.namespace_labels(server, "nowhere")
    with pytest.raises(NotFound):
        await reviewer.annotations(server, "review", "nobody")
    if kind == "fake":
        store.reviewer.forbidden = {"reviews", "namespaces", "serviceaccounts"}
    for asking in (
        reviewer.review(cluster.stranger, cluster.token, AUDIENCE),
        reviewer.namespace_labels(cluster.stranger, "review"),
        reviewer.annotations(cluster.stranger, "review", "app"),
    ):
        with pytest.raises(Denied) as caught:
            await asking
        assert caught.value.code == "kube-forbidden"


async def test_a_cluster_that_does_not_answer_is_unavailable() -> None:
    server = ApiServer("https://127.0.0.1:1", "", Secret("r"))
    with pytest.raises(Unavailable):
        await ClusterReviewer(CLOCK).review(server, Secret("t"), AUDIENCE)


async def test_a_cluster_that_keeps_everybody_waiting_is_not_waited_for() -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    async with silent:
        port = silent.sockets[0].getsockname()[1]
        server = ApiServer(f"http://127.0.0.1:{port}", "", Secret("r"))
        with pytest.raises(Unavailable) as caught:
            await ClusterReviewer(CLOCK, seconds=0.1).review(server, Secret("t"), AUDIENCE)
        assert caught.value.code == "kube-timeout"


async def test_the_pods_own_identity_is_read_anew(tmp_path: Path) -> None:
    reviewer = ClusterReviewer(CLOCK, tmp_path)
    assert reviewer.pod() is None
    (tmp_path / "ca.crt").write_text("authority")
    for token in ("first", "second"):
        (tmp_path / "token").write_text(token + "\n")
        found = reviewer.pod()
        assert found is not None
        assert (found.token.reveal_text(), found.ca) == (token, "authority")
