"""From a seal stanza to the backend that wraps the root key.

Field names are Vault's; values may be `file://PATH` or `env://NAME`, and the environment goes
before them where Vault's does (`seal_fields`).
Stanzas: https://developer.hashicorp.com/vault/docs/configuration/seal.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from strongroom.app.store_config.seal_fields import Fields
from strongroom.app.store_config.sources import Stanza
from strongroom.crypto.keyfile import WrappingKey, load_key_file
from strongroom.model.clock import Clock
from strongroom.model.secret import Secret
from strongroom.store.seal.backends import AutoSeal
from strongroom.wire.aws import (
    AwsCredentials,
    AwsJson,
    CredentialFile,
    CredentialSource,
    StaticCredentials,
    regional_endpoint,
)
from strongroom.wire.aws_ambient import KeptCredentials, ambient
from strongroom.wire.aws_sts import Sts, sts_endpoint
from strongroom.wire.client import HttpClient, Route
from strongroom.wire.keywrap.aws import AwsKmsWrapper
from strongroom.wire.keywrap.azure import AzureKeyWrapper
from strongroom.wire.keywrap.contract import Wrapper
from strongroom.wire.keywrap.google import ENDPOINT, GoogleKmsWrapper
from strongroom.wire.keywrap.key_file import KeyFileWrapper, KeysWrapper
from strongroom.wire.keywrap.pkcs11 import GivenPin, Pkcs11Wrapper
from strongroom.wire.keywrap.refused_pin import RefusedPin
from strongroom.wire.keywrap.transit import TransitLogin, TransitWrapper
from strongroom.wire.oauth import (
    AZURE_LOGIN,
    BearerToken,
    Fetch,
    azure_client_secret,
    azure_federated_token,
    azure_managed_identity,
    google_key_file,
    google_metadata,
)

SESSION_NAME: Final = "strongroom-seal"
# Names of Vault's: where identities are asked for, and the domain of key vaults.
_PUBLIC: Final = (AZURE_LOGIN, "vault.azure.net")
_GOVERNMENT: Final = ("https://login.microsoftonline.us", "vault.usgovcloudapi.net")
_AZURE_CLOUDS: Final = {
    "AZURECLOUD": _PUBLIC,
    "AZUREPUBLICCLOUD": _PUBLIC,
    "AZURECHINACLOUD": ("https://login.chinacloudapi.cn", "vault.azure.cn"),
    "AZUREUSGOVERNMENT": _GOVERNMENT,
    "AZUREUSGOVERNMENTCLOUD": _GOVERNMENT,
}


@dataclass(frozen=True, slots=True)
class Means:
    """What backends are built with beside their stanza. `pins` is shared by a machine's workers."""

    clock: Clock
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    pins: RefusedPin = field(default_factory=RefusedPin)


def auto_seal(stanza: Stanza, means: Means) -> AutoSeal:
    """The backend of a stanza; raises Invalid(`bad-config`)."""
    fields = Fields(stanza, means.environment)
    make = _KINDS.get(fields.type)
    if make is None:
        raise fields.bad(f"is not supported; there are {', '.join(sorted(_KINDS))} and shamir")
    return AutoSeal(fields.type, make(fields, means))


def _static(fields: Fields, _means: Means) -> Wrapper:
    if fields.raw("key_file"):
        path = Path(fields.raw("key_file"))
        load_key_file(path)
        return KeyFileWrapper("static", path)
    names = ["current_key", *(["previous_key"] if fields.raw("previous_key") else [])]

    def read() -> WrappingKey:
        return WrappingKey([_key(fields, each) for each in names])

    read()
    return KeysWrapper("static", read)


def _key(fields: Fields, name: str) -> bytes:
    """32 bytes: raw in a file, or as base64 or hexadecimal text."""
    value = fields.raw(name)
    if value.startswith("file://"):
        path = Path(value.removeprefix("file://"))
        try:
            content = path.read_bytes()
        except OSError as error:
            raise fields.bad(f"cannot read {path}: {error.strerror}") from None
        if len(content) == 32:
            return content
    text = fields.need(name)
    for decode in (bytes.fromhex, lambda each: base64.b64decode(each, validate=True)):
        try:
            key = decode(text)
        except (ValueError, binascii.Error):
            continue
        if len(key) == 32:
            return key
    raise fields.bad(f"{name} is not a key of 32 bytes")


