"""The identity of an Azure store: an application, a federated service account, or the machine.

Fields: https://external-secrets.io/latest/provider/azure-key-vault/#authentication; flows:
https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow.
"""

import re
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strongroom.crypto.pem_keys import certificate_and_key, thumbprint
from strongroom.model.clock import Clock
from strongroom.model.errors import Invalid, Unavailable
from strongroom.model.secret import Secret
from strongroom.sync.providers.fields import Fields
from strongroom.sync.providers.references import References, Surroundings
from strongroom.wire.client import HttpClient
from strongroom.wire.oauth import (
    AZURE_METADATA,
    Fetch,
    azure_managed_identity,
    grant,
    signed_jwt,
)

AUDIENCE: Final = "api://AzureADTokenExchange"
CLIENT_ANNOTATION: Final = "azure.workload.identity/client-id"
TENANT_ANNOTATION: Final = "azure.workload.identity/tenant-id"
_ASSERTION: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ASSERTION_SECONDS: Final = 600
# What proves an application: form fields, for the address that the token is asked of.
Proof = Callable[[str, str], Awaitable[dict[str, str]]]


@dataclass(frozen=True, slots=True)
class Cloud:
    """Where tokens come from, and the resource they are for."""

    login: str
    resource: str


CLOUDS: Final[Mapping[str, Cloud]] = {
    "PublicCloud": Cloud("https://login.microsoftonline.com", "https://vault.azure.net"),
    "USGovernmentCloud": Cloud(
        "https://login.microsoftonline.us", "https://vault.usgovcloudapi.net"
    ),
    "ChinaCloud": Cloud("https://login.chinacloudapi.cn", "https://vault.azure.cn"),
    "GermanCloud": Cloud("https://login.microsoftonline.de", "https://vault.microsoftazure.de"),
}


def cloud_of(spec: Fields, environment: Mapping[str, str]) -> Cloud:
    """The cloud of `environmentType` or `customCloudConfig`; raises Invalid."""
    kind = spec.choice("environmentType", (*CLOUDS, "AzureStackCloud"), "PublicCloud")
    custom = spec.part("customCloudConfig")
    if custom is not None:
        login = custom.required("activeDirectoryEndpoint").rstrip("/")
        resource = custom.text("keyVaultEndpoint") or CLOUDS["PublicCloud"].resource
        return Cloud(login, resource.rstrip("/"))
    if kind == "AzureStackCloud":
        raise spec.bad("customCloudConfig", "is needed for AzureStackCloud")
    found = CLOUDS[kind]
    return Cloud(environment.get("AZURE_AUTHORITY_HOST", found.login).rstrip("/"), found.resource)


def is_own(spec: Fields) -> bool:
    """Whether the operator's own identity is asked for: its pod's or its machine's. Pure."""
    kind = spec.text("authType")
    of_pod = kind == "WorkloadIdentity" and spec.part("serviceAccountRef") is None
    return of_pod or kind == "ManagedIdentity"


def stays_in_cloud(spec: Fields, address: str, domain: str) -> bool:
    """Whether tokens are asked for and shown at the cloud's own addresses alone. Pure."""
    pattern = rf"https://[\w.-]+\.{re.escape(domain)}(:443)?"
    shown = re.fullmatch(pattern, address, re.ASCII | re.IGNORECASE)
    return shown is not None and spec.part("customCloudConfig") is None


