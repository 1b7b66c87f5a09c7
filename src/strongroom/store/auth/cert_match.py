"""Whether a client's certificate is one that a role of `auth/cert` means. Pure but for the view."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from strongroom.crypto.client_certificates import (
    Certificate,
    ClientCertificate,
    RevocationList,
    is_revoked,
    is_unknown,
    read_certificates,
    trusted_chain,
)
from strongroom.store.auth.token_roles import glob_matches
from strongroom.store.engine.contract import View

CERT: Final = "cert"
CRL: Final = "crl"
# What a token keeps of the certificate it was given for.
CERTIFICATE: Final = "certificate"


class Verdict(enum.Enum):
    """What a role says of a certificate."""

    UNKNOWN = enum.auto()  # Nobody that the role trusts stands behind it.
    UNSURE = enum.auto()  # A revocation list that would say whether it still counts is too old.
    CONSTRAINED = enum.auto()  # It is trusted, and lacks what the role asks for.
    ACCEPTED = enum.auto()


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, and the chain up to a trusted authority where there is one."""

    verdict: Verdict
    chain: tuple[Certificate, ...] = ()


def lists_of(view: View, mount: str) -> list[RevocationList]:
    """The revocation lists of a mount."""
    found = (view.document(mount, CRL, name) for name in view.document_names(mount, CRL))
    return [
        # One that was written by hand holds until it is removed.
        RevocationList(each["issuer"], tuple(each["serials"]), until=each.get("until") or 0.0)
        for each in found
        if each
    ]


def judge(
    shown: ClientCertificate,
    role: Mapping[str, Any],
    lists: Sequence[RevocationList],
    now: float,
) -> Judgement:
    """A role's verdict; what the lists revoke is not trusted, an authority among them neither."""
    if is_revoked(shown.certificate, lists):
        return Judgement(Verdict.UNKNOWN)
    trusted, between = (
        [each for each in certificates if not is_revoked(each, lists)]
        for certificates in (read_certificates(role["certificate"]), shown.beside)
    )
    chain = trusted_chain(shown, trusted, between, now)
    if not chain:
        return Judgement(Verdict.UNKNOWN)
    if any(is_unknown(each, lists, now) for each in chain):
        return Judgement(Verdict.UNSURE, chain)
    return Judgement(Verdict.ACCEPTED if meets(shown, role) else Verdict.CONSTRAINED, chain)


def meets(shown: ClientCertificate, role: Mapping[str, Any]) -> bool:
    """Whether a certificate has what a role asks for; each list that is given must match. Pure."""
    every = (shown.common_name, *shown.dns_names, *shown.emails)
    return (
        _matches(every, role["allowed_names"])
        and _matches((shown.common_name,), role["allowed_common_names"])
        and _matches(shown.dns_names, role["allowed_dns_sans"])
        and _matches(shown.emails, role["allowed_email_sans"])
        and _matches(shown.uris, role["allowed_uri_sans"])
        and _matches(shown.units, role["allowed_organizational_units"])
        and all(_has_extension(shown, each) for each in role["required_extensions"])
    )


def _matches(values: Sequence[str], patterns: Sequence[str]) -> bool:
    if not patterns:
        return True
    return any(value and glob_matches(each, value) for each in patterns for value in values)


def _has_extension(shown: ClientCertificate, wanted: str) -> bool:
    """`oid:pattern`, or `hex:oid:pattern` for a pattern of the raw value's digits."""
    as_hex = wanted.startswith("hex:")
    oid, _, pattern = wanted.removeprefix("hex:").partition(":")
    value = shown.extensions.get(oid)
    if value is None:
        return False
    return glob_matches(pattern, value.hex() if as_hex else extension_text(value))


def extension_text(value: bytes) -> str:
    """The text of a short ASN.1 string (tag, length, text), or of the raw bytes."""
    if len(value) >= 2 and value[0] in (0x0C, 0x13, 0x16) and value[1] == len(value) - 2:
        value = value[2:]
    return value.decode("utf-8", "replace")
