"""Which store the command line talks to, with which token: flags, then environment, then files.

The names are the ones Vault's users already have set; VARIABLES lists every one that is read.
"""

import argparse
import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult, urlsplit

from strongroom.app.home import home
from strongroom.app.parser import flag, switch
from strongroom.app.token_helper import ask_helper, token_helper
from strongroom.model.digits import whole_number
from strongroom.model.errors import Invalid, Refusal
from strongroom.model.secret import Secret
from strongroom.model.truth import truth

if TYPE_CHECKING:
    from strongroom.app.store_http import StoreHttp
    from strongroom.wire.vault import VaultClient

DEFAULT_ADDRESS: Final = "http://127.0.0.1:8200"
DEFAULT_TIMEOUT: Final = 60.0
CA_FOLDER_BYTES: Final = 16 * 1024 * 1024
# What is read beside the flags, and what it says.
VARIABLES: Final[dict[str, str]] = {
    "VAULT_ADDR": "the store, `http://` or `https://` (default: loopback, port 8200)",
    "VAULT_AGENT_ADDR": "a Vault Agent or Proxy that is asked instead of `VAULT_ADDR`",
    "VAULT_TOKEN": "the token; goes before `~/.vault-token`",
    "VAULT_CONFIG_PATH": "a file in place of `~/.vault`, which may name a `token_helper`: a program"
    " that keeps the token instead of `~/.vault-token`",
    "VAULT_NAMESPACE": "namespace of every request",
    "VAULT_CACERT": "file with certificate authorities to trust",
    "VAULT_CACERT_BYTES": "the authorities themselves, PEM; used when there is no `VAULT_CACERT`",
    "VAULT_CAPATH": "folder whose PEM files are trusted; used when there is neither",
    "VAULT_CLIENT_CERT": "certificate to show, with `VAULT_CLIENT_KEY`",
    "VAULT_CLIENT_KEY": "its private key",
    "VAULT_TLS_SERVER_NAME": "name the certificate must be for, when it is not the address's",
    "VAULT_SKIP_VERIFY": "true: accept any certificate",
    "VAULT_CLIENT_TIMEOUT": "longest time of a request: seconds, or 1m30s (default 60s; 0: none)",
    "VAULT_MAX_RETRIES": "how often one is sent again after no answer, 412 or 5xx (default 0)",
    "VAULT_RATE_LIMIT": "requests a second, RATE or RATE:BURST",
    "VAULT_DISABLE_REDIRECTS": "true: do not follow the store to another node",
    "VAULT_PROXY_ADDR": "HTTP proxy of every request; goes before `VAULT_HTTP_PROXY`",
    "VAULT_HTTP_PROXY": "the same; without either, `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` hold",
    "VAULT_WRAP_TTL": "wrap every reply, for this long",
    "VAULT_FORMAT": "table, json, yaml or raw",
    "VAULT_CLI_NO_COLOR": "set: no colour on a terminal; `NO_COLOR` does the same",
}
# What Vault's client reads and this one refuses, so that nothing is ignored in silence.
REFUSED: Final[dict[str, str]] = {
    "VAULT_SRV_LOOKUP": "the store is not looked for in DNS; give its port in VAULT_ADDR",
    "VAULT_MFA": "the store asks for no second factor",
}
_BLOCK: Final = re.compile(
    rb"-----BEGIN (?:TRUSTED )?CERTIFICATE-----.+?-----END (?:TRUSTED )?CERTIFICATE-----", re.S
)


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """Where the store is and how to prove who asks.

    `ca_data` is PEM, `timeout` in seconds (0: none), `rate` requests a second and how many may
    come at once (0: any number).
    """

    address: str
    token: Secret | None
    ca_file: Path | None
    namespace: str
    client_certificate: tuple[Path, Path] | None = None
    skip_verify: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    ca_data: str = ""
    server_name: str = ""
    proxy: str = ""
    timeout: float = DEFAULT_TIMEOUT
    retries: int = 0
    rate: tuple[float, int] = (0.0, 1)
    follow_redirects: bool = True

    def client(self) -> "StoreHttp":
        """Connections to it."""
        from strongroom.app.store_http import StoreHttp

        return StoreHttp(self)


