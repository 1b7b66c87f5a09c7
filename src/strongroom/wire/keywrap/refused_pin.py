"""Remembering the PIN that a token did not take.

Tokens lock after a few wrong PINs (PKCS #11 v3.0, 5.6: CKR_PIN_LOCKED), and whoever waits for a
seal asks again and again. So a refused PIN is offered once, by all workers of a machine together.
"""

import fcntl
import hashlib
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from strongroom.model.errors import Denied

DIGEST_BYTES: Final = 32
CODE: Final = "wrong-pin"

_log = logging.getLogger(__name__)


class RefusedPin:
    """The last PIN that was refused, as a keyed hash; `shared` is a file of all who count as one.

    The file lies in memory (`memfd_create`) and its descriptor is inherited; None remembers for
    this process alone. `key` hides the PIN from who could read the file.
    """

    def __init__(self, shared: int | None = None, key: bytes = b"") -> None:
        self._shared = shared
        self._key = key
        self._own = b""
        self._turn = threading.Lock()

    @contextmanager
    def offering(self, pin: str, where: str) -> Iterator[None]:
        """One offer of `pin`, alone among all who share; `where` names the file it came from.

        Raises Denied(`wrong-pin`) instead when it was refused before, and remembers the PIN when
        the block raises that.
        """
        digest = hashlib.blake2b(pin.encode(), digest_size=DIGEST_BYTES, key=self._key).digest()
        with self._alone():
            if self._read() == digest:
                raise refused(where)
            try:
                yield
            except Denied as error:
                if error.code == CODE:
                    self._write(digest)
                    _log.error("the token refused the PIN in %s", where)
                raise

    def forget(self) -> None:
        """Offer it once more, because a person said so."""
        with self._alone():
            self._write(bytes(DIGEST_BYTES))

    def forget_soon(self) -> None:
        """The same for who must not wait: a token may hang with the PIN that it is offered."""
        threading.Thread(target=self.forget, daemon=True).start()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._turn:
            if self._shared is None:
                yield
                return
            # A lock of the process, not of the descriptor, which all of them inherited.
            fcntl.lockf(self._shared, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(self._shared, fcntl.LOCK_UN)

    def _read(self) -> bytes:
        return self._own if self._shared is None else os.pread(self._shared, DIGEST_BYTES, 0)

    def _write(self, digest: bytes) -> None:
        if self._shared is None:
            self._own = digest
        else:
            os.pwrite(self._shared, digest, 0)


def refused(where: str) -> Denied:
    """The refusal; it says what would make the PIN be offered again."""
    return Denied(
        CODE,
        f"the token does not take the PIN in {where}; it is not offered again, because tokens lock",
        hint=f"correct {where}, or after a repair of the token send SIGHUP or restart",
    )
