"""The argument parser of every verb, with the habits of Vault's users where a verb asks so."""

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NoReturn

from strongroom.model.spelling import nearest
from strongroom.model.truth import truth

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

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
        "strongroom read sys/plugins/catalog names them",
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
    "version-history": (
        "the versions that served are a list of the API",
        "strongroom read sys/version-history list=true",
    ),
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
        "strongroom read sys/internal/counters/tokens, sys/internal/counters/entities, sys/metrics",
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
HELP_FLAGS: Final = 2  # -h and -help


def flag(parser: Any, name: str, **settings: Any) -> None:  # noqa: ANN401 - parsers and groups
    """Add `-name` and `--name`."""
    parser.add_argument(f"-{name}", f"--{name}", **settings)


def switch(parser: Any, name: str, text: str) -> None:  # noqa: ANN401 - parsers and groups
    """Add a flag without a value; `-name=true` and `-name=false` are read as well."""
    flag(parser, name, nargs="?", const=True, default=False, type=_truth, help=text, metavar="BOOL")


def switch_without_effect(parser: Any, name: str) -> None:  # noqa: ANN401 - parsers and groups
    """Take a switch of Vault's that asks for what is so anyway; it is shown nowhere."""
    switch(parser, name, argparse.SUPPRESS)


def _truth(word: str) -> bool:
    try:
        return truth(word)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


# argparse's sentences, and the same said plainly.
_PLAIN: Final = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (r"^argument (-[\w-]+)(?:/-[\w-]+)*: ", r"\1: "),
        (r"^argument ", ""),
        (r"^unrecognized arguments: (-[^ =]+).*$", r"there is no flag \1 here"),
        (r"^unrecognized arguments: ", "too many words: "),
        (r"^the following arguments are required: ", "missing: "),
        (r"(-[\w-]+)/-(?:-[\w-]+)", r"\1"),
        (r"expected one argument$", "a value is missing"),
        (r"expected at least one argument$", "a value is missing"),
        (r"invalid int value: ('.*')$", r"\1 is no whole number"),
        (r"invalid float value: ('.*')$", r"\1 is no number"),
        (r"invalid choice: ('.*') \(choose from (.*)\)$", r"\1 is not one of \2"),
    )
)


def explained(action: argparse.Action) -> str:
    """What a flag or word is for, and what counts where it is not given.

    What the environment says of it is not shown: it may be a token.
    """
    text, default = action.help or "", action.default
    unsaid = default in (None, "", argparse.SUPPRESS) or isinstance(default, list)
    said = "default" in text or "(VAULT_" in text
    if not action.option_strings or action.nargs is not None or unsaid or said:
        return text
    shown = f"{default:g}" if isinstance(default, float) else default
    return f"{text} (default {shown})"


