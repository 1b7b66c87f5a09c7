"""Which store the command line talks to, with which token: flags, then environment, then files.

The names are the ones Vault's users already have set: VAULT_ADDR, VAULT_TOKEN, VAULT_CACERT,
VAULT_NAMESPACE and `~/.vault-token`.
"""

import argparse
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from strongroom.model.errors import Invalid
from strongroom.model.secret import Secret

if TYPE_CHECKING:
    from strongroom.wire.vault import VaultClient

DEFAULT_ADDRESS = "http://127.0.0.1:8200"


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """Where the store is and how to prove who asks."""

    address: str
    token: Secret | None
    ca_file: Path | None
    namespace: str


def add_store_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--address`, `--token-file`, `--ca-file` to a command that talks to the store."""
    group = parser.add_argument_group("store")
    group.add_argument(
        "-address", "--address", metavar="URL", help="the store (VAULT_ADDR, else loopback)"
    )
    group.add_argument(
        "--token-file", type=Path, metavar="F", help="file with the token (else VAULT_TOKEN)"
    )
    group.add_argument(
        "-ca-cert", "--ca-file", type=Path, metavar="F", help="certificate authority (VAULT_CACERT)"
    )


def store_address(args: argparse.Namespace) -> StoreAddress:
    """Settle address and token; raises Invalid when the token file cannot be read."""
    ca_file = args.ca_file or (
        Path(os.environ["VAULT_CACERT"]) if "VAULT_CACERT" in os.environ else None
    )
    return StoreAddress(
        address=(args.address or os.environ.get("VAULT_ADDR") or DEFAULT_ADDRESS).rstrip("/"),
        token=_token(args.token_file),
        ca_file=ca_file,
        namespace=os.environ.get("VAULT_NAMESPACE", ""),
    )


def _token(token_file: Path | None) -> Secret | None:
    if token_file is None and os.environ.get("VAULT_TOKEN"):
        return Secret(os.environ["VAULT_TOKEN"])
    path = token_file or Path.home() / ".vault-token"
    try:
        return Secret(path.read_text().strip())
    except OSError as error:
        if token_file is None:
            return None
        raise Invalid(
            "token-file",
            f"cannot read the token file {path}: {error.strerror}",
            hint="check --token-file",
        ) from error


@asynccontextmanager
async def open_store(args: argparse.Namespace) -> AsyncIterator["VaultClient"]:
    """A client of the store that the arguments name, closed on leaving."""
    where = store_address(args)
    if where.token is None:
        raise Invalid(
            "no-token",
            "no token for the store",
            hint="set VAULT_TOKEN, write ~/.vault-token or pass --token-file",
        )
    from strongroom.wire.client import HttpClient
    from strongroom.wire.vault import VaultClient

    async with HttpClient(ca_file=where.ca_file) as http:
        yield VaultClient(where.address, where.token, http, where.namespace)
