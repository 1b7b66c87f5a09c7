"""The identity of an AWS store: where its credentials begin, and which roles it takes on then.

Fields: https://external-secrets.io/latest/provider/aws-access/.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from strongroom.model.clock import Clock
from strongroom.model.errors import Invalid
from strongroom.model.secret import Secret
from strongroom.sync.providers.fields import Fields
from strongroom.sync.providers.references import References, Surroundings
from strongroom.sync.providers.session import Session
from strongroom.wire.aws import AwsCredentials
from strongroom.wire.aws_ambient import Begin, ambient
from strongroom.wire.aws_sts import Role, Sts, sts_endpoint
from strongroom.wire.client import HttpClient

SESSION_NAME: Final = "external-secrets-provider-aws"
AUDIENCE: Final = "sts.amazonaws.com"
# Of several the first counts, as it does for External Secrets Operator.
LOGINS: Final = ("secretRef", "jwt")
OF_THE_ROLE: Final = ("externalID", "sessionTags", "sessionTagsPolicy", "transitiveTagKeys")
ROLE_ANNOTATION: Final = "eks.amazonaws.com/role-arn"
AUDIENCE_ANNOTATION: Final = "eks.amazonaws.com/audience"
# Keys from a Secret are read again after this time, so that replaced ones are taken up.
REREAD_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class Aws:
    """What a login needs of the world."""

    sts: Sts
    http: HttpClient
    clock: Clock
    environment: Mapping[str, str]


class AwsIdentity:
    """The credentials of one store, shared by its calls. A wire.aws.CredentialSource."""

    def __init__(self, begin: Begin, roles: tuple[Role, ...], aws: Aws) -> None:
        self._begin = begin
        self._roles = roles
        self._aws = aws
        self.session: Session[AwsCredentials] = Session(self._enter, aws.clock)

    async def _enter(self) -> tuple[AwsCredentials, float]:
        held = await self._begin()
        for role in self._roles:
            held = await self._aws.sts.assume_role(held, role)
        if held.expires is None:
            return held, REREAD_SECONDS
        return held, max(1.0, held.expires - self._aws.clock.now())

    async def credentials(self) -> AwsCredentials:
        """Good ones; raises what the login raises."""
        return await self.session.enter()

    async def prove(self) -> None:
        """Ask AWS who we are; raises Denied."""
        await self.session.use(self._aws.sts.caller)


def sts_of(region: str, around: Surroundings, http: HttpClient) -> Sts:
    """The token service of a region, or the one that the environment names."""
    endpoint = around.environment.get("AWS_STS_ENDPOINT") or sts_endpoint(region)
    return Sts(endpoint, region, http, around.clock)


def is_own(spec: Fields) -> bool:
    """Whether the operator's own identity is asked for. Pure."""
    auth = spec.part("auth")
    return auth is None or auth.first_of(*LOGINS, default="ambient") == "ambient"


def identity_of(
    spec: Fields, references: References, around: Surroundings, http: HttpClient
) -> AwsIdentity:
    """The identity of `spec.provider.aws`; raises Invalid."""
    sts = sts_of(spec.required("region"), around, http)
    aws = Aws(sts, http, around.clock, around.environment)
    auth = spec.part("auth") or Fields({}, f"{spec.where}.auth")
    kind = auth.first_of(*LOGINS, default="ambient")
    if kind == "secretRef":
        begin = _from_secret(auth.needed(kind), references)
    elif kind == "jwt":
        begin = _from_account(auth.needed(kind).needed("serviceAccountRef"), references, sts)
    else:
        begin = ambient(aws.environment, aws.sts, http, aws.clock, SESSION_NAME)
    return AwsIdentity(begin, _roles(spec, references), aws)


def _roles(spec: Fields, references: References) -> tuple[Role, ...]:
    """The chain: additional roles in their order, then the role with its id and tags."""
    chain = [Role(each, SESSION_NAME) for each in spec.texts("additionalRoles")]
    role = spec.text("role")
    tags = {each.required("key"): each.text("value") for each in spec.parts("sessionTags")}
    policy = spec.choice("sessionTagsPolicy", ("None", "Simple", "Custom"), "None")
    if policy != "None":
        tags |= {
            "esoNamespace": references.asking,
            "esoStoreName": references.store_name,
            "esoStoreKind": references.store_kind,
        }
    if policy == "Custom":
        tags |= spec.labels("customSessionTags")
    transitive = spec.texts("transitiveTagKeys")
    if role:
        chain.append(Role(role, SESSION_NAME, spec.text("externalID"), tags, transitive))
    return tuple(chain)


def unused(spec: Fields) -> tuple[str, ...]:
    """A sentence for each field of `spec.provider.aws` that is there and counts for nothing. Pure.

    They are External Secrets Operator's rules: static keys go before a service account, and what
    belongs to a session is given to the last role alone.
    """
    auth = spec.part("auth")
    said = auth.passed_over(*LOGINS) if auth else ()
    custom = spec.text("sessionTagsPolicy") == "Custom"
    if spec.labels("customSessionTags") and not custom:
        said += (f"{spec.where}.customSessionTags counts with sessionTagsPolicy Custom alone",)
    if spec.text("role"):
        return said
    given = {each for each in OF_THE_ROLE if spec.raw().get(each)}
    given -= {"sessionTagsPolicy"} if spec.text("sessionTagsPolicy", "None") == "None" else set()
    return said + tuple(f"{spec.where}.{each} counts with role alone" for each in sorted(given))


def _from_secret(part: Fields, references: References) -> Begin:
    key, secret = part.needed("accessKeyIDSecretRef"), part.needed("secretAccessKeySecretRef")
    token = part.part("sessionTokenSecretRef")

    async def begin() -> AwsCredentials:
        return AwsCredentials(
            await references.text(key),
            Secret(await references.text(secret)),
            Secret(await references.text(token)) if token else None,
        )

    return begin


def _from_account(selector: Fields, references: References, sts: Sts) -> Begin:
    async def begin() -> AwsCredentials:
        account = await references.account(selector)
        annotations = account["metadata"].get("annotations") or {}
        arn = annotations.get(ROLE_ANNOTATION)
        if not arn:
            raise Invalid(
                "no-aws-role",
                f"the service account {selector.text('name')} has no annotation {ROLE_ANNOTATION}",
                hint=f"annotate it with the role that trusts it ({selector.where})",
            )
        audience = annotations.get(AUDIENCE_ANNOTATION) or AUDIENCE
        token = await references.account_token(selector, (audience,))
        return await sts.assume_role_with_web_identity(Role(arn, SESSION_NAME), token)

    return begin
