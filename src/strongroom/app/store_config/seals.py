"""From a seal stanza to the backend that wraps the root key.

Field names are Vault's; values may be `file://PATH` or `env://NAME`, and the usual environment
variables of each cloud stand in for what is left out.
Stanzas: https://developer.hashicorp.com/vault/docs/configuration/seal.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from strongroom.app.store_config.sources import Stanza
from strongroom.crypto.keyfile import WrappingKey, load_key_file
from strongroom.model.clock import Clock
from strongroom.model.errors import Invalid
from strongroom.model.secret import Secret
from strongroom.store.seal.backends import AutoSeal
from strongroom.wire.aws import (
    AwsCredentials,
    AwsJson,
    CredentialSource,
    InstanceCredentials,
    StaticCredentials,
)
from strongroom.wire.client import HttpClient
from strongroom.wire.keywrap.aws import AwsKmsWrapper
from strongroom.wire.keywrap.azure import AzureKeyWrapper
from strongroom.wire.keywrap.contract import Wrapper
from strongroom.wire.keywrap.google import ENDPOINT, GoogleKmsWrapper
from strongroom.wire.keywrap.key_file import KeyFileWrapper, KeysWrapper
from strongroom.wire.keywrap.pkcs11 import Pkcs11Wrapper
from strongroom.wire.keywrap.refused_pin import RefusedPin
from strongroom.wire.keywrap.transit import TransitLogin, TransitWrapper
from strongroom.wire.oauth import (
    AZURE_LOGIN,
    BearerToken,
    azure_client_secret,
    azure_managed_identity,
    google_key_file,
    google_metadata,
)

AZURE_RESOURCE: Final = "https://vault.azure.net"


class Fields:
    """A stanza's fields with `file://` and `env://` followed, and the environment behind them."""

    def __init__(self, stanza: Stanza, environment: Mapping[str, str]) -> None:
        self.type = stanza.labels[0] if stanza.labels else ""
        self.place = stanza.place
        self._fields = stanza.fields
        self._environment = environment

    def text(self, name: str, variable: str = "", default: str = "") -> str:
        """A field, else the variable, else the default."""
        value = str(self._fields.get(name) or "")
        if not value:
            return self._environment.get(variable, "") or default
        if value.startswith("env://"):
            return self._environment.get(value.removeprefix("env://"), "")
        if value.startswith("file://"):
            path = Path(value.removeprefix("file://"))
            try:
                return path.read_text().strip()
            except (OSError, UnicodeDecodeError):
                raise self.bad(f"cannot read {path} for {name}") from None
        return value

    def raw(self, name: str) -> str:
        """A field as it stands."""
        return str(self._fields.get(name) or "")

    def need(self, name: str, variable: str = "") -> str:
        """A field that must be there."""
        value = self.text(name, variable)
        if not value:
            where = f" (or {variable})" if variable else ""
            raise self.bad(f"needs {name}{where}")
        return value

    def bad(self, what: str) -> Invalid:
        """A refusal that names the stanza."""
        return Invalid("bad-config", f'{self.place}: seal "{self.type}": {what}')


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
    keys = [_key(fields, "current_key")]
    if fields.raw("previous_key"):
        keys.append(_key(fields, "previous_key"))
    return KeysWrapper("static", WrappingKey(keys))


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
    if fields.raw("token").startswith("file://"):
        # Read again when the token is refused, so that whoever replaces the file need not restart.
        token_file = fields.raw("token").removeprefix("file://")
    login = (
        TransitLogin(token_file=Path(token_file))
        if token_file
        else TransitLogin(token=Secret(fields.need("token", "VAULT_TOKEN")))
    )
    mount = fields.text("mount_path", "VAULT_TRANSIT_SEAL_MOUNT_PATH", "transit").strip("/")
    key = fields.need("key_name", "VAULT_TRANSIT_SEAL_KEY_NAME")
    where = (fields.need("address", "VAULT_ADDR"), mount, key)
    ca_file = fields.text("tls_ca_cert", "VAULT_CACERT")
    http = HttpClient(ca_file=Path(ca_file) if ca_file else None)
    return TransitWrapper("transit", where, login, http, means.clock)


