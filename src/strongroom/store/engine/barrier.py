"""The barrier: rows are sealed bound to their table, key and version, names deterministically.

A value copied to another row, or an older value put back under a newer version number, does not
open, and the refusal names the row.
"""

from typing import Final

from strongroom.crypto.aead import Tampered
from strongroom.crypto.keyring import KeyRing
from strongroom.crypto.mac import KeyedHmac
from strongroom.crypto.names import NameCipher
from strongroom.model.errors import Unavailable

ROOT_FOLDER: Final = 0


class Barrier:
    """Seals and opens with a cluster's key ring; before unseal there is none."""

    def __init__(self) -> None:
        self._ring: KeyRing | None = None
        self._names: NameCipher | None = None

    def unseal(self, ring: KeyRing) -> None:
        """Take the key ring into use."""
        self._ring = ring
        self._names = NameCipher(ring.derive(b"names"))

    def seal_up(self) -> None:
        """Forget the keys."""
        self._ring = self._names = None

    @property
    def ring(self) -> KeyRing:
        """The keys; raises Unavailable(`sealed`) before unseal."""
        if self._ring is None:
            raise Unavailable(
                "sealed", "Vault is sealed", hint="wait for the unseal, or see its log"
            )
        return self._ring

    def seal(self, table: str, key: str, version: int, value: bytes) -> bytes:
        """Seal the value of a row."""
        return self.ring.seal(value, _place(table, key, version))

    def open(self, table: str, key: str, version: int, sealed: bytes) -> bytes:
        """Open the value of a row; raises Tampered naming table, row number and version."""
        try:
            return self.ring.open(sealed, _place(table, key, version))
        except Tampered:
            raise Tampered(f"the row {key} (version {version}) of {table}") from None

    def seal_name(self, mount: str, folder: int, name: str) -> bytes:
        """The bytes a name is stored and found by within its folder."""
        return self._cipher().seal(name, f"{mount}/{folder}".encode())

    def open_name(self, mount: str, folder: int, sealed: bytes) -> str:
        """The name again; raises Tampered."""
        return self._cipher().open(sealed, f"{mount}/{folder}".encode())

    def _cipher(self) -> NameCipher:
        if self._names is None:
            raise Unavailable("sealed", "Vault is sealed")
        return self._names

    def mac(self, purpose: bytes) -> KeyedHmac:
        """The keyed hash for one purpose, such as token ids or audit records."""
        return KeyedHmac(self.ring.derive(purpose))


def _place(table: str, key: str, version: int) -> bytes:
    return f"{table}\x1f{key}\x1f{version}".encode()
