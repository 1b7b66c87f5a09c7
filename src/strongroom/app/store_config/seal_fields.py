"""What a seal stanza says and what the environment says beside it, in Vault's order.

A variable goes before the field that it stands for: a pod's own environment is known to it alone.
For `address` and `token` of a transit seal the field goes first, as Vault has it, since a pod's
`VAULT_ADDR` and `VAULT_TOKEN` are its command line's; and variables about TLS count where the
stanza says nothing of TLS.
Order: https://developer.hashicorp.com/vault/docs/configuration/seal.
"""

import dataclasses
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from strongroom.app.store_config.flag_fields import flag_of
from strongroom.app.store_config.settings import ServerSettings
from strongroom.app.store_config.sources import Stanza
from strongroom.model.errors import Invalid

TYPE_VARIABLE: Final = "VAULT_SEAL_TYPE"
# By type and field: the variables that stand for it, the first that is set counts.
VARIABLES: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "static": {},
    "transit": {
        "address": ("VAULT_ADDR",),
        "token": ("VAULT_TOKEN",),
        "key_name": ("VAULT_TRANSIT_SEAL_KEY_NAME",),
        "mount_path": ("VAULT_TRANSIT_SEAL_MOUNT_PATH",),
        "namespace": ("VAULT_NAMESPACE",),
        "disable_renewal": ("VAULT_TRANSIT_SEAL_DISABLE_RENEWAL",),
        "tls_ca_cert": ("VAULT_CACERT",),
        "tls_client_cert": ("VAULT_CLIENT_CERT",),
        "tls_client_key": ("VAULT_CLIENT_KEY",),
        "tls_server_name": ("VAULT_TLS_SERVER_NAME",),
        "tls_skip_verify": ("VAULT_SKIP_VERIFY",),
    },
    "awskms": {
        "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
        "access_key": ("AWS_ACCESS_KEY_ID",),
        "secret_key": ("AWS_SECRET_ACCESS_KEY",),
        "session_token": ("AWS_SESSION_TOKEN",),
        "kms_key_id": ("VAULT_AWSKMS_SEAL_KEY_ID", "AWSKMS_WRAPPER_KEY_ID"),
        "endpoint": ("AWS_KMS_ENDPOINT",),
        "web_identity_token_file": ("AWS_WEB_IDENTITY_TOKEN_FILE",),
        "role_arn": ("AWS_ROLE_ARN",),
        "role_session_name": ("AWS_ROLE_SESSION_NAME",),
        "shared_creds_filename": ("AWS_SHARED_CREDENTIALS_FILE",),
        "shared_creds_profile": ("AWS_PROFILE",),
    },
    "gcpckms": {
        "credentials": ("GOOGLE_CREDENTIALS", "GOOGLE_APPLICATION_CREDENTIALS"),
        "project": ("GOOGLE_PROJECT",),
        "region": ("GOOGLE_REGION",),
        "key_ring": ("VAULT_GCPCKMS_SEAL_KEY_RING", "GCPCKMS_WRAPPER_KEY_RING"),
        "crypto_key": ("VAULT_GCPCKMS_SEAL_CRYPTO_KEY", "GCPCKMS_WRAPPER_CRYPTO_KEY"),
    },
    "azurekeyvault": {
        "tenant_id": ("AZURE_TENANT_ID",),
        "client_id": ("AZURE_CLIENT_ID",),
        "client_secret": ("AZURE_CLIENT_SECRET",),
        "environment": ("AZURE_ENVIRONMENT",),
        "resource": ("AZURE_AD_RESOURCE",),
        "vault_name": ("VAULT_AZUREKEYVAULT_VAULT_NAME", "AZUREKEYVAULT_WRAPPER_VAULT_NAME"),
        "key_name": ("VAULT_AZUREKEYVAULT_KEY_NAME", "AZUREKEYVAULT_WRAPPER_KEY_NAME"),
        "federated_token_file": ("AZURE_FEDERATED_TOKEN_FILE",),
        "login_endpoint": ("AZURE_AUTHORITY_HOST",),
    },
    "pkcs11": {
        "lib": ("VAULT_HSM_LIB",),
        "slot": ("VAULT_HSM_SLOT",),
        "token_label": ("VAULT_HSM_TOKEN_LABEL",),
        "key_label": ("VAULT_HSM_KEY_LABEL",),
        "pin": ("VAULT_HSM_PIN",),
    },
}
_FIELD_FIRST: Final = {"transit": ("address", "token")}
_OTHERS: Final[Mapping[str, tuple[str, ...]]] = {
    "shamir": (),
    "static": ("key_file", "current_key", "previous_key", "current_key_id", "previous_key_id"),
    "transit": ("token_file",),
    "awskms": (),
    "gcpckms": ("endpoint", "ca_file"),
    "azurekeyvault": ("client_secret_file", "ca_file"),
    "pkcs11": ("pin_file",),
}

