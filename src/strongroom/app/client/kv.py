"""`strongroom kv`: secrets of the KV engine, version 1 and 2, in the words Vault's users know."""

import argparse
import sys
from typing import TYPE_CHECKING, Any

from strongroom.app.client.flags import Call, group, verb
from strongroom.app.client.kv_metadata import register_metadata
from strongroom.app.client.kv_path import KvPath, asked, find
from strongroom.app.client.output import (
    pick,
    print_heading,
    print_reply,
    print_rows,
    print_value,
    section,
    success,
)
from strongroom.app.client.paths import no_names, no_value, print_list
from strongroom.app.kv_values import parse_pairs
from strongroom.app.parser import flag, switch
from strongroom.model.digits import whole_number
from strongroom.model.errors import Invalid, NotFound

if TYPE_CHECKING:
    from strongroom.app.client.session import Reply, Session
    from strongroom.wire.fields import Fields


def register(commands: Any) -> None:  # noqa: ANN401
    """Add the command and its verbs."""
    verbs = group(
        commands,
        "kv",
        "read and write versioned secrets",
        "strongroom kv get -field=password secret/prod/db",
    )
    for name, (summary, call, example) in VERBS.items():
        parser = verb(verbs, name, summary, call, example)
        _arguments(parser, name)
    register_metadata(verbs)


def _arguments(parser: argparse.ArgumentParser, name: str) -> None:
    if name == "enable-versioning":
        parser.add_argument("path", help="mount of the engine")
        return
    optional = "?" if name in ("list", "scan") else None
    parser.add_argument(
        "path", nargs=optional, default="", help="secret/prod/db, or prod/db with -mount=secret"
    )
    flag(parser, "mount", metavar="PATH", help="mount of the engine; the path is under it")
    if name in ("put", "patch"):
        many = "*" if name == "patch" else "+"
        parser.add_argument("pairs", nargs=many, metavar="KEY=VALUE", help="also @file.json and -")
    if name in ("put", "patch", "copy", "move"):
        otherwise = "0: in any case" if name == "patch" else "0: only if new"
        flag(
            parser,
            "cas",
            type=int,
            metavar="N",
            help=f"only if this is the version now; {otherwise}",
        )
    if name == "patch":
        flag(parser, "method", choices=("patch", "rw"), help="rw: read, join, write")
        flag(parser, "remove-data", action="append", default=[], metavar="FIELD", help="remove it")
    if name in ("get", "rollback"):
        flag(parser, "version", type=int, default=0, required=name == "rollback", metavar="N",
             help="the old one" if name == "rollback" else "default: the newest")  # fmt: skip
    if name in ("delete", "undelete", "destroy"):
        flag(
            parser,
            "versions",
            required=name != "delete",
            metavar="N,N",
            help="comma-separated numbers",
        )
    if name in ("copy", "move"):
        parser.add_argument("target", help="where to, on the same mount")
    if name == "diff":
        flag(
            parser,
            "from",
            dest="first",
            type=int,
            metavar="N",
            help="a version (default: the one before)",
        )
        flag(
            parser,
            "to",
            dest="second",
            type=int,
            metavar="N",
            help="a version (default: the newest)",
        )
    if name == "list":
        switch(parser, "recursive", "everything below as well")


async def _get(session: "Session", args: argparse.Namespace) -> int:
    place = await find(session, args.path, args.mount)
    query = {"version": str(args.version)} if args.version else None
    reply = await asked(session, place, "data", query)
    if place.version == 1 or args.format != "table" or args.field:
        shown = reply.body
        if args.field and place.version == 2:
            return _print_field(place, reply.data, args)
        if place.version == 1 and args.format == "table" and not args.field:
            section("Data", {key: reply.data[key] for key in sorted(reply.data)})
            return 0
        return print_reply(shown, args.format, args.field, reply.raw)
    _print_secret(place, reply.data)
    return 0


def _print_field(place: KvPath, found: dict[str, Any], args: argparse.Namespace) -> int:
    data, metadata = found.get("data") or {}, found.get("metadata") or {}
    if args.field == "data" and data and "data" not in data:
        print_value(data, args.format)
        return 0
    fields = data if args.field in data else {**metadata, **data}
    if found.get("data") is None and args.field not in fields:
        # It is deleted: the store's answer, and no slip in the field's name.
        raise NotFound("no-data", f"No data found at {place.api('data')}")
    print_value(pick(fields, args.field), args.format)
    return 0


