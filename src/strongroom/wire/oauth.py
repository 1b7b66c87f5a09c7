"""Bearer tokens of Google and Azure: from a key file, a client secret, or the machine itself.

Sources: https://developers.google.com/identity/protocols/oauth2/service-account,
https://cloud.google.com/compute/docs/access/authenticate-workloads,
https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow,
https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token.
"""

import base64
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import orjson

from strongroom.crypto.signatures import sign_rs256
from strongroom.model.clock import Clock
from strongroom.model.errors import Denied, Invalid, Unavailable
from strongroom.model.secret import Secret
from strongroom.wire.client import HttpClient
from strongroom.wire.http import Response
from strongroom.wire.rest import refusal_of

REFRESH_BEFORE_SECONDS: Final = 300.0
GOOGLE_SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
SERVICE_ACCOUNT: Final = "service_account"
GOOGLE_METADATA: Final = "http://metadata.google.internal"
AZURE_METADATA: Final = "http://169.254.169.254"
AZURE_ASSERTION: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
AZURE_LOGIN: Final = "https://login.microsoftonline.com"
# Gives a token and the seconds it lives.
Fetch = Callable[[], Awaitable[tuple[Secret, float]]]


class BearerToken:
    """A token that is fetched when there is none or it is about to end."""

    def __init__(self, fetch: Fetch, clock: Clock) -> None:
        self._fetch = fetch
        self._clock = clock
        self._token: Secret | None = None
        self._until = 0.0

    async def header(self) -> dict[str, str]:
        """The Authorization header; raises Denied or Unavailable."""
        if self._token is None or self._clock.monotonic() >= self._until:
            self._token, seconds = await self._fetch()
            self._until = self._clock.monotonic() + max(0.0, seconds - REFRESH_BEFORE_SECONDS)
        return {"Authorization": f"Bearer {self._token.reveal_text()}"}

    def refused(self) -> None:
        """Fetch another for the next call. A machine that slept does not know how long it did."""
        self._token = None


def google_key_file(path: Path, http: HttpClient, clock: Clock) -> Fetch:
    """A service account's JSON key, read at every use."""

    async def read() -> Mapping[str, Any]:
        return _json_file(path)

    return google_key(read, http, clock)


def google_key(
    read: Callable[[], Awaitable[Mapping[str, Any]]], http: HttpClient, clock: Clock
) -> Fetch:
    """A service account's key (JWT bearer grant, RFC 7523), wherever it is kept."""

    async def fetch() -> tuple[Secret, float]:
        key = await read()
        kind = str(key.get("type", SERVICE_ACCOUNT))
        if kind != SERVICE_ACCOUNT:
            raise Invalid(
                "google-key", f"credentials of the type {kind!r} are not served",
                hint="give a service account's key, or none where the machine has an account",
            )  # fmt: skip
        now = int(clock.now())
        try:
            claims = {
                "iss": key["client_email"],
                "scope": GOOGLE_SCOPE,
                "aud": key["token_uri"],
                "iat": now,
                "exp": now + 3600,
            }
            assertion = signed_jwt({}, claims, str(key["private_key"]))
            address = str(key["token_uri"])
        except KeyError as error:
            raise Invalid(
                "google-key", f"the service account's key has no {error.args[0]}"
            ) from None
        form = {
            "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
            "assertion": assertion,
        }
        return await grant(http, address, form)

    return fetch


def signed_jwt(head: Mapping[str, Any], claims: Mapping[str, Any], private_pem: str) -> str:
    """A JSON Web Token with RS256 (RFC 7519); raises Invalid(`bad-key`). Pure."""
    first = _b64(orjson.dumps({"alg": "RS256", "typ": "JWT", **head}))
    message = first + b"." + _b64(orjson.dumps(dict(claims)))
    return (message + b"." + _b64(sign_rs256(private_pem, message))).decode()


