"""What the headers of a request say: the token, the namespace, how the reply is wrapped. Pure."""

from collections.abc import Mapping
from typing import Final

from strongroom.model.errors import Invalid, NotFound
from strongroom.store.call import parse_seconds

# Headers that change what a GET means.
_SPECIAL: Final = frozenset({"x-vault-wrap-ttl", "x-vault-namespace", "origin"})


def is_plain(headers: Mapping[str, str]) -> bool:
    """Whether the reply depends on nothing but method, target and token."""
    return _SPECIAL.isdisjoint(headers)


def token_of(headers: Mapping[str, str]) -> str:
    """The text of the token, "" without one."""
    return headers.get("x-vault-token") or _bearer(headers)


def _bearer(headers: Mapping[str, str]) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def check_namespace(namespace: str) -> None:
    """Raise NotFound for another namespace than the root."""
    if namespace.strip("/") not in ("", "root"):
        # Served from the root all the same, the caller would work on another team's secrets.
        raise NotFound("no-namespace", "no such namespace", hint="there is only the root namespace")


def wrap_seconds(headers: Mapping[str, str]) -> int:
    """How long a wrapping token is to live, 0 when none is asked for; raises Invalid."""
    given = headers.get("x-vault-wrap-ttl")
    if not given:
        return 0
    seconds = parse_seconds(given, "X-Vault-Wrap-TTL")
    if seconds < 0:
        raise Invalid("bad-wrap-ttl", "requested wrap ttl must not be negative")
    if seconds and headers.get("x-vault-wrap-format", "").strip().lower() == "jwt":
        # Vault's only other form. A plain token would reach somebody who waits for a signed one.
        raise Invalid(
            "no-jwt-wrapping",
            "a wrapping token is not served as a JWT",
            hint="leave X-Vault-Wrap-Format out; sys/wrapping/lookup tells a token's creation path",
        )
    return seconds
