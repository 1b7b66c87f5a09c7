"""`strongroom auth` and `strongroom secrets`: auth methods and secrets engines, on and off."""

import argparse
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from strongroom.app.client.flags import group, verb
from strongroom.app.client.output import print_document, print_reply, print_rows, success
from strongroom.app.kv_values import parse_metadata
from strongroom.app.parser import flag, switch
from strongroom.app.store_address import refused_flag
from strongroom.model.errors import NotFound

if TYPE_CHECKING:
    from strongroom.app.client.session import Session


@dataclass(frozen=True, slots=True)
class Kind:
    """One of the two things that are mounted."""

    command: str
    path: str
    thing: str
    example: str
    types: str

    @property
    def one(self) -> str:
        """The thing with its article."""
        return f"{'an' if self.thing[0] in 'aeiou' else 'a'} {self.thing}"


AUTH: Final = Kind(
    "auth", "sys/auth", "auth method", "userpass",
    "approle, cert, jwt, kubernetes, oidc, userpass",
)  # fmt: skip
SECRETS: Final = Kind("secrets", "sys/mounts", "secrets engine", "kv-v2", "kv-v2, kv-v1, transit")
_TIMES: Final = ("default-lease-ttl", "max-lease-ttl")
_DETAILS: Final = [
    "Default TTL", "Max TTL", "Force No Cache", "Seal Wrap", "Replication", "Options", "UUID",
]  # fmt: skip
_TEXTS: Final = {
    "listing-visibility": "unauth: shown to whom has no token yet; hidden",
    "token-type": "of an auth method: default-service, default-batch, service or batch",
    "plugin-version": "kept and shown; it changes nothing here",
}
_REFUSED: Final = {
    "allowed-managed-keys": "keys are not managed elsewhere",
    "delegated-auth-accessors": "no engine logs anybody in for another mount",
    "identity-token-key": "identity tokens are not issued for engines",
}
_LOCKOUT: Final = {
    "threshold": "wrong passwords until a user is locked",
    "duration": "how long one is locked, such as 15m",
    "counter-reset-duration": "after how long a wrong password is forgotten",
}
_UNREAD: Final = "passthrough-request-headers"
# Given once for each value, or with commas.
_LISTS: Final = (
    "audit-non-hmac-request-keys",
    "audit-non-hmac-response-keys",
    _UNREAD,
    "allowed-response-headers",
)


def register(commands: Any, name: str) -> None:  # noqa: ANN401
    """Add one of the two commands."""
    kind = AUTH if name == "auth" else SECRETS
    verbs = group(commands, name, f"{kind.thing}s: list, enable, tune, move, disable",
                  f"strongroom {name} enable -path=team {kind.example}")  # fmt: skip
    listing = verb(verbs, "list", f"all {kind.thing}s", partial(_list, kind),
                   f"strongroom {name} list -detailed")  # fmt: skip
    switch(listing, "detailed", "with times, flags, options and uuid")
    enable = verb(verbs, "enable", f"mount a new {kind.thing}", partial(_enable, kind),
                  f"strongroom {name} enable -path=team {kind.example}")  # fmt: skip
    enable.add_argument("type", help=kind.types)
    flag(enable, "path", metavar="PATH", help="where; the type's name if not given")
    for each in ("local", "seal-wrap"):
        switch(enable, each, "kept and shown; it changes nothing here")
    switch(enable, "force-no-cache", "changes nothing: a mount has no cache of its own")
    refused_flag(enable, "plugin-name", "engines and methods are part of the program")
    refused_flag(enable, "external-entropy-access", "random numbers are the system's", nargs="?")
    tune = verb(verbs, "tune", f"change the settings of {kind.one}", partial(_tune, kind),
                f"strongroom {name} tune -max-lease-ttl=24h team")  # fmt: skip
    for parser in (enable, tune):
        _settings(kind, parser)
    disable = verb(verbs, "disable", "unmount, with everything under it", partial(_disable, kind),
                   f"strongroom {name} disable team")  # fmt: skip
    for parser in (tune, disable):
        parser.add_argument("path", help="where it is mounted")
    if kind is AUTH:
        helping = verb(verbs, "help", "how to log in by a method", _help,
                       "strongroom auth help userpass\n  strongroom auth help team/")  # fmt: skip
        helping.add_argument("name", metavar="TYPE | PATH/", help="a type, or where it is mounted")
    move = verb(verbs, "move", f"mount {kind.one} elsewhere", partial(_move, kind),
                f"strongroom {name} move team teams")  # fmt: skip
    move.add_argument("source", help="where it is mounted")
    move.add_argument("target", help="where it will be")


def _settings(kind: Kind, parser: argparse.ArgumentParser) -> None:
    """Flags that a mount is made with and tuned by."""
    for each, why in _REFUSED.items():
        refused_flag(parser, each, why)
    flag(parser, "description", metavar="TEXT", help="for people")
    for each in _TIMES:
        flag(parser, each, metavar="TTL", help="such as 24h; of what is handed out here")
    for each, text in _TEXTS.items():
        flag(parser, each, metavar="WORD", help=text)
    for each in _LISTS:
        kept = "; kept and shown, no engine here reads one" if each == _UNREAD else ""
        text = f"may be given several times{kept}"
        flag(parser, each, action="append", metavar="NAME", help=text)
    flag(parser, "version", metavar="N", help="of the KV engine")
    flag(parser, "options", action="append", default=[], metavar="K=V",
         help="of the engine; may be repeated")  # fmt: skip
    if kind is AUTH:
        for each, text in _LOCKOUT.items():
            flag(parser, f"user-lockout-{each}", metavar="N", help=text)
        switch(parser, "user-lockout-disable", "never lock a user")


