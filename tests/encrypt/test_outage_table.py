"""The table of outages: what an API server does for an hour when its plugin fails in each way.

Source of the rows: kubernetes/apiserver pkg/server/options/encryptionconfig/config.go and
kmsv2/envelope.go; the last column of each is what our plugin makes of it.
"""

import asyncio
from dataclasses import dataclass, field

import pytest

from strongroom.encrypt.kms.api_server_fake import ApiServerFake
from strongroom.encrypt.kms.messages import (
    DecryptRequest,
    EncryptRequest,
    EncryptResponse,
    StatusResponse,
    decrypt_response,
)
from strongroom.model.clock import SimulatedClock
from strongroom.model.errors import Refusal, Unavailable

HOUR = 3600.0
DOWN = Unavailable("down", "the plugin is away")


@dataclass
class Script:
    """A plugin of any maker: what Status says, and which calls fail. A wrapped seed is a number."""

    key_id: str = "k1"
    healthz: str = "ok"
    failing: set[str] = field(default_factory=set)
    flips: bool = False
    polls: int = 0
    wrapped: dict[bytes, bytes] = field(default_factory=dict)

    async def __call__(self, method: str, message: bytes) -> bytes:
        if method in self.failing:
            raise DOWN
        if method == "Status":
            self.polls += self.flips
            # Both servers poll once a minute, so the id is another one at each server's next poll.
            self.key_id = f"k{1 + (self.polls + 1) // 2 % 2}" if self.flips else self.key_id
            return StatusResponse("v2", self.healthz, self.key_id).dumps()
        if method == "Encrypt":
            name = str(len(self.wrapped)).encode()
            self.wrapped[name] = EncryptRequest.loads(message).plaintext
            return EncryptResponse(name, self.key_id).dumps()
        return decrypt_response(self.wrapped[DecryptRequest.loads(message).ciphertext])


async def may(call) -> bool:
    """Whether a read or write succeeds."""
    try:
        done = call()
        if done is not None:
            await done
    except Refusal:
        return False
    return True


@dataclass
class Seen:
    """What a server showed at one moment."""

    ready: bool
    writes: bool
    own_seed: bool
    others_seed: bool


class Pair:
    """Two API servers on one etcd and one plugin, an hour of which is simulated."""

    def __init__(self) -> None:
        self.script, self.clock = Script(), SimulatedClock()
        self.server = ApiServerFake(self.script, self.clock)
        self.other = ApiServerFake(self.script, self.clock)
        self.other.stored = self.server.stored
        self.running: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self.running = [asyncio.create_task(each.run()) for each in (self.server, self.other)]
        await self.clock.advance(120)
        self.server.write("own")
        self.other.write("others")

    async def seen(self) -> Seen:
        return Seen(
            self.server.healthy,
            await may(lambda: self.server.write("new")),
            await may(lambda: self.server.read("own")),
            await may(lambda: self.server.read("others")),
        )

    def stop(self) -> None:
        for each in self.running:
            each.cancel()


@pytest.fixture
async def pair():
    made = Pair()
    await made.start()
    yield made
    made.stop()


def gone(script: Script) -> None:
    script.failing = {"Status", "Encrypt", "Decrypt"}


def cannot_encrypt(script: Script) -> None:
    script.key_id, script.failing = "k2", {"Encrypt"}


def unhealthy(script: Script) -> None:
    script.healthz, script.failing = "the KMS is away", {"Encrypt", "Decrypt"}


@pytest.mark.parametrize(
    ("happens", "at_two_minutes", "after_an_hour"),
    [
        (gone, Seen(False, True, True, False), Seen(False, False, True, False)),
        (cannot_encrypt, Seen(False, True, True, True), Seen(False, False, True, True)),
        # Row 3 is the upstream bug our plugin steers clear of by never answering with a text.
        (unhealthy, Seen(False, True, True, False), Seen(False, True, True, False)),
    ],
    ids=["1-gone", "2-encrypt-fails", "3-healthz-text"],
)
async def test_a_row_of_the_table(pair: Pair, happens, at_two_minutes, after_an_hour) -> None:
    happens(pair.script)
    await pair.clock.advance(119)
    assert await pair.seen() == at_two_minutes
    await pair.clock.advance(HOUR - 119)
    assert await pair.seen() == after_an_hour
    # Row 4: a restart in any of them ends reads and writes altogether.
    pair.server.restart()
    await pair.clock.advance(30)
    assert await pair.seen() == Seen(False, False, False, False)


async def test_while_nothing_fails_everything_works(pair: Pair) -> None:
    await pair.clock.advance(HOUR)
    assert await pair.seen() == Seen(True, True, True, True)
    assert (pair.server.encrypts, pair.server.decrypts) == (1, 1)


async def test_row_5_a_key_id_that_flips_makes_a_seed_at_every_poll(pair: Pair) -> None:
    before = len(pair.script.wrapped)
    pair.script.flips = True
    await pair.clock.advance(HOUR)
    assert len(pair.script.wrapped) - before >= 2 * 58
