"""What `path-help` says: of a mount, what its backend is for and which paths it has; of a path,
which operations it has and what they take. Pure.

The headings are Vault's. The whole description is OpenAPI's, at `sys/internal/specs/openapi`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from strongroom.store.call import Endpoint
from strongroom.store.parameters import Kind

# What each backend is for; a test holds this to the backends there are.
BACKENDS: Final[Mapping[str, str]] = {
    "approle": "Auth method for programs: a role id says who, a secret id proves it.",
    "cert": "Auth method for holders of a TLS client certificate.",
    "cubbyhole": "Secrets that only the token that wrote them can read; they end with it.",
    "identity": "Entities and groups: who several logins are, and the policies that gives.",
    "jwt": "Auth method for holders of a JWT that an issuer signed.",
    "kubernetes": "Auth method for pods, by the token of their service account.",
    "kv1": "Key-value secrets without versions (KV version 1).",
    "kv2": "Key-value secrets with versions, metadata and check-and-set (KV version 2).",
    "oidc": "Auth method for people, by an OpenID Connect provider in a browser.",
    "system": "The store's own settings: mounts, policies, leases, seal, audit, quotas and health.",
    "token": "Tokens: create, look up, renew and revoke them; roles to create them by.",
    "transit": "Encrypts, signs and hashes for callers with keys that stay in the store.",
    "userpass": "Auth method for people, by a user name and a password.",
}
_KINDS: Final[Mapping[Kind, str]] = {
    "text": "string",
    "number": "int",
    "flag": "bool",
    "seconds": "duration",
    "texts": "list of strings",
    "object": "map",
    "objects": "list",
}


def document(text: str) -> dict[str, Any]:
    """The body of a reply, as Vault shapes it."""
    return {"help": text, "see_also": ["sys/internal/specs/openapi"], "openapi": None}


def of_mount(prefix: str, backend: str, endpoints: Sequence[Endpoint]) -> str:
    """The help of a mount whose full path, with its final slash, is `prefix`."""
    said = BACKENDS.get(backend, f"Engine {backend}, beside the built-in ones.")
    lines = ["## DESCRIPTION", "", said, "", "## PATHS", ""]
    lines += [f"These paths are served under {prefix}; path-help of one says what it takes.", ""]
    for endpoint in endpoints:
        if endpoint.published and endpoint.pattern:
            lines += [f"    {endpoint.pattern}", f"        {_operations(endpoint)}"]
    return "\n".join(lines) + "\n"


def of_path(path: str, prefix: str, endpoint: Endpoint) -> str:
    """The help of a whole path that an endpoint of the mount at `prefix` serves."""
    lines = [
        f"Request:        {path}",
        f"Matching Route: {prefix}{endpoint.pattern}",
        f"Operations:     {', '.join(sorted(endpoint.handlers))}",
    ]
    if endpoint.sudo:
        lines.append("The path needs the capability sudo besides the operation's.")
    if endpoint.public:
        lines.append("The path needs no token.")
    if endpoint.takes is None:
        lines += ["", "## PARAMETERS", "", "    whatever it is given"]
    elif endpoint.takes:
        lines += ["", "## PARAMETERS", ""]
        lines += [f"    {name} ({_KINDS[kind]})" for name, kind in sorted(endpoint.takes.items())]
    return "\n".join(lines) + "\n"


def _operations(endpoint: Endpoint) -> str:
    said = ", ".join(sorted(endpoint.handlers))
    return said + ("; needs sudo" if endpoint.sudo else "; no token" if endpoint.public else "")
