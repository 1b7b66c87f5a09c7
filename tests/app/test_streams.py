"""What a command does where its output, its input or its complaints can go nowhere."""

import os
import subprocess
import sys

import pytest


def run(redirect: str, *words: str, unbuffered: str = "") -> subprocess.CompletedProcess[str]:
    shell = f'exec "$@" {redirect}'
    return subprocess.run(
        ["sh", "-c", shell, "sh", sys.executable, "-m", "strongroom", *words],
        capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )  # fmt: skip


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "words", [("version",), ("completion", "bash"), ("--help",), ("kv", "get", "-h")]
)
def test_a_full_disk_is_told(words, unbuffered) -> None:
    done = run(">/dev/full", *words, unbuffered=unbuffered)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "No space left on device" in done.stderr


@pytest.mark.parametrize(
    ("redirect", "words", "status"),
    [
        (">&-", ("version",), 0),
        ("2>&-", ("kv", "get"), 1),
        ("<&-", ("policy", "fmt", "-"), 0),
        ("<&- >&- 2>&-", ("version",), 0),
    ],
)
def test_a_closed_stream_is_nothing_to_fail_for(redirect, words, status) -> None:
    done = run(redirect, *words)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
