"""`strongroom lease`: look up, renew and revoke leases."""

import argparse
from typing import TYPE_CHECKING, Any

from strongroom.app.client.flags import Call, group, verb
from strongroom.app.client.output import print_reply, success
from strongroom.app.parser import flag, switch
from strongroom.model.errors import Invalid

if TYPE_CHECKING:
    from strongroom.app.client.session import Session


def register(commands: Any) -> None:  # noqa: ANN401
    """Add the command and its verbs."""
    verbs = group(commands, "lease", "look up, renew and revoke leases",
                  "strongroom lease revoke -prefix auth/approle/login")  # fmt: skip
    for name, (summary, call, example) in VERBS.items():
        parser = verb(verbs, name, summary, call, example)
        parser.add_argument("lease", metavar="ID", help="as it was handed out, or a prefix")
        if name == "renew":
            flag(parser, "increment", metavar="TTL", help="how long from now")
        if name == "revoke":
            switch(parser, "prefix", "every lease whose id begins so")
            switch(parser, "force", "with -prefix: even when the other system does not answer")
            switch(parser, "sync", "wait until it is done")


async def _lookup(session: "Session", args: argparse.Namespace) -> int:
    reply = await session.ask("PUT", "sys/leases/lookup", {"lease_id": args.lease})
    return print_reply(reply.body, args.format, args.field, reply.raw)


async def _renew(session: "Session", args: argparse.Namespace) -> int:
    body = {"lease_id": args.lease}
    if args.increment:
        body["increment"] = args.increment
    reply = await session.ask("PUT", "sys/leases/renew", body)
    return print_reply(reply.body, args.format, args.field, reply.raw)


async def _revoke(session: "Session", args: argparse.Namespace) -> int:
    if args.force and not args.prefix:
        raise Invalid("force-alone", "-force goes with -prefix")
    if args.force:
        await session.ask("PUT", f"sys/leases/revoke-force/{args.lease}")
        success(f"Force revoked any leases with prefix: {args.lease}", args.format)
        return 0
    if args.prefix:
        await session.ask("PUT", f"sys/leases/revoke-prefix/{args.lease}", {"sync": args.sync})
        done = f"Revoked any leases with prefix: {args.lease}"
    else:
        await session.ask("PUT", "sys/leases/revoke", {"lease_id": args.lease, "sync": args.sync})
        done = f"Revoked lease: {args.lease}"
    # Without -sync the store goes on by itself, and nothing has succeeded yet.
    if args.sync:
        success(done, args.format)
    elif args.format == "table":
        print("All revocation operations queued successfully!")
    return 0


# The store's own leases are those of tokens so far; engines of a Vault have others.
VERBS: dict[str, tuple[str, Call, str]] = {
    "lookup": ("what a lease is", _lookup, "strongroom lease lookup auth/token/create/h2f6a"),
    "renew": ("let a lease live longer, as secrets engines of a Vault have; for those of tokens"
              " there is token renew", _renew,
              "strongroom lease renew -increment=1h database/creds/app/2f6a"),
    "revoke": ("end a lease", _revoke, "strongroom lease revoke -prefix auth/approle/login"),
}  # fmt: skip
