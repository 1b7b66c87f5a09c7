"""Programs in Go that tests compare with or are driven by, built once and kept."""

import hashlib
import os
import subprocess
from pathlib import Path

from strongroom.app.cluster.binaries import go_toolchain


def built(module: Path, name: str) -> Path:
    """The program of a folder's module, built once for each state of its sources.

    It is kept in the user's cache folder under `name`. Raises CalledProcessError where it does not
    build, and Unavailable(`no-go`) where there is no Go.
    """
    sources = [*sorted(module.glob("*.go")), module / "go.mod", module / "go.sum"]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "strongroom"
    program = root / name / digest
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        building = program.with_suffix(f".building-{os.getpid()}")
        subprocess.run(
            [go_toolchain(root / "cluster"), "build", "-mod=mod", "-trimpath", "-o", building, "."],
            cwd=module,
            env={**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": ""},
            check=True,
        )
        building.rename(program)
    return program
