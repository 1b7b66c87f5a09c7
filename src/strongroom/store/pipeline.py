"""The request pipeline: normalise, authenticate, decide, record, execute, record, reply.

All requests that arrive in one event-loop turn share a look at the clock and one revision check
of the engine. Where the engine's reads wait, what arrives during a check shares the next one, all
of it is taken side by side, and what follows a record is a task that may wait. What is remembered
of an answer holds for that revision, what is remembered of tokens, policies and mounts for their
generation, so nothing is older than the newest acknowledged write. Audit lines of two turns are
written with one flush before any of the replies leaves, and a request whose line cannot be
written is refused.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final, cast

import orjson

from strongroom.audit.devices import Done
from strongroom.audit.record import request_fragment, request_line, response_line, with_results
from strongroom.crypto.aead import Tampered
from strongroom.model.clock import rfc3339
from strongroom.model.errors import Denied, NotFound, Refusal, Unavailable
from strongroom.store.bursts import Bursts, Known
from strongroom.store.call import Call, Result, Write
from strongroom.store.context import Context
from strongroom.store.deadlines import Deadlines
from strongroom.store.decision import decide
from strongroom.store.engine.contract import NO_MARK
from strongroom.store.envelope import (
    answer,
    encode_bug,
    encode_refusal,
    refuse_sealed,
    reply_if,
    split_envelope,
    status_of,
    unrecordable,
)
from strongroom.store.expiration import Expiration
from strongroom.store.feed import ChangeFeed, Subscriber, pattern_of
from strongroom.store.incoming import body_from, call_of, role_in
from strongroom.store.normalise import Canonical, normalise_line
from strongroom.store.recording import LEFT_OUT, Outcome
from strongroom.store.request_headers import is_plain, token_of
from strongroom.store.request_ids import request_ids
from strongroom.store.routing import DamagedRow, Route, Router, Way, Written
from strongroom.store.sessions import Prepared, Session, invalid_token
from strongroom.store.system.cors import preflight, reply_headers
from strongroom.store.system.metrics import Metrics
from strongroom.store.wide import WideRequests
from strongroom.store.work import Then, Work
from strongroom.store.wrapping import Wrapping, bad_wrapping_token, can_be_wrapped
from strongroom.wire.http import READS, Request, Response
from strongroom.wire.listener import Exchange, Handler

SUBSCRIBE: Final = "sys/events/subscribe/"
LOOKS: Final = frozenset({"read", "list", "scan", "help"})
UNWRAP: Final = "sys/wrapping/unwrap"
# Asked by probes many times a minute, without a token: answered, not recorded, as in Vault.
UNRECORDED: Final = frozenset({"sys/health", "sys/seal-status", "sys/init", "sys/leader"})

_log = logging.getLogger(__name__)


class Pipeline:
    """The listener's handler. One for each process."""

    def __init__(
        self,
        context: Context,
        router: Router,
        metrics: Metrics,
        feed: ChangeFeed,
        expiration: Expiration,
    ) -> None:
        self.expiration = expiration
        self._context = context
        self._recording = context.recording
        self._broker = context.broker
        self._router = router
        self._metrics = metrics
        self._feed = feed
        self._wrapping = Wrapping(context)
        self._revision = -1
        self._generation = -1
        self._turn_open = False
        # Whether the revision was looked at for what arrives just now.
        self._looked = False
        self._cut_off = False
        # Answers what arrives after the cluster was sealed.
        self.otherwise: Handler = refuse_sealed
        # Reads anew what a change of the cluster's settings may have changed.
        self.on_generation: Callable[[], None] = _nothing
        self._waits = context.engine.waits
        self._now = 0.0
        self._stamp = b""
        self._ids = request_ids()
        self._deadlines = Deadlines(context.request_seconds)
        # What is being executed: tasks, and writes that no task waits for.
        self._pending: set[asyncio.Future[Any]] = set()
        self._wide = WideRequests(
            context.recording, self.again, self._refuse_unrecorded, self._keep
        )
        self._bursts = Bursts(
            context.engine, self._check_revision, self._take, self._refuse_unrecorded, self._keep
        )

    async def finish(self) -> None:
        """Wait for what is being executed; called when no more requests come in."""
        if self._pending:
            await asyncio.wait(self._pending)

    def cut(self) -> None:
        """No more from this pipeline: the cluster was sealed. What is executed ends by itself."""
        self._cut_off = True
        self._feed.cut()

    # a turn of the event loop

    def _begin_turn(self) -> None:
        self._turn_open = True
        asyncio.get_running_loop().call_soon(self._end_turn)
        before, self._now = self._now, self._context.clock.now()
        if self._now < before:
            # The clock was stepped back: what is remembered may have ended and be gone.
            self._context.sessions.forget()
        self._stamp = rfc3339(self._now).encode()
        if not self._waits:
            self._check_revision()

    def _check_revision(self, requests: Sequence[Request] = ()) -> Known:
        """Whether anything was committed, and which secrets that may be written are there."""
        writes = [each for each in requests if each.method not in READS]
        ways = [self._router.known((each.method, each.target, each.opens)) for each in writes]
        secrets = [way.secret for way in ways if way and way.secret]
        revision, known = self._context.engine.revision_and_known(secrets)
        if revision != self._revision:
            generation = self._context.engine.generation_at(revision)
            if generation != self._generation:
                # A cluster that was closed has no keys to look for.
                self._context.seal.notice()
                self._context.view.check_schema()
                self._context.view.refresh_keys()
                self._context.sessions.forget()
                self._context.quotas.forget()
                self._router.forget()
                if not self._cut_off:
                    self.on_generation()
            # Last: a check that failed half way is made again.
            self._generation = generation
            self._revision = revision
        return known

    def _end_turn(self) -> None:
        self._turn_open = self._looked = False

    # the way in

    def __call__(self, request: Request, exchange: Exchange) -> None:
        if self._waits:
            self._bursts.arrive(request, exchange)
        else:
            self._take(request, exchange, ())

    def again(self, request: Request, exchange: Exchange) -> None:
        """Take one that a task had in hand; what arrives behind it is looked for anew."""
        self(request, exchange)
        self._looked = False

    def _refuse_unrecorded(self, exchange: Exchange, error: Exception) -> None:
        if isinstance(error, Refusal):
            self._metrics.replies["refused", status_of(error)] += 1
            exchange.reply(encode_refusal(error))
        else:
            exchange.reply(encode_bug(error))

    def _take(self, request: Request, exchange: Exchange, known: Known) -> None:
        try:
            # A turn that replies have begun looked before this came: uvloop reads sockets in it.
            if not (self._turn_open if self._waits else self._looked):
                self._begin_turn()
                self._looked = True
            if self._cut_off:
                self.otherwise(request, exchange)
                return
            headers = request.headers
            if request.method == "OPTIONS":
                preflight(self._context.view, request, exchange)
                return
            token = token_of(headers)
            found = self._prepared_for(request, token) if request.method == "GET" else None
            if found is not None:
                session, prepared = found
                if prepared.revision == self._revision or self._stands(prepared):
                    self._answer_prepared(session, prepared, request, exchange)
                    return
            if (work := self._long_way(request, exchange, token, known)) is not None:
                self._record(work)
        except Exception as error:  # noqa: BLE001 - the last line of defence answers 500
            self._refuse_unrecorded(exchange, error)

    def _prepared_for(self, request: Request, token: str) -> tuple[Session, Prepared] | None:
        """A whole answer that is right, or is when its secret stands."""
        if not token:
            return None
        session = self._context.sessions.known(token)
        prepared = session.prepared.get(request.target) if session else None
        if (
            session is not None
            and prepared is not None
            and (prepared.revision == self._revision or prepared.mark != NO_MARK)
            and self._now < prepared.until
            and self._recording.plain
            and (session.row.expires is None or self._now < session.row.expires)
            and is_plain(request.headers)
            and not self._context.quotas.limits_requests(self._context.view)
        ):
            return session, prepared
        return None

    def _stands(self, prepared: Prepared) -> bool:
        """Whether what was committed since has not touched the secret of an answer."""
        revision = self._revision
        stands = self._context.view.kv_stands(prepared.mark)
        if stands:
            # Right at a time after that revision was read.
            prepared.revision = revision
        if not self._turn_open:
            self._begin_turn()  # The read has waited.
        return stands

    def _answer_prepared(
        self, session: Session, prepared: Prepared, request: Request, exchange: Exchange
    ) -> None:
        request_id, who = next(self._ids), session.who
        asked = request_fragment(
            request_id, prepared.head, request.peer, request.port, prepared.data, who.request
        )
        auth, stamp = with_results(who.auth, prepared.results), self._stamp
        lines = request_line(stamp, auth, asked)
        lines += response_line(stamp, auth, asked, prepared.recorded)
        body = b"".join((prepared.before, request_id.encode(), prepared.after))
        response = Response(prepared.status, body)
        self._metrics.replies["read", prepared.status] += 1
        self._broker.submit(lines, partial(reply_if, self._broker, exchange, response))

    def _long_way(
        self, request: Request, exchange: Exchange, token: str, known: Known
    ) -> Work | None:
        """A request that is to be recorded; None for one that is answered."""
        headers = request.headers
        content_type = headers.get("content-type", "")
        written = request.method, request.target, request.opens
        way = self._router.known(written)
        line = way.line if way else normalise_line(request.method, request.target, content_type)
        hidden, limited = exchange.hidden, None
        if hidden is None and not is_plain(headers):
            exchange.headers = reply_headers(self._context.view, headers)
        # Counted before the body costs anything.
        if hidden is None and self._context.quotas.limits_requests(self._context.view):
            shown, limited = self._context.quotas.admit_request(
                self._context.view,
                line.path,
                partial(role_in, line, request),
                request.peer,
                self._context.clock.monotonic(),
            )
            exchange.headers += shown
        missing = None
        if way is None:
            way, missing = self._way(line, written)
        route = way.route if way else None
        session, early = self._authenticate(route, token, request.peer)
        body = body_from(line, route, session, request)
        there = way is not None and way.secret in known
        call = call_of((line, *body), route, session, request, there=there)
        if early is not None and token and line.path == UNWRAP and not call.data.get("token"):
            # A used wrapping token is the caller's mistake, and no lack of permission.
            early = bad_wrapping_token()
        if hidden is None and session is not None and self._recording.has_many_of(request, call):
            if not limited:
                clear = call.setting("audit_non_hmac_request_keys")
                self._wide.put_off(request, exchange, call.data, clear)
                return None
            hidden = orjson.dumps(LEFT_OUT)
        call.hidden, call.token, call.request_id = hidden, token, next(self._ids)
        if route is not None and line.path in UNRECORDED and call.operation == "read":
            exchange.reply(self._unrecorded(route, call))
            return None
        who = self._recording.caller(call)
        fragment = self._recording.request(call, who, heads=way.heads if way else None)
        # Whoever may not ask for a path is not told whether it is there.
        early = limited or early or self._authorise(route, call) or missing
        auth = self._recording.auth(call, who)
        counts = session is not None and session.row.uses_left and not limited
        if route is None or (early is not None and not counts):
            self._refused(exchange, call, (fragment, auth), early or invalid_token())
            return None
        then = self._following(request, line.path, early)
        self._metrics.in_flight.begin(call, request.method, self._now)
        return Work(exchange, call, route, fragment, auth, request.target, then)

    def _following(self, request: Request, path: str, refusal: Refusal | None) -> Then:
        """What follows the record of a request; what is refused is a use of its token, too."""
        if refusal is not None:
            return partial(self._counted, partial(self._answer_failure, error=refusal))
        if path.startswith(SUBSCRIBE):
            return partial(self._counted, partial(self._open_feed, request))
        return self._execute

    # authenticate and decide

    def _way(self, line: Canonical, written: Written) -> tuple[Way | None, Refusal | None]:
        try:
            return self._router.way(line, written), None
        except (NotFound, DamagedRow) as refusal:
            return None, refusal

    def _authenticate(
        self, route: Route | None, token: str, peer: str
    ) -> tuple[Session | None, Refusal | None]:
        public = route is not None and route.endpoint.public
        if public and not token:
            return None, None
        try:
            return self._context.sessions.open(token, self._now, peer), None
        except (Denied, Tampered) as refusal:
            return None, None if public else refusal

    def _authorise(self, route: Route | None, call: Call) -> Refusal | None:
        try:
            decision = call.decision = decide(call.session, route.endpoint if route else None, call)
        except Tampered as damaged:
            return damaged  # A policy or an entity: nobody knows what it allows, or denies.
        if decision.allowed:
            return None
        _log.debug("denied: %s (%s)", decision.reason, decision.rule)
        return Denied("not-allowed", "1 error occurred:\n\t* permission denied\n\n")

    def admits(self, request: Request) -> bool:
        """Whether the sender of this head may do what it asks; its body may be kept, then."""
        try:
            asked = normalise_line(request.method, request.target, "")
            way, _ = self._way(asked, (request.method, request.target, request.opens))
            route = way.route if way else None
            token = token_of(request.headers)
            session, refusal = self._authenticate(route, token, request.peer)
            call = call_of((asked, asked.data, b""), route, session, request)
            return not (refusal or route is None or self._authorise(route, call))
        except Refusal:
            return False

    # record

    def _record(self, work: Work) -> None:
        """Record a request, and go on with it."""
        # What looks may ask for much, and is to hold up no other.
        together = self._waits and work.call.operation not in LOOKS
        if together:
            self._bursts.record()
        line = request_line(self._stamp, work.auth, work.request)
        self._submit(line, partial(self._go_on, work, together), work.call, None)

    def _go_on(self, work: Work, together: bool, ok: bool) -> None:  # noqa: FBT001
        """What follows a record; `ok` is the broker's word, whether some device has it."""
        follow = partial(self._begin if ok else self._not_recorded, work)
        if together:
            self._bursts.follow(follow)
        elif self._waits:
            self._keep(self._context.engine.side_by_side([follow]))
        else:
            follow()

    def _not_recorded(self, work: Work) -> None:
        self._metrics.in_flight.end(work.call)
        work.exchange.reply(unrecordable(self._broker.failing))

    def _begin(self, work: Work) -> None:
        if (rest := work.then(work)) is not None:
            self._start(rest)

    def _refused(
        self, exchange: Exchange, call: Call, parts: tuple[bytes, bytes], refusal: Refusal
    ) -> None:
        """`parts` are the request and the auth object of the record."""
        request, auth = parts
        lines = request_line(self._stamp, auth, request)
        lines += response_line(self._stamp, auth, request, error=refusal.message)
        self._metrics.replies[call.operation, status_of(refusal)] += 1
        self._context.notices.met(refusal)
        done = partial(reply_if, self._broker, exchange, encode_refusal(refusal))
        self._submit(lines, done, call, None, Outcome(error=refusal.message))

    def _submit(self, line: bytes, done: Done, call: Call, *outcomes: Outcome | None) -> None:
        """Hand a line to the devices, and make it in the forms that some of them want."""
        broker = self._broker
        if broker.other_forms:
            broker.submit(line, done, self._recording.others(self._stamp, call, *outcomes))
        else:
            broker.submit(line, done)

    # execute

    def _unrecorded(self, route: Route, call: Call) -> Response:
        try:
            return answer(call, cast("Result | None", route.run(call)))
        except Refusal as refusal:
            return encode_refusal(refusal)

    def _execute(self, work: Work) -> Coroutine[Any, Any, None] | None:
        """Do what is asked; what is left to be awaited, if anything is."""
        if not self._turn_open:
            self._begin_turn()
        # What is read from here on is at least as new as this.
        work.revision = self._revision
        return self._counted(self._run, work)

    def _run(self, work: Work) -> Coroutine[Any, Any, None] | None:
        try:
            result = work.route.run(work.call)
            if isinstance(result, Write):
                self._write(work, result)
                return None
        except Exception as error:  # noqa: BLE001 - a bug is answered and recorded
            self._answer_failure(work, error)
        else:
            if result is not None and not isinstance(result, Result):
                return self._await(work, result)
            self._answer(work, result)
        return None

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self._keep(self._context.engine.waiting(work))

    def _keep(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)
        return task

    def _counted(self, run: Then, work: Work) -> Coroutine[Any, Any, None] | None:
        """Go on when a use of the token is counted, where it has a number of them."""
        session = work.call.session
        if session is not None and session.row.uses_left and not work.route.endpoint.public:
            return self._count_use_and(run, work, session)
        return run(work)

    async def _count_use_and(self, run: Then, work: Work, session: Session) -> None:
        try:
            if not await self._context.engine.transact(lambda each: each.use_token(session.row.id)):
                # Somebody else was first, since this one was let in.
                raise bad_wrapping_token() if work.route.path == UNWRAP else invalid_token()
        except Exception as error:  # noqa: BLE001 - a bug is answered and recorded
            self._answer_failure(work, error)
            return
        if (rest := run(work)) is not None:
            await rest

    async def _await(self, work: Work, result: Awaitable[Result | None]) -> None:
        recorded, late, task = None, False, cast("asyncio.Task[Any]", asyncio.current_task())
        self._deadlines.begin(task, task.cancel)
        try:
            try:
                answer = await result
                if answer is not None and answer.long and not work.call.wrap_seconds:
                    recorded = await self._recording.response_by_parts(work.call, answer)
            finally:
                late = self._deadlines.end(task) and task.uncancel() == 0
        except (TimeoutError, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and not late:
                raise
            self._late(work)
        except Exception as error:  # noqa: BLE001 - a bug is answered and recorded
            self._answer_failure(work, error)
        else:
            if work.call.operation != "read":
                self._feed.wake()
            self._answer(work, answer, recorded)

    def _write(self, work: Work, write: Write) -> None:
        done = self._context.engine.transact(write.work, about=write.about)
        self._deadlines.begin(work, partial(self._late, work))
        self._pending.add(done)
        done.add_done_callback(partial(self._written, work, write.reply))

    def _written(
        self, work: Work, reply: Callable[[Any], Result | None], done: "asyncio.Future[Any]"
    ) -> None:
        self._pending.discard(done)
        late = self._deadlines.end(work)
        try:
            result = reply(done.result())
        except Exception as error:  # noqa: BLE001 - a bug is answered and recorded
            if not late:
                self._answer_failure(work, error)
        else:
            self._feed.wake()
            if not late:
                self._answer(work, result)

    # answer

    def _late(self, work: Work) -> None:
        self._answer_failure(work, Unavailable("too-slow", "the request took too long"))

    def _answer(self, work: Work, result: Result | None, recorded: bytes | None = None) -> None:
        if work.call.wrap_seconds and result is not None and can_be_wrapped(work.call, result):
            self._start(self._wrap(work, result))
        elif recorded is None and result is not None and self._recording.has_many(result.data):
            self._start(self._answer_by_parts(work, result))
        else:
            self._answer_plainly(work, result, recorded)

    async def _answer_by_parts(self, work: Work, result: Result) -> None:
        try:
            recorded = await self._recording.response_by_parts(work.call, result)
        except Exception as error:  # noqa: BLE001 - a bug is answered and recorded
            self._answer_failure(work, error)
        else:
            self._answer_plainly(work, result, recorded)

    async def _wrap(self, work: Work, result: Result) -> None:
        try:
            wrapped = await self._wrapping.wrap(work.call, result)
        except Exception as error:  # noqa: BLE001 - a bug is answered and recorded
            self._answer_failure(work, error)
        else:
            self._answer_plainly(work, wrapped)

    def _answer_plainly(
        self, work: Work, result: Result | None, recorded: bytes | None = None
    ) -> None:
        slow = recorded
        try:
            recorded = recorded or self._recording.response(work.call, result)
            if result is not None and result.cache_until > self._now:
                self._prepare(work, result, recorded)
            response = answer(work.call, result)
        except Exception as error:  # noqa: BLE001 - what JSON cannot hold is a bug as well
            self._answer_failure(work, error)
            return
        if result is not None and result.headers:
            allowed = {name.lower() for name in work.call.setting("allowed_response_headers")}
            response.headers += tuple(each for each in result.headers if each[0].lower() in allowed)
        self._reply(work, response, Outcome(result, recorded=slow), recorded)

    def _prepare(self, work: Work, result: Result, recorded: bytes) -> None:
        session = work.call.session
        if session is None or session.row.uses_left or session.row.bound_cidrs:
            return
        if self._context.sessions.known(work.call.token) is not session:
            return
        prepared = Prepared(
            *self._recording.kept(work.call), recorded, *split_envelope(work.call, result),
            result.status or 200, result.cache_until, work.revision, result.cache_mark,
        )  # fmt: skip
        self._context.sessions.prepare(session, work.target, prepared)

    def _answer_failure(self, work: Work, error: Exception) -> None:
        """A refusal as it says, anything else as 500; recorded as such."""
        if isinstance(error, Refusal):
            self._context.notices.met(error)
            self._reply(work, encode_refusal(error), Outcome(error=error.message))
        else:
            self._reply(work, encode_bug(error), Outcome(error="internal error"))

    def _reply(
        self, work: Work, response: Response, outcome: Outcome, recorded: bytes = b"{}"
    ) -> None:
        if not self._turn_open:
            self._begin_turn()
        self._metrics.replies[work.call.operation, response.status] += 1
        self._metrics.in_flight.end(work.call)
        line = response_line(self._stamp, work.auth, work.request, recorded, outcome.error)
        done = partial(reply_if, self._broker, work.exchange, response)
        self._submit(line, done, work.call, outcome)

    # the change feed

    def _open_feed(self, request: Request, work: Work) -> None:
        try:
            after = work.call.integer("after") if work.call.text("after") else None
            # Before the socket is open: whoever cannot be told of changes yet is refused in words.
            newest = self._context.view.last_event()
            mark = work.call.text("mark")
            pattern = pattern_of(work.call.path.removeprefix(SUBSCRIBE), work.call.data)
            socket = work.exchange.accept_websocket(request)
        except Exception as error:  # noqa: BLE001 - a bug is answered and recorded
            self._answer_failure(work, error)
            return
        self._metrics.in_flight.end(work.call)
        told = Subscriber(socket, pattern, work.call.token, request.peer, newest, mark)
        self._feed.subscribe(told, after)


def _nothing() -> None:
    """Nobody else reads settings."""
