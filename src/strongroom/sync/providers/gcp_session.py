"""The identity of a Google store: a key, a service account of the cluster, or a federated one.

Fields: https://external-secrets.io/latest/provider/google-secrets-manager/#authentication.
"""

import re
import stat
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from strongroom.model.clock import Clock
from strongroom.model.errors import Invalid, Unavailable
from strongroom.model.secret import Secret
from strongroom.sync.providers.fields import Fields
from strongroom.sync.providers.references import OWN_TOKEN, References, Surroundings
from strongroom.wire.aws import AwsCredentials
from strongroom.wire.client import HttpClient
from strongroom.wire.google_identity import AWS4, JWT, GoogleIdentity, Subject, aws_subject
from strongroom.wire.oauth import Fetch, google_key

ACCOUNT_ANNOTATION: Final = "iam.gke.io/gcp-service-account"
TOKEN_BYTES: Final = 64 * 1024
_IMPERSONATION: Final = re.compile(r"/v1/projects/-/serviceAccounts/([^/:\s]+):generateAccessToken")


# Of several the first counts, as it does for External Secrets Operator.
LOGINS: Final = ("secretRef", "workloadIdentity", "workloadIdentityFederation")


def is_own(auth: Fields) -> bool:
    """Whether the operator's own identity is asked for, or what its pod holds or can ask. Pure."""
    kind = auth.first_of(*LOGINS, default="ambient")
    if kind == "workloadIdentityFederation":
        return auth.needed(kind).part("credConfig") is not None
    return kind == "ambient"


