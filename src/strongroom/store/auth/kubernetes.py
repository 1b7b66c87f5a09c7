"""`auth/kubernetes`: a service-account token, reviewed by its API server, becomes a store token.

Pod, node and token id that the review reports are kept on the token, so that every record of the
store joins with the cluster's own audit log.
API: https://developer.hashicorp.com/vault/api-docs/auth/kubernetes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from strongroom.crypto.client_certificates import read_certificates
from strongroom.model.errors import Denied, Invalid, Refusal, Unavailable
from strongroom.model.principal import ReviewedToken
from strongroom.store.auth.key_sets import KeySets
from strongroom.store.auth.kubernetes_cluster import (
    ApiServer,
    TokenReviewer,
    alias_metadata,
    api_server,
    check_bound,
    is_header_text,
    review,
    selector_from,
)
from strongroom.store.auth.kubernetes_local import (
    LOCAL,
    REVIEW,
    LocalReview,
    check_before_review,
    check_local,
)
from strongroom.store.auth.login import log_in
from strongroom.store.auth.role_fields import TOKEN_FIELDS, RoleReader, role_grant
from strongroom.store.auth.roles import Roles
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.context import Context
from strongroom.store.envelope import present
from strongroom.store.identity.at_login import LoginAlias
from strongroom.store.parameters import fields
from strongroom.store.tokens import Grant

CONFIG: Final = "config"
SELECTOR: Final = "bound_service_account_namespace_selector"
# What configurations of earlier versions do not say.
EARLIER: Final = {
    "token_validation": REVIEW, "jwks_url": "", "jwks_ca_pem": "",
    "use_annotations_as_alias_metadata": False,
}  # fmt: skip
NO_CA: Final = "kubernetes_ca_cert holds no certificate that can be read"
MAX_JWT_BYTES: Final = 16 * 1024
CONFIG_FIELDS: Final = fields(
    text="kubernetes_host kubernetes_ca_cert token_reviewer_jwt issuer token_validation jwks_url"
    " jwks_ca_pem",
    texts="pem_keys",
    flag="disable_iss_validation disable_local_ca_jwt use_annotations_as_alias_metadata",
)
ROLE_FIELDS: Final = fields(
    TOKEN_FIELDS,
    texts="bound_service_account_names bound_service_account_namespaces",
    text=f"audience alias_name_source {SELECTOR}",
)
BY_UID: Final = "serviceaccount_uid"
BY_NAME: Final = "serviceaccount_name"


class KubernetesAuth:
    """The backend of every kubernetes mount."""

    def __init__(self, context: Context, reviewer: TokenReviewer, key_sets: KeySets) -> None:
        self._context = context
        self._reviewer = reviewer
        self._roles = Roles(context, role_from, ROLE_FIELDS)
        self._local = LocalReview(context.clock, key_sets)

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint(
                "config",
                {"read": self._read_config, "update": self._write_config},
                takes=CONFIG_FIELDS,
            ),
            *self._roles.endpoints,
            Endpoint("login", {"update": self._login}, public=True, takes=fields(text="role jwt")),
        )

    def exists(self, call: Call) -> bool:
        return self._roles.exists(call)

    # configuration

    def _read_config(self, call: Call) -> Result:
        config = present(self._context.view.document(call.mount.uuid, CONFIG, ""))
        shown = {key: value for key, value in config.items() if key != "token_reviewer_jwt"}
        return Result({**shown, "token_reviewer_jwt_set": bool(config["token_reviewer_jwt"])})

    async def _write_config(self, call: Call) -> Result | None:
        config, mount = config_from(call), call.mount.uuid
        await self._context.engine.transact(
            lambda transaction: transaction.put_document(mount, CONFIG, "", config)
        )
        # As in Vault it is kept: what writes a placeholder first and the certificate later goes on.
        return None if _ca_is_readable(config) else Result(warnings=(f"{NO_CA}: no login works",))

    # login

    async def _login(self, call: Call) -> Result:
        # A file that it comes from usually ends in a line break.
        name, jwt = call.text("role").lower(), call.text("jwt").strip()
        if not name:
            raise Invalid("no-role", "missing role")
        if not jwt:
            raise Invalid("no-jwt", "missing jwt")
        if len(jwt) > MAX_JWT_BYTES:
            raise Invalid("jwt-too-long", "the jwt is too long")
        if not is_header_text(jwt):
            raise Denied("review-refused", "permission denied", hint="not-a-jwt")
        mount = call.mount.uuid
        role = self._roles.get(mount, name)
        if role is None:
            raise Invalid("no-such-role", f'invalid role name "{name}"')
        config = self._context.view.document(mount, CONFIG, "")
        if config is None:
            raise Unavailable(
                "not-configured",
                "could not load backend configuration",
                hint=f"write auth/{call.mount.path}config first",
            )
        config = {**EARLIER, **config}
        if not _ca_is_readable(config):
            raise Unavailable("bad-certificate", NO_CA, hint=f"write auth/{call.mount.path}config")
        server = api_server(config, self._reviewer.pod(), jwt)
        reviewed = await self._review(config, server, jwt, role)
        await check_bound(role, reviewed, self._reviewer, server)
        grant = _grant(call, name, role, reviewed)
        alias = _alias(role, reviewed, grant)
        if config["use_annotations_as_alias_metadata"]:
            metadata = await alias_metadata(self._reviewer, server, reviewed, alias.metadata)
            alias = LoginAlias(alias.name, metadata)
        still = self._roles.unchanged(mount, name, role)
        return await log_in(self._context, call, grant, alias, still)

    async def _review(
        self, config: Mapping[str, Any], server: ApiServer, jwt: str, role: Mapping[str, Any]
    ) -> ReviewedToken:
        audiences = (role["audience"],) if role["audience"] else ()
        try:
            if config["token_validation"] == LOCAL:
                return await self._local.review(config, server, jwt, audiences)
            check_before_review(config, jwt, self._context.clock.now())
        except Unavailable:
            raise
        except Refusal as refusal:
            raise Denied("review-refused", "permission denied", hint=refusal.code) from refusal
        return await review(self._reviewer, server, jwt, audiences)


def config_from(call: Call) -> dict[str, Any]:
    """A mount's configuration; raises Invalid."""
    host = call.text("kubernetes_host").rstrip("/")
    if not host:
        raise Invalid("no-host", "no host provided", hint="kubernetes_host=https://...")
    config: dict[str, Any] = {
        # Without a scheme it is a host, or a host and its port.
        "kubernetes_host": host if "://" in host else f"https://{host}",
        "kubernetes_ca_cert": call.text("kubernetes_ca_cert"),
        "token_reviewer_jwt": call.text("token_reviewer_jwt").strip(),
        "pem_keys": list(call.texts("pem_keys")),
        "issuer": call.text("issuer"),
        "disable_iss_validation": call.flag("disable_iss_validation", default=True),
        "disable_local_ca_jwt": call.flag("disable_local_ca_jwt"),
        "use_annotations_as_alias_metadata": call.flag("use_annotations_as_alias_metadata"),
        "token_validation": call.text("token_validation", REVIEW) or REVIEW,
        "jwks_url": call.text("jwks_url"),
        "jwks_ca_pem": call.text("jwks_ca_pem"),
    }
    if not config["kubernetes_host"].startswith(("https://", "http://")):
        raise Invalid("no-host", "kubernetes_host is a host or an https:// address")
    if not is_header_text(config["token_reviewer_jwt"]):
        raise Invalid("bad-parameter", "token_reviewer_jwt has characters that no token has")
    if config["jwks_ca_pem"]:
        read_certificates(config["jwks_ca_pem"])
    check_local(config)
    return config