def _print_secret(place: KvPath, data: "Fields") -> None:
    path = place.api("data")
    print_heading("Secret Path", max(len(path), 17))
    print(path + "\n")
    found = data.within("metadata")
    metadata = {key: found[key] for key in sorted(found)}
    metadata["deletion_time"] = metadata.get("deletion_time") or "n/a"
    section("Metadata", metadata)
    if data.get("data"):
        print()
        section("Data", {key: data["data"][key] for key in sorted(data["data"])})


async def _put(session: "Session", args: argparse.Namespace) -> int:
    place = await find(session, args.path, args.mount)
    data = parse_pairs(args.pairs, sys.stdin)
    if place.version == 1:
        await session.ask("PUT", place.api("data"), data)
        success(f"Data written to: {place.api('data')}", args.format)
        return 0
    body: dict[str, Any] = {"data": data, "options": {}}
    # Vault's default is -1, and scripts write it out.
    if args.cas is not None and args.cas >= 0:
        body["options"]["cas"] = args.cas
    return _written(place, await session.ask("PUT", place.api("data"), body), args)


def _written(place: KvPath, reply: "Reply", args: argparse.Namespace) -> int:
    if args.format != "table" or args.field or not reply.data:
        return print_reply(reply.body, args.format, args.field, reply.raw)
    path = place.api("data")
    print_heading("Secret Path", max(len(path), 17))
    print(path + "\n")
    shown = {key: reply.data[key] for key in sorted(reply.data)}
    section("Metadata", {**shown, "deletion_time": shown.get("deletion_time") or "n/a"})
    return 0


async def _patch(session: "Session", args: argparse.Namespace) -> int:
    from strongroom.app.client.session import ApiError

    if not (args.pairs or args.remove_data):
        raise Invalid("no-data", "Must supply data", hint="KEY=VALUE, or -remove-data=FIELD")
    place = await find(session, args.path, args.mount)
    place.needs_v2()
    data: dict[str, Any] = parse_pairs(args.pairs, sys.stdin) if args.pairs else {}
    data |= dict.fromkeys(args.remove_data)
    # There is a version before, or nothing to patch: 0 stands for any, as in Vault.
    options = {"cas": args.cas} if args.cas and args.cas > 0 else {}
    if args.method != "rw":
        try:
            body = {"data": data, "options": options}
            return _written(place, await session.ask("PATCH", place.api("data"), body), args)
        except ApiError as error:
            if error.is_absence:
                raise no_value(place.api("data")) from None
            # A token without the patch capability may still read and write.
            if error.status not in (403, 405) or args.method == "patch":
                raise
    reply = await asked(session.unwrapped(), place, "data")
    if not reply.data.get("data"):
        raise no_value(place.api("data"))
    joined = {**(reply.data.get("data") or {}), **data}
    body = {
        "data": {key: value for key, value in joined.items() if value is not None},
        "options": {"cas": reply.data.within("metadata")["version"], **options},
    }
    return _written(place, await session.ask("PUT", place.api("data"), body), args)


async def _list(session: "Session", args: argparse.Namespace) -> int:
    from strongroom.app.client.session import ApiError

    if args.recursive:
        return await _scan(session, args)
    place = await find(
        session, args.path or args.mount or "secret", args.mount if args.path else None
    )
    try:
        reply = await session.list(place.api("metadata"))
    except ApiError as error:
        if error.is_absence:
            raise no_names(place.api("metadata"), args) from None
        raise
    return print_list(reply, args)


async def _scan(session: "Session", args: argparse.Namespace) -> int:
    place = await find(
        session, args.path or args.mount or "secret", args.mount if args.path else None
    )
    reply = await session.ask("SCAN", place.api("metadata") + "/")
    return print_list(reply, args)


async def _delete(session: "Session", args: argparse.Namespace) -> int:
    place = await find(session, args.path, args.mount)
    if args.versions:
        return await _on_versions("delete", "Data deleted (if it existed) at")(session, args)
    await session.ask("DELETE", place.api("data"))
    success(f"Data deleted (if it existed) at: {place.api('data')}", args.format)
    return 0


def _on_versions(action: str, said: str = "Data written to") -> Call:
    async def call(session: "Session", args: argparse.Namespace) -> int:
        place = await find(session, args.path, args.mount)
        place.needs_v2()
        numbers = [whole_number(each.strip()) for each in args.versions.split(",")]
        if None in numbers:
            raise Invalid("bad-versions", "versions are numbers", hint="-versions=1,2")
        path = place.api(action)
        method = "PUT"
        await session.ask(method, path, {"versions": numbers})
        where = place.api("data") if action == "delete" else path
        success(f"{said}: {where}", args.format)
        return 0

    return call


