"""ECRAuthorizationToken and STSSessionToken.

Fields: https://external-secrets.io/latest/api/generator/ecr/ and sts/. Calls:
https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAuthorizationToken.html.
"""

import base64
import binascii
from typing import Any, Final

from strongroom.model.errors import Unavailable
from strongroom.sync.generators.contract import Made, Sources
from strongroom.sync.providers.aws_session import identity_of, is_own, sts_of
from strongroom.sync.providers.fields import Fields
from strongroom.sync.providers.references import References
from strongroom.wire.aws import AwsJson, regional_endpoint
from strongroom.wire.client import HttpClient

# The public registry answers in one region only.
PUBLIC_REGION: Final = "us-east-1"
_PRIVATE: Final = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken"
_PUBLIC: Final = "SpencerFrontendService.GetAuthorizationToken"


async def registry_token(spec: Fields, references: References, sources: Sources) -> Made:
    """A login of a registry of images, private or public; it lives for twelve hours."""
    public = spec.choice("scope", ("private", "public"), "private") == "public"
    region = PUBLIC_REGION if public else spec.required("region")
    service = "ecr-public" if public else "ecr"
    variable = "AWS_ECR_PUBLIC_ENDPOINT" if public else "AWS_ECR_ENDPOINT"
    around = sources.around
    endpoint = around.environment.get(variable) or regional_endpoint(f"api.{service}", region)
    async with HttpClient() as http:
        identity = identity_of(spec, references, around, http)
        api = AwsJson(endpoint, (region, service), identity, http, around.clock)
        reply = await api.call(_PUBLIC if public else _PRIVATE, {})
    found = reply.get("authorizationData")
    return Made(_login(found[0] if isinstance(found, list) and found else found))


def _login(found: Any) -> dict[str, bytes]:  # noqa: ANN401 - a reply
    try:
        name, _, word = base64.b64decode(found["authorizationToken"]).partition(b":")
        made = {"username": name, "password": word, "expires_at": b"%d" % int(found["expiresAt"])}
        if found.get("proxyEndpoint"):
            made["proxy_endpoint"] = str(found["proxyEndpoint"]).encode()
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise Unavailable("bad-reply", "the registry's reply has no login") from None
    return made


async def session_token(spec: Fields, references: References, sources: Sources) -> Made:
    """Temporary credentials of the identity itself; the operator's own are not given away."""
    if is_own(spec):
        references.lend(Fields({}, f"{spec.where}.auth"))
    part = spec.part("requestParameters") or Fields({}, f"{spec.where}.requestParameters")
    async with HttpClient() as http:
        identity = identity_of(spec, references, sources.around, http)
        made = await sts_of(spec.required("region"), sources.around, http).session_token(
            await identity.credentials(),
            part.number("sessionDuration", 0),
            part.text("serialNumber"),
            part.text("tokenCode"),
        )
    return Made(
        {
            "access_key_id": made.access_key.encode(),
            "secret_access_key": made.secret_key.reveal(),
            "session_token": made.session_token.reveal() if made.session_token else b"",
            "expiration": b"%d" % int(made.expires or 0),
        }
    )
