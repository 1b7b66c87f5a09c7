"""The `token_*` fields that every auth method's roles share, and the grant they make.

Fields: https://developer.hashicorp.com/vault/api-docs/auth/approle#parameters, the same for each
method. The names of before 1.2 (`policies`, `ttl`, ...) are read where the new one is not given,
and a role that was written with them shows them too: programs that know no others compare.
"""

import functools
import ipaddress
from collections.abc import Mapping, Sequence, Set
from socket import AF_INET, AF_INET6, inet_pton
from typing import Any, Final

from strongroom.model.errors import Invalid
from strongroom.store.call import Call
from strongroom.store.engine.contract import MountRow
from strongroom.store.parameters import Fields, fields
from strongroom.store.tokens import BATCH, SERVICE, Grant, clean_policies

TYPES: Final = frozenset({"default", "service", "batch", "default-service", "default-batch"})
_OLD_NAMES: Final = {
    "token_policies": "policies",
    "token_ttl": "ttl",
    "token_max_ttl": "max_ttl",
    "token_period": "period",
    "token_num_uses": "num_uses",
    "token_bound_cidrs": "bound_cidrs",
}
# Each is read when a list is written, and when it is asked for the first time.
MOST_NETWORKS: Final = 10_000
# Which old names a role was written with; shown to nobody as such.
_WRITTEN_AS: Final = "written_as"
# What `RoleReader.token_fields` reads, under both names.
TOKEN_FIELDS: Final[Fields] = fields(
    texts="token_policies policies token_bound_cidrs bound_cidrs",
    seconds="token_ttl ttl token_max_ttl max_ttl token_period period token_explicit_max_ttl",
    number="token_num_uses num_uses",
    flag="token_no_default_policy",
    text="token_type",
)


class RoleReader:
    """Parameters of a role over what the role was: what is not given stays."""

    def __init__(self, call: Call, old: Mapping[str, Any]) -> None:
        self._call = call
        self._old = old

    def _given(self, name: str, *older: str) -> str | None:
        names = (name, *older, *([_OLD_NAMES[name]] if name in _OLD_NAMES else []))
        return next((each for each in names if each in self._call.data), None)

    def texts(self, name: str, *older: str) -> list[str]:
        """A list of strings."""
        given = self._given(name, *older)
        return list(self._call.texts(given)) if given else list(self._old.get(name) or [])

    def seconds(self, name: str, *older: str) -> int:
        """A duration."""
        given = self._given(name, *older)
        value = self._call.seconds(given) if given else int(self._old.get(name) or 0)
        if value < 0:
            raise Invalid("bad-parameter", f"'{name}' cannot be negative")
        return value

    def count(self, name: str, *older: str) -> int:
        """A number that is not negative."""
        given = self._given(name, *older)
        value = self._call.integer(given) if given else int(self._old.get(name) or 0)
        if value < 0:
            raise Invalid("bad-parameter", f"'{name}' cannot be negative")
        return value

    def text(self, name: str, default: str = "") -> str:
        """A string."""
        return self._call.text(name, str(self._old.get(name, default)))

    def flag(self, name: str, *, default: bool = False) -> bool:
        """A boolean."""
        return self._call.flag(name, default=bool(self._old.get(name, default)))

    def mapping(self, name: str) -> dict[str, Any]:
        """An object, also as `key=value` words; raises Invalid for anything else."""
        value = self._call.data.get(name, self._old.get(name)) or {}
        words = [value] if isinstance(value, str) else value
        if isinstance(words, list) and all(isinstance(each, str) and "=" in each for each in words):
            return dict(each.split("=", 1) for each in words)
        if not isinstance(value, dict):
            raise Invalid("bad-parameter", f"{name} must be an object")
        return dict(value)

    def cidrs(self, name: str, *older: str) -> list[str]:
        """A list of networks; raises Invalid naming the one that is none."""
        found = self.texts(name, *older)
        return check_cidrs(found) if self._given(name, *older) else found

    def token_fields(self) -> dict[str, Any]:
        """All `token_*` fields, checked against each other; raises Invalid."""
        fields: dict[str, Any] = {
            "token_policies": sorted({each.lower() for each in self.texts("token_policies")}),
            "token_ttl": self.seconds("token_ttl"),
            "token_max_ttl": self.seconds("token_max_ttl"),
            "token_period": self.seconds("token_period"),
            "token_explicit_max_ttl": self.seconds("token_explicit_max_ttl"),
            "token_num_uses": self.count("token_num_uses"),
            "token_bound_cidrs": self.cidrs("token_bound_cidrs"),
            "token_no_default_policy": self.flag("token_no_default_policy"),
            "token_type": token_type(self.text("token_type", "default")),
        }
        check_token_fields(fields)
        written_as = self._written_as()
        return {**fields, _WRITTEN_AS: written_as} if written_as else fields

    def _written_as(self) -> list[str]:
        """The old names that still hold: those given now or before, and no new one since."""
        before, given = self._old.get(_WRITTEN_AS) or [], self._call.data
        return [
            older
            for name, older in _OLD_NAMES.items()
            if name not in given and (older in given or older in before)
        ]


