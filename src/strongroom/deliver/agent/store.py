"""The calls an agent makes of the store: login, read, acknowledge.

API: https://developer.hashicorp.com/vault/api-docs; acknowledgements are Strongroom's own, and a
server that does not know them is none the worse.
"""

import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

from strongroom.model.errors import Denied, NotFound, Refusal, Unavailable
from strongroom.model.secret import Secret

REPLY_BYTES: Final = 8 * 1024 * 1024
SECONDS: Final = 15.0
REASON_LETTERS: Final = 200


@dataclass(frozen=True, slots=True)
class Read:
    """A secret as read."""

    version: int
    data: Mapping[str, Any] = field(repr=False)


class StoreClient:
    """One server and one token."""

    def __init__(self, address: str, ca_file: Path | None) -> None:
        self.address = urlsplit(address)
        self._ca_file = ca_file
        self._ca_seen: tuple[int, ...] = ()
        self._tls: ssl.SSLContext | None = None
        self._read_authority()
        self.token: Secret | None = None

    def _read_authority(self) -> None:
        """Once, and again whenever the file is another: authorities are replaced as well."""
        if self.address.scheme != "https":
            return
        try:
            seen: tuple[int, ...] = (0,)
            if self._ca_file is not None:
                state = self._ca_file.stat()
                seen = (state.st_mtime_ns, state.st_ino, state.st_size)
            if seen != self._ca_seen:
                named = str(self._ca_file) if self._ca_file else None
                self._tls = ssl.create_default_context(cafile=named)
                self._ca_seen = seen
        except (OSError, ssl.SSLError):
            raise Unavailable("bad-ca", f"cannot use the authority {self._ca_file}") from None

    def connection(self, seconds: float = SECONDS) -> http.client.HTTPConnection:
        """A connection that is not open yet; raises Unavailable(`bad-ca`)."""
        self._read_authority()
        host, port = self.address.hostname or "", self.address.port
        if self._tls is not None:
            return http.client.HTTPSConnection(
                host, port or 443, timeout=seconds, context=self._tls
            )
        return http.client.HTTPConnection(host, port or 80, timeout=seconds)

    def headers(self) -> dict[str, str]:
        """What every request says."""
        headers = {"X-Vault-Request": "true", "Content-Type": "application/json"}
        if self.token is not None:
            headers["X-Vault-Token"] = self.token.reveal_text()
        return headers

    def request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Call `/v1/PATH`; raises Denied, NotFound or Unavailable.

        Of a body nothing is told but the reason that Vault's API gives.
        """
        connection = self.connection()
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, f"/v1/{quote(path)}", content, self.headers())
            reply = connection.getresponse()
            text = reply.read(REPLY_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(
                "unreachable", f"no answer from the store: {type(error).__name__}"
            ) from None
        finally:
            connection.close()
        if reply.status >= 300:
            raise _refusal(reply.status, path, reason_of(text))
        try:
            said = json.loads(text) if text else {}
        except ValueError:
            raise Unavailable("bad-reply", f"the reply to {path} is not JSON") from None
        return said if isinstance(said, dict) else {}

    def login(self, mount: str, role: str, jwt: Secret) -> float:
        """Log in; returns how many seconds the token lives, 0 for ever."""
        path = f"auth/{mount}/login"
        reply = self.request("POST", path, {"role": role, "jwt": jwt.reveal_text()})
        try:
            token, life = str(reply["auth"]["client_token"]), float(reply["auth"]["lease_duration"])
        except (KeyError, TypeError, ValueError):
            raise Unavailable("bad-reply", f"the reply to {path} holds no token") from None
        self.token = Secret(token)
        return life

    def read(self, path: str) -> Read:
        """Read a KV v2 secret by its API path."""
        try:
            reply = self.request("GET", path)["data"]
            version, data = int(reply["metadata"]["version"]), dict(reply["data"])
        except (KeyError, TypeError, ValueError):
            raise Unavailable(
                "not-kv2",
                f"{path} is no secret of a KV engine of version 2",
                hint="its path has data/ behind the mount, such as secret/data/prod/db",
            ) from None
        return Read(version, data)

    def acknowledge(self, path: str, version: int) -> bool:
        """Say which version is in use; False where the server takes no acknowledgement."""
        try:
            self.request("PUT", "sys/consumers/ack", {"path": path, "version": version})
        except (NotFound, Denied):
            # Vault denies a path that it does not know; the token has just read the secret.
            return False
        return True


def reason_of(body: bytes) -> str:
    """The first of the errors in an answer of Vault's API, on one line; "" where there is none."""
    try:
        reason = str(json.loads(body)["errors"][0])
    except (ValueError, KeyError, TypeError, IndexError):
        return ""
    line = " ".join(reason.split())[:REASON_LETTERS]
    return "".join(letter for letter in line if letter.isprintable())


def _refusal(status: int, path: str, reason: str) -> Refusal:
    if status in (401, 403):
        return Denied("store-denied", f"{path}: permission denied")
    if status == 404:
        return NotFound("store-not-found", f"{path}: nothing there")
    told = f": {reason}" if reason else ""
    return Unavailable("store-unavailable", f"{path}: status {status}{told}")
