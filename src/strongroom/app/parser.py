"""The argument parser of every verb, with the habits of Vault's users where a verb asks so."""

import argparse
import difflib
from collections.abc import Sequence
from typing import Any, Final, NoReturn

# Commands of Vault's that are not here: why, and what to do instead.
ABSENT: Final[dict[str, tuple[str, str]]] = {
    "debug": (
        "bundles of a running server are not taken",
        "strongroom read sys/host-info, sys/metrics and sys/in-flight-req say what it does",
    ),
    "hcp": ("there is no HCP service behind this program", "strongroom login"),
    "monitor": (
        "logs are not streamed by the API",
        "follow the server's standard error; strongroom write sys/loggers level=debug",
    ),
    "namespace": (
        "there are no namespaces",
        "one mount and one policy for each team, or a store of its own",
    ),
    "pki": (
        "there are no tools for the authorities of a PKI mount",
        "strongroom read, write and list reach every path that is served",
    ),
    "plugin": (
        "engines and auth methods are part of the program; there are no plugins",
        "strongroom secrets enable -h and strongroom auth enable -h",
    ),
    "proxy": (
        "there is no API proxy",
        "strongroom agent keeps files right; applications can ask the store itself",
    ),
    "ssh": (
        "sessions are not opened for you",
        "strongroom write reaches every path that is served; start ssh with what it answers",
    ),
    "transform": (
        "the transform engine is Vault Enterprise's",
        "strongroom write transit/encrypt/KEY plaintext=BASE64",
    ),
    "version-history": ("the versions that ran before are not kept", "strongroom version"),
    "operator diagnose": (
        "the server checks itself when it starts",
        "strongroom server -test-config -config=FILE reads and checks without starting",
    ),
    "operator migrate": (
        "storage is moved by a snapshot, not copied key by key",
        "strongroom operator snapshot save FILE, then snapshot restore -data DIR or -database URL",
    ),
    "operator usage": (
        "clients are not counted, as there is no licence that would",
        "strongroom read sys/leases/count type=all, sys/metrics",
    ),
    "operator utilization": ("there is no licence to report for", "strongroom read sys/host-info"),
    **dict.fromkeys(
        (
            "operator raft list-peers",
            "operator raft join",
            "operator raft remove-peer",
            "operator raft autopilot",
            "operator raft snapshot-agent",
        ),
        (
            "the storage is a database, not Raft",
            "nodes join by the configuration alone; strongroom status and sys/health tell of each",
        ),
    ),
}
_TRUE: Final = frozenset({"1", "t", "true"})
_FALSE: Final = frozenset({"0", "f", "false"})


def flag(parser: Any, name: str, **settings: Any) -> None:  # noqa: ANN401 - parsers and groups
    """Add `-name` and `--name`."""
    parser.add_argument(f"-{name}", f"--{name}", **settings)


def switch(parser: Any, name: str, text: str) -> None:  # noqa: ANN401 - parsers and groups
    """Add a flag without a value; `-name=true` and `-name=false` are read as well."""
    flag(parser, name, nargs="?", const=True, default=False, type=_truth, help=text, metavar="BOOL")


def truth(word: str) -> bool:
    """What Go's strconv.ParseBool makes of a word; raises ValueError."""
    if word.lower() in _TRUE:
        return True
    if word.lower() in _FALSE:
        return False
    raise ValueError("true or false")


def _truth(word: str) -> bool:
    try:
        return truth(word)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


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

    def _check_value(self, action: argparse.Action, value: Any) -> None:  # noqa: ANN401
        """A word that is no verb is answered with a reason, or with the verbs that there are."""
        choices = action.choices
        if (
            not isinstance(action, argparse._SubParsersAction)  # noqa: SLF001 - it has no public name
            or choices is None
            or value in choices
        ):
            super()._check_value(action, value)
            return
        _, *above = self.prog.split()
        reason = ABSENT.get(" ".join([*above, str(value)]))
        if reason:
            self.exit(1, f"error: {self.prog} {value}: {reason[0]}\nhint: {reason[1]}\n")
        near = difflib.get_close_matches(str(value), list(choices), n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        there = ", ".join(choices)
        status = 1 if self.like_vault else 2
        self.exit(
            status, f"error: there is no {self.prog} {value}\nhint: {meant}there are {there}\n"
        )

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # noqa: ANN401
        """Flags may come after words, which argparse cannot read with a list of words."""
        if args is None:
            return super().parse_known_args(args, namespace)
        marked = self._switches_marked(args)
        if not self.like_vault or self._subparsers is not None:
            return super().parse_known_args(marked, namespace)
        found, rest = super().parse_known_args(self._flags_first(marked), namespace)
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return found, rest

    def _switches_marked(self, args: Sequence[str]) -> list[str]:
        """A switch without a value must not take the word after it for one."""
        given = list(args)
        marked: list[str] = []
        while given:
            word = given.pop(0)
            if word == "--":
                return [*marked, word, *given]
            action = self._option_string_actions.get(word)
            marked.append(f"{word}=true" if action is not None and action.nargs == "?" else word)
            if action is not None and action.nargs is None and given:
                marked.append(given.pop(0))
        return marked

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
            flags.append(word)
            if action is not None and action.nargs is None and given:
                flags.append(given.pop(0))
        return [*flags, *(["--"] if any(each.startswith("-") for each in words) else []), *words]