def shown_role(role: Mapping[str, Any]) -> dict[str, Any]:
    """A role as a caller reads it."""
    written_as = role.get(_WRITTEN_AS) or []
    older = {old: role[name] for name, old in _OLD_NAMES.items() if old in written_as}
    shown = {key: value for key, value in role.items() if key != _WRITTEN_AS}
    return shown | {name: value for name, value in older.items() if value}


def refuse(call: Call, reasons: Mapping[str, str]) -> None:
    """Refuse parameters that Vault has and this store does not serve; raises Invalid.

    `reasons` says why, by name. One that asks for nothing (false, empty) is let through.
    """
    for name, reason in reasons.items():
        value = call.data.get(name)
        if value and str(value).lower() not in ("false", "0"):
            raise Invalid("not-served", f"'{name}' is not served", hint=reason)


def token_type(name: str) -> str:
    """A role's token type in its one spelling; raises Invalid."""
    kind = {"": "default", "default_service": "default-service", "default_batch": "default-batch"}
    found = kind.get(name, name)
    if found not in TYPES:
        raise Invalid("bad-parameter", f"invalid 'token_type' value {name!r}")
    return found


def check_token_fields(fields: Mapping[str, Any]) -> None:
    """Refuse fields that contradict each other; raises Invalid."""
    if fields["token_max_ttl"] and fields["token_ttl"] > fields["token_max_ttl"]:
        raise Invalid("bad-parameter", "'token_ttl' cannot be greater than 'token_max_ttl'")
    if fields["token_type"] in (BATCH, "default-batch"):
        for name, words in (("token_num_uses", "tokens with limited use count"),
                            ("token_period", "periodic tokens")):  # fmt: skip
            if fields[name]:
                raise Invalid(
                    "bad-parameter",
                    "'token_type' cannot be 'batch' or 'default_batch' when set to generate "
                    + words,
                )
    clean_policies(fields["token_policies"])


def check_cidrs(networks: list[str]) -> list[str]:
    """The same networks; raises Invalid naming the one that is none."""
    if len(networks) > MOST_NETWORKS:
        raise Invalid("too-many-networks", f"at most {MOST_NETWORKS:,} networks in a list")
    for each in networks:
        try:
            ipaddress.ip_network(each, strict=False)
        except ValueError:
            raise Invalid("bad-cidr", f'error parsing address "{each}"') from None
    return networks


@functools.lru_cache(maxsize=16)
def _blocks(networks: tuple[str, ...]) -> Mapping[tuple[int, int], Set[int]]:
    """The first bits of networks, by the version and how many bits those are.

    Kept, since each use of a token asks for the same, and a list may be long.
    """
    found: dict[tuple[int, int], set[int]] = {}
    for each in networks:
        version, length, bits = _block(each)
        found.setdefault((version, length), set()).add(bits)
    return found


