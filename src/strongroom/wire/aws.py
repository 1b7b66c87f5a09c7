"""Calls of AWS: Signature Version 4, credentials from a file or the instance, JSON 1.1 services.

Sources: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
and https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-metadata-security-credentials.html.
"""

import configparser
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import orjson

from strongroom.model.clock import Clock, parse_rfc3339
from strongroom.model.errors import Denied, Invalid, NotFound, Refusal, Throttled, Unavailable
from strongroom.model.secret import Secret
from strongroom.wire.client import HttpClient
from strongroom.wire.http import retry_after

METADATA: Final = "http://169.254.169.254"
REFRESH_BEFORE_SECONDS: Final = 300.0
_DENIED: Final = (
    "AccessDenied",
    "UnrecognizedClient",
    "InvalidSignature",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidClientTokenId",
    "InvalidIdentityToken",
    "IDPRejectedClaim",
)
_REGION: Final = re.compile(r"[a-z0-9-]{1,63}")
# The domain of each partition that is not AWS's own, by how the names of its regions begin.
_PARTITIONS: Final = {
    "cn-": "amazonaws.com.cn",
    "us-iso-": "c2s.ic.gov",
    "us-isob-": "sc2s.sgov.gov",
    "us-isof-": "csp.hci.ic.gov",
    "eu-isoe-": "cloud.adc-e.uk",
    "eusc-": "amazonaws.eu",
}
# A secret in its recovery window answers InvalidRequestException.
_GOING: Final = re.compile("marked (for deletion|deleted)")
_MISSING: Final = ("NotFound", "ResourceNotFound")


def regional_endpoint(service: str, region: str) -> str:
    """Where a service answers in a region; those of a partition have its domain.

    Raises Invalid(`bad-region`) for what is no part of a host's name: a request with a token or a
    password in it would go to whoever is named there.
    """
    if not _REGION.fullmatch(region):
        raise Invalid("bad-region", f"{region[:100]!r} is no region such as eu-west-1")
    named = (name for begin, name in _PARTITIONS.items() if region.startswith(begin))
    suffix = next(named, "amazonaws.com")
    return f"https://{service}.{region}.{suffix}"


@dataclass(frozen=True, slots=True)
class AwsCredentials:
    """A key pair; `expires` in epoch seconds, None for one that does not."""

    access_key: str
    secret_key: Secret
    session_token: Secret | None = None
    expires: float | None = None


class CredentialSource(Protocol):
    """Where credentials come from."""

    async def credentials(self) -> AwsCredentials:
        """Ones that are good now; raises Denied or Unavailable."""


class StaticCredentials:
    """Ones that were given and do not change."""

    def __init__(self, given: AwsCredentials) -> None:
        self._given = given

    async def credentials(self) -> AwsCredentials:
        return self._given


class CredentialFile:
    """A shared credentials file (`[profile]`, `aws_access_key_id`, ...), read at every use."""

    def __init__(self, path: Path, profile: str = "default") -> None:
        self._path = path
        self._profile = profile

    async def credentials(self) -> AwsCredentials:
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read_string(self._path.read_text())
            section = parser[self._profile]
            token = section.get("aws_session_token", "")
            return AwsCredentials(
                section["aws_access_key_id"],
                Secret(section["aws_secret_access_key"]),
                Secret(token) if token else None,
            )
        except OSError as error:
            raise Unavailable(
                "aws-credentials", f"cannot read {self._path}: {error.strerror}"
            ) from None
        except (KeyError, configparser.Error):
            raise Invalid(
                "aws-credentials", f"{self._path} has no credentials for {self._profile!r}"
            ) from None


class InstanceCredentials:
    """The instance's role by its metadata service (version 2, with a session token)."""

    def __init__(self, http: HttpClient, clock: Clock, address: str = METADATA) -> None:
        self._http = http
        self._clock = clock
        self._address = address
        self._known: AwsCredentials | None = None

    async def credentials(self) -> AwsCredentials:
        known, now = self._known, self._clock.now()
        if known and known.expires and known.expires - now > REFRESH_BEFORE_SECONDS:
            return known
        session = await self._ask(
            "PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "21600"}
        )
        headers = {"X-aws-ec2-metadata-token": session.decode(errors="replace")}
        base = "/latest/meta-data/iam/security-credentials/"
        role = (await self._ask("GET", base, headers)).decode(errors="replace").strip()
        said = await self._ask("GET", base + role, headers)
        try:
            found = orjson.loads(said)
            self._known = AwsCredentials(
                found["AccessKeyId"],
                Secret(found["SecretAccessKey"]),
                Secret(found["Token"]),
                parse_rfc3339(found["Expiration"]),
            )
        except (KeyError, TypeError, ValueError):
            # It answers 200 as well where the role cannot be taken on, and says so in `Code`.
            raise Unavailable(
                "aws-metadata",
                "the metadata service has no credentials for the instance's role",
                hint="look at the role's trust policy",
            ) from None
        return self._known

    async def _ask(self, method: str, path: str, headers: Mapping[str, str]) -> bytes:
        reply = await self._http.request(method, self._address + path, headers=headers, timeout=5)
        if reply.status != 200:
            raise Unavailable("aws-metadata", f"the metadata service answers {reply.status}")
        return reply.body


