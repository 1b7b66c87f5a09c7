"""What a cluster says of a bearer token, and tokens asked for a service account.

APIs: TokenReview (authentication.k8s.io/v1), TokenRequest; pod, node and token id: KEP-4193.
"""

from typing import Final

from strongroom.kube.api import KubeApi
from strongroom.kube.resource import SERVICE_ACCOUNTS, TOKEN_REVIEWS
from strongroom.model.errors import Denied
from strongroom.model.principal import ReviewedToken
from strongroom.model.secret import Secret

_USER: Final = "system:serviceaccount:"
_EXTRA: Final = "authentication.kubernetes.io/"


async def review_token(
    api: KubeApi, token: Secret, audiences: tuple[str, ...] = ()
) -> ReviewedToken:
    """Review a service account's token; raises Denied when the cluster does not accept it."""
    if not token:
        raise Denied("token-not-authenticated", "there is no token")
    spec: dict[str, object] = {"token": token.reveal_text()}
    if audiences:
        spec["audiences"] = list(audiences)
    kinds = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview"}
    reply = await api.create(TOKEN_REVIEWS, {**kinds, "spec": spec})
    status = reply.get("status") or {}
    if not status.get("authenticated"):
        raise Denied("token-not-authenticated", "the cluster does not accept this token")
    agreed = tuple(status.get("audiences") or ())
    if audiences and not set(audiences) & set(agreed):
        raise Denied("wrong-audience", "the token is meant for another audience")
    user = status.get("user") or {}
    name = str(user.get("username", ""))
    namespace, _, account = name.removeprefix(_USER).partition(":")
    if not name.startswith(_USER) or not account:
        raise Denied("no-service-account", "the token is not a service account's")
    extra = user.get("extra") or {}

    def first(key: str) -> str:
        values = extra.get(_EXTRA + key) or [""]
        return str(values[0])

    return ReviewedToken(
        namespace=namespace,
        service_account=account,
        service_account_uid=str(user.get("uid", "")),
        audiences=agreed,
        pod_name=first("pod-name"),
        pod_uid=first("pod-uid"),
        node_name=first("node-name"),
        token_id=first("credential-id"),
    )


async def request_token(
    api: KubeApi, namespace: str, service_account: str, audiences: tuple[str, ...], seconds: int
) -> Secret:
    """A fresh token of a service account for these audiences; the shortest life is ten minutes."""
    body = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "metadata": {"name": service_account, "namespace": namespace},
        "spec": {"audiences": list(audiences), "expirationSeconds": max(600, seconds)},
    }
    reply = await api.create(SERVICE_ACCOUNTS, body, "token")
    return Secret(reply["status"]["token"])
