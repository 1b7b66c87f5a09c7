"""What a call looks like in an audit record, in the usual form and in those of other devices.

The usual form is encoded once from fragments that are kept; other forms (`log_raw`,
`hmac_accessor`, `elide_list_responses`) are written out for each record that needs them.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from strongroom.audit.record import (
    Caller,
    RecordForm,
    RecordWriter,
    policy_results,
    request_fragment,
    request_head,
    request_line,
    response_line,
    with_results,
)
from strongroom.store.routing import full_path
from strongroom.store.tokens import TEXTS, without_tokens

if TYPE_CHECKING:
    from strongroom.audit.devices import AuditBroker
    from strongroom.store.call import Call, Result
    from strongroom.store.engine.contract import MountRow
    from strongroom.wire.http import Request

# More values than these are hidden a part at a time.
MANY: Final = 1000
# A value takes as many at least, with what parts it from the next.
BYTES_OF_ONE: Final = 2
# Of a request without a valid token more values than these are not recorded: hiding each takes
# time in which nobody is served, and 2 MB of short ones become 37 MB of log. No login has as many.
MOST_OF_STRANGERS: Final = 1000
LEFT_OUT: Final[Mapping[str, Any]] = {"values_left_out": True}
_NESTED: Final = (dict, list)


def shown_path(call: "Call", hide: Callable[[str], str]) -> str:
    """The path of a call without the token that older clients write into one.

    Also where nothing is served at such a path: the token is good all the same.
    """
    chosen, path = call.args.get("token"), call.path
    if chosen and not chosen.startswith(TEXTS):
        path = "/".join(hide(part) if part == chosen else part for part in path.split("/"))
    return without_tokens(path, hide)


def _holds_more(data: Mapping[str, Any], most: int) -> bool:
    """Whether there are more names and values in it, at any depth."""
    left, found = [cast(Any, data)], 0
    while left and found <= most:
        each = left.pop()
        inner = each if type(each) is list else each.values()
        found += len(inner)
        if found <= most:
            left += [one for one in inner if isinstance(one, _NESTED)]
    return found > most


@dataclass(slots=True)
class Outcome:
    """How a call ended: its result, or the sentence of a refusal.

    `recorded` is the result in the usual form, where making it took long.
    """

    result: "Result | None" = None
    error: str = ""
    recorded: bytes | None = None


@dataclass(slots=True)
class Recording:
    """One process's records. `headers` names request headers to record, and which are hashed."""

    broker: "AuditBroker"
    writer: RecordWriter
    headers: Mapping[str, bool] = field(default_factory=dict)
    # One is hidden at a time: many at once would each have a part of every turn.
    _by_parts: asyncio.Lock = field(default_factory=asyncio.Lock)
    _writers: dict[RecordForm, RecordWriter] = field(default_factory=dict)

    @property
    def plain(self) -> bool:
        """Whether kept fragments say all that any device records."""
        return not self.headers and not self.broker.other_forms

    def head(self, call: "Call") -> bytes:
        """The part of the request object that a path and an operation share."""
        path = shown_path(call, self.writer.hashed)
        return request_head(call.operation, path, _mount_fields(call.mount))

    def caller(self, call: "Call", writer: RecordWriter | None = None) -> Caller:
        """Who asks, in the usual form as it is kept."""
        session = call.session
        if session is not None and writer is None:
            return session.who
        principal = session.principal if session else None
        return (writer or self.writer).caller(principal, call.token)

    def auth(self, call: "Call", who: Caller) -> bytes:
        """The auth object: who asks, and what the policies said."""
        return with_results(who.auth, policy_results(call.decision))

    def request(
        self,
        call: "Call",
        who: Caller,
        writer: RecordWriter | None = None,
        heads: dict[str, bytes] | None = None,
    ) -> bytes:
        """The request object; `heads` remembers those of calls that go the same way."""
        writer = writer or self.writer
        clear = call.setting("audit_non_hmac_request_keys")
        given: Mapping[str, Any] = call.data
        if call.hidden is not None and not writer.form.log_raw:
            data = call.hidden
        else:
            if given and call.session is None and _holds_more(given, MOST_OF_STRANGERS):
                given = LEFT_OUT
            data = writer.data_fragment(given, clear) if given else b""
        headers = writer.headers_fragment(call.headers, self.headers) if self.headers else b""
        head = heads.get(call.operation) if heads else None
        if head is None:
            head = self.head(call)
            if heads is not None:
                heads[call.operation] = head
        wrapped = b',"wrap_ttl":%d' % call.wrap_seconds if call.wrap_seconds else b""
        rest = who.request + headers + wrapped
        return request_fragment(call.request_id, head, call.peer, call.port, data, rest)

    def kept(self, call: "Call") -> tuple[bytes, bytes, bytes]:
        """What is the same in the records of a request that is asked again.

        The head, what the policies said, and the data.
        """
        clear = call.setting("audit_non_hmac_request_keys")
        data = self.writer.data_fragment(call.data, clear) if call.data else b""
        return self.head(call), policy_results(call.decision), data

    def has_many(self, data: Mapping[str, Any] | None) -> bool:
        """Whether hiding it takes so long that others are to be served meanwhile."""
        return bool(data) and _holds_more(cast(Any, data), MANY)

    def has_many_of(self, request: "Request", call: "Call") -> bool:
        """The same of a request; a short one is not looked through."""
        return len(request.body) + len(request.target) > MANY * BYTES_OF_ONE and self.has_many(
            call.data
        )

    async def hidden(self, data: Mapping[str, Any], clear: Collection[str]) -> bytes:
        """The data of a request or a response, hidden a part at a time."""
        async with self._by_parts:
            return await self.writer.data_fragment_by_parts(data, clear)

    def response(
        self,
        call: "Call",
        result: "Result | None",
        writer: RecordWriter | None = None,
        data: bytes | None = None,
    ) -> bytes:
        """The response object; `data` is that of the result, if it is hidden already."""
        writer = writer or self.writer
        if result is None:
            return b"{}"
        fields: dict[str, Any] = {}
        if result.data is not None:
            data = data or writer.response_data(
                result.data,
                is_list=call.operation == "list",
                clear=call.setting("audit_non_hmac_response_keys"),
            )
            if _only_data(result):
                return b'{"data":' + data + b"}"
            fields["data"] = orjson.Fragment(data)
        if result.auth is not None:
            fields["auth"] = _auth(writer, result)
        if result.wrap_info is not None:
            fields["wrap_info"] = _wrapping(writer, result.wrap_info)
        if result.lease_id:
            fields["secret"] = {"lease_id": result.lease_id}
        if result.warnings:
            fields["warnings"] = result.warnings
        return orjson.dumps(fields)

    async def response_by_parts(self, call: "Call", result: "Result") -> bytes:
        """The response object of data that is long; others are served between its parts."""
        data = result.data
        # What is short waits for nobody else's turn.
        if data is None or self.writer.form.elide_lists or not self.has_many(data):
            return self.response(call, result)
        clear = call.setting("audit_non_hmac_response_keys")
        return self.response(call, result, data=await self.hidden(data, clear))

    def others(self, stamp: bytes, call: "Call", *outcomes: Outcome | None) -> tuple[bytes, ...]:
        """The lines for `other_forms`: one for each outcome, None being the request's."""
        return tuple(
            b"".join(self._line(self._writer(form), stamp, call, each) for each in outcomes)
            for form in self.broker.other_forms
        )

    def _writer(self, form: RecordForm) -> RecordWriter:
        if form not in self._writers:
            self._writers[form] = self.writer.in_form(form)
        return self._writers[form]

    def _line(
        self, writer: RecordWriter, stamp: bytes, call: "Call", outcome: Outcome | None
    ) -> bytes:
        who = self.caller(call, writer)
        auth, request = self.auth(call, who), self.request(call, who, writer)
        if outcome is None:
            return request_line(stamp, auth, request)
        response = outcome.recorded
        if response is None or not _same_in(writer.form, call, outcome.result):
            response = self.response(call, outcome.result, writer)
        return response_line(stamp, auth, request, response, outcome.error)


