"""Logins of a Vault store by who a cloud says we are: Vault's `aws` and `gcp` methods.

Both send what only the identity can sign: a request to AWS that Vault makes in our name, or a JWT
that Google's IAM signs. https://developer.hashicorp.com/vault/api-docs/auth/aws#login and
https://developer.hashicorp.com/vault/docs/auth/gcp#iam-login.
"""

import base64
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import quote, urlsplit

import orjson

from strongroom.model.errors import Unavailable
from strongroom.model.secret import Secret
from strongroom.sync.providers.aws_session import identity_of
from strongroom.sync.providers.fields import Fields
from strongroom.sync.providers.gcp_session import ACCOUNT_ANNOTATION, GcpLogin
from strongroom.sync.providers.references import References, Surroundings
from strongroom.wire.aws import AwsRequest, signed_headers
from strongroom.wire.aws_sts import sts_endpoint
from strongroom.wire.client import HttpClient
from strongroom.wire.google_identity import GoogleAddresses, GoogleIdentity
from strongroom.wire.rest import RestApi

REGION: Final = "us-east-1"
JWT_SECONDS: Final = 900
SERVER_HEADER: Final = "X-Vault-AWS-IAM-Server-ID"
_QUESTION: Final = b"Action=GetCallerIdentity&Version=2011-06-15"
Body = Callable[[], Awaitable[dict[str, Any]]]


def iam_login(part: Fields, references: References, around: Surroundings) -> tuple[str, Body]:
    """The path and body of `auth.iam`; raises Invalid."""
    role, region = part.required("vaultRole"), part.text("region", REGION)
    server = part.text("vaultAwsIamServerID")
    auth = {name: part.raw()[name] for name in ("secretRef", "jwt") if part.part(name)}
    if not auth:
        references.lend(part)
    shape = {"region": region, "role": part.text("role"), "externalID": part.text("externalID")}
    spec = Fields({**shape, "auth": auth}, part.where)

    async def body() -> dict[str, Any]:
        async with HttpClient() as http:
            credentials = await identity_of(spec, references, around, http).credentials()
        url = f"{sts_endpoint(region)}/"
        kind = "application/x-www-form-urlencoded; charset=utf-8"
        headers = {"Content-Type": kind} | ({SERVER_HEADER: server} if server else {})
        request = AwsRequest("POST", url, headers, _QUESTION)
        signed = signed_headers(request, (region, "sts"), credentials, around.clock.now())
        signed["host"] = urlsplit(url).netloc
        return {
            "role": role,
            "iam_http_request_method": "POST",
            "iam_request_url": _b64(url.encode()),
            "iam_request_body": _b64(_QUESTION),
            "iam_request_headers": _b64(orjson.dumps({key: [signed[key]] for key in signed})),
        }

    return f"{part.text('path', 'aws')}/login", body


def gcp_login(part: Fields, references: References, around: Surroundings) -> tuple[str, Body]:
    """The path and body of `auth.gcp`: Google's IAM signs for the account; raises Invalid."""
    role = part.required("role")
    kinds = ("secretRef", "workloadIdentity", "serviceAccountRef")
    kind = part.one_of(*kinds, default="ambient")
    if kind == "ambient":
        references.lend(part)
    spec = _google_auth(part, kind)

    async def body() -> dict[str, Any]:
        async with HttpClient() as http:
            addresses = GoogleAddresses.of(around.environment)
            identity = GoogleIdentity(http, around.clock, addresses)
            token, _ = await GcpLogin(identity, references, around, http).of(spec)()
            email = await _email(spec, kind, references, identity)
            iam = RestApi("google", addresses.iam, http, around.clock)
            jwt = await _signed(iam, token, email, _claims(email, role, around.clock.now()))
        return {"role": role, "jwt": jwt}

    return f"{part.text('path', 'gcp')}/login", body


def _google_auth(part: Fields, kind: str) -> Fields:
    """A Google store's `auth` of the same identity. Pure."""
    if kind == "ambient":
        return Fields({}, part.where)
    value = part.needed(kind).raw()
    if kind != "serviceAccountRef":
        return Fields({kind: value}, part.where)
    where = {"clusterProjectID": part.text("projectID"), "clusterLocation": part.text("location")}
    given = {name: each for name, each in where.items() if each}
    return Fields({"workloadIdentity": {"serviceAccountRef": value, **given}}, part.where)


async def _email(spec: Fields, kind: str, references: References, identity: GoogleIdentity) -> str:
    """The service account that signs."""
    if kind == "ambient":
        return await identity.about("instance/service-accounts/default/email")
    if kind == "secretRef":
        selector = spec.needed(kind).needed("secretAccessKeySecretRef")
        key = Fields(orjson.loads(await references.text(selector)), selector.where)
        return key.required("client_email")
    selector = spec.needed("workloadIdentity").needed("serviceAccountRef")
    account = await references.account(selector)
    found = (account["metadata"].get("annotations") or {}).get(ACCOUNT_ANNOTATION)
    if not found:
        raise selector.bad("name", f"names an account without {ACCOUNT_ANNOTATION}, which signs")
    return str(found)


def _claims(email: str, role: str, now: float) -> dict[str, Any]:
    return {"sub": email, "aud": f"vault/{role}", "exp": int(now) + JWT_SECONDS}


async def _signed(iam: RestApi, token: Secret, email: str, claims: dict[str, Any]) -> str:
    path = f"v1/projects/-/serviceAccounts/{quote(email, safe='@')}:signJwt"
    said = await iam.call("POST", path, token, {"payload": orjson.dumps(claims).decode()})
    jwt = said.get("signedJwt")
    if not isinstance(jwt, str):
        raise Unavailable("bad-reply", "the IAM service signs nothing")
    return jwt


def _b64(content: bytes) -> str:
    return base64.b64encode(content).decode()
