"""A wrapper's login at another store: made once for all who call, and again when it may help."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from strongroom.model.clock import SimulatedClock, SystemClock
from strongroom.model.errors import Denied
from strongroom.wire.client import HttpClient
from strongroom.wire.http import Request, Response
from strongroom.wire.keywrap.transit import BLAME_SECONDS, TransitLogin, TransitWrapper
from strongroom.wire.limits import Limits
from strongroom.wire.listener import Exchange, Listener


class Store:
    """Gives a new token at each login; `good` are those that it takes, `uses` times each."""

    def __init__(self) -> None:
        self.logins = self.uses = 0
        self.good: set[str] = set()
        self.used = Counter[str]()

    def __call__(self, request: Request, exchange: Exchange) -> None:
        if request.target.endswith("/login"):
            self.logins += 1
            auth = {"client_token": f"t{self.logins}", "lease_duration": 3600}
            auth["num_uses"] = self.uses
            exchange.reply(Response(200, json.dumps({"auth": auth}).encode()))
        elif self._takes(request.headers.get("x-vault-token", "")):
            exchange.reply(Response(200, b'{"data": {"ciphertext": "vault:v1:x"}}'))
        else:
            exchange.reply(Response(403, b'{"errors": ["permission denied"]}'))

    def _takes(self, token: str) -> bool:
        self.used[token] += 1
        return token in self.good and not 0 < self.uses < self.used[token]


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock()


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
async def wrapper(
    store: Store, clock: SimulatedClock, tmp_path: Path
) -> AsyncIterator[TransitWrapper]:
    listener = Listener(store, Limits(), SystemClock())
    host, port = await listener.start("127.0.0.1", 0)
    (tmp_path / "secret-id").write_text("s")
    login = TransitLogin(
        path="auth/approle/login", fields={"role_id": "r"},
        files={"secret_id": tmp_path / "secret-id"},
    )  # fmt: skip
    made = TransitWrapper(
        "t", (f"http://{host}:{port}", "transit", "k"), login, HttpClient(), clock
    )
    yield made
    await made.close()
    await listener.drain(0.2)


async def test_many_calls_without_a_right_are_one_login(
    store: Store, clock: SimulatedClock, wrapper: TransitWrapper
) -> None:
    """Each was a token in the other store, or one of the few uses that a secret id has."""
    calls = (wrapper.wrap(b"k", b"") for _ in range(10))
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(each, Denied) for each in found)
    with pytest.raises(Denied, match="policies do not allow"):
        await wrapper.wrap(b"k", b"")
    assert store.logins == 1
    await clock.advance(BLAME_SECONDS)
    with pytest.raises(Denied):
        await wrapper.wrap(b"k", b"")
    assert store.logins == 2


async def test_calls_whose_token_was_revoked_are_made_again_after_one_login(
    store: Store, clock: SimulatedClock, wrapper: TransitWrapper
) -> None:
    store.good = {"t1"}
    await wrapper.wrap(b"k", b"")
    store.good = {"t2"}
    await clock.advance(BLAME_SECONDS)
    calls = (wrapper.wrap(b"k", b"") for _ in range(10))
    assert set(await asyncio.gather(*calls)) == {b"vault:v1:x"}
    assert store.logins == 2


async def test_a_token_of_few_uses_is_replaced_when_they_are_over(
    store: Store, wrapper: TransitWrapper
) -> None:
    """Its refusal is no missing right, however young the login is."""
    store.uses, store.good = 2, {"t1", "t2", "t3"}
    await wrapper.wrap(b"k", b"")
    assert set(await asyncio.gather(*(wrapper.wrap(b"k", b"") for _ in range(5)))) == {
        b"vault:v1:x"
    }
    assert store.used == {"t1": 2, "t2": 2, "t3": 2}


async def test_a_login_is_made_again_before_its_token_ends(
    store: Store, clock: SimulatedClock, wrapper: TransitWrapper
) -> None:
    store.good = {"t1", "t2"}
    await wrapper.wrap(b"k", b"")
    await clock.advance(0.65 * 3600)
    await wrapper.wrap(b"k", b"")
    assert store.logins == 1
    await clock.advance(0.02 * 3600)
    await wrapper.wrap(b"k", b"")
    assert store.logins == 2
