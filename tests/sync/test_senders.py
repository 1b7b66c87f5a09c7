"""Senders of notices with a signed identity: proven by the keys of an issuer that runs here."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.sync.conftest import Issuer

from strongroom.app.notice_issuers import Issuers
from strongroom.crypto.signatures import new_key_pair
from strongroom.model.clock import SimulatedClock
from strongroom.model.errors import Denied, Invalid
from strongroom.model.secret import Secret
from strongroom.sync.senders import Gatekeeper, Senders, SignedSender, check_claims, read_senders
from strongroom.sync.web import OperatorPage
from strongroom.wire.http import Request, Response
from strongroom.wire.listener import Exchange

AUDIENCE = "https://operator.example.com/notices"
EMAIL = "push@shop.iam.gserviceaccount.com"
GOOGLE = {"email": EMAIL, "email_verified": True}
ENTRA = {"appid": "4962773b-9cdb-44cf-a8bf-237846a00ab7"}


@dataclass
class Bed:
    """An issuer over TLS, and a page that knows two of its identities."""

    issuer: Issuer
    clock: SimulatedClock
    page: OperatorPage
    asked: list[str]
    woken: list[str]
    away: list[bool] = field(default_factory=list)

    async def send(self, token: str, peer: str = "a") -> tuple[int, str]:
        """The status of a notice with this token, and the code of its refusal."""
        head = {"authorization": f"Bearer {token}"}
        body = json.dumps({"keys": ["prod/db"]}).encode()
        reply = await self.page.notice(Request("POST", "/notices", head, body, peer))
        errors = json.loads(reply.body).get("errors") or [""]
        return reply.status, errors[0].partition(":")[0]

    def token(self, audience: str = AUDIENCE, **claims: Any) -> str:
        return self.issuer.signed("1234", audience, **(claims or GOOGLE))


@pytest.fixture
async def bed(clock: SimulatedClock, tls: Any, tmp_path: Path) -> AsyncIterator[Bed]:
    issuer = Issuer(clock)
    asked: list[str] = []
    woken: list[str] = []
    away: list[bool] = []

    def handler(request: Request, exchange: Exchange) -> None:
        asked.append(request.target)
        if away:
            exchange.reply(Response(500, b"{}"))
            return
        issuer(request, exchange)

    async with tls(handler, tmp_path) as (issuer.address, authority):
        ca = authority.read_text()
        signed = [
            SignedSender(issuer.address, AUDIENCE, each, ca) for each in ({"email": EMAIL}, ENTRA)
        ]
        senders = Senders(Secret("t0ken"), signed, Issuers(clock))

        def wake(name: str) -> int:
            woken.append(name)
            return 1

        page = OperatorPage(list, list, wake, (Gatekeeper(clock), senders))
        yield Bed(issuer, clock, page, asked, woken, away)


async def test_a_push_of_pub_sub_and_a_delivery_of_event_grid_are_known(bed: Bed) -> None:
    assert await bed.send(bed.token()) == (202, "")
    assert await bed.send(bed.token(**ENTRA)) == (202, "")
    assert bed.woken == ["prod/db"] * 2
    # The issuer's pages are kept.
    assert sorted(bed.asked) == ["/.well-known/openid-configuration", "/openid/v1/jwks"]


async def test_the_shared_token_still_counts(bed: Bed) -> None:
    assert await bed.send("t0ken") == (202, "")
    assert bed.asked == []


@pytest.mark.parametrize(
    ("audience", "claims", "code"),
    [
        ("https://elsewhere", GOOGLE, "bad-audience"),
        (AUDIENCE, {**GOOGLE, "email": "x@evil.iam.gserviceaccount.com"}, "wrong-identity"),
        (AUDIENCE, {**GOOGLE, "email_verified": False}, "wrong-identity"),
        (AUDIENCE, {"email": EMAIL}, "wrong-identity"),
        (AUDIENCE, {"appid": "other"}, "wrong-identity"),
        (AUDIENCE, {**GOOGLE, "iss": "https://accounts.evil.example"}, "unknown-issuer"),
        (AUDIENCE, {**GOOGLE, "exp": 1}, "expired"),
        (AUDIENCE, {**GOOGLE, "iat": 9e9, "nbf": 9e9, "exp": 9e9 + 9}, "too-early"),
    ],
)
async def test_another_identity_hears_why_and_wakes_nobody(
    bed: Bed, audience: str, claims: dict, code: str
) -> None:
    assert await bed.send(bed.token(audience, **claims)) == (401, code)
    assert bed.woken == []


async def test_another_key_and_no_key_prove_nothing(bed: Bed) -> None:
    forged = bed.token(pair=new_key_pair("rsa-2048"), **GOOGLE)
    assert await bed.send(forged) == (401, "bad-signature")
    head, body, _ = bed.token().split(".")
    assert await bed.send(f"{head}.{body}.") == (401, "bad-signature")
    assert await bed.send("a.b.c") == (401, "not-a-jwt")
    assert await bed.send("a." + "b" * 20_000 + ".c") == (401, "not-a-jwt")
    assert bed.woken == []


async def test_an_issuer_that_is_away_is_no_refusal_of_the_sender(bed: Bed) -> None:
    """A 503 has Pub/Sub and Event Grid deliver again."""
    bed.away.append(True)
    assert await bed.send(bed.token()) == (503, "bad-issuer-reply")
    bed.away.clear()
    assert await bed.send(bed.token()) == (202, "")


@pytest.mark.long
async def test_strangers_do_not_make_us_hammer_the_issuer(bed: Bed) -> None:
    assert await bed.send(bed.token()) == (202, "")
    for number in range(20):
        await bed.send(bed.token(pair=new_key_pair("rsa-2048") if not number else b"", kid="x"))
    assert len(bed.asked) == 2


PAGE = Path(__file__).parents[2] / "docs" / "sync.md"


def test_the_list_of_senders() -> None:
    """As the page shows it."""
    text = PAGE.read_text().partition("`--notice-senders`:\n\n```yaml\n")[2].partition("```")[0]
    google, entra = read_senders(text)
    claims = {"email": "push@shop-1.iam.gserviceaccount.com"}
    assert google == SignedSender("https://accounts.google.com", AUDIENCE, claims)
    assert entra.claims == ENTRA


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must be a list"),
        ("[", "no YAML"),
        ("{}", "must be a list"),
        ("[{}]", r"senders\[0\].claims is needed|senders\[0\].issuer is needed"),
        ("[{issuer: 'http://x', audience: a, claims: {a: b}}]", "must be an https address"),
        ("[{issuer: 'https://x', audience: a, claims: {}}]", "which identity"),
        ("[{issuer: 'https://x', claims: {a: b}}]", "audience is needed"),
        ("[{issuer: 'https://x', audience: a, claims: {a: b}, caFile: /none}]", "caFile cannot"),
    ],
)
def test_a_list_that_cannot_be_used_names_its_field(text: str, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        read_senders(text)


def test_claims_are_exact() -> None:
    check_claims({"sub": "a", "n": 1}, {"sub": ["b", "a"], "n": 1})
    for claims in ({}, {"sub": "ab"}, {"sub": ["a"]}):
        with pytest.raises(Denied, match="the claim sub"):
            check_claims(claims, {"sub": "a"})
    with pytest.raises(Denied):
        check_claims({"email": "a", "email_verified": 1}, {"email": "a"})
