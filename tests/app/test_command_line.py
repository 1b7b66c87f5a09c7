"""The command line: one table of verbs, help with an example, refusals in one form."""

import argparse
import subprocess
import sys

import pytest

from strongroom.app.command_tree import tree
from strongroom.app.main import CLIENT, VERBS, build_parser, main


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb, capsys) -> None:
    """`strongroom VERB --help` prints usage and an example."""
    with pytest.raises(SystemExit) as ended:
        build_parser(verb).parse_args([verb, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "example" in shown.lower()
    assert f"strongroom {verb}" in shown


@pytest.mark.long
def test_every_flag_and_word_says_what_it_is_for() -> None:
    missing = [
        f"{' '.join(node.words)} {action.option_strings or action.dest}"
        for top in tree()
        for node in top.walk()
        for action in node.parser._actions
        if not isinstance(action, argparse._SubParsersAction) and not action.help
    ]
    assert missing == []


@pytest.mark.parametrize("flag", ["-h", "-help", "--help"])
@pytest.mark.parametrize(
    "words", [[], ["kv"], ["kv", "get"], ["kv", "metadata", "put"], ["operator", "init"], ["dev"]]
)
def test_help_is_asked_for_in_argparses_and_in_vaults_way(words, flag, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*words, flag])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: {' '.join(['strongroom', *words])} ")


def test_help_says_defaults_and_nothing_of_the_environment(monkeypatch) -> None:
    monkeypatch.setenv("VAULT_DEV_ROOT_TOKEN_ID", "hvs.of-root")
    for verb, wanted in (("server", "(VAULT_DEV_ROOT_TOKEN_ID)\n"), ("rotate", "(default 5m)\n")):
        node = next(each for each in tree() if each.words == (verb,))
        shown = node.parser.format_help()
        assert wanted in shown
        assert "hvs.of-root" not in shown


def test_an_unknown_verb_is_refused_with_the_list(capsys) -> None:
    """argparse exits with 2 and names the verbs there are."""
    with pytest.raises(SystemExit) as ended:
        main(["frobnicate"])
    assert ended.value.code == 2
    assert "kv" in capsys.readouterr().err


def test_an_operator_knows_its_verbs_when_one_is_named_or_help_is_asked_for(capsys) -> None:
    """They are not loaded for an operator that runs."""
    for words, status in ((["operator", "unsael"], 2), (["operator", "--help"], 0)):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == status
        told = capsys.readouterr()
        assert "unseal" in told.out + told.err
    assert "key-status" not in build_parser("operator", ["operator", "--lease", "x"]).format_help()


def test_a_refusal_is_two_lines_and_a_misuse_is_status_1(tmp_path, capsys) -> None:
    """The message with its code, then what to do."""
    status = main(["kv", "get", "prod/db", "--token-file", str(tmp_path / "missing")])
    assert status == 1
    shown = capsys.readouterr().err
    assert shown.startswith("error: cannot read the token file")
    assert "[token-file]\nhint: check --token-file\n" in shown


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "[::]", "store.example"])
def test_plain_http_beyond_this_machine_must_be_accepted_by_name(host, tmp_path, capsys) -> None:
    """Loopback needs no flag; nothing is served here, the words are only judged."""
    words = ["server", "-test-config", "--data", str(tmp_path), "--seal-key-file", "key"]
    assert main([*words, "--listen", f"{host}:8200"]) == 2
    assert "[plain-http]" in capsys.readouterr().err
    assert main([*words, "--listen", f"{host}:8200", "--plain-http"]) == 0
    for near in ("127.0.0.1", "[::1]", "localhost"):
        assert main([*words, "--listen", f"{near}:8200"]) == 0


def test_version_is_printed() -> None:
    """As a process, the way a package test calls it."""
    done = subprocess.run(
        [sys.executable, "-m", "strongroom", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("strongroom ")


@pytest.mark.parametrize("word", ["-version", "-v"])
def test_version_is_printed_in_the_spellings_of_vault(word, capsys) -> None:
    assert main([word]) == 0
    assert capsys.readouterr().out.startswith("strongroom ")


def test_every_help_says_which_exit_statuses_there_are() -> None:
    """Those of a Vault client are the same for all, and stand at the head of docs/cli.md."""
    for top in tree():
        for node in top.walk():
            if node.children or top.words[0] in CLIENT or getattr(node.parser, "like_vault", False):
                continue
            assert "exit status:" in (node.parser.epilog or ""), node.words