async def _rollback(session: "Session", args: argparse.Namespace) -> int:
    place = await find(session, args.path, args.mount)
    place.needs_v2()
    newest = await asked(session.unwrapped(), place, "metadata")
    old = await asked(session.unwrapped(), place, "data", {"version": str(args.version)})
    if not old.data.get("data"):
        raise Invalid(
            "version-gone",
            "Cannot roll back to a version that has been deleted",
            hint="strongroom kv undelete brings back one that is not destroyed",
        )
    body = {"data": old.data["data"], "options": {"cas": newest.data["current_version"]}}
    reply = await session.ask("PUT", place.api("data"), body)
    return print_reply(reply.body, args.format, args.field, reply.raw)


async def _enable_versioning(session: "Session", args: argparse.Namespace) -> int:
    mount = args.path.strip("/")
    await session.ask("POST", f"sys/mounts/{mount}/tune", {"options": {"version": "2"}})
    success(f"Tuned the secrets engine at: {mount}/", args.format)
    return 0


def _moved(action: str) -> Call:
    async def call(session: "Session", args: argparse.Namespace) -> int:
        place = await find(session, args.path, args.mount)
        place.needs_v2()
        target = await find(session, args.target, args.mount)
        if target.mount != place.mount:
            raise Invalid(
                "other-mount",
                f"{place.mount}/ and {target.mount}/ are two mounts, and versions stay in theirs",
                hint="strongroom kv get -format=json here, kv put there, writes the newest alone",
            )
        body: dict[str, Any] = {"destination": target.path, "options": {}}
        if args.cas is not None:
            body["options"]["cas"] = args.cas
        reply = await session.ask("PUT", place.api(action), body)
        if args.format != "table" or args.field:
            return print_reply(reply.body, args.format, args.field, reply.raw)
        success(f"Data written to: {target.api('data')}", args.format)
        return 0

    return call


async def _diff(session: "Session", args: argparse.Namespace) -> int:
    place = await find(session, args.path, args.mount)
    place.needs_v2()
    query = {}
    for name, value in (("from", args.first), ("to", args.second)):
        if value:
            query[name] = str(value)
    reply = await asked(session, place, "diff", query)
    if args.format != "table" or args.field:
        return print_reply(reply.body, args.format, args.field, reply.raw)
    rows = []
    for kind, mark in (("added", "+"), ("removed", "-"), ("changed", "~"), ("unchanged", " ")):
        found = reply.data.get(kind) or []
        rows += [(mark, name) for name in (found if isinstance(found, list) else sorted(found))]
    print_rows(rows, [" ", "Field"])
    return 0


VERBS: dict[str, tuple[str, Call, str]] = {
    "get": ("print a secret", _get, "strongroom kv get -version=1 -format=json secret/prod/db"),
    "put": (
        "write a new version",
        _put,
        "strongroom kv put -cas=0 secret/prod/db username=app password=@password.txt",
    ),
    "patch": ("change or remove some fields", _patch,
              "strongroom kv patch -remove-data=old secret/prod/db password=-"),
    "list": ("list the names under a path", _list, "strongroom kv list -mount=secret prod"),
    "delete": ("delete the newest version; undelete brings it back", _delete,
               "strongroom kv delete secret/prod/db"),
    "undelete": ("bring deleted versions back", _on_versions("undelete"),
                 "strongroom kv undelete -versions=3 secret/prod/db"),
    "destroy": ("remove the values of versions for good", _on_versions("destroy"),
                "strongroom kv destroy -versions=1,2 secret/prod/db"),
    "rollback": ("write an old version as the newest", _rollback,
                 "strongroom kv rollback -version=2 secret/prod/db"),
    "enable-versioning": ("turn version 1 of a mount into version 2", _enable_versioning,
                          "strongroom kv enable-versioning secret"),
    "scan": ("list everything below a path", _scan, "strongroom kv scan secret/prod"),
    "copy": ("copy a secret with its versions", _moved("copy"),
             "strongroom kv copy secret/prod/db secret/prod/db-copy"),
    "move": ("rename a secret", _moved("move"),
             "strongroom kv move secret/prod/db secret/prod/database"),
    "diff": ("which fields two versions differ in, without values", _diff,
             "strongroom kv diff -from=1 -to=2 secret/prod/db"),
}  # fmt: skip
