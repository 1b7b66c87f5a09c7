"""Go's own text/template with sprig as a process: templates in, outputs or errors out."""

import base64
import hashlib
import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from strongroom.app.cluster.binaries import go_toolchain

MODULE = Path(__file__).with_name("go")


@dataclass(frozen=True)
class Case:
    """A template and the values it is rendered with."""

    text: str
    values: dict[str, bytes]


@dataclass(frozen=True)
class Judged:
    """What Go made of it: an output, or an error."""

    output: bytes
    error: str


def oracle() -> Path:
    """The program, built once for each state of its sources and kept in the user's cache folder."""
    sources = [*sorted(MODULE.glob("*.go")), MODULE / "go.mod", MODULE / "go.sum"]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "strongroom"
    program = root / "template-oracle" / digest
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        building = program.with_suffix(f".building-{os.getpid()}")
        subprocess.run(
            [go_toolchain(root / "cluster"), "build", "-mod=mod", "-trimpath", "-o", building, "."],
            cwd=MODULE,
            env={**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": ""},
            check=True,
        )
        building.rename(program)
    return program


def judge(cases: Sequence[Case]) -> list[Judged]:
    """Go's verdict on each case, in order."""
    lines = "".join(
        json.dumps(
            {
                "text": _base64(case.text.encode("utf-8", "surrogateescape")),
                "values": {key: _base64(value) for key, value in case.values.items()},
            }
        )
        + "\n"
        for case in cases
    )
    done = subprocess.run(
        [oracle()],
        input=lines.encode(),
        capture_output=True,
        check=True,
        env={"TZ": "UTC", "PATH": os.environ.get("PATH", "")},
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return [Judged(base64.b64decode(each["output"] or ""), each.get("error", "")) for each in found]


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()
