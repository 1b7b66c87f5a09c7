"""The argument parser of every verb, with the habits of Vault's users where a verb asks so."""

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """argparse, and for the verbs of a Vault client: flags anywhere, misuse is status 1."""

    like_vault = False

    def __init__(self, *args: Any, **settings: Any) -> None:  # noqa: ANN401 - argparse's own
        super().__init__(*args, **settings)
        if self.add_help:
            # Vault's spelling; `-h` and `--help` are argparse's.
            self.add_argument("-help", action="help", help=argparse.SUPPRESS)

    def error(self, message: str) -> NoReturn:
        """A sentence and where to look, then the exit status of a misuse."""
        if not self.like_vault:
            super().error(message)
        self.exit(1, f"error: {message}\nhint: {self.prog} --help\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # noqa: ANN401
        """Flags may come after words, which argparse cannot read with a list of words."""
        if not self.like_vault or args is None or self._subparsers is not None:
            return super().parse_known_args(args, namespace)
        found, rest = super().parse_known_args(self._flags_first(args), namespace)
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return found, rest

    def _flags_first(self, args: Sequence[str]) -> list[str]:
        flags, words, given = [], [], list(args)
        while given:
            word = given.pop(0)
            if word == "--":
                words += given
                break
            if len(word) < 2 or not word.startswith("-"):
                words.append(word)
                continue
            action = self._option_string_actions.get(word)
            # A switch without a value must not take the word after it for one.
            flags.append(f"{word}=true" if action is not None and action.nargs == "?" else word)
            if action is not None and action.nargs is None and given:
                flags.append(given.pop(0))
        return [*flags, *(["--"] if any(each.startswith("-") for each in words) else []), *words]
