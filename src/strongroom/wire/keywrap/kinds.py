"""The types of backend a configuration may name, and how each is built.

Each is loaded only when it is built: a KMS plugin with a key file needs no HTTP client, and must
be ready in a third of a second.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from strongroom.model.clock import Clock
from strongroom.model.errors import Invalid
from strongroom.wire.keywrap.contract import Wrapper

if TYPE_CHECKING:
    from strongroom.wire.client import HttpClient
    from strongroom.wire.keywrap.transit import TransitLogin

AZURE_RESOURCE: Final = "https://vault.azure.net"
Fields = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Kind:
    """A type: its fields beside `name` and `type`, and what makes a wrapper of them."""

    build: Callable[[Fields, Clock], Wrapper]
    needed: tuple[str, ...]
    optional: tuple[str, ...] = ()


def build(fields: Fields, clock: Clock) -> Wrapper:
    """The wrapper of a checked entry."""
    return KINDS[fields["type"]].build(fields, clock)


def _http(fields: Fields) -> "HttpClient":
    from strongroom.wire.client import HttpClient

    ca_file = fields.get("ca_file")
    return HttpClient(ca_file=Path(ca_file) if ca_file else None)


def _key_file(fields: Fields, _clock: Clock) -> Wrapper:
    from strongroom.wire.keywrap.key_file import KeyFileWrapper

    return KeyFileWrapper(fields["name"], Path(fields["path"]))


def _transit(fields: Fields, clock: Clock) -> Wrapper:
    from strongroom.wire.keywrap.transit import TransitWrapper

    where = (fields["address"], fields.get("mount", "transit"), fields["key"])
    return TransitWrapper(fields["name"], where, _transit_login(fields), _http(fields), clock)


def _transit_login(fields: Fields) -> "TransitLogin":
    from strongroom.wire.keywrap.transit import TransitLogin

    if fields.get("token_file"):
        return TransitLogin(token_file=Path(fields["token_file"]))
    if fields.get("role_id") and fields.get("secret_id_file"):
        path = f"auth/{fields.get('auth_mount', 'approle')}/login"
        files = {"secret_id": Path(fields["secret_id_file"])}
        return TransitLogin(path=path, fields={"role_id": fields["role_id"]}, files=files)
    if fields.get("role") and fields.get("jwt_file"):
        path = f"auth/{fields.get('auth_mount', 'jwt')}/login"
        files = {"jwt": Path(fields["jwt_file"])}
        return TransitLogin(path=path, fields={"role": fields["role"]}, files=files)
    raise Invalid(
        "no-login",
        f"the backend {fields['name']!r} has no login",
        hint="token_file, or role_id with secret_id_file, or role with jwt_file",
    )


def _aws(fields: Fields, clock: Clock) -> Wrapper:
    from strongroom.wire.aws import (
        AwsJson,
        CredentialFile,
        CredentialSource,
        InstanceCredentials,
        regional_endpoint,
    )
    from strongroom.wire.keywrap.aws import AwsKmsWrapper

    http, region = _http(fields), fields["region"]
    source: CredentialSource = InstanceCredentials(http, clock)
    if fields.get("credentials_file"):
        profile = fields.get("profile", "default")
        source = CredentialFile(Path(fields["credentials_file"]), profile)
    endpoint = fields.get("endpoint") or regional_endpoint("kms", region)
    api = AwsJson(endpoint, (region, "kms"), source, http, clock)
    return AwsKmsWrapper(fields["name"], fields["key"], api, http)


def _google(fields: Fields, clock: Clock) -> Wrapper:
    from strongroom.wire.keywrap.google import ENDPOINT, GoogleKmsWrapper
    from strongroom.wire.oauth import BearerToken, google_key_file, google_metadata

    http = _http(fields)
    fetch = google_metadata(http)
    if fields.get("key_file"):
        fetch = google_key_file(Path(fields["key_file"]), http, clock)
    endpoint = fields.get("endpoint") or ENDPOINT
    return GoogleKmsWrapper(
        fields["name"], fields["key"], BearerToken(fetch, clock), http, endpoint
    )


def _azure(fields: Fields, clock: Clock) -> Wrapper:
    from strongroom.wire.keywrap.azure import AzureKeyWrapper
    from strongroom.wire.oauth import (
        AZURE_LOGIN,
        BearerToken,
        azure_client_secret,
        azure_managed_identity,
    )

    http = _http(fields)
    fetch = azure_managed_identity(AZURE_RESOURCE, http, fields.get("client", ""))
    if fields.get("tenant") and fields.get("client") and fields.get("secret_file"):
        fetch = azure_client_secret(
            fields["tenant"], fields["client"], Path(fields["secret_file"]), AZURE_RESOURCE, http,
            fields.get("login", AZURE_LOGIN),
        )  # fmt: skip
    token = BearerToken(fetch, clock)
    return AzureKeyWrapper(fields["name"], fields["vault"], fields["key"], token, http)


def _pkcs11(fields: Fields, _clock: Clock) -> Wrapper:
    from strongroom.wire.keywrap.pkcs11 import Pkcs11Wrapper

    return Pkcs11Wrapper(
        fields["name"], Path(fields["library"]), (fields["token"], fields["key"]),
        Path(fields["pin_file"]),
    )  # fmt: skip


KINDS: Final[Mapping[str, Kind]] = {
    "key_file": Kind(_key_file, ("path",)),
    "transit": Kind(
        _transit,
        ("address", "key"),
        (
            "mount", "ca_file", "token_file", "role_id", "secret_id_file", "role", "jwt_file",
            "auth_mount",
        ),
    ),
    "aws_kms": Kind(
        _aws, ("key", "region"), ("credentials_file", "profile", "endpoint", "ca_file")
    ),
    "google_kms": Kind(_google, ("key",), ("key_file", "endpoint", "ca_file")),
    "azure_key_vault": Kind(
        _azure, ("vault", "key"), ("tenant", "client", "secret_file", "login", "ca_file")
    ),
    "pkcs11": Kind(_pkcs11, ("library", "token", "key", "pin_file")),
}  # fmt: skip
