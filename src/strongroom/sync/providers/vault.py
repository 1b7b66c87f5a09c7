"""The Vault provider: KV v1 and v2 of Strongroom's store, Vault and OpenBao.

Fields and key forms: https://external-secrets.io/latest/provider/hashicorp-vault/.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

from strongroom.model.clock import Clock
from strongroom.model.digits import whole_number
from strongroom.model.errors import Conflict, Denied, Invalid, NotFound, Refusal, Unavailable
from strongroom.model.secret import Secret
from strongroom.sync.providers.contract import (
    MANAGED_BY,
    Change,
    Fetched,
    Find,
    History,
    OneByOne,
    Pushed,
    PushTarget,
    Traits,
    is_ours,
    not_ours,
    understood,
)
from strongroom.sync.providers.fields import Fields
from strongroom.sync.providers.objects import as_value, pushed_object
from strongroom.sync.providers.references import References, Surroundings
from strongroom.sync.providers.session import Session
from strongroom.sync.providers.vault_feed import Past, changed_path
from strongroom.sync.providers.vault_login import Login, kind_of, login_of, no_login, passed_over
from strongroom.sync.spec import RemoteRef
from strongroom.sync.values import Escaped
from strongroom.wire.client import HttpClient, Route
from strongroom.wire.tls import ClientPem
from strongroom.wire.vault import Query, VaultClient

R = TypeVar("R")
READS_AT_ONCE: Final = 16
# KV v1 has no metadata of its own: the mark of what we wrote is a key of the secret.
_MARK: Final = "custom_metadata"
# What the server keeps of a secret that is told with its custom metadata, which count before it.
_OF_SYSTEM: Final = ("created_time", "current_version", "delete_version_after")
_MARKED: Final = {MANAGED_BY[0]: MANAGED_BY[1]}


@dataclass(frozen=True, slots=True)
class VaultSettings:
    """The parts of a store's `spec.provider.vault` that say where; `ca` is PEM."""

    server: str
    mount: str = ""
    version: str = "v2"
    namespace: str = ""
    ca: str = ""
    login_namespace: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    read_your_writes: bool = False
    route: Route = field(default_factory=Route)

    @classmethod
    def from_spec(cls, spec: Fields, ca: str = "") -> "VaultSettings":
        """Read the spec; raises Invalid."""
        server = spec.required("server")
        if not server.startswith(("http://", "https://")):
            raise spec.bad("server", "must be a URL")
        headers = spec.labels("headers")
        if spec.flag("forwardInconsistent"):
            headers["X-Vault-Inconsistent"] = "forward-active-node"
        # `checkAndSet.required` needs no answer: every write is against the version that was read.
        auth = spec.part("auth")
        return cls(
            server=server.rstrip("/"),
            mount=spec.text("path").strip("/"),
            version=spec.choice("version", ("v1", "v2"), "v2"),
            namespace=spec.text("namespace"),
            ca=ca,
            login_namespace=auth.text("namespace") if auth else "",
            headers=headers,
            read_your_writes=spec.flag("readYourWrites"),
        )


def split_key(key: str, settings: VaultSettings) -> tuple[str, str]:
    """Mount and path of a remote key in any of the forms users write; raises Invalid.

    With a mount in the store, its name and `data/` may stand before the path or not; without
    one the mount is what stands before `/data/` of KV v2, or else the first segment.
    """
    key = key.strip("/")
    mount = settings.mount
    if mount:
        path = key.removeprefix(f"{mount}/") if key.startswith(f"{mount}/") else key
        if settings.version == "v2" and path != key:
            path = path.removeprefix("data/")
    else:
        of_data = settings.version == "v2" and "/data/" in key
        mount, _, path = key.partition("/data/" if of_data else "/")
    if not mount or not path:
        raise Invalid("bad-remote-key", f"the remote key {key!r} has no mount or path")
    if _is_relative(f"{mount}/{path}"):
        raise Invalid("bad-remote-key", f"the remote key {key!r} has relative segments")
    return mount, path


def _is_relative(path: str) -> bool:
    """Whether an HTTP client would take parts of it as steps, out of the mount of the store."""
    return not {".", ".."}.isdisjoint(path.split("/"))


def pushed_tags(target: PushTarget, tags: Mapping[str, str]) -> dict[str, str]:
    """The custom metadata of a pushed secret of KV v2; the mark is nobody's to change. Pure.

    `customMetadata` of the push's metadata are laid over those that are there, or with
    `mergePolicy: Replace` put in their place. Raises Invalid.
    """
    meta = Fields(target.metadata, "metadata.spec")
    kept = tags if meta.choice("mergePolicy", ("Merge", "Replace"), "Merge") == "Merge" else {}
    return {**kept, **meta.labels("customMetadata"), **_MARKED}


