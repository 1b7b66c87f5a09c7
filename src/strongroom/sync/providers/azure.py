"""Azure Key Vault: secrets, keys and certificates.

Fields: https://external-secrets.io/latest/provider/azure-key-vault/; API:
https://learn.microsoft.com/rest/api/keyvault/.
"""

import asyncio
import base64
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from strongroom.crypto.pem_keys import leaf_der, private_jwk
from strongroom.model.clock import Clock, parse_rfc3339
from strongroom.model.errors import Conflict, Invalid, NotFound, Unavailable
from strongroom.model.secret import Secret
from strongroom.sync.providers.azure_session import (
    AzureLogin,
    cloud_of,
    is_own,
    stays_in_cloud,
)
from strongroom.sync.providers.contract import (
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
    marked_tags,
    not_ours,
    push_metadata,
    understood,
)
from strongroom.sync.providers.fields import Fields
from strongroom.sync.providers.objects import (
    as_value,
    with_property,
    without_property,
)
from strongroom.sync.providers.references import References, Surroundings
from strongroom.sync.providers.session import Session
from strongroom.sync.spec import RemoteRef
from strongroom.sync.values import Data, Tags
from strongroom.wire.client import HttpClient
from strongroom.wire.rest import RestApi

API_VERSION: Final = {"api-version": "7.4"}
READS_AT_ONCE: Final = 16
RECOVERY_SECONDS: Final = 60.0
_SERVICE: Final = "Azure Key Vault"
_NAME: Final = re.compile(r"[0-9a-zA-Z-]{1,127}")
# What stands before a name in a remote key, and the collection it means.
_KINDS: Final = {"secret": "secrets", "key": "keys", "cert": "certificates"}
# An attribute of every object, by the name that manifests know it under.
_TIMES: Final = {"expires": "exp", "created": "created", "updated": "updated", "notBefore": "nbf"}


async def build(spec: Fields, references: References, around: Surroundings) -> Provider:
    """The provider of `spec.provider.azurekv`; raises Invalid."""
    url = spec.required("vaultUrl").rstrip("/")
    if not url.startswith(("https://", "http://")):
        raise spec.bad("vaultUrl", "must be a URL")
    http = HttpClient()
    cloud = cloud_of(spec, around.environment)
    domain = cloud.resource.removeprefix("https://")
    if is_own(spec) and not stays_in_cloud(spec, url, domain):
        references.lend(spec)
    login = AzureLogin(cloud, references, around, http).of(spec)
    api = RestApi("azure", url, http, around.clock)
    return AzureKeyVault(api, Session(login, around.clock), http, around.clock)


def split_key(key: str) -> tuple[str, str]:
    """Collection and name of a remote key; raises Invalid. Pure."""
    kind, slash, name = key.partition("/")
    if not slash:
        kind, name = "secret", key
    if kind not in _KINDS or not _NAME.fullmatch(name):
        raise Invalid(
            "bad-remote-key",
            f"the remote key {key!r} is not NAME, secret/NAME, key/NAME or cert/NAME",
        )
    return _KINDS[kind], name


