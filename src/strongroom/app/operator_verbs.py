"""`strongroom operator init|unseal|seal|rekey|generate-root|key-status`: Vault's verbs for a seal.

Words and output are the ones that scripts around a `vault` binary read.
"""

import argparse
import asyncio
import getpass
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from strongroom.app.snapshot_verbs import register_snapshots
from strongroom.app.store_address import add_store_arguments, open_store
from strongroom.model.errors import Invalid

if TYPE_CHECKING:
    from strongroom.wire.vault import VaultClient

Verb = Callable[["VaultClient", argparse.Namespace], Awaitable[int]]

EXAMPLES: Final = """  strongroom operator init -key-shares=5 -key-threshold=3
  strongroom operator unseal
  strongroom operator generate-root -init
"""


def register_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verbs."""
    init = _verb(verbs, "init", "initialise the cluster; prints its keys once", _init)
    _number(init, "key-shares", 5)
    _number(init, "key-threshold", 3)
    _number(init, "recovery-shares", 5)
    _number(init, "recovery-threshold", 3)
    init.add_argument("-status", "--status", action="store_true", help="only say whether it is")
    unseal = _verb(verbs, "unseal", "hand in one unseal key", _unseal)
    unseal.add_argument("key", nargs="?", default="", help="- or nothing: asked for")
    unseal.add_argument("-reset", "--reset", action="store_true", help="forget the keys given")
    unseal.add_argument("-migrate", "--migrate", action="store_true", help="to another seal")
    _verb(verbs, "seal", "seal the cluster", _seal)
    _rekey_arguments(_verb(verbs, "rekey", "make new unseal or recovery keys", _rekey))
    root = _verb(verbs, "generate-root", "make a root token with the holders' keys", _root)
    root.add_argument("key", nargs="?", default="", help="- or nothing: asked for")
    for name in ("init", "cancel", "status", "generate-otp"):
        root.add_argument(f"-{name}", f"--{name}", action="store_true")
    root.add_argument("-otp", "--otp", default="")
    root.add_argument("-nonce", "--nonce", default="")
    root.add_argument("-decode", "--decode", default="", metavar="TOKEN")
    _verb(verbs, "key-status", "the term of the key that seals", _key_status)
    register_snapshots(verbs)
    _verb(verbs, "members", "the nodes of a cluster, of a store that keeps a list", _members)
    _verb(verbs, "step-down", "another node is to lead, of a store that has a leader", _step_down)


def _verb(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str, run: Verb
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(
        name,
        help=text,
        description=text,
        epilog=f"example:\n  strongroom operator {name} -format=json\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_store_arguments(parser)
    parser.add_argument("-format", "--format", choices=("table", "json"), default="table")
    parser.set_defaults(run=_run, call=run)
    return parser


def _number(parser: argparse.ArgumentParser, name: str, default: int) -> None:
    parser.add_argument(f"-{name}", f"--{name}", type=int, default=default)


def _rekey_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", nargs="?", default="", help="- or nothing: asked for")
    for name in ("init", "cancel", "status", "verify"):
        parser.add_argument(f"-{name}", f"--{name}", action="store_true")
    parser.add_argument(
        "-target", "--target", choices=("barrier", "unseal", "recovery"), default="barrier"
    )
    parser.add_argument("-nonce", "--nonce", default="")
    _number(parser, "key-shares", 5)
    _number(parser, "key-threshold", 3)


def _run(args: argparse.Namespace) -> int:
    async def call() -> int:
        async with open_store(args, token_needed=False) as client:
            return int(await args.call(client, args))

    return asyncio.run(call())


# init


async def _init(client: "VaultClient", args: argparse.Namespace) -> int:
    if args.status:
        done = (await client.request("GET", "sys/init"))["initialized"]
        if args.format == "json":
            _json({"Initialized": done})
        else:
            print("Vault is initialized" if done else "Vault is not initialized")
        return 0 if done else 2
    status = await client.request("GET", "sys/seal-status")
    recovery = status["type"] != "shamir"
    shares, threshold = args.key_shares, args.key_threshold
    body = {"secret_shares": shares, "secret_threshold": threshold}
    if recovery:
        shares, threshold = args.recovery_shares, args.recovery_threshold
        body = {"recovery_shares": shares, "recovery_threshold": threshold}
    made = await client.request("PUT", "sys/init", body)
    if args.format == "json":
        _json(_init_json(made, shares, threshold))
        return 0
    word = "Recovery" if recovery else "Unseal"
    keys = made.get("recovery_keys_base64" if recovery else "keys_base64") or []
    for number, key in enumerate(keys, 1):
        print(f"{word} Key {number}: {key}")
    print(f"\nInitial Root Token: {made['root_token']}\n")
    if recovery:
        print("Success! Vault is initialized")
        return 0
    print(
        f"Vault initialized with {shares} key shares and a key threshold of {threshold}. Please\n"
        "securely distribute the key shares printed above. When the Vault is re-sealed,\n"
        f"restarted, or stopped, you must supply at least {threshold} of these keys to unseal it\n"
        "before it can start servicing requests.\n\n"
        "Vault does not store the generated root key. Without at least "
        f"{threshold} keys to\nreconstruct the root key, Vault will remain permanently sealed!"
    )
    return 0


def _init_json(made: Mapping[str, Any], shares: int, threshold: int) -> dict[str, Any]:
    recovery = made.get("recovery_keys")
    mine = (0, 0) if recovery else (shares, threshold)
    return {
        "unseal_keys_b64": made.get("keys_base64") or [],
        "unseal_keys_hex": made.get("keys") or [],
        "unseal_shares": mine[0] or 1,
        "unseal_threshold": mine[1] or 1,
        "recovery_keys_b64": made.get("recovery_keys_base64") or [],
        "recovery_keys_hex": recovery or [],
        "recovery_keys_shares": shares if recovery else 0,
        "recovery_keys_threshold": threshold if recovery else 0,
        "root_token": made["root_token"],
    }


# unseal, seal


async def _unseal(client: "VaultClient", args: argparse.Namespace) -> int:
    body: dict[str, Any] = {"reset": True}
    if not args.reset:
        body = {"key": _key(args.key, "Unseal Key (will be hidden): "), "migrate": args.migrate}
    status = await client.request("PUT", "sys/unseal", body)
    print_status(status, args.format)
    return 0


async def _seal(client: "VaultClient", args: argparse.Namespace) -> int:  # noqa: ARG001
    await client.request("PUT", "sys/seal")
    print("Success! Vault is sealed.")
    return 0


def print_status(status: Mapping[str, Any], form: str) -> None:
    """The table of `status`, or its JSON."""
    if form == "json":
        _json(status)
        return
    recovery = "Recovery " if status.get("recovery_seal") else ""
    rows: list[tuple[str, Any]] = [
        ("Seal Type", status["type"]),
        *([("Recovery Seal Type", "shamir")] if recovery and not status["sealed"] else []),
        ("Initialized", status["initialized"]),
        ("Sealed", status["sealed"]),
        (f"Total {recovery}Shares", status["n"]),
        ("Threshold", status["t"]),
    ]
    if status["sealed"]:
        rows += [
            ("Unseal Progress", f"{status['progress']}/{status['t']}"),
            ("Unseal Nonce", status["nonce"] or "n/a"),
        ]
    if status.get("migration"):
        rows.append(("Seal Migration in Progress", True))
    rows += [
        ("Version", status["version"]),
        ("Build Date", status.get("build_date") or "n/a"),
        ("Storage Type", status.get("storage_type", "")),
    ]
    if status.get("cluster_name"):
        rows += [("Cluster Name", status["cluster_name"]), ("Cluster ID", status["cluster_id"])]
    if "ha_enabled" in status:
        rows.append(("HA Enabled", status["ha_enabled"]))
    if status.get("waiting_for"):
        rows.append(("Waiting For", status["waiting_for"]))
    if status.get("seal_backend_problem"):
        rows.append(("Seal Backend Problem", status["seal_backend_problem"]))
    _table(rows)


# rekey


async def _rekey(client: "VaultClient", args: argparse.Namespace) -> int:
    path = "sys/rekey-recovery-key" if args.target == "recovery" else "sys/rekey"
    end = "verify" if args.verify else "init"
    if args.cancel:
        await client.request("DELETE", f"{path}/{end}")
        print("Success! Canceled rekeying (if it was started)")
        return 0
    if args.init:
        body = {
            "secret_shares": args.key_shares,
            "secret_threshold": args.key_threshold,
            "require_verification": args.verify,
        }
        status = await client.request("PUT", f"{path}/init", body)
    elif args.status:
        status = await client.request("GET", f"{path}/{end}")
    else:
        nonce = args.nonce or (await client.request("GET", f"{path}/{end}"))["nonce"]
        key = _key(args.key, "Rekey key (will be hidden): ")
        update = "verify" if args.verify else "update"
        status = await client.request("PUT", f"{path}/{update}", {"key": key, "nonce": nonce})
    if args.format == "json":
        _json(status)
    elif status.get("complete") and status.get("keys_base64"):
        for number, key in enumerate(status["keys_base64"], 1):
            print(f"Key {number}: {key}")
        print(f"\nOperation nonce: {status['nonce']}")
        if status.get("verification_required"):
            print(f"Verification nonce: {status['verification_nonce']}")
    else:
        _table([(name.replace("_", " ").title(), value) for name, value in status.items()])
    return 0


# generate-root


async def _root(client: "VaultClient", args: argparse.Namespace) -> int:
    from strongroom.crypto.tokens import BASE62, random_text
    from strongroom.store.seal.ceremony import decode_token

    path = "sys/generate-root"
    if args.decode:
        token = decode_token(_key(args.decode, "Encoded token: "), args.otp)
        if args.format == "json":
            _json({"token": token})
        else:
            print(token)
        return 0
    if args.generate_otp:
        length = (await client.request("GET", f"{path}/attempt"))["otp_length"]
        print(random_text(length, BASE62))
        return 0
    if args.cancel:
        await client.request("DELETE", f"{path}/attempt")
        print("Success! Root token generation canceled (if it was started)")
        return 0
    if args.init:
        status = await client.request("PUT", f"{path}/attempt", {"otp": args.otp})
    elif args.status:
        status = await client.request("GET", f"{path}/attempt")
    else:
        nonce = args.nonce or (await client.request("GET", f"{path}/attempt"))["nonce"]
        key = _key(args.key, "Unseal Key (will be hidden): ")
        status = await client.request("PUT", f"{path}/update", {"key": key, "nonce": nonce})
    _print_root(status, args.format)
    return 0


def _print_root(status: Mapping[str, Any], form: str) -> None:
    if form == "json":
        _json(status)
        return
    rows: list[tuple[str, Any]] = [
        ("Nonce", status["nonce"]),
        ("Started", status["started"]),
        ("Progress", f"{status['progress']}/{status['required']}"),
        ("Complete", status["complete"]),
    ]
    if status.get("otp"):
        rows += [("OTP", status["otp"]), ("OTP Length", status["otp_length"])]
    if status.get("encoded_token"):
        rows.append(("Encoded Token", status["encoded_token"]))
    _table(rows)


async def _key_status(client: "VaultClient", args: argparse.Namespace) -> int:
    status = (await client.request("GET", "sys/key-status"))["data"]
    if args.format == "json":
        _json(status)
        return 0
    _table(
        [
            ("Key Term", status["term"]),
            ("Install Time", status["install_time"]),
            ("Encryption Count", status.get("encryptions", 0)),
        ]
    )
    return 0


async def _members(client: "VaultClient", args: argparse.Namespace) -> int:
    status = await client.request("GET", "sys/ha-status")
    nodes = (status.get("data") or status)["nodes"]
    if args.format == "json":
        _json({"nodes": nodes})
        return 0
    for node in nodes:
        _table([(name.replace("_", " ").title(), value) for name, value in node.items()])
    return 0


async def _step_down(client: "VaultClient", args: argparse.Namespace) -> int:  # noqa: ARG001
    await client.request("PUT", "sys/step-down")
    print("Success! Stepped down")
    return 0


def _key(given: str, prompt: str) -> str:
    if given == "-":
        return sys.stdin.read().strip()
    if given:
        return given
    if not sys.stdin.isatty():
        raise Invalid("no-key", "no key was given", hint="give it as an argument, or - for stdin")
    return getpass.getpass(prompt).strip()


def _table(rows: list[tuple[str, Any]]) -> None:
    width = max(len(name) for name, _ in rows) + 4
    print(f"{'Key':{width}}Value")
    print(f"{'---':{width}}-----")
    for name, value in rows:
        print(f"{name:{width}}{_said(value)}")


def _said(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _json(value: Mapping[str, Any]) -> None:
    print(json.dumps(value, indent=2))