async def build(spec: Fields, references: References, around: Surroundings) -> "VaultProvider":
    """The provider of `spec.provider.vault` or `openBao`; raises Invalid."""
    settings = VaultSettings.from_spec(spec, await references.authority(spec))
    settings = replace(settings, route=references.route)
    auth = spec.part("auth")
    pem = await _client_pem(spec, auth, references)
    if auth is None:
        return VaultProvider(settings, no_login, around.clock, pem)
    login = login_of(auth, references, around)
    own = kind_of(auth) != "tokenSecretRef"
    provider = VaultProvider(settings, login, around.clock, pem, own=own)
    provider.traits = replace(provider.traits, notes=passed_over(auth))
    return provider


async def _client_pem(
    spec: Fields, auth: Fields | None, references: References
) -> ClientPem | None:
    tls, cert = spec.part("tls"), auth.part("cert") if auth else None
    if auth and cert and kind_of(auth) == "cert":
        pair = cert.needed("clientCert"), cert.needed("secretRef")
    elif tls:
        pair = tls.needed("certSecretRef"), tls.needed("keySecretRef")
    else:
        return None
    return ClientPem(
        await references.text(pair[0], "tls.crt"), await references.secret(pair[1], "tls.key")
    )


class VaultProvider(OneByOne):
    """One server and one identity; logs in when it has to. Implements Provider."""

    traits = Traits("ReadWrite")

    def __init__(
        self,
        settings: VaultSettings,
        login: Login,
        clock: Clock,
        pem: ClientPem | None = None,
        *,
        own: bool = False,
    ) -> None:
        # Whether the token is one that it logged in for, and so may renew and revoke.
        self.own = own
        self._settings = settings
        self._http = HttpClient(ca_data=settings.ca, client_pem=pem, route=settings.route)
        self._client = VaultClient(
            settings.server, None, self._http, settings.namespace,
            headers=settings.headers, read_your_writes=settings.read_your_writes,
        )  # fmt: skip
        self._login = login
        self._session = Session(self._enter, clock)
        self._at_once = asyncio.Semaphore(READS_AT_ONCE)

    async def _enter(self) -> tuple[Secret, float]:
        where = self._settings.login_namespace
        client = self._client.in_namespace(where or self._settings.namespace)
        token, seconds = await self._login(client)
        self._client.token = token
        return token, seconds

    async def _use(self, work: Callable[[Secret], Awaitable[R]], *what: str) -> R:
        """Do something with the session; a reply without what it must have is no answer.

        `what` tells it apart from what else is asked for, where the identity may not.
        """
        with understood("the store"):
            return await self._session.use(work, what or None)

    async def request(
        self, method: str, path: str, body: Mapping[str, Any] | None, query: Query
    ) -> dict[str, Any]:
        """Any path of the server, for generators; {} for an answer without a body."""

        async def ask(_: Secret) -> dict[str, Any]:
            return await self._client.request(method, path, body, query)

        return await self._use(ask, method, path)

    async def validate(self) -> None:
        async def look(_: Secret) -> None:
            await self._client.request("GET", "auth/token/lookup-self")

        await self._use(look)

    # reading

    async def fetch(self, ref: RemoteRef) -> Fetched:
        async def read(_: Secret) -> Fetched:
            async with self._at_once:
                return await self._fetch(*split_key(ref.key, self._settings), ref)

        try:
            return await self._use(read, "read", ref.key)
        except Conflict as refusal:
            # 412: this replica has not seen what we wrote yet.
            raise Unavailable("store-behind", refusal.message) from None

    async def _fetch(self, mount: str, path: str, ref: RemoteRef) -> Fetched:
        if self._settings.version == "v1":
            if ref.metadata:
                raise Invalid("no-metadata", "KV v1 has no metadata", hint="use a KV v2 mount")
            held = (await self._client.request("GET", f"{mount}/{path}")).get("data")
            if not isinstance(held, dict):
                raise Invalid("no-data", f"{mount}/{path} holds no keys", hint="is it KV v1?")
            data = {name: value for name, value in held.items() if value != _MARKED}
            return Fetched(f"{mount}/{path}", 0, Escaped(data))
        if ref.metadata:
            metadata = await self._client.kv2_metadata(mount, path)
            said = {
                each: str(metadata[each]) for each in _OF_SYSTEM if metadata.get(each) is not None
            }
            said |= metadata.get("custom_metadata") or {}
            return Fetched(f"{mount}/data/{path}", int(metadata["current_version"]), Escaped(said))
        version = whole_number(ref.version or "0")
        if version is None:
            raise Invalid("bad-version", f"version {ref.version!r} of {ref.key} is no number")
        found = await self._client.kv2_read(mount, path, version)
        if found.deletion_time or found.destroyed:
            raise NotFound(
                "version-gone", f"{ref.key} version {found.version} is deleted or destroyed"
            )
        return Fetched(f"{mount}/data/{path}", found.version, Escaped(found.data))

    async def find(self, wanted: Find) -> Mapping[str, Fetched]:
        mount, start, shown = self._where_to_look(wanted.path)
        if wanted.tags and self._settings.version == "v1":
            raise Invalid("no-metadata", "KV v1 has no tags to find by", hint="use a KV v2 mount")

        async def look(_: Secret) -> Mapping[str, Fetched]:
            every = [shown + each async for each in self._names(mount, start)]
            names = [each for each in every if wanted.wants(each)]
            found = await asyncio.gather(
                *(
                    self._found(mount, start + each.removeprefix(shown), each, wanted)
                    for each in names
                )
            )
            return {name: each for name, each in zip(names, found, strict=True) if each}

        return await self._use(look, "find", wanted.path)

    def _where_to_look(self, path: str) -> tuple[str, str, str]:
        """Mount, the folder in it, and what the names of its secrets begin with.

        Names begin with `find.path` as it was written.
        """
        folder = f"{path.strip('/')}/".lstrip("/")
        if _is_relative(folder):
            raise Invalid("bad-find", f"find.path {path!r} has relative segments")
        if self._settings.mount:
            return self._settings.mount, folder, folder
        of_data = self._settings.version == "v2" and "/data/" in folder
        mount, _, rest = folder.partition("/data/" if of_data else "/")
        if not mount:
            raise Invalid(
                "bad-find", "find.path must begin with the mount, for the store names no path"
            )
        return mount, rest, folder

    async def _names(self, mount: str, folder: str) -> AsyncIterator[str]:
        """Every name below a folder; one request for each folder. Raises NotFound for none."""
        place = f"{mount}/metadata" if self._settings.version == "v2" else mount
        query = {"list": "true"}
        try:
            reply = await self._client.request("GET", f"{place}/{folder}", query=query)
        except NotFound as refusal:
            said = f"nothing is below {mount}/{folder}"
            hint = "write what find looks for, or correct find.path"
            raise NotFound(refusal.code, said, hint=hint) from None
        pages = [("", [str(each) for each in reply.within("data").listed("keys")])]
        while pages:
            at, names = pages.pop()
            for name in names:
                if name.endswith("/"):
                    inner = f"{at}{name}"
                    pages.append((inner, await self._client.list(f"{place}/{folder}{inner}")))
                else:
                    yield at + name

    async def _found(self, mount: str, path: str, name: str, wanted: Find) -> Fetched | None:
        async with self._at_once:
            try:
                if wanted.tags:
                    metadata = await self._client.kv2_metadata(mount, path)
                    if not wanted.wants(name, metadata.get("custom_metadata") or {}):
                        return None
                return await self._fetch(mount, path, RemoteRef(path, metadata=wanted.metadata))
            except NotFound:
                # Deleted, or gone since it was listed.
                return None

    # writing

    async def push(self, target: PushTarget, value: Secret) -> Pushed:
        mount, path = split_key(target.key, self._settings)

        async def write(_: Secret) -> Pushed:
            before, version, tags = await self._stored(mount, path)
            if before is not None and not is_ours(tags):
                raise not_ours(target.key)
            after = dict(before or {})
            if target.property:
                after[target.property] = as_value(value.reveal(), target.key)
            else:
                after = pushed_object(value.reveal(), target.key)
            told = self._settings.version == "v2" and await self._tell(target, tags)
            if after == before:
                return Pushed(changed=told, version=version)
            return Pushed(changed=True, version=await self._write(mount, path, after, version))

        return await self._use(write, "push", target.key)

    async def _tell(self, target: PushTarget, tags: Mapping[str, str]) -> bool:
        """Write custom metadata that differ; before the data, so that what is there has its mark.

        A push that breaks off between the two is then taken up by the next one.
        """
        wanted = pushed_tags(target, tags)
        if wanted == tags:
            return False
        mount, path = split_key(target.key, self._settings)
        await self._client.request("POST", f"{mount}/metadata/{path}", {"custom_metadata": wanted})
        return True

    async def _stored(
        self, mount: str, path: str
    ) -> tuple[dict[str, Any] | None, int, dict[str, str]]:
        """What is there (None: nothing), its version, and its custom metadata."""
        if self._settings.version == "v1":
            try:
                data = (await self._client.request("GET", f"{mount}/{path}")).within("data")
            except NotFound:
                return None, 0, {}
            return data, 0, dict(data.pop(_MARK, None) or {})
        try:
            found = await self._client.kv2_read(mount, path)
        except NotFound:
            found = None
        try:
            metadata = await self._client.kv2_metadata(mount, path)
        except NotFound:
            return None, 0, {}
        tags = dict(metadata.get("custom_metadata") or {})
        if found is None:
            # Its metadata were written before its first version, and stay.
            return None, 0, tags
        gone = bool(found.deletion_time or found.destroyed)
        return (None if gone else dict(found.data)), found.version, tags

    async def _write(self, mount: str, path: str, data: dict[str, Any], version: int) -> int:
        if self._settings.version == "v1":
            await self._client.request("POST", f"{mount}/{path}", {**data, _MARK: _MARKED})
            return 0
        try:
            # Against the version that was read: another writer's properties are never lost.
            return await self._client.kv2_write(mount, path, data, version)
        except Invalid as refusal:
            if "check-and-set" in refusal.message:
                raise Conflict("store-conflict", f"{path} was written meanwhile") from None
            raise

    async def delete(self, target: PushTarget) -> None:
        mount, path = split_key(target.key, self._settings)

        async def remove(_: Secret) -> None:
            before, version, tags = await self._stored(mount, path)
            if before is None or not is_ours(tags):
                return
            rest = {name: each for name, each in before.items() if name != target.property}
            if target.property and rest:
                if rest != before:
                    await self._write(mount, path, rest, version)
                return
            kind = "metadata/" if self._settings.version == "v2" else ""
            await self._client.request("DELETE", f"{mount}/{kind}{path}")

        await self._use(remove, "delete", target.key)

    async def exists(self, target: PushTarget) -> bool:
        try:
            found = await self.fetch(RemoteRef(target.key))
        except NotFound:
            return False
        return not target.property or target.property in found.data

    # the rest of a life

    async def changes(self, since: str = "") -> AsyncIterator[Change | History]:
        await self._session.enter()
        past: Past | None = None
        try:
            async for event in self._client.subscribe("kv*", since):
                kind = str((event.get("data") or {}).get("event_type") or "")
                position = str(event.get("position") or event.get("id") or "")
                if kind == "strongroom/history":
                    past = past or Past()
                    past.add(event)
                elif kind == "strongroom/present" and past is not None:
                    yield History(past.versions, position, past.whole, past.unsure_before)
                    past = None
                elif path := changed_path(event, kind):
                    yield Change(path, position)
        except Unavailable as refusal:
            # Servers without events answer the handshake with a status; that is no outage.
            if any(f"status {status}" in refusal.message for status in (400, 404, 405)):
                return
            if "status 403" in refusal.message:
                raise Denied("feed-denied", "this identity may not follow changes") from None
            raise
        # Closed in good order, as by a server that restarts; others go on where it left off.
        raise Unavailable("feed-ended", "the store has closed the change feed")

    async def renew(self) -> float:
        """Prolong the token that it logged in for; the seconds it has. Raises a Refusal."""
        try:
            with understood("the store"):
                said = await self._client.request("POST", "auth/token/renew-self", {})
                return float(said["auth"]["lease_duration"])
        finally:
            await self._http.close()

    async def ask(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Post something by the token that it logged in for; raises a Refusal."""
        try:
            return await self._client.request("POST", path, body)
        finally:
            await self._http.close()

    async def leave(self) -> None:
        """Revoke the token that it logged in for, and what was made with it; raises a Refusal."""
        try:
            if self.own and self._client.token:
                await self._client.request("POST", "auth/token/revoke-self")
                self._client.token = None
        finally:
            await self._http.close()

    async def rest(self) -> None:
        """Close connections and keep the token, which ends by its time."""
        await self._http.close()

    async def close(self) -> None:
        # A server that is away ends the token by its time.
        with contextlib.suppress(Refusal):
            await self.leave()
