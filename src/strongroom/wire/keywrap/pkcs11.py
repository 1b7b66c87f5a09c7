"""A PKCS #11 token (HSM): an AES key that never leaves it, AES-GCM inside.

Needs the extra `pkcs11`. Source: PKCS #11 v3.0, 2.13 (CKM_AES_GCM).
"""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from strongroom.model.errors import Denied, Invalid, NotFound, Unavailable
from strongroom.model.secret import Secret
from strongroom.wire.daemon_threads import in_daemon_thread
from strongroom.wire.keywrap.refused_pin import RefusedPin, refused

# Of these a repair of the token or its service is the cure, and not another key.
_TOKEN_FAILED: Final = frozenset(
    {
        "DeviceError",
        "DeviceMemory",
        "DeviceRemoved",
        "HostMemory",
        "SessionClosed",
        "SessionHandleInvalid",
        "TokenNotPresent",
        "TokenNotRecognised",
        "UserNotLoggedIn",
    }
)
NONCE_BYTES: Final = 12
TAG_BITS: Final = 128


@dataclass(frozen=True, slots=True)
class GivenPin:
    """A PIN that lies in no file; `where` names for messages what it came from."""

    text: Secret
    where: str


class Pkcs11Wrapper:
    """One AES key by its label on one token; a file of the PIN is read at every use."""

    def __init__(
        self, name: str, library: Path, where: tuple[str | int, str], pin: Path | GivenPin,
        pins: RefusedPin | None = None,
    ) -> None:  # fmt: skip
        """`where` is the token's label, or its slot's number, and the key's label.

        Workers share `pins`.
        """
        self.name = name
        self._library = library
        self._token, self._key = where
        self._pins = pins or RefusedPin()
        self._pin = pin
        self._pin_place = pin.where if isinstance(pin, GivenPin) else str(pin)
        # A token's library is not asked from two threads at once.
        self._turn = asyncio.Lock()

    async def identity(self) -> str:
        return str(await self._in_session(self._identity))

    async def wrap(self, secret: bytes, aad: bytes) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        sealed = await self._in_session(lambda key: key.encrypt(secret, **_gcm(nonce, aad)))
        return nonce + bytes(sealed)

    async def unwrap(self, wrapped: bytes, aad: bytes) -> bytes:
        nonce, rest = wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:]
        opened = await self._in_session(
            lambda key: key.decrypt(rest, **_gcm(nonce, aad)), opening=True
        )
        return bytes(opened)

    async def ask_again(self) -> None:
        await in_daemon_thread(self._pins.forget)

    async def close(self) -> None:
        """Sessions end with each call."""

    def _identity(self, key: Any) -> str:  # noqa: ANN401 - the library has no types
        from pkcs11 import Attribute

        return f"pkcs11/{self._token}/{self._key}/{bytes(key[Attribute.ID]).hex()}"

    async def _in_session(self, work: Any, *, opening: bool = False) -> Any:  # noqa: ANN401
        await self._turn.acquire()
        running = in_daemon_thread(lambda: self._work(work, opening=opening))
        # Whoever waits may give up; the turn ends with the thread, so that a token that hangs
        # holds one and not one for every try.
        running.add_done_callback(self._ended)
        return await asyncio.shield(running)

    def _ended(self, running: "asyncio.Future[Any]") -> None:
        self._turn.release()
        if not running.cancelled():
            running.exception()  # Seen, though nobody may wait for it any more.

    def _work(self, work: Any, *, opening: bool) -> Any:  # noqa: ANN401
        try:
            import pkcs11
            from pkcs11 import exceptions
        except ImportError:
            raise Unavailable(
                "no-pkcs11", "PKCS #11 is not installed", hint="pip install 'strongroom[pkcs11]'"
            ) from None
        try:
            pin = _pin(self._pin)
            token = self._present(pkcs11.lib(str(self._library)))
            with self._opened(token, pin) as session:
                key = session.get_key(object_class=pkcs11.ObjectClass.SECRET_KEY, label=self._key)
                try:
                    return work(key)
                except exceptions.PKCS11Error as error:
                    if not opening or type(error).__name__ in _TOKEN_FAILED:
                        raise
                    raise Denied("not-unwrapped", "the token does not open this") from None
        except OSError as error:
            raise Unavailable(
                "pin-file", f"cannot read {self._pin_place}: {error.strerror}"
            ) from None
        except (exceptions.NoSuchKey, exceptions.NoSuchToken):
            raise NotFound(
                "no-token-key", f"no key {self._key!r} on a token {self._token!r}"
            ) from None
        except exceptions.MultipleObjectsReturned:
            raise Invalid("ambiguous-key", f"several keys are called {self._key!r}") from None
        except (exceptions.PKCS11Error, RuntimeError) as error:
            if not self._library.is_file():
                raise Unavailable(
                    "no-library", f"there is no library {self._library}",
                    hint="lib names the one of the token's vendor",
                ) from None  # fmt: skip
            raise Unavailable("token-failed", f"the token failed: {type(error).__name__}") from None

    def _present(self, library: Any) -> Any:  # noqa: ANN401 - the library has no types
        if isinstance(self._token, str):
            return library.get_token(token_label=self._token)
        for slot in library.get_slots(token_present=True):
            if slot.slot_id == self._token:
                return slot.get_token()
        raise NotFound("no-token", f"there is no token in the slot {self._token}")

    def _opened(self, token: Any, pin: str) -> Any:  # noqa: ANN401 - the library has no types
        from pkcs11 import exceptions

        with self._pins.offering(pin, self._pin_place):
            try:
                return token.open(user_pin=pin)
            except (exceptions.PinIncorrect, exceptions.PinInvalid, exceptions.PinLocked):
                raise refused(self._pin_place) from None


def _pin(given: Path | GivenPin) -> str:
    return given.text.reveal_text() if isinstance(given, GivenPin) else given.read_text().strip()


def _gcm(nonce: bytes, aad: bytes) -> dict[str, Any]:
    from pkcs11 import GCMParams, Mechanism

    return {"mechanism": Mechanism.AES_GCM, "mechanism_param": GCMParams(nonce, aad, TAG_BITS)}