async def _help(session: "Session", args: argparse.Namespace) -> int:
    """Of a type without asking, of a mount by what the store says is there."""
    from strongroom.app.client.login import USES

    name, where = args.name, ""
    if name.endswith("/"):
        found = (await session.ask("GET", AUTH.path)).data
        if not found.get(name):
            raise NotFound("no-mount", f"No auth method is mounted at: {name}")
        where, name = name.rstrip("/"), str(found.within(name)["type"])
    if name not in USES:
        raise NotFound("no-method", f"No auth method of type: {name}")
    use = USES[name]
    if where and where != name:
        use = use.replace(f"-method={name}", f"-method={name} -path={where}")
    text = f"Log in by the {name} method:\n\n    {use}\n\nThe token is kept for the next commands."
    if args.format == "table":
        print(text)
    else:
        print_document({"help": text}, args.format)
    return 0


async def _list(kind: Kind, session: "Session", args: argparse.Namespace) -> int:
    reply = await session.ask("GET", kind.path)
    found = reply.body.within("data")
    if args.format != "table":
        print_document(found, args.format)
        return 0
    rows = []
    for path in sorted(found):
        each = found.within(path)
        row = [path, each["type"], each["accessor"], each.get("description") or "n/a"]
        if args.detailed:
            config = each.get("config") or {}
            ttls = [config.get(name.replace("-", "_")) or "system" for name in _TIMES]
            flags = [config.get("force_no_cache"), each.get("seal_wrap")]
            reach = "local" if each.get("local") else "replicated"
            row += [*ttls, *flags, reach, each.get("options") or {}, each.get("uuid")]
        rows.append(row)
    header = ["Path", "Type", "Accessor", "Description"]
    print_rows(rows, header + (_DETAILS if args.detailed else []))
    return 0


def _config(args: argparse.Namespace) -> dict[str, Any]:
    names = [each.replace("-", "_") for each in (*_TIMES, *_TEXTS)]
    config: dict[str, Any] = {
        name: getattr(args, name) for name in names if getattr(args, name) is not None
    }
    for name in (each.replace("-", "_") for each in _LISTS):
        if (values := getattr(args, name)) is not None:
            config[name] = [word for each in values for word in each.split(",") if word]
    lockout = {
        "lockout_threshold": getattr(args, "user_lockout_threshold", None),
        "lockout_duration": getattr(args, "user_lockout_duration", None),
        "lockout_counter_reset_duration": getattr(
            args, "user_lockout_counter_reset_duration", None
        ),
        "lockout_disable": getattr(args, "user_lockout_disable", False) or None,
    }
    given = {name: value for name, value in lockout.items() if value is not None}
    return config | ({"user_lockout_config": given} if given else {})


def _options(args: argparse.Namespace) -> dict[str, str]:
    options = parse_metadata(args.options)
    return options | ({"version": str(args.version)} if args.version else {})


async def _enable(kind: Kind, session: "Session", args: argparse.Namespace) -> int:
    path = (args.path or args.type).strip("/")
    body: dict[str, Any] = {
        "type": args.type,
        "description": args.description or "",
        "config": _config(args),
        "options": _options(args),
        "local": args.local,
        "seal_wrap": args.seal_wrap,
    }
    await session.ask("POST", f"{kind.path}/{path}", body)
    article = "the " if kind is SECRETS else ""
    success(f"Enabled {article}{args.type} {kind.thing} at: {path}/", args.format)
    return 0


async def _tune(kind: Kind, session: "Session", args: argparse.Namespace) -> int:
    path = args.path.strip("/")
    body = _config(args)
    if args.description is not None:
        body["description"] = args.description
    if options := _options(args):
        body["options"] = options
    await session.ask("POST", f"{kind.path}/{path}/tune", body)
    success(f"Tuned the {kind.thing} at: {path}/", args.format)
    return 0


async def _disable(kind: Kind, session: "Session", args: argparse.Namespace) -> int:
    path = args.path.strip("/")
    await session.ask("DELETE", f"{kind.path}/{path}")
    success(f"Disabled the {kind.thing} (if it existed) at: {path}/", args.format)
    return 0


async def _move(kind: Kind, session: "Session", args: argparse.Namespace) -> int:
    prefix = "auth/" if kind is AUTH else ""
    # Vault's own command line wants `auth/` written out here.
    given = (each.strip("/").removeprefix(prefix) for each in (args.source, args.target))
    source, target = (f"{prefix}{each}/" for each in given)
    reply = await session.ask("POST", "sys/remount", {"from": source, "to": target})
    if args.format != "table":
        return print_reply(reply.body, args.format, args.field, reply.raw)
    moved = f"{kind.thing} {source} to: {target}"
    if migration := reply.data.get("migration_id"):
        print(f"Started moving {moved}, with migration ID {migration}")
    success(f"Moved {moved}", args.format)
    return 0
