"""The barrier: rows are sealed bound to their table, key and version, names deterministically.

A value copied to another row, or an older value put back under a newer version number, does not
open, and the refusal names the row.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from strongroom.crypto.aead import Tampered
from strongroom.crypto.keyring import KeyRing
from strongroom.crypto.mac import KeyedHmac
from strongroom.crypto.names import NameCipher
from strongroom.model.errors import Unavailable

if TYPE_CHECKING:
    from strongroom.store.engine.contract import ClusterRow

ROOT_FOLDER: Final = 0


class Barrier:
    """Seals and opens with a cluster's key ring; before unseal there is none."""

    def __init__(self) -> None:
        self._ring: KeyRing | None = None
        self._names: NameCipher | None = None
        self._ring_of: Callable[[ClusterRow], KeyRing] | None = None
        self._row: ClusterRow | None = None
        self._sealed = 0

    def unseal(
        self, ring: KeyRing, ring_of: "Callable[[ClusterRow], KeyRing] | None" = None
    ) -> None:
        """Take the key ring into use; `ring_of` opens the one of a cluster row later on."""
        self._ring = ring
        self._ring_of = ring_of
        self._row = None
        self._names = NameCipher(ring.derive(b"names"))

    def seal_up(self) -> None:
        """Forget the keys."""
        self._ring = self._names = self._ring_of = None

    def refresh(self, row: "ClusterRow") -> None:
        """Take the ring of the row into use if it is another; nothing while sealed.

        Only for a row that is committed: a value under a term that is then undone is lost.
        """
        if self._ring_of is not None and row != self._row:
            self._ring = self._ring_of(row)
            self._row = row

    def knows_term(self, sealed: bytes) -> bool:
        """Whether the ring has the term that a value is sealed under."""
        return self.ring.knows(sealed)

    @property
    def uncounted(self) -> int:
        """How many values were sealed since the count was last taken."""
        return self._sealed

    def take_count(self) -> int:
        """How many values were sealed since this was last asked."""
        counted, self._sealed = self._sealed, 0
        return counted

    @property
    def ring(self) -> KeyRing:
        """The keys; raises Unavailable(`sealed`) before unseal."""
        if self._ring is None:
            raise Unavailable("sealed", "Vault is sealed")
        return self._ring

    def seal(self, table: str, key: str, version: int, value: bytes) -> bytes:
        """Seal the value of a row."""
        self._sealed += 1
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
