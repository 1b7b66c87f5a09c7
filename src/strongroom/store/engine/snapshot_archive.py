"""The snapshot file in the archive that programs for Vault's Raft snapshots look into.

Form: a gzip of a tar with the file itself, its SHA-256 in `SHA256SUMS`, and the keyed hash at its
end once more in `SHA256SUMS.sealed`. Vault's Go client, and with it its command line and backup
jobs, takes a snapshot without that last one for one that broke off. What is sealed does not get
smaller, so nothing is compressed.
Form of Vault's: https://github.com/hashicorp/raft-snapshot.
"""

import gzip
import hashlib
import shutil
import tarfile
import zlib
from io import BytesIO
from typing import Any, BinaryIO, Final, cast

from strongroom.model.errors import Invalid

NAME: Final = "strongroom.snapshot"
GZIP: Final = b"\x1f\x8b"
# As much as a request may bring: an archive is small beside what it says that it holds.
MOST_BYTES: Final = 64 * 1024**3
CHUNK_BYTES: Final = 1 << 20
HASH_BYTES: Final = 32
# What reading an archive that is not whole raises. A full disk, where it is unpacked, is no fault
# of its.
BROKEN: Final = (gzip.BadGzipFile, EOFError, zlib.error, tarfile.TarError)


def pack(file: BinaryIO, into: BinaryIO) -> None:
    """Write the archive of a whole snapshot file."""
    size = file.seek(0, 2)
    file.seek(0)
    digest = hashlib.file_digest(cast(Any, file), "sha256").hexdigest()
    file.seek(size - HASH_BYTES)
    sealed = file.read().hex()
    file.seek(0)
    with (
        gzip.GzipFile(filename="", mode="wb", compresslevel=0, fileobj=into, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|") as tar,
    ):
        _add(tar, NAME, size, file)
        for name, text in (
            ("SHA256SUMS", f"{digest}  {NAME}\n"),
            ("SHA256SUMS.sealed", f"{sealed}\n"),
        ):
            _add(tar, name, len(text), BytesIO(text.encode()))


def _add(tar: tarfile.TarFile, name: str, size: int, content: BinaryIO) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o600
    tar.addfile(entry, content)


def plain(file: BinaryIO, into: BinaryIO) -> bool:
    """Write the snapshot file that an archive holds; False, and nothing, where it is none.

    Raises Invalid(`snapshot-damaged`) for an archive that is not whole or holds something else,
    and OSError where there is no room for the file.
    """
    file.seek(0)
    head = file.read(len(GZIP))
    file.seek(0)
    if head != GZIP:
        return False
    try:
        # The end of a gzip has its checksum and length, which only a reader of the whole compares.
        with gzip.GzipFile(fileobj=file, mode="rb") as unpacked:
            found = _copied(unpacked, into)
            if found and len(unpacked.read(CHUNK_BYTES)) == CHUNK_BYTES:
                raise _damaged("more follows the snapshot than belongs there")
    except BROKEN:
        raise _damaged("its archive ends too early, or was changed") from None
    if found:
        return True
    raise Invalid(
        "not-a-snapshot",
        "this is not a snapshot of Strongroom's",
        hint="those of Vault's Raft storage hold another program's rows",
    )


def _copied(unpacked: gzip.GzipFile, into: BinaryIO) -> bool:
    with tarfile.open(fileobj=unpacked, mode="r|") as tar:
        for entry in tar:
            if entry.name == NAME and entry.isreg() and entry.size <= MOST_BYTES:
                shutil.copyfileobj(cast(BinaryIO, tar.extractfile(entry)), into, CHUNK_BYTES)
                return True
    return False


def _damaged(why: str) -> Invalid:
    return Invalid(
        "snapshot-damaged",
        f"the snapshot is damaged: {why}",
        hint="nothing was changed; take another copy of the file",
    )