def _aws(fields: Fields, means: Means) -> Wrapper:
    http, region = HttpClient(), fields.text("region", "AWS_REGION", "us-east-1")
    source: CredentialSource = InstanceCredentials(http, means.clock)
    access = fields.text("access_key", "AWS_ACCESS_KEY_ID")
    secret = fields.text("secret_key", "AWS_SECRET_ACCESS_KEY")
    if access and secret:
        session = fields.text("session_token", "AWS_SESSION_TOKEN")
        source = StaticCredentials(
            AwsCredentials(access, Secret(secret), Secret(session) if session else None)
        )
    endpoint = fields.text("endpoint", "AWS_KMS_ENDPOINT", f"https://kms.{region}.amazonaws.com")
    api = AwsJson(endpoint, (region, "kms"), source, http, means.clock)
    return AwsKmsWrapper("awskms", fields.need("kms_key_id", "VAULT_AWSKMS_SEAL_KEY_ID"), api, http)


def _google(fields: Fields, means: Means) -> Wrapper:
    http = _http(fields)
    credentials = fields.text("credentials", "GOOGLE_APPLICATION_CREDENTIALS")
    fetch = google_metadata(http)
    if credentials:
        fetch = google_key_file(Path(credentials), http, means.clock)
    key = "/".join(
        f"{kind}/{fields.need(name, variable)}"
        for kind, name, variable in (
            ("projects", "project", "GOOGLE_PROJECT"),
            ("locations", "region", "GOOGLE_REGION"),
            ("keyRings", "key_ring", "VAULT_GCPCKMS_SEAL_KEY_RING"),
            ("cryptoKeys", "crypto_key", "VAULT_GCPCKMS_SEAL_CRYPTO_KEY"),
        )
    )
    endpoint = fields.text("endpoint", "", ENDPOINT)
    return GoogleKmsWrapper("gcpckms", key, BearerToken(fetch, means.clock), http, endpoint)


def _azure(fields: Fields, means: Means) -> Wrapper:
    http = _http(fields)
    tenant = fields.text("tenant_id", "AZURE_TENANT_ID")
    client = fields.text("client_id", "AZURE_CLIENT_ID")
    secret_file = fields.raw("client_secret_file") or fields.raw("client_secret")
    fetch = azure_managed_identity(AZURE_RESOURCE, http, client)
    if secret_file:
        if fields.raw("client_secret") and not secret_file.startswith("file://"):
            raise fields.bad("client_secret must be file://PATH, so that it stays out of here")
        path = Path(secret_file.removeprefix("file://"))
        login = fields.text("login_endpoint", "", AZURE_LOGIN)
        fetch = azure_client_secret(tenant, client, path, AZURE_RESOURCE, http, login)
    vault = fields.need("vault_name", "VAULT_AZUREKEYVAULT_VAULT_NAME")
    if "://" not in vault:
        vault = f"https://{vault}.{fields.text('resource', '', 'vault.azure.net')}"
    key = fields.need("key_name", "VAULT_AZUREKEYVAULT_KEY_NAME")
    return AzureKeyWrapper("azurekeyvault", vault, key, BearerToken(fetch, means.clock), http)


def _pkcs11(fields: Fields, means: Means) -> Wrapper:
    pin = fields.raw("pin_file") or fields.raw("pin")
    if not pin.startswith("file://") and not fields.raw("pin_file"):
        raise fields.bad("pin must be file://PATH, so that it stays out of here")
    where = (
        fields.need("token_label", "VAULT_HSM_TOKEN_LABEL"),
        fields.need("key_label", "VAULT_HSM_KEY_LABEL"),
    )
    return Pkcs11Wrapper(
        "pkcs11", Path(fields.need("lib", "VAULT_HSM_LIB")), where,
        Path(pin.removeprefix("file://")), means.pins,
    )  # fmt: skip


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
