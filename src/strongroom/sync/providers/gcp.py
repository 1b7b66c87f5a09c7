"""Google Secret Manager, global and regional.

Fields: https://external-secrets.io/latest/provider/google-secrets-manager/; API:
https://cloud.google.com/secret-manager/docs/reference/rest.
"""

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import quote

from strongroom.model.errors import Invalid, NotFound
from strongroom.model.secret import Secret
from strongroom.sync.providers.contract import (
    MANAGED_BY,
    Fetched,
    Find,
    OneByOne,
    Pages,
    Provider,
    Pushed,
    PushTarget,
    Traits,
    absent,
    is_ours,
    not_ours,
    push_metadata,
    understood,
)
from strongroom.sync.providers.fields import Fields
from strongroom.sync.providers.gcp_session import LOGINS, GcpLogin
from strongroom.sync.providers.objects import with_property, without_property
from strongroom.sync.providers.references import References, Surroundings
from strongroom.sync.providers.session import Session
from strongroom.sync.spec import RemoteRef
from strongroom.sync.values import Marks
from strongroom.wire.client import HttpClient
from strongroom.wire.google_identity import GoogleAddresses, GoogleIdentity
from strongroom.wire.rest import RestApi

READS_AT_ONCE: Final = 16
ENDPOINT: Final = "CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER"
_PUSHED: Final = (
    "annotations", "labels", "topics", "mergePolicy", "cmekKeyName", "replicationLocation",
    "replicationLocations",
)  # fmt: skip
_LOCATION: Final = re.compile(r"[a-z0-9-]{1,63}")
_SERVICE: Final = "Google Secret Manager"


@dataclass(frozen=True, slots=True)
class GcpSettings:
    """Project and, for regional secrets, location; `or_older` takes the newest enabled version."""

    project: str
    location: str = ""
    or_older: bool = False

    @classmethod
    def from_spec(cls, spec: Fields) -> "GcpSettings":
        """Read `spec.provider.gcpsm`; raises Invalid."""
        auth = spec.part("auth") or Fields({}, spec.where)
        cluster = auth.part("workloadIdentity") or Fields({}, spec.where)
        project = spec.text("projectID") or cluster.text("clusterProjectID")
        if not project:
            raise spec.bad("projectID", "is needed")
        location = spec.text("location")
        # A part of the host's name, to which the store's token is shown.
        if location and not _LOCATION.fullmatch(location):
            raise spec.bad("location", "must be a location such as europe-west1")
        policies = ("LatestOrFail", "LatestOrFetch")
        policy = spec.choice("secretVersionSelectionPolicy", policies, policies[0])
        return cls(project, location, policy == policies[1])

    @property
    def parent(self) -> str:
        """What secrets are made in and listed of."""
        where = f"/locations/{self.location}" if self.location else ""
        return f"projects/{self.project}{where}"

    @property
    def endpoint(self) -> str:
        """A location has an endpoint of its own."""
        where = f".{self.location}.rep" if self.location else ""
        return f"https://secretmanager{where}.googleapis.com"


async def build(spec: Fields, references: References, around: Surroundings) -> Provider:
    """The provider of `spec.provider.gcpsm`; raises Invalid."""
    settings, http = GcpSettings.from_spec(spec), HttpClient()
    identity = GoogleIdentity(http, around.clock, GoogleAddresses.of(around.environment))
    login = GcpLogin(identity, references, around, http)
    auth = spec.part("auth") or Fields({}, f"{spec.where}.auth")
    endpoint = around.environment.get(ENDPOINT) or settings.endpoint
    api = RestApi("google", endpoint, http, around.clock)
    made = GcpSecretManager(settings, api, Session(login.of(auth), around.clock), http)
    made.traits = replace(made.traits, notes=auth.passed_over(*LOGINS))
    return made


