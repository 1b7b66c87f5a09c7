"""`strongroom login`: by a token, a password, AppRole, a JWT, a certificate, or a browser."""

import argparse
import getpass
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from strongroom.app.client.flags import verb
from strongroom.app.client.oidc_login import oidc_login
from strongroom.app.client.output import (
    BARE,
    auth_fields,
    error_text,
    field_of,
    print_document,
    print_pairs,
    print_value,
    success,
)
from strongroom.app.client.prompt import hidden, read_word
from strongroom.app.client.token_file import store_token
from strongroom.app.kv_values import parse_pairs
from strongroom.app.parser import flag, switch
from strongroom.model.errors import Invalid, Refusal, Unavailable
from strongroom.model.secret import Secret

if TYPE_CHECKING:
    from strongroom.app.client.session import Session

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
Auth = dict[str, Any]
STORED: Final = """You are now authenticated. The token information displayed below
is already stored in the token helper. You do NOT need to run "strongroom login"
again. Future Vault requests will automatically use this token.
"""
SHADOWED: Final = (
    "WARNING! VAULT_TOKEN is set, and the next commands use it instead of the token that is stored "
    "now. Unset it to use the new one."
)
# A mount that is not there and whoever may not log in are told by one sentence (`_BARE`).
REFUSED: Final = (
    "either no {} method is mounted at {}/ (-path names another), or this login is locked for a "
    "while, disabled, or not allowed from here"
)
UNKNOWN: Final = "the store knows no such token, or it has ended or may not be used from here"
_BARE: Final = ("permission denied", "invalid token")
# Methods that other stores have and Strongroom has not.
FOREIGN: Final = frozenset({"ldap", "okta", "radius", "github"})
NOT_KEPT: Final = (
    "You are authenticated, but the token was not stored: it is shown for you to keep (VAULT_TOKEN)"
    ", or to end (strongroom token revoke)."
)
NOT_STORED: Final = """You are now authenticated. The token was not stored in the token helper.
Set the VAULT_TOKEN environment variable or pass the token below with each request to
Vault.
"""


def register(commands: Any) -> None:  # noqa: ANN401
    """Add the command."""
    parser = verb(commands, "login", "log in and keep the token for the next commands", _login,
                  "strongroom login -method=userpass username=ada\n"
                  "  strongroom login -method=oidc role=people\n"
                  "  strongroom login -method=oidc role=people skip_browser=true")  # fmt: skip
    flag(parser, "method", default="token", choices=sorted(METHODS), help="default: token")
    flag(parser, "path", metavar="PATH", help="where the method is mounted; its name if not given")
    switch(parser, "no-store", "do not write ~/.vault-token")
    switch(parser, "no-print", "do not show the token")
    switch(parser, "token-only", "print the token alone, store nothing")
    parser.add_argument(
        "words", nargs="*", default=[], metavar="TOKEN | KEY=VALUE", help="- reads the token"
    )


async def _login(session: "Session", args: argparse.Namespace) -> int:
    from strongroom.app.client.session import Wrapped

    if args.no_store and args.no_print and not args.token_only:
        raise Invalid("nothing-left", "-no-store and -no-print leave nothing of the token")
    keeps = not (args.no_store or args.token_only)
    if args.method != "token":
        _take_mount(args)
    try:
        auth = await _authenticated(session.unwrapped() if keeps else session, args)
    except Wrapped as wrapped:
        if not args.token_only:
            raise
        print_value(wrapped.body["wrap_info"]["token"])
        return 0
    token = Secret(str(auth["client_token"]))
    if keeps and not _stored(token):
        _show(auth, args)
        return 2
    if args.token_only:
        print_value(token.reveal_text())
    elif args.field and not args.no_print:
        print_value(field_of({"auth": auth}, args.field), args.format)
    elif not args.no_print:
        success(NOT_STORED if args.no_store else STORED, args.format)
        _show(auth, args)
    return 0


def _stored(token: Secret) -> bool:
    """Keep it, and say where that cannot be done: it is the store's already, and used up what was
    shown for it.
    """
    try:
        store_token(token)
    except Refusal as refusal:
        print(error_text(f"error: {refusal.message} [{refusal.code}]"), file=sys.stderr)
        print(NOT_KEPT, file=sys.stderr)
        return False
    if os.environ.get("VAULT_TOKEN"):
        print(SHADOWED, file=sys.stderr)
    return True


def _show(auth: Auth, args: argparse.Namespace) -> None:
    if args.format != "table":
        # The whole of a reply, as Vault's command line prints it.
        print_document({**BARE, "data": None, "warnings": None, "auth": auth}, args.format)
    else:
        print_pairs(auth_fields(auth))


def _take_mount(args: argparse.Namespace) -> None:
    """`mount=PATH` among the words is what -path is, and goes before it, as in Vault."""
    for word in [each for each in args.words if each.startswith("mount=")]:
        args.words.remove(word)
        args.path = word.removeprefix("mount=") or args.path


