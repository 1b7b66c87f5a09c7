"""Who acts: a token's holder, and what Kubernetes said about a service-account token."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ReviewedToken:
    """What a TokenReview established about a bearer token.

    Pod, node and token id come from `status.user.extra`
    (`authentication.kubernetes.io/{pod-name,pod-uid,node-name,credential-id}`) and are ""
    when the token is not bound to a pod. Source: KEP-4193.
    """

    namespace: str
    service_account: str
    service_account_uid: str
    audiences: tuple[str, ...] = ()
    pod_name: str = ""
    pod_uid: str = ""
    node_name: str = ""
    token_id: str = ""


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of a store operation, as authenticated; goes into every audit record.

    `policies` is everything that counts: the token's own and what its entity and groups add.
    `token_ttl` are the seconds the token was given, 0 for no end.
    """

    display_name: str
    accessor: str
    policies: tuple[str, ...]
    metadata: dict[str, str] = field(default_factory=dict)
    token_type: str = "service"  # noqa: S105 - a kind of token, not one
    entity_id: str = ""
    token_policies: tuple[str, ...] = ()
    identity_policies: tuple[str, ...] = ()
    token_ttl: int = 0
    token_issue_time: str = ""

    @property
    def is_root(self) -> bool:
        """Whether the root policy is attached, which bypasses the ACL."""
        return "root" in self.policies
