"""The `strongroom` command: a visible table of verbs, each loaded only when it is asked for.

Exit status: 0 done, 1 failed or found something, 2 refused or misused, 3 a proof or wait that
did not hold (each command's help says which apply), 130 interrupted.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from strongroom.model.errors import Refusal

# Verb -> one line of help. The module is strongroom.app.commands.<verb>.
VERBS: Final[dict[str, str]] = {
    "server": "run the store (Vault's HTTP API)",
    "operator": "sync external-secrets.io objects into Secrets",
    "kms": "run the KMS v2 plugin for kube-apiserver",
    "encrypt": "prove encryption at rest",
    "kv": "read and write versioned secrets",
}

EPILOG: Final = """example:
  strongroom kv put secret/prod/db password=@password.txt
"""


def program_version() -> str:
    """The installed distribution's version, or `0+unknown` from a bare source tree."""
    try:
        return version("strongroom")
    except PackageNotFoundError:
        return "0+unknown"


def build_parser(verb: str | None) -> argparse.ArgumentParser:
    """Build the parser with the full arguments of `verb` alone, and one line for each other."""
    parser = argparse.ArgumentParser(
        prog="strongroom",
        description="Secrets management for Kubernetes.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"strongroom {program_version()}")
    commands = parser.add_subparsers(dest="verb", metavar="COMMAND", required=True)
    for name, summary in VERBS.items():
        if name == verb:
            module = importlib.import_module(f"strongroom.app.commands.{name}")
            module.register(commands)
        else:
            commands.add_parser(name, help=summary)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    verb = next((word for word in words if not word.startswith("-")), None)
    args = build_parser(verb if verb in VERBS else None).parse_args(words)
    try:
        status: int = args.run(args)
    except Refusal as refusal:
        print(f"error: {refusal.message} [{refusal.code}]", file=sys.stderr)
        if refusal.hint:
            print(f"hint: {refusal.hint}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
