"""Client certificates: what one says, whether an authority stands behind it, and what is revoked.

Formats: RFC 5280. A chain is built and checked by the verifier of `cryptography`; a certificate
that is no authority is trusted only as itself, byte for byte, and one that is both ways.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
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

Certificate = x509.Certificate


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """What a certificate says; `extensions` holds the raw value of each by its dotted number.

    `beside` is what its holder sent with it: authorities that may stand between it and a trusted
    one, and are worth nothing by themselves.
    """

    certificate: x509.Certificate
    common_name: str
    units: tuple[str, ...]
    dns_names: tuple[str, ...]
    emails: tuple[str, ...]
    uris: tuple[str, ...]
    extensions: dict[str, bytes]
    beside: tuple[x509.Certificate, ...] = ()
    # Who has signed what, as far as it was looked at: hundreds of roles may trust one authority.
    _issued: dict[tuple[Certificate, Certificate], bool] = field(
        default_factory=dict, repr=False, compare=False
    )

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate in hexadecimal."""
        return digest_of(self.certificate).hex()

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

    def is_signed(self, certificate: Certificate, authority: Certificate) -> bool:
        """Whether an authority has issued this certificate, or one that came beside it."""
        if certificate.issuer != authority.subject:
            return False
        pair = (authority, certificate)
        if pair not in self._issued:
            self._issued[pair] = has_issued(authority, certificate)
        return self._issued[pair]

    def _extension(self, oid: x509.ObjectIdentifier) -> Any:  # noqa: ANN401 - one of many types
        return _extension(self.certificate, oid)


def read_certificate(data: bytes, beside: Sequence[bytes] = ()) -> ClientCertificate:
    """A certificate in DER or PEM, and those sent beside it in DER.

    Raises Invalid(`bad-certificate`).
    """
    try:
        if data.lstrip().startswith(b"-----"):
            certificate = x509.load_pem_x509_certificate(data)
        else:
            certificate = x509.load_der_x509_certificate(data)
        sent = tuple(x509.load_der_x509_certificate(each) for each in beside)
        for each in (certificate, *sent):
            # They are read when they are asked for the first time.
            _ = each.subject, each.issuer
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
            sent,
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


def digest_of(certificate: Certificate) -> bytes:
    """SHA-256 of a certificate."""
    return certificate.fingerprint(hashes.SHA256())


def has_issued(authority: x509.Certificate, certificate: x509.Certificate) -> bool:
    """Whether a certificate names this one as its issuer and is signed with its key."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def trusted_chain(
    leaf: ClientCertificate,
    trusted: Sequence[x509.Certificate],
    between: Sequence[x509.Certificate],
    now: float,
) -> tuple[x509.Certificate, ...]:
    """The certificate up to the trusted authority that stands behind it, empty without one.

    A certificate that is trusted as itself is a chain of one; so is an authority, whose holder
    could sign one for itself anyway. `between` may be authorities on the way; `now` is in epoch
    seconds, and a certificate outside its time is not trusted.
    """
    moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
    certificate = leaf.certificate
    if not is_in_time(certificate, now) or not _is_for_clients(certificate):
        return ()
    if certificate in trusted:
        return (certificate,)
    authorities = [each for each in trusted if is_authority(each)]
    if not authorities or is_authority(certificate):
        return ()
    known = _vouched_for(leaf, authorities, between)
    if not any(leaf.is_signed(certificate, each) for each in known):
        return ()
    builder = PolicyBuilder().store(Store(authorities)).time(moment)
    builder = builder.extension_policies(
        ca_policy=_authority_policy(), ee_policy=ExtensionPolicy.permit_all()
    )
    try:
        found = builder.build_client_verifier().verify(certificate, known)
    except VerificationError:
        return ()
    return tuple(found.chain)


def _vouched_for(
    leaf: ClientCertificate,
    authorities: Sequence[x509.Certificate],
    between: Sequence[x509.Certificate],
) -> list[x509.Certificate]:
    """The authorities, and what was sent that one of them has signed, or one of those in turn.

    Anybody may send authorities of their own that have all signed each other, and a verifier
    tries hundreds of the ways between them before it gives up.
    """
    known, fresh, left = list(authorities), list(authorities), list(between)
    while fresh:
        fresh = [each for each in left if any(leaf.is_signed(each, one) for one in fresh)]
        left = [each for each in left if each not in fresh]
        known += fresh
    return known


def is_in_time(certificate: x509.Certificate, now: float) -> bool:
    """Whether it is valid at this moment, in epoch seconds."""
    moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
    return certificate.not_valid_before_utc <= moment <= certificate.not_valid_after_utc


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
    """Serial numbers that an issuer has revoked, in decimal.

    `made` and `until` are its own times in epoch seconds; `until` 0 is for ever.
    """

    issuer: str
    serials: tuple[str, ...]
    made: float = 0.0
    until: float = 0.0


def read_revocation_list(
    data: bytes, signers: Sequence[x509.Certificate] = (), *, signed: bool = False
) -> RevocationList:
    """A CRL in PEM or DER; raises Invalid(`bad-crl`).

    Where one of the signers has its issuer's name it must be signed by one of that name; where it
    must be `signed`, there must be one.
    """
    try:
        if data.lstrip().startswith(b"-----"):
            found = x509.load_pem_x509_crl(data)
        else:
            found = x509.load_der_x509_crl(data)
    except ValueError:
        raise Invalid("bad-crl", "failed to parse CRL") from None
    named = [each for each in signers if each.subject == found.issuer]
    if (named or signed) and not any(_has_signed(each, found) for each in named):
        raise Invalid(
            "unsigned-crl",
            "the list is not signed by an authority in the certificate of a role",
            hint="write the role first, with the authority that issues the list",
        )
    until = found.next_update_utc
    return RevocationList(
        found.issuer.rfc4514_string(),
        tuple(str(each.serial_number) for each in found),
        found.last_update_utc.timestamp(),
        until.timestamp() if until else 0.0,
    )


def _has_signed(authority: x509.Certificate, found: x509.CertificateRevocationList) -> bool:
    try:
        return found.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    except (TypeError, UnsupportedAlgorithm):
        return False


def is_revoked(certificate: x509.Certificate, lists: Sequence[RevocationList]) -> bool:
    """Whether one of the lists is of the certificate's issuer and names it."""
    serial = str(certificate.serial_number)
    return any(serial in each.serials for each in _of_issuer(certificate, lists))


def is_unknown(certificate: x509.Certificate, lists: Sequence[RevocationList], now: float) -> bool:
    """Whether one of the lists is of the certificate's issuer and too old to say anything."""
    return any(each.until and each.until <= now for each in _of_issuer(certificate, lists))


def _of_issuer(
    certificate: x509.Certificate, lists: Sequence[RevocationList]
) -> list[RevocationList]:
    issuer = certificate.issuer.rfc4514_string()
    return [each for each in lists if each.issuer == issuer]


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