class _Refused(argparse.Action):
    """A flag of Vault's that means nothing here, and why."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:  # noqa: ANN401
        parser.error(f"{self.option_strings[0]}: {self.const}")


def refused_flag(parser: Any, name: str, why: str, **settings: Any) -> None:  # noqa: ANN401
    """Add a flag that is refused with a reason, and shown nowhere."""
    hidden = argparse.SUPPRESS
    flag(parser, name, action=_Refused, const=why, dest="refused", default=hidden, help=hidden,
         **settings)  # fmt: skip


def add_store_arguments(parser: argparse.ArgumentParser) -> None:
    """Add where the store is and how it is spoken to, each flag with one dash and with two."""
    group = parser.add_argument_group("store")
    flag(group, "address", metavar="URL", help="the store (VAULT_ADDR, else loopback)")
    flag(
        group,
        "agent-address",
        metavar="URL",
        help="an agent that is asked instead (VAULT_AGENT_ADDR)",
    )
    flag(group, "token-file", type=Path, metavar="F",
         help="file with the token (else VAULT_TOKEN, else ~/.vault-token)")  # fmt: skip
    group.add_argument(
        "-ca-cert", "--ca-cert", "--ca-file", dest="ca_file", type=Path, metavar="F",
        help="certificate authorities (VAULT_CACERT)",
    )  # fmt: skip
    flag(group, "ca-path", type=Path, metavar="DIR", help="folder of them (VAULT_CAPATH)")
    flag(group, "client-cert", type=Path, metavar="F", help="to show (VAULT_CLIENT_CERT)")
    flag(group, "client-key", type=Path, metavar="F", help="of -client-cert (VAULT_CLIENT_KEY)")
    flag(group, "tls-server-name", metavar="NAME",
         help="whom the certificate must be for (VAULT_TLS_SERVER_NAME)")  # fmt: skip
    switch(group, "tls-skip-verify", "accept any certificate (VAULT_SKIP_VERIFY)")
    group.add_argument(
        "-namespace", "--namespace", "-ns", "--ns", metavar="NAME",
        help="namespace of the request (VAULT_NAMESPACE)",
    )  # fmt: skip
    flag(group, "header", action="append", default=[], metavar="K=V",
         help="send a header; not one that begins with X-Vault-")  # fmt: skip
    switch(group, "disable-redirects", "stay at this node (VAULT_DISABLE_REDIRECTS)")
    switch(group, "policy-override", "send X-Vault-Policy-Override, for stores with Sentinel")
    refused_flag(parser, "mfa", REFUSED["VAULT_MFA"])
    refused_flag(parser, "unlock-key", "there are no namespaces whose API could be locked")
    refused_flag(parser, "token", "a token among the arguments is seen by every user of the machine"
                 "; set VAULT_TOKEN or give -token-file")  # fmt: skip


def store_address(args: argparse.Namespace) -> StoreAddress:
    """Settle address and token; raises Invalid for a variable or file that says nothing usable."""
    for name, why in REFUSED.items():
        if os.environ.get(name, "").lower() not in ("", "0", "f", "false"):
            raise Invalid("refused-variable", f"{name} is set: {why}", hint=f"unset {name}")
    address = (
        getattr(args, "agent_address", None)
        or args.address
        or os.environ.get("VAULT_AGENT_ADDR")
        or os.environ.get("VAULT_ADDR")
        or DEFAULT_ADDRESS
    ).rstrip("/")
    _check_address(address)
    ca_file, ca_data = _authorities(args)
    headers = dict(_header(each) for each in getattr(args, "header", []))
    if getattr(args, "policy_override", False):
        headers["X-Vault-Policy-Override"] = "true"
    return StoreAddress(
        address=address,
        token=token_in_use(args.token_file),
        ca_file=ca_file,
        namespace=getattr(args, "namespace", None) or os.environ.get("VAULT_NAMESPACE", ""),
        client_certificate=_client_certificate(args),
        skip_verify=_switched(args, "tls_skip_verify", "VAULT_SKIP_VERIFY"),
        headers=headers,
        ca_data=ca_data,
        server_name=getattr(args, "tls_server_name", None)
        or os.environ.get("VAULT_TLS_SERVER_NAME", ""),
        proxy=_proxy(address),
        timeout=_timeout(os.environ.get("VAULT_CLIENT_TIMEOUT", "")),
        retries=_retries(os.environ.get("VAULT_MAX_RETRIES", "")),
        rate=_rate(os.environ.get("VAULT_RATE_LIMIT", "")),
        follow_redirects=not _switched(args, "disable_redirects", "VAULT_DISABLE_REDIRECTS"),
    )


def _check_address(address: str) -> None:
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname or not _is_port(parts):
        raise Invalid(
            "bad-address",
            f"{address} is no address of a store",
            hint="http://HOST:PORT or https://HOST:PORT; unix sockets are not spoken",
        )


def _is_port(parts: SplitResult) -> bool:
    try:
        return parts.port is None or parts.port > 0
    except ValueError:  # no number, or beyond 65535
        return False


def _switched(args: argparse.Namespace, name: str, variable: str) -> bool:
    said = os.environ.get(variable, "")
    try:
        return bool(getattr(args, name, False)) or (said != "" and truth(said))
    except ValueError:
        raise _bad_variable(variable, "true or false") from None


def _bad_variable(name: str, wanted: str) -> Invalid:
    return Invalid("bad-variable", f"{name} cannot be read", hint=f"it is {wanted}")


def _authorities(args: argparse.Namespace) -> tuple[Path | None, str]:
    """Flags before the environment; a file before bytes before a folder, as in Vault."""
    file, folder = getattr(args, "ca_file", None), getattr(args, "ca_path", None)
    if not (file or folder):
        said, pem = os.environ.get("VAULT_CACERT"), os.environ.get("VAULT_CACERT_BYTES")
        file = Path(said) if said else None
        if pem and not file:
            return None, _certificates(pem.encode(), "VAULT_CACERT_BYTES")
        if not file and os.environ.get("VAULT_CAPATH"):
            folder = Path(os.environ["VAULT_CAPATH"])
    if file or not folder:
        return file, ""
    return None, _certificates(_folder(folder), str(folder))


def _folder(folder: Path) -> bytes:
    """The text of every file below; not only of those that OpenSSL's rehash has named."""
    try:
        files = sorted(each for each in folder.rglob("*") if each.is_file())
        parts, size = [], 0
        for each in files:
            size += each.stat().st_size
            if size > CA_FOLDER_BYTES:
                raise Invalid("bad-ca", f"{folder} holds more than certificate authorities")
            parts.append(each.read_bytes())
    except OSError as error:
        raise Invalid("bad-ca", f"cannot read {folder}: {error.strerror}") from error
    return b"\n".join(parts)


