"""Flags that every client verb has, in the single-dash form of Vault and with two dashes."""

import argparse
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from strongroom.app.parser import Parser, flag, switch
from strongroom.app.store_address import add_store_arguments
from strongroom.model.errors import Invalid

if TYPE_CHECKING:
    from strongroom.app.client.session import Session

FORMATS: Final = ("table", "json", "yaml", "raw")
Call = Callable[["Session", argparse.Namespace], Awaitable[int]]


def verb(
    commands: Any,  # noqa: ANN401 - argparse's action of subcommands
    name: str,
    summary: str,
    call: Call,
    example: str,
) -> Parser:
    """Add a verb that calls the store, with the flags all of them have."""
    parser = _parser(commands, name, summary, example)
    add_store_arguments(parser)
    output = parser.add_argument_group("output")
    flag(
        output,
        "format",
        type=_form,
        choices=FORMATS,
        default=_usual_format(),
        help="table, json, yaml or raw (VAULT_FORMAT, default table)",
    )
    flag(output, "field", metavar="NAME", help="print this field alone, where a reply has fields")
    flag(
        output,
        "wrap-ttl",
        metavar="TTL",
        default=os.environ.get("VAULT_WRAP_TTL", ""),
        help="hand the reply out once, for this long (VAULT_WRAP_TTL)",
    )
    switch(output, "output-curl-string", "print the request as a curl command, and send nothing")
    switch(output, "output-policy", "print the policy that the request needs, and send nothing")
    switch(output, "non-interactive", "never ask at the terminal")
    parser.set_defaults(run=_run, call=call)
    return parser


def _form(word: str) -> str:
    """In any case, and `yml`, as Vault takes them."""
    return {"yml": "yaml"}.get(word.lower(), word.lower())


def _usual_format() -> str:
    asked = _form(os.environ.get("VAULT_FORMAT", ""))
    return asked if asked in FORMATS else "table"


def check_format() -> None:
    """Raises Invalid for a VAULT_FORMAT that is none; help is shown all the same."""
    asked = _form(os.environ.get("VAULT_FORMAT", ""))
    if asked and asked not in FORMATS:
        raise Invalid(
            "bad-variable", "VAULT_FORMAT cannot be read", hint=f"it is one of {', '.join(FORMATS)}"
        )


def group(commands: Any, name: str, summary: str, example: str) -> Any:  # noqa: ANN401
    """Add a word that has verbs of its own, and return what these are added to."""
    parser = _parser(commands, name, summary, example)
    return parser.add_subparsers(dest=f"{name}_verb", metavar="VERB", required=True)


def _parser(commands: Any, name: str, summary: str, example: str) -> Parser:  # noqa: ANN401
    parser: Parser = commands.add_parser(
        name, help=summary, epilog=f"example:\n  {example}\n", allow_abbrev=False
    )
    parser.like_vault = True
    return parser


def _run(args: argparse.Namespace) -> int:
    from strongroom.app.client.session import run_call

    return run_call(args)
