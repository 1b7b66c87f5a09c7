"""A set of files that changes as a whole: a new folder, then one rename of the `..data` link."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from strongroom.model.errors import Unavailable

DATA: Final = "..data"
META: Final = ".meta.json"


def current_files(output: Path) -> dict[str, bytes]:
    """The set that is in place, {} when there is none."""
    folder = output / DATA
    if not folder.exists():
        return {}
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def swap(
    output: Path, files: Mapping[str, bytes], versions: Mapping[str, int], mode: int, stamp: str
) -> bool:
    """Put a set in place; False when the same is there already.

    `versions` goes into `.meta.json`, `stamp` names the folder. Raises Unavailable(`unwritable`).
    """
    wanted = {**files, META: json.dumps({"versions": dict(sorted(versions.items()))}).encode()}
    try:
        if current_files(output) == wanted:
            return False
        output.mkdir(parents=True, exist_ok=True)
        folder = output / f"..{stamp}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o755)
        for name, content in wanted.items():
            _write(folder / name, content, 0o444 if name == META else mode)
        old = (output / DATA).readlink().name if (output / DATA).is_symlink() else ""
        link = output / f"{DATA}.new"
        link.unlink(missing_ok=True)
        link.symlink_to(folder.name)
        link.rename(output / DATA)
        _link_names(output, set(wanted))
        if old and old != folder.name:
            shutil.rmtree(output / old, ignore_errors=True)
    except OSError as error:
        raise Unavailable("unwritable", f"cannot write to {output}: {error.strerror}") from None
    return True


def _write(path: Path, content: bytes, mode: int) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as out:
        os.fchmod(out.fileno(), mode)
        out.write(content)


def _link_names(output: Path, names: set[str]) -> None:
    """Each name is a link through `..data`, made once; names that are gone lose theirs."""
    for path in output.iterdir():
        if path.is_symlink() and path.name not in names and not path.name.startswith(".."):
            path.unlink()
    for name in names:
        path = output / name
        if not path.is_symlink():
            path.symlink_to(f"{DATA}/{name}")
