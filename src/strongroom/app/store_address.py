"""Which store the command line talks to, with which token: flags, then environment, then files.

The names are the ones Vault's users already have set: VAULT_ADDR, VAULT_TOKEN, VAULT_CACERT,
VAULT_CLIENT_CERT, VAULT_CLIENT_KEY, VAULT_SKIP_VERIFY, VAULT_NAMESPACE and `~/.vault-token`.
"""

import argparse
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
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
    client_certificate: tuple[Path, Path] | None = None
    skip_verify: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)


def add_store_arguments(parser: argparse.ArgumentParser) -> None:
    """Add where the store is and how it is spoken to, each flag with one dash and with two."""
    group = parser.add_argument_group("store")
    group.add_argument(
        "-address", "--address", metavar="URL", help="the store (VAULT_ADDR, else loopback)"
    )
    group.add_argument(
        "-token-file", "--token-file", type=Path, metavar="F",
        help="file with the token (else VAULT_TOKEN, else ~/.vault-token)",
    )  # fmt: skip
    group.add_argument(
        "-ca-cert", "--ca-cert", "--ca-file", dest="ca_file", type=Path, metavar="F",
        help="certificate authority (VAULT_CACERT)",
    )  # fmt: skip
    for name in ("client-cert", "client-key"):
        group.add_argument(
            f"-{name}", f"--{name}", type=Path, metavar="F", help=f"(VAULT_{_constant(name)})"
        )
    group.add_argument(
        "-tls-skip-verify", "--tls-skip-verify", action="store_true",
        help="accept any certificate (VAULT_SKIP_VERIFY)",
    )  # fmt: skip
    group.add_argument(
        "-namespace", "--namespace", "-ns", "--ns", metavar="NAME", help="(VAULT_NAMESPACE)"
    )
    group.add_argument(
        "-header", "--header", action="append", default=[], metavar="K=V", help="send a header"
    )


def store_address(args: argparse.Namespace) -> StoreAddress:
    """Settle address and token; raises Invalid when the token file cannot be read."""
    pair = tuple(_path(args, name) for name in ("client_cert", "client_key"))
    if bool(pair[0]) != bool(pair[1]):
        raise Invalid("half-certificate", "-client-cert and -client-key belong together")
    skip = os.environ.get("VAULT_SKIP_VERIFY", "").lower() in ("1", "true", "t")
    namespace = getattr(args, "namespace", None) or os.environ.get("VAULT_NAMESPACE", "")
    return StoreAddress(
        address=(args.address or os.environ.get("VAULT_ADDR") or DEFAULT_ADDRESS).rstrip("/"),
        token=token_in_use(args.token_file),
        ca_file=_path(args, "ca_file", "VAULT_CACERT"),
        namespace=namespace,
        client_certificate=(pair[0], pair[1]) if pair[0] and pair[1] else None,
        skip_verify=bool(getattr(args, "tls_skip_verify", False)) or skip,
        headers=dict(_header(each) for each in getattr(args, "header", [])),
    )


def _constant(name: str) -> str:
    return name.upper().replace("-", "_")


def _path(args: argparse.Namespace, name: str, variable: str = "") -> Path | None:
    given: Path | None = getattr(args, name, None)
    said = os.environ.get(variable or f"VAULT_{_constant(name)}")
    return given or (Path(said) if said else None)


def _header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name or not (name + value).isprintable():
        raise Invalid("bad-header", "a header is NAME=VALUE", hint="-header=X-Trace=1")
    return name, value


def token_in_use(token_file: Path | None) -> Secret | None:
    """The token of the file that was named, else VAULT_TOKEN, else `~/.vault-token`, or None.

    Raises Invalid(`token-file`) when the named one cannot be read.
    """
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
async def open_store(
    args: argparse.Namespace, *, token_needed: bool = True
) -> AsyncIterator["VaultClient"]:
    """A client of the store that the arguments name, closed on leaving."""
    where = store_address(args)
    if where.token is None and token_needed:
        raise Invalid(
            "no-token",
            "no token for the store",
            hint="set VAULT_TOKEN, write ~/.vault-token or pass --token-file",
        )
    from strongroom.wire.client import HttpClient
    from strongroom.wire.vault import VaultClient

    async with HttpClient(
        ca_file=where.ca_file,
        client_certificate=where.client_certificate,
        verify=not where.skip_verify,
    ) as http:
        yield VaultClient(where.address, where.token, http, where.namespace)
