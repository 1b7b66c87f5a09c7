"""`auth/jwt` and `auth/oidc`: a signed token of an outside issuer becomes a store token.

API: https://developer.hashicorp.com/vault/api-docs/auth/jwt.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Final

from strongroom.model.errors import Denied, Invalid, Refusal, Unavailable
from strongroom.store.auth.jwt_config import (
    CONFIG_FIELDS,
    FORM_POST,
    ROLE_FIELDS,
    SECRET,
    config_from,
    leeways_of,
    role_from,
)
from strongroom.store.auth.jwt_verify import (
    Claims,
    Key,
    as_invalid,
    check_audience,
    check_bound,
    check_times,
    group_names,
    is_signed,
    key_id,
    keys_of_pems,
    mapped,
    text_claim,
    verified_claims,
)
from strongroom.store.auth.key_sets import KeySets
from strongroom.store.auth.login import log_in
from strongroom.store.auth.oidc import OidcFlow, code_of
from strongroom.store.auth.role_fields import role_grant
from strongroom.store.auth.roles import Roles
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.context import Context
from strongroom.store.engine.barrier import Barrier
from strongroom.store.envelope import present
from strongroom.store.identity.at_login import LoginAlias
from strongroom.store.parameters import fields
from strongroom.store.routing import UnsupportedOperation

CONFIG: Final = "config"
_POSTED: Final = (
    b"The login is under way; whoever began it finishes it with the code and the state.\n"
)


class JwtAuth:
    """The backend of every jwt and oidc mount."""

    def __init__(self, context: Context, barrier: Barrier, key_sets: KeySets) -> None:
        self._context = context
        self._sets = key_sets
        self._roles = Roles(context, role_from, ROLE_FIELDS)
        self._flow = OidcFlow(context, barrier, key_sets)

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
            Endpoint(
                "oidc/auth_url",
                {"update": self._auth_url},
                public=True,
                takes=fields(text="role redirect_uri client_nonce"),
            ),
            Endpoint(
                "oidc/callback",
                {"read": self._callback, "update": self._posted},
                public=True,
                # The nonce is sent as the API is documented; what counts is the one in the token.
                # Clients send `id_token` always, and empty with a code.
                takes=fields(text="state code nonce id_token client_nonce error error_description"),
            ),
        )

    def exists(self, call: Call) -> bool:
        return self._roles.exists(call)

    # configuration

    def _config(self, call: Call) -> dict[str, Any]:
        config = self._context.view.document(call.mount.uuid, CONFIG, "")
        if config is None:
            raise Invalid("not-configured", "could not load configuration")
        return config

    def _read_config(self, call: Call) -> Result:
        config = present(self._context.view.document(call.mount.uuid, CONFIG, ""))
        return Result({key: value for key, value in config.items() if key != SECRET})

    async def _write_config(self, call: Call) -> None:
        config, mount = config_from(call), call.mount.uuid
        try:
            if config["oidc_discovery_url"]:
                what = "error checking oidc discovery URL"
                await self._sets.discovery(
                    config["oidc_discovery_url"], config["oidc_discovery_ca_pem"]
                )
            elif not call.flag("skip_jwks_validation"):
                what = "error checking jwks URL"
                await self._keys(config, "")
        except Unavailable as refusal:
            raise as_invalid(refusal, what) from None
        await self._context.engine.transact(
            lambda transaction: transaction.put_document(mount, CONFIG, "", config)
        )

    def _named_role(
        self, call: Call, config: Mapping[str, Any], kind: str
    ) -> tuple[str, dict[str, Any]]:
        name = (call.text("role") or str(config["default_role"])).lower()
        if not name:
            raise Invalid("no-role", "missing role")
        role = self._roles.get(call.mount.uuid, name)
        if role is None:
            raise Invalid("no-such-role", f'role "{name}" could not be found')
        if role["role_type"] != kind:
            raise Invalid("role-type", f"role with {role['role_type']} role_type is not allowed")
        return name, role

    async def _keys(self, config: Mapping[str, Any], token: str) -> list[Key]:
        """The keys that may have signed a token; with "" for it all there are."""
        wanted = key_id(token) if token else ""
        if config["jwt_validation_pubkeys"]:
            return keys_of_pems(config["jwt_validation_pubkeys"])
        if config["oidc_discovery_url"]:
            ca = config["oidc_discovery_ca_pem"]
            found = await self._sets.discovery(config["oidc_discovery_url"], ca)
            return await self._sets.keys(str(found.get("jwks_uri") or ""), ca, wanted)
        if config["jwks_pairs"]:
            algorithms = config["jwt_supported_algs"]
            return await self._sets.of_any(
                config["jwks_pairs"], wanted, lambda keys: is_signed(token, keys, algorithms)
            )
        return await self._sets.keys(config["jwks_url"], config["jwks_ca_pem"], wanted)

    # login

    async def _login(self, call: Call) -> Result:
        config = self._config(call)
        name, role = self._named_role(call, config, "jwt")
        # A file that it comes from usually ends in a line break.
        token = call.text("jwt").strip()
        if not token:
            raise Invalid("no-jwt", "missing token")
        try:
            keys = await self._keys(config, token)
            claims = verified_claims(token, keys, config["jwt_supported_algs"])
            check_issuer(claims, config)
            check_times(claims, leeways_of(role), self._context.clock.now())
        except Unavailable:
            raise
        except Refusal as refusal:
            raise as_invalid(refusal, "error validating token") from None
        return await self._finish(call, name, role, claims, role["bound_audiences"])

    async def _finish(
        self,
        call: Call,
        name: str,
        role: dict[str, Any],
        claims: Claims,
        audiences: Sequence[str],
    ) -> Result:
        try:
            check_audience(claims, audiences)
            if role["bound_subject"] and claims.get("sub") != role["bound_subject"]:
                raise Denied("bad-subject", "sub claim does not match bound subject")
            globs = role["bound_claims_type"] == "glob"
            check_bound(claims, role["bound_claims"], globs=globs)
            user = text_claim(claims, _pointer(role))
            groups = group_names(claims, role["groups_claim"])
            metadata = {**mapped(claims, role["claim_mappings"]), "role": name}
        except Refusal as refusal:
            raise as_invalid(refusal, "error validating claims") from None
        still = self._roles.unchanged(call.mount.uuid, name, role)
        grant = role_grant(call.mount, name, role, user, metadata)
        alias = LoginAlias(user, metadata, groups)
        return await log_in(self._context, call, grant, alias, still)

    # OpenID Connect

    async def _auth_url(self, call: Call) -> Result:
        config = self._config(call)
        name, role = self._named_role(call, config, "oidc")
        return Result({"auth_url": await self._flow.auth_url(call, config, name, role)})

    async def _posted(self, call: Call) -> Result:
        """The form of an issuer, or of a client that hands it on before it finishes by a GET.

        The code is not spent here, since who began the login is not known from a form; and nothing
        is kept, since the state is sealed and the GET brings both.
        """
        if self._config(call)["oidc_response_mode"] != FORM_POST:
            raise UnsupportedOperation("unsupported-operation", "unsupported operation")
        self._flow.opened(call)
        code_of(call)
        return Result(raw=_POSTED, content_type="text/plain; charset=utf-8")

    async def _callback(self, call: Call) -> Result:
        config = self._config(call)
        begun = self._flow.begun(call)
        role = self._roles.get(call.mount.uuid, begun.role)
        if role is None:
            raise Invalid("no-such-role", f'role "{begun.role}" could not be found')
        claims, missing = await self._flow.claims(call, config, role, begun)
        # The client's own id is the audience; a role may ask for more.
        audiences = role["bound_audiences"] or [config["oidc_client_id"]]
        try:
            result = await self._finish(call, begun.role, role, claims, audiences)
        except Invalid as refusal:
            if not missing:
                raise
            raise Invalid(refusal.code, f"{refusal.message}; {missing}") from None
        return dataclasses.replace(result, warnings=(*result.warnings, *filter(None, [missing])))


def check_issuer(claims: Claims, config: Mapping[str, Any]) -> None:
    """Refuse a token of an issuer other than the bound or the discovered one; raises Denied.

    An issuer's discovery address is its name; people write it with and without its last slash.
    """
    said, bound = claims.get("iss"), config["bound_issuer"]
    discovered = config["oidc_discovery_url"].rstrip("/")
    if (bound and said != bound) or (
        discovered and not bound and str(said).rstrip("/") != discovered
    ):
        raise Denied("bad-issuer", "invalid issuer (iss) claim")


def _pointer(role: Mapping[str, Any]) -> str:
    name = str(role["user_claim"])
    pointer = role["user_claim_json_pointer"]
    # Without the flag a slash at the front is part of the name, and no claim is called so.
    return name if pointer or not name.startswith("/") else f"/{name.replace('/', '~1')}"
