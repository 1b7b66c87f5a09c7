"""The `strongroom` command: a visible table of verbs, each loaded only when it is asked for.

Exit status: 0 done, 1 failed or found something, 2 refused or misused, 3 a proof or wait that
did not hold (each command's help says which apply), 130 interrupted.
"""

import argparse
import errno
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from strongroom.app.extras import extra_with
from strongroom.app.parser import Parser
from strongroom.model.digits import whole_number
from strongroom.model.errors import Refusal

# Verb -> one line of help. The module is strongroom.app.commands.<verb>.
VERBS: Final[dict[str, str]] = {
    "dev": "run everything on this machine, with a tour",
    "server": "run the store (Vault's HTTP API)",
    "status": "whether the store is sealed",
    "operator": "sync external-secrets.io objects; init, unseal and rekey a store",
    "sync": "what manifests would do to Secrets",
    "template": "render a template or a manifest's target.template offline",
    "explain": "why a Secret is not as it should be",
    "install": "manifests of the operator: definitions and least rights",
    "kms": "run the KMS v2 plugin for kube-apiserver",
    "encrypt": "prove encryption at rest",
    "agent": "keep files of secrets right beside an application",
    "rotate": "rotate a secret; retire the old version when nobody holds it",
    "audit": "who touched a secret, who could, from when to when; audit devices",
    "kv": "read and write versioned secrets",
    "login": "log in and keep the token for the next commands",
    "token": "create, look up, renew and revoke tokens",
    "policy": "list, read, write and delete policies",
    "auth": "auth methods: list, enable, tune, move, disable",
    "secrets": "secrets engines: list, enable, tune, move, disable",
    "lease": "look up, renew and revoke leases",
    "read": "read any path",
    "write": "write to any path",
    "patch": "change some fields at a path",
    "delete": "delete at any path",
    "list": "list the names under any path",
    "unwrap": "take out what a wrapping token holds",
    "events": "what changes in the store, as it happens",
    "transit": "bring keys of one's own to the transit engine",
    "path-help": "what a path is for",
    "print": "print the token in use",
    "version": "print the version",
    "completion": "print a script that completes commands in a shell",
}
# The same under headings, for the help.
SECTIONS: Final[dict[str, tuple[str, ...]]] = {
    "use a store": (
        "kv", "read", "write", "patch", "delete", "list", "unwrap", "login", "token", "lease",
        "events", "transit", "print", "path-help",
    ),
    "run a store": ("server", "status", "operator", "policy", "auth", "secrets", "audit"),
    "bring secrets to Kubernetes": ("sync", "template", "explain", "install", "agent", "rotate"),
    "encrypt the cluster's own secrets": ("kms", "encrypt"),
    "this program": ("dev", "version", "completion"),
}  # fmt: skip
# Verbs of a Vault client, and the module of strongroom.app.client that holds each.
CLIENT: Final[dict[str, str]] = {
    **{name: name for name in ("kv", "login", "token", "policy", "lease", "events", "transit")},
    **dict.fromkeys(("auth", "secrets"), "mounts"),
    **dict.fromkeys(("read", "write", "patch", "delete", "list", "unwrap", "path-help"), "paths"),
    **dict.fromkeys(("print", "version"), "print_token"),
}
# Commands that run by themselves and have verbs besides, which are loaded when one is named.
LONG_RUNNING: Final = frozenset({"operator"})
# Those that SIGHUP tells to read their files anew, once they serve.
RELOADED: Final = (["server"], ["kms", "serve"])

VAULT_VERSION: Final = "1.16.0"
_INSTALLING: Final = (["-autocomplete-install"], ["-autocomplete-uninstall"])
_NOT_INSTALLED: Final = (
    "no-install",
    "completion is not installed by the program: it would change files of your shell",
    "source <(strongroom completion bash); or, for a link called vault: complete -C vault vault",
)
# Vault's, which argparse does not read beside `--version`.
_VAULT_SPELLINGS: Final = (["-version"], ["-v"])
_VERSION_WORDS: Final = (["version"], ["--version"], *_VAULT_SPELLINGS)

EPILOG: Final = """example:
  strongroom dev
  strongroom kv put secret/prod/db password=@password.txt

strongroom COMMAND --help says more about each.
"""


def program_version() -> str:
    """The installed distribution's version, or `0+unknown` from a bare source tree."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("strongroom")
    except PackageNotFoundError:
        return "0+unknown"


class _Version(argparse.Action):
    """`--version`; looking the distribution up takes longer than starting the KMS plugin may."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:  # noqa: ANN401
        print(f"strongroom {program_version()}")
        parser.exit(0)


