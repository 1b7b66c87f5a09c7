"""`auth/kubernetes`: a service-account token, reviewed by its API server, becomes a store token.

Pod, node and token id that the review reports are kept on the token, so that every record of the
store joins with the cluster's own audit log.
API: https://developer.hashicorp.com/vault/api-docs/auth/kubernetes.
"""

import base64
import binascii
import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import orjson

from strongroom.model.errors import Denied, Invalid, Refusal, Unavailable
from strongroom.model.principal import ReviewedToken
from strongroom.model.secret import Secret
from strongroom.store.auth.key_sets import KeySets
from strongroom.store.auth.kubernetes_local import LOCAL, REVIEW, LocalReview, check_local
from strongroom.store.auth.login import log_in
from strongroom.store.auth.role_fields import RoleReader, role_grant
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.context import Context
from strongroom.store.engine.contract import Transaction
from strongroom.store.envelope import nothing_here
from strongroom.store.identity.at_login import LoginAlias
from strongroom.store.tokens import Grant

CONFIG: Final = "config"
ROLE: Final = "role"
MAX_JWT_BYTES: Final = 16 * 1024
BY_UID: Final = "serviceaccount_uid"
BY_NAME: Final = "serviceaccount_name"


class TokenReviewer(Protocol):
    """Asks a cluster about a bearer token (TokenReview, authentication.k8s.io/v1)."""

    async def review(
        self, host: str, ca: str, reviewer: Secret, token: Secret, audiences: Sequence[str]
    ) -> ReviewedToken:
        """What the cluster says; raises Denied when it does not know the token, Unavailable."""


class KubernetesAuth:
    """The backend of every kubernetes mount."""

    def __init__(self, context: Context, reviewer: TokenReviewer, key_sets: KeySets) -> None:
        self._context = context
        self._reviewer = reviewer
        self._local = LocalReview(context.clock, key_sets)

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint("config", {"read": self._read_config, "update": self._write_config}),
            Endpoint("role", {"list": self._list_roles}),
            Endpoint(
                "role/{name}",
                {
                    "read": self._read_role,
                    "update": self._write_role,
                    "create": self._write_role,
                    "delete": self._delete_role,
                },
            ),
            Endpoint("login", {"update": self._login}, public=True),
        )

    def exists(self, call: Call) -> bool:
        kind, _, name = call.rest.partition("/")
        if kind == ROLE:
            return self._context.view.document(call.mount.uuid, ROLE, name.lower()) is not None
        return True

    # configuration

    def _read_config(self, call: Call) -> Result:
        config = self._context.view.document(call.mount.uuid, CONFIG, "")
        if config is None:
            raise nothing_here()
        shown = {key: value for key, value in config.items() if key != "token_reviewer_jwt"}
        return Result({**shown, "token_reviewer_jwt_set": bool(config["token_reviewer_jwt"])})

    async def _write_config(self, call: Call) -> None:
        host = call.text("kubernetes_host")
        if not host.startswith(("https://", "http://")):
            raise Invalid("no-host", "no host provided", hint="kubernetes_host=https://...")
        config = {
            "kubernetes_host": host.rstrip("/"),
            "kubernetes_ca_cert": call.text("kubernetes_ca_cert"),
            "token_reviewer_jwt": call.text("token_reviewer_jwt"),
            "pem_keys": list(call.texts("pem_keys")),
            "issuer": call.text("issuer"),
            "disable_iss_validation": call.flag("disable_iss_validation", default=True),
            "disable_local_ca_jwt": call.flag("disable_local_ca_jwt"),
            "token_validation": call.text("token_validation", REVIEW) or REVIEW,
            "jwks_url": call.text("jwks_url"),
            "jwks_ca_pem": call.text("jwks_ca_pem"),
        }
        check_local(config)
        mount = call.mount.uuid
        await self._context.engine.transact(
            lambda transaction: transaction.put_document(mount, CONFIG, "", config)
        )

    # roles

    def _list_roles(self, call: Call) -> Result:
        names = self._context.view.document_names(call.mount.uuid, ROLE)
        if not names:
            raise nothing_here()
        return Result({"keys": list(names)})

    def _read_role(self, call: Call) -> Result:
        role = self._context.view.document(call.mount.uuid, ROLE, call.args["name"].lower())
        if role is None:
            raise nothing_here()
        return Result(role)

    async def _write_role(self, call: Call) -> None:
        mount, name = call.mount.uuid, call.args["name"].lower()

        def write(transaction: Transaction) -> None:
            old = transaction.document(mount, ROLE, name) or {}
            transaction.put_document(mount, ROLE, name, role_from(call, old))

        await self._context.engine.transact(write)

    async def _delete_role(self, call: Call) -> None:
        mount, name = call.mount.uuid, call.args["name"].lower()
        await self._context.engine.transact(lambda each: each.delete_document(mount, ROLE, name))

    # login

    async def _login(self, call: Call) -> Result:
        name, jwt = call.text("role").lower(), call.text("jwt")
        if not name:
            raise Invalid("no-role", "missing role")
        if not jwt:
            raise Invalid("no-jwt", "missing jwt")
        if len(jwt) > MAX_JWT_BYTES:
            raise Invalid("jwt-too-long", "the jwt is too long")
        view, mount = self._context.view, call.mount.uuid
        role = view.document(mount, ROLE, name)
        if role is None:
            raise Invalid("no-such-role", f'invalid role name "{name}"')
        config = view.document(mount, CONFIG, "")
        if config is None:
            raise Unavailable(
                "not-configured",
                "could not load backend configuration",
                hint=f"write auth/{call.mount.path}config first",
            )
        _check_locally(jwt, self._context.clock.now())
        reviewed = await self._review(config, jwt, role)
        _check_bound(role, reviewed)
        grant = _grant(call, name, role, reviewed)

        def still(transaction: Transaction) -> None:
            if transaction.document(mount, ROLE, name) != role:
                raise Denied("role-changed", "permission denied")

        return await log_in(self._context, call, grant, _alias(role, reviewed, grant), still)

    async def _review(
        self, config: Mapping[str, Any], jwt: str, role: Mapping[str, Any]
    ) -> ReviewedToken:
        audiences = (role["audience"],) if role["audience"] else ()
        # Without a reviewer of its own the store asks with the caller's token, as Vault does.
        reviewer = Secret(config["token_reviewer_jwt"] or jwt)
        try:
            if config.get("token_validation") == LOCAL:
                return await self._local.review(config, jwt, audiences)
            return await self._reviewer.review(
                config["kubernetes_host"],
                config["kubernetes_ca_cert"],
                reviewer,
                Secret(jwt),
                audiences,
            )
        except Unavailable:
            raise
        except Refusal as refusal:
            raise Denied("review-refused", "permission denied", hint=refusal.code) from refusal


