"""`strongroom operator rekey|generate-root`: what the holders of key shares do together."""

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from strongroom.app.client.flags import verb
from strongroom.app.client.output import success
from strongroom.app.client.prompt import read_word
from strongroom.app.operator_verbs import (
    NO_PGP,
    key_argument,
    number,
    operator_examples,
    print_fields,
    share,
)
from strongroom.app.parser import flag, switch
from strongroom.app.store_address import refused_flag
from strongroom.model.errors import Invalid

if TYPE_CHECKING:
    from strongroom.app.client.session import Session


def register_ceremonies(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verbs."""
    rekey = verb(
        verbs, "rekey", "make new unseal or recovery keys", _rekey,
        operator_examples("rekey -init -key-shares=3 -key-threshold=2",
                          "rekey                     # each holder; asks for the key",
                          "rekey -cancel"),
    )  # fmt: skip
    _attempt_flags(rekey)
    switch(rekey, "verify", "with -init: new keys must be shown before they hold; else show one")
    flag(rekey, "target", choices=("barrier", "unseal", "recovery"), default="barrier",
         help="which keys (default barrier, the unseal keys)")  # fmt: skip
    flag(rekey, "nonce", default="", metavar="TEXT", help="of the attempt that is meant")
    number(rekey, "key-shares", 5, "into how many shares the key is split")
    number(rekey, "key-threshold", 3, "how many of them unseal")
    rekey.add_argument("-n", dest="key_shares", type=int, help=argparse.SUPPRESS)
    rekey.add_argument("-t", dest="key_threshold", type=int, help=argparse.SUPPRESS)
    for name in ("pgp-keys", "backup", "backup-retrieve", "backup-delete"):
        refused_flag(rekey, name, NO_PGP, nargs=None if name == "pgp-keys" else "?")
    root = verb(
        verbs, "generate-root", "make a root token with the holders' keys", _root,
        operator_examples("generate-root -init       # says the one-time password",
                          "generate-root             # each holder; asks for the key",
                          "generate-root -cancel"),
    )  # fmt: skip
    _attempt_flags(root)
    switch(root, "generate-otp", "make a one-time password, for -otp")
    flag(root, "otp", default="", metavar="TEXT", help="one-time password that veils the token")
    flag(root, "nonce", default="", metavar="TEXT", help="of the attempt that is meant")
    flag(root, "decode", default="", metavar="TOKEN", help="unveil a token, with -otp; - reads it")
    refused_flag(root, "pgp-key", NO_PGP)
    for name in ("dr-token", "recovery-token"):
        refused_flag(root, name, "there is no replication and no recovery mode", nargs="?")


def _attempt_flags(ceremony: argparse.ArgumentParser) -> None:
    key_argument(ceremony)
    switch(ceremony, "init", "begin")
    switch(ceremony, "cancel", "give up what was begun")
    switch(ceremony, "status", "how far it is")


async def _rekey(session: "Session", args: argparse.Namespace) -> int:
    path = "sys/rekey-recovery-key" if args.target == "recovery" else "sys/rekey"
    end = "verify" if args.verify else "init"
    if args.cancel:
        await session.ask("DELETE", f"{path}/{end}")
        success("Canceled rekeying (if it was started)", args.format)
        return 0
    if args.init:
        body = {
            "secret_shares": args.key_shares,
            "secret_threshold": args.key_threshold,
            "require_verification": args.verify,
        }
        reply = await session.ask("PUT", f"{path}/init", body)
    elif args.status:
        reply = await session.ask("GET", f"{path}/{end}")
    else:
        nonce = args.nonce or await _nonce(session, f"{path}/{end}", "rekey")
        key = share(args, "Rekey key (will be hidden): ")
        update = "verify" if args.verify else "update"
        reply = await session.ask("PUT", f"{path}/{update}", {"key": key, "nonce": nonce})
    return _print_rekey(args, reply.body)


async def _nonce(session: "Session", path: str, name: str) -> str:
    """Of the attempt that is under way; raises Invalid when there is none."""
    nonce = str((await session.preflight(path)).body.get("nonce") or "")
    if not nonce:
        raise Invalid("not-begun", "nothing was begun", hint=f"strongroom operator {name} -init")
    return nonce


def _print_rekey(args: argparse.Namespace, status: Mapping[str, Any]) -> int:
    keys = status.get("keys_base64")
    if args.format != "table" or args.field or not (status.get("complete") and keys):
        return print_fields(args, status, _rekey_rows(status))
    for place, key in enumerate(keys or [], 1):
        print(f"Key {place}: {key}")
    print(f"\nOperation nonce: {status['nonce']}")
    if status.get("verification_required"):
        print(f"Verification nonce: {status['verification_nonce']}")
        print(
            "\nThe old keys hold until enough of the new ones were shown by\n"
            '"strongroom operator rekey -verify".'
        )
        return 0
    kind = "recovery" if args.target == "recovery" else "unseal"
    # Where the database has not confirmed them a warning says what holds.
    old = "\n" if status.get("warnings") else " The old ones open nothing\nany more. "
    print(
        f"\nVault {kind} keys rekeyed: {len(keys or [])} key shares.{old}"
        "Please securely distribute the key shares printed above."
    )
    return 0


def _rekey_rows(status: Mapping[str, Any]) -> list[tuple[str, Any]]:
    if "started" not in status:
        return [(name.replace("_", " ").title(), value) for name, value in status.items()]
    rows: list[tuple[str, Any]] = [
        ("Nonce", status.get("nonce") or "n/a"),
        ("Started", status["started"]),
    ]
    if status["started"]:
        rows += [
            ("Rekey Progress", f"{status.get('progress', 0)}/{status.get('required', 0)}"),
            ("New Shares", status.get("n")),
            ("New Threshold", status.get("t")),
            ("Verification Required", bool(status.get("verification_required"))),
        ]
    if status.get("verification_nonce"):
        rows.append(("Verification Nonce", status["verification_nonce"]))
    return rows


async def _root(session: "Session", args: argparse.Namespace) -> int:
    from strongroom.crypto.tokens import BASE62, random_text

    path = "sys/generate-root"
    if args.decode:
        return _decoded(args)
    if args.generate_otp:
        length = (await session.ask("GET", f"{path}/attempt")).body["otp_length"]
        otp = random_text(length, BASE62)
        return _said(args, {"otp": otp, "otp_length": length}, otp)
    if args.cancel:
        await session.ask("DELETE", f"{path}/attempt")
        success("Root token generation canceled (if it was started)", args.format)
        return 0
    if args.init:
        reply = await session.ask("PUT", f"{path}/attempt", {"otp": args.otp})
    elif args.status:
        reply = await session.ask("GET", f"{path}/attempt")
    else:
        nonce = args.nonce or await _nonce(session, f"{path}/attempt", "generate-root")
        key = share(args, "Unseal Key (will be hidden): ")
        reply = await session.ask("PUT", f"{path}/update", {"key": key, "nonce": nonce})
    return print_fields(args, reply.body, _root_rows(reply.body))


def _decoded(args: argparse.Namespace) -> int:
    """Without a server: what the last holder was shown, under the password of the first."""
    from strongroom.store.seal.ceremony import decode_token

    if not args.otp:
        raise Invalid("no-otp", "the one-time password is needed", hint="-otp=TEXT, as -init said")
    token = decode_token(read_word(args.decode, "token"), args.otp)
    return _said(args, {"token": token}, token)


def _said(args: argparse.Namespace, fields: Mapping[str, Any], line: str) -> int:
    if args.format != "table" or args.field:
        return print_fields(args, fields, [])
    print(line)
    return 0


def _root_rows(status: Mapping[str, Any]) -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = [
        ("Nonce", status["nonce"] or "n/a"),
        ("Started", status["started"]),
        ("Progress", f"{status['progress']}/{status['required']}"),
        ("Complete", status["complete"]),
    ]
    if status.get("otp"):
        rows += [("OTP", status["otp"]), ("OTP Length", status["otp_length"])]
    if status.get("encoded_token"):
        rows.append(("Encoded Token", status["encoded_token"]))
    return rows
