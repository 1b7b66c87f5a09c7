"""Reads an etcd snapshot, or a member's `db` file, without etcd: bbolt pages and MVCC records.

Formats: https://github.com/etcd-io/bbolt (page.go, bucket.go) and etcd's mvccpb.KeyValue.
What an older revision holds is counted too: it stays in the file until compaction and defrag.
"""

import hashlib
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from strongroom.model.errors import Invalid, NotFound
from strongroom.wire.protobuf import decode

MAGIC: Final = 0xED0CDAED
BRANCH, LEAF, META = 0x01, 0x02, 0x04
BUCKET_FLAG: Final = 0x01
DEEPEST: Final = 64
_PAGE: Final = struct.Struct("<QHHI")
_META: Final = struct.Struct("<IIIIQQQQQ")
_CHECKSUM: Final = struct.Struct("<Q")
_LEAF: Final = struct.Struct("<IIII")
_BRANCH: Final = struct.Struct("<IIQ")
_BUCKET: Final = struct.Struct("<QQ")
REVISION_BYTES: Final = 17
# etcd writes a file of whole sectors, and behind a snapshot the SHA-256 of it.
SECTOR: Final = 512
DIGEST_BYTES: Final = 32
_CHUNK: Final = 1024 * 1024


# Where a record begins in the file, and its length.
Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Where the newest value of every key is, and the older ones that are still in the file.

    A file may have gigabytes, more than a node has to spare: values are read when they are wanted.
    """

    data: mmap.mmap
    path: Path
    meta: "_Meta"
    current: dict[bytes, Place] = field(default_factory=dict)
    older: list[tuple[bytes, Place]] = field(default_factory=list)

    def under(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        """Current keys and values that begin with a prefix, in order."""
        start = prefix.encode()
        for key in sorted(key for key in self.current if key.startswith(start)):
            yield key.decode(errors="replace"), self._value(key, self.current[key])

    def older_under(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        """The same for values that were replaced or deleted and are still there."""
        start = prefix.encode()
        for key, place in self.older:
            if key.startswith(start):
                yield key.decode(errors="replace"), self._value(key, place)

    def _value(self, key: bytes, place: Place) -> bytes:
        try:
            found, value = _key_value(self.data[place[0] : sum(place)])
        except (Invalid, ValueError):
            found = value = b""
        if found != key:  # A member's own file, whose page has another use by now.
            raise _refusal(self.data, self.path, self.meta)
        return value


def read_snapshot(path: Path) -> Snapshot:
    """Read a file; raises NotFound, Invalid(`bad-snapshot`) for one that is none, and
    Invalid(`snapshot-in-use`) for that of an etcd that runs.
    """
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        _check_whole(data, path)
        meta = _newest(data)
    except FileNotFoundError:
        raise NotFound("no-snapshot", f"there is no file {path}") from None
    except (OSError, ValueError):
        raise _bad(path) from None
    try:
        found = _Reader(data, path, meta).read()
        unchanged = _newest(data) == meta
    except (Invalid, ValueError, struct.error, IndexError, OverflowError, RecursionError):
        unchanged = False
    if not unchanged:
        raise _refusal(data, path, meta)
    return found


def _check_whole(data: mmap.mmap, path: Path) -> None:
    """Raises Invalid where a part is missing or another than was saved: it would prove less."""
    size = len(data) - len(data) % SECTOR
    if len(data) == size:
        return  # A member's own file, which has no checksum.
    digest = hashlib.sha256()
    for start in range(0, size, _CHUNK):
        digest.update(data[start : min(start + _CHUNK, size)])
    if len(data) - size != DIGEST_BYTES or digest.digest() != data[size:]:
        raise Invalid(
            "bad-snapshot",
            f"{path} is not whole: it does not end in the checksum of what was saved",
            hint="copy it once more, or etcdctl snapshot save FILE",
        )


@dataclass(frozen=True, slots=True)
class _Meta:
    """A state of the file: its number, and where its pages begin."""

    transaction: int
    root: int
    page_bytes: int


def _newest(data: mmap.mmap) -> _Meta:
    """The newest whole state; raises ValueError. etcd writes the two that there are in turn."""
    first = _meta(data, 0)
    second = _meta(data, first.page_bytes if first else 4096)
    found = [each for each in (first, second) if each]
    if not found:
        raise ValueError("no state")
    return max(found, key=lambda each: each.transaction)


def _meta(data: mmap.mmap, start: int) -> _Meta | None:
    place = start + _PAGE.size
    if place + _META.size + _CHECKSUM.size > len(data):
        return None
    content = data[place : place + _META.size]
    magic, version, page_bytes, _, root, _, _, _, transaction = _META.unpack(content)
    _, flags, _, _ = _PAGE.unpack_from(data, start)
    if magic != MAGIC or version != 2 or not flags & META:
        return None
    if _CHECKSUM.unpack_from(data, place + _META.size) != (_fnv(content),):
        return None  # It was being written.
    return _Meta(transaction, root, page_bytes)


def _fnv(content: bytes) -> int:
    """FNV-1a of 64 bits, by which bbolt tells a state that was written as a whole."""
    found = 0xCBF29CE484222325
    for each in content:
        found = (found ^ each) * 0x100000001B3 % 2**64
    return found


class _Reader:
    def __init__(self, data: mmap.mmap, path: Path, meta: _Meta) -> None:
        self._data = data
        self._path = path
        self._meta = meta

    def read(self) -> Snapshot:
        found, last = Snapshot(self._data, self._path, self._meta), b""
        for revision, start, length in self._leaves(self._bucket(self._meta.root, b"key"), 0):
            # Records come in the order of their revisions, so the last of a key is its newest.
            if revision <= last:
                raise ValueError("not in order")
            last = revision
            key, _ = _key_value(self._data[start : start + length])
            before = found.current.pop(key, None)
            if before is not None:
                found.older.append((key, before))
            if len(revision) <= REVISION_BYTES:  # That of a deletion is longer.
                found.current[key] = start, length
        return found

    def _bucket(self, root: int, name: bytes) -> int:
        for key, start, _ in self._leaves(root, 0, buckets=True):
            if key == name:
                page = _BUCKET.unpack_from(self._data, start)[0]
                if page:
                    return int(page)
        raise ValueError("no bucket")

    def _leaves(
        self, page: int, depth: int, *, buckets: bool = False
    ) -> Iterator[tuple[bytes, int, int]]:
        """Each key, where its value begins, and how long that is."""
        start = page * self._meta.page_bytes
        number, flags, count, _ = _PAGE.unpack_from(self._data, start)
        if depth > DEEPEST or number != page:
            raise ValueError("not this tree's page")
        first = start + _PAGE.size
        for index in range(count):
            if flags & LEAF:
                place = first + index * _LEAF.size
                kind, offset, key_bytes, value_bytes = _LEAF.unpack_from(self._data, place)
                key = place + offset
                if bool(kind & BUCKET_FLAG) == buckets:
                    middle = key + key_bytes
                    yield self._data[key:middle], middle, value_bytes
            elif flags & BRANCH:
                place = first + index * _BRANCH.size
                _, _, child = _BRANCH.unpack_from(self._data, place)
                yield from self._leaves(child, depth + 1, buckets=buckets)
            else:
                raise ValueError("neither branch nor leaf")


def _key_value(message: bytes) -> tuple[bytes, bytes]:
    fields = dict(decode(message))
    key, value = fields.get(1, b""), fields.get(5, b"")
    if not isinstance(key, bytes) or not isinstance(value, bytes):
        raise ValueError("not a KeyValue")
    return key, value


def _refusal(data: mmap.mmap, path: Path, meta: _Meta) -> Invalid:
    """Why a tree does not hold: pages of one that etcd goes on with have another use by now, and
    what is missing then would be missing in the proof.
    """
    try:
        if _newest(data) == meta:
            return _bad(path)
    except ValueError:
        return _bad(path)
    return Invalid(
        "snapshot-in-use",
        f"{path} changed while it was read: an etcd runs on it",
        hint="etcdctl snapshot save FILE, then --snapshot FILE",
    )


def _bad(path: Path) -> Invalid:
    return Invalid(
        "bad-snapshot",
        f"{path} is not an etcd snapshot or db file",
        hint="etcdctl snapshot save FILE",
    )
