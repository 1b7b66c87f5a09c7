"""Proves the identities of notices' senders by what their issuers publish."""

from typing import Final

from strongroom.model.clock import Clock
from strongroom.model.errors import Denied, Unavailable
from strongroom.store.auth.jwt_verify import (
    Leeways,
    check_audience,
    check_times,
    key_id,
    unverified_claims,
    verified_claims,
)
from strongroom.store.auth.key_sets import KeySets, OpenHttp, open_http
from strongroom.sync.senders import Claims, SignedSender

TOKEN_BYTES: Final = 16 * 1024


class Issuers:
    """Discovery documents and key sets, fetched and kept for a while. Implements senders.Verify."""

    def __init__(self, clock: Clock, http: OpenHttp = open_http) -> None:
        self._clock = clock
        self._sets = KeySets(clock, http)

    def issuer_of(self, token: str) -> str:
        if len(token) > TOKEN_BYTES:
            raise Denied("not-a-jwt", "the token is too long")
        return str(unverified_claims(token).get("iss") or "")

    async def claims(self, token: str, sender: SignedSender) -> Claims:
        page = await self._sets.discovery(sender.issuer, sender.ca)
        where = str(page.get("jwks_uri") or "")
        if not where.startswith("https://"):
            raise Unavailable("bad-issuer-reply", f"{sender.issuer} names no https key set")
        keys = await self._sets.keys(where, sender.ca, key_id(token))
        found = verified_claims(token, keys)
        check_times(found, Leeways(), self._clock.now())
        check_audience(found, (sender.audience,))
        return found
