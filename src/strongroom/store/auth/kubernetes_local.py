"""Service-account tokens checked against the cluster's public keys, without asking the cluster.

A mount does so with `token_validation=local`, by `pem_keys` or by a key set (`jwks_url`, else
`kubernetes_host` + `/openid/v1/jwks`). It costs the API server nothing and works while it is away;
a token of a deleted pod stays good until it expires, which is why asking is the default.
Claims: https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from strongroom.model.clock import Clock
from strongroom.model.errors import Denied, Invalid
from strongroom.model.principal import ReviewedToken
from strongroom.store.auth.jwt_verify import (
    Claims,
    Leeways,
    check_audience,
    check_times,
    claim,
    key_id,
    keys_of_pems,
    unverified_claims,
    verified_claims,
)
from strongroom.store.auth.key_sets import KeySets
from strongroom.store.auth.kubernetes_cluster import ApiServer

REVIEW: Final = "review"
LOCAL: Final = "local"
KEYS_PATH: Final = "/openid/v1/jwks"
# Of the tokens that Kubernetes kept in Secrets; what Vault takes when no issuer is configured.
LEGACY_ISSUER: Final = "kubernetes/serviceaccount"


class LocalReview:
    """Says what a TokenReview would have said."""

    def __init__(self, clock: Clock, key_sets: KeySets) -> None:
        self._clock = clock
        self._sets = key_sets

    async def review(
        self, config: Mapping[str, Any], server: ApiServer, token: str, audiences: Sequence[str]
    ) -> ReviewedToken:
        """The token's service account, pod and node; raises Denied, or Unavailable."""
        if config["pem_keys"]:
            keys = keys_of_pems(config["pem_keys"])
        else:
            url = config["jwks_url"] or config["kubernetes_host"] + KEYS_PATH
            ca = config["jwks_ca_pem"] or server.ca
            # Clusters show their keys to service accounts, and few to everybody. A stranger's
            # token must not decide whether they are seen.
            own = server.reviewer if server.reviewer.reveal_text() != token else None
            bearer = own if not config["jwks_url"] else None
            keys = await self._sets.keys(url, ca, key_id(token), bearer)
        claims = verified_claims(token, keys)
        check_times(claims, Leeways(skew=-1), self._clock.now())
        if not audiences:
            # Asked, the cluster would accept its own audience alone; here nobody says which it is.
            raise Denied("role-needs-audience", "the role has no audience to check for")
        check_audience(claims, audiences)
        if config["issuer"] and claims.get("iss") != config["issuer"]:
            raise Denied("bad-issuer", "the token is of another issuer")
        return reviewed_from(claims)


def check_before_review(config: Mapping[str, Any], token: str, now: float) -> None:
    """Refuse what can be refused without asking the cluster; raises Denied.

    That is no token, an expired one, one of another issuer where the issuer is to be validated,
    and one that none of the configured keys signed.
    """
    if config["pem_keys"]:
        claims = verified_claims(token, keys_of_pems(config["pem_keys"]))
    else:
        claims = unverified_claims(token)
    expires = claims.get("exp")
    if isinstance(expires, int | float) and expires <= now:
        raise Denied("jwt-expired", "the token has expired")
    issuer = config["issuer"] or LEGACY_ISSUER
    if not config["disable_iss_validation"] and claims.get("iss") != issuer:
        raise Denied("bad-issuer", "the token is of another issuer")


def reviewed_from(claims: Claims) -> ReviewedToken:
    """What the claims of a bound service-account token say; raises Denied for any other."""

    def said(pointer: str) -> str:
        value = claim(claims, f"/kubernetes.io/{pointer}")
        return value if isinstance(value, str) else ""

    namespace, name = said("namespace"), said("serviceaccount/name")
    uid, jti = said("serviceaccount/uid"), claims.get("jti")
    if not (namespace and name and uid):
        raise Denied("not-bound", "the token is not a bound service-account token")
    audience = claims.get("aud") or []
    return ReviewedToken(
        namespace=namespace,
        service_account=name,
        service_account_uid=uid,
        audiences=tuple([audience] if isinstance(audience, str) else audience),
        pod_name=said("pod/name"),
        pod_uid=said("pod/uid"),
        node_name=said("node/name"),
        # As the API server writes it into `credential-id` (KEP-4193).
        token_id=f"JTI={jti}" if isinstance(jti, str) and jti else "",
    )


def check_local(config: Mapping[str, Any]) -> None:
    """Refuse a configuration that cannot be kept; raises Invalid."""
    if config["token_validation"] not in (REVIEW, LOCAL):
        raise Invalid("bad-parameter", f"token_validation is {REVIEW} or {LOCAL}")
    keys_of_pems(config["pem_keys"])