def _block(network: str) -> tuple[int, int, int]:
    """The version of a network, how many bits it has, and those; raises ValueError.

    In the usual form by the system's parser: `ipaddress` takes many times as long, for a list of
    ten thousand 50 ms.
    """
    address, _, length = network.partition("/")
    version, family, most = (6, AF_INET6, 128) if ":" in address else (4, AF_INET, 32)
    if length.isascii() and length.isdigit() and len(length) <= 3 and int(length) <= most:
        try:
            bits = int.from_bytes(inet_pton(family, address)) >> most - int(length)
        except OSError:
            pass
        else:
            return version, int(length), bits
    parsed = ipaddress.ip_network(network, strict=False)
    left = parsed.max_prefixlen - parsed.prefixlen
    return parsed.version, parsed.prefixlen, int(parsed.network_address) >> left


def _lies_in(
    place: ipaddress.IPv4Network | ipaddress.IPv6Network,
    blocks: Mapping[tuple[int, int], Set[int]],
) -> bool:
    number, most = int(place.network_address), place.max_prefixlen
    return any(
        version == place.version and length <= place.prefixlen and number >> most - length in bits
        for (version, length), bits in blocks.items()
    )


def within(peer: str, networks: Sequence[str]) -> bool:
    """Whether an address lies in one of the networks; none at all means everywhere."""
    if not networks:
        return True
    try:
        return _lies_in(ipaddress.ip_network(ipaddress.ip_address(peer)), _blocks(tuple(networks)))
    except ValueError:
        return False


def covered(networks: Sequence[str], wider: Sequence[str]) -> bool:
    """Whether each network lies inside one of the wider ones."""
    blocks = _blocks(tuple(wider))
    return all(_lies_in(ipaddress.ip_network(each, strict=False), blocks) for each in networks)


def overlap(networks: Sequence[str], others: Sequence[str]) -> list[str]:
    """The networks that lie in both of two lists, neither of them empty."""
    met: dict[str, None] = {}
    both = tuple(networks), tuple(others)
    for some, rest in (both, both[::-1]):
        # Of two networks that meet, one lies within the other.
        inner = (ipaddress.ip_network(each, strict=False) for each in some)
        met |= {str(each): None for each in inner if _lies_in(each, _blocks(rest))}
    return list(met)


def resolved_type(role_type: str, mount: MountRow) -> str:
    """Service or batch: a mount that says one of them wins, then the role, then the mount's usual.

    Raises Invalid where both insist on different ones.
    """
    usual = str(mount.config.get("token_type") or "default-service")
    if usual in (SERVICE, BATCH):
        if role_type in (SERVICE, BATCH) and role_type != usual:
            raise Invalid("token-type", f"the auth method gives {usual} tokens only")
        return usual
    if role_type in (SERVICE, BATCH):
        return role_type
    named = role_type if role_type != "default" else usual
    return BATCH if named in ("default-batch", "batch") else SERVICE


def role_grant(
    mount: MountRow,
    name: str,
    role: Mapping[str, Any],
    display_name: str,
    metadata: Mapping[str, str],
    **more: Any,  # noqa: ANN401 - fields of the grant
) -> Grant:
    """What a login with a role, user or certificate of this name grants.

    Raises Invalid where the mount and the role contradict each other.
    """
    kind = resolved_type(role["token_type"], mount)
    if kind == BATCH and role["token_num_uses"]:
        # Nobody counts the uses of a batch token: it would be good for any number of them.
        raise Invalid(
            "token-type",
            "a batch token cannot have a limited use count",
            hint="the auth method gives batch tokens: set token_num_uses=0, or tune its token_type",
        )
    policies = clean_policies(
        role["token_policies"], with_default=not role["token_no_default_policy"]
    )
    return Grant(
        policies=policies,
        display_name="-".join(each for each in (mount.path.rstrip("/"), display_name) if each),
        path=f"auth/{mount.path}login",
        metadata={key: value for key, value in metadata.items() if value},
        ttl=role["token_ttl"],
        max_ttl=role["token_max_ttl"],
        explicit_max_ttl=role["token_explicit_max_ttl"],
        period=role["token_period"],
        uses=role["token_num_uses"],
        bound_cidrs=tuple(role["token_bound_cidrs"]),
        type=kind,
        mount=mount.uuid,
        role=name,
        **more,
    )