@dataclass(frozen=True, slots=True)
class AwsRequest:
    """What is to be signed."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = b""


def signed_headers(
    request: AwsRequest, scope: tuple[str, str], credentials: AwsCredentials, now: float
) -> dict[str, str]:
    """The headers with date, token and signature; `scope` is region and service. Pure."""
    region, service = scope
    parts = urlsplit(request.url)
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    all_headers = {name.lower(): value.strip() for name, value in request.headers.items()}
    all_headers |= {"host": parts.netloc, "x-amz-date": stamp}
    if credentials.session_token:
        all_headers["x-amz-security-token"] = credentials.session_token.reveal_text()
    names = ";".join(sorted(all_headers))
    canonical = "\n".join(
        [
            request.method,
            parts.path or "/",
            "&".join(sorted(parts.query.split("&"))) if parts.query else "",
            *(f"{name}:{all_headers[name]}" for name in sorted(all_headers)),
            "",
            names,
            hashlib.sha256(request.body).hexdigest(),
        ]
    )
    place = f"{stamp[:8]}/{region}/{service}/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{place}\n{digest}"
    key = b"AWS4" + credentials.secret_key.reveal()
    for part in (stamp[:8], region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    all_headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{place},"
        f" SignedHeaders={names}, Signature={signature}"
    )
    return all_headers


class AwsJson:
    """A service that speaks JSON 1.1 (KMS, Secrets Manager, Systems Manager)."""

    def __init__(
        self,
        endpoint: str,
        scope: tuple[str, str],
        source: CredentialSource,
        http: HttpClient,
        clock: Clock,
    ) -> None:
        self._url = endpoint.rstrip("/") + "/"
        self._scope = scope
        self._source = source
        self._http = http
        self._clock = clock

    async def call(self, target: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Call an operation such as `TrentService.Encrypt`; raises a Refusal with AWS's code."""
        content = orjson.dumps(body)
        plain = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": target}
        credentials = await self._source.credentials()
        request = AwsRequest("POST", self._url, plain, content)
        headers = signed_headers(request, self._scope, credentials, self._clock.now())
        reply = await self._http.request("POST", self._url, headers=headers, body=content)
        try:
            said = orjson.loads(reply.body or b"{}")
        except orjson.JSONDecodeError:
            said = None
        if reply.status != 200:
            wish = retry_after(reply, self._clock.now())
            raise aws_refusal(reply.status, said if isinstance(said, dict) else {}, target, wish)
        if not isinstance(said, dict):
            raise Unavailable("bad-reply", f"the reply to {target} is not a JSON object")
        return said


def aws_refusal(
    status: int, said: Mapping[str, Any], target: str, wish: float | None = None
) -> Refusal:
    """The family an AWS error belongs to; its code stays.

    AWS's sentence stays where it says what is missing: who may not do what, or which parameter
    is wrong. It names identities and resources and never a value.
    """
    code = str(said.get("__type", "")).rpartition("#")[2] or f"status {status}"
    sentence = str(said.get("message") or said.get("Message") or "")
    text = f"{target.rpartition('.')[2]}: {code}"
    if any(each in code for each in _DENIED):
        return Denied(
            "aws-denied", f"{text}: {sentence}".rstrip(": "), hint="check the policies of the role"
        )
    if any(each in code for each in _MISSING) or _GOING.search(sentence):
        return NotFound("aws-not-found", text)
    if "Throttl" in code or "TooManyRequests" in code or "RequestLimit" in code or status == 429:
        return Throttled("aws-throttled", text, retry_after=wish)
    if status >= 500 or "Limit" in code or "Unavailable" in code:
        return Unavailable("aws-unavailable", text)
    return Invalid("aws-invalid", f"{text}: {sentence}".rstrip(": "))
