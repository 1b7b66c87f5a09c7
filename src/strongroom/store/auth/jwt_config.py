"""Configuration and roles of JWT and OIDC mounts, from parameters. Pure.

Fields: https://developer.hashicorp.com/vault/api-docs/auth/jwt.
"""

from collections.abc import Mapping
from typing import Any, Final

from strongroom.crypto.client_certificates import read_certificates
from strongroom.model.errors import Invalid
from strongroom.store.auth.jwt_verify import ALGORITHMS, Leeways, keys_of_pems
from strongroom.store.auth.role_fields import TOKEN_FIELDS, RoleReader, refuse
from strongroom.store.call import Call
from strongroom.store.parameters import fields

SECRET: Final = "oidc_client_secret"  # noqa: S105 - a parameter's name
FORM_POST: Final = "form_post"  # OAuth 2.0 Form Post Response Mode.
ROLE_NAME: Final = "role"  # The metadata that says which role a login was by.
_NOT_SERVED: Final = {
    "provider_config": "groups come from the token and the user info alone; there is no request to"
    " a provider's own directory",
}
_NO_LOG: Final = {
    "verbose_oidc_logging": "tokens and claims are never logged; a refused login says which claim"
    " did not match",
}
CONFIG_FIELDS: Final = fields(
    text="oidc_discovery_url oidc_discovery_ca_pem oidc_client_id oidc_client_secret"
    " oidc_response_mode jwks_url jwks_ca_pem bound_issuer default_role",
    objects="jwks_pairs",
    texts="jwt_validation_pubkeys jwt_supported_algs oidc_response_types",
    object="provider_config",
    flag="namespace_in_state skip_jwks_validation",
)
ROLE_FIELDS: Final = fields(
    TOKEN_FIELDS,
    text="role_type user_claim bound_subject bound_claims_type groups_claim",
    flag="user_claim_json_pointer verbose_oidc_logging",
    texts="bound_audiences oidc_scopes allowed_redirect_uris",
    object="bound_claims claim_mappings",
    seconds="max_age clock_skew_leeway expiration_leeway not_before_leeway",
)
_SOURCES: Final = ("jwt_validation_pubkeys", "jwks_url", "jwks_pairs", "oidc_discovery_url")


def config_from(call: Call) -> dict[str, Any]:
    """A mount's configuration; raises Invalid."""
    refuse(call, _NOT_SERVED)
    read = RoleReader(call, {})
    config: dict[str, Any] = {
        name: read.text(name)
        for name in (
            "oidc_discovery_url", "oidc_discovery_ca_pem", "oidc_client_id", SECRET,
            "oidc_response_mode", "jwks_url", "jwks_ca_pem", "bound_issuer", "default_role",
        )
    }  # fmt: skip
    config |= {
        "jwks_pairs": _pairs(call.data.get("jwks_pairs")),
        "jwt_validation_pubkeys": _pems(call.data.get("jwt_validation_pubkeys")),
        "jwt_supported_algs": read.texts("jwt_supported_algs"),
        "oidc_response_types": read.texts("oidc_response_types"),
        "provider_config": read.mapping("provider_config"),
        "namespace_in_state": read.flag("namespace_in_state", default=True),
    }
    given = [name for name in _SOURCES if config[name]]
    if len(given) != 1:
        raise Invalid(
            "key-source",
            "exactly one of 'jwt_validation_pubkeys', 'jwks_url', 'jwks_pairs' or"
            " 'oidc_discovery_url' must be set",
        )
    if bool(config["oidc_client_id"]) != bool(config[SECRET]):
        raise Invalid(
            "half-client", "both 'oidc_client_id' and 'oidc_client_secret' must be set for OIDC"
        )
    if config["oidc_client_id"] and not config["oidc_discovery_url"]:
        raise Invalid("no-discovery", "'oidc_discovery_url' must be set for OIDC")
    for name in config["jwt_supported_algs"]:
        if name not in ALGORITHMS:
            raise Invalid("bad-algorithm", f"unsupported signing algorithm: {name}")
    keys_of_pems(config["jwt_validation_pubkeys"])
    _check_flow(config)
    _check_authorities(config)
    return config


def _check_flow(config: Mapping[str, Any]) -> None:
    """Only the authorization code flow is served, with the code in the address or in a form."""
    mode, types = config["oidc_response_mode"], config["oidc_response_types"]
    if mode not in ("", "query", FORM_POST):
        raise Invalid(
            "bad-parameter",
            f"invalid response_mode: {mode!r}",
            hint='"query" brings the code back in the address, "form_post" in the body of a POST',
        )
    if any(each not in ("code", "id_token") for each in types):
        raise Invalid(
            "bad-parameter",
            f"invalid response_types {types}. 'code' and 'id_token' are allowed",
        )
    if "id_token" in types and mode != FORM_POST:
        raise Invalid(
            "bad-parameter", "query response_mode may not be used with an id_token response_type"
        )
    if "id_token" in types:
        raise Invalid(
            "not-served",
            "'oidc_response_types' other than \"code\" are not served",
            hint="an ID token that travels through a browser can be read there",
        )


