"""The request pipeline: normalise, authenticate, decide, record, execute, record, reply.

All requests that arrive in one event-loop turn share a look at the clock and one revision check
of the engine. What is remembered of an answer holds for that revision, what is remembered of
tokens, policies and mounts for their generation, so nothing is older than the newest acknowledged
write. Their audit lines are written with one flush
before any of the replies leaves, and a request whose line cannot be written is refused.
"""

import asyncio
import logging
import os
import traceback
from collections.abc import Awaitable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, cast

import orjson

from strongroom.audit.record import (
    request_fragment,
    request_head,
    request_line,
    response_line,
)
from strongroom.model.clock import rfc3339
from strongroom.model.errors import Denied, NotFound, Refusal, Unavailable
from strongroom.store.call import Call, Result
from strongroom.store.context import Context
from strongroom.store.envelope import encode, encode_refusal, split_envelope, status_of
from strongroom.store.feed import ChangeFeed
from strongroom.store.normalise import Canonical, normalise
from strongroom.store.routing import Route, Router, UnsupportedOperation, full_path
from strongroom.store.sessions import Session, invalid_token
from strongroom.store.system.metrics import Metrics
from strongroom.wire.http import Request, Response
from strongroom.wire.listener import Exchange

PREPARED: Final = 2048
REQUEST_SECONDS: Final = 90.0
SUBSCRIBE: Final = "sys/events/subscribe/"
# Asked by probes many times a minute, without a token: answered, not recorded, as in Vault.
UNRECORDED: Final = frozenset({"sys/health", "sys/seal-status", "sys/init", "sys/leader"})
# Headers that change what a GET means; with any of them the long way is taken.
_SPECIAL: Final = ("x-vault-wrap-ttl", "x-vault-namespace")

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Prepared:
    """A whole answer to a GET of one session, right until a commit or `until`."""

    head: bytes
    data: bytes
    recorded: bytes
    before: bytes
    after: bytes
    status: int
    until: float
    revision: int


@dataclass(slots=True)
class Work:
    """One request on its way."""

    exchange: Exchange
    call: Call
    route: Route
    request: bytes
    auth: bytes
    target: str = ""


