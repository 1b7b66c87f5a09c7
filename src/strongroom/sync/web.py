"""The operator's HTTP page: probes, metrics, and notices of clouds that wake the right objects."""

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

import orjson

from strongroom.model.errors import Denied, Invalid, Refusal, Throttled, TooLarge
from strongroom.sync.notices import Notice, read_notice
from strongroom.sync.senders import Gatekeeper, Senders
from strongroom.wire.http import Request, Response

if TYPE_CHECKING:
    from strongroom.wire.listener import Exchange

NOTICES: Final = "/notices"
METRICS: Final = "/metrics"
# Of the metrics page, before other work has its turn.
LINES_AT_ONCE: Final = 200
_TEXT: Final = "text/plain; version=0.0.4"


class OperatorPage:
    """`/healthz`, `/readyz`, `/metrics`; POST `/notices` for those who may send them.

    Whoever may not hears why; sizes and rates are looked at before that.
    """

    def __init__(
        self,
        troubles: Callable[[], list[str]],
        metrics: Callable[[], Iterable[str]],
        wake: Callable[[str], int],
        doors: tuple[Gatekeeper, Senders],
        noted: Callable[[str], None] = lambda _result: None,
    ) -> None:
        self._troubles = troubles
        self._metrics = metrics
        self._wake = wake
        self._gate, self._senders = doors
        self._noted = noted
        self._running: set[asyncio.Task[None]] = set()

    def __call__(self, request: Request, exchange: "Exchange") -> None:
        if not is_notice(request) and not _asks_for_metrics(request):
            exchange.reply(self.answer(request))
            return
        task = asyncio.get_running_loop().create_task(self._reply(request, exchange))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _reply(self, request: Request, exchange: "Exchange") -> None:
        if is_notice(request):
            exchange.reply(await self.notice(request))
        else:
            exchange.reply(await self.metrics())

    def answer(self, request: Request) -> Response:
        """The reply to a request that is no notice, and not for metrics."""
        path = request.target.partition("?")[0]
        if request.method not in ("GET", "HEAD"):
            return Response(404, b'{"errors":[]}')
        if path == "/healthz":
            return Response(200, b"ok\n", content_type="text/plain")
        if path == "/readyz":
            troubles = self._troubles()
            return Response(503 if troubles else 200, orjson.dumps({"troubles": troubles}))
        return Response(404, b'{"errors":[]}')

    async def metrics(self) -> Response:
        """The metrics page, written piece by piece: ten thousand objects make many lines."""
        lines: list[str] = []
        for line in self._metrics():
            lines.append(line)
            if len(lines) % LINES_AT_ONCE == 0:
                await asyncio.sleep(0)
        lines.append("")
        return Response(200, "\n".join(lines).encode(), content_type=_TEXT)

    async def notice(self, request: Request) -> Response:
        """The reply to a notice: what it woke, or why it was refused."""
        if request.method not in ("POST", "OPTIONS"):
            return Response(405, b'{"errors":["POST a notice"]}')
        try:
            self._gate.check(request)
            await self._senders.check(request)
            if request.method == "OPTIONS":
                return self._allowed(request)
            return self._taken(read_notice(request.body))
        except Refusal as refusal:
            return self._refused(refusal)

    def _allowed(self, request: Request) -> Response:
        """The handshake of CloudEvents (https://github.com/cloudevents/spec, HTTP webhooks)."""
        self._noted("validation")
        origin = request.headers.get("webhook-request-origin", "")
        return Response(200, headers=(("WebHook-Allowed-Origin", _one_line(origin)),))

    def _taken(self, notice: Notice) -> Response:
        if notice.validation:
            self._noted("validation")
            return Response(200, orjson.dumps({"validationResponse": notice.validation}))
        woken = sum(self._wake(name) for name in notice.names)
        self._noted("accepted")
        return Response(202, orjson.dumps({"woken": woken}))

    def _refused(self, refusal: Refusal) -> Response:
        status, result = _status(refusal)
        self._noted(result)
        body = orjson.dumps({"errors": [f"{refusal.code}: {refusal.message}"]})
        headers: tuple[tuple[str, str], ...] = ()
        if isinstance(refusal, Throttled) and refusal.retry_after is not None:
            headers = (("Retry-After", str(int(refusal.retry_after) + 1)),)
        return Response(status, body, headers)


def _one_line(text: str) -> str:
    return "".join(each for each in text if each.isprintable())


def is_notice(request: Request) -> bool:
    """Whether a request is for the senders of notices. Pure."""
    return request.target.partition("?")[0] == NOTICES


def _asks_for_metrics(request: Request) -> bool:
    return request.method in ("GET", "HEAD") and request.target.partition("?")[0] == METRICS


def _status(refusal: Refusal) -> tuple[int, str]:
    """The status of a refusal, and its name in the metrics. A sender tries again after a 5xx."""
    match refusal:
        case Denied():
            return 401, "denied"
        case TooLarge():
            return 413, "too-large"
        case Throttled():
            return 429, "throttled"
        case Invalid():
            return 400, "invalid"
    return 503, "unavailable"
