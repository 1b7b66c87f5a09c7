"""Every command with its verbs and flags, read off the parsers: for completion and docs/cli.md."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field

from strongroom.app.main import VERBS, build_parser


@dataclass(frozen=True, slots=True)
class Node:
    """A command or verb: `words` is how it is typed, without `strongroom`."""

    words: tuple[str, ...]
    summary: str
    parser: argparse.ArgumentParser
    children: tuple["Node", ...] = field(default=())

    def walk(self) -> Iterator["Node"]:
        """This one and all below."""
        yield self
        for child in self.children:
            yield from child.walk()

    @property
    def flags(self) -> list[tuple[tuple[str, ...], str]]:
        """Spellings of each flag, the shortest of the long ones first, and what it is for."""
        found = []
        for action in self.parser._actions:  # noqa: SLF001 - argparse shows them nowhere else
            if action.help != argparse.SUPPRESS and action.option_strings:
                # -field before --field, and a letter alone last.
                names = sorted(action.option_strings, key=lambda name: (len(name) == 2, len(name)))
                found.append((tuple(names), action.help or ""))
        return found


def tree() -> list[Node]:
    """Every command, in the order of the table."""
    nodes = []
    for name, summary in VERBS.items():
        parser = _subparsers(build_parser(name))[name][0]
        nodes.append(_node((name,), summary, parser))
    return nodes


def _node(words: tuple[str, ...], summary: str, parser: argparse.ArgumentParser) -> Node:
    below = _subparsers(parser)
    children = tuple(_node((*words, name), text, each) for name, (each, text) in below.items())
    return Node(words, summary, parser, children)


def _subparsers(
    parser: argparse.ArgumentParser,
) -> dict[str, tuple[argparse.ArgumentParser, str]]:
    for action in parser._actions:  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            texts = {each.dest: each.help or "" for each in action._choices_actions}  # noqa: SLF001
            # Another name of a verb has no line of its own.
            return {
                name: (each, texts[name]) for name, each in action.choices.items() if name in texts
            }
    return {}
