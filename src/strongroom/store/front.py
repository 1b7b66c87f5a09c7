"""The handler in front of the pipeline: sealed, it answers as Vault does; open, it steps aside.

Also `/livez` and `/readyz` for probes: alive is who answers at all, ready is who can serve.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, cast

import orjson

from strongroom.model.errors import Refusal
from strongroom.store.call import Call, Endpoint, Result, match
from strongroom.store.engine.contract import Engine
from strongroom.store.envelope import encode, encode_refusal
from strongroom.store.normalise import Canonical, normalise
from strongroom.store.pipeline import Pipeline
from strongroom.store.seal.cluster import ClusterSeal
from strongroom.wire.http import Request, Response
from strongroom.wire.listener import Exchange

API: Final = "/v1/"
ALIVE: Final = "/livez"
READY: Final = "/readyz"
SYSTEM: Final = "sys/"
_SEALED: Final = b'{"errors":["Vault is sealed"]}\n'

_log = logging.getLogger(__name__)


def is_probe(request: Request) -> bool:
    """Whether it asks only how this process is."""
    return request.target.partition("?")[0] in (ALIVE, READY)


class Front:
    """The listener's handler. `build` makes a pipeline on the engine that has just opened.

    `problems` says why an open server cannot serve, {} when it can.
    """

    def __init__(
        self,
        engine: Engine,
        seal: ClusterSeal,
        endpoints: Sequence[Endpoint],
        build: Callable[[], Pipeline],
        problems: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._engine = engine
        self._seal = seal
        self._endpoints = endpoints
        self._build = build
        self._problems = problems
        self._tasks: set[asyncio.Task[None]] = set()
        self.pipeline: Pipeline | None = None
        seal.changed = self._changed
        self._changed()

    def _changed(self) -> None:
        if not self._seal.sealed:
            self.pipeline = self._build()
            self.pipeline.otherwise = self
        elif self.pipeline is not None:
            self.pipeline.cut()
            self.pipeline = None

    async def finish(self) -> None:
        """Wait for what is being executed."""
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self.pipeline is not None:
            await self.pipeline.finish()

    async def tend(self) -> int:
        """Bring what has expired to its end; how much that was. Sealed, nothing is done."""
        if self.pipeline is None:
            return 0
        return await self._engine.waiting(self.pipeline.expiration.catch_up())

    async def admits(self, request: Request) -> bool:
        """Whether the sender of this head may do what it asks; nobody may while it is sealed."""

        async def ask() -> bool:
            return self.pipeline is not None and self.pipeline.admits(request)

        with contextlib.suppress(Refusal):
            return await self._engine.waiting(ask())
        return False

    def __call__(self, request: Request, exchange: Exchange) -> None:
        pipeline = self.pipeline
        if not request.target.startswith(API):
            probe = self._probe(request.target.partition("?")[0])
            if probe is not None:
                exchange.reply(probe)
                return
        if pipeline is not None:
            pipeline(request, exchange)
            return
        self._start(self._engine.waiting(self._while_sealed(request, exchange)))

    def _probe(self, path: str) -> Response | None:
        if path == ALIVE:
            return Response(200, b'{"live":true}\n')
        if path != READY:
            return None
        problems = dict(self._problems())
        if self._seal.sealed:
            problems["seal"] = f"waits for {self._seal.waiting_for or 'its turn to unseal'}"
        body = orjson.dumps({"ready": not problems, "problems": problems}) + b"\n"
        return Response(503 if problems else 200, body)

    # sealed

    async def _while_sealed(self, request: Request, exchange: Exchange) -> None:
        # Another process may have been given the last share: its next request must not be refused.
        await _attempted(self._seal.follow())
        if self.pipeline is not None:
            self.pipeline.again(request, exchange)
            return
        content_type = request.headers.get("content-type", "")
        try:
            found = normalise(request.method, request.target, request.body, content_type)
            result = self._result(found, request)
        except Refusal as refusal:
            exchange.reply(encode_refusal(refusal))
            return
        except Exception as error:  # noqa: BLE001 - as in `_replied`
            _internal_error(error, exchange)
            return
        if isinstance(result, Result):
            exchange.reply(encode(result, ""))
        elif result is not None:
            await _replied(result, exchange)
        elif not await self._opened_meanwhile(request, exchange):
            exchange.reply(Response(503, _SEALED))

    async def _opened_meanwhile(self, request: Request, exchange: Exchange) -> bool:
        """Whether the try that is under way has opened, and the pipeline has the request."""
        if self._seal.opening:
            await _attempted(self._seal.try_to_open())
        if self.pipeline is None:
            return False
        self.pipeline.again(request, exchange)
        return True

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _result(self, found: Canonical, request: Request) -> Any:  # noqa: ANN401 - see Handler
        if not found.path.startswith(SYSTEM):
            return None
        rest = found.path.removeprefix(SYSTEM)
        for endpoint in self._endpoints:
            handler = endpoint.handlers.get(found.operation)
            if handler is not None and match(endpoint.pattern, rest) is not None:
                mount = cast(Any, None)
                call = Call(found.operation, found.path, found.data, mount, rest, peer=request.peer)
                return handler(call)
        return None


async def _attempted(opening: Awaitable[None]) -> None:
    """The request that came with it is answered, however it ends."""
    try:
        await opening
    except Refusal:
        pass
    except Exception as error:  # noqa: BLE001 - its message may hold a value
        _log.error("internal error while sealed: %s", type(error).__name__)


async def _replied(result: Awaitable[Result | None], exchange: Exchange) -> None:
    try:
        answer = await result
    except Refusal as refusal:
        exchange.reply(encode_refusal(refusal))
    except Exception as error:  # noqa: BLE001 - answered as 500; the message may hold a value
        _internal_error(error, exchange)
    else:
        exchange.reply(encode(answer, ""))


def _internal_error(error: Exception, exchange: Exchange) -> None:
    _log.error("internal error while sealed: %s", type(error).__name__)
    exchange.reply(Response(500, b'{"errors":["internal error"]}\n'))
