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


@dataclass(frozen=True, slots=True)
class Read:
    """A secret as read."""

    version: int
    data: Mapping[str, Any] = field(repr=False)


class StoreClient:
    """One server and one token."""

    def __init__(self, address: str, ca_file: Path | None) -> None:
        self.address = urlsplit(address)
        self._tls: ssl.SSLContext | None = None
        if self.address.scheme == "https":
            try:
                self._tls = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
            except (OSError, ssl.SSLError):
                raise Unavailable("bad-ca", f"cannot use the authority {ca_file}") from None
        self.token: Secret | None = None

    def connection(self, seconds: float = SECONDS) -> http.client.HTTPConnection:
        """A connection that is not open yet."""
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

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401
        """Call `/v1/PATH`; raises Denied, NotFound or Unavailable, never with a body in it."""
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
            raise _refusal(reply.status, path)
        try:
            return json.loads(text) if text else {}
        except ValueError:
            raise Unavailable("bad-reply", f"the reply to {path} is not JSON") from None

    def login(self, mount: str, role: str, jwt: Secret) -> float:
        """Log in; returns how many seconds the token lives, 0 for ever."""
        reply = self.request(
            "POST", f"auth/{mount}/login", {"role": role, "jwt": jwt.reveal_text()}
        )
        self.token = Secret(reply["auth"]["client_token"])
        return float(reply["auth"]["lease_duration"])

    def read(self, path: str) -> Read:
        """Read a KV v2 secret by its API path."""
        reply = self.request("GET", path)["data"]
        return Read(int(reply["metadata"]["version"]), reply["data"])

    def acknowledge(self, path: str, version: int) -> None:
        """Say which version is in use; a server without acknowledgements is passed over."""
        try:
            self.request("PUT", "sys/consumers/ack", {"path": path, "version": version})
        except NotFound:
            return


def _refusal(status: int, path: str) -> Refusal:
    if status in (401, 403):
        return Denied("store-denied", f"{path}: permission denied")
    if status == 404:
        return NotFound("store-not-found", f"{path}: nothing there")
    return Unavailable("store-unavailable", f"{path}: status {status}")
