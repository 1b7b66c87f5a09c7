"""docs/cli.md, made from the commands there are: `python -m strongroom.app.cli_reference`."""

import argparse
import sys
import textwrap
from pathlib import Path
from typing import Final

from strongroom.app.command_tree import Node, tree
from strongroom.app.parser import explained
from strongroom.app.store_address import REFUSED, VARIABLES

HEAD: Final = """# Command line

Made from the program itself, by `python -m strongroom.app.cli_reference > docs/cli.md`.

A command is `strongroom COMMAND [VERB] [FLAGS] [WORDS]`. In the headings, `[X]` may be left out and
`X...` stands for one or more. `-h`, `-help` and `--help` explain any command or verb and end.

The verbs of a Vault client (`kv`, `login`, `token`, `policy`, `auth`, `secrets`, `lease`, `read`,
`write`, `patch`, `delete`, `list`, `unwrap`, `path-help`, `print`) take Vault's flags with one dash
or two, before or after the words. So do `status`, `audit list` and its like, and the verbs of
`operator`. Their exit status is 0 for done, 1 for a misuse of the command, 2 when the store refused
or did not answer. Other commands say in their help which statuses they have.

With `-format=json` standard output has one JSON document, or nothing where the store answered with
nothing; sentences, warnings and errors for people are left out or go to standard error.
"""
ENVIRONMENT: Final = """## Environment

A flag goes before the variable that says the same.

| Variable | Meaning |
| --- | --- |
"""
# Written by hand, and run by a test as it stands.
WALK: Final = Path(__file__).with_name("cli_walk.md")
# Flags that every client verb has, shown once.
_SHARED: Final = ("store", "output")


def markdown() -> str:
    """The whole page."""
    parts = [HEAD, WALK.read_text(encoding="utf-8"), _environment(), _shared()]
    for node in tree():
        parts.append(f"## strongroom {node.words[0]}\n\n{_sentence(node.summary)}\n")
        parts += [_leaf(each) for each in node.walk() if not each.children or _runs(each)]
    return "\n".join(parts)


def _runs(node: Node) -> bool:
    """Whether it does something without one of its verbs."""
    return node.parser.get_default("run") is not None


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _environment() -> str:
    rows = [f"| `{name}` | {text} |" for name, text in VARIABLES.items()]
    refused = [f"| `{name}` | refused: {text} |" for name, text in REFUSED.items()]
    return ENVIRONMENT + "\n".join([*rows, *refused]) + "\n"


def _shared() -> str:
    parser = next(node for node in tree() if node.words == ("read",)).parser
    rows = [
        row
        for group in parser._action_groups  # noqa: SLF001 - argparse shows them nowhere else
        if group.title in _SHARED
        for row in _rows(list(group._group_actions))  # noqa: SLF001
    ]
    return (
        "## Flags of every client verb\n\n| Flag | Meaning |\n| --- | --- |\n"
        + "\n".join(rows)
        + "\n"
    )


def _leaf(node: Node) -> str:
    own = [
        action
        for group in node.parser._action_groups  # noqa: SLF001
        if group.title not in _SHARED
        for action in group._group_actions  # noqa: SLF001
        if not isinstance(action, (argparse._HelpAction, argparse._SubParsersAction))  # noqa: SLF001
    ]
    words = [_word(each) for each in own if not each.option_strings]
    title = " ".join(["strongroom", *node.words, *words])
    rows = _rows([each for each in own if each.option_strings])
    table = ("\n| Flag | Meaning |\n| --- | --- |\n" + "\n".join(rows) + "\n") if rows else ""
    said = f"\n{_sentence(node.summary)}\n" if len(node.words) > 1 else ""
    return f"### `{title}`\n{said}{table}{_example(node)}"


def _example(node: Node) -> str:
    """What its help shows as an example."""
    shown = textwrap.dedent((node.parser.epilog or "").partition("example:\n")[2]).strip("\n")
    return f"\n```\n{shown}\n```\n" if shown else ""


def _word(action: argparse.Action) -> str:
    name = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    several = f"{name}..." if action.nargs in ("+", "*") else name
    return f"[{several}]" if action.nargs in ("?", "*") else several


def _rows(actions: list[argparse.Action]) -> list[str]:
    rows = []
    for action in actions:
        if action.help == argparse.SUPPRESS:
            continue
        value = action.metavar or (
            "|".join(map(str, action.choices)) if action.choices else action.dest.upper()
        )
        takes = action.nargs is None
        names = ", ".join(f"`{each}`" for each in action.option_strings)
        shown = f"{names} `{value}`" if takes else names
        text = explained(action).replace("|", "\\|")
        rows.append(f"| {shown.replace('|', chr(92) + '|')} | {text} |")
    return rows


if __name__ == "__main__":
    sys.stdout.write(markdown())
