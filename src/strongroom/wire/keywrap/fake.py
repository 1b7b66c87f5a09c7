"""The fake backend: a key in memory that can be broken, slowed, rotated and remade."""

from strongroom.crypto.aead import Aead, Tampered, new_key
from strongroom.model.errors import Denied, NotFound


class FakeWrapper:
    """Implements Wrapper. `broken` is raised by every call while it is set; `calls` counts."""

    def __init__(self, name: str = "fake") -> None:
        self.name = name
        self.broken: Exception | None = None
        self.calls = 0
        self._keys = {1: Aead(new_key())}

    def rotate(self) -> None:
        """A new version; old ones still open."""
        self._keys[max(self._keys) + 1] = Aead(new_key())

    def remake(self) -> None:
        """Another key under the same name: nothing that was wrapped opens."""
        self._keys = {1: Aead(new_key())}

    def _called(self) -> None:
        self.calls += 1
        if self.broken:
            raise self.broken

    async def identity(self) -> str:
        self._called()
        return f"{self.name}/{max(self._keys)}"

    async def wrap(self, secret: bytes, aad: bytes) -> bytes:
        self._called()
        version = max(self._keys)
        return bytes([version]) + self._keys[version].seal(secret, aad)

    async def unwrap(self, wrapped: bytes, aad: bytes) -> bytes:
        self._called()
        if not wrapped or wrapped[0] not in self._keys:
            raise NotFound("no-version", "the backend has no such key version")
        try:
            return self._keys[wrapped[0]].open(wrapped[1:], aad)
        except Tampered:
            raise Denied("not-unwrapped", "the backend does not open this") from None

    async def close(self) -> None:
        """Nothing to let go of."""