class AzureKeyVault(OneByOne):
    """One vault and one identity. Implements Provider."""

    traits = Traits("ReadWrite")

    def __init__(
        self, api: RestApi, session: Session[Secret], http: HttpClient, clock: Clock
    ) -> None:
        self._api = api
        self._session = session
        self._http = http
        self._clock = clock
        self._at_once = asyncio.Semaphore(READS_AT_ONCE)

    async def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        # A link to the next page brings its version with it.
        query = None if "api-version=" in path else API_VERSION
        async with self._at_once:
            return await self._session.use(
                lambda token: self._api.call(method, path, token, body, query), (method, path)
            )

    async def validate(self) -> None:
        # A login is what can be proven: no permission is common to all who may read a secret.
        await self._session.enter()

    # reading

    async def fetch(self, ref: RemoteRef) -> Fetched:
        kind, name = split_key(ref.key)
        try:
            said = await self._call("GET", f"{kind}/{name}/{_version(ref.version)}")
        except NotFound as refusal:
            raise absent(refusal, ref.key, ref.version) from None
        with understood(_SERVICE):
            found = said["key"]["kid"] if kind == "keys" else said["id"]
            data: Data = _content(kind, said)
            if ref.metadata:
                data = Tags(name, _tags(said) | _times(said))
            return Fetched(f"{kind}/{name}", str(found).rpartition("/")[2], data)

    async def find(self, wanted: Find) -> Mapping[str, Fetched]:
        """Enabled secrets; names have no folders, so a path means nothing here."""
        names: list[str] = []
        pages, page = Pages(_SERVICE), await self._call("GET", "secrets")
        while True:
            with understood(_SERVICE):
                for each in page["value"]:
                    name = each["id"].rpartition("/")[2]
                    enabled = each["attributes"].get("enabled", True)
                    if enabled and wanted.wants(name, _tags(each)):
                        names.append(name)
            link = pages.next(page.get("nextLink"))
            if not link:
                break
            page = await self._call("GET", link)
        return await self.fetch_named(names, metadata=wanted.metadata)

    # writing

    async def push(self, target: PushTarget, value: Secret) -> Pushed:
        kind, name = split_key(target.key)
        meta = push_metadata(target, "expirationDate", "tags", "contentType")
        tags = marked_tags(meta)
        before = await self._stored(kind, name)
        if before is not None and not is_ours(_tags(before)):
            raise not_ours(target.key)
        if kind == "secrets":
            return await self._push_secret(target, value.reveal(), before, meta, tags)
        if target.property:
            raise Invalid("bad-push", f"{target.key} has no properties that could be pushed")
        if kind == "keys":
            return await self._push_key(name, value.reveal(), before, tags)
        return await self._push_certificate(name, value.reveal(), before, tags)

    async def _stored(self, kind: str, name: str) -> dict[str, Any] | None:
        try:
            return await self._call("GET", f"{kind}/{name}/")
        except NotFound:
            return None

    async def _push_secret(
        self,
        target: PushTarget,
        value: bytes,
        before: dict[str, Any] | None,
        meta: Fields,
        tags: dict[str, str],
    ) -> Pushed:
        old = str(before["value"]) if before else None
        if target.property:
            value = with_property(
                old.encode() if old is not None else None, target.key, target.property, value
            )
        text, expires = as_value(value, target.key), _epoch(meta)
        attributes: dict[str, Any] = {"enabled": True}
        if expires is not None:
            attributes["exp"] = expires
        body: dict[str, Any] = {"value": text, "tags": tags, "attributes": attributes}
        content_type = meta.text("contentType")
        if content_type or (before or {}).get("contentType"):
            body["contentType"] = content_type or (before or {})["contentType"]
        if before and old == text and _same(before, body):
            return Pushed(changed=False, version=_id_version(before))
        name = split_key(target.key)[1]
        return Pushed(changed=True, version=_id_version(await self._set(name, body)))

    async def _set(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Write; a secret that was deleted before is brought back first, as its name is kept."""
        try:
            return await self._call("PUT", f"secrets/{name}", body)
        except Conflict:
            await self._call("POST", f"deletedsecrets/{name}/recover")
        until = self._clock.monotonic() + RECOVERY_SECONDS
        while await self._stored("secrets", name) is None:
            if self._clock.monotonic() >= until:
                raise Unavailable("azure-recovering", f"{name} is not recovered yet")
            await self._clock.sleep(2.0)
        return await self._call("PUT", f"secrets/{name}", body)

    async def _push_key(
        self, name: str, value: bytes, before: dict[str, Any] | None, tags: dict[str, str]
    ) -> Pushed:
        key = private_jwk(value)
        old = (before or {}).get("key") or {}
        public = {part: key[part] for part in ("kty", "n", "e", "crv", "x", "y") if part in key}
        if old and all(old.get(part) == each for part, each in public.items()):
            return Pushed(changed=False, version=str(old["kid"]).rpartition("/")[2])
        said = await self._call("PUT", f"keys/{name}", {"key": key, "tags": tags})
        with understood(_SERVICE):
            return Pushed(changed=True, version=said["key"]["kid"].rpartition("/")[2])

    async def _push_certificate(
        self, name: str, value: bytes, before: dict[str, Any] | None, tags: dict[str, str]
    ) -> Pushed:
        leaf = leaf_der(value)
        if before and before.get("cer") and base64.b64decode(before["cer"]) == leaf:
            return Pushed(changed=False, version=_id_version(before))
        body: dict[str, Any] = {"value": base64.b64encode(value).decode(), "tags": tags}
        if value.startswith(b"-----BEGIN"):
            # PEM goes as it is, and says so.
            kind = {"contentType": "application/x-pem-file"}
            body = {"value": value.decode(), "tags": tags, "policy": {"secret_props": kind}}
        said = await self._call("POST", f"certificates/{name}/import", body)
        return Pushed(changed=True, version=_id_version(said))

    async def delete(self, target: PushTarget) -> None:
        kind, name = split_key(target.key)
        before = await self._stored(kind, name)
        if before is None or not is_ours(_tags(before)):
            return
        if target.property and kind == "secrets":
            old = str(before["value"]).encode()
            rest = without_property(old, target.key, target.property)
            if rest is not None:
                if rest != old:
                    kept = {"value": rest.decode(), "tags": _tags(before), **_lasting(before)}
                    await self._call("PUT", f"secrets/{name}", kept)
                return
        await self._call("DELETE", f"{kind}/{name}")

    async def close(self) -> None:
        await self._http.close()


def _version(version: str) -> str:
    if version and not version.isalnum():
        raise Invalid("bad-version", f"{version!r} is no version of Key Vault")
    return version


def _content(kind: str, said: Mapping[str, Any]) -> bytes:
    """The value; of a certificate its DER; of a key the public JWK."""
    if kind == "certificates":
        return base64.b64decode(said["cer"], validate=True)
    if kind == "keys":
        return orjson.dumps(said["key"])
    return str(said["value"]).encode()


def _tags(said: Mapping[str, Any]) -> dict[str, str]:
    return dict(said.get("tags") or {})


def _times(said: Mapping[str, Any]) -> dict[str, str]:
    attributes = said.get("attributes") or {}
    return {
        f"attribute.{name}": datetime.fromtimestamp(attributes[field], UTC).strftime(
            "%Y-%m-%dT%H:%M:%SZ"
        )
        for name, field in _TIMES.items()
        if field in attributes
    }


def _lasting(before: Mapping[str, Any]) -> dict[str, Any]:
    """What a new version would lose of the one before it unless it is said again."""
    held = before.get("attributes") or {}
    attributes = {each: held[each] for each in ("enabled", "exp", "nbf") if each in held}
    kind = {"contentType": before["contentType"]} if before.get("contentType") else {}
    return {"attributes": attributes, **kind}


def _same(before: Mapping[str, Any], body: Mapping[str, Any]) -> bool:
    expires = (before.get("attributes") or {}).get("exp")
    return bool(
        expires == body["attributes"].get("exp")
        and before.get("contentType") == body.get("contentType")
    )


def _id_version(said: Mapping[str, Any]) -> str:
    with understood(_SERVICE):
        return str(said["id"]).rpartition("/")[2]


def _epoch(meta: Fields) -> int | None:
    text = meta.text("expirationDate")
    if not text:
        return None
    try:
        return int(parse_rfc3339(text))
    except ValueError:
        raise meta.bad("expirationDate", "is no time such as 2030-12-31T20:00:00Z") from None
