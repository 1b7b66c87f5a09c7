"""Completion in the shells themselves: what is typed, and what the shell makes of it."""

import asyncio
import os
import pty
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from strongroom.app.command_tree import tree
from strongroom.app.completion import SHELLS
from strongroom.app.completion_values import Question, offer_line, question
from strongroom.app.main import main

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


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("vault kv pu", ["put"]),
        ("vault -v kv metadata ", ["delete", "get", "patch", "put"]),
        ("vault kv get -field=x -form", ["-format"]),
        ("vault kv get --form", ["--format"]),
        ("vault lease re", ["renew", "revoke"]),
        ("vault nothing re", []),
        ("vault kv get secret/", []),
    ],
)
def test_a_line_up_to_the_cursor(capsys, monkeypatch, line: str, offered: list[str]) -> None:
    monkeypatch.delenv("VAULT_ADDR", raising=False)
    assert offer_line(f"{line}after", len(line)) == 0
    assert capsys.readouterr().out.split() == offered


def test_bash_asks_as_vaults_own_installation_has_it(tmp_path: Path) -> None:
    """`complete -C vault vault`: the line is in the environment, whatever the arguments are."""
    said = {"COMP_LINE": "vault polic", "COMP_POINT": "11", "HOME": str(tmp_path)}
    command = [sys.executable, "-m", "strongroom"]
    asked = [*command, "vault", "polic", "vault"]
    done = subprocess.run(asked, env=os.environ | said, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("policy\n", "")
    asked = [*command, "-autocomplete-install"]
    refused = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "source <(strongroom completion bash)" in refused.stderr


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

    def __init__(self, scripts: Path, home: Path, more: dict[str, str] | None = None) -> None:
        self._home = home
        setting = (
            "autoload -Uz compinit && compinit -u -D\n"
            f"source {scripts}/zsh\n"
            "dump() { print -r -- \"$BUFFER\" > buffer.new; mv buffer.new buffer; BUFFER=; }\n"
            "zle -N dump; bindkey '^Xd' dump; PROMPT='ready> '\n"
        )  # fmt: skip
        (home / ".zshrc").write_text(setting)
        main, side = pty.openpty()
        self._process = subprocess.Popen(
            ["zsh", "-i"], stdin=side, stdout=side, stderr=side, cwd=home, start_new_session=True,
            env={"HOME": str(home), "PATH": os.environ["PATH"], "TERM": "dumb", "LC_ALL": "C",
                 **(more or {})},
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
        os.write(self._terminal, typed.encode() + b"\t\x18d")
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


# Typed while the store has what is written below, and what is offered.
ASKED = [
    ("strongroom kv get ", {"secret/", "team/"}),
    ("strongroom kv get s", {"secret/"}),
    ("strongroom kv get secret/pr", {"secret/prod/", "secret/prod-2"}),
    ("strongroom kv get secret/prod/", {"secret/prod/db"}),
    ("strongroom kv get -field k -mount=secret prod/", {"prod/db"}),
    ("strongroom kv delete -versions=1 team/", {"team/a"}),
    ("strongroom kv put secret/prod/d", {"secret/prod/db"}),
    ("strongroom kv metadata get secret/prod/", {"secret/prod/db"}),
    ("strongroom read secret/", {"secret/data/", "secret/metadata/"}),
    ("strongroom read secret/data/prod/", {"secret/data/prod/db"}),
    ("strongroom list auth/userpass/users/", {"auth/userpass/users/ada"}),
    ("strongroom policy read ap", {"app"}),
    ("strongroom token create -policy=ap", {"-policy=app"}),
    ("strongroom secrets tune te", {"team/"}),
    ("strongroom auth disable user", {"userpass/"}),
]
NOTHING = ["strongroom kv get nowhere/", "strongroom kv put secret/prod/db k", "strongroom kv g"]


@pytest.fixture
async def filled(store, monkeypatch):
    """A store with things to offer, in the environment of this process."""
    for path in ("secret/data/prod/db", "secret/data/prod-2", "secret/data/odd/a;b $(c)"):
        await store.ask("POST", path.replace(" ", "%20"), {"data": {"k": "marked"}})
    await store.ask("POST", "sys/mounts/team", {"type": "kv", "options": {"version": "1"}})
    await store.ask("POST", "team/a", {"k": "marked"})
    await store.ask("PUT", "sys/policies/acl/app", {"policy": 'path "x" { capabilities = [] }'})
    await store.ask("POST", "sys/auth/userpass", {"type": "userpass"})
    await store.ask("POST", "auth/userpass/users/ada", {"password": "pw"})
    monkeypatch.setenv("VAULT_ADDR", store.address)
    monkeypatch.setenv("VAULT_TOKEN", store.root)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    return store


def _offered(capsys, typed: str) -> set[str]:
    assert main(["__complete", *typed.split(" ")[1:]]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    return set(said.out.splitlines())


async def test_the_store_is_asked_for_names(filled, capsys) -> None:
    for typed, expected in ASKED:
        ask = partial(asyncio.to_thread, _offered, capsys, typed)
        assert await _offered_by(ask, set, expected) == expected, typed
    for typed in NOTHING:
        assert await asyncio.to_thread(_offered, capsys, typed) == set(), typed


async def test_nothing_is_said_where_the_store_is_away(filled, capsys, monkeypatch) -> None:
    typed = "strongroom kv get s"
    monkeypatch.setenv("VAULT_TOKEN", "wrong")
    assert await asyncio.to_thread(_offered, capsys, "strongroom policy read a") == set()
    monkeypatch.delenv("VAULT_TOKEN")
    monkeypatch.setenv("HOME", "/nowhere")
    assert await asyncio.to_thread(_offered, capsys, typed) == set()
    monkeypatch.setenv("VAULT_TOKEN", filled.root)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        monkeypatch.setenv("VAULT_ADDR", f"http://127.0.0.1:{deaf.getsockname()[1]}")
        began = time.monotonic()
        assert await asyncio.to_thread(_offered, capsys, typed) == set()
        assert time.monotonic() - began < 30  # Far from the minute that requests have.
    monkeypatch.setenv("VAULT_ADDR", "http://127.0.0.1:1")
    assert await asyncio.to_thread(_offered, capsys, typed) == set()
    monkeypatch.setenv("VAULT_ADDR", "no address")
    assert await asyncio.to_thread(_offered, capsys, typed) == set()
    monkeypatch.delenv("VAULT_ADDR")
    assert await asyncio.to_thread(_offered, capsys, typed) == set()


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ((), None),
        (("kv", "get", "-mount", "a", "x"), Question("kv", "x", mount="a")),
        (("kv", "get", "-mount", "a"), Question("kv mount", "a")),
        (("token", "create", "-policy", "="), Question("policy", "")),
        (("token", "create", "-policy", "=", "ap"), Question("policy", "ap")),
        (("token", "create", "-policy=ap"), Question("policy", "ap", "-policy=")),
        (("token", "create", "--policy", "ap"), Question("policy", "ap")),
        (("token", "create", "-ttl", "a"), None),
        (("kv", "get", "-field=x", "y"), Question("kv", "y")),
        (("kv", "get", "-fie"), None),
        (("write", "a/b", "k"), None),
        (("kv", "copy", "a/b", "a/"), Question("kv", "a/")),
    ],
)
def test_what_is_asked_is_seen_from_the_words(words, asked) -> None:
    assert question(words) == asked


async def _in(shell: str, *words: str) -> str:
    done = await asyncio.to_thread(
        subprocess.run, [shell, *words], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout


async def _offered_by(
    ask: Callable[[], Awaitable[Any]], read: Callable[[Any], object], expected: object
) -> object:
    """What a shell offers. It waits a second for the store, so on a busy machine it is asked again."""
    found: object = None
    for _ in range(20):
        found = read(await ask())
        if found == expected:
            break
    return found


def _names(out: str) -> set[str]:
    """What fish offers, without flags."""
    offered = {line.split("\t")[0] for line in out.splitlines()}
    names = {each for each in offered if not each.startswith("-") or "=" in each}
    return {each.removeprefix("-policy=") for each in names}


async def test_bash_offers_names_of_the_store(scripts: Path, filled) -> None:
    for typed, expected in [
        *ASKED,
        ("strongroom kv get secret/odd/", {"secret/odd/a\\;b\\ \\$\\(c\\)"}),
    ]:
        words = typed.split(" ")
        array = " ".join(f"'{each}'" for each in words)
        ask = partial(
            _in, "bash", "--norc", "-c",
            f"source {scripts}/bash; COMP_WORDS=({array}); COMP_CWORD={len(words) - 1};"
            ' _strongroom; printf "%s\\n" "${COMPREPLY[@]}"',
        )  # fmt: skip
        found = await _offered_by(ask, lambda out: set(out.splitlines()), expected)
        assert found == expected, typed


async def test_fish_offers_names_of_the_store(scripts: Path, filled, tmp_path, monkeypatch) -> None:
    _needs("fish")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for typed, expected in ASKED:
        words = ("--no-config", "-c", f"source {scripts}/fish; complete -C '{typed}'")
        wanted = {each.removeprefix("-policy=") for each in expected}
        assert await _offered_by(partial(_in, "fish", *words), _names, wanted) == wanted, typed


async def test_zsh_offers_names_of_the_store(scripts: Path, filled, tmp_path: Path) -> None:
    _needs("zsh")
    names = ("VAULT_ADDR", "VAULT_TOKEN")
    shell = await asyncio.to_thread(
        Zsh, scripts, tmp_path, {each: os.environ[each] for each in names}
    )
    try:
        for typed, expected in ASKED:
            wanted = typed
            if len(expected) == 1:
                (name,) = expected
                tail = "" if name.endswith("/") else " "
                wanted = f"{typed.rpartition(' ')[0]} {name}{tail}"
            elif typed.endswith("pr"):
                wanted = "strongroom kv get secret/prod"
            ask = partial(asyncio.to_thread, shell.completed, typed)
            assert await _offered_by(ask, str, wanted) == wanted, shell.seen
        ask = partial(asyncio.to_thread, shell.completed, "strongroom kv get secret/odd/")
        wanted = "strongroom kv get secret/odd/a\\;b\\ \\$\\(c\\)"
        assert await _offered_by(ask, str.rstrip, wanted) == wanted
    finally:
        shell.close()


def test_every_command_is_in_every_script(scripts: Path) -> None:
    for shell in SHELLS:
        script = (scripts / shell).read_text()
        assert all(node.words[0] in script for node in tree())