def _is_version_of_vault(words: Sequence[str]) -> bool:
    """Programs made for a `vault` binary ask it for a version they can parse."""
    return Path(sys.argv[0]).name == "vault" and list(words[:1]) in _VERSION_WORDS


def build_parser(verb: str | None, words: Sequence[str] | None = None) -> argparse.ArgumentParser:
    """Build the parser with the full arguments of `verb` alone, and one line for each other.

    `words` are those that will be parsed, if they are known: what they cannot name is left out.
    """
    parser = Parser(
        prog="strongroom",
        description="Secrets management for Kubernetes.",
        epilog=EPILOG,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    parser.sections = SECTIONS
    commands = parser.add_subparsers(dest="verb", metavar="COMMAND", required=True)
    for name, summary in VERBS.items():
        if name == verb:
            _register(commands, name, words)
        else:
            commands.add_parser(name, help=summary)
    return parser


def _register(
    commands: Any,  # noqa: ANN401 - argparse's action
    name: str,
    words: Sequence[str] | None,
) -> None:
    module = CLIENT.get(name)
    if name in LONG_RUNNING and words is not None and _names_no_verb(words):
        importlib.import_module(f"strongroom.app.commands.{name}").register_alone(commands)
    elif module is None:
        importlib.import_module(f"strongroom.app.commands.{name}").register(commands)
    elif module == name:
        importlib.import_module(f"strongroom.app.client.{module}").register(commands)
    else:
        importlib.import_module(f"strongroom.app.client.{module}").register(commands, name)


def _names_no_verb(words: Sequence[str]) -> bool:
    """Whether nothing but flags follows a command's name, and help is not asked for."""
    first = words[1] if len(words) > 1 else "-"
    return first.startswith("-") and not {"-h", "-help", "--help"}.intersection(words)


def _refused(code: str, message: str, hint: str, args: argparse.Namespace) -> int:
    """Say it to people, and as the one document to a program that asked for one."""
    print(f"error: {message} [{code}]", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)
    if getattr(args, "format", "") == "json":
        import json

        print(json.dumps({"error": message, "reason": code, "hint": hint}, indent=2))
    return 2


def _without_a_command(words: Sequence[str], *, called: bool) -> int | None:
    """What shells and programs made for a `vault` binary ask before any command is read.

    `called`: the words are the process' own, and so is what the environment says of them.
    """
    if called and _is_version_of_vault(words):
        print(f"Vault v{VAULT_VERSION} (strongroom {program_version()})")
        return 0
    if list(words) in _VAULT_SPELLINGS:
        print(f"strongroom {program_version()}")
        return 0
    if called and (line := os.environ.get("COMP_LINE")):
        point = whole_number(os.environ.get("COMP_POINT", ""))
        values = importlib.import_module("strongroom.app.completion_values")
        return values.offer_line(line, len(line) if point is None else point)  # type: ignore[no-any-return]
    if words[:1] in _INSTALLING:
        return _refused(*_NOT_INSTALLED, argparse.Namespace())
    if words[:1] == ["__complete"]:
        return importlib.import_module("strongroom.app.completion_values").offer(words[1:])  # type: ignore[no-any-return]
    return None


_DISK_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _open_closed_streams() -> None:
    """A stream that the caller closed goes nowhere; the next file would else take its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115, PTH123 - until the end


def _ignore_reloads(words: Sequence[str], *, called: bool) -> None:
    """SIGHUP while they start must not end those that it tells to read files anew."""
    if called and any(words[: len(each)] == each for each in RELOADED):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    _open_closed_streams()
    words = list(sys.argv[1:] if argv is None else argv)
    _ignore_reloads(words, called=argv is None)
    status = _without_a_command(words, called=argv is None)
    if status is not None:
        return status
    if words[:1] == ["help"]:
        words = [*words[1:], "--help"]
    verb = next((word for word in words if not word.startswith("-")), None)
    args = argparse.Namespace()
    try:
        args = build_parser(verb if verb in VERBS else None, words).parse_args(words)
        status = int(args.run(args))
    except ModuleNotFoundError as missing:
        extra = extra_with(missing.name or "", verb or "")
        if not extra:
            raise
        said = f"the package {missing.name} is not installed"
        return _refused("not-installed", said, f"pip install 'strongroom[{extra}]'", args)
    except Refusal as refusal:
        return _refused(refusal.code, refusal.message, refusal.hint, args)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        return _refused("cannot-write", f"cannot write: {error.strerror}", "", argparse.Namespace())
    return status


if __name__ == "__main__":
    sys.exit(main())
