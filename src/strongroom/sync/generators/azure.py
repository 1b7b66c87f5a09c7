"""ACRAccessToken: a token of Entra exchanged for one of a container registry.

Fields: https://external-secrets.io/latest/api/generator/acr/; exchange:
https://github.com/Azure/acr/blob/main/docs/AAD-OAuth.md.
"""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from strongroom.model.errors import Unavailable
from strongroom.model.secret import Secret
from strongroom.sync.generators.contract import Made, Sources
from strongroom.sync.providers.azure_session import (
    AzureLogin,
    Cloud,
    cloud_of,
    is_own,
    stays_in_cloud,
)
from strongroom.sync.providers.fields import Fields
from strongroom.sync.providers.references import References
from strongroom.wire.client import HttpClient
from strongroom.wire.rest import object_of, refusal_of

USER: Final = "00000000-0000-0000-0000-000000000000"
_MANAGEMENT: Final[Mapping[str, str]] = {
    "PublicCloud": "https://management.azure.com",
    "USGovernmentCloud": "https://management.usgovcloudapi.net",
    "ChinaCloud": "https://management.chinacloudapi.cn",
    "GermanCloud": "https://management.microsoftazure.de",
}
_REGISTRIES: Final[Mapping[str, str]] = {
    "PublicCloud": "azurecr.io",
    "USGovernmentCloud": "azurecr.us",
    "ChinaCloud": "azurecr.cn",
    "GermanCloud": "azurecr.de",
}
_NAME: Final = "registry"


async def access_token(spec: Fields, references: References, sources: Sources) -> Made:
    """With `scope` an access token for it, otherwise a refresh token of the identity."""
    kind = spec.choice("environmentType", tuple(_MANAGEMENT), "PublicCloud")
    login = cloud_of(spec, sources.around.environment).login
    registry, tenant = spec.required("registry"), spec.text("tenantId")
    auth = login_fields(spec)
    if is_own(auth) and not stays_in_cloud(spec, f"https://{registry}", _REGISTRIES[kind]):
        references.lend(auth)
    async with HttpClient() as http:
        azure = AzureLogin(Cloud(login, _MANAGEMENT[kind]), references, sources.around, http)
        token, _ = await azure.of(auth)()
        exchange = Exchange(http, f"https://{registry}", registry)
        word = await exchange.refresh_token(token, tenant)
        if spec.text("scope"):
            word = await exchange.access_token(word, spec.text("scope"))
    return Made({"username": USER.encode(), "password": word.reveal()})


def login_fields(spec: Fields) -> Fields:
    """The generator's `auth` in the shape that a Key Vault store has; raises Invalid. Pure."""
    auth = spec.needed("auth")
    kind = auth.one_of("servicePrincipal", "managedIdentity", "workloadIdentity")
    part = auth.needed(kind)
    shaped: dict[str, Any] = {
        "authType": kind[0].upper() + kind[1:],
        "tenantId": spec.text("tenantId"),
    }
    if kind == "servicePrincipal":
        shaped["authSecretRef"] = part.needed("secretRef").raw()
    return Fields({**part.raw(), **shaped}, part.where)


class Exchange:
    """The token endpoints of one registry. `service` is the name it goes by."""

    def __init__(self, http: HttpClient, address: str, service: str) -> None:
        self._http = http
        self._address = address
        self._service = service

    async def refresh_token(self, token: Secret, tenant: str) -> Secret:
        """For a token of Entra; raises Denied when the registry does not know the identity."""
        form = {"grant_type": "access_token", "access_token": token.reveal_text()}
        return await self._ask("exchange", "refresh_token", form | {"tenant": tenant})

    async def access_token(self, token: Secret, scope: str) -> Secret:
        """For a refresh token, with no more rights than a scope."""
        form = {"grant_type": "refresh_token", "refresh_token": token.reveal_text()}
        return await self._ask("token", "access_token", form | {"scope": scope})

    async def _ask(self, path: str, wanted: str, form: Mapping[str, str]) -> Secret:
        reply = await self._http.request(
            "POST",
            f"{self._address}/oauth2/{path}",
            headers={"Content-Type": "application/x-www-form-urlencoded"},
            body=urlencode({"service": self._service, **form}).encode(),
        )
        if reply.status != 200:
            raise refusal_of(reply, _NAME)
        found = object_of(reply, _NAME).get(wanted)
        if not isinstance(found, str) or not found:
            raise Unavailable("bad-reply", f"the reply of the registry has no {wanted}")
        return Secret(found)
