"""Audit records in Vault's JSON form, built from fragments that are encoded once.

A session's `auth` object and a secret's `response` object are the same bytes in every record, so
the store keeps them; a record is then one join. Strings in data are replaced by
`hmac-sha256:<hex>`, keys and numbers stay clear, so a version number can be read and a value can
be searched for by `sys/audit-hash` alone.
Format: https://developer.hashicorp.com/vault/docs/audit.
"""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from strongroom.crypto.mac import KeyedHmac
from strongroom.model.clock import parse_rfc3339
from strongroom.model.principal import Principal

MAX_DEPTH: Final = 32
_NO_AUTH: Final = b'{"token_type":"default"}'


class RecordWriter:
    """The record form of one audit device family: its HMAC key and what it hides."""

    def __init__(
        self, mac: KeyedHmac, *, hmac_accessor: bool = True, log_raw: bool = False
    ) -> None:
        self._mac = mac
        self._hmac_accessor = hmac_accessor
        self._log_raw = log_raw

    def hashed(self, value: str) -> str:
        """What stands in a record for a string."""
        return value if self._log_raw else self._mac.vault_form(value.encode())

    def auth_fragment(self, principal: Principal | None, token: str) -> bytes:
        """The `auth` object of a caller; the same bytes for the life of a session."""
        if principal is None:
            return _NO_AUTH
        accessor = principal.accessor
        return orjson.dumps(
            {
                "client_token": self.hashed(token),
                "accessor": self.hashed(accessor) if self._hmac_accessor and accessor else accessor,
                "display_name": principal.display_name,
                "policies": list(principal.policies),
                "token_policies": list(principal.policies),
                "metadata": principal.metadata,
                "entity_id": principal.entity_id,
                "token_type": principal.token_type,
            }
        )

    def data_fragment(self, data: Mapping[str, Any]) -> bytes:
        """An object with every string value hidden."""
        return orjson.dumps(self._hide(data, 0))

    def _hide(self, value: Any, depth: int) -> Any:  # noqa: ANN401 - JSON values
        if depth > MAX_DEPTH:
            return "too deep"
        if isinstance(value, str):
            return value if _is_time(value) else self.hashed(value)
        if isinstance(value, Mapping):
            return {str(key): self._hide(each, depth + 1) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self._hide(each, depth + 1) for each in value]
        return value


def _is_time(value: str) -> bool:
    if not (20 <= len(value) <= 35 and value[4:5] == "-" and value[10:11] == "T"):
        return False
    try:
        parse_rfc3339(value)
    except ValueError:
        return False
    return True


def request_head(operation: str, path: str, mount_point: str, mount_type: str) -> bytes:
    """The part of a request object that one path and operation always share."""
    head = {
        "operation": operation,
        "path": path,
        "mount_point": mount_point,
        "mount_type": mount_type,
        "namespace": {"id": "root"},
    }
    return orjson.dumps(head)[1:-1]


def request_fragment(request_id: str, head: bytes, peer: str, data: bytes = b"") -> bytes:
    """The whole request object."""
    return b'{"id":"%b",%b,"remote_address":"%b"%b}' % (
        request_id.encode(),
        head,
        peer.encode(),
        b',"data":' + data if data else b"",
    )


def request_line(stamp: bytes, auth: bytes, request: bytes) -> bytes:
    """The record before the operation; `stamp` is an RFC 3339 time."""
    return b'{"time":"%b","type":"request","auth":%b,"request":%b}\n' % (stamp, auth, request)


def response_line(
    stamp: bytes, auth: bytes, request: bytes, response: bytes = b"{}", error: str = ""
) -> bytes:
    """The record before the reply; `error` is what the caller is told, "" when it worked."""
    return b'{"time":"%b","type":"response","auth":%b,"request":%b,"response":%b%b}\n' % (
        stamp,
        auth,
        request,
        response,
        b',"error":' + orjson.dumps(error) if error else b"",
    )
