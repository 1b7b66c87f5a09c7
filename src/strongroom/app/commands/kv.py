"""`strongroom kv`: versioned secrets, with the verbs and flags Vault's users know."""

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from strongroom.app.kv_values import parse_pairs
from strongroom.app.store_address import add_store_arguments, open_store
from strongroom.model.errors import NotFound
from strongroom.model.reference import SecretRef, parse_secret_ref

if TYPE_CHECKING:
    from strongroom.wire.vault import VaultClient

Verb = Callable[["VaultClient", SecretRef, argparse.Namespace], Awaitable[Any]]

EXAMPLE: Final = """example:
  strongroom kv put secret/prod/db username=app password=@password.txt
  strongroom kv get -field=password prod/db
  strongroom kv get -version=1 -format=json prod/db
  strongroom kv list prod
"""


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its verbs."""
    parser = commands.add_parser(
        "kv",
        help="read and write versioned secrets",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="kv_verb", metavar="VERB", required=True)
    for name, (summary, _) in VERBS.items():
        verb = verbs.add_parser(name, help=summary)
        _arguments(verb, name)
        add_store_arguments(verb)
        verb.set_defaults(run=run)


def _arguments(verb: argparse.ArgumentParser, name: str) -> None:
    optional = "?" if name == "list" else None
    verb.add_argument("path", nargs=optional, default="", help="prod/db, secret/prod/db")
    verb.add_argument("-mount", "--mount", default="secret", help="mount of the KV engine")
    verb.add_argument("-format", "--format", choices=("table", "json"), default="table")
    if name in ("put", "patch"):
        verb.add_argument("pairs", nargs="+", metavar="KEY=VALUE")
        verb.add_argument("-cas", "--cas", type=int, help="write only if this is the version now")
    if name == "get":
        verb.add_argument("-version", "--version", type=int, default=0)
        verb.add_argument("-field", "--field", help="print this field alone")
    if name in ("delete", "undelete", "destroy"):
        verb.add_argument(
            "-versions", "--versions", required=name != "delete", help="comma-separated versions"
        )


def run(args: argparse.Namespace) -> int:
    """Call the store and print what it says."""
    shown = asyncio.run(_call(args))
    if shown is None:
        return 0
    if getattr(args, "field", None):
        return _print_field(shown, args.field)
    if args.format == "json":
        print(json.dumps(shown, indent=2))
        return 0
    _print_table(shown)
    return 0


async def _call(args: argparse.Namespace) -> Any:  # noqa: ANN401 - whatever JSON the store returns
    if args.kv_verb == "list":
        words = args.path.strip("/").removeprefix(args.mount).strip("/").removeprefix("metadata/")
        ref = SecretRef(args.mount, words)
    else:
        ref = parse_secret_ref(args.path, args.mount)
    async with open_store(args) as store:
        return await VERBS[args.kv_verb][1](store, ref, args)


async def _get(store: "VaultClient", ref: SecretRef, args: argparse.Namespace) -> Any:  # noqa: ANN401
    reply = await store.kv2_read(ref.mount, ref.path, args.version or ref.version)
    if reply.deletion_time or reply.destroyed:
        state = "destroyed" if reply.destroyed else "deleted"
        raise NotFound("version-gone", f"{ref} version {reply.version} is {state}")
    return {
        "data": reply.data,
        "metadata": {"version": reply.version, "created_time": reply.created_time},
    }


async def _put(store: "VaultClient", ref: SecretRef, args: argparse.Namespace) -> Any:  # noqa: ANN401
    data = parse_pairs(args.pairs, sys.stdin)
    version = await store.kv2_write(ref.mount, ref.path, data, args.cas)
    return {"metadata": {"path": ref.api_path, "version": version}}


async def _list(store: "VaultClient", ref: SecretRef, args: argparse.Namespace) -> Any:  # noqa: ANN401, ARG001
    return {"keys": await store.list(f"{ref.mount}/metadata/{ref.path}".rstrip("/"))}


async def _metadata(store: "VaultClient", ref: SecretRef, args: argparse.Namespace) -> Any:  # noqa: ANN401, ARG001
    return {"metadata": await store.kv2_metadata(ref.mount, ref.path)}


async def _delete(store: "VaultClient", ref: SecretRef, args: argparse.Namespace) -> None:
    if args.versions:
        await _on_versions("delete")(store, ref, args)
    else:
        await store.request("DELETE", ref.api_path)


def _on_versions(action: str) -> Verb:
    async def call(store: "VaultClient", ref: SecretRef, args: argparse.Namespace) -> None:
        versions = [int(version) for version in args.versions.split(",")]
        await store.request("POST", f"{ref.mount}/{action}/{ref.path}", {"versions": versions})

    return call


VERBS: Final[dict[str, tuple[str, Verb]]] = {
    "get": ("print a secret", _get),
    "put": ("write a new version", _put),
    "list": ("list the names under a path", _list),
    "metadata": ("versions and settings of a secret", _metadata),
    "delete": ("delete the newest version; undelete brings it back", _delete),
    "undelete": ("bring deleted versions back", _on_versions("undelete")),
    "destroy": ("remove versions for good", _on_versions("destroy")),
}


def _print_field(shown: Mapping[str, Any], field: str) -> int:
    data = shown["data"]
    if field not in data:
        raise NotFound(
            "no-field", f"the secret has no field {field!r}", hint=f"it has {sorted(data)}"
        )
    value = data[field]
    sys.stdout.write(value if isinstance(value, str) else json.dumps(value))
    if sys.stdout.isatty():
        sys.stdout.write("\n")
    return 0


def _print_table(shown: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, highlight=False)
    if "keys" in shown:
        for key in shown["keys"]:
            console.print(key)
        return
    for title, values in shown.items():
        table = Table(title=title, title_justify="left")
        table.add_column("key")
        table.add_column("value", overflow="fold")
        for key, value in values.items():
            table.add_row(key, value if isinstance(value, str) else json.dumps(value))
        console.print(table)
