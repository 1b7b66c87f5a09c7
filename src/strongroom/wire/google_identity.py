"""Google identities of workloads: a cluster's token changed for Google's, and service accounts.

Sources: https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token (RFC 8693),
https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateAccessToken,
https://google.aip.dev/auth/4117 (external accounts, AWS among them).
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

import orjson

from strongroom.model.clock import Clock, parse_rfc3339
from strongroom.model.errors import Unavailable
from strongroom.model.secret import Secret
from strongroom.wire.aws import AwsCredentials, AwsRequest, signed_headers
from strongroom.wire.client import HttpClient
from strongroom.wire.oauth import GOOGLE_METADATA, GOOGLE_SCOPE, Fetch, google_metadata, grant
from strongroom.wire.rest import RestApi, object_of, refusal_of

STS: Final = "https://sts.googleapis.com"
IAM: Final = "https://iamcredentials.googleapis.com"
SECURE_TOKEN: Final = "https://securetoken.googleapis.com"  # noqa: S105 - an address
JWT: Final = "urn:ietf:params:oauth:token-type:jwt"
AWS4: Final = "urn:ietf:params:aws:token-type:aws4_request"
_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
_ACCESS: Final = "urn:ietf:params:oauth:token-type:access_token"
# Gives the token that is to be changed.
Subject = Callable[[], Awaitable[Secret]]


@dataclass(frozen=True, slots=True)
class GoogleAddresses:
    """Where the identity services are; the environment can move them."""

    sts: str = STS
    iam: str = IAM
    secure_token: str = SECURE_TOKEN
    metadata: str = GOOGLE_METADATA

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "GoogleAddresses":
        """With the overrides that gcloud and the client libraries know."""
        host = environment.get("GCE_METADATA_HOST")
        override = "CLOUDSDK_API_ENDPOINT_OVERRIDES_"
        return cls(
            environment.get(f"{override}STS", STS).rstrip("/"),
            environment.get(f"{override}IAMCREDENTIALS", IAM).rstrip("/"),
            environment.get(f"{override}SECURETOKEN", SECURE_TOKEN).rstrip("/"),
            f"http://{host}" if host else GOOGLE_METADATA,
        )


class GoogleIdentity:
    """Each method makes a Fetch: a token and the seconds it lives."""

    def __init__(self, http: HttpClient, clock: Clock, addresses: GoogleAddresses) -> None:
        self._http = http
        self._clock = clock
        self.addresses = addresses

    def machine(self) -> Fetch:
        """The service account of the machine or, on GKE, of the pod."""
        return google_metadata(self._http, self.addresses.metadata)

    async def about(self, path: str) -> str:
        """What the metadata server says of this machine, such as `project/project-id`."""
        url = f"{self.addresses.metadata}/computeMetadata/v1/{path}"
        headers = {"Metadata-Flavor": "Google"}
        reply = await self._http.request("GET", url, headers=headers, timeout=5)
        if reply.status != 200:
            raise Unavailable("google-metadata", f"{path} is not known (status {reply.status})")
        return reply.body.decode(errors="replace").strip()

    def exchanged(self, audience: str, subject: Subject, kind: str = JWT) -> Fetch:
        """Workload identity federation: the token of a pool's provider for one of Google's."""

        async def fetch() -> tuple[Secret, float]:
            form = {
                "grant_type": _EXCHANGE,
                "audience": audience,
                "scope": GOOGLE_SCOPE,
                "requested_token_type": _ACCESS,
                "subject_token_type": kind,
                "subject_token": (await subject()).reveal_text(),
            }
            return await grant(self._http, f"{self.addresses.sts}/v1/token", form)

        return fetch

    def bound(self, pool: str, provider: str, subject: Subject) -> Fetch:
        """GKE's identity binding: a service account's token for one of its cluster's pool."""

        async def fetch() -> tuple[Secret, float]:
            body = {
                "grant_type": _EXCHANGE,
                "audience": f"identitynamespace:{pool}:{provider}",
                "scope": GOOGLE_SCOPE,
                "requested_token_type": _ACCESS,
                "subject_token_type": JWT,
                "subject_token": (await subject()).reveal_text(),
            }
            url = f"{self.addresses.secure_token}/v1/identitybindingtoken"
            headers = {"Content-Type": "application/json"}
            reply = await self._http.request("POST", url, headers=headers, body=orjson.dumps(body))
            if reply.status != 200:
                raise refusal_of(reply, "google")
            said = object_of(reply, "google")
            try:
                return Secret(said["access_token"]), float(said["expires_in"])
            except (KeyError, TypeError, ValueError):
                raise Unavailable("bad-reply", "the binding service gives no token") from None

        return fetch

    def impersonating(self, account: str, base: Fetch) -> Fetch:
        """A service account's token, for who may create tokens of it."""
        iam = RestApi("google", self.addresses.iam, self._http, self._clock)

        async def fetch() -> tuple[Secret, float]:
            token, _ = await base()
            path = f"v1/projects/-/serviceAccounts/{quote(account, safe='@')}:generateAccessToken"
            said = await iam.call("POST", path, token, {"scope": [GOOGLE_SCOPE]})
            try:
                seconds = parse_rfc3339(said["expireTime"]) - self._clock.now()
                return Secret(said["accessToken"]), max(1.0, seconds)
            except (KeyError, TypeError, ValueError):
                raise Unavailable("bad-reply", "the IAM service gives no token") from None

        return fetch


def aws_subject(credentials: AwsCredentials, region: str, audience: str, now: float) -> Secret:
    """A signed request to AWS that Google sends on to learn who signed it (AIP-4117). Pure."""
    url = f"https://sts.{region}.amazonaws.com?Action=GetCallerIdentity&Version=2011-06-15"
    request = AwsRequest("POST", url, {"x-goog-cloud-target-resource": audience})
    headers = signed_headers(request, (region, "sts"), credentials, now)
    pairs = [{"key": name, "value": value} for name, value in sorted(headers.items())]
    said = orjson.dumps({"url": url, "method": "POST", "headers": pairs})
    return Secret(quote(said.decode(), safe=""))
