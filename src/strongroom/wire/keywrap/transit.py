"""Transit of Strongroom, Vault or OpenBao.

The login must not need the cluster that the plugin protects: a token file, AppRole, or a JWT of
another issuer, each from files on the host.
API: https://developer.hashicorp.com/vault/api-docs/secret/transit.
"""

import asyncio
import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from strongroom.model.clock import Clock
from strongroom.model.errors import Denied, Invalid, Unavailable
from strongroom.model.secret import Secret
from strongroom.wire.client import HttpClient
from strongroom.wire.vault import VaultClient

RENEW_AT = 0.66
# A login younger than this is not to blame for a refusal. Each makes a token in the other store,
# and may be one of few that a secret id has.
BLAME_SECONDS = 30.0
_NO_RIGHT = "the token has ended or was revoked, or its policies do not allow this path"
SHORTEST_SECONDS = 1.0
# A token that lives long is looked at all the same: it may have been revoked.
LONGEST_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class TransitLogin:
    """A token, its file, or a login path with the fields to send, some of them from files.

    `namespace` is where the mount is. With `renewed` false somebody else keeps the token alive.
    """

    token: Secret | None = None
    token_file: Path | None = None
    path: str = ""
    fields: Mapping[str, str] | None = None
    files: Mapping[str, Path] | None = None
    namespace: str = ""
    renewed: bool = True


class TransitWrapper:
    """One transit key."""

    def __init__(
        self, name: str, where: tuple[str, str, str], login: TransitLogin, http: HttpClient,
        clock: Clock,
    ) -> None:  # fmt: skip
        """`where` is address, mount and key."""
        self.name = name
        address, self._mount, self._key = where
        self._login = login
        self._http = http
        self._clock = clock
        self._client = VaultClient(address, None, http, login.namespace)
        self._until = self._since = 0.0
        # How often the token may be used yet.
        self._uses = float("inf")
        # Many calls at once make one login.
        self._turn = asyncio.Lock()

    async def _ready(self) -> VaultClient:
        async with self._turn:
            over = self._clock.monotonic() >= self._until or self._uses < 1
            if self._client.token is None or over:
                await self._log_in()
            self._uses -= 1
        return self._client

    async def _has_another(self, refused: Secret | None) -> bool:
        """Whether there is a token to try after one was refused; the login is repeated for that."""
        async with self._turn:
            if self._client.token is refused:
                if self._login.path and self._clock.monotonic() - self._since < BLAME_SECONDS:
                    return False
                await self._log_in()
            self._uses -= 1
            return True

    async def _log_in(self) -> None:
        login = self._login
        if login.token is not None:
            self._client.token = login.token
            self._until = float("inf")
            return
        if login.token_file is not None:
            self._client.token = Secret(_read(login.token_file))
            self._until = self._clock.monotonic() + 60.0
            return
        body = dict(login.fields or {})
        body |= {field: _read(path) for field, path in (login.files or {}).items()}
        self._client.token = None
        auth = (await self._client.request("POST", login.path, body))["auth"]
        self._client.token = Secret(auth["client_token"])
        self._since = self._clock.monotonic()
        self._uses = float(auth.get("num_uses") or "inf")
        life = float(auth["lease_duration"])
        self._until = self._clock.monotonic() + (life * RENEW_AT if life else float("inf"))

    async def _call(self, method: str, path: str, body: Mapping[str, str] | None = None) -> dict:  # type: ignore[type-arg]
        client = await self._ready()
        used = client.token
        try:
            reply = await client.request(method, f"{self._mount}/{path}", body)
        except Denied as refusal:
            # The token may have been revoked; one fresh one tells that from a missing right.
            if not await self._has_another(used):
                raise Denied(refusal.code, refusal.message, hint=_NO_RIGHT) from None
            try:
                reply = await client.request(method, f"{self._mount}/{path}", body)
            except Denied as again:
                raise Denied(again.code, again.message, hint=_NO_RIGHT) from None
        return dict(reply["data"])

    async def renew(self) -> float:
        """Renew the token, or take the newer one of its file; see `contract.Perishable`."""
        if self._login.path:
            await self._ready()  # A login is repeated in time by whoever uses it.
            return LONGEST_SECONDS
        if self._login.token_file:
            await self._log_in()
        found = await self._own_token("GET", "lookup-self")
        left = float(found.get("ttl") or 0)
        if not left or not self._login.renewed:
            return LONGEST_SECONDS
        if found.get("renewable"):
            left = float((await self._own_token("POST", "renew-self"))["lease_duration"])
        # Near its greatest age a token is renewed for less than it once had.
        if left < RENEW_AT * float(found.get("creation_ttl") or left) / 2:
            raise Unavailable(
                "seal-token-ends",
                f"the token for transit key {self._key} ends in {left:.0f} s and is not renewed",
                hint="give a periodic token, or put a new one into its file",
            )
        return min(max(left * RENEW_AT, SHORTEST_SECONDS), LONGEST_SECONDS)

    async def _own_token(self, method: str, verb: str) -> dict:  # type: ignore[type-arg]
        path = f"auth/token/{verb}"
        body: Mapping[str, str] | None = None if method == "GET" else {}
        client = await self._ready()
        try:
            reply = await client.request(method, path, body)
        except Denied:
            await self._log_in()
            reply = await client.request(method, path, body)
        return dict(reply.get("data") or reply["auth"])

    async def identity(self) -> str:
        found = await self._call("GET", f"keys/{self._key}")
        latest = int(found["latest_version"])
        # A key that was deleted and made again has the same name and version, not the same time.
        made = found["keys"].get(str(latest))
        return f"transit/{self._mount}/{self._key}/{latest}/{made}"

    async def wrap(self, secret: bytes, aad: bytes) -> bytes:
        body = {"plaintext": _b64(secret), "associated_data": _b64(aad)}
        return str((await self._call("POST", f"encrypt/{self._key}", body))["ciphertext"]).encode()

    async def unwrap(self, wrapped: bytes, aad: bytes) -> bytes:
        body = {"ciphertext": wrapped.decode("ascii", "replace"), "associated_data": _b64(aad)}
        try:
            found = await self._call("POST", f"decrypt/{self._key}", body)
            return base64.b64decode(found["plaintext"], validate=True)
        except Invalid as refusal:
            # The other store says which of it: another key, a version put away, no such mount.
            raise Denied(
                "not-unwrapped", f"transit key {self._key} does not open this: {refusal.message}"
            ) from None
        except binascii.Error:
            raise Denied("not-unwrapped", f"transit key {self._key} does not open this") from None

    async def close(self) -> None:
        await self._http.close()


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise Unavailable("login-file", f"cannot read {path}: {error.strerror}") from None


def _b64(content: bytes) -> str:
    return base64.b64encode(content).decode()
