"""`strongroom token`: create, look up, renew and revoke tokens, and what they may do."""

import argparse
from typing import TYPE_CHECKING, Any

from strongroom.app.client.flags import Call, group, verb
from strongroom.app.client.output import print_document, print_reply, success
from strongroom.app.client.prompt import read_word
from strongroom.app.kv_values import parse_metadata
from strongroom.app.parser import flag, switch
from strongroom.model.errors import Invalid

if TYPE_CHECKING:
    from strongroom.app.client.session import Session


def register(commands: Any) -> None:  # noqa: ANN401
    """Add the command and its verbs."""
    verbs = group(commands, "token", "create, look up, renew and revoke tokens",
                  "strongroom token create -policy=app -ttl=1h")  # fmt: skip
    for name, (summary, call, example) in VERBS.items():
        parser = verb(verbs, name, summary, call, example)
        _ARGUMENTS[name](parser)


def _create_arguments(parser: argparse.ArgumentParser) -> None:
    flag(parser, "policy", action="append", default=[], metavar="NAME", help="may be repeated")
    for name in ("ttl", "explicit-max-ttl", "period"):
        flag(parser, name, metavar="TTL", help="such as 30m or 24h")
    flag(parser, "use-limit", type=int, metavar="N", help="how often it may be used")
    flag(parser, "display-name", metavar="TEXT", help="after `token-`, in the audit log")
    flag(parser, "metadata", action="append", default=[], metavar="K=V", help="may be repeated")
    flag(parser, "id", metavar="TEXT", help="the token itself; needs sudo")
    flag(parser, "role", metavar="NAME", help="a role of auth/token/roles")
    flag(parser, "type", choices=("service", "batch"),
         help="a batch token is stored nowhere and never renewed")  # fmt: skip
    flag(parser, "entity-alias", metavar="NAME", help="with -role")
    switch(parser, "orphan", "a token without a parent")
    switch(parser, "no-default-policy", "without the policy `default`")
    switch(parser, "renewable", "whether it can be renewed (default true)")
    parser.set_defaults(renewable=True)


async def _create(session: "Session", args: argparse.Namespace) -> int:
    body: dict[str, Any] = {
        "policies": args.policy or None,
        "ttl": args.ttl,
        "explicit_max_ttl": args.explicit_max_ttl,
        "period": args.period,
        "num_uses": args.use_limit,
        "display_name": args.display_name,
        "meta": parse_metadata(args.metadata) or None,
        "id": args.id,
        "type": args.type,
        "entity_alias": args.entity_alias,
        "no_default_policy": args.no_default_policy or None,
        "renewable": None if args.renewable else False,
    }
    path = "auth/token/create"
    if args.role:
        path += f"/{args.role}"
    elif args.orphan:
        path += "-orphan"
    sent = {name: value for name, value in body.items() if value is not None}
    reply = await session.ask("POST", path, sent)
    reply.body.within("auth")
    return print_reply(reply.body, args.format, args.field, reply.raw)


def _token_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "token", nargs="?", default="", help="- reads it; without one it is the token in use"
    )
    switch(parser, "accessor", "what is given is an accessor")


def _by(args: argparse.Namespace, action: str) -> tuple[str, dict[str, Any]]:
    """The path and body for a token, an accessor, or the token in use."""
    token = read_word(args.token, "token")
    if args.accessor:
        if not token:
            raise Invalid("no-accessor", "an accessor is needed")
        return f"auth/token/{action}-accessor", {"accessor": token}
    if token:
        return f"auth/token/{action}", {"token": token}
    return f"auth/token/{action}-self", {}


async def _lookup(session: "Session", args: argparse.Namespace) -> int:
    path, body = _by(args, "lookup")
    reply = await session.ask("POST" if body else "GET", path, body or None)
    reply.body.within("data")
    return print_reply(reply.body, args.format, args.field, reply.raw)


def _renew_arguments(parser: argparse.ArgumentParser) -> None:
    _token_argument(parser)
    flag(parser, "increment", metavar="TTL", help="how long from now")
    parser.add_argument("-i", dest="increment", metavar="TTL", help=argparse.SUPPRESS)


async def _renew(session: "Session", args: argparse.Namespace) -> int:
    path, body = _by(args, "renew")
    if args.increment:
        body["increment"] = args.increment
    reply = await session.ask("PUT", path, body)
    reply.body.within("auth")
    return print_reply(reply.body, args.format, args.field, reply.raw)


def _revoke_arguments(parser: argparse.ArgumentParser) -> None:
    _token_argument(parser)
    switch(parser, "self", "the token in use")
    flag(parser, "mode", choices=("", "orphan", "path"), default="", help="orphan: children stay")


async def _revoke(session: "Session", args: argparse.Namespace) -> int:
    if args.self == bool(args.token):
        raise Invalid("which-token", "name one token, or give -self")
    if args.self and args.mode:
        raise Invalid("which-token", f"-mode={args.mode} needs the token or the path itself")
    if args.mode == "path":
        await session.ask("PUT", f"sys/leases/revoke-prefix/{args.token}", {})
    elif args.mode == "orphan":
        token = read_word(args.token, "token")
        await session.ask("PUT", "auth/token/revoke-orphan", {"token": token})
    else:
        path, body = _by(args, "revoke")
        await session.ask("PUT", path, body)
    success("Revoked token (if it existed)", args.format)
    return 0


def _capabilities_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="+", metavar="[TOKEN] PATH", help="- reads the token")
    switch(parser, "accessor", "what is given is an accessor")


async def _capabilities(session: "Session", args: argparse.Namespace) -> int:
    if len(args.words) > 2:
        raise Invalid("too-many", "a token and a path, or a path alone")
    path = args.words[-1]
    body: dict[str, Any] = {"path": path}
    kind = "-self"
    if len(args.words) == 2:
        kind, name = ("-accessor", "accessor") if args.accessor else ("", "token")
        body[name] = read_word(args.words[0], "token")
    reply = await session.ask("POST", f"sys/capabilities{kind}", body)
    found = reply.data.get("capabilities") or []
    if args.format == "table":
        print(", ".join(sorted(found)))
    else:
        print_document(found, args.format)
    return 0


VERBS: dict[str, tuple[str, Call, str]] = {
    "create": ("make a token", _create, "strongroom token create -policy=app -ttl=1h"),
    "lookup": ("what a token is", _lookup, "strongroom token lookup -accessor 8609694a"),
    "renew": ("let a token live longer", _renew, "strongroom token renew -increment=2h"),
    "revoke": ("end a token and what it made", _revoke, "strongroom token revoke -self"),
    "capabilities": (
        "what a token may do on a path",
        _capabilities,
        "strongroom token capabilities secret/data/prod/db",
    ),
}
_ARGUMENTS = {
    "create": _create_arguments,
    "lookup": _token_argument,
    "renew": _renew_arguments,
    "revoke": _revoke_arguments,
    "capabilities": _capabilities_arguments,
}