class Pipeline:
    """The listener's handler. One for each process."""

    def __init__(
        self, context: Context, router: Router, metrics: Metrics, feed: ChangeFeed
    ) -> None:
        self._context = context
        self._router = router
        self._metrics = metrics
        self._feed = feed
        self._revision = -1
        self._generation = -1
        self._turn_open = False
        self._now = 0.0
        self._stamp = b""
        self._ids = ""
        self._tasks: set[asyncio.Task[None]] = set()

    # a turn of the event loop

    def _begin_turn(self) -> None:
        self._turn_open = True
        asyncio.get_running_loop().call_soon(self._end_turn)
        self._now = self._context.clock.now()
        self._stamp = rfc3339(self._now).encode()
        revision = self._context.engine.revision()
        if revision != self._revision:
            self._revision = revision
            generation = self._context.view.generation()
            if generation != self._generation:
                self._generation = generation
                self._context.sessions.forget()
                self._router.forget()

    def _end_turn(self) -> None:
        self._turn_open = False

    def _request_id(self) -> str:
        if len(self._ids) < 32:
            self._ids = os.urandom(4096).hex()
        taken, self._ids = self._ids[-32:], self._ids[:-32]
        return f"{taken[:8]}-{taken[8:12]}-{taken[12:16]}-{taken[16:20]}-{taken[20:]}"

    # the way in

    def __call__(self, request: Request, exchange: Exchange) -> None:
        try:
            if not self._turn_open:
                self._begin_turn()
            headers = request.headers
            token = headers.get("x-vault-token") or _bearer(headers)
            if request.method == "GET" and token:
                session = self._context.sessions.known(token)
                prepared = session.prepared.get(request.target) if session else None
                if (
                    session is not None
                    and prepared is not None
                    and prepared.revision == self._revision
                    and self._now < prepared.until
                    and (session.row.expires is None or self._now < session.row.expires)
                    and not any(name in headers for name in _SPECIAL)
                ):
                    self._answer_prepared(session, prepared, request.peer, exchange)
                    return
            self._long_way(request, exchange, token)
        except Refusal as refusal:
            self._count("refused", status_of(refusal))
            exchange.reply(encode_refusal(refusal))
        except Exception as error:  # noqa: BLE001 - the last line of defence answers 500
            exchange.reply(_bug(error))

    def _answer_prepared(
        self, session: Session, prepared: Prepared, peer: str, exchange: Exchange
    ) -> None:
        request_id = self._request_id()
        request = request_fragment(request_id, prepared.head, peer, prepared.data)
        auth, stamp = session.auth_fragment, self._stamp
        lines = request_line(stamp, auth, request)
        lines += response_line(stamp, auth, request, prepared.recorded)
        body = b"".join((prepared.before, request_id.encode(), prepared.after))
        response = Response(prepared.status, body)
        self._metrics.replies["read", prepared.status] += 1
        self._context.broker.submit(lines, partial(_reply_if, exchange, response))

    def _long_way(self, request: Request, exchange: Exchange, token: str) -> None:
        headers = request.headers
        canonical = normalise(
            request.method, request.target, request.body, headers.get("content-type", "")
        )
        _check_headers(headers)
        request_id = self._request_id()
        route, early = None, None
        try:
            route = self._router.find(canonical.path)
            session = self._authenticate(route, token, request.peer)
        except Refusal as refusal:
            session, early = None, refusal
        call = self._call(canonical, route, session, request)
        call.token, call.request_id = token, request_id
        if route is not None and canonical.path in UNRECORDED:
            exchange.reply(self._unrecorded(route, call))
            return
        auth = session.auth_fragment if session else self._unknown_auth(token)
        fragment = self._request_fragment(call)
        if early is None and route is not None and session is not None:
            early = self._authorise(route, call)
        if early is not None or route is None:
            self._refused(exchange, fragment, auth, call.operation, early or invalid_token())
            return
        work = Work(exchange, call, route, fragment, auth, request.target)
        if canonical.path.startswith(SUBSCRIBE):
            self._record(work, partial(self._subscribe, request))
        else:
            self._record(work, self._execute)

    def _call(
        self, canonical: Canonical, route: Route | None, session: Session | None, request: Request
    ) -> Call:
        call = Call(
            operation=canonical.operation,
            path=canonical.path,
            data=canonical.data,
            mount=cast(Any, route.mount if route else None),
            rest=route.rest if route else "",
            session=session,
            args=route.args if route else {},
            peer=request.peer,
        )
        if route and call.operation == "update" and not route.backend.exists(call):
            call.operation = "create"
        return call

    # authenticate and decide

    def _authenticate(self, route: Route, token: str, peer: str) -> Session | None:
        if not route.endpoint.public:
            return self._context.sessions.open(token, self._now, peer)
        try:
            return self._context.sessions.open(token, self._now, peer) if token else None
        except Denied:
            return None

    def _authorise(self, route: Route, call: Call) -> Refusal | None:
        if route.endpoint.public:
            return None
        parameters = call.data if call.operation != "list" else None
        decision = call.caller.decide(call.path, call.operation, parameters)
        if decision.allowed and route.endpoint.sudo:
            decision = call.caller.decide(call.path, "sudo")
        if decision.allowed:
            return None
        _log.debug("denied: %s (%s)", decision.reason, decision.rule)
        return Denied("not-allowed", "1 error occurred:\n\t* permission denied\n\n")

    # record

    def _unknown_auth(self, token: str) -> bytes:
        return self._context.writer.auth_fragment(None, token)

    def _request_fragment(self, call: Call) -> bytes:
        head = self._head(call)
        data = self._context.writer.data_fragment(call.data) if call.data else b""
        return request_fragment(call.request_id, head, call.peer, data)

    def _head(self, call: Call) -> bytes:
        # None for a path that leads nowhere: it is recorded as well.
        mount = cast(Any, call.mount)
        point, kind = (full_path(mount), mount.type) if mount else ("", "")
        return request_head(call.operation, call.path, point, kind)

    def _record(self, work: Work, then: Any) -> None:  # noqa: ANN401 - one of the steps below
        line = request_line(self._stamp, work.auth, work.request)

        def recorded(ok: bool) -> None:  # noqa: FBT001 - the broker's callback
            if not ok:
                work.exchange.reply(_unrecordable())
            else:
                then(work)

        self._context.broker.submit(line, recorded)

    def _refused(
        self, exchange: Exchange, request: bytes, auth: bytes, operation: str, refusal: Refusal
    ) -> None:
        lines = request_line(self._stamp, auth, request)
        lines += response_line(self._stamp, auth, request, error=refusal.message)
        self._count(operation, status_of_any(refusal))
        response = encode_any(refusal)
        self._context.broker.submit(lines, partial(_reply_if, exchange, response))

    # execute

    def _unrecorded(self, route: Route, call: Call) -> Response:
        try:
            result = route.handler(call.operation)(call)
            return encode(cast("Result | None", result), call.request_id)
        except Refusal as refusal:
            return encode_any(refusal)

    def _execute(self, work: Work) -> None:
        if not self._turn_open:
            self._begin_turn()
        try:
            session = work.call.session
            if session is not None and session.row.uses_left:
                self._start(self._count_use_and_run(work, session))
                return
            result = work.route.handler(work.call.operation)(work.call)
        except Refusal as refusal:
            self._answer_refusal(work, refusal)
            return
        except Exception as error:  # noqa: BLE001 - answered as 500, recorded as such
            self._answer_bug(work, error)
            return
        if result is None or isinstance(result, Result):
            self._answer(work, result)
        else:
            self._start(self._await(work, result))

    def _start(self, work: Any) -> None:  # noqa: ANN401 - a coroutine
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _count_use_and_run(self, work: Work, session: Session) -> None:
        try:
            if not await self._context.engine.transact(lambda each: each.use_token(session.row.id)):
                raise invalid_token()
            result = work.route.handler(work.call.operation)(work.call)
        except Refusal as refusal:
            self._answer_refusal(work, refusal)
            return
        if result is None or isinstance(result, Result):
            self._answer(work, result)
        else:
            await self._await(work, result)

    async def _await(self, work: Work, result: Awaitable[Result | None]) -> None:
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                answer = await result
        except TimeoutError:
            self._answer_refusal(work, Unavailable("too-slow", "the request took too long"))
        except Refusal as refusal:
            self._answer_refusal(work, refusal)
        except Exception as error:  # noqa: BLE001 - answered as 500, recorded as such
            self._answer_bug(work, error)
        else:
            if work.call.operation != "read":
                self._feed.wake()
            self._answer(work, answer)

    # answer

    def _answer(self, work: Work, result: Result | None) -> None:
        recorded = self._recorded(result)
        if result is not None and result.cache_until > self._now:
            self._prepare(work, result, recorded)
        self._reply(work, encode(result, work.call.request_id), recorded)

    def _recorded(self, result: Result | None) -> bytes:
        if result is None:
            return b"{}"
        fields: dict[str, Any] = {}
        if result.data is not None:
            fields["data"] = orjson.Fragment(self._context.writer.data_fragment(result.data))
        if result.auth is not None:
            fields["auth"] = _recorded_auth(self._context, result.auth)
        return orjson.dumps(fields)

    def _prepare(self, work: Work, result: Result, recorded: bytes) -> None:
        session = work.call.session
        if session is None or session.row.uses_left or session.row.bound_cidrs:
            return
        if self._context.sessions.known(work.call.token) is not session:
            return
        data = self._context.writer.data_fragment(work.call.data) if work.call.data else b""
        before, after = split_envelope(result)
        if len(session.prepared) >= PREPARED:
            session.prepared.clear()
        session.prepared[work.target] = Prepared(
            self._head(work.call), data, recorded, before, after,
            result.status or 200, result.cache_until, self._revision,
        )  # fmt: skip

    def _answer_refusal(self, work: Work, refusal: Refusal) -> None:
        self._reply(work, encode_any(refusal), error=refusal.message)

    def _answer_bug(self, work: Work, error: Exception) -> None:
        self._reply(work, _bug(error), error="internal error")

    def _reply(
        self, work: Work, response: Response, recorded: bytes = b"{}", error: str = ""
    ) -> None:
        if not self._turn_open:
            self._begin_turn()
        self._count(work.call.operation, response.status)
        line = response_line(self._stamp, work.auth, work.request, recorded, error)
        self._context.broker.submit(line, partial(_reply_if, work.exchange, response))

    def _count(self, operation: str, status: int) -> None:
        self._metrics.replies[operation, status] += 1

    # the change feed

    def _subscribe(self, request: Request, work: Work) -> None:
        try:
            socket = work.exchange.accept_websocket(request)
        except Refusal as refusal:
            self._answer_refusal(work, refusal)
            return
        pattern = work.call.path.removeprefix(SUBSCRIBE)
        self._feed.subscribe(socket, pattern, work.call.token, request.peer)


