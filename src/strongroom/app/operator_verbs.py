"""`strongroom operator init|unseal|seal|...`: Vault's verbs for a seal and its keys.

Words and output are the ones that scripts around a `vault` binary read.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from strongroom.app.client.flags import Call, verb
from strongroom.app.client.output import pick, print_document, print_rows, print_value, success
from strongroom.app.client.prompt import hidden, read_word
from strongroom.app.parser import flag, switch
from strongroom.app.store_address import refused_flag
from strongroom.model.errors import Invalid

if TYPE_CHECKING:
    from strongroom.app.client.session import Session

EXAMPLES: Final = """  strongroom operator init -key-shares=5 -key-threshold=3 > keys.txt
  strongroom operator unseal
  strongroom operator generate-root -init
"""
NO_PGP: Final = "shares and tokens are not encrypted for PGP keys; pipe the reply through gpg"
NO_CONSUL: Final = "the store is not looked for in Consul; give its address"


def register_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verbs."""
    _init_arguments(
        _verb(verbs, "init", "initialise the cluster; prints its keys once", _init,
              "init -key-shares=5 -key-threshold=3 > keys.txt",
              "init -status")
    )  # fmt: skip
    unseal = _verb(verbs, "unseal", "hand in one unseal key", _unseal,
                   "unseal                     # asks for the key", "unseal - < unseal.key",
                   "unseal -reset")  # fmt: skip
    key_argument(unseal)
    switch(unseal, "reset", "forget the keys given")
    switch(unseal, "migrate", "to another seal")
    _verb(verbs, "seal", "seal the cluster", _seal, "seal")
    _verb(verbs, "rotate", "put a new key under everything that is written from now on", _rotate,
          "rotate")  # fmt: skip
    _verb(verbs, "key-status", "the term of the key that data is encrypted with", _key_status,
          "key-status", "key-status -field=term")  # fmt: skip
    _verb(verbs, "members", "the active nodes that the store tells of", _members,
          "members -format=json")  # fmt: skip
    _verb(verbs, "step-down", "ask a node to give up the lead, where one leads", _step_down,
          "step-down")  # fmt: skip


def _verb(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    text: str,
    call: Call,
    *examples: str,
) -> argparse.ArgumentParser:
    return verb(verbs, name, text, call, operator_examples(*examples))


def operator_examples(*words: str) -> str:
    """Lines of an example, each with the command before it."""
    return "\n  ".join(f"strongroom operator {each}" for each in words)


def number(parser: argparse.ArgumentParser, name: str, default: int, text: str) -> None:
    """Add a flag that takes a whole number."""
    flag(parser, name, type=int, default=default, metavar="N", help=f"{text} (default {default})")


def key_argument(parser: argparse.ArgumentParser) -> None:
    """Add the place of a key share."""
    parser.add_argument("key", nargs="?", default="", metavar="KEY", help="- reads it; else asked")


def _init_arguments(parser: argparse.ArgumentParser) -> None:
    number(parser, "key-shares", 5, "into how many shares the key is split")
    number(parser, "key-threshold", 3, "how many of them unseal")
    parser.add_argument("-n", dest="key_shares", type=int, help=argparse.SUPPRESS)
    parser.add_argument("-t", dest="key_threshold", type=int, help=argparse.SUPPRESS)
    number(parser, "recovery-shares", 5, "the same of a store that unseals itself")
    number(parser, "recovery-threshold", 3, "the same of a store that unseals itself")
    switch(parser, "status", "only say whether it is: status 0, or 2 when it is not")
    for name in ("pgp-keys", "root-token-pgp-key", "recovery-pgp-keys"):
        refused_flag(parser, name, NO_PGP)
    refused_flag(parser, "stored-shares", "no share is stored; leave it out")
    refused_flag(parser, "consul-auto", NO_CONSUL, nargs="?")
    refused_flag(parser, "consul-service", NO_CONSUL)


def print_fields(
    args: argparse.Namespace, fields: Mapping[str, Any], rows: Sequence[tuple[str, Any]]
) -> int:
    """One field, the whole as JSON or YAML, or the rows as a table; returns the exit status."""
    if args.field:
        print_value(pick(fields, args.field), args.format)
    elif args.format != "table":
        print_document(fields, args.format)
    else:
        print_rows(rows, ("Key", "Value"))
    return 0


def share(args: argparse.Namespace, prompt: str) -> str:
    """The key share that was given, read or typed; raises Invalid where there is none."""
    if args.key:
        return read_word(args.key, "key")
    if args.non_interactive or not sys.stdin.isatty():
        raise Invalid("no-key", "no key was given", hint="give it as an argument, or - for stdin")
    return hidden(prompt).strip()


# init


