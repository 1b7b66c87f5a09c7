"""JSON Web Key sets and OpenID discovery documents, fetched and kept for a while.

A token with a key id that is not in the set makes the set be fetched anew, at most once in a few
seconds: keys rotate, and strangers must not make the store hammer an issuer. Nor must they make
anybody wait: what is known is given at once, and who asks while an issuer is being asked waits
for that one answer, not in a line behind others who wait for theirs.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from strongroom.model.clock import Clock
from strongroom.model.errors import Refusal, TooLarge, Unavailable
from strongroom.model.secret import Secret
from strongroom.store.auth.jwt_verify import Key, keys_of_set
from strongroom.wire.client import HttpClient, Route, shown_address

KEPT_SECONDS: Final = 300.0
AGAIN_SECONDS: Final = 10.0
ENTRIES: Final = 1000
# Of a reply: the largest sets have some dozens of keys with their certificates.
REPLY_BYTES: Final = 1024 * 1024
# What an issuer calls its refusals (RFC 6749, 5.2; RFC 6750, 3.1).
ERROR_CODES: Final = frozenset(
    {
        "invalid_request", "invalid_client", "invalid_grant", "unauthorized_client",
        "unsupported_grant_type", "invalid_scope", "invalid_token", "insufficient_scope",
    }
)  # fmt: skip
DISCOVERY: Final = "/.well-known/openid-configuration"

OpenHttp = Callable[[str], HttpClient]


def open_http(ca: str) -> HttpClient:
    """A client that trusts the authority of this PEM text alone, or the system's for ""."""
    return HttpClient(ca_data=ca, route=Route(reply_bytes=REPLY_BYTES))


@dataclass(frozen=True, slots=True)
class Kept:
    """What was fetched, and when by the monotonic clock."""

    value: dict[str, Any]
    at: float


@dataclass(frozen=True, slots=True)
class Flight:
    """A question that is on its way, and as whom it is asked."""

    bearer: Secret | None
    answer: asyncio.Task[dict[str, Any]]


class KeySets:
    """One for each process."""

    def __init__(self, clock: Clock, http: OpenHttp = open_http) -> None:
        self._clock = clock
        self._http = http
        self._kept: dict[tuple[str, str], Kept] = {}
        self._flights: dict[tuple[str, str], Flight] = {}

    async def keys(
        self, url: str, ca: str, wanted: str = "", bearer: Secret | None = None
    ) -> list[Key]:
        """The keys of a set; with a wanted id not among them, of the set as it is now.

        `bearer` is for sets that are not shown to everybody.
        """
        found = await self._document(url, ca, KEPT_SECONDS, bearer)
        keys = keys_of_set(found.get("keys"))
        if wanted and all(key.id != wanted for key in keys):
            fresh = await self._document(url, ca, AGAIN_SECONDS, bearer)
            keys = keys_of_set(fresh.get("keys"))
        return keys

    async def discovery(self, issuer: str, ca: str) -> dict[str, Any]:
        """An issuer's discovery document; raises Unavailable when it names another issuer."""
        found = await self._document(issuer.rstrip("/") + DISCOVERY, ca, KEPT_SECONDS)
        if str(found.get("issuer")).rstrip("/") != issuer.rstrip("/"):
            raise Unavailable("other-issuer", "the discovery document is of another issuer")
        return found

    async def of_any(
        self,
        sets: Sequence[Mapping[str, str]],
        wanted: str,
        enough: Callable[[Sequence[Key]], bool],
    ) -> list[Key]:
        """The keys of several sets, and of no more of them once those that came are enough.

        An issuer that is away holds up nobody who comes from another. Raises Unavailable when the
        keys are not enough and a set could not be had.
        """
        asked = [asyncio.create_task(self._had(each, wanted)) for each in sets]
        keys: list[Key] = []
        away: Unavailable | None = None
        try:
            for one in asyncio.as_completed(asked):
                had = await one
                if isinstance(had, Unavailable):
                    away = had
                    continue
                keys += had
                if enough(keys):
                    return keys
        finally:
            for each in asked:
                each.cancel()
        if away is not None:
            raise away
        return keys

    async def _had(self, one: Mapping[str, str], wanted: str) -> list[Key] | Unavailable:
        try:
            return await self.keys(one["jwks_url"], one["jwks_ca_pem"], wanted)
        except Unavailable as refusal:
            return refusal

    async def _document(
        self, url: str, ca: str, seconds: float, bearer: Secret | None = None
    ) -> dict[str, Any]:
        place = (url, ca)
        kept = self._kept.get(place)
        if kept is not None and self._clock.monotonic() - kept.at < seconds:
            return kept.value
        try:
            # Whoever gives up waiting takes the answer from nobody else.
            return await asyncio.shield(self._flight(place, bearer))
        except Refusal:
            kept = self._kept.get(place)
            # An issuer that is away for a moment does not lock everybody out.
            if kept is None or seconds == AGAIN_SECONDS:
                raise
            self._keep(place, kept.value)
            return kept.value

    def _flight(
        self, place: tuple[str, str], bearer: Secret | None
    ) -> asyncio.Task[dict[str, Any]]:
        under_way = self._flights.get(place)
        if under_way is not None and under_way.bearer == bearer:
            return under_way.answer
        answer = asyncio.create_task(self._fetched(place, bearer))
        self._flights[place] = Flight(bearer, answer)

        def landed(task: asyncio.Task[dict[str, Any]]) -> None:
            flight = self._flights.get(place)
            if flight is not None and flight.answer is task:
                del self._flights[place]
            if not task.cancelled():
                # Looked at, where nobody waits for it any more.
                task.exception()

        answer.add_done_callback(landed)
        return answer

    async def _fetched(self, place: tuple[str, str], bearer: Secret | None) -> dict[str, Any]:
        url, ca = place
        shown = {"Authorization": f"Bearer {bearer.reveal_text()}"} if bearer else None
        value = await self.ask("GET", url, ca, headers=shown)
        self._keep(place, value)
        return value

    def _keep(self, place: tuple[str, str], value: dict[str, Any]) -> None:
        if len(self._kept) >= ENTRIES:
            self._kept.clear()
        self._kept[place] = Kept(value, self._clock.monotonic())

    async def ask(
        self,
        method: str,
        url: str,
        ca: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> dict[str, Any]:
        """A JSON object from an issuer; raises Unavailable, with no word of it but a known code."""
        try:
            async with self._http(ca) as http:
                reply = await http.request(method, url, headers=headers, body=body, timeout=10.0)
        except TooLarge as refusal:
            what = f"{shown_address(url)} is no issuer: {refusal.message}"
            raise Unavailable("bad-issuer-reply", what) from None
        try:
            value = orjson.loads(reply.body)
        except orjson.JSONDecodeError:
            value = None
        if reply.status != 200 or not isinstance(value, dict):
            where = shown_address(url)
            what = "no JSON object" if reply.status == 200 else f"status {reply.status}"
            code = value.get("error") if isinstance(value, dict) else None
            if isinstance(code, str) and code in ERROR_CODES:
                what += f" ({code})"
            raise Unavailable("bad-issuer-reply", f"{where} answered with {what}")
        return value
