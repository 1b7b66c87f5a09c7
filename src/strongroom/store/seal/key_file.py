"""Initialise once, unseal at every start: the key ring wrapped by a seal, the key file first.

Whoever wins the insert of the cluster row has initialised the cluster; everybody else unseals
with what the winner stored, so servers may start together on an empty database.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from strongroom.crypto.aead import Tampered
from strongroom.crypto.keyfile import WrappingKey
from strongroom.crypto.keyring import KeyRing
from strongroom.model.errors import Denied
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.contract import ClusterRow, Engine, Transaction

_AAD: Final = b"strongroom key ring\x1f"


class Seal(Protocol):
    """Wraps the key ring with a key that is kept elsewhere."""

    type: str

    def wrap(self, ring: bytes, cluster_id: str) -> bytes:
        """Seal the ring for storage."""

    def unwrap(self, wrapped: bytes, cluster_id: str) -> bytes:
        """Open it again; raises Denied for another key or a changed ring."""

    def is_current(self, wrapped: bytes) -> bool:
        """Whether the newest key wrapped it."""


class KeyFileSeal:
    """The static seal: current key, and the one before it, from a file."""

    type = "static"

    def __init__(self, key: WrappingKey) -> None:
        self._key = key

    def wrap(self, ring: bytes, cluster_id: str) -> bytes:
        """Seal under the first key of the file."""
        return self._key.wrap(ring, _AAD + cluster_id.encode())

    def unwrap(self, wrapped: bytes, cluster_id: str) -> bytes:
        """Open with any key of the file."""
        try:
            return self._key.unwrap(wrapped, _AAD + cluster_id.encode())
        except Tampered:
            raise Denied(
                "key-ring-changed",
                "the stored key ring is damaged or belongs to another cluster",
                hint="restore the newest snapshot of this cluster",
            ) from None

    def is_current(self, wrapped: bytes) -> bool:
        """Whether the first key of the file wrapped it."""
        return self._key.is_current(wrapped)


@dataclass(frozen=True, slots=True)
class Initialised:
    """Whether this start created the cluster, and the rows of the cluster."""

    first: bool
    cluster: ClusterRow


async def initialise_or_unseal(
    engine: Engine,
    barrier: Barrier,
    seal: Seal,
    new_cluster: Callable[[], ClusterRow],
    first_rows: Callable[[Transaction], None],
) -> Initialised:
    """Open the barrier; on an empty database create cluster and first rows in one transaction.

    `new_cluster` gives the row without a ring. Raises Denied when the seal does not fit.
    """
    found = engine.view.cluster()
    if found is None:
        proposed = new_cluster()
        ring = KeyRing.new(proposed.created)
        wrapped = seal.wrap(ring.dumps(), proposed.cluster_id)
        row = ClusterRow(
            proposed.cluster_id, proposed.cluster_name, seal.type, wrapped, proposed.created
        )

        def write(transaction: Transaction) -> bool:
            if not transaction.put_cluster(row):
                return False
            barrier.unseal(ring)
            first_rows(transaction)
            return True

        if await engine.transact(write):
            return Initialised(True, row)
        found = engine.view.cluster()
    if found is None:
        raise Denied("no-cluster", "the database has no cluster row")
    plain = seal.unwrap(found.wrapped_ring, found.cluster_id)
    barrier.unseal(_loaded(plain))
    if not seal.is_current(found.wrapped_ring):
        again = seal.wrap(plain, found.cluster_id)
        await engine.transact(lambda transaction: transaction.replace_ring(again))
    return Initialised(False, found)


def _loaded(plain: bytes) -> KeyRing:
    try:
        return KeyRing.loads(plain)
    except Tampered:
        raise Denied("key-ring-changed", "the stored key ring cannot be read") from None