async def _init(session: "Session", args: argparse.Namespace) -> int:
    if args.status:
        return await _init_status(session, args)
    shares, threshold = args.key_shares, args.key_threshold
    body = {"secret_shares": shares, "secret_threshold": threshold}
    kind = (await session.preflight("sys/seal-status")).body["type"]
    recovery = kind != "shamir"
    if recovery:
        shares, threshold = args.recovery_shares, args.recovery_threshold
        body = {"recovery_shares": shares, "recovery_threshold": threshold}
    made = (await session.ask("PUT", "sys/init", body)).body
    if args.format != "table" or args.field:
        return print_fields(args, _init_json(made, shares, threshold), [])
    _print_init(made, (shares, threshold), recovery=recovery)
    return 0


async def _init_status(session: "Session", args: argparse.Namespace) -> int:
    done = (await session.ask("GET", "sys/init")).body["initialized"]
    if args.format != "table":
        print_document({"Initialized": done}, args.format)
    else:
        print("Vault is initialized" if done else "Vault is not initialized")
    return 0 if done else 2


def _print_init(made: Mapping[str, Any], split: tuple[int, int], *, recovery: bool) -> None:
    shares, threshold = split
    word = "Recovery" if recovery else "Unseal"
    keys = made.get("recovery_keys_base64" if recovery else "keys_base64") or []
    for place, key in enumerate(keys, 1):
        print(f"{word} Key {place}: {key}")
    print(f"\nInitial Root Token: {made['root_token']}\n")
    if recovery:
        success("Vault is initialized", "table")
        if keys:
            print(
                f"\nRecovery key initialized with {shares} key shares and a key threshold of "
                f"{threshold}. Please\nsecurely distribute the key shares printed above."
            )
        return
    print(
        f"Vault initialized with {shares} key shares and a key threshold of {threshold}. Please\n"
        "securely distribute the key shares printed above. When the Vault is re-sealed,\n"
        f"restarted, or stopped, you must supply at least {threshold} of these keys to unseal it\n"
        "before it can start servicing requests.\n\n"
        "Vault does not store the generated root key. Without at least "
        f"{threshold} keys to\nreconstruct the root key, Vault will remain permanently sealed!\n\n"
        "It is possible to generate new unseal keys, provided you have a quorum of\n"
        'existing unseal keys shares. See "strongroom operator rekey" for more information.'
    )


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


async def _unseal(session: "Session", args: argparse.Namespace) -> int:
    body: dict[str, Any] = {"reset": True}
    if not args.reset:
        body = {"key": share(args, "Unseal Key (will be hidden): "), "migrate": args.migrate}
    status = (await session.ask("PUT", "sys/unseal", body)).body
    return print_fields(args, status, status_rows(status))


async def _seal(session: "Session", args: argparse.Namespace) -> int:
    await session.ask("PUT", "sys/seal")
    success("Vault is sealed.", args.format)
    return 0


def status_rows(status: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """What `status` and `unseal` show of sys/seal-status."""
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
        rows += _ha_rows(status)
    if status.get("waiting_for"):
        rows.append(("Waiting For", status["waiting_for"]))
    if status.get("seal_backend_problem"):
        rows.append(("Seal Backend Problem", status["seal_backend_problem"]))
    return rows


def _ha_rows(status: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Whether the node that was asked is the active one, and which is."""
    enabled = ("HA Enabled", status["ha_enabled"])
    if not status["ha_enabled"] or status["sealed"]:
        return [enabled]
    rows = [enabled, ("HA Cluster", status.get("leader_cluster_address") or "n/a")]
    if status.get("is_self"):
        return [*rows, ("HA Mode", "active"), ("Active Since", status.get("active_time", "n/a"))]
    leader = status.get("leader_address") or "<none>"
    return [*rows, ("HA Mode", "standby"), ("Active Node Address", leader)]


# the key that data is encrypted with


async def _rotate(session: "Session", args: argparse.Namespace) -> int:
    await session.ask("PUT", "sys/rotate")
    status = (await session.ask("GET", "sys/key-status")).data
    if not args.field:
        success("Rotated key\n", args.format)
    return print_fields(args, status, _key_rows(status))


async def _key_status(session: "Session", args: argparse.Namespace) -> int:
    status = (await session.ask("GET", "sys/key-status")).data
    return print_fields(args, status, _key_rows(status))


def _key_rows(status: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [
        ("Key Term", status["term"]),
        ("Install Time", status["install_time"]),
        ("Encryption Count", status.get("encryptions", 0)),
    ]


# nodes


async def _members(session: "Session", args: argparse.Namespace) -> int:
    reply = await session.ask("GET", "sys/ha-status")
    nodes = reply.data.get("nodes") or reply.body.get("nodes") or []
    if args.format != "table" or args.field:
        # As Vault's command line names it; the API's own name is `nodes`.
        return print_fields(args, {"Nodes": nodes}, [])
    header = ["Host Name", "API Address", "Cluster Address", "Active Node", "Version"]
    names = ["hostname", "api_address", "cluster_address", "active_node", "version"]
    print_rows([[each.get(name) or "n/a" for name in names] for each in nodes], header)
    return 0


async def _step_down(session: "Session", args: argparse.Namespace) -> int:
    await session.ask("PUT", "sys/step-down")
    success(f"Stepped down: {session.where.address}", args.format)
    return 0
