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
            raise _bad(self.path)
        return value


def read_snapshot(path: Path) -> Snapshot:
    """Read a file; raises NotFound, or Invalid(`bad-snapshot`) for one that is none."""
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        _check_whole(data, path)
        return _Reader(data, path).read()
    except FileNotFoundError:
        raise NotFound("no-snapshot", f"there is no file {path}") from None
    except (OSError, ValueError, struct.error, IndexError, OverflowError, RecursionError):
        raise _bad(path) from None


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


class _Reader:
    def __init__(self, data: mmap.mmap, path: Path) -> None:
        self._data = data
        self._path = path
        self._page_bytes = 4096

    def read(self) -> Snapshot:
        found = Snapshot(self._data, self._path)
        for revision, start, length in self._leaves(self._bucket(self._root(), b"key"), 0):
            # Records come in the order of their revisions, so the last of a key is its newest.
            key, _ = _key_value(self._data[start : start + length])
            before = found.current.pop(key, None)
            if before is not None:
                found.older.append((key, before))
            if len(revision) <= REVISION_BYTES:  # That of a deletion is longer.
                found.current[key] = start, length
        return found

    def _root(self) -> int:
        best = (-1, 0)
        for start in (0, None):
            offset = self._page_bytes if start is None else start
            *_, flags, _, _ = (0, *_PAGE.unpack_from(self._data, offset)[1:])
            magic, version, page_bytes, _, root, _, _, _, transaction = _META.unpack_from(
                self._data, offset + _PAGE.size
            )
            if magic != MAGIC or version != 2 or not flags & META:
                continue
            self._page_bytes = page_bytes
            best = max(best, (transaction, root))
        if best[0] < 0:
            raise _bad(self._path)
        return best[1]

    def _bucket(self, root: int, name: bytes) -> int:
        for key, start, _ in self._leaves(root, 0, buckets=True):
            if key == name:
                page = _BUCKET.unpack_from(self._data, start)[0]
                if page:
                    return int(page)
        raise _bad(self._path)

    def _leaves(
        self, page: int, depth: int, *, buckets: bool = False
    ) -> Iterator[tuple[bytes, int, int]]:
        """Each key, where its value begins, and how long that is."""
        if depth > DEEPEST:
            raise _bad(self._path)
        start = page * self._page_bytes
        _, flags, count, _ = _PAGE.unpack_from(self._data, start)
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
                raise _bad(self._path)


def _key_value(message: bytes) -> tuple[bytes, bytes]:
    fields = dict(decode(message))
    key, value = fields.get(1, b""), fields.get(5, b"")
    if not isinstance(key, bytes) or not isinstance(value, bytes):
        raise ValueError("not a KeyValue")
    return key, value


def _bad(path: Path) -> Invalid:
    return Invalid(
        "bad-snapshot",
        f"{path} is not an etcd snapshot or db file",
        hint="etcdctl snapshot save FILE",
    )
