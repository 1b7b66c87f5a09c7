"""How the Kubernetes method reaches a cluster, as whom, and what it asks besides token reviews."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from strongroom.model.errors import Denied, Invalid, NotFound, Refusal, Unavailable
from strongroom.model.labels import Labels, check_selector, selects
from strongroom.model.principal import ReviewedToken
from strongroom.model.secret import Secret
from strongroom.store.auth.token_roles import glob_matches
from strongroom.wire.plain_yaml import plain_yaml

MAX_SELECTOR: Final = 8192
ANNOTATION: Final = "vault.hashicorp.com/alias-metadata-"
_ADVICE: Final = {
    "kube-forbidden": "the reviewer may not ask for reviews; bind its service account to the"
    " cluster role system:auth-delegator",
    "kube-unauthenticated": "the cluster does not accept the token that the store asks with",
}


@dataclass(frozen=True, slots=True)
class ApiServer:
    """Where a cluster's API server is, whom its certificate is trusted by, and who asks it.

    `ca` is PEM, "" for the authorities of the system.
    """

    host: str
    ca: str
    reviewer: Secret


@dataclass(frozen=True, slots=True)
class PodIdentity:
    """The service account of the store's own pod: its token now, and its cluster's authority."""

    token: Secret
    ca: str


class TokenReviewer(Protocol):
    """Asks a cluster about service accounts.

    Each question raises Denied when the cluster does not let the reviewer ask, and Unavailable
    when it does not answer.
    """

    def pod(self) -> PodIdentity | None:
        """The store's own identity, read anew; None outside a cluster."""

    async def review(
        self, server: ApiServer, token: Secret, audiences: Sequence[str]
    ) -> ReviewedToken:
        """TokenReview (authentication.k8s.io/v1); raises Denied for an unknown token too."""

    async def namespace_labels(self, server: ApiServer, namespace: str) -> Labels:
        """Labels of a namespace; raises NotFound."""

    async def annotations(self, server: ApiServer, namespace: str, account: str) -> Labels:
        """Annotations of a service account; raises NotFound."""


def api_server(config: Mapping[str, Any], pod: PodIdentity | None, jwt: str) -> ApiServer:
    """The cluster of a mount's configuration.

    Whoever asks is the configured reviewer, else the store's own pod unless that is disabled,
    else the holder of the token that is to be reviewed.
    """
    own = None if config["disable_local_ca_jwt"] else pod
    # Earlier versions kept the line break at the end of a file.
    reviewer = Secret(config["token_reviewer_jwt"].strip() or jwt)
    if own is not None and not config["token_reviewer_jwt"]:
        reviewer = own.token
    ca = config["kubernetes_ca_cert"] or (own.ca if own is not None else "")
    return ApiServer(config["kubernetes_host"], ca, reviewer)


def is_header_text(token: str) -> bool:
    """Whether a token can be sent in a header, as every token is that asks a cluster."""
    return token.isascii() and token.isprintable()


async def review(
    reviewer: TokenReviewer, server: ApiServer, jwt: str, audiences: Sequence[str]
) -> ReviewedToken:
    """The reviewed token; every refusal is Denied with Vault's sentence, and a hint says why."""
    try:
        return await reviewer.review(server, Secret(jwt), audiences)
    except Unavailable:
        raise
    except Refusal as refusal:
        advice = "" if server.reviewer.reveal_text() == jwt else _ADVICE.get(refusal.code, "")
        hint = f"{refusal.code}: {advice}" if advice else refusal.code
        raise Denied("review-refused", "permission denied", hint=hint) from refusal


async def check_bound(
    role: Mapping[str, Any], found: ReviewedToken, reviewer: TokenReviewer, server: ApiServer
) -> None:
    """Refuse a service account that the role does not bind.

    A namespace is bound by its name or by its labels; the cluster is asked for them only when the
    name is not. Raises Denied, or Unavailable when the labels cannot be read.
    """
    names = role["bound_service_account_names"]
    if not any(glob_matches(each, found.service_account) for each in names):
        raise Denied("service-account-not-bound", "service account name not authorized")
    namespaces = role["bound_service_account_namespaces"]
    if any(glob_matches(each, found.namespace) for each in namespaces):
        return
    selector = selector_from(role.get("bound_service_account_namespace_selector") or "")
    if selector is None or not selects(selector, await _labels(reviewer, server, found.namespace)):
        raise Denied("namespace-not-bound", "namespace not authorized")


async def _labels(reviewer: TokenReviewer, server: ApiServer, namespace: str) -> Labels:
    try:
        return await reviewer.namespace_labels(server, namespace)
    except NotFound:
        raise Denied("namespace-not-bound", "namespace not authorized") from None
    except Denied as refusal:
        raise Unavailable(
            "namespace-unreadable",
            f"the labels of the namespace cannot be read: {refusal.message}",
            hint='grant the reviewer "get" of namespaces, or bind namespaces by name',
        ) from None


async def alias_metadata(
    reviewer: TokenReviewer, server: ApiServer, found: ReviewedToken, own: Labels
) -> dict[str, str]:
    """The method's own metadata and what the service account's annotations add to it.

    Raises Invalid for an annotation in the place of the method's own, Unavailable when they cannot
    be read.
    """
    try:
        every = await reviewer.annotations(server, found.namespace, found.service_account)
    except (Denied, NotFound) as refusal:
        raise Unavailable(
            "annotations-unreadable",
            f"the annotations of the service account cannot be read: {refusal.message}",
            hint='grant the reviewer "get" of serviceaccounts',
        ) from None
    added = {
        name.removeprefix(ANNOTATION): value
        for name, value in every.items()
        if name.startswith(ANNOTATION)
    }
    taken = sorted(added.keys() & own.keys())
    if taken:
        raise Invalid(
            "reserved-annotation", f"the annotation {ANNOTATION}{taken[0]} names reserved metadata"
        )
    return {**added, **own}


def selector_from(text: str) -> dict[str, Any] | None:
    """A LabelSelector from JSON or YAML, None for ""; raises Invalid(`bad-selector`)."""
    if not text.strip():
        return None
    try:
        found = plain_yaml(text, MAX_SELECTOR)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not _is_selector(found):
        raise Invalid(
            "bad-selector",
            "bound_service_account_namespace_selector is no label selector",
            hint='for example {"matchLabels": {"team": "red"}}',
        )
    check_selector(found)
    return found


def _is_selector(found: dict[str, Any]) -> bool:
    labels, expressions = found.get("matchLabels") or {}, found.get("matchExpressions") or []
    return (
        # An empty one would match every namespace, which `*` says plainly.
        bool(labels or expressions)
        and found.keys() <= {"matchLabels", "matchExpressions"}
        and isinstance(labels, dict)
        and all(isinstance(each, str) for each in (*labels, *labels.values()))
        and isinstance(expressions, list)
        and all(_is_expression(each) for each in expressions)
    )


def _is_expression(each: Any) -> bool:  # noqa: ANN401 - YAML
    if not isinstance(each, dict) or not isinstance(each.get("key"), str):
        return False
    values = each.get("values") or []
    needed = each.get("operator") in ("In", "NotIn")
    return (
        isinstance(values, list)
        and all(isinstance(one, str) for one in values)
        and bool(values) == needed
    )
