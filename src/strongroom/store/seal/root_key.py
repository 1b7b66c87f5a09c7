"""What the root key opens, and what opens the root key: each sealed for its place. Pure."""

from strongroom.crypto.aead import Aead, Tampered
from strongroom.crypto.keyring import KeyRing
from strongroom.crypto.tokens import constant_time_equal
from strongroom.model.errors import Denied
from strongroom.store.engine.contract import ClusterRow
from strongroom.store.seal.stored import StoredSeal, load_stored


def recovery_fits(stored: StoredSeal, root: bytes, key: bytes, cluster_id: str) -> bool:
    """Whether it is the cluster's recovery key."""
    try:
        return constant_time_equal(
            Aead(root).open(stored.check, place_of("recovery", cluster_id)), key
        )
    except Tampered:
        return False


def sealed_recovery(key: bytes, root: bytes, cluster_id: str) -> bytes:
    """What `recovery_fits` compares with."""
    return Aead(root).seal(key, place_of("recovery", cluster_id))


def sealed_root(root: bytes, key: bytes, cluster_id: str) -> bytes:
    """The root key under an unseal key."""
    return Aead(key).seal(root, place_of("root", cluster_id))


def opens_root(stored: StoredSeal, key: bytes, cluster_id: str) -> bool:
    """Whether it is the cluster's unseal key."""
    try:
        Aead(key).open(stored.root, place_of("root", cluster_id))
    except (Tampered, ValueError):
        return False
    return True


def opened_ring(row: ClusterRow, root: bytes) -> KeyRing:
    """The key ring of a cluster row; raises Denied(`key-ring-changed`)."""
    stored = load_stored(row)
    try:
        return KeyRing.loads(Aead(root).open(stored.ring, place_of("ring", row.cluster_id)))
    except Tampered:
        raise Denied(
            "key-ring-changed",
            "the stored key ring is damaged or belongs to another cluster",
            hint="restore the newest snapshot of this cluster",
        ) from None


def sealed_ring(ring: KeyRing, root: bytes, cluster_id: str) -> bytes:
    """The key ring under the root key."""
    return Aead(root).seal(ring.dumps(), place_of("ring", cluster_id))


def place_of(what: str, cluster_id: str) -> bytes:
    """What a sealed value of the seal is bound to."""
    return f"strongroom seal\x1f{what}\x1f{cluster_id}".encode()
