"""A server killed again and again while it makes and revokes tokens, and turns and uses keys."""

import asyncio
import base64
import random
from dataclasses import dataclass, field

import pytest
from server_process import CLOCK, Server

from strongroom.model.errors import Unavailable

pytestmark = [pytest.mark.component, pytest.mark.timeout(900)]

ROUNDS = {"sqlite": 25, "postgres": 12}
KEY = "transit/keys/k"


@dataclass
class Acknowledged:
    """What the server has said it did. `revoking` are tokens whose end was asked for."""

    tokens: list[str] = field(default_factory=list)
    revoking: set[str] = field(default_factory=set)
    revoked: set[str] = field(default_factory=set)
    ciphertexts: dict[str, str] = field(default_factory=dict)
    rotations: int = 0
    asked_rotations: int = 0

    @property
    def least(self) -> int:
        """How much there is of what there is least of."""
        return min(len(self.tokens), len(self.revoked), len(self.ciphertexts), self.rotations)


async def answered(server: Server, path: str, body: object) -> dict | None:
    """The reply to a write that was done; None when the server died or refused."""
    try:
        status, said = await server.ask("POST", path, body)
    except (Unavailable, OSError, ValueError):
        return None
    return said if status in (200, 204) else None


async def make_tokens(server: Server, done: Acknowledged) -> None:
    while (said := await answered(server, "auth/token/create", {"ttl": "10h"})) is not None:
        done.tokens.append(said["auth"]["client_token"])


async def revoke_tokens(server: Server, done: Acknowledged) -> None:
    while True:
        left = [each for each in done.tokens if each not in done.revoking]
        if not left:
            await asyncio.sleep(0)
            if server.process is None:
                return
            continue
        token = left[0]
        done.revoking.add(token)
        if await answered(server, "auth/token/revoke", {"token": token}) is None:
            return
        done.revoked.add(token)


async def rotate(server: Server, done: Acknowledged) -> None:
    while True:
        done.asked_rotations += 1
        if await answered(server, f"{KEY}/rotate", {}) is None:
            return
        done.rotations += 1


async def encrypt(server: Server, done: Acknowledged) -> None:
    while True:
        plaintext = base64.b64encode(str(len(done.ciphertexts)).encode()).decode()
        said = await answered(server, "transit/encrypt/k", {"plaintext": plaintext})
        if said is None:
            return
        done.ciphertexts[said["data"]["ciphertext"]] = plaintext


async def all_is_there(server: Server, done: Acknowledged, chance: random.Random) -> None:
    _, found = await server.ask("GET", KEY)
    assert done.rotations <= found["data"]["latest_version"] - 1 <= done.asked_rotations
    done.rotations = done.asked_rotations = found["data"]["latest_version"] - 1
    # Those of the last round, and some of before.
    for text, plain in _some(list(done.ciphertexts.items()), chance):
        status, said = await server.ask("POST", "transit/decrypt/k", {"ciphertext": text})
        assert (status, said["data"]["plaintext"]) == (200, plain)
    for token in _some(done.tokens, chance):
        status, _ = await server.ask("POST", "auth/token/lookup", {"token": token})
        if token in done.revoked:
            assert status in (400, 403, 404)
        elif token not in done.revoking:
            assert status == 200


def _some(every: list, chance: random.Random) -> list:
    return [*every[-15:], *chance.sample(every, min(15, len(every)))]


async def test_tokens_and_keys_that_were_acknowledged_outlive_every_kill(server: Server) -> None:
    chance, done = random.Random(20261127), Acknowledged()
    await server.start()
    assert (await server.ask("POST", "sys/mounts/transit", {"type": "transit"}))[0] == 204
    assert (await server.ask("POST", KEY, {}))[0] in (200, 204)
    for number in range(ROUNDS["postgres" if server.options.database else "sqlite"]):
        work = (make_tokens, make_tokens, revoke_tokens, rotate, encrypt, encrypt)
        tasks = [asyncio.create_task(each(server, done)) for each in work]
        # On a slow machine too there is one of each for every round before.
        while done.least < number and not all(each.done() for each in tasks):
            await CLOCK.sleep(0.01)
        await CLOCK.sleep(chance.uniform(0.02, 0.25))
        server.kill()
        await asyncio.gather(*tasks)
        await server.start()
        await all_is_there(server, done, chance)
    # Enough of each to lose.
    assert done.least > 5