def _transit(fields: Fields, means: Means) -> Wrapper:
    token_file = fields.raw("token_file")
    if not fields.variable("token") and fields.raw("token").startswith("file://"):
        # Read again when the token is refused, so that whoever replaces the file need not restart.
        token_file = fields.raw("token").removeprefix("file://")
    login = TransitLogin(
        token=None if token_file else Secret(fields.need("token")),
        token_file=Path(token_file) if token_file else None,
        namespace=fields.text("namespace").strip("/"),
        renewed=not fields.flag("disable_renewal"),
    )
    mount = fields.text("mount_path", "transit").strip("/")
    where = (fields.need("address"), mount, fields.need("key_name"))
    return TransitWrapper("transit", where, login, _transit_http(fields), means.clock)


def _transit_http(fields: Fields) -> HttpClient:
    certificate, key = fields.text("tls_client_cert"), fields.text("tls_client_key")
    if bool(certificate) != bool(key):
        raise fields.bad("tls_client_cert and tls_client_key belong together")
    authority = fields.text("tls_ca_cert")
    for path in (authority, certificate, key):
        if path and not Path(path).is_file():
            raise fields.bad(f"there is no file {path}")
    return HttpClient(
        ca_file=Path(authority) if authority else None,
        client_certificate=(Path(certificate), Path(key)) if certificate else None,
        route=Route(server_name=fields.text("tls_server_name")),
        verify=not fields.flag("tls_skip_verify"),
    )


def _aws(fields: Fields, means: Means) -> Wrapper:
    http, region = HttpClient(), fields.text("region", "us-east-1")
    source = _aws_source(fields, means, region, http)
    endpoint = fields.text("endpoint", regional_endpoint("kms", region))
    api = AwsJson(endpoint, (region, "kms"), source, http, means.clock)
    return AwsKmsWrapper("awskms", fields.need("kms_key_id"), api, http)


def _aws_source(fields: Fields, means: Means, region: str, http: HttpClient) -> CredentialSource:
    """Keys, a web identity, a file of credentials, and then what the machine has."""
    access, secret = fields.text("access_key"), fields.text("secret_key")
    session = fields.text("session_token")
    if fields.variable("access_key") and not fields.variable("session_token"):
        session = ""  # One in the stanza belongs to the stanza's keys.
    if access and secret:
        given = AwsCredentials(access, Secret(secret), Secret(session) if session else None)
        return StaticCredentials(given)
    token_file, role = fields.text("web_identity_token_file"), fields.text("role_arn")
    named = fields.raw("role_arn") or fields.raw("web_identity_token_file")
    if named and not (token_file and role):
        raise fields.bad("role_arn and web_identity_token_file belong together")
    file = fields.text("shared_creds_filename")
    if file and not token_file:
        return CredentialFile(Path(file), fields.text("shared_creds_profile", "default"))
    environment = {
        **means.environment,
        "AWS_ACCESS_KEY_ID": "",
        "AWS_WEB_IDENTITY_TOKEN_FILE": token_file,
        "AWS_ROLE_ARN": role,
        "AWS_ROLE_SESSION_NAME": fields.text("role_session_name"),
    }
    sts = Sts(means.environment.get("AWS_ENDPOINT_URL_STS") or sts_endpoint(region), region, http,
              means.clock)  # fmt: skip
    begin = ambient(environment, sts, http, means.clock, SESSION_NAME)
    return KeptCredentials(begin, means.clock)


def _google(fields: Fields, means: Means) -> Wrapper:
    http = _http(fields)
    credentials = fields.text("credentials")
    fetch = google_metadata(http)
    if credentials:
        fetch = google_key_file(Path(credentials), http, means.clock)
    key = "/".join(
        f"{kind}/{fields.need(name)}"
        for kind, name in (
            ("projects", "project"),
            ("locations", "region"),
            ("keyRings", "key_ring"),
            ("cryptoKeys", "crypto_key"),
        )
    )
    endpoint = fields.text("endpoint", ENDPOINT)
    return GoogleKmsWrapper("gcpckms", key, BearerToken(fetch, means.clock), http, endpoint)


