"""`strongroom print token` and `strongroom version`: what is in use, without asking the store."""

import argparse
from typing import Any

from strongroom.app.client.flags import group
from strongroom.model.errors import Invalid


def register(commands: Any, name: str) -> None:  # noqa: ANN401
    """Add one of the two commands."""
    if name == "version":
        parser = commands.add_parser(
            "version", help="print the version", epilog="example:\n  strongroom version\n",
        )  # fmt: skip
        parser.set_defaults(run=_version)
        return
    verbs = group(commands, "print", "print what is in use", "strongroom print token")
    token = verbs.add_parser(
        "token", help="the token that commands send",
        epilog="example:\n  strongroom print token\n",
    )  # fmt: skip
    token.set_defaults(run=_token)


def _version(args: argparse.Namespace) -> int:  # noqa: ARG001 - a verb's shape
    from strongroom.app.main import program_version

    print(f"strongroom {program_version()}")
    return 0


def _token(args: argparse.Namespace) -> int:  # noqa: ARG001 - a verb's shape
    from strongroom.app.store_address import token_in_use

    token = token_in_use(None)
    if token is None:
        raise Invalid("no-token", "there is no token", hint="strongroom login")
    print(token.reveal_text())
    return 0
