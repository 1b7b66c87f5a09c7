"""Taking, judging, rehearsing and restoring a snapshot of the whole store.

Rows are copied sealed, as of one moment. What a restore keeps of the cluster it restores into: the
seal with its shares, the newest key ring, the change feed and what counts the use of keys.
"""

import asyncio
import dataclasses
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from strongroom.crypto.aead import Tampered
from strongroom.crypto.keyring import KeyRing
from strongroom.crypto.mac import KeyedHmac
from strongroom.model.errors import Denied, Invalid
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.contract import RESTORED, ClusterRow, Engine, EventRow, Transaction
from strongroom.store.engine.schema import STEPS
from strongroom.store.engine.snapshot_file import PURPOSE, Summary, inspect, read_pages
from strongroom.store.engine.sqlite import SqliteEngine
from strongroom.store.seal.cluster import ClusterSeal
from strongroom.store.seal.stored import cluster_of, load_stored

# Above every term, so that each row is opened once.
_ABOVE: Final = 2**32 - 1
# Values of a page are in memory together.
DRILL_PAGE: Final = 32
DRILL: Final = "strongroom-drill-"


@dataclass(frozen=True, slots=True)
class Found:
    """A whole file, and its key ring when this cluster's root key opens it."""

    summary: Summary
    ring: KeyRing | None


@dataclass(frozen=True, slots=True)
class Drill:
    """What a rehearsal found: sealed rows that opened, and those that did not by name."""

    opened: int
    damaged: tuple[str, ...]


async def judge(file: BinaryIO, seal: ClusterSeal, *, force: bool = False) -> Found:
    """Read the file and see whether it may be restored here.

    Raises Invalid: `snapshot-damaged`, `not-a-snapshot`, `snapshot-too-new`, and unless `force`
    says so `snapshot-of-another-cluster` or `snapshot-forged`. Unavailable when this one is sealed.
    """
    summary = await _readable(file)
    try:
        ring = seal.ring_of(summary.cluster)
    except (Denied, Tampered):
        if not force:
            raise Invalid(
                "snapshot-of-another-cluster",
                "the snapshot was taken under other keys: this cluster's seal cannot open"
                f" what {summary.cluster.cluster_name} has sealed",
                hint="with -force it is restored all the same; then the seal of that cluster"
                " has to be configured here",
            ) from None
        return Found(summary, None)
    if not force:
        _check_hash(summary, ring)
    return Found(summary, ring)


def _check_hash(summary: Summary, ring: KeyRing) -> None:
    if not summary.is_of(KeyedHmac(ring.derive(PURPOSE))):
        raise Invalid(
            "snapshot-forged",
            "the snapshot was changed by somebody who could make a new checksum, but has no key",
            hint="take another copy of the file",
        )


async def _readable(file: BinaryIO) -> Summary:
    summary = await asyncio.to_thread(inspect, file)
    if summary.steps > len(STEPS):
        raise Invalid(
            "snapshot-too-new",
            f"the snapshot's schema has {summary.steps} steps, this program knows {len(STEPS)}",
            hint="restore it with the version that took it, or a newer one",
        )
    return summary


RingOf = Callable[[ClusterRow], Awaitable[KeyRing]]


async def restore_directly(
    engine: Engine, file: BinaryIO, now: float, ring_of: RingOf | None = None, *, force: bool
) -> Summary:
    """Restore into a database without a server; the seal opens it afterwards.

    `now`, in epoch seconds, is what the change feed says of it.

    `ring_of` opens the snapshot's own key ring, for the keyed hash. Without it nobody checks
    that: each row still opens in its own place alone. Raises Invalid(`snapshot-forged`), and
    Invalid(`another-cluster-there`) unless `force` says that what is there may go.
    """
    summary = await _readable(file)
    if ring_of is not None:
        _check_hash(summary, await ring_of(summary.cluster))

    def work(transaction: Transaction) -> None:
        there = transaction.cluster()
        if there and there.cluster_id != summary.cluster.cluster_id and not force:
            raise Invalid(
                "another-cluster-there",
                f"the database holds {there.cluster_name}, the snapshot is of"
                f" {summary.cluster.cluster_name}",
                hint="with -force everything in the database goes",
            )
        transaction.replace_rows(read_pages(file))
        transaction.replace_cluster(summary.cluster, now)
        if summary.newest_term > summary.oldest_term:
            transaction.begin_reseal(summary.newest_term, summary.created)

    await engine.transact_alone(work)
    return summary


async def restore(
    engine: Engine, seal: ClusterSeal, file: BinaryIO, found: Found, now: float
) -> None:
    """Replace all rows in one transaction; the other nodes notice as they do of any change.

    `now`, in epoch seconds, is what the change feed says of it.
    """

    def work(transaction: Transaction) -> None:
        current = cluster_of(transaction)
        transaction.replace_rows(read_pages(file))
        if found.ring is None:
            transaction.replace_cluster(_closed(found.summary.cluster), now)
            return
        transaction.append_event(EventRow(0, now, "", RESTORED, 0, ""))
        ring = seal.ring_of(current)
        if not ring.extends(found.ring):
            ring = found.ring
            seal.put_ring(transaction, ring)
        if ring.current_term > 1:
            # Rows of older terms have come back.
            transaction.begin_reseal(ring.current_term, found.summary.created)

    await engine.transact_alone(work)


def _closed(row: ClusterRow) -> ClusterRow:
    """Another cluster's row, sealed until its own keys open it."""
    stored = load_stored(row)
    if not stored.root:
        return row  # The first form has no place for a note.
    closed = dataclasses.replace(stored, sealed=True, shared={}, gathered={})
    return dataclasses.replace(row, wrapped_ring=closed.dumps())


async def rehearse(file: BinaryIO, found: Found, folder: Path | None = None) -> Drill:
    """Restore into a database of its own, open every row there, and throw it away.

    It lies in `folder`, or where the system keeps temporary files.
    """
    if found.ring is None:
        raise Invalid("snapshot-of-another-cluster", "a snapshot under other keys cannot be opened")
    barrier = Barrier()
    barrier.unseal(found.ring)
    with tempfile.TemporaryDirectory(prefix=DRILL, dir=folder) as scratch:
        engine = SqliteEngine(Path(scratch) / "scratch.db", barrier)
        try:
            return await _opened(engine, file)
        finally:
            await engine.close()


def forget_drills(folder: Path) -> None:
    """Remove what drills left behind whose process was ended before they were."""
    for each in folder.glob(f"{DRILL}*"):
        shutil.rmtree(each, ignore_errors=True)


async def _opened(engine: SqliteEngine, file: BinaryIO) -> Drill:
    def fill(transaction: Transaction) -> None:
        transaction.replace_rows(read_pages(file))
        transaction.begin_reseal(_ABOVE, 0.0)

    await engine.transact(fill)
    while await engine.transact(lambda each: each.reseal_page(DRILL_PAGE, 0.0)):
        pass
    done = engine.view.reseal()
    return Drill(done.resealed, tuple(done.damaged)) if done else Drill(0, ())