class AzureLogin:
    """Makes the login of one store."""

    def __init__(
        self, cloud: Cloud, references: References, around: Surroundings, http: HttpClient
    ) -> None:
        self._cloud = cloud
        self._references = references
        self._around = around
        self._http = http

    def of(self, spec: Fields) -> Fetch:
        """The login of `spec.provider.azurekv`; raises Invalid."""
        kinds = {
            "ServicePrincipal": self._service_principal,
            "ManagedIdentity": self._managed_identity,
            "WorkloadIdentity": self._workload_identity,
        }
        return kinds[spec.choice("authType", tuple(kinds), "ServicePrincipal")](spec)

    def _managed_identity(self, spec: Fields) -> Fetch:
        environment = self._around.environment
        address = environment.get("AZURE_POD_IDENTITY_AUTHORITY_HOST", AZURE_METADATA)
        return azure_managed_identity(
            self._cloud.resource, self._http, spec.text("identityId"), address.rstrip("/")
        )

    def _service_principal(self, spec: Fields) -> Fetch:
        tenant, part = spec.required("tenantId"), spec.needed("authSecretRef")
        client_ref = part.needed("clientId")
        kind = part.one_of("clientSecret", "clientCertificate")
        selector = part.needed(kind)

        async def proof(client: str, address: str) -> dict[str, str]:
            if kind == "clientSecret":
                return {"client_secret": await self._references.text(selector)}
            content = (await self._references.secret(selector)).reveal()
            return _signed(content, client, address, self._around.clock)

        async def fetch() -> tuple[Secret, float]:
            client = await self._references.text(client_ref)
            return await self._granted(tenant, client, proof)

        return fetch

    def _workload_identity(self, spec: Fields) -> Fetch:
        selector = spec.part("serviceAccountRef")
        return self._own_pod() if selector is None else self._account(spec, selector)

    def _own_pod(self) -> Fetch:
        """What the workload identity webhook put into the operator's own pod."""
        environment = self._around.environment
        names = ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE")
        client, tenant, file = (environment.get(name, "") for name in names)
        if not (client and tenant and file):
            raise Invalid(
                "no-azure-identity",
                f"without serviceAccountRef the operator's pod needs {', '.join(names)}",
            )

        async def proof(_client: str, _address: str) -> dict[str, str]:
            try:
                return _federated(Path(file).read_text().strip())
            except OSError as error:
                raise Unavailable("azure-token", f"cannot read {file}: {error.strerror}") from None

        return lambda: self._granted(tenant, client, proof)

    def _account(self, spec: Fields, selector: Fields) -> Fetch:
        part = spec.part("authSecretRef") or Fields({}, f"{spec.where}.authSecretRef")

        async def proof(_client: str, _address: str) -> dict[str, str]:
            token = await self._references.account_token(selector, (AUDIENCE,))
            return _federated(token.reveal_text())

        async def fetch() -> tuple[Secret, float]:
            account = await self._references.account(selector)
            notes = account["metadata"].get("annotations") or {}
            client = await self._one(part, "clientId", notes.get(CLIENT_ANNOTATION))
            tenant = await self._one(part, "tenantId", notes.get(TENANT_ANNOTATION))
            tenant = tenant or spec.text("tenantId")
            tenant = tenant or self._around.environment.get("AZURE_TENANT_ID", "")
            if not client:
                raise selector.bad("name", f"names an account without {CLIENT_ANNOTATION}")
            if not tenant:
                raise spec.bad("tenantId", f"or the account's {TENANT_ANNOTATION} is needed")
            return await self._granted(tenant, client, proof)

        return fetch

    async def _one(self, part: Fields, name: str, annotated: str | None) -> str:
        selector = part.part(name)
        if selector is None:
            return annotated or ""
        if annotated:
            raise part.bad(name, "is also an annotation of the service account; one is enough")
        return await self._references.text(selector)

    async def _granted(self, tenant: str, client: str, proof: Proof) -> tuple[Secret, float]:
        address = f"{self._cloud.login}/{tenant}/oauth2/v2.0/token"
        form = {
            "grant_type": "client_credentials",
            "client_id": client,
            "scope": f"{self._cloud.resource}/.default",
            **await proof(client, address),
        }
        return await grant(self._http, address, form)


def _federated(token: str) -> dict[str, str]:
    return {"client_assertion_type": _ASSERTION, "client_assertion": token}


def _signed(content: bytes, client: str, address: str, clock: Clock) -> dict[str, str]:
    """An assertion signed by the application's certificate."""
    der, pem = certificate_and_key(content)
    now = int(clock.now())
    claims = {
        "aud": address,
        "iss": client,
        "sub": client,
        "jti": str(uuid.uuid4()),
        "nbf": now,
        "exp": now + _ASSERTION_SECONDS,
    }
    return _federated(signed_jwt({"x5t": thumbprint(der)}, claims, pem))