def google_metadata(http: HttpClient, address: str = GOOGLE_METADATA) -> Fetch:
    """The machine's own service account."""

    async def fetch() -> tuple[Secret, float]:
        url = f"{address}/computeMetadata/v1/instance/service-accounts/default/token"
        return await _get(http, url, {"Metadata-Flavor": "Google"})

    return fetch


def azure_client_secret(
    tenant: str, client: str, secret: Path | Secret, resource: str, http: HttpClient,
    login: str = AZURE_LOGIN,
) -> Fetch:  # fmt: skip
    """An application's secret; a file of it is read at every use."""

    def proof() -> dict[str, str]:
        return {"client_secret": _text_of(secret, "azure-secret")}

    return _azure_application(proof, (tenant, client), resource, http, login)


def azure_federated_token(
    tenant: str, client: str, token_file: Path, resource: str, http: HttpClient,
    login: str = AZURE_LOGIN,
) -> Fetch:  # fmt: skip
    """A token of another issuer that the application trusts (workload identity), read at each use.

    Source: https://learn.microsoft.com/entra/workload-id/workload-identity-federation.
    """

    def proof() -> dict[str, str]:
        token = _text_of(token_file, "azure-token-file")
        return {"client_assertion_type": AZURE_ASSERTION, "client_assertion": token}

    return _azure_application(proof, (tenant, client), resource, http, login)


def _azure_application(
    proof: Callable[[], dict[str, str]], who: tuple[str, str], resource: str, http: HttpClient,
    login: str,
) -> Fetch:  # fmt: skip
    tenant, client = who

    async def fetch() -> tuple[Secret, float]:
        form = {
            "grant_type": "client_credentials",
            "client_id": client,
            "scope": f"{resource}/.default",
            **proof(),
        }
        return await grant(http, f"{login}/{tenant}/oauth2/v2.0/token", form)

    return fetch


def _text_of(given: Path | Secret, code: str) -> str:
    if isinstance(given, Secret):
        return given.reveal_text()
    try:
        return given.read_text().strip()
    except OSError as error:
        raise Unavailable(code, f"cannot read {given}: {error.strerror}") from None


def azure_managed_identity(
    resource: str, http: HttpClient, client: str = "", address: str = AZURE_METADATA
) -> Fetch:
    """The machine's managed identity, or the one of a client id."""

    async def fetch() -> tuple[Secret, float]:
        query = {"api-version": "2018-02-01", "resource": resource}
        if client:
            query["client_id"] = client
        url = f"{address}/metadata/identity/oauth2/token?{urlencode(query)}"
        return await _get(http, url, {"Metadata": "true"})

    return fetch


async def grant(http: HttpClient, url: str, form: Mapping[str, str]) -> tuple[Secret, float]:
    """A token endpoint's answer to a form (RFC 6749); raises Denied or Unavailable."""
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    reply = await http.request("POST", url, headers=headers, body=urlencode(form).encode())
    return _token(reply)


async def _get(http: HttpClient, url: str, headers: Mapping[str, str]) -> tuple[Secret, float]:
    reply = await http.request("GET", url, headers=headers, timeout=10)
    return _token(reply)


def _token(reply: Response) -> tuple[Secret, float]:
    if reply.status in (400, 401, 403):
        # 400 is how the protocol says that a grant is not valid; the endpoint says why.
        reason = refusal_of(reply, "token endpoint").message
        raise Denied("token-denied", f"the identity is refused by the {reason}")
    if reply.status != 200:
        raise Unavailable("token-unavailable", f"the token endpoint answers {reply.status}")
    try:
        said: Any = orjson.loads(reply.body)
        return Secret(said["access_token"]), float(said["expires_in"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        raise Unavailable("token-unavailable", "the token endpoint's reply has no token") from None


def _json_file(path: Path) -> dict[str, Any]:
    try:
        return dict(orjson.loads(path.read_bytes()))
    except OSError as error:
        raise Unavailable("google-key", f"cannot read {path}: {error.strerror}") from None
    except (orjson.JSONDecodeError, TypeError, ValueError):
        raise Invalid("google-key", f"{path} is not JSON") from None


def _b64(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")
