"""The operator's HTTP page: probes, metrics, and notices of clouds that wake the right objects."""

import hmac
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

import orjson

from strongroom.model.errors import Invalid
from strongroom.model.secret import Secret
from strongroom.sync.notices import read_notice
from strongroom.wire.http import Request, Response

if TYPE_CHECKING:
    from strongroom.wire.listener import Exchange

NOTICES: Final = "/notices"
_TEXT: Final = "text/plain; version=0.0.4"


class OperatorPage:
    """`/healthz`, `/readyz`, `/metrics`; POST `/notices` with the shared token.

    Without a token notices are refused. The token comes as `Authorization: Bearer`, as
    `X-Api-Key` (EventBridge API destinations) or, for Pub/Sub push, which sends no header of
    one's own, as `?token=`.
    """

    def __init__(
        self,
        troubles: Callable[[], list[str]],
        metrics: Callable[[], Iterable[str]],
        wake: Callable[[str], int],
        token: Secret | None,
        noted: Callable[[str], None] = lambda _result: None,
    ) -> None:
        self._troubles = troubles
        self._metrics = metrics
        self._wake = wake
        self._token = token
        self._noted = noted

    def __call__(self, request: Request, exchange: "Exchange") -> None:
        exchange.reply(self.answer(request))

    def answer(self, request: Request) -> Response:
        """The reply to one request."""
        path, _, query = request.target.partition("?")
        if path == NOTICES:
            if request.method != "POST":
                return Response(405, b'{"errors":["POST a notice"]}')
            return self._notice(request, query)
        if request.method not in ("GET", "HEAD"):
            return Response(404, b'{"errors":[]}')
        if path == "/healthz":
            return Response(200, b"ok\n", content_type="text/plain")
        if path == "/readyz":
            troubles = self._troubles()
            return Response(503 if troubles else 200, orjson.dumps({"troubles": troubles}))
        if path == "/metrics":
            body = ("\n".join(self._metrics()) + "\n").encode()
            return Response(200, body, content_type=_TEXT)
        return Response(404, b'{"errors":[]}')

    def _notice(self, request: Request, query: str) -> Response:
        if not self._may(request, query):
            self._noted("denied")
            return Response(401, b'{"errors":["the token is missing or wrong"]}')
        try:
            notice = read_notice(request.body)
        except Invalid as refusal:
            self._noted("invalid")
            return Response(400, orjson.dumps({"errors": [refusal.message]}))
        if notice.validation:
            self._noted("validation")
            return Response(200, orjson.dumps({"validationResponse": notice.validation}))
        woken = sum(self._wake(name) for name in notice.names)
        self._noted("accepted")
        return Response(202, orjson.dumps({"woken": woken}))

    def _may(self, request: Request, query: str) -> bool:
        if self._token is None:
            return False
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        given = (
            bearer.strip() if scheme.lower() == "bearer" else "",
            request.headers.get("x-api-key", ""),
            (parse_qs(query).get("token") or [""])[0],
        )
        wanted = self._token.reveal()
        return any(hmac.compare_digest(each.encode(), wanted) for each in given if each)