# Fields whose file opens the seal, or proves who asks.
_SECRET_FILES: Final = (
    "current_key", "previous_key", "token", "token_file", "client_secret", "client_secret_file",
    "pin", "pin_file", "secret_key",
)  # fmt: skip


class Fields:
    """A stanza's fields with `file://` and `env://` followed, and the variables for them."""

    def __init__(self, stanza: Stanza, environment: Mapping[str, str]) -> None:
        self.type = stanza.labels[0] if stanza.labels else ""
        self.place = stanza.place
        self.environment = environment
        self._fields = stanza.fields
        self._variables = VARIABLES.get(self.type, {})
        first = {*_FIELD_FIRST.get(self.type, ())}
        # Variables are of the seal that is configured, and not of the one that is left.
        first |= {*self._variables} if is_disabled(stanza) else set()
        self._field_first = first
        self._own_tls = any(name.startswith("tls_") for name in stanza.fields)

    def variable(self, name: str) -> str:
        """The variable that stands for a field and is set, "" when the field counts."""
        if name.startswith("tls_") and self._own_tls:
            return ""
        if name in self._field_first and self.raw(name):
            return ""
        names = self._variables.get(name, ())
        return next((each for each in names if self.environment.get(each)), "")

    def text(self, name: str, default: str = "") -> str:
        """What the variable or the field says, else the default."""
        if variable := self.variable(name):
            return self.environment[variable]
        value = self.raw(name)
        if value.startswith("env://"):
            return self.environment.get(value.removeprefix("env://"), "")
        if value.startswith("file://"):
            path = Path(value.removeprefix("file://"))
            try:
                return path.read_text().strip()
            except (OSError, UnicodeDecodeError):
                raise self.bad(f"cannot read {path} for {name}") from None
        return value or default

    def raw(self, name: str) -> str:
        """The field as it stands, "" for none; 0 is a number like others."""
        value = self._fields.get(name)
        return "" if value is None else str(value)

    def flag(self, name: str) -> bool:
        """A field that is on or off."""
        return flag_of({name: self.text(name)}, name, f'{self.place}: seal "{self.type}"')

    def need(self, name: str) -> str:
        """A field that must be there."""
        value = self.text(name)
        if not value:
            names = self._variables.get(name, ())
            where = f" (or {names[0]})" if names else ""
            raise self.bad(f"needs {name}{where}")
        return value

    def bad(self, what: str) -> Invalid:
        """A refusal that names the stanza."""
        return Invalid("bad-config", f'{self.place}: seal "{self.type}": {what}')


def is_disabled(stanza: Stanza) -> bool:
    """Whether it is the seal to leave."""
    return flag_of(stanza.fields, "disabled", stanza.place)


def with_environment(settings: ServerSettings, environment: Mapping[str, str]) -> ServerSettings:
    """The seal that the environment names, and notes of what has no effect in the stanzas."""
    seal = settings.seal
    if kind := environment.get(TYPE_VARIABLE):
        place, fields = (seal.place, seal.fields) if seal else (TYPE_VARIABLE, {})
        seal = None if kind == "shamir" else Stanza("seal", (kind,), fields, place)
    stanzas = [each for each in (seal, settings.old_seal) if each is not None]
    notes = (note for each in stanzas for note in _notes(each, environment))
    return dataclasses.replace(settings, seal=seal, notes=(*settings.notes, *notes))


def _notes(stanza: Stanza, environment: Mapping[str, str]) -> Iterator[str]:
    fields = Fields(stanza, environment)
    known = {*VARIABLES.get(fields.type, ()), *_OTHERS.get(fields.type, ()), "disabled", "type"}
    if fields.type in _OTHERS and (unknown := sorted({*stanza.fields} - known)):
        names = ", ".join(unknown)
        yield f"{stanza.place}: of seal {fields.type!r} these have no effect: {names}"
    for name, path in _secret_files(stanza):
        mode = _mode(path)
        # A group may read: that is how Kubernetes mounts a Secret for a pod's fsGroup.
        if mode & stat.S_IRWXO:
            yield (
                f"{stanza.place}: {path}, {name} of seal {fields.type!r}, can be read by every user"
                f" of this machine (mode {mode:04o}); 0400, or 0440 for a group, is enough"
            )
    for name in sorted(stanza.fields):
        variable = fields.variable(name)
        if variable and environment[variable] != str(stanza.fields[name]):
            yield f"{stanza.place}: {variable} goes before {name} of seal {fields.type!r}"


def _secret_files(stanza: Stanza) -> Iterator[tuple[str, Path]]:
    for name in _SECRET_FILES:
        value = str(stanza.fields.get(name) or "")
        if value.startswith("file://"):
            yield name, Path(value.removeprefix("file://"))
        elif value and name.endswith("_file"):
            yield name, Path(value)


def _mode(path: Path) -> int:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return 0  # Whoever reads it says so.
