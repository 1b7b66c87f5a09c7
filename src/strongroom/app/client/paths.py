"""`read`, `write`, `patch`, `delete`, `list`, `unwrap` and `path-help`: any path of the API."""

import argparse
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from strongroom.app.client.flags import verb
from strongroom.app.client.output import (
    pick,
    print_document,
    print_names,
    print_raw,
    print_reply,
    print_rows,
    success,
)
from strongroom.app.client.prompt import read_word
from strongroom.app.kv_values import parse_pairs
from strongroom.app.parser import flag, switch
from strongroom.model.errors import Invalid, NotFound
from strongroom.model.secret import Secret

if TYPE_CHECKING:
    from strongroom.app.client.session import Reply, Session


def register(commands: Any, name: str) -> None:  # noqa: ANN401
    """Add the one of these verbs that is asked for."""
    summary, call, example = VERBS[name]
    parser = verb(commands, name, summary, call, example)
    if name == "unwrap":
        parser.add_argument(
            "token", nargs="?", default="", help="- reads it; without one it is the token in use"
        )
        return
    parser.add_argument("path", help="without /v1/")
    if name in ("read", "write", "patch", "delete"):
        parser.add_argument(
            "pairs", nargs="*", default=[], metavar="KEY=VALUE", help="also @file and -"
        )
    if name in ("write", "patch"):
        switch(parser, "force", "write without any data")
        switch(parser, "f", argparse.SUPPRESS)
    if name == "list":
        flag(parser, "after", help="names after this one")
        flag(parser, "limit", type=int, help="at most so many names")
        switch(parser, "detailed", "with what the store says of each name")


async def _read(session: "Session", args: argparse.Namespace) -> int:
    from strongroom.app.client.session import ApiError, NoJson

    try:
        reply = await session.ask("GET", args.path, query=_query(args))
    except ApiError as error:
        if error.is_absence:
            raise no_value(args.path) from None
        raise
    except NoJson as answer:
        if args.format == "raw":
            print_raw(answer.raw)
            return 0
        raise Invalid(
            "no-json", f"what is at {args.path} is not JSON", hint="-format=raw prints it as it is"
        ) from None
    if not reply.raw:
        raise no_value(args.path)
    return print_reply(reply.body, args.format, args.field, reply.raw)


def _query(args: argparse.Namespace) -> dict[str, str] | None:
    return {key: str(value) for key, value in _pairs(args).items()} if args.pairs else None


def _pairs(args: argparse.Namespace) -> dict[str, Any]:
    return parse_pairs(args.pairs, sys.stdin)


async def _write(session: "Session", args: argparse.Namespace) -> int:
    return await _written(session, args, "PUT")


async def _patch(session: "Session", args: argparse.Namespace) -> int:
    return await _written(session, args, "PATCH")


async def _written(session: "Session", args: argparse.Namespace, method: str) -> int:
    if not (args.pairs or args.force or args.f):
        raise Invalid("no-data", "Must supply data or use -force", hint="key=value, @file or -")
    reply = await session.ask(method, args.path, _pairs(args) if args.pairs else {})
    return _done(reply, args, f"Data written to: {args.path}")


def _done(reply: "Reply", args: argparse.Namespace, sentence: str) -> int:
    said = reply.body.get("data") or reply.body.get("auth") or reply.body.get("wrap_info")
    if said:
        return print_reply(reply.body, args.format, args.field, reply.raw)
    if args.field:
        pick({}, args.field)
    success(sentence, args.format)
    return 0


async def _delete(session: "Session", args: argparse.Namespace) -> int:
    reply = await session.ask("DELETE", args.path, query=_query(args))
    return _done(reply, args, f"Data deleted (if it existed) at: {args.path}")


async def _list(session: "Session", args: argparse.Namespace) -> int:
    from strongroom.app.client.session import ApiError

    query = {"list": "true"}
    for name in ("after", "limit"):
        if getattr(args, name) is not None:
            query[name] = str(getattr(args, name))
    try:
        reply = await session.ask("GET", args.path, query=query)
    except ApiError as error:
        if error.is_absence:
            raise no_names(args.path, args) from None
        raise
    return print_list(reply, args)


def no_value(path: str) -> NotFound:
    """What to raise where nothing is."""
    return NotFound("no-value", f"No value found at {path}")


def no_names(path: str, args: argparse.Namespace) -> NotFound:
    """What to raise where there are no names; who asked for JSON or YAML gets {}, as from Vault."""
    if args.format in ("json", "yaml"):
        print_document({}, args.format)
    return no_value(path)


def print_list(reply: "Reply", args: argparse.Namespace) -> int:
    """The names of a LIST: a table of them, or a plain array."""
    if getattr(args, "detailed", False) and args.format != "raw":
        return _print_detailed(reply, args.format)
    if args.format == "table":
        print_names(reply.keys)
    elif args.format == "raw":
        print_raw(reply.raw)
    else:
        print_document(reply.keys, args.format)
    return 0


def _print_detailed(reply: "Reply", form: str) -> int:
    """With what the store says of each name (`key_info`): columns, or the whole reply."""
    if form != "table":
        return print_reply(reply.body, form, None)
    about: Mapping[str, Any] = reply.data.get("key_info") or {}
    fields = sorted({name for each in about.values() for name in each})
    rows = [[key, *(about.get(key, {}).get(name, "n/a") for name in fields)] for key in reply.keys]
    print_rows(rows, ["Keys", *fields])
    return 0


async def _unwrap(session: "Session", args: argparse.Namespace) -> int:
    # With a token of one's own the wrapping token travels in the body, else it is the token.
    word = read_word(args.token, "token")
    if word and session.token:
        reply = await session.ask("PUT", "sys/wrapping/unwrap", {"token": word})
    else:
        token = Secret(word) if word else None
        reply = await session.ask("PUT", "sys/wrapping/unwrap", {}, token=token)
    if not args.field and isinstance(reply.data.get("keys"), list):
        return print_list(reply, args)
    return _done(reply, args, "There was nothing inside")


async def _path_help(session: "Session", args: argparse.Namespace) -> int:
    reply = await session.ask("GET", args.path, query={"help": "1"})
    found = {**reply.body, **reply.data}
    if args.format != "table":
        print_document(reply.body, args.format)
        return 0
    print(str(found.get("help", "")).rstrip())
    return 0


VERBS = {
    "read": ("read any path", _read, "strongroom read auth/token/lookup-self"),
    "write": (
        "write to any path",
        _write,
        "strongroom write auth/approle/role/ci token_policies=ci token_ttl=10m",
    ),
    "patch": (
        "change some fields at a path",
        _patch,
        "strongroom patch secret/metadata/db max_versions=3",
    ),
    "delete": ("delete at any path", _delete, "strongroom delete auth/approle/role/ci"),
    "list": ("list the names under any path", _list, "strongroom list auth/approle/role"),
    "unwrap": ("take out what a wrapping token holds", _unwrap, "strongroom unwrap hvs.CAES"),
    "path-help": ("what a path is for", _path_help, "strongroom path-help secret"),
}
