"""The KMS v2 plugin: an API server's seeds, sealed by a key in memory.

Contract: KEP-3299; `uid` is for correlation and appears in no answer.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from strongroom.encrypt.kms.keeper import Keeper
from strongroom.encrypt.kms.keys import UNKNOWN_KEY, Keks, unknown_key
from strongroom.encrypt.kms.messages import (
    SERVICE,
    DecryptRequest,
    EncryptRequest,
    EncryptResponse,
    StatusResponse,
    decrypt_response,
)
from strongroom.encrypt.kms.metrics import KmsMetrics
from strongroom.encrypt.kms.standing import Standing
from strongroom.model.clock import Clock
from strongroom.model.errors import Invalid, Refusal, TooLarge, Unavailable
from strongroom.wire.grpc_unix import SILENT, Method, UnixServer, call_unix

VERSION: Final = "v2"
MAX_PLAINTEXT_BYTES: Final = 512
MAX_CIPHERTEXT_BYTES: Final = 1024
SEARCH_SECONDS: Final = 10.0

_log = logging.getLogger(__name__)


class Plugin:
    """Answers from the keeper's snapshot."""

    def __init__(self, keeper: Keeper, clock: Clock, metrics: KmsMetrics | None = None) -> None:
        self._keeper = keeper
        self._clock = clock
        self.metrics = metrics or KmsMetrics()
        self._unknown: dict[str, float] = {}

    @property
    def methods(self) -> Mapping[str, Method]:
        """The service's methods."""
        return {
            "Status": self._measured("Status", self._status),
            "Encrypt": self._measured("Encrypt", self._encrypt),
            "Decrypt": self._measured("Decrypt", self._decrypt),
        }

    def _measured(self, name: str, method: Method) -> Callable[[bytes], Awaitable[bytes]]:
        async def call(message: bytes) -> bytes:
            started = self._clock.monotonic()
            code = "ok"
            try:
                return await method(message)
            except Refusal as refusal:
                code = refusal.code
                raise
            finally:
                self.metrics.count(name, code, self._clock.monotonic() - started)

        return call

    def _ready(self) -> Keks:
        """The keys to encrypt with; raises Unavailable while it must not.

        An error and not a `healthz` text: with the same key id an API server would take the text
        for reason to go on writing for ever (kubernetes#138950).
        """
        snapshot = self._keeper.snapshot
        if snapshot.keks is None or snapshot.standing in (Standing.STARTING, Standing.STOPPED):
            raise Unavailable(
                str(snapshot.standing), f"the plugin is {snapshot.standing}: {snapshot.reason}"
            )
        return snapshot.keks

    async def _status(self, message: bytes) -> bytes:  # noqa: ARG002 - an empty message
        return StatusResponse(VERSION, "ok", self._ready().current).dumps()

    async def _encrypt(self, message: bytes) -> bytes:
        request = EncryptRequest.loads(message)
        if not request.plaintext:
            raise Invalid("no-plaintext", "nothing to encrypt")
        if len(request.plaintext) > MAX_PLAINTEXT_BYTES:
            raise TooLarge("too-large", f"a seed has at most {MAX_PLAINTEXT_BYTES} bytes")
        key_id, sealed = self._ready().encrypt(request.plaintext)
        _log.info("encrypt uid=%s key_id=%s", request.uid, key_id)
        return EncryptResponse(sealed, key_id).dumps()

    async def _decrypt(self, message: bytes) -> bytes:
        request = DecryptRequest.loads(message)
        if len(request.ciphertext) > MAX_CIPHERTEXT_BYTES:
            raise TooLarge("too-large", f"a sealed seed has at most {MAX_CIPHERTEXT_BYTES} bytes")
        keks = self._keeper.snapshot.keks
        if keks is None or request.key_id not in keks.ciphers:
            keks = await self._found(request.key_id)
        plaintext = keks.decrypt(request.key_id, request.ciphertext)
        _log.info("decrypt uid=%s key_id=%s", request.uid, request.key_id)
        return decrypt_response(plaintext)

    async def _found(self, key_id: str) -> Keks:
        """Look for a key once for all who ask; an id nobody knows is left alone for a while."""
        now = self._clock.monotonic()
        if now < self._unknown.get(key_id, 0.0):
            raise unknown_key()
        await self._keeper.find(key_id)
        keks = self._keeper.snapshot.keks
        if keks is None:
            raise Unavailable("starting", "no key is open yet")
        if key_id not in keks.ciphers:
            if len(self._unknown) > 1000:
                self._unknown.clear()
            self._unknown[key_id] = now + SEARCH_SECONDS
            raise unknown_key()
        return keks


async def serve(plugin: Plugin, socket: Path) -> UnixServer:
    """Start serving on a socket; the caller stops what is returned."""
    server = UnixServer(SERVICE, plugin.methods)
    await server.start(socket)
    return server


async def ask_status(socket: Path) -> StatusResponse:
    """Status of any KMS v2 plugin; raises Unavailable."""
    return StatusResponse.loads(await call_unix(socket, f"/{SERVICE}/Status", b""))


async def lacks_key(socket: Path, key_id: str) -> bool:
    """Whether a plugin of ours says that it does not have the key, and does not find it either.

    It is given nothing to open, and may be absent. Raises Unavailable(`grpc-silent`) for one that
    hangs.
    """
    nothing = DecryptRequest(b"", "promote", key_id).dumps()
    try:
        await call_unix(socket, f"/{SERVICE}/Decrypt", nothing, seconds=SEARCH_SECONDS)
    except Unavailable as refusal:
        if refusal.code == SILENT:
            raise
        return f"[{UNKNOWN_KEY}]" in refusal.message
    return False