def _reply_if(exchange: Exchange, response: Response, ok: bool) -> None:  # noqa: FBT001
    exchange.reply(response if ok else _unrecordable())


def _unrecordable() -> Response:
    return encode_refusal(
        Unavailable(
            "audit-unwritable",
            "no audit device can record the request",
            hint="it was refused; repair the audit device",
        )
    )


def _bearer(headers: dict[str, str]) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _check_headers(headers: dict[str, str]) -> None:
    if headers.get("x-vault-namespace", "").strip("/") not in ("", "root"):
        raise NotFound("no-namespace", "no such namespace")
    if headers.get("x-vault-wrap-ttl"):
        # Unwrapped secrets in place of a wrapped reply would be a silent failure.
        raise Unavailable("no-wrapping", "response wrapping is not available in this version")


def _recorded_auth(context: Context, auth: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    hashed = context.writer.hashed
    return {
        **auth,
        "client_token": hashed(auth["client_token"]) if auth["client_token"] else "",
        "accessor": hashed(auth["accessor"]),
    }


def status_of_any(refusal: Refusal) -> int:
    """The status of a refusal, the router's own included."""
    return 405 if isinstance(refusal, UnsupportedOperation) else status_of(refusal)


def encode_any(refusal: Refusal) -> Response:
    """The reply to a refusal, the router's own included."""
    response = encode_refusal(refusal)
    response.status = status_of_any(refusal)
    return response


def _bug(error: Exception) -> Response:
    # The type and the place, never the message: it may hold a value.
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    places = " < ".join(f"{each.name}:{each.lineno}" for each in reversed(frames))
    _log.error("internal error: %s in %s", type(error).__name__, places)
    return Response(500, b'{"errors":["internal error"]}\n')
