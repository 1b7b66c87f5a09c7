"""The snapshot file: every row as the engine keeps it, a checksum, and a keyed hash over it.

Form: a first line, then frames of a length (four big-endian bytes) and a MessagePack array; after
the last frame SHA-256 of all that stands before, and HMAC-SHA256 of that under a key of the ring.
Values are sealed rows, so the file shows what the database shows: the tree of folders by number,
names of mounts and policies, times. Whoever restores needs the seal that the cluster had.
"""

import hashlib
import struct
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

import msgspec

from strongroom.crypto.keyring import term_of
from strongroom.crypto.mac import KeyedHmac
from strongroom.crypto.tokens import constant_time_equal
from strongroom.model.clock import rfc3339
from strongroom.model.errors import Invalid
from strongroom.store.engine.contract import ClusterRow
from strongroom.store.engine.snapshot_contract import TablePage

MAGIC: Final = b"strongroom snapshot 1\n"
PURPOSE: Final = b"snapshot"
# More than a page of the largest values that a request can bring.
MOST_FRAME_BYTES: Final = 1 << 31
DIGEST_BYTES: Final = 32
CHUNK_BYTES: Final = 1 << 20
_LENGTH: Final = struct.Struct(">I")


@dataclass(slots=True)
class Summary:
    """What a whole and undamaged file holds; `created` in epoch seconds, `size` in bytes.

    `rows` counts by table, `oldest_term` and `newest_term` are the key terms that sealed them.
    """

    created: float
    version: str
    steps: int
    cluster: ClusterRow
    rows: dict[str, int]
    size: int
    sha256: str
    oldest_term: int = 0
    newest_term: int = 0
    mac: bytes = field(default=b"", repr=False)

    def is_of(self, key: KeyedHmac) -> bool:
        """Whether the keyed hash fits: nobody without the ring has changed the file."""
        return constant_time_equal(key.digest(bytes.fromhex(self.sha256)), self.mac)

    def described(self) -> dict[str, Any]:
        """The summary as `operator snapshot inspect` and the drill over HTTP answer it."""
        return {
            "created": rfc3339(self.created),
            "version": self.version,
            "schema_steps": self.steps,
            "cluster_id": self.cluster.cluster_id,
            "cluster_name": self.cluster.cluster_name,
            "rows": self.rows,
            "bytes": self.size,
            "sha256": self.sha256,
            "oldest_key_term": self.oldest_term,
            "newest_key_term": self.newest_term,
        }


async def write_snapshot(
    file: BinaryIO, pages: AsyncIterator[TablePage], key: KeyedHmac, created: float, version: str
) -> None:
    """Write every page to a file, a page in memory at a time."""
    checksum, rows = hashlib.sha256(), dict[str, int]()

    def put(data: bytes) -> None:
        checksum.update(data)
        file.write(data)

    def frame(*parts: Any) -> None:  # noqa: ANN401 - what MessagePack can write
        body = msgspec.msgpack.encode(parts)
        put(_LENGTH.pack(len(body)) + body)

    put(MAGIC)
    frame("head", created, version)
    async for page in pages:
        rows[page.table] = rows.get(page.table, 0) + len(page.rows)
        frame("rows", page.table, page.columns, [tuple(row) for row in page.rows])
    frame("end", rows)
    digest = checksum.digest()
    file.write(digest + key.digest(digest))


def read_pages(file: BinaryIO) -> Iterator[TablePage]:
    """The pages of a file that `inspect` found whole."""
    for kind, *rest in _frames(file):
        if kind == "rows":
            table, columns, rows = rest
            yield TablePage(table, tuple(columns), rows)


def inspect(file: BinaryIO) -> Summary:
    """Read the whole file once; raises Invalid(`snapshot-damaged`) saying where it is not whole."""
    found: dict[str, list[Any]] = {}
    rows, terms = dict[str, int](), set[int]()
    for kind, *rest in _frames(file):
        found[kind] = rest
        if kind == "rows":
            page = TablePage(rest[0], tuple(rest[1]), rest[2])
            rows[page.table] = rows.get(page.table, 0) + len(page.rows)
            terms |= _terms(page)
            if page.table in ("cluster", "schema_state"):
                found[page.table] = [dict(zip(page.columns, page.rows[0], strict=True))]
    size = file.tell() + 2 * DIGEST_BYTES
    digest, mac, more = file.read(DIGEST_BYTES), file.read(DIGEST_BYTES), file.read(1)
    if len(mac) != DIGEST_BYTES or more:
        raise _damaged("it ends too early" if not more else "something follows its end")
    if _checksum(file, size - 2 * DIGEST_BYTES) != digest:
        raise _damaged("its checksum is another: a part of it was changed")
    if rows != found["end"][0] or not {"head", "cluster", "schema_state"} <= found.keys():
        raise _damaged("rows are missing")
    created, version = found["head"]
    return Summary(
        created=created,
        version=version,
        steps=found["schema_state"][0]["taken"],
        cluster=_cluster(found["cluster"][0]),
        rows=rows,
        size=size,
        sha256=digest.hex(),
        oldest_term=min(terms, default=0),
        newest_term=max(terms, default=0),
        mac=mac,
    )


def _frames(file: BinaryIO) -> Iterator[list[Any]]:
    file.seek(0)
    if file.read(len(MAGIC)) != MAGIC:
        raise Invalid(
            "not-a-snapshot",
            "this is not a snapshot of Strongroom's",
            hint="those of Vault's Raft storage hold another program's rows",
        )
    kind, place = "", "its head"
    while kind != "end":
        head = file.read(_LENGTH.size)
        length = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else 0
        body = file.read(length) if length <= MOST_FRAME_BYTES else b""
        if not length or len(body) != length:
            raise _damaged(f"it ends at byte {file.tell()}, in {place}")
        try:
            frame: list[Any] = msgspec.msgpack.decode(body)
            kind = frame[0]
            place = f"the table {frame[1]}" if kind == "rows" else place
        except (msgspec.DecodeError, LookupError, TypeError, UnicodeDecodeError):
            raise _damaged(f"it cannot be read at byte {file.tell()}, in {place}") from None
        yield frame


def _checksum(file: BinaryIO, size: int) -> bytes:
    file.seek(0)
    checksum, left = hashlib.sha256(), size
    while left:
        chunk = file.read(min(left, CHUNK_BYTES))
        checksum.update(chunk)
        left -= len(chunk)
    return checksum.digest()


def _terms(page: TablePage) -> set[int]:
    if "body" not in page.columns:
        return set()
    place = page.columns.index("body")
    return {term_of(row[place]) for row in page.rows if row[place] is not None}


def _cluster(row: dict[str, Any]) -> ClusterRow:
    names: Sequence[str] = ("cluster_id", "cluster_name", "seal_type", "wrapped_ring", "created")
    return ClusterRow(*(row[name] for name in names))


def _damaged(why: str) -> Invalid:
    return Invalid(
        "snapshot-damaged",
        f"the snapshot is damaged: {why}",
        hint="nothing was changed; take another copy of the file",
    )
