"""Asking OCSP responders about the certificate of a login or a renewal.

Only a certificate that a role trusts already is asked about, so strangers make the store ask
nobody. Answers are kept for as long as they say, at most an hour; a responder that failed is left
alone for a few seconds, and one that said nothing of worth is so about that certificate.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from strongroom.crypto.client_certificates import (
    Certificate,
    digest_of,
    has_issued,
    is_authority,
    read_certificates,
)
from strongroom.crypto.ocsp import (
    Answer,
    Standing,
    question,
    read_answer,
    read_authorities,
    responders,
)
from strongroom.model.clock import Clock
from strongroom.model.errors import Refusal
from strongroom.store.auth.fetching import Fetch
from strongroom.store.notices import Notices

ANSWER_BYTES: Final = 64 * 1024
KEPT_SECONDS: Final = 3600.0
DOWN_SECONDS: Final = 5.0
MOST_SERVERS: Final = 8
USUAL_SIZE: Final = 100
_PART: Final = "ocsp"


@dataclass(frozen=True, slots=True)
class OcspSettings:
    """What a role says: who may sign answers beside the issuer, whom to ask instead, and how."""

    authorities: tuple[Certificate, ...]
    servers: tuple[str, ...]
    fail_open: bool
    query_all: bool


def settings_of(role: Mapping[str, Any]) -> OcspSettings | None:
    """A role's settings, None where nobody is to be asked."""
    if not role.get("ocsp_enabled"):
        return None
    return OcspSettings(
        read_authorities(role["ocsp_ca_certificates"]),
        tuple(role["ocsp_servers_override"]),
        bool(role["ocsp_fail_open"]),
        bool(role["ocsp_query_all_servers"]),
    )


def accepts(standings: Sequence[Standing | None], settings: OcspSettings) -> bool:
    """Whether these answers let a certificate in; None is a responder that gave none. Pure.

    Revoked by one is revoked. Where all are asked all must call it good, else one must; what is
    missing to that is made up for by failing open alone.
    """
    if Standing.REVOKED in standings:
        return False
    good = [each is Standing.GOOD for each in standings]
    enough = bool(good) and (all(good) if settings.query_all else any(good))
    return enough or settings.fail_open


@dataclass(frozen=True, slots=True)
class _Subject:
    certificate: Certificate
    issuer: Certificate
    authorities: tuple[Certificate, ...]

    def key(self, server: str) -> bytes:
        """Whoever trusts other authorities must not live on this one's answers."""
        digest = hashlib.sha256(server.encode())
        for each in (self.certificate, self.issuer, *self.authorities):
            digest.update(digest_of(each))
        return digest.digest()


class OcspChecks:
    """One for each process; answers are kept apart by mount."""

    def __init__(self, clock: Clock, fetch: Fetch, notices: Notices) -> None:
        self._clock = clock
        self._fetch = fetch
        self._notices = notices
        self._kept: dict[str, OrderedDict[bytes, Answer]] = {}
        # Of a server, or of a question to it: since when, and why.
        self._down: dict[bytes, tuple[float, str]] = {}

    @property
    def mounts(self) -> set[str]:
        """Those of which answers are kept."""
        return set(self._kept)

    def forget(self, mounts: set[str]) -> None:
        """Keep no answers for these."""
        for each in mounts:
            self._kept.pop(each, None)

    async def refusal(
        self,
        chain: Sequence[Certificate],
        role: Mapping[str, Any],
        mount: str,
        size: int = USUAL_SIZE,
    ) -> str:
        """Why the first certificate of a trusted chain is not let in by a role, "" if it is.

        `size` is how many answers are kept for the mount.
        """
        settings = settings_of(role)
        if settings is None:
            return ""
        standings: list[Standing | None] = []
        issuer = _issuer(chain, role, settings)
        if issuer is None:
            said = ["the certificate's issuer is not known"]
        else:
            subject = _Subject(chain[0], issuer, settings.authorities)
            standings, said = await self._ask(subject, settings, mount, size)
        if Standing.REVOKED in standings:
            return "the certificate is revoked, says its OCSP responder"
        why = "; ".join(said) or "no OCSP responder is named for the certificate"
        if accepts(standings, settings):
            if said or not standings:
                self._notices.say(_PART, f"{why}; the login goes on, as its role fails open")
            return ""
        return f"no OCSP responder vouches for the certificate: {why}"

    async def _ask(
        self, subject: _Subject, settings: OcspSettings, mount: str, size: int
    ) -> tuple[list[Standing | None], list[str]]:
        """Standings of those that were asked, and what went wrong."""
        servers = (settings.servers or responders(subject.certificate))[:MOST_SERVERS]
        if settings.query_all:
            found = list(
                await asyncio.gather(
                    *(self._standing(each, subject, mount, size) for each in servers)
                )
            )
        else:
            found = []
            for server in servers:
                found.append(await self._standing(server, subject, mount, size))
                if found[-1][0] in (Standing.GOOD, Standing.REVOKED):
                    break
        return [standing for standing, _ in found], [why for _, why in found if why]

    async def _standing(
        self, server: str, subject: _Subject, mount: str, size: int
    ) -> tuple[Standing | None, str]:
        key, kept = subject.key(server), self._kept.setdefault(mount, OrderedDict())
        answer = kept.get(key)
        if answer is not None and answer.until > self._clock.now():
            kept.move_to_end(key)
            return answer.standing, ""
        for failed in (server.encode(), key):
            since, why = self._down.get(failed, (0.0, ""))
            if why and self._clock.monotonic() - since < DOWN_SECONDS:
                return None, why
        # Whoever has a certificate of which it says nothing must not shield the others.
        failing = server.encode()
        try:
            said = await self._fetch(
                server, question(subject.certificate, subject.issuer), ANSWER_BYTES
            )
            failing, now = key, self._clock.now()
            answer = read_answer(
                said, subject.certificate, subject.issuer, subject.authorities, now
            )
        except Refusal as refusal:
            return None, self._failed(failing, server, refusal)
        self._down.pop(server.encode(), None)
        self._keep(kept, key, answer, size)
        unknown = f"{server} does not know the certificate"
        return answer.standing, unknown if answer.standing is Standing.UNKNOWN else ""

    def _failed(self, failing: bytes, server: str, refusal: Refusal) -> str:
        message = refusal.message
        why = message if server in message else f"{server}: {message}"
        if len(self._down) >= USUAL_SIZE:
            self._down.clear()
        self._down[failing] = (self._clock.monotonic(), why)
        return why

    def _keep(
        self, kept: OrderedDict[bytes, Answer], key: bytes, answer: Answer, size: int
    ) -> None:
        if answer.standing is Standing.UNKNOWN:
            return  # It may be issued by now.
        until = min(answer.until, self._clock.now() + KEPT_SECONDS)
        kept[key] = Answer(answer.standing, until)
        while len(kept) > size:
            kept.popitem(last=False)


def _issuer(
    chain: Sequence[Certificate], role: Mapping[str, Any], settings: OcspSettings
) -> Certificate | None:
    """The next of the chain; for one that is trusted as itself, whoever of the role issued it."""
    if len(chain) > 1:
        return chain[1]
    known = (*read_certificates(role["certificate"]), *settings.authorities)
    return next((each for each in known if is_authority(each) and has_issued(each, chain[0])), None)
