"""Completion in the shells themselves: what is typed, and what the shell makes of it."""

import os
import pty
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from strongroom.app.command_tree import tree
from strongroom.app.completion import SHELLS

pytestmark = pytest.mark.long
# Typed, and the words that are offered.
CASES = [
    ("strongroom kv pu", {"put"}),
    ("strongroom to", {"token"}),
    ("strongroom kv metadata pa", {"patch"}),
    ("strongroom operator raft snapshot in", {"inspect"}),
    ("strongroom kv ro", {"rollback"}),
    ("strongroom ro", {"rotate"}),
    ("strongroom token create --per", {"--period"}),
    ("strongroom token create -per", {"-period"}),
    ("strongroom kv get -field=x --form", {"--format"}),
    ("strongroom kv get prod/db -form", {"-format"}),
    ("strongroom lease re", {"renew", "revoke"}),
]


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("completion")
    for name, script in SHELLS.items():
        (folder / name).write_text(script())
    return folder


def _needs(shell: str) -> None:
    if shutil.which(shell) is None:
        if os.environ.get("CI"):
            pytest.fail(f"{shell} is not installed")
        pytest.skip(f"{shell} is not installed; script/install.sh names it")


@pytest.mark.parametrize(("typed", "expected"), CASES)
def test_bash(scripts: Path, typed: str, expected: set[str]) -> None:
    words = typed.split()
    script = (
        f"source {scripts}/bash; COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1};"
        ' _strongroom; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", script], capture_output=True, text=True, check=True
    )
    assert (set(done.stdout.split()), done.stderr) == (expected, "")


@pytest.mark.parametrize(("typed", "expected"), CASES)
def test_fish(scripts: Path, tmp_path: Path, typed: str, expected: set[str]) -> None:
    _needs("fish")
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"source {scripts}/fish; complete -C '{typed}'"],
        capture_output=True, text=True, check=True, env={**os.environ, "HOME": str(tmp_path)},
    )  # fmt: skip
    offered = dict(line.split("\t") for line in done.stdout.splitlines())
    assert (set(offered), done.stderr) == (expected, "")
    assert all(offered.values())


class Zsh:
    """A zsh at a terminal, into which somebody types."""

    def __init__(self, scripts: Path, home: Path) -> None:
        self._home = home
        setting = (
            "autoload -Uz compinit && compinit -u -D\n"
            f"source {scripts}/zsh\n"
            "dump() { print -r -- \"$BUFFER\" > buffer.new; mv buffer.new buffer; BUFFER=; }\n"
            "zle -N dump; bindkey '^X^D' dump; PROMPT='ready> '\n"
        )  # fmt: skip
        (home / ".zshrc").write_text(setting)
        main, side = pty.openpty()
        self._process = subprocess.Popen(
            ["zsh", "-i"], stdin=side, stdout=side, stderr=side, cwd=home, start_new_session=True,
            env={"HOME": str(home), "PATH": os.environ["PATH"], "TERM": "dumb", "LC_ALL": "C"},
        )  # fmt: skip
        os.close(side)
        self._terminal = main
        self.seen = ""

    def start(self) -> None:
        """Wait until it takes what is typed."""
        self._until("ready> ")

    def _until(self, text: str) -> None:
        deadline = time.monotonic() + 150
        while text not in self.seen:
            assert time.monotonic() < deadline, self.seen
            self._read(1)

    def _read(self, seconds: float) -> bool:
        """Whether it showed anything within the time."""
        if not select.select([self._terminal], [], [], seconds)[0]:
            return False
        self.seen += os.read(self._terminal, 65536).decode(errors="replace")
        return True

    def completed(self, typed: str) -> str:
        """The line after a tab."""
        buffer = self._home / "buffer"
        buffer.unlink(missing_ok=True)
        self.seen = ""
        os.write(self._terminal, typed.encode() + b"\t\x18\x04")
        deadline = time.monotonic() + 150
        while not buffer.exists():
            assert time.monotonic() < deadline, self.seen
            self._read(0.05)
        # What it showed before it wrote the buffer may not have been read yet.
        while self._read(0):
            pass
        return buffer.read_text().rstrip("\n")

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        os.close(self._terminal)


def test_zsh(scripts: Path, tmp_path: Path) -> None:
    _needs("zsh")
    shell = Zsh(scripts, tmp_path)
    try:
        shell.start()
        for typed, expected in CASES:
            line = shell.completed(typed)
            if len(expected) == 1:
                assert line == f"{typed.rpartition(' ')[0]} {next(iter(expected))} ", shell.seen
            else:
                assert line == typed
                assert all(each in shell.seen for each in expected), shell.seen
        shell.completed("strongroom kv un")
        # Several at once are listed with what they are for.
        shell.completed("strongroom lease re")
        assert "let a lease live longer" in shell.seen
    finally:
        shell.close()


def test_every_command_is_in_every_script(scripts: Path) -> None:
    for shell in SHELLS:
        script = (scripts / shell).read_text()
        assert all(node.words[0] in script for node in tree())
