"""A key file on this machine; see `crypto.keyfile` for its form."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from strongroom.crypto.aead import Tampered
from strongroom.crypto.keyfile import KEY_ID_BYTES, WrappingKey, load_key_file
from strongroom.model.errors import Denied
from strongroom.wire.daemon_threads import in_daemon_thread


class KeysWrapper:
    """The current key, and one before it.

    They are read at every use, as by `KeyFileWrapper`: whoever puts the right file back need not
    restart, and a wrong one is told of before the next start. A file may lie where reading hangs.
    """

    def __init__(self, name: str, read: Callable[[], WrappingKey]) -> None:
        self.name = name
        self._read = read
        self._reading: asyncio.Future[WrappingKey] | None = None

    async def identity(self) -> str:
        return f"key/{(await self._key()).key_id}"

    async def wrap(self, secret: bytes, aad: bytes) -> bytes:
        return (await self._key()).wrap(secret, aad)

    async def unwrap(self, wrapped: bytes, aad: bytes) -> bytes:
        key = await self._key()
        try:
            return key.unwrap(wrapped, aad)
        except Denied as refusal:
            other = wrapped[:KEY_ID_BYTES].hex()
            raise Denied(
                refusal.code,
                f"wrapped by key {other}, and current_key is {key.key_id}",
                hint=f"give key {other} as current_key, or beside the new one as previous_key",
            ) from None
        except Tampered:
            raise Denied("not-unwrapped", f"{self.name} does not open this key") from None

    async def close(self) -> None:
        """Nothing to let go of."""

    async def _key(self) -> WrappingKey:
        """Whoever waits may give up; a file that hangs holds one thread, not one for every try."""
        if self._reading is None or self._reading.done():
            self._reading = in_daemon_thread(self._read)
            self._reading.add_done_callback(_seen)
        return await asyncio.shield(self._reading)


class KeyFileWrapper:
    """Reads the file at every use, so that it may lie on removable or mounted storage."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self._path = path

    async def identity(self) -> str:
        return f"key-file/{load_key_file(self._path).key_id}"

    async def wrap(self, secret: bytes, aad: bytes) -> bytes:
        return load_key_file(self._path).wrap(secret, aad)

    async def unwrap(self, wrapped: bytes, aad: bytes) -> bytes:
        try:
            return load_key_file(self._path).unwrap(wrapped, aad)
        except Tampered:
            raise Denied("not-unwrapped", f"{self._path} does not open this key") from None

    async def close(self) -> None:
        """Nothing to let go of."""


def _seen(reading: "asyncio.Future[WrappingKey]") -> None:
    """How it ended is told to who waits; nobody may any more."""
    if not reading.cancelled():
        reading.exception()