class Help(argparse.RawDescriptionHelpFormatter):
    """Each flag once, as Vault's users type it, and verbs without a heading of their own."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=100)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings:
            return super()._format_action_invocation(action)
        names = [
            each
            for each in action.option_strings
            if not (each.startswith("--") and each[1:] in action.option_strings)
        ]
        value = ""
        if action.nargs is None:
            value = " " + self._format_args(action, action.dest.upper())
        return ", ".join(names) + value

    def _format_action(self, action: argparse.Action) -> str:
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - it has no public name
            return "".join(map(self._format_action, action._get_subactions()))  # noqa: SLF001
        return super()._format_action(action)

    def _get_help_string(self, action: argparse.Action) -> str:
        return explained(action)

    def _get_default_metavar_for_positional(self, action: argparse.Action) -> str:
        return action.dest.upper()


class _Verbs(argparse._SubParsersAction):  # type: ignore[type-arg] # noqa: SLF001
    """Verbs whose line in the list is also what their own help begins with."""

    def add_parser(self, name: str, **settings: Any) -> Any:  # noqa: ANN401 - argparse's own
        settings.setdefault("description", settings.get("help"))
        return super().add_parser(name, **settings)


class Parser(argparse.ArgumentParser):
    """argparse, and for the verbs of a Vault client: flags anywhere, misuse is status 1.

    `sections` are the verbs under headings, for a parser that has many.
    """

    like_vault = False
    sections: Mapping[str, Sequence[str]] = {}

    def __init__(self, *args: Any, **settings: Any) -> None:  # noqa: ANN401 - argparse's own
        super().__init__(*args, **{**settings, "formatter_class": Help})
        self.register("action", "parsers", _Verbs)
        self._positionals.title = "words"
        self._optionals.title = "flags"
        if self.add_help:
            # Vault's spelling; `-h` and `--help` are argparse's.
            self.add_argument("-help", action="help", help=argparse.SUPPRESS)

    def format_usage(self) -> str:
        """The words; which flags there are is said below, in lines of their own."""
        return f"usage: {self.prog} {self._words()}".rstrip() + "\n"

    def _words(self) -> str:
        if self._subparsers is not None:
            wanted = next(each for each in self._actions if each.nargs == argparse.PARSER)
            word = str(wanted.metavar or "VERB")
            own = any(each.option_strings and each.nargs != 0 for each in self._actions)
            return f"{'[FLAGS] ' if own else ''}{word if wanted.required else f'[{word}]'} ..."
        formatter = self._get_formatter()
        words = [
            formatter._format_args(each, each.dest.upper())  # noqa: SLF001
            for each in self._actions
            if not each.option_strings
        ]
        flags = [each for each in self._actions if each.option_strings]
        return " ".join(["[FLAGS]", *words] if len(flags) > HELP_FLAGS else words)

    def format_help(self) -> str:
        """What it does, an example, its own flags, and the ones that all verbs have at the end."""
        parts = [self.format_usage()]
        if self.description:
            text = self.description
            parts += [text[:1].upper() + text[1:] + ("" if text.endswith(".") else "."), ""]
        if self.epilog:
            parts += [self.epilog.rstrip(), ""]
        return "\n".join(parts) + "\n" + self._listed()

    def print_help(self, file: "SupportsWrite[str] | None" = None) -> None:
        """Newer versions of argparse leave out, without a word, what cannot be written."""
        print(self.format_help(), end="", file=file)

    def _listed(self) -> str:
        formatter = self._get_formatter()
        if self._subparsers is self._positionals:
            self._positionals.title = "verbs"
        for group in self._action_groups:
            if group is self._subparsers and self.sections:
                self._add_sections(formatter)
                continue
            formatter.start_section(group.title)
            formatter.add_text(group.description)
            formatter.add_arguments(group._group_actions)  # noqa: SLF001
            formatter.end_section()
        return formatter.format_help()

    def _add_sections(self, formatter: argparse.HelpFormatter) -> None:
        action = next(each for each in self._actions if each.nargs == argparse.PARSER)
        every = {each.dest: each for each in action._get_subactions()}  # type: ignore[attr-defined] # noqa: SLF001
        for title, names in self.sections.items():
            formatter.start_section(title)
            formatter.add_arguments([every[name] for name in names])
            formatter.end_section()

    def error(self, message: str) -> NoReturn:
        """A sentence and where to look, then the exit status of a misuse."""
        if self._subparsers is not None and message.startswith("the following arguments are req"):
            self.print_help(sys.stderr)
            self.exit(1 if self.like_vault else 2)
        said = message
        for pattern, words in _PLAIN:
            said = pattern.sub(words, said)
        self.exit(1 if self.like_vault else 2, f"error: {said}\nhint: {self.prog} --help\n")

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
        near = nearest(str(value), choices)
        meant = f"did you mean {near}? " if near else ""
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
        if self._subparsers is not None:
            return super().parse_known_args(marked, namespace)
        ordered = self._flags_first(marked) if self.like_vault else marked
        found, rest = super().parse_known_args(ordered, namespace)
        # Said here, where it is known whose help there is to look at.
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
            if action is not None and action.nargs is None:
                if not given:
                    self.error(f"argument {word}: expected one argument")
                flags.append(given.pop(0))
        return [*flags, *(["--"] if any(each.startswith("-") for each in words) else []), *words]
