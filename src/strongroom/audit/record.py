"""Audit records in Vault's JSON form, built from fragments that are encoded once.

A session's `auth` object and a secret's `response` object are the same bytes in every record, so
the store keeps them; a record is then one join. Strings in data are replaced by
`hmac-sha256:<hex>`, keys and numbers stay clear, so a version number can be read and a value can
be searched for by `sys/audit-hash` alone.
Format: https://developer.hashicorp.com/vault/docs/audit.
"""

import asyncio
import base64
import hashlib
import itertools
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson

from strongroom.crypto.mac import KeyedHmac
from strongroom.model.clock import parse_rfc3339
from strongroom.model.decision import Decision
from strongroom.model.principal import Principal

MAX_DEPTH: Final = 32
# How many values are hidden at a time, a few milliseconds of them.
PART: Final = 500
# A dict first: to find out whether something is any mapping takes longer than all the rest.
_OBJECTS: Final = (dict, Mapping)
_NESTED: Final = (*_OBJECTS, list, tuple)
# What is never hidden.
_PLAIN: Final = frozenset({type(None), bool, int, float})
# Times as this program writes them, so many that it pays to know them without reading them.
_OUR_TIME: Final = re.compile(
    r"20\d\d-(0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,12})?Z",
    re.ASCII,
)
# Any that RFC 3339 has; what reads them lets letters pass beside the seconds.
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)
_TIMES: Final = range(20, 36)  # characters
_NO_AUTH: Final = b'{"token_type":"default"}'
# Vault's, with the ids that come of them: what parts policies, and what the namespace.
_POLICY_MARK: Final = "\x7f"
_NAMESPACE_MARK: Final = "\0"
_NAMESPACE: Final = "root"


@dataclass(frozen=True, slots=True)
class RecordForm:
    """What a device hides: values unless `log_raw`, accessors, and the entries of a list."""

    log_raw: bool = False
    hmac_accessor: bool = True
    elide_lists: bool = False


class Caller(NamedTuple):
    """Who asks, as a record has it: its `auth` object, and what `request` says of them."""

    auth: bytes
    request: bytes


class RecordWriter:
    """Writes records in one form under one HMAC key."""

    def __init__(self, mac: KeyedHmac, form: RecordForm = RecordForm()) -> None:
        self._mac = mac
        self._hashed_nothing = mac.vault_form(b"")
        self.form = form
        self._hmac_accessor = form.hmac_accessor
        self._log_raw = form.log_raw

    def in_form(self, form: RecordForm) -> "RecordWriter":
        """The same key, another form."""
        return RecordWriter(self._mac, form)

    def hashed_accessor(self, accessor: str) -> str:
        """What stands in a record for an accessor."""
        return self.hashed(accessor) if self._hmac_accessor and accessor else accessor

    def hashed(self, value: str) -> str:
        """What stands in a record for a string."""
        if self._log_raw:
            return value
        return self._mac.vault_form(value.encode()) if value else self._hashed_nothing

    def caller(self, principal: Principal | None, token: str) -> Caller:
        """Who asks; the same bytes for the life of a session. Of a bad token only its hash."""
        hashed = self.hashed(token) if token else ""
        if principal is None:
            return Caller(_NO_AUTH, _rest({"client_token": hashed}))
        accessor = self.hashed_accessor(principal.accessor)
        auth = orjson.dumps(
            {
                "client_token": hashed,
                "accessor": accessor,
                "display_name": principal.display_name,
                "policies": list(principal.policies),
                "token_policies": list(principal.token_policies or principal.policies),
                **_identity(principal),
                "metadata": principal.metadata,
                "entity_id": principal.entity_id,
                "token_type": principal.token_type,
                **_times(principal),
            }
        )
        ids = {"client_token_accessor": accessor, "client_id": client_id(principal)}
        return Caller(auth, _rest({"client_token": hashed, **ids}))

    def data_fragment(self, data: Mapping[str, Any], clear: Collection[str] = ()) -> bytes:
        """An object with every string value hidden, but for the top-level keys in `clear`."""
        if self._log_raw:
            return orjson.dumps(data, default=str)
        if not clear:
            return orjson.dumps(self._hide(data, 0))
        return orjson.dumps(
            {key: each if key in clear else self._hide(each, 1) for key, each in data.items()}
        )

    async def data_fragment_by_parts(
        self, data: Mapping[str, Any], clear: Collection[str] = ()
    ) -> bytes:
        """The same; whatever else is to be done is done between its parts."""
        if self._log_raw:
            return self.data_fragment(data, clear)
        pace = itertools.count(1)
        return orjson.dumps(
            {
                str(key): each if key in clear else await self._hide_by_parts(each, 1, pace)
                for key, each in data.items()
            }
        )

    def response_data(
        self, data: Mapping[str, Any], *, is_list: bool, clear: Collection[str] = ()
    ) -> bytes:
        """The data of a reply; of a list only how long it is, where the form says so."""
        if is_list and self.form.elide_lists:
            counted = {
                name: len(each) if name in ("keys", "key_info") and _countable(each) else each
                for name, each in data.items()
            }
            return self.data_fragment(counted, clear)
        return self.data_fragment(data, clear)

    def headers_fragment(self, headers: Mapping[str, str], audited: Mapping[str, bool]) -> bytes:
        """The request headers that are to be recorded, b"" for none; hashed where it says so."""
        found = {
            name: [self.hashed(headers[name]) if hidden else headers[name]]
            for name, hidden in audited.items()
            if name in headers
        }
        return b',"headers":' + orjson.dumps(found) if found else b""

    def _hide(self, value: Any, depth: int) -> Any:  # noqa: ANN401 - JSON values
        if depth > MAX_DEPTH:
            return "too deep"
        if isinstance(value, str):
            return value if _is_time(value) else self.hashed(value)
        if isinstance(value, _OBJECTS):
            return self._hide_values(value, depth + 1)
        if isinstance(value, list | tuple):
            return [self._hide(each, depth + 1) for each in value]
        return value

    async def _hide_by_parts(
        self,
        value: Any,  # noqa: ANN401 - JSON values
        depth: int,
        pace: Iterator[int],
    ) -> Any:  # noqa: ANN401
        if next(pace) % PART == 0:
            await asyncio.sleep(0)
        if depth > MAX_DEPTH or not isinstance(value, _NESTED):
            return self._hide(value, depth)
        if isinstance(value, _OBJECTS):
            return {
                str(name): await self._hide_by_parts(each, depth + 1, pace)
                for name, each in value.items()
            }
        return [await self._hide_by_parts(each, depth + 1, pace) for each in value]

    def _hide_values(self, value: Mapping[str, Any], depth: int) -> dict[str, Any]:
        # The two kinds of values that nearly all are without a call for each.
        hidden: dict[str, Any] = {}
        for name, each in value.items():
            kind = type(each)
            if kind in _PLAIN:
                hidden[str(name)] = each
            elif kind is str and len(each) not in _TIMES and depth <= MAX_DEPTH:
                hidden[str(name)] = self.hashed(each)
            else:
                hidden[str(name)] = self._hide(each, depth)
        return hidden


