"""Transcripts in documents: fenced `sh` blocks of `$ command` and what it prints.

`> ` goes on with a command, `…` stands for anything in a line, and alone for any lines.
"""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.M | re.S)
MARK = "--transcript-ends-here--"


@dataclass(frozen=True, slots=True)
class Step:
    """A command and the lines that are shown under it."""

    command: str
    shown: tuple[str, ...]


def steps(text: str) -> Iterator[Step]:
    """Every step of a document, in order."""
    for block in BLOCK.findall(text):
        command: list[str] = []
        shown: list[str] = []
        for line in [*block.splitlines(), "$ "]:
            if line.startswith("$ "):
                if command:
                    yield Step("\n".join(command), tuple(shown))
                command, shown = [line.removeprefix("$ ")], []
            elif line.startswith("> ") and not shown:
                command.append(line.removeprefix("> "))
            elif command:
                shown.append(line)


def fits(shown: Sequence[str], printed: Sequence[str]) -> bool:
    """Whether what was printed is what is shown."""
    if not shown:
        return not printed
    if shown[0] == "…":
        return any(fits(shown[1:], printed[at:]) for at in range(len(printed) + 1))
    if not printed:
        return False
    pattern = ".*".join(map(re.escape, shown[0].split("…")))
    return re.fullmatch(pattern, printed[0]) is not None and fits(shown[1:], printed[1:])


class Shell:
    """One bash in which all commands run, so that variables stay."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            ["bash", "--norc", "--noprofile"], cwd=folder, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def run(self, command: str, seconds: float = 120) -> tuple[int, list[str]]:
        """Exit status and lines, standard error among them."""
        assert self._process.stdin
        assert self._process.stdout
        watch = threading.Timer(seconds, self._process.kill)
        watch.start()
        self._process.stdin.write(f"{{ {command}\n}} < /dev/null\nprintf '\\n{MARK} %s\\n' $?\n")
        self._process.stdin.flush()
        lines: list[str] = []
        for line in self._process.stdout:
            if line.startswith(MARK):
                watch.cancel()
                # The mark brought a line's end of its own.
                return int(line.split()[1]), "\n".join(lines).rstrip("\n").splitlines()
            lines.append(line.rstrip("\n"))
        raise AssertionError(f"no end of: {command}\n" + "\n".join(lines))

    def close(self) -> None:
        """End the shell."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


def environment(folder: Path, **more: str) -> dict[str, str]:
    """A home of its own, no variables of Vault's, and `strongroom` on the PATH."""
    clean = {name: each for name, each in os.environ.items() if not name.startswith("VAULT_")}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**clean, "HOME": str(folder), "PATH": path, "LC_ALL": "C.UTF-8", **more}