def _certificates(text: bytes, source: str) -> str:
    blocks = _BLOCK.findall(text)
    if not blocks:
        raise Invalid("bad-ca", f"there is no certificate in {source}", hint="give PEM")
    return b"\n".join(blocks).decode("ascii", "replace")


def _client_certificate(args: argparse.Namespace) -> tuple[Path, Path] | None:
    pair = tuple(
        getattr(args, name, None) or os.environ.get(f"VAULT_{name.upper()}")
        for name in ("client_cert", "client_key")
    )
    if bool(pair[0]) != bool(pair[1]):
        raise Invalid("half-certificate", "-client-cert and -client-key belong together")
    return (Path(pair[0]), Path(pair[1])) if pair[0] and pair[1] else None


def _proxy(address: str) -> str:
    """Vault's own variables hold for every address, the usual ones spare this machine."""
    own = os.environ.get("VAULT_PROXY_ADDR") or os.environ.get("VAULT_HTTP_PROXY")
    if own:
        return own
    parts = urlsplit(address)
    host = parts.hostname or ""
    if host in ("localhost", "::1") or host.startswith("127."):
        return ""
    # Loading it takes longer than all the rest that a command needs to read its flags.
    import urllib.request

    if urllib.request.proxy_bypass(host):
        return ""
    return urllib.request.getproxies().get(parts.scheme, "")


