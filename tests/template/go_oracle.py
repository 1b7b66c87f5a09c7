"""Go's own text/template with sprig as a process: templates in, outputs or errors out."""

import base64
import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.go_program import built

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
        [built(MODULE, "template-oracle")],
        input=lines.encode(),
        capture_output=True,
        check=True,
        env={"TZ": "UTC", "PATH": os.environ.get("PATH", "")},
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return [Judged(base64.b64decode(each["output"] or ""), each.get("error", "")) for each in found]


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()