def _mount_fields(mount: "MountRow | None") -> dict[str, str]:
    """What a record says of a mount; None for a path that leads nowhere, which is recorded too."""
    if mount is None:
        return {"mount_point": "", "mount_type": ""}
    # As in Vault, what serves sys/ is neither a secrets engine nor an auth method.
    of_class = {} if mount.type == "system" else {"mount_class": mount.kind}
    return {
        "mount_point": full_path(mount),
        "mount_type": mount.type,
        "mount_accessor": mount.accessor,
        **of_class,
    }


def _same_in(form: RecordForm, call: "Call", result: "Result | None") -> bool:
    """Whether a form has a result as the usual one has it."""
    if form.log_raw or (form.elide_lists and call.operation == "list"):
        return False
    return result is not None and result.auth is None and result.wrap_info is None


def _only_data(result: "Result") -> bool:
    more = result.auth or result.wrap_info or result.lease_id or result.warnings
    return not more


def _auth(writer: RecordWriter, result: "Result") -> dict[str, Any]:
    auth = cast("Mapping[str, Any]", result.auth)
    return {
        **auth,
        "client_token": writer.hashed(auth["client_token"]) if auth["client_token"] else "",
        "accessor": writer.hashed_accessor(auth["accessor"]),
        # What replies do not have, and Vault's records do.
        "display_name": result.display_name,
        "token_ttl": auth["lease_duration"],
    }


def _wrapping(writer: RecordWriter, info: Mapping[str, Any]) -> dict[str, Any]:
    accessors = {
        name: writer.hashed_accessor(info[name]) for name in ("accessor", "wrapped_accessor")
    }
    return {**info, **accessors, "token": writer.hashed(info["token"])}
