"""The fake of a kube-apiserver's client side: polls, seeds, their lifetime and their cache.

Behaviour: kubernetes/apiserver pkg/server/options/encryptionconfig/config.go and
pkg/storage/value/encrypt/envelope/kmsv2 (1.29 and later).
"""

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from strongroom.encrypt.kms.messages import (
    DecryptRequest,
    EncryptRequest,
    EncryptResponse,
    StatusResponse,
    plaintext_of,
)
from strongroom.model.clock import Clock
from strongroom.model.errors import Refusal, Unavailable

POLL_SECONDS: Final = 60.0
POLL_AFTER_FAILURE_SECONDS: Final = 10.0
SEED_SECONDS: Final = 180.0
SEED_BYTES: Final = 32
Call = Callable[[str, bytes], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Seed:
    """What objects are written under: wrapped, and until when."""

    wrapped: bytes
    key_id: str
    until: float


class ApiServerFake:
    """One process; `stored` outlives a `restart`, as etcd does. `healthy` is what /readyz says."""

    def __init__(self, call: Call, clock: Clock) -> None:
        self._call = call
        self._clock = clock
        self.stored: dict[str, Seed] = {}
        self.decrypts = 0
        self.encrypts = 0
        self._seed: Seed | None = None
        self._opened: dict[bytes, bytes] = {}
        self.healthy = False

    async def run(self) -> None:
        """Poll for ever."""
        while True:
            await self.poll()
            seconds = POLL_SECONDS if self.healthy else POLL_AFTER_FAILURE_SECONDS
            await self._clock.sleep(seconds)

    async def poll(self) -> None:
        """One Status, and a fresh seed when the key id is another than the seed's."""
        # The lifetime counts from before the call.
        until = self._clock.monotonic() + SEED_SECONDS
        try:
            status = StatusResponse.loads(await self._call("Status", b""))
            if status.healthz != "ok":
                # Not ready, and yet it goes on writing: kubernetes#138950.
                if self._seed is not None and self._seed.key_id == status.key_id:
                    self._seed = Seed(self._seed.wrapped, self._seed.key_id, until)
                raise Unavailable("unhealthy", status.healthz)
            if self._seed is None or self._seed.key_id != status.key_id:
                self._seed = await self._new_seed(status.key_id, until)
            else:
                self._seed = Seed(self._seed.wrapped, self._seed.key_id, until)
            self.healthy = True
        except Refusal:
            self.healthy = False

    async def _new_seed(self, key_id: str, until: float) -> Seed:
        plain = os.urandom(SEED_BYTES)
        self.encrypts += 1
        reply = await self._call("Encrypt", EncryptRequest(plain, "uid").dumps())
        made = EncryptResponse.loads(reply)
        if made.key_id != key_id:
            raise Unavailable("key-id", "Encrypt used another key than Status named")
        self._opened[made.ciphertext] = plain
        return Seed(made.ciphertext, key_id, until)

    def restart(self) -> None:
        """Another process on the same etcd."""
        self._seed, self._opened, self.healthy = None, {}, False

    def write(self, name: str) -> None:
        """Store an object; raises Unavailable without a seed or past its lifetime."""
        if self._seed is None or self._clock.monotonic() > self._seed.until:
            raise Unavailable("seed-expired", "the seed has expired")
        self.stored[name] = self._seed

    async def read(self, name: str) -> None:
        """Read an object; raises a Refusal when its seed does not open."""
        if self._seed is None:
            raise Unavailable("no-state", "the provider was never healthy in this process")
        seed = self.stored[name]
        if seed.wrapped not in self._opened:
            self.decrypts += 1
            request = DecryptRequest(seed.wrapped, "uid", seed.key_id)
            self._opened[seed.wrapped] = plaintext_of(await self._call("Decrypt", request.dumps()))