class GcpSecretManager(OneByOne):
    """One project and one identity. Implements Provider."""

    traits = Traits("ReadWrite")

    def __init__(
        self, settings: GcpSettings, api: RestApi, session: Session[Secret], http: HttpClient
    ) -> None:
        self._settings = settings
        self._api = api
        self._session = session
        self._http = http
        self._at_once = asyncio.Semaphore(READS_AT_ONCE)

    async def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        **query: str,
    ) -> dict[str, Any]:
        async with self._at_once:
            return await self._session.use(
                lambda token: self._api.call(method, f"v1/{path}", token, body, query),
                (method, path),
            )

    def _name(self, key: str) -> str:
        if not key or "/" in key:
            raise Invalid("bad-remote-key", f"the remote key {key!r} is no name of a secret")
        return f"{self._settings.parent}/secrets/{quote(key, safe='')}"

    async def validate(self) -> None:
        # A login is what can be proven: no permission is common to all who may read a secret.
        await self._session.enter()

    # reading

    async def fetch(self, ref: RemoteRef) -> Fetched:
        try:
            return await self._fetch(ref)
        except NotFound as refusal:
            raise absent(refusal, ref.key, ref.version) from None

    async def _fetch(self, ref: RemoteRef) -> Fetched:
        name = self._name(ref.key)
        if ref.metadata:
            return _metadata(await self._call("GET", name), ref.key)
        version = ref.version or "latest"
        try:
            return await self._access(name, ref.key, version)
        except Invalid as refusal:
            # A precondition: the version is disabled or destroyed.
            if ref.version or not self._settings.or_older or "state" not in refusal.message:
                raise
            return await self._access(name, ref.key, await self._newest_enabled(name))

    async def _access(self, name: str, key: str, version: str) -> Fetched:
        said = await self._call("GET", f"{name}/versions/{quote(version, safe='')}:access")
        with understood(_SERVICE):
            number = said["name"].rpartition("/")[2]
            payload = said["payload"].get("data", "")
            return Fetched(key, number, base64.b64decode(payload, validate=True))

    async def _newest_enabled(self, name: str) -> str:
        newest = 0
        async for entry in self._pages(f"{name}/versions", "versions", filter="state:ENABLED"):
            newest = max(newest, int(entry["name"].rpartition("/")[2]))
        if not newest:
            raise NotFound("google-not-found", "no version is enabled")
        return str(newest)

    async def _pages(self, path: str, field: str, **query: str) -> AsyncIterator[Mapping[str, Any]]:
        pages = Pages(_SERVICE)
        while True:
            page = await self._call("GET", path, None, **query)
            with understood(_SERVICE):
                entries = [each for each in page.get(field) or [] if each["name"]]
            for each in entries:
                yield each
            token = pages.next(page.get("nextPageToken"))
            if not token:
                return
            query["pageToken"] = token

    async def find(self, wanted: Find) -> Mapping[str, Fetched]:
        conditions = [f"labels.{key}={value}" for key, value in wanted.tags.items()]
        if wanted.path:
            conditions.append(f"name:{wanted.path}")
        query = {"filter": " AND ".join(conditions)} if conditions else {}
        names: list[str] = []
        async for entry in self._pages(f"{self._settings.parent}/secrets", "secrets", **query):
            key = str(entry["name"]).rpartition("/")[2]
            if key.startswith(wanted.path) and wanted.wants(key, entry.get("labels") or {}):
                names.append(key)
        return await self.fetch_named(names, metadata=wanted.metadata)

    # writing

    async def push(self, target: PushTarget, value: Secret) -> Pushed:
        name, meta = self._name(target.key), push_metadata(target, *_PUSHED)
        if target.property and target.metadata:
            raise Invalid("bad-push", "metadata and a property cannot be pushed together")
        secret = await self._secret(name)
        if secret is None:
            secret = await self._create(target.key, meta)
        elif not _ours(secret):
            raise not_ours(target.key)
        elif target.metadata:
            await self._settle(name, secret, meta)
        before = await self._latest(target)
        content = value.reveal()
        if target.property:
            old = before.data if before and isinstance(before.data, bytes) else None
            content = with_property(old, target.key, target.property, content)
        if before is not None and before.data == content:
            return Pushed(changed=False, version=before.version)
        return await self._add(name, content)

    async def _secret(self, name: str) -> dict[str, Any] | None:
        try:
            return await self._call("GET", name)
        except NotFound:
            return None

    async def _latest(self, target: PushTarget) -> Fetched | None:
        """What is there, None for nothing; raises Invalid where a property is the target's."""
        try:
            return await self._access(self._name(target.key), target.key, "latest")
        except NotFound:
            return None
        except Invalid as refusal:
            # Disabled or destroyed: the next version is the answer, but for a property. What else
            # a disabled one holds is not known, and would go.
            if target.property and "DESTROYED" not in refusal.message:
                raise
        try:
            # An older one, where that is what the store's readers have.
            return await self._fetch(RemoteRef(target.key))
        except (NotFound, Invalid):
            return None

    async def _create(self, key: str, meta: Fields) -> dict[str, Any]:
        body: dict[str, Any] = {"labels": meta.labels("labels") | dict([MANAGED_BY])}
        if meta.labels("annotations"):
            body["annotations"] = meta.labels("annotations")
        if meta.texts("topics"):
            body["topics"] = [{"name": each} for each in meta.texts("topics")]
        if not self._settings.location:
            body["replication"] = _replication(meta)
        self._name(key)
        return await self._call("POST", f"{self._settings.parent}/secrets", body, secretId=key)

    async def _settle(self, name: str, secret: Mapping[str, Any], meta: Fields) -> None:
        labels = meta.labels("labels") | dict([MANAGED_BY])
        if meta.choice("mergePolicy", ("Replace", "Merge"), "Replace") == "Merge":
            # Those that are there stay as they are, as the other controller has it.
            labels |= secret.get("labels") or {}
        annotations = meta.labels("annotations")
        if labels == secret.get("labels") and annotations == (secret.get("annotations") or {}):
            return
        body = {"labels": labels, "annotations": annotations, "etag": secret.get("etag", "")}
        await self._call("PATCH", name, body, updateMask="labels,annotations")

    async def _add(self, name: str, content: bytes) -> Pushed:
        body = {"payload": {"data": base64.b64encode(content).decode()}}
        said = await self._call("POST", f"{name}:addVersion", body)
        with understood(_SERVICE):
            return Pushed(changed=True, version=said["name"].rpartition("/")[2])

    async def delete(self, target: PushTarget) -> None:
        name = self._name(target.key)
        secret = await self._secret(name)
        if secret is None or not _ours(secret):
            return
        if target.property:
            before = await self._latest(target)
            old = before.data if before and isinstance(before.data, bytes) else b""
            rest = without_property(old, target.key, target.property)
            if rest is not None:
                if rest != old:
                    await self._add(name, rest)
                return
        etag = {"etag": str(secret["etag"])} if secret.get("etag") else {}
        await self._call("DELETE", name, None, **etag)

    async def close(self) -> None:
        await self._http.close()


def _metadata(secret: Mapping[str, Any], key: str) -> Fetched:
    """Labels and annotations; a property names one as `labels.team`."""
    said = {name: secret.get(name) or {} for name in ("annotations", "labels")}
    return Fetched(key, "", Marks(said))


def _ours(secret: Mapping[str, Any]) -> bool:
    return is_ours(secret.get("labels") or {})


def _replication(meta: Fields) -> dict[str, Any]:
    """Where copies are kept: wherever Google likes, or where the PushSecret says."""
    one = meta.text("replicationLocation")
    places = meta.texts("replicationLocations") or ((one,) if one else ())
    key = meta.text("cmekKeyName")
    sealed = {"customerManagedEncryption": {"kmsKeyName": key}} if key else {}
    if not places:
        return {"automatic": sealed}
    return {"userManaged": {"replicas": [{"location": each, **sealed} for each in places]}}