async def _authenticated(session: "Session", args: argparse.Namespace) -> Auth:
    from strongroom.app.client.session import ApiError

    try:
        return await METHODS[args.method](session, args)
    except ApiError as error:
        if args.method in FOREIGN and error.status in (403, 404):
            path = args.path or args.method
            raise Unavailable(
                "no-login-method",
                f"the store at {session.where.address} lets nobody log in at {path}/",
                hint=f"Strongroom has no {args.method} method; name another Vault by -address, "
                "its mount by -path, or use -method=oidc",
            ) from None
        bare = all(each.strip().endswith(_BARE) for each in error.errors)
        if error.status == 403 and bare:
            refused = REFUSED.format(args.method, args.path or args.method)
            error.hint = UNKNOWN if args.method == "token" else refused
        raise


def _given(args: argparse.Namespace) -> dict[str, Any]:
    """What a login is told. No part of it is a list, so a key given again is a slip."""
    keys = [word.partition("=")[0] for word in args.words if "=" in word]
    again = next((key for key in keys if keys.count(key) > 1), None)
    if again is not None:
        raise Invalid("given-twice", f"{again} is given more than once", hint="leave one of them")
    return parse_pairs(args.words, sys.stdin) if args.words else {}


async def _by_token(session: "Session", args: argparse.Namespace) -> Auth:
    """Look the token up and keep it."""
    if len(args.words) > 1:
        raise Invalid("too-many", "one token, or none to be asked for it")
    word = args.words[0].removeprefix("token=") if args.words else ""
    token = read_word(word, "token") or asked("Token (will be hidden): ", args)
    asking = session.unwrapped()
    reply = await asking.ask("GET", "auth/token/lookup-self", token=Secret(token))
    data = reply.body.within("data")
    identity = data.get("identity_policies") or []
    return {
        "client_token": token,
        "accessor": data.get("accessor"),
        "lease_duration": data.get("ttl"),
        "renewable": data.get("renewable"),
        "token_policies": data.get("policies"),
        "identity_policies": identity,
        "policies": sorted({*(data.get("policies") or []), *identity}),
        "metadata": data.get("meta"),
    }


def asked(prompt: str, args: argparse.Namespace) -> str:
    """Ask the person, without showing what is typed; raises Invalid where there is nobody."""
    if args.non_interactive or not sys.stdin.isatty():
        why = "-non-interactive was given" if args.non_interactive else "input is no terminal"
        what = prompt.partition(" (")[0]
        how = "strongroom login - reads it" if what == "Token" else "give it as KEY=-"
        raise Invalid("nobody-to-ask", f"{what}: {why}", hint=how)
    answer = hidden(prompt)
    if not answer:
        raise Invalid("no-answer", "nothing was typed")
    return answer


async def _by_password(session: "Session", args: argparse.Namespace) -> Auth:
    given = _given(args)
    name = given.get("username") or getpass.getuser()
    password = given.get("password") or asked("Password (will be hidden): ", args)
    path = f"auth/{args.path or args.method}/login/{name}"
    return await _posted(session, path, {"password": password})


def _by_fields(*needed: str) -> Callable[["Session", argparse.Namespace], Awaitable[Auth]]:
    async def call(session: "Session", args: argparse.Namespace) -> Auth:
        given = _given(args)
        missing = [name for name in needed if not given.get(name)]
        if missing:
            raise Invalid(
                "missing-field", f"{missing[0]} is needed", hint=f"{missing[0]}=..., or -"
            )
        return await _posted(session, f"auth/{args.path or args.method}/login", given)

    return call


async def _by_service_account(session: "Session", args: argparse.Namespace) -> Auth:
    given = _given(args)
    if not given.get("jwt"):
        try:
            given["jwt"] = SERVICE_ACCOUNT.read_text().strip()
        except OSError as error:
            raise Invalid("no-jwt", "no jwt given and no service-account token here") from error
    return await _posted(session, f"auth/{args.path or args.method}/login", given)


async def _posted(session: "Session", path: str, body: Mapping[str, Any]) -> Auth:
    reply = await session.ask("PUT", path.replace("//", "/"), body)
    auth = reply.body.get("auth")
    if not isinstance(auth, dict):
        raise Unavailable("no-auth", "the store gave no token")
    return auth


async def _by_browser(session: "Session", args: argparse.Namespace) -> Auth:
    return await oidc_login(session, args.path or args.method, _given(args))


# How each is used, for `auth help`.
USES: Final[dict[str, str]] = {
    "token": "strongroom login                       # asks for the token",
    "userpass": "strongroom login -method=userpass username=NAME       # asks for the password",
    "approle": "strongroom login -method=approle role_id=ID secret_id=-   # reads the secret id",
    "jwt": "strongroom login -method=jwt role=NAME jwt=@FILE",
    "oidc": "strongroom login -method=oidc role=NAME     # opens a browser; skip_browser=true",
    "cert": "strongroom login -method=cert -client-cert=FILE -client-key=FILE [name=ROLE]",
    "kubernetes": "strongroom login -method=kubernetes role=NAME   # in a pod; else jwt=@FILE",
}
METHODS: dict[str, Callable[["Session", argparse.Namespace], Awaitable[Auth]]] = {
    "token": _by_token,
    "userpass": _by_password,
    "ldap": _by_password,
    "okta": _by_password,
    "radius": _by_password,
    "github": _by_fields("token"),
    "approle": _by_fields("role_id"),
    "jwt": _by_fields("jwt"),
    "cert": _by_fields(),
    "kubernetes": _by_service_account,
    "oidc": _by_browser,
}