class GcpLogin:
    """Makes the login of one store."""

    def __init__(
        self,
        identity: GoogleIdentity,
        references: References,
        around: Surroundings,
        http: HttpClient,
    ) -> None:
        self._identity = identity
        self._references = references
        self._around = around
        self._http = http

    @property
    def _clock(self) -> Clock:
        return self._around.clock

    def of(self, auth: Fields) -> Fetch:
        """The login of `spec.provider.gcpsm.auth`; raises Invalid."""
        makers: tuple[Callable[[Fields], Fetch], ...] = (
            self._key, self._workload_identity, self._federation,
        )  # fmt: skip
        kinds = dict(zip(LOGINS, makers, strict=True))
        kind = auth.first_of(*kinds, default="ambient")
        return self._ambient() if kind == "ambient" else kinds[kind](auth.needed(kind))

    def _key(self, part: Fields) -> Fetch:
        selector = part.needed("secretAccessKeySecretRef")

        async def read() -> Mapping[str, Any]:
            return _key_of(await self._references.text(selector), selector.where)

        return google_key(read, self._http, self._clock)

    def _ambient(self) -> Fetch:
        """Application default credentials: the file that the environment names, or the machine."""
        file = self._around.environment.get("GOOGLE_APPLICATION_CREDENTIALS")
        if not file:
            return self._identity.machine()

        async def read() -> Mapping[str, Any]:
            try:
                return _key_of(Path(file).read_text(), file)
            except OSError as error:
                raise Unavailable("google-key", f"cannot read {file}: {error.strerror}") from None

        return google_key(read, self._http, self._clock)

    def _workload_identity(self, part: Fields) -> Fetch:
        selector = part.needed("serviceAccountRef")
        selector.required("name")

        async def fetch() -> tuple[Secret, float]:
            project = part.text("clusterProjectID") or await self._about("project/project-id")
            at = "instance/attributes/cluster-"
            location = part.text("clusterLocation") or await self._about(f"{at}location")
            cluster = part.text("clusterName") or await self._about(f"{at}name")
            pool = f"{project}.svc.id.goog"
            provider = (
                "https://container.googleapis.com/v1"
                f"/projects/{project}/locations/{location}/clusters/{cluster}"
            )
            subject = self._account_subject(selector, pool)
            bound = self._identity.bound(pool, provider, subject)
            return await (await self._as_account(selector, bound))()

        return fetch

    async def _about(self, path: str) -> str:
        return await self._identity.about(path)

    def _account_subject(self, selector: Fields, *audiences: str) -> Subject:
        async def subject() -> Secret:
            return await self._references.account_token(selector, audiences, 900)

        return subject

    async def _as_account(self, selector: Fields, base: Fetch) -> Fetch:
        """The Google account that the annotation names; without one the pool's own identity."""
        account = await self._references.account(selector)
        google = (account["metadata"].get("annotations") or {}).get(ACCOUNT_ANNOTATION)
        return self._identity.impersonating(google, base) if google else base

    def _federation(self, part: Fields) -> Fetch:
        kind = part.one_of("credConfig", "serviceAccountRef", "awsSecurityCredentials")
        if kind == "credConfig":
            return self._from_config(part, part.needed(kind))
        audience = part.required("audience")
        email = part.text("gcpServiceAccountEmail")
        if kind == "awsSecurityCredentials":
            subject = self._aws_subject(part.needed(kind), audience)
            exchanged = self._identity.exchanged(audience, subject, AWS4)
            return self._identity.impersonating(email, exchanged) if email else exchanged
        selector = part.needed(kind)

        # A pool's provider knows the audiences that it allows: those of the reference, as the other
        # controller has it, or where it names none the provider's own, which is the default.
        own = () if selector.texts("audiences") else (audience,)

        async def fetch() -> tuple[Secret, float]:
            subject = self._account_subject(selector, *own)
            exchanged = self._identity.exchanged(audience, subject)
            if email:
                return await self._identity.impersonating(email, exchanged)()
            return await (await self._as_account(selector, exchanged))()

        return fetch

    def _aws_subject(self, part: Fields, audience: str) -> Subject:
        region, selector = part.required("region"), part.needed("awsCredentialsSecretRef")

        async def subject() -> Secret:
            held = (await self._references.whole_secret(selector)).data

            def text(key: str) -> str:
                return held.get(key, b"").decode(errors="replace").strip()

            key, secret = text("aws_access_key_id"), text("aws_secret_access_key")
            if not key or not secret:
                raise selector.bad("name", "is a Secret without AWS's keys")
            token = text("aws_session_token")
            credentials = AwsCredentials(key, Secret(secret), Secret(token) if token else None)
            return aws_subject(credentials, region, audience, self._clock.now())

        return subject

    def _from_config(self, part: Fields, selector: Fields) -> Fetch:
        async def fetch() -> tuple[Secret, float]:
            text = await self._references.config_map(selector)
            return await self._external_account(_json(text, selector.where), part)()

        return fetch

    def _external_account(self, said: Fields, part: Fields) -> Fetch:
        """AIP-4117, without what would let a ConfigMap send tokens elsewhere or run programs."""
        said.choice("type", ("external_account",), "")
        token_url = said.text("token_url", f"{self._identity.addresses.sts}/v1/token")
        if token_url != f"{self._identity.addresses.sts}/v1/token":
            raise said.bad("token_url", "must be the one of Google's token service")
        audience = part.text("audience") or said.required("audience")
        source = said.needed("credential_source")
        subject = self._file_or_url(source, part)
        kind = said.text("subject_token_type", JWT)
        exchanged = self._identity.exchanged(audience, subject, kind)
        url = said.text("service_account_impersonation_url")
        if not url:
            return exchanged
        found = _IMPERSONATION.fullmatch(url.removeprefix(self._identity.addresses.iam))
        if found is None:
            raise said.bad("service_account_impersonation_url", "is not one of Google's IAM")
        return self._identity.impersonating(found.group(1), exchanged)

    def _file_or_url(self, source: Fields, part: Fields) -> Subject:
        if source.part("executable"):
            raise source.bad("executable", "is not run: a ConfigMap could name any program")
        if source.text("environment_id"):
            raise source.bad("environment_id", "is not served: name keys by awsSecurityCredentials")
        file, url = source.text("file"), source.text("url")
        shape = source.part("format") or Fields({}, f"{source.where}.format")
        if file and _is_same(Path(file), OWN_TOKEN):
            raise source.bad("file", "is the operator's own token, which nobody may borrow")
        if url and url != part.text("externalTokenEndpoint"):
            raise source.bad("url", "must be the store's externalTokenEndpoint")
        if not (file or url):
            raise source.bad("file", "or url is needed")
        read = self._reading_file(file) if file else self._reading_url(url, source)

        async def subject() -> Secret:
            text = await read()
            if shape.choice("type", ("text", "json"), "text") == "text":
                return Secret(text.strip())
            field = shape.required("subject_token_field_name")
            return Secret(_json(text, source.where).required(field))

        return subject

    def _reading_file(self, file: str) -> Callable[[], Awaitable[str]]:
        async def read() -> str:
            try:
                found = _small_file(Path(file))
            except OSError as error:
                raise Unavailable("google-token", f"cannot read {file}: {error.strerror}") from None
            if found is None:
                raise Invalid("google-token", f"{file} is no file that holds a token")
            return found.decode(errors="replace")

        return read

    def _reading_url(self, url: str, source: Fields) -> Callable[[], Awaitable[str]]:
        headers = source.labels("headers")

        async def read() -> str:
            reply = await self._http.request("GET", url, headers=headers, timeout=10)
            if reply.status != 200:
                raise Unavailable("google-token", f"{url} answers {reply.status}")
            return reply.body.decode(errors="replace")

        return read


def _is_same(one: Path, other: Path) -> bool:
    """Whether two paths lead to one file, however they are written."""
    try:
        return one.resolve() == other.resolve() or one.samefile(other)
    except (OSError, RuntimeError, ValueError):
        return False


def _small_file(path: Path) -> bytes | None:
    """A file's content; None for what has no end, or makes whoever reads it wait. Raises OSError.

    Whoever writes the ConfigMap names it: devices, pipes and what the kernel makes up say nothing
    of their size.
    """
    said = path.stat()
    if not stat.S_ISREG(said.st_mode) or not 0 < said.st_size <= TOKEN_BYTES:
        return None
    with path.open("rb") as file:
        return file.read(TOKEN_BYTES)


def _json(text: str, where: str) -> Fields:
    try:
        return Fields(orjson.loads(text), where)
    except orjson.JSONDecodeError:
        raise Invalid("google-key", f"{where} is not JSON") from None


def _key_of(text: str, where: str) -> Mapping[str, Any]:
    found = _json(text, where)
    found.choice("type", ("service_account",), "service_account")
    return found.raw()
