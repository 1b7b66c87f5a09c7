"""Requests of the command line: followed to another node, sent again, and not too many at once.

What Vault's client does by VAULT_MAX_RETRIES, VAULT_RATE_LIMIT and VAULT_DISABLE_REDIRECTS. A
request that is sent again may have been done the first time, so nothing is unless that was said.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import urljoin, urlsplit

from strongroom.app.store_address import StoreAddress
from strongroom.model.errors import Unavailable
from strongroom.wire.client import HttpClient, Route
from strongroom.wire.http import Response, retry_after

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 30.0
_ELSEWHERE: Final = frozenset({301, 302, 307, 308})
Pause = Callable[[float], Awaitable[None]]


class StoreHttp(HttpClient):
    """Connections to one store."""

    def __init__(self, where: StoreAddress, pause: Pause = asyncio.sleep) -> None:
        """`pause` waits for seconds."""
        super().__init__(
            ca_file=where.ca_file,
            ca_data=where.ca_data,
            client_certificate=where.client_certificate,
            route=Route(where.server_name, where.proxy, where.timeout),
            verify=not where.skip_verify,
        )
        self._where = where
        self._pause = pause
        self._sent = 0

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout: float | None = None,
    ) -> Response:
        """As HttpClient.request, and once more at another address where the reply says so.

        Raises Unavailable(`redirected`) for a reply that is not followed.
        """

        async def once(target: str) -> Response:
            await self._in_turn()
            return await super(StoreHttp, self).request(
                method, target, headers=headers, body=body, timeout=timeout
            )

        for attempt in range(self._where.retries):
            try:
                reply = await self._followed(url, once)
            except Unavailable as error:
                if error.code != "unreachable":
                    raise
                await self._pause(_backoff(attempt, None))
            else:
                if not _passing(reply.status):
                    return reply
                await self._pause(_backoff(attempt, reply))
        return await self._followed(url, once)

    async def _followed(self, url: str, once: Callable[[str], Awaitable[Response]]) -> Response:
        reply = await once(url)
        target = _target(url, reply)
        if not target:
            return reply
        if not self._where.follow_redirects:
            raise _redirected(target, "redirects are switched off")
        if urlsplit(url).scheme == "https" and urlsplit(target).scheme != "https":
            raise _redirected(target, "that is not encrypted")
        reply = await once(target)
        if _target(target, reply):
            raise _redirected(target, "which sends further")
        return reply

    async def _in_turn(self) -> None:
        """After the first ones, each request waits for its share of a second."""
        rate, burst = self._where.rate
        if rate > 0 and self._sent >= burst:
            await self._pause(1 / rate)
        self._sent += 1


def _passing(status: int) -> bool:
    """What another attempt may change."""
    return status == 412 or (status >= 500 and status != 501)


def _backoff(attempt: int, reply: Response | None) -> float:
    asked = retry_after(reply) if reply is not None else None
    return min(FIRST_PAUSE * 2**attempt if asked is None else asked, LONGEST_PAUSE)


def _target(url: str, reply: Response) -> str:
    if reply.status not in _ELSEWHERE:
        return ""
    return next(
        (urljoin(url, value) for name, value in reply.headers if name.lower() == "location"), ""
    )


def _redirected(target: str, why: str) -> Unavailable:
    parts = urlsplit(target)
    return Unavailable(
        "redirected",
        f"the store sends the request to {parts.scheme}://{parts.netloc}: {why}",
        hint="give that as -address",
    )
