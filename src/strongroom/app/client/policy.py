"""`strongroom policy`: list, read, write, format and delete policies."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strongroom.app.client.flags import Call, group, verb
from strongroom.app.client.output import print_document, success
from strongroom.model.errors import Invalid, NotFound, Unavailable

if TYPE_CHECKING:
    from strongroom.app.client.session import Session


def register(commands: Any) -> None:  # noqa: ANN401
    """Add the command and its verbs."""
    verbs = group(commands, "policy", "list, read, write and delete policies",
                  "strongroom policy write app app.hcl")  # fmt: skip
    for name, (summary, call, example) in VERBS.items():
        parser = verb(verbs, name, summary, call, example)
        if name != "list":
            if name == "fmt":
                parser.add_argument("file", help="rewritten in place; - prints what comes out")
            else:
                parser.add_argument("name", help="of the policy")
        if name == "write":
            parser.add_argument("file", help="or - for standard input")


async def _list(session: "Session", args: argparse.Namespace) -> int:
    reply = await session.list("sys/policies/acl")
    names = [str(each) for each in reply.body.within("data").listed("keys")]
    if args.format == "table":
        print("\n".join(names))
    else:
        print_document(names, args.format)
    return 0


async def _read(session: "Session", args: argparse.Namespace) -> int:
    from strongroom.app.client.session import ApiError

    try:
        reply = await session.ask("GET", f"sys/policies/acl/{args.name}")
    except ApiError as error:
        if error.status == 404:
            raise NotFound("no-policy", f"No policy named: {args.name}") from None
        raise
    if args.format == "table":
        print(str(reply.data["policy"]).rstrip("\n"))
    else:
        print_document({"policy": reply.data["policy"]}, args.format)
    return 0


def _text(name: str) -> str:
    if name == "-":
        return sys.stdin.read()
    try:
        return Path(name).read_text()
    except OSError as error:
        why = error.strerror
        # No mistake in the words of the command: status 2, as in Vault.
        raise Unavailable(
            "bad-file", f"cannot read {name}: {why}", hint="a file, or - for standard input"
        ) from error
    except UnicodeDecodeError:
        raise Invalid("bad-file", f"{name} is not text") from None


async def _write(session: "Session", args: argparse.Namespace) -> int:
    await session.ask("PUT", f"sys/policies/acl/{args.name}", {"policy": _text(args.file)})
    success(f"Uploaded policy: {args.name}", args.format)
    return 0


async def _delete(session: "Session", args: argparse.Namespace) -> int:
    await session.ask("DELETE", f"sys/policies/acl/{args.name}")
    success(f"Deleted policy: {args.name}", args.format)
    return 0


async def _fmt(session: "Session", args: argparse.Namespace) -> int:  # noqa: ARG001 - a verb's shape
    from strongroom.access.hcl_format import format_hcl
    from strongroom.access.policy import CODE, parse_policy

    text = _text(args.file)
    parse_policy(args.file, text)
    formatted = format_hcl(text, code=CODE)
    if args.file == "-":
        if args.format == "table":
            sys.stdout.write(formatted)
        else:
            print_document({"policy": formatted}, args.format)
        return 0
    if formatted != text:
        _overwrite(Path(args.file), formatted)
    success(f"Formatted policy: {args.file}", args.format)
    return 0


def _overwrite(path: Path, text: str) -> None:
    """In place, so that mode, owner and links stay."""
    try:
        path.write_text(text)
    except OSError as error:
        raise Unavailable("policy-file", f"cannot write {path}: {error.strerror}") from error


VERBS: dict[str, tuple[str, Call, str]] = {
    "list": ("names of all policies", _list, "strongroom policy list"),
    "read": ("print a policy", _read, "strongroom policy read default"),
    "write": ("write a policy from a file", _write, "strongroom policy write app app.hcl"),
    "delete": ("remove a policy", _delete, "strongroom policy delete app"),
    "fmt": ("lay out a policy file anew, without a store", _fmt, "strongroom policy fmt app.hcl"),
}
