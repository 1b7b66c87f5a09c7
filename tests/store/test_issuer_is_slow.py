"""An issuer that does not answer: who waits for it, and for how many answers."""

import asyncio

import pytest
from tests.openid_issuer import Issuer

from strongroom.app.waiting import until
from strongroom.model.clock import SimulatedClock, SystemClock
from strongroom.model.secret import Secret
from strongroom.store.auth.key_sets import KeySets
from strongroom.wire.http import Response

AUDIENCE = "strongroom"
ELSEWHERE = "/openid/v1/jwks"


@pytest.fixture
async def mounted(store, issuer: Issuer):
    await store.ask("POST", "sys/auth/jwt", {"type": "jwt"})
    body = {"role_type": "jwt", "user_claim": "sub", "bound_audiences": AUDIENCE}
    assert (await store.ask("POST", "auth/jwt/role/app", body))[0] == 204
    return store


async def configured(store, **config: object) -> None:
    config["skip_jwks_validation"] = True
    assert (await store.ask("POST", "auth/jwt/config", config))[0] == 204


def login(store, token: str) -> asyncio.Task:
    body = {"role": "app", "jwt": token}
    return asyncio.create_task(store.ask("POST", "auth/jwt/login", body, token=""))


async def asked(issuer: Issuer, times: int) -> None:
    async def seen() -> bool | None:
        return True if len(issuer.asked) >= times else None

    await until("the issuer to be asked", seen, SystemClock())


def of_unknown_key(issuer: Issuer) -> str:
    known, issuer.key_id = issuer.key_id, "unknown"
    token = issuer.sign(aud=AUDIENCE)
    issuer.key_id = known
    return token


async def test_strangers_hold_up_nobody_whose_key_is_known(mounted, issuer: Issuer) -> None:
    await configured(mounted, jwks_url=issuer.url + "/keys")
    assert (await login(mounted, issuer.sign(aud=AUDIENCE)))[0] == 200
    await mounted.clock.advance(11)
    issuer.holds["/keys"] = asyncio.Event()
    strangers = [login(mounted, of_unknown_key(issuer)) for _ in range(3)]
    await asked(issuer, 2)
    assert (await login(mounted, issuer.sign(aud=AUDIENCE)))[0] == 200
    assert not any(each.done() for each in strangers)
    issuer.holds["/keys"].set()
    assert [status for status, _ in await asyncio.gather(*strangers)] == [400] * 3


async def test_all_who_wait_for_an_issuer_wait_for_one_answer(mounted, issuer: Issuer) -> None:
    await configured(mounted, jwks_url=issuer.url + "/keys")
    issuer.holds["/keys"] = asyncio.Event()
    people = [login(mounted, issuer.sign(aud=AUDIENCE)) for _ in range(5)]
    await asked(issuer, 1)
    # One that gives up takes the answer from nobody else.
    people.pop(0).cancel()
    issuer.holds["/keys"].set()
    assert [status for status, _ in await asyncio.gather(*people)] == [200] * 4
    assert issuer.asked == ["keys"]


@pytest.mark.parametrize("silent_first", [True, False])
async def test_a_silent_issuer_holds_up_nobody_of_another(
    mounted,
    issuer: Issuer,
    silent_first: bool,
) -> None:
    issuer.holds[ELSEWHERE] = asyncio.Event()
    paths = [ELSEWHERE, "/keys"] if silent_first else ["/keys", ELSEWHERE]
    await configured(mounted, jwks_pairs=[{"jwks_url": issuer.url + path} for path in paths])
    assert (await login(mounted, issuer.sign(aud=AUDIENCE)))[0] == 200
    # Whether the silent one knows a key that no other knows is worth waiting for.
    stranger = login(mounted, of_unknown_key(issuer))
    assert (await login(mounted, issuer.sign(aud=AUDIENCE)))[0] == 200
    assert not stranger.done()
    issuer.holds[ELSEWHERE].set()
    assert (await stranger)[0] == 400


class Slow:
    """An issuer in place of a client; it notes as whom it is asked, and answers when it may."""

    def __init__(self) -> None:
        self.asked: list[str | None] = []
        self.may = asyncio.Event()

    async def __aenter__(self) -> "Slow":
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing is open."""

    async def request(self, *_: object, headers: dict[str, str] | None, **__: object) -> Response:
        self.asked.append((headers or {}).get("Authorization"))
        await self.may.wait()
        return Response(200, b'{"keys": []}')


async def test_an_answer_is_shared_by_those_who_ask_as_the_same_alone() -> None:
    """What is shown to one reviewer is not what another one may see."""
    slow = Slow()
    sets = KeySets(SimulatedClock(), lambda _ca: slow)
    asking = [
        asyncio.create_task(sets.keys("https://a/keys", "", bearer=Secret(each)))
        for each in ("one", "one", "two")
    ]
    for _ in range(5):
        await asyncio.sleep(0)
    slow.may.set()
    assert await asyncio.gather(*asking) == [[], [], []]
    assert slow.asked == ["Bearer one", "Bearer two"]