def client_id(principal: Principal) -> str:
    """Who a token counts for: its entity, else all that have the same policies, as in Vault."""
    if principal.entity_id:
        return principal.entity_id
    policies = "".join(f"{_POLICY_MARK}{each}" for each in sorted(principal.token_policies))
    marked = f"{policies}{_NAMESPACE_MARK}{_NAMESPACE}"[1:]
    return base64.b64encode(hashlib.sha256(marked.encode()).digest()).decode()


def _rest(fields: Mapping[str, str]) -> bytes:
    """Fields that end an object; those that are "" are not there."""
    there = {name: each for name, each in fields.items() if each}
    return b"," + orjson.dumps(there)[1:-1] if there else b""


def _identity(principal: Principal) -> dict[str, list[str]]:
    names = principal.identity_policies
    return {"identity_policies": list(names)} if names else {}


def _times(principal: Principal) -> dict[str, object]:
    fields = {
        "token_ttl": principal.token_ttl,
        "token_issue_time": principal.token_issue_time,
    }
    return {name: each for name, each in fields.items() if each}


def _countable(value: object) -> bool:
    return isinstance(value, list | dict)


def _is_time(value: str) -> bool:
    if len(value) not in _TIMES or value[4:5] != "-" or value[10:11] != "T":
        return False
    if _OUR_TIME.fullmatch(value):
        return True
    if not _TIME.fullmatch(value):
        return False
    try:
        parse_rfc3339(value)
    except ValueError:
        return False
    return True


def policy_results(decision: Decision | None) -> bytes:
    """What the policies said, b"" where they were not asked: the end of an `auth` object."""
    if decision is None:
        return b""
    results: dict[str, Any] = {"allowed": decision.allowed}
    if decision.policies:
        results["granting_policies"] = [
            {"name": name, "namespace_id": "root", "type": "acl"} for name in decision.policies
        ]
    return b',"policy_results":' + orjson.dumps(results)


def with_results(auth: bytes, results: bytes) -> bytes:
    """An `auth` object with its end."""
    # Formatting takes twice as long, and each record has one.
    return auth[:-1] + results + b"}"


def request_head(operation: str, path: str, mount: Mapping[str, str]) -> bytes:
    """The part of a request object that one path and operation always share.

    `mount` are the fields about the mount that serves it.
    """
    head = {"operation": operation, "path": path, **mount, "namespace": {"id": "root"}}
    return orjson.dumps(head)[1:-1]


def request_fragment(
    request_id: str, head: bytes, peer: str, port: int = 0, data: bytes = b"", rest: bytes = b""
) -> bytes:
    """The whole request object; a `port` of 0 is none.

    `rest` are more fields, with a comma before each: who asks, and headers.
    """
    return b'{"id":"%b",%b,"remote_address":"%b"%b%b%b}' % (
        request_id.encode(),
        head,
        peer.encode(),
        b',"remote_port":%d' % port if port else b"",
        b',"data":' + data if data else b"",
        rest,
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
