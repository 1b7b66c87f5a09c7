"""What a key-encryption key is wrapped by, outside this process."""

from typing import Protocol, runtime_checkable


class Wrapper(Protocol):
    """One backend with one key. `name` is what the state file calls it; it never changes."""

    name: str

    async def identity(self) -> str:
        """Which key, which incarnation and version wraps now; changes when the backend rotates.

        Raises a Refusal when the backend does not answer or does not let us.
        """

    async def wrap(self, secret: bytes, aad: bytes) -> bytes:
        """Wrap; raises a Refusal."""

    async def unwrap(self, wrapped: bytes, aad: bytes) -> bytes:
        """What was wrapped under the same `aad`; raises a Refusal."""

    async def close(self) -> None:
        """Let go of connections."""


@runtime_checkable
class Wary(Protocol):
    """A backend that stops asking after a refusal, because asking on would lock it."""

    async def ask_again(self) -> None:
        """Ask once more, because a person said so."""


@runtime_checkable
class Perishable(Protocol):
    """A backend whose credential ends unless somebody renews it."""

    async def renew(self) -> float:
        """Renew the credential if it is due; returns after how many seconds to come back.

        Raises a Refusal when the next use would fail: the credential is refused, or ends soon and
        cannot be renewed.
        """
