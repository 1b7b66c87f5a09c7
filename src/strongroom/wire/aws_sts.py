"""AWS identities: roles taken on by STS, and credentials that an agent hands to a pod.

Sources: https://docs.aws.amazon.com/STS/latest/APIReference/ (query API, replies in XML) and
https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html.
"""

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import orjson

from strongroom.model.clock import Clock, parse_rfc3339
from strongroom.model.errors import Denied, Invalid, Unavailable
from strongroom.model.secret import Secret
from strongroom.wire.aws import (
    AwsCredentials,
    AwsRequest,
    aws_refusal,
    regional_endpoint,
    signed_headers,
)
from strongroom.wire.client import HttpClient

VERSION: Final = "2011-06-15"
# Replies are flat; these are the elements that are read of them.
_ELEMENT: Final = re.compile(
    r"<(AccessKeyId|SecretAccessKey|SessionToken|Expiration|Code|Message)>([^<]*)</"
)
# Where an agent may be asked over plain HTTP: the machine itself, ECS and EKS.
_AGENTS: Final = ("127.0.0.1", "localhost", "::1", "169.254.170.2", "169.254.170.23")
_AGENT_V6: Final = "fd00:ec2::23"


@dataclass(frozen=True, slots=True)
class Role:
    """A role to take on. `tags` are session tags, `transitive` the ones that a chain keeps."""

    arn: str
    session_name: str
    external_id: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    transitive: tuple[str, ...] = ()


def sts_endpoint(region: str) -> str:
    """The regional endpoint, which works where the global one is switched off."""
    return regional_endpoint("sts", region)


class Sts:
    """One regional endpoint."""

    def __init__(self, endpoint: str, region: str, http: HttpClient, clock: Clock) -> None:
        self._url = endpoint.rstrip("/") + "/"
        self._region = region
        self._http = http
        self._clock = clock

    async def assume_role(self, credentials: AwsCredentials, role: Role) -> AwsCredentials:
        """Credentials of a role; raises Denied when its trust policy does not let us."""
        form = {"RoleArn": role.arn, "RoleSessionName": role.session_name}
        if role.external_id:
            form["ExternalId"] = role.external_id
        for at, (key, value) in enumerate(role.tags.items(), 1):
            form |= {f"Tags.member.{at}.Key": key, f"Tags.member.{at}.Value": value}
        for at, key in enumerate(role.transitive, 1):
            form[f"TransitiveTagKeys.member.{at}"] = key
        return await self._ask("AssumeRole", form, credentials)

    async def assume_role_with_web_identity(self, role: Role, token: Secret) -> AwsCredentials:
        """Credentials of a role for a token of an identity provider that it trusts."""
        form = {
            "RoleArn": role.arn,
            "RoleSessionName": role.session_name,
            "WebIdentityToken": token.reveal_text(),
        }
        return await self._ask("AssumeRoleWithWebIdentity", form, None)

    async def session_token(
        self, credentials: AwsCredentials, seconds: int = 0, serial: str = "", code: str = ""
    ) -> AwsCredentials:
        """Temporary credentials of the same identity; `serial` and `code` prove its MFA device."""
        given = {
            "DurationSeconds": str(seconds) if seconds else "",
            "SerialNumber": serial,
            "TokenCode": code,
        }
        form = {name: value for name, value in given.items() if value}
        return await self._ask("GetSessionToken", form, credentials)

    async def caller(self, credentials: AwsCredentials) -> None:
        """Prove that credentials are good; raises Denied."""
        await self._send("GetCallerIdentity", {}, credentials)

    async def _ask(
        self, action: str, form: Mapping[str, str], credentials: AwsCredentials | None
    ) -> AwsCredentials:
        found = await self._send(action, form, credentials)
        try:
            return AwsCredentials(
                found["AccessKeyId"],
                Secret(found["SecretAccessKey"]),
                Secret(found["SessionToken"]),
                parse_rfc3339(found["Expiration"]),
            )
        except (KeyError, ValueError):
            raise Unavailable("aws-sts", f"the reply to {action} has no credentials") from None

    async def _send(
        self, action: str, form: Mapping[str, str], credentials: AwsCredentials | None
    ) -> dict[str, str]:
        body = urlencode({"Action": action, "Version": VERSION, **form}).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
        if credentials is not None:
            request = AwsRequest("POST", self._url, headers, body)
            scope = (self._region, "sts")
            headers = signed_headers(request, scope, credentials, self._clock.now())
        reply = await self._http.request("POST", self._url, headers=headers, body=body)
        text = reply.body.decode(errors="replace")
        found = {name: html.unescape(value) for name, value in _ELEMENT.findall(text)}
        if reply.status != 200:
            said = {"__type": found.get("Code", ""), "message": found.get("Message", "")}
            raise aws_refusal(reply.status, said, action)
        return found


async def agent_credentials(http: HttpClient, url: str, token_file: Path | None) -> AwsCredentials:
    """What EKS Pod Identity or ECS gives to a container; the token file is read at every use.

    Raises Invalid for an address that no agent has, for the token would leave the machine.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in (*_AGENTS, _AGENT_V6):
        raise Invalid(
            "aws-agent", f"AWS_CONTAINER_CREDENTIALS_FULL_URI names {parts.hostname}, no agent"
        )
    headers = {}
    if token_file is not None:
        try:
            headers["Authorization"] = token_file.read_text().strip()
        except OSError as error:
            raise Unavailable("aws-agent", f"cannot read {token_file}: {error.strerror}") from None
    reply = await http.request("GET", url, headers=headers, timeout=5)
    if reply.status in (400, 401, 403, 404):
        raise Denied(
            "aws-agent",
            f"the credential agent refuses this pod (status {reply.status})",
            hint="is there a pod identity association for its service account?",
        )
    try:
        said: Any = orjson.loads(reply.body)
        return AwsCredentials(
            said["AccessKeyId"],
            Secret(said["SecretAccessKey"]),
            Secret(said["Token"]),
            parse_rfc3339(said["Expiration"]),
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        raise Unavailable("aws-agent", f"the credential agent answers {reply.status}") from None
