"""The identity that a process on AWS has by itself, in the order of the SDKs.

Keys of the environment, a web identity (IRSA), the agent of EKS or ECS, the instance. Source:
https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html.
"""

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from strongroom.model.clock import Clock
from strongroom.model.errors import Invalid
from strongroom.model.secret import Secret
from strongroom.wire.aws import (
    METADATA,
    REFRESH_BEFORE_SECONDS,
    AwsCredentials,
    InstanceCredentials,
)
from strongroom.wire.aws_sts import Role, Sts, agent_credentials
from strongroom.wire.client import HttpClient

# Gives credentials, and asks for new ones each time.
Begin = Callable[[], Awaitable[AwsCredentials]]


def ambient(
    environment: Mapping[str, str], sts: Sts, http: HttpClient, clock: Clock, session_name: str
) -> Begin:
    """What the environment names; `session_name` is for a role that it gives no session's name."""
    key, secret = environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")
    if key and secret:
        session = environment.get("AWS_SESSION_TOKEN")
        held = AwsCredentials(key, Secret(secret), Secret(session) if session else None)

        async def from_environment() -> AwsCredentials:
            return held

        return from_environment
    token_file, arn = (
        environment.get("AWS_WEB_IDENTITY_TOKEN_FILE"),
        environment.get("AWS_ROLE_ARN"),
    )
    if token_file and arn:
        role = Role(arn, environment.get("AWS_ROLE_SESSION_NAME") or session_name)

        async def from_file() -> AwsCredentials:
            try:
                token = Secret(Path(token_file).read_text().strip())
            except OSError as error:
                raise Invalid("aws-token-file", f"cannot read {token_file}: {error}") from None
            return await sts.assume_role_with_web_identity(role, token)

        return from_file
    agent = environment.get("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    if relative := environment.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
        agent = f"http://169.254.170.2{relative}"
    if agent:
        file = environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
        return lambda: agent_credentials(http, agent, Path(file) if file else None)
    machine = environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or METADATA
    return InstanceCredentials(http, clock, machine).credentials


class KeptCredentials:
    """Credentials that are asked for anew shortly before they end."""

    def __init__(self, begin: Begin, clock: Clock) -> None:
        self._begin = begin
        self._clock = clock
        self._known: AwsCredentials | None = None

    async def credentials(self) -> AwsCredentials:
        """Ones that are good now; raises what `begin` raises."""
        known, least = self._known, self._clock.now() + REFRESH_BEFORE_SECONDS
        if known is None or (known.expires is not None and known.expires <= least):
            known = self._known = await self._begin()
        return known
