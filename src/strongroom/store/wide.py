"""Requests with so many values that hiding them for their record would hold up all others.

They are put off: their data is hidden a part at a time, one request after the other, and then they
are taken as if they had come just now, so that whether they are allowed is decided as late as for
any request.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any, Final

from strongroom.model.errors import Unavailable
from strongroom.store.recording import Recording
from strongroom.wire.http import Request
from strongroom.wire.listener import Exchange, Handler

# Of bodies that wait, which are in memory twice: as they came, and as they were read.
MOST_BYTES: Final = 128 * 1024 * 1024
# Of their values: each takes a hundred bytes and more beside its text, and is hidden by itself. Few
# large ones, such as a batch of texts to encrypt, are done with soon.
MOST_VALUES: Final = 2_000_000
# Before or behind each of them stands one; those inside a text are counted as well.
_BESIDE_VALUES: Final = (b",", b"[", b"{")


class WideRequests:
    """`again` takes a request once its data is hidden; `refuse` answers one that failed."""

    def __init__(
        self,
        recording: Recording,
        again: Handler,
        refuse: Callable[[Exchange, Exception], None],
        keep: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._recording = recording
        self._again = again
        self._refuse = refuse
        self._keep = keep
        # One waits for the parts of answers, and not all: so those wait for one request at most.
        self._turn = asyncio.Lock()
        self._bytes = 0
        self._values = 0

    def put_off(
        self,
        request: Request,
        exchange: Exchange,
        data: Mapping[str, Any],
        clear: Collection[str],
    ) -> None:
        """Hide the data first; raises Unavailable(`busy`) when too much of it waits."""
        size, values = len(request.body), sum(map(request.body.count, _BESIDE_VALUES))
        full = self._bytes + size > MOST_BYTES or self._values + values > MOST_VALUES
        if self._bytes and full:
            raise Unavailable(
                "busy", "too many large requests wait for their records", hint="try again later"
            )
        self._bytes += size
        self._values += values
        self._keep(self._hide(request, exchange, data, clear, values))

    async def _hide(
        self,
        request: Request,
        exchange: Exchange,
        data: Mapping[str, Any],
        clear: Collection[str],
        values: int,
    ) -> None:
        try:
            async with self._turn:
                hidden = b"" if exchange.gone else await self._recording.hidden(data, clear)
        except Exception as error:  # noqa: BLE001 - a bug is answered
            self._refuse(exchange, error)
            return
        finally:
            self._bytes -= len(request.body)
            self._values -= values
        # For who has left nothing was begun, and nothing is.
        if not exchange.gone:
            # There, and not here: it may be refused before anybody asks for this.
            exchange.hidden = hidden
            self._again(request, exchange)