def _timeout(text: str) -> float:
    from strongroom.sync.durations import parse_duration

    if not text:
        return DEFAULT_TIMEOUT
    seconds = whole_number(text)
    if seconds is not None:
        return float(seconds)
    try:
        return parse_duration(text)
    except Invalid:
        raise _bad_variable("VAULT_CLIENT_TIMEOUT", "seconds, or such as 1m30s") from None


def _retries(text: str) -> int:
    number = whole_number(text or "0")
    if number is None:
        raise _bad_variable("VAULT_MAX_RETRIES", "a whole number")
    return number


def _rate(text: str) -> tuple[float, int]:
    if not text:
        return 0.0, 1
    rate, _, burst = text.partition(":")
    try:
        return float(rate), max(1, int(burst or float(rate)))
    except (ValueError, OverflowError):
        raise _bad_variable("VAULT_RATE_LIMIT", "RATE or RATE:BURST, such as 10:20") from None


def _header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name or not (name + value).isprintable():
        raise Invalid("bad-header", "a header is NAME=VALUE", hint="-header=X-Trace=1")
    if name.lower().startswith("x-vault-"):
        raise Invalid(
            "bad-header",
            f"{name} cannot be given by -header",
            hint="-token-file (VAULT_TOKEN), -namespace, -wrap-ttl and -policy-override set what"
            " begins with X-Vault-",
        )
    return name, value


def token_in_use(token_file: Path | None) -> Secret | None:
    """The token of the file that was named, else VAULT_TOKEN, else what a token helper or
    `~/.vault-token` keeps, or None.

    Raises Invalid(`token-file`) when the named one cannot be read.
    """
    if token_file is None and os.environ.get("VAULT_TOKEN"):
        return Secret(os.environ["VAULT_TOKEN"])
    if token_file is None and (helper := token_helper()):
        return Secret(kept) if (kept := ask_helper(helper, "get")) else None
    path = token_file or home() / ".vault-token"
    try:
        return Secret(path.read_text().strip())
    except UnicodeDecodeError:
        raise Invalid("token-file", f"the token file {path} is not text") from None
    except OSError as error:
        if token_file is None:
            return None
        raise Invalid(
            "token-file",
            f"cannot read the token file {path}: {error.strerror}",
            hint="check --token-file",
        ) from error


def check_sendable(name: str, value: str) -> None:
    """Raises Invalid(`bad-header`) for what no header can carry; the value is not repeated."""
    if not value.isprintable():
        raise Invalid(
            "bad-header",
            f"{name} has a line's end or another character that cannot be sent",
            hint="fill a variable or a file by printf %s, which adds no line's end",
        )


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
    check_sendable("the token", where.token.reveal_text())
    check_sendable("the namespace", where.namespace)
    from strongroom.app.client.hints import hint_of
    from strongroom.wire.vault import VaultClient

    async with where.client() as http:
        try:
            yield VaultClient(
                where.address, where.token, http, where.namespace, headers=where.headers
            )
        except Refusal as refusal:
            if refusal.code.startswith("store-") or where.address in refusal.message:
                refusal.hint = hint_of(refusal)
            raise
