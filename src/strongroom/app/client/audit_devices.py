"""`strongroom audit list|enable|disable|hash`: the store's audit devices."""

import argparse
import sys
from typing import TYPE_CHECKING, Any

from strongroom.app.client.flags import verb
from strongroom.app.client.output import pick, print_document, print_rows, print_value, success
from strongroom.app.kv_values import parse_metadata, parse_pairs
from strongroom.app.parser import flag, switch
from strongroom.model.errors import NotFound

if TYPE_CHECKING:
    from strongroom.app.client.session import Session


def register_devices(verbs: Any) -> None:  # noqa: ANN401 - argparse's action of subcommands
    """Add the verbs to `audit`."""
    listing = verb(verbs, "list", "the audit devices", _list, "strongroom audit list -detailed")
    switch(listing, "detailed", "with their options")
    enable = verb(verbs, "enable", "start an audit device", _enable,
                  "strongroom audit enable -path=second file file_path=second.log")  # fmt: skip
    flag(enable, "path", metavar="PATH", help="its name; the type if not given")
    flag(enable, "description", metavar="TEXT", default="", help="for people")
    switch(enable, "local", "changes nothing: there is no replication")
    enable.add_argument("type", help="file, socket or syslog")
    enable.add_argument("options", nargs="*", default=[], metavar="KEY=VALUE",
                        help="such as file_path=PATH, address=HOST:PORT, log_raw=true")  # fmt: skip
    disable = verb(verbs, "disable", "end an audit device", _disable,
                   "strongroom audit disable second")  # fmt: skip
    disable.add_argument("path", help="its name")
    hashing = verb(verbs, "hash", "a value as a device writes it, to look for it in the log", _hash,
                   "strongroom audit hash second 203.0.113.7")  # fmt: skip
    hashing.add_argument("path", help="name of the device")
    hashing.add_argument("input", help="@file and - are read, as in other values")


async def _list(session: "Session", args: argparse.Namespace) -> int:
    reply = await session.ask("GET", "sys/audit")
    found = reply.data
    if args.format != "table":
        print_document(found, args.format)
        return 0
    if not found:
        raise NotFound("no-device", "No audit devices are enabled.")
    rows = []
    for path in sorted(found):
        each = found.within(path)
        row = [path, each["type"], each.get("description") or "n/a"]
        if args.detailed:
            options = each.get("options") or {}
            row.append(" ".join(f"{key}={options[key]}" for key in sorted(options)))
        rows.append(row)
    print_rows(rows, ["Path", "Type", "Description", *(["Options"] if args.detailed else [])])
    return 0


async def _enable(session: "Session", args: argparse.Namespace) -> int:
    path = (args.path or args.type).strip("/")
    body = {
        "type": args.type,
        "description": args.description,
        "options": parse_metadata(args.options),
    }
    await session.ask("PUT", f"sys/audit/{path}", body)
    success(f"Enabled the {args.type} audit device at: {path}/", args.format)
    return 0


async def _disable(session: "Session", args: argparse.Namespace) -> int:
    path = args.path.strip("/")
    await session.ask("DELETE", f"sys/audit/{path}")
    success(f"Disabled audit device (if it was enabled) at: {path}/", args.format)
    return 0


async def _hash(session: "Session", args: argparse.Namespace) -> int:
    body = parse_pairs([f"input={args.input}"], sys.stdin)
    reply = await session.ask("PUT", f"sys/audit-hash/{args.path.strip('/')}", body)
    if args.format == "table":
        print_value(pick(reply.data, args.field or "hash"))
        return 0
    print_document(reply.data, args.format)
    return 0
