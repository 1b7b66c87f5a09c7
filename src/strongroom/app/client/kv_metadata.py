"""`strongroom kv metadata`: a secret's versions and settings."""

import argparse
from typing import TYPE_CHECKING, Any

from strongroom.app.client.flags import Call, group, verb
from strongroom.app.client.kv_path import asked, find
from strongroom.app.client.output import print_heading, print_pairs, print_reply, section, success
from strongroom.app.client.paths import no_value
from strongroom.app.parser import flag, switch
from strongroom.model.errors import Invalid

if TYPE_CHECKING:
    from strongroom.app.client.session import Session


def register_metadata(verbs: Any) -> None:  # noqa: ANN401
    """Add the word and its verbs."""
    inner = group(verbs, "metadata", "versions and settings of a secret",
                  "strongroom kv metadata get secret/prod/db")  # fmt: skip
    for name, (summary, call) in VERBS.items():
        setting = {"put": "-max-versions=5 ", "patch": "-custom-metadata=owner=shop "}.get(name, "")
        example = f"strongroom kv metadata {name} {setting}secret/prod/db"
        parser = verb(inner, name, summary, call, example)
        parser.add_argument("path", help="secret/prod/db, or prod/db with -mount=secret")
        flag(parser, "mount", metavar="PATH", help="mount of the engine; the path is under it")
        if name in ("put", "patch"):
            flag(
                parser,
                "max-versions",
                type=int,
                metavar="N",
                help="how many are kept; 0: as the mount",
            )
            switch(parser, "cas-required", "writes must name the version they follow")
            parser.set_defaults(cas_required=None)
            flag(parser, "delete-version-after", metavar="TTL", help="such as 720h; 0s: never")
            flag(parser, "custom-metadata", action="append", default=[], metavar="K=V",
                 help="may be repeated")  # fmt: skip
        if name == "patch":
            flag(parser, "remove-custom-metadata", action="append", default=[], metavar="K",
                 help="may be repeated")  # fmt: skip


async def _get(session: "Session", args: argparse.Namespace) -> int:
    place = await find(session, args.path, args.mount)
    place.needs_v2()
    reply = await asked(session, place, "metadata")
    if args.format != "table" or args.field:
        return print_reply(reply.body, args.format, args.field, reply.raw)
    data = dict(reply.data)
    versions = data.pop("versions", None) or {}
    path = place.api("metadata")
    print_heading("Metadata Path", max(len(path), 19))
    print(path + "\n")
    section("Metadata", {key: data[key] for key in sorted(data)})
    for number in sorted(versions, key=int):
        print()
        print_heading(f"Version {number}", 19)
        fields = versions[number]
        shown = {key: fields[key] for key in sorted(fields)}
        print_pairs({**shown, "deletion_time": shown.get("deletion_time") or "n/a"})
    return 0


def _changed(method: str) -> Call:
    async def call(session: "Session", args: argparse.Namespace) -> int:
        from strongroom.app.client.session import ApiError

        place = await find(session, args.path, args.mount)
        place.needs_v2()
        body: dict[str, Any] = {
            name: getattr(args, name)
            for name in ("max_versions", "cas_required", "delete_version_after")
            if getattr(args, name) is not None
        }
        custom: dict[str, str | None] = {}
        for each in args.custom_metadata:
            key, equals, value = each.partition("=")
            if not equals:
                raise Invalid("bad-pair", "custom metadata is KEY=VALUE")
            custom[key] = value
        custom |= dict.fromkeys(getattr(args, "remove_custom_metadata", []))
        if custom:
            body["custom_metadata"] = custom
        try:
            await session.ask(method, place.api("metadata"), body)
        except ApiError as error:
            if error.is_absence:
                raise no_value(place.api("metadata")) from None
            raise
        success(f"Data written to: {place.api('metadata')}", args.format)
        return 0

    return call


async def _delete(session: "Session", args: argparse.Namespace) -> int:
    place = await find(session, args.path, args.mount)
    await session.ask("DELETE", place.api("metadata"))
    success(f"Data deleted (if it existed) at: {place.api('metadata')}", args.format)
    return 0


VERBS: dict[str, tuple[str, Call]] = {
    "get": ("print versions and settings", _get),
    "put": ("replace the settings", _changed("PUT")),
    "patch": ("change some settings", _changed("PATCH")),
    "delete": ("remove the secret with all its versions", _delete),
}