def role_from(call: Call, old: Mapping[str, Any]) -> dict[str, Any]:
    """A role's document from the parameters given and what it was.

    Raises Invalid when it binds nothing.
    """
    read = RoleReader(call, old)
    role: dict[str, Any] = {
        "bound_service_account_names": read.texts("bound_service_account_names"),
        "bound_service_account_namespaces": read.texts("bound_service_account_namespaces"),
        "audience": read.text("audience"),
        "alias_name_source": read.text("alias_name_source", BY_UID),
        **read.token_fields(),
    }
    if not role["bound_service_account_names"]:
        raise Invalid("unbound-role", '"bound_service_account_names" can not be empty')
    if not role["bound_service_account_namespaces"]:
        raise Invalid("unbound-role", '"bound_service_account_namespaces" can not be empty')
    if role["alias_name_source"] not in (BY_UID, BY_NAME):
        raise Invalid("bad-parameter", f"alias_name_source is {BY_UID} or {BY_NAME}")
    return role


def _check_locally(jwt: str, now: float) -> None:
    """Refuse what is no token or has expired without asking the cluster."""
    parts = jwt.split(".")
    try:
        if len(parts) != 3:
            raise ValueError
        claims = orjson.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        expires = claims.get("exp")
    except (ValueError, binascii.Error, AttributeError):
        raise Denied("not-a-jwt", "permission denied") from None
    if isinstance(expires, int | float) and expires <= now:
        raise Denied("jwt-expired", "permission denied")


def _check_bound(role: Mapping[str, Any], reviewed: ReviewedToken) -> None:
    names, namespaces = (
        role["bound_service_account_names"],
        role["bound_service_account_namespaces"],
    )
    if not any(fnmatch.fnmatchcase(reviewed.namespace, each) for each in namespaces):
        raise Denied("namespace-not-bound", "namespace not authorized")
    if not any(fnmatch.fnmatchcase(reviewed.service_account, each) for each in names):
        raise Denied("service-account-not-bound", "service account name not authorized")


def _grant(call: Call, name: str, role: Mapping[str, Any], reviewed: ReviewedToken) -> Grant:
    metadata = {
        "role": name,
        "service_account_name": reviewed.service_account,
        "service_account_namespace": reviewed.namespace,
        "service_account_uid": reviewed.service_account_uid,
        "service_account_secret_name": "",
        "pod_name": reviewed.pod_name,
        "pod_uid": reviewed.pod_uid,
        "node_name": reviewed.node_name,
        "token_id": reviewed.token_id,
    }
    shown = f"{reviewed.namespace}-{reviewed.service_account}"
    return role_grant(call.mount, name, role, shown, metadata)


def _alias(role: Mapping[str, Any], reviewed: ReviewedToken, grant: Grant) -> LoginAlias:
    by_name = role["alias_name_source"] == BY_NAME
    name = f"{reviewed.namespace}/{reviewed.service_account}"
    # What names the pod changes with each one and is the token's, not the identity's.
    of_pod = ("pod_name", "pod_uid", "node_name", "token_id", "role")
    kept = {key: value for key, value in grant.metadata.items() if key not in of_pod}
    return LoginAlias(name if by_name else reviewed.service_account_uid, kept)
