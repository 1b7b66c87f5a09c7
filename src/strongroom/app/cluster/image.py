"""Container images without a registry: one layer of files from this machine, as an archive.

Form: the archive `docker save` writes, which containerd imports.
"""

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

BUSYBOX: Final = Path("/bin/busybox")
APPLETS: Final = (
    "sh", "cat", "ls", "sleep", "echo", "date", "stat", "mount", "id", "wget", "nc", "cut",
    "grep", "sha256sum", "touch",
)  # fmt: skip
_LEFT_OUT: Final = {
    "test", "tests", "idlelib", "tkinter", "ensurepip", "__pycache__", "site-packages",
    "lib2to3", "turtledemo", "pydoc_data", "dist-packages",
}  # fmt: skip


class Layer:
    """Files of an image."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._buffer, mode="w")  # noqa: SIM115 - closed by `finish`
        self._seen: set[str] = set()

    def file(self, source: Path, target: str) -> None:
        """A file of this machine, links resolved."""
        name = target.lstrip("/")
        if name in self._seen:
            return
        self._seen.add(name)
        entry = self._tar.gettarinfo(str(source.resolve()), name)
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        with source.open("rb") as content:
            self._tar.addfile(entry, content)

    def link(self, name: str, target: str) -> None:
        """A symbolic link."""
        entry = tarfile.TarInfo(name.lstrip("/"))
        entry.type, entry.linkname = tarfile.SYMTYPE, target
        self._tar.addfile(entry)

    def folder(self, name: str, mode: int = 0o755) -> None:
        """An empty folder."""
        entry = tarfile.TarInfo(name.lstrip("/"))
        entry.type, entry.mode = tarfile.DIRTYPE, mode
        self._tar.addfile(entry)

    def finish(self) -> bytes:
        """The layer's tar."""
        self._tar.close()
        return self._buffer.getvalue()


def write_archive(path: Path, name: str, layer: bytes, command: Sequence[str]) -> None:
    """Write an image of one layer under a name with a tag."""
    digest = hashlib.sha256(layer).hexdigest()
    config = json.dumps(
        {
            "architecture": "arm64" if os.uname().machine == "aarch64" else "amd64",
            "os": "linux",
            "config": {"Cmd": list(command), "Env": ["PATH=/usr/bin:/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps(
        [{"Config": config_name, "RepoTags": [name], "Layers": [f"{digest}/layer.tar"]}]
    ).encode()
    with tarfile.open(path, "w") as archive:
        for entry_name, content in (
            (config_name, config),
            (f"{digest}/layer.tar", layer),
            ("manifest.json", manifest),
        ):
            entry = tarfile.TarInfo(entry_name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def busybox_layer() -> bytes:
    """A shell and a few tools; enough for a sandbox and for small applications."""
    layer = Layer()
    _add_busybox(layer)
    return layer.finish()


def _add_busybox(layer: Layer) -> None:
    for folder in ("tmp", "proc", "sys", "dev", "etc", "run"):
        layer.folder(folder, 0o1777 if folder == "tmp" else 0o755)
    layer.file(BUSYBOX, "/bin/busybox")
    for applet in APPLETS:
        layer.link(f"/bin/{applet}", "busybox")


def python_layer(packages: Iterable[tuple[Path, str]]) -> bytes:
    """This interpreter, its standard library and shared objects, and packages (folder, target)."""
    layer = Layer()
    _add_busybox(layer)
    program = Path(sys.executable).resolve()
    library = Path(sysconfig.get_path("stdlib"))
    layer.file(program, str(program))
    layer.link("/usr/bin/python3", str(program))
    objects = [program]
    for source in sorted(library.rglob("*")):
        inside = source.relative_to(library)
        if _LEFT_OUT & set(inside.parts) or inside.parts[0].startswith("config-"):
            continue
        if source.is_file() and source.suffix in (".py", ".so"):
            layer.file(source, str(source))
            objects += [source] if source.suffix == ".so" else []
    for found in sorted(_shared_objects(objects)):
        layer.file(Path(found), found)
    for folder, target in packages:
        for source in sorted(folder.rglob("*.py")):
            layer.file(source, f"{target}/{source.relative_to(folder)}")
    return layer.finish()


def _shared_objects(programs: Sequence[Path]) -> set[str]:
    said = subprocess.run(
        ["ldd", *map(str, programs)], capture_output=True, text=True, check=False
    ).stdout
    return set(re.findall(r"(?:=> |^\t)(/[^ ]+) \(0x", said, re.MULTILINE))