def _azure(fields: Fields, means: Means) -> Wrapper:
    http = _http(fields)
    login, domain = _azure_cloud(fields)
    # A token is for one kind of vault: that of managed HSMs opens no other.
    fetch = _azure_identity(fields, http, f"https://{domain}", login)
    vault = fields.need("vault_name")
    if "://" not in vault:
        vault = f"https://{vault}.{domain}"
    token = BearerToken(fetch, means.clock)
    return AzureKeyWrapper("azurekeyvault", vault, fields.need("key_name"), token, http)


def _azure_cloud(fields: Fields) -> tuple[str, str]:
    """Where identities are asked for, and the domain of the vaults."""
    named = fields.text("environment", "AzurePublicCloud")
    cloud = _AZURE_CLOUDS.get(named.upper())
    if cloud is None:
        raise fields.bad(f"environment {named!r} is not known; there are "
                         f"{', '.join(sorted(_AZURE_CLOUDS))}")  # fmt: skip
    login = fields.text("login_endpoint", cloud[0]).rstrip("/")
    return login, fields.text("resource", cloud[1]).removeprefix("https://").strip("/")


def _azure_identity(fields: Fields, http: HttpClient, resource: str, login: str) -> Fetch:
    """An application by its secret, or by another issuer's token; else the machine's own."""
    client, secret = fields.text("client_id"), _azure_secret(fields)
    if secret is not None:
        who = fields.need("tenant_id"), fields.need("client_id")
        return azure_client_secret(*who, secret, resource, http, login)
    if token_file := fields.text("federated_token_file"):
        who = fields.need("tenant_id"), fields.need("client_id")
        return azure_federated_token(*who, Path(token_file), resource, http, login)
    return azure_managed_identity(resource, http, client)


def _azure_secret(fields: Fields) -> Path | Secret | None:
    raw = fields.raw("client_secret")
    by_reference = bool(fields.variable("client_secret")) or raw.startswith("env://")
    if raw and not by_reference and not raw.startswith("file://"):
        raise fields.bad(
            "client_secret must be file://PATH, env://NAME or AZURE_CLIENT_SECRET,"
            " so that it stays out of here"
        )
    if by_reference:
        return Secret(fields.need("client_secret"))
    file = fields.raw("client_secret_file") or raw.removeprefix("file://")
    return Path(file) if file else None


def _pkcs11(fields: Fields, means: Means) -> Wrapper:
    pin = _pkcs11_pin(fields)
    token: str | int = fields.text("token_label")
    if slot := fields.text("slot"):
        try:
            token = int(slot, 0)
        except ValueError:
            raise fields.bad(f"slot {slot!r} is not a number") from None
    if token == "":
        raise fields.bad("needs token_label (or VAULT_HSM_TOKEN_LABEL), or slot")
    where = (token, fields.need("key_label"))
    library = Path(fields.need("lib"))
    return Pkcs11Wrapper("pkcs11", library, where, pin, means.pins)


def _pkcs11_pin(fields: Fields) -> Path | GivenPin:
    raw = fields.raw("pin")
    if variable := fields.variable("pin"):
        return GivenPin(Secret(fields.need("pin")), variable)
    if raw.startswith("env://"):
        return GivenPin(Secret(fields.need("pin")), raw.removeprefix("env://"))
    if fields.raw("pin_file"):
        return Path(fields.raw("pin_file"))
    if not raw.startswith("file://"):
        raise fields.bad(
            "pin must be file://PATH, env://NAME or VAULT_HSM_PIN, so that it stays out of here"
        )
    return Path(raw.removeprefix("file://"))


def _http(fields: Fields) -> HttpClient:
    ca_file = fields.raw("ca_file")
    return HttpClient(ca_file=Path(ca_file) if ca_file else None)


_KINDS: Final[Mapping[str, Any]] = {
    "static": _static,
    "transit": _transit,
    "awskms": _aws,
    "gcpckms": _google,
    "azurekeyvault": _azure,
    "pkcs11": _pkcs11,
}
