"""A request described instead of sent: as a curl command, or as the policy that would allow it.

`-output-curl-string` and `-output-policy` of Vault's command line.
"""

import shlex
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Final

from strongroom.app.store_address import StoreAddress

_AUTHENTICATION: Final = "X-Vault-Token"
_CAPABILITIES: Final = {
    "GET": ["read"],
    "PUT": ["create", "update"],
    "POST": ["create", "update"],
    "PATCH": ["patch"],
    "DELETE": ["delete"],
    "SCAN": ["scan"],
}
# Paths that need `sudo` besides the operation's capability.
SUDO: Final = (
    "auth/token/accessors",
    "auth/token/create-orphan",
    "auth/token/revoke-orphan",
    "sys/audit",
    "sys/audit/*",
    "sys/auth/*",
    "sys/config/auditing/*",
    "sys/config/cors",
    "sys/generate-root",
    "sys/generate-root/*",
    "sys/generate-root-token/*",
    "sys/leases",
    "sys/leases/lookup/*",
    "sys/leases/revoke-force/*",
    "sys/leases/revoke-prefix/*",
    "sys/loggers",
    "sys/loggers/*",
    "sys/plugins/catalog/*",
    "sys/rekey/*",
    "sys/rekey-recovery-key/*",
    "sys/remount",
    "sys/rotate",
    "sys/rotate/keyring",
    "sys/rotate/recovery/*",
    "sys/rotate/root/*",
    "sys/seal",
    "sys/step-down",
)


class Shown(Exception):
    """The text that is printed in the request's place."""


def as_curl(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes | None,
    where: StoreAddress,
) -> str:
    """A command for a shell; the token is asked for there, never shown."""
    words = ["curl"]
    if where.skip_verify:
        words.append("--insecure")
    if where.ca_file:
        words += ["--cacert", shlex.quote(str(where.ca_file))]
    if where.client_certificate:
        certificate, key = (shlex.quote(str(each)) for each in where.client_certificate)
        words += ["--cert", certificate, "--key", key]
    if method != "GET":
        words += ["-X", method]
    for name, value in headers.items():
        shown = f'"{name}: $(strongroom print token)"' if name == _AUTHENTICATION else None
        words += ["-H", shown or shlex.quote(f"{name}: {value}")]
    if body is not None:
        words += ["-d", shlex.quote(body.decode())]
    return " ".join([*words, shlex.quote(url)])


def as_policy(method: str, path: str, *, listing: bool) -> str:
    """The rule that allows it; `path` without /v1/."""
    capabilities = ["list"] if listing else list(_CAPABILITIES[method])
    if any(fnmatchcase(path, each) for each in SUDO):
        capabilities.append("sudo")
    shown = ", ".join(f'"{each}"' for each in capabilities)
    quoted = path.replace("\\", "\\\\").replace('"', '\\"')
    return f'path "{quoted}" {{\n  capabilities = [{shown}]\n}}'
