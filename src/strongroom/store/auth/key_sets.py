"""JSON Web Key sets and OpenID discovery documents, fetched and kept for a while.

A token with a key id that is not in the set makes the set be fetched anew, at most once in a few
seconds: keys rotate, and strangers must not make the store hammer an issuer.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from strongroom.model.clock import Clock
from strongroom.model.errors import Refusal, Unavailable
from strongroom.model.secret import Secret
from strongroom.store.auth.jwt_verify import Key, keys_of_set
from strongroom.wire.client import HttpClient, shown_address

KEPT_SECONDS: Final = 300.0
AGAIN_SECONDS: Final = 10.0
ENTRIES: Final = 1000
DISCOVERY: Final = "/.well-known/openid-configuration"

OpenHttp = Callable[[str], HttpClient]


def open_http(ca: str) -> HttpClient:
    """A client that trusts the authority of this PEM text alone, or the system's for ""."""
    return HttpClient(ca_data=ca)


@dataclass(frozen=True, slots=True)
class Kept:
    """What was fetched, and when by the monotonic clock."""

    value: dict[str, Any]
    at: float


class KeySets:
    """One for each process."""

    def __init__(self, clock: Clock, http: OpenHttp = open_http) -> None:
        self._clock = clock
        self._http = http
        self._kept: dict[tuple[str, str], Kept] = {}
        self._turns: dict[tuple[str, str], asyncio.Lock] = {}

    async def keys(
        self, url: str, ca: str, wanted: str = "", bearer: Secret | None = None
    ) -> list[Key]:
        """The keys of a set; with a wanted id not among them, of the set as it is now.

        `bearer` is for sets that are not shown to everybody.
        """
        found = await self._document(url, ca, KEPT_SECONDS, bearer)
        keys = keys_of_set(found.get("keys") or [])
        if wanted and all(key.id != wanted for key in keys):
            fresh = await self._document(url, ca, AGAIN_SECONDS, bearer)
            keys = keys_of_set(fresh.get("keys") or [])
        return keys

    async def discovery(self, issuer: str, ca: str) -> dict[str, Any]:
        """An issuer's discovery document; raises Unavailable when it names another issuer."""
        found = await self._document(issuer.rstrip("/") + DISCOVERY, ca, KEPT_SECONDS)
        if str(found.get("issuer")).rstrip("/") != issuer.rstrip("/"):
            raise Unavailable("other-issuer", "the discovery document is of another issuer")
        return found

    async def _document(
        self, url: str, ca: str, seconds: float, bearer: Secret | None = None
    ) -> dict[str, Any]:
        place = (url, ca)
        turn = self._turns.setdefault(place, asyncio.Lock())
        async with turn:
            kept = self._kept.get(place)
            if kept is not None and self._clock.monotonic() - kept.at < seconds:
                return kept.value
            try:
                shown = {"Authorization": f"Bearer {bearer.reveal_text()}"} if bearer else None
                value = await self.ask("GET", url, ca, headers=shown)
            except Refusal:
                # An issuer that is away for a moment does not lock everybody out.
                if kept is None or seconds == AGAIN_SECONDS:
                    raise
                value = kept.value
            if len(self._kept) >= ENTRIES:
                self._kept.clear()
            self._kept[place] = Kept(value, self._clock.monotonic())
            return value

    async def ask(
        self,
        method: str,
        url: str,
        ca: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> dict[str, Any]:
        """A JSON object from an issuer; raises Unavailable without repeating what it said."""
        async with self._http(ca) as http:
            reply = await http.request(method, url, headers=headers, body=body, timeout=10.0)
        try:
            value = orjson.loads(reply.body)
        except orjson.JSONDecodeError:
            value = None
        if reply.status != 200 or not isinstance(value, dict):
            where = shown_address(url)
            what = "no JSON object" if reply.status == 200 else f"status {reply.status}"
            raise Unavailable("bad-issuer-reply", f"{where} answered with {what}")
        return value
