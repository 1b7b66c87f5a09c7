"""Client certificates: what one says, whether an authority stands behind it, and what is revoked.

Formats: RFC 5280. A chain is built and checked by the verifier of `cryptography`; a certificate
that is no authority is trusted only as itself, byte for byte.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from strongroom.model.errors import Invalid

MAX_AUTHORITIES: Final = 64


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """What a certificate says; `extensions` holds the raw value of each by its dotted number."""

    certificate: x509.Certificate
    common_name: str
    units: tuple[str, ...]
    dns_names: tuple[str, ...]
    emails: tuple[str, ...]
    uris: tuple[str, ...]
    extensions: dict[str, bytes]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate in hexadecimal."""
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    @property
    def serial(self) -> str:
        """The serial number as pairs of digits with colons."""
        text = f"{self.certificate.serial_number:x}"
        return _colons(text.zfill(len(text) + len(text) % 2))

    @property
    def key_ids(self) -> tuple[str, str]:
        """Subject and authority key identifier as pairs of digits with colons, "" when absent."""
        subject = self._extension(ExtensionOID.SUBJECT_KEY_IDENTIFIER)
        authority = self._extension(ExtensionOID.AUTHORITY_KEY_IDENTIFIER)
        issuer = authority.key_identifier if authority else None
        return (
            _colons(subject.digest.hex()) if subject else "",
            _colons(issuer.hex()) if issuer else "",
        )

    def _extension(self, oid: x509.ObjectIdentifier) -> Any:  # noqa: ANN401 - one of many types
        return _extension(self.certificate, oid)


def read_certificate(data: bytes) -> ClientCertificate:
    """A certificate in DER or PEM; raises Invalid(`bad-certificate`)."""
    try:
        if data.lstrip().startswith(b"-----"):
            certificate = x509.load_pem_x509_certificate(data)
        else:
            certificate = x509.load_der_x509_certificate(data)
        names = _extension(certificate, ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
        subject = certificate.subject
        return ClientCertificate(
            certificate,
            _first(subject, NameOID.COMMON_NAME),
            tuple(
                str(each.value)
                for each in subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
            ),
            tuple(names.get_values_for_type(x509.DNSName)) if names else (),
            tuple(names.get_values_for_type(x509.RFC822Name)) if names else (),
            tuple(names.get_values_for_type(x509.UniformResourceIdentifier)) if names else (),
            {each.oid.dotted_string: each.value.public_bytes() for each in certificate.extensions},
        )
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise Invalid("bad-certificate", "failed to parse certificate") from None


def read_certificates(pem: str) -> list[x509.Certificate]:
    """Every certificate of a PEM text; raises Invalid(`bad-certificate`) when there is none."""
    try:
        found = x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        raise Invalid("bad-certificate", "failed to parse certificate") from None
    if len(found) > MAX_AUTHORITIES:
        raise Invalid("bad-certificate", "too many certificates")
    return found


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether a certificate may sign others."""
    constraints = _extension(certificate, ExtensionOID.BASIC_CONSTRAINTS)
    return bool(constraints and constraints.ca)


def is_trusted(leaf: ClientCertificate, trusted: Sequence[x509.Certificate], now: float) -> bool:
    """Whether the certificate is one of the trusted, or signed by an authority among them.

    `now` is in epoch seconds; a certificate outside its time is not trusted.
    """
    moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
    certificate = leaf.certificate
    if not (certificate.not_valid_before_utc <= moment <= certificate.not_valid_after_utc):
        return False
    if not _is_for_clients(certificate):
        return False
    if any(each == certificate for each in trusted if not is_authority(each)):
        return True
    authorities = [each for each in trusted if is_authority(each)]
    if not authorities or is_authority(certificate):
        return False
    builder = PolicyBuilder().store(Store(authorities)).time(moment)
    builder = builder.extension_policies(
        ca_policy=_authority_policy(), ee_policy=ExtensionPolicy.permit_all()
    )
    try:
        builder.build_client_verifier().verify(certificate, authorities)
    except VerificationError:
        return False
    return True


def _authority_policy() -> ExtensionPolicy:
    """That of the web, but for what `openssl req -x509` leaves out: a key usage may be missing."""
    policy = ExtensionPolicy.webpki_defaults_ca()
    policy = policy.require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
    return policy.may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _check_usage)


def _check_usage(
    policy: Policy,  # noqa: ARG001 - the verifier's signature
    certificate: x509.Certificate,  # noqa: ARG001
    usage: x509.KeyUsage | None,
) -> None:
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("the authority's key is not for signing certificates")


def _is_for_clients(certificate: x509.Certificate) -> bool:
    usage = _extension(certificate, ExtensionOID.EXTENDED_KEY_USAGE)
    wanted = {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    return usage is None or bool(wanted & set(usage))


@dataclass(frozen=True, slots=True)
class RevocationList:
    """Serial numbers that an issuer has revoked, in decimal."""

    issuer: str
    serials: tuple[str, ...]


def read_revocation_list(data: bytes) -> RevocationList:
    """A CRL in PEM or DER; raises Invalid(`bad-crl`)."""
    try:
        if data.lstrip().startswith(b"-----"):
            found = x509.load_pem_x509_crl(data)
        else:
            found = x509.load_der_x509_crl(data)
    except ValueError:
        raise Invalid("bad-crl", "failed to parse CRL") from None
    return RevocationList(
        found.issuer.rfc4514_string(), tuple(str(each.serial_number) for each in found)
    )


def is_revoked(certificate: x509.Certificate, lists: Sequence[RevocationList]) -> bool:
    """Whether one of the lists is of the certificate's issuer and names it."""
    issuer = certificate.issuer.rfc4514_string()
    serial = str(certificate.serial_number)
    return any(each.issuer == issuer and serial in each.serials for each in lists)


def _extension(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> Any:  # noqa: ANN401
    try:
        return certificate.extensions.get_extension_for_oid(oid).value
    except x509.ExtensionNotFound:
        return None


def _first(name: x509.Name, oid: x509.ObjectIdentifier) -> str:
    found = name.get_attributes_for_oid(oid)
    return str(found[0].value) if found else ""


def _colons(text: str) -> str:
    return ":".join(text[start : start + 2] for start in range(0, len(text), 2))