def _ca_is_readable(config: Mapping[str, Any]) -> bool:
    """Whether the cluster's authority, where one is configured, holds a certificate."""
    try:
        return not config["kubernetes_ca_cert"] or bool(
            read_certificates(config["kubernetes_ca_cert"])
        )
    except Invalid:
        return False


def role_from(call: Call, old: Mapping[str, Any]) -> dict[str, Any]:
    """A role's document from the parameters given and what it was.

    Raises Invalid when it binds nothing.
    """
    read = RoleReader(call, old)
    role: dict[str, Any] = {
        "bound_service_account_names": read.texts("bound_service_account_names"),
        "bound_service_account_namespaces": read.texts("bound_service_account_namespaces"),
        SELECTOR: _selector_text(call, old),
        "audience": read.text("audience"),
        "alias_name_source": read.text("alias_name_source", BY_UID),
        **read.token_fields(),
    }
    for name, instead in (
        ("bound_service_account_names", ""),
        ("bound_service_account_namespaces", role[SELECTOR]),
    ):
        if not role[name] and not instead:
            raise Invalid("unbound-role", f'"{name}" can not be empty')
        if "*" in role[name] and len(role[name]) > 1:
            raise Invalid("bad-parameter", f'"{name}": can not mix "*" with values')
    selector_from(role[SELECTOR])
    if role["alias_name_source"] not in (BY_UID, BY_NAME):
        raise Invalid("bad-parameter", f"alias_name_source is {BY_UID} or {BY_NAME}")
    return role


def _selector_text(call: Call, old: Mapping[str, Any]) -> str:
    """The selector as it is kept, text in JSON or YAML; an object is written as JSON."""
    given = call.data.get(SELECTOR, old.get(SELECTOR)) or ""
    return given if isinstance(given, str) else orjson.dumps(given).decode()


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
