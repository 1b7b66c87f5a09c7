"""GCRAccessToken: a token of Google's as the password of its registries.

Fields: https://external-secrets.io/latest/api/generator/gcr/.
"""

from typing import Final

from strongroom.sync.generators.contract import Made, Sources
from strongroom.sync.providers.fields import Fields
from strongroom.sync.providers.gcp_session import GcpLogin, is_own
from strongroom.sync.providers.references import References
from strongroom.wire.client import HttpClient
from strongroom.wire.google_identity import GoogleAddresses, GoogleIdentity

USER: Final = "oauth2accesstoken"


async def access_token(spec: Fields, references: References, sources: Sources) -> Made:
    """A login of Google's registries; `expiry` is in seconds since the epoch.

    The token is good for all that the identity may do, so the operator's own is not given away.
    """
    spec.required("projectID")
    around = sources.around
    auth = spec.part("auth") or Fields({}, f"{spec.where}.auth")
    if is_own(auth):
        references.lend(auth)
    async with HttpClient() as http:
        addresses = GoogleAddresses.of(around.environment)
        identity = GoogleIdentity(http, around.clock, addresses)
        token, seconds = await GcpLogin(identity, references, around, http).of(auth)()
    expiry = b"%d" % int(around.clock.now() + seconds)
    return Made({"username": USER.encode(), "password": token.reveal(), "expiry": expiry})
