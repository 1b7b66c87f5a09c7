"""The Vault provider: KV v1 and v2 of Strongroom's store, Vault and OpenBao.

Fields and key forms: https://external-secrets.io/latest/provider/hashicorp-vault/.
"""

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from strongroom.model.clock import Clock
from strongroom.model.errors import Denied, Invalid, NotFound, Unavailable
from strongroom.model.secret import Secret
from strongroom.sync.providers.contract import Fetched
from strongroom.sync.spec import RemoteRef
from strongroom.wire.client import HttpClient
from strongroom.wire.vault import VaultClient

RENEW_AT: Final = 0.66
# A login gives a token and the seconds it lives, 0 for ever.
Login = Callable[[VaultClient], Awaitable[tuple[Secret, int]]]


@dataclass(frozen=True, slots=True)
class VaultSettings:
    """The parts of a store's `spec.provider.vault` that say where."""

    server: str
    mount: str
    version: str
    namespace: str
    ca: str

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], ca: str = "") -> "VaultSettings":
        """Read the spec; `ca` is what a caProvider gave. Raises Invalid."""
        server = str(spec.get("server") or "")
        if not server.startswith(("http://", "https://")):
            raise Invalid("bad-server", "spec.provider.vault.server must be a URL")
        version = str(spec.get("version") or "v2")
        if version not in ("v1", "v2"):
            raise Invalid("bad-version", "spec.provider.vault.version must be v1 or v2")
        bundle = str(spec.get("caBundle") or "")
        if bundle:
            try:
                ca = base64.b64decode(bundle, validate=True).decode()
            except (binascii.Error, UnicodeDecodeError):
                raise Invalid("bad-ca", "caBundle is not base64 of PEM") from None
        mount = str(spec.get("path") or "").strip("/")
        return cls(server.rstrip("/"), mount, version, str(spec.get("namespace") or ""), ca)


def split_key(key: str, settings: VaultSettings) -> tuple[str, str]:
    """Mount and path of a remote key in any of the forms users write; raises Invalid.

    With a mount in the store, its name and `data/` may stand before the path or not; without
    one the first segment is the mount.
    """
    key = key.strip("/")
    mount = settings.mount
    if mount:
        path = key.removeprefix(f"{mount}/") if key.startswith(f"{mount}/") else key
    else:
        mount, _, path = key.partition("/")
    if (
        settings.version == "v2"
        and path.startswith("data/")
        and (path != key or not settings.mount)
    ):
        path = path.removeprefix("data/")
    if not mount or not path:
        raise Invalid("bad-remote-key", f"the remote key {key!r} has no mount or path")
    return mount, path


class VaultProvider:
    """One server and one identity; logs in when it has to."""

    def __init__(self, settings: VaultSettings, login: Login, clock: Clock) -> None:
        self._settings = settings
        self._login = login
        self._clock = clock
        self._http = HttpClient(ca_data=settings.ca)
        self._client = VaultClient(settings.server, None, self._http, settings.namespace)
        self._renew_after = 0.0
        self._entry = asyncio.Lock()

    async def _ready(self) -> VaultClient:
        async with self._entry:
            if self._client.token is None or self._clock.monotonic() >= self._renew_after:
                token, seconds = await self._login(self._client)
                self._client.token = token
                life = seconds * RENEW_AT if seconds else float("inf")
                self._renew_after = self._clock.monotonic() + life
        return self._client

    async def validate(self) -> None:
        await self._ready()

    async def fetch(self, ref: RemoteRef) -> Fetched:
        try:
            return await self._fetch(await self._ready(), ref)
        except Denied:
            # The login may have been revoked; one fresh one tells that from a missing policy.
            self._client.token = None
            return await self._fetch(await self._ready(), ref)

    async def _fetch(self, client: VaultClient, ref: RemoteRef) -> Fetched:
        mount, path = split_key(ref.key, self._settings)
        if self._settings.version == "v1":
            reply = await client.request("GET", f"{mount}/{path}")
            return Fetched(f"{mount}/{path}", 0, reply["data"])
        if ref.metadata:
            metadata = await client.kv2_metadata(mount, path)
            custom = metadata.get("custom_metadata") or {}
            return Fetched(f"{mount}/data/{path}", int(metadata["current_version"]), custom)
        if ref.version and not ref.version.isdigit():
            raise Invalid("bad-version", f"version {ref.version!r} is no number")
        found = await client.kv2_read(mount, path, int(ref.version or 0))
        if found.deletion_time or found.destroyed:
            raise NotFound(
                "version-gone", f"{ref.key} version {found.version} is deleted or destroyed"
            )
        return Fetched(f"{mount}/data/{path}", found.version, found.data)

    async def changes(self) -> AsyncIterator[str]:
        client = await self._ready()
        try:
            async for event in client.subscribe("kv*"):
                metadata = (event.get("data") or {}).get("event", {}).get("metadata", {})
                path = metadata.get("data_path") or metadata.get("path")
                if isinstance(path, str):
                    yield path
        except Unavailable as refusal:
            # Servers without events answer the handshake with a status; that is no outage.
            if any(f"status {status}" in refusal.message for status in (400, 404, 405)):
                return
            raise

    async def close(self) -> None:
        await self._http.close()
