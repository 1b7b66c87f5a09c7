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
NAME_BYTES: Final = 255


def is_file_name(name: str) -> bool:
    """Whether a field's name is a file of the set and nothing else: no path, none of ours."""
    if name in ("", ".", META) or name.startswith("..") or "/" in name:
        return False
    return name.isprintable() and len(name.encode()) <= NAME_BYTES


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
        changed = current_files(output) != wanted
        if changed:
            _put(output, wanted, mode, f"..{stamp}")
        # Also where nothing changed: an agent that was killed half way left these undone.
        _link_names(output, set(wanted))
        _remove_others(output)
    except OSError as error:
        raise Unavailable("unwritable", f"cannot write to {output}: {error.strerror}") from None
    return changed


def _put(output: Path, wanted: Mapping[str, bytes], mode: int, name: str) -> None:
    output.mkdir(parents=True, exist_ok=True)
    folder = output / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        # The application is another user, whatever the agent's umask is.
        folder.chmod(0o755)
        for file, content in wanted.items():
            _write(folder / file, content, 0o444 if file == META else mode)
        link = output / f"{DATA}.new"
        link.unlink(missing_ok=True)
        link.symlink_to(name)
        link.rename(output / DATA)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        raise


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


def _remove_others(output: Path) -> None:
    """Sets that are not in place hold values as well, and room on a tmpfs."""
    kept = (output / DATA).readlink().name
    for path in output.iterdir():
        if path.name.startswith("..") and path.name != kept and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