def _check_authorities(config: Mapping[str, Any]) -> None:
    pairs = [each["jwks_ca_pem"] for each in config["jwks_pairs"]]
    for pem in (config["oidc_discovery_ca_pem"], config["jwks_ca_pem"], *pairs):
        if pem:
            read_certificates(pem)


def _pairs(value: Any) -> list[dict[str, str]]:  # noqa: ANN401 - JSON
    pairs = value or []
    if not isinstance(pairs, list) or not all(
        isinstance(each, dict) and each.get("jwks_url") for each in pairs
    ):
        raise Invalid("bad-parameter", "jwks_pairs is a list of objects with a jwks_url")
    return [
        {name: str(each.get(name) or "") for name in ("jwks_url", "jwks_ca_pem")} for each in pairs
    ]


def _pems(value: Any) -> list[str]:  # noqa: ANN401 - JSON
    pems = [value] if isinstance(value, str) and value else value or []
    if not isinstance(pems, list) or not all(isinstance(each, str) for each in pems):
        raise Invalid("bad-parameter", "jwt_validation_pubkeys is a list of PEM texts")
    return pems


def role_from(call: Call, old: Mapping[str, Any]) -> dict[str, Any]:
    """A role; raises Invalid."""
    refuse(call, _NO_LOG)
    read = RoleReader(call, old)
    role: dict[str, Any] = {
        "role_type": read.text("role_type", "oidc") or "oidc",
        "user_claim": read.text("user_claim"),
        "user_claim_json_pointer": read.flag("user_claim_json_pointer"),
        "bound_audiences": read.texts("bound_audiences"),
        "bound_subject": read.text("bound_subject"),
        "bound_claims": read.mapping("bound_claims"),
        "bound_claims_type": read.text("bound_claims_type", "string") or "string",
        "claim_mappings": read.mapping("claim_mappings"),
        "groups_claim": read.text("groups_claim"),
        "oidc_scopes": read.texts("oidc_scopes"),
        "allowed_redirect_uris": read.texts("allowed_redirect_uris"),
        "verbose_oidc_logging": read.flag("verbose_oidc_logging"),
        "max_age": read.seconds("max_age"),
        **{
            name: call.seconds(name, int(old.get(name) or 0))
            for name in ("clock_skew_leeway", "expiration_leeway", "not_before_leeway")
        },
        **read.token_fields(),
    }
    _check(role)
    return role


def _check(role: Mapping[str, Any]) -> None:
    if role["role_type"] not in ("jwt", "oidc"):
        raise Invalid("bad-parameter", f"invalid 'role_type': {role['role_type']}")
    if not role["user_claim"]:
        raise Invalid("no-user-claim", "a user claim must be defined on the role")
    if role["bound_claims_type"] not in ("string", "glob"):
        raise Invalid("bad-parameter", f"invalid 'bound_claims_type': {role['bound_claims_type']}")
    for name, value in role["bound_claims"].items():
        values = value if isinstance(value, list) else [value]
        plain = all(isinstance(each, str | bool | int | float) for each in values)
        if not plain or (role["bound_claims_type"] == "glob" and not _texts(values)):
            raise Invalid("bad-parameter", f"the bound claim {name} is not a value or list of them")
    _check_mappings(role["claim_mappings"])
    if role["role_type"] == "oidc":
        if not role["allowed_redirect_uris"]:
            raise Invalid(
                "no-redirect",
                "allowed_redirect_uris must be set if 'role_type' is 'oidc' or unspecified.",
            )
    elif not any(
        role[name]
        for name in ("bound_audiences", "bound_subject", "bound_claims", "token_bound_cidrs")
    ):
        raise Invalid(
            "unbound-role", "must have at least one bound constraint when creating/updating a role"
        )


def _check_mappings(mappings: Mapping[str, Any]) -> None:
    if not _texts(mappings.values()) or len(set(mappings.values())) < len(mappings):
        raise Invalid("bad-parameter", "claim_mappings are different metadata names by claim")
    if ROLE_NAME in mappings.values():
        raise Invalid("bad-parameter", 'metadata key "role" is reserved')


def _texts(values: Any) -> bool:  # noqa: ANN401 - JSON
    return all(isinstance(each, str) for each in values)


def leeways_of(role: Mapping[str, Any]) -> Leeways:
    """A role's leeways."""
    return Leeways(role["clock_skew_leeway"], role["expiration_leeway"], role["not_before_leeway"])
