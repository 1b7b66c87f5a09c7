"""The KMS v2 plugin: an API server's seeds, sealed by a key in memory.

Contract: KEP-3299; `uid` is for correlation and appears in no answer.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from strongroom.encrypt.keks import Keks
from strongroom.encrypt.kms_messages import (
    SERVICE,
    DecryptRequest,
    EncryptRequest,
    EncryptResponse,
    StatusResponse,
    decrypt_response,
)
from strongroom.model.errors import Invalid, TooLarge
from strongroom.wire.grpc_unix import Method, UnixServer, call_unix

VERSION: Final = "v2"
MAX_PLAINTEXT_BYTES: Final = 512
MAX_CIPHERTEXT_BYTES: Final = 1024

_log = logging.getLogger(__name__)


class Plugin:
    """Answers from one snapshot of keys; `use` swaps it whole."""

    def __init__(self, keks: Keks) -> None:
        self._keks = keks

    def use(self, keks: Keks) -> None:
        """Answer from these keys from now on."""
        self._keks = keks

    @property
    def methods(self) -> Mapping[str, Method]:
        """The service's methods."""
        return {"Status": self._status, "Encrypt": self._encrypt, "Decrypt": self._decrypt}

    async def _status(self, message: bytes) -> bytes:  # noqa: ARG002 - an empty message
        return StatusResponse(VERSION, "ok", self._keks.current).dumps()

    async def _encrypt(self, message: bytes) -> bytes:
        request = EncryptRequest.loads(message)
        if not request.plaintext:
            raise Invalid("no-plaintext", "nothing to encrypt")
        if len(request.plaintext) > MAX_PLAINTEXT_BYTES:
            raise TooLarge("too-large", f"a seed has at most {MAX_PLAINTEXT_BYTES} bytes")
        key_id, sealed = self._keks.encrypt(request.plaintext)
        _log.info("encrypt uid=%s key_id=%s", request.uid, key_id)
        return EncryptResponse(sealed, key_id).dumps()

    async def _decrypt(self, message: bytes) -> bytes:
        request = DecryptRequest.loads(message)
        if len(request.ciphertext) > MAX_CIPHERTEXT_BYTES:
            raise TooLarge("too-large", f"a sealed seed has at most {MAX_CIPHERTEXT_BYTES} bytes")
        plaintext = self._keks.decrypt(request.key_id, request.ciphertext)
        _log.info("decrypt uid=%s key_id=%s", request.uid, request.key_id)
        return decrypt_response(plaintext)


async def serve(plugin: Plugin, socket: Path) -> UnixServer:
    """Start serving on a socket; the caller stops what is returned."""
    server = UnixServer(SERVICE, plugin.methods)
    await server.start(socket)
    return server


async def ask_status(socket: Path) -> StatusResponse:
    """Status of any KMS v2 plugin; raises Unavailable."""
    return StatusResponse.loads(await call_unix(socket, f"/{SERVICE}/Status", b""))
