"""X.509 certificates (RFC 5280): issued for templates, read, and put in the order of their chain.

`chain` sorts by key identifiers alone. It says nothing about trust: no signature is verified.
"""

import ipaddress
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from strongroom.crypto.pem import PemBlock, blocks, next_block
from strongroom.crypto.private_keys import PrivateKey, load_private_key
from strongroom.model.errors import Invalid

SERIAL_BITS: Final = 127
LONGEST_DAYS: Final = 365_000


@dataclass(frozen=True, slots=True)
class Subject:
    """Who a certificate is for."""

    common_name: str
    addresses: tuple[str, ...] = ()
    dns_names: tuple[str, ...] = ()


def load_certificate(der: bytes) -> x509.Certificate:
    """A certificate from DER; raises Invalid(`bad-certificate`)."""
    try:
        return x509.load_der_x509_certificate(der)
    except ValueError:
        raise Invalid("bad-certificate", "the certificate cannot be read") from None


def first_certificate(text: bytes) -> tuple[x509.Certificate, bytes]:
    """The first PEM block as a certificate, and the text after it; raises Invalid."""
    block, rest = next_block(text)
    if block is None:
        raise Invalid("bad-certificate", "there is no PEM block")
    return load_certificate(block.content), rest


def certificate_text(certificate: x509.Certificate) -> bytes:
    """PEM."""
    return PemBlock("CERTIFICATE", certificate.public_bytes(Encoding.DER)).encode()


def issue_certificate(
    subject: Subject,
    key: PrivateKey,
    valid: tuple[float, int],
    *,
    issuer: tuple[bytes, bytes] | None = None,
    is_authority: bool = False,
) -> bytes:
    """A certificate as PEM for client and server authentication.

    `valid` is its first second (epoch) and its days; `issuer` the PEM of certificate and key,
    itself when not given. Raises Invalid.
    """
    now, days = valid
    if abs(days) > LONGEST_DAYS:
        raise Invalid("bad-validity", f"a certificate is valid for at most {LONGEST_DAYS} days")
    start = datetime.fromtimestamp(now, UTC)
    signer, signing_key = None, key
    if issuer:
        signer, _ = first_certificate(issuer[0])
        signing_key = load_private_key(issuer[1])
    if isinstance(signing_key, dsa.DSAPrivateKey):
        raise Invalid("bad-key", "a DSA key does not sign certificates")
    try:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject.common_name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(signer.subject if signer else name)
            .public_key(key.public_key())
            .serial_number(secrets.randbits(SERIAL_BITS) | 1)
            .not_valid_before(start)
            .not_valid_after(start + timedelta(days=days))
        )
        builder = _extended(builder, subject, key, signer, is_authority=is_authority)
        return certificate_text(builder.sign(signing_key, _hash(signing_key)))
    except (ValueError, TypeError, OverflowError):
        raise Invalid("bad-certificate", "no certificate can be made of this") from None


def _hash(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return None
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.key_size > 256:
        return hashes.SHA384() if key.curve.key_size == 384 else hashes.SHA512()
    return hashes.SHA256()


def _extended(
    builder: x509.CertificateBuilder,
    subject: Subject,
    key: PrivateKey,
    signer: x509.Certificate | None,
    *,
    is_authority: bool,
) -> x509.CertificateBuilder:
    usage = x509.KeyUsage(
        digital_signature=True, key_encipherment=True, key_cert_sign=is_authority,
        content_commitment=False, data_encipherment=False, key_agreement=False, crl_sign=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
    extended = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = builder.add_extension(usage, critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(is_authority, None), critical=True)
    if is_authority:
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        builder = builder.add_extension(own, critical=False)
    identifier = _subject_key(signer) if signer else None
    if identifier is not None:
        authority = x509.AuthorityKeyIdentifier(identifier.digest, None, None)
        builder = builder.add_extension(authority, critical=False)
    names: list[x509.GeneralName] = [x509.DNSName(each) for each in subject.dns_names]
    names += [x509.IPAddress(ipaddress.ip_address(each)) for each in subject.addresses]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder


def _subject_key(certificate: x509.Certificate) -> x509.SubjectKeyIdentifier | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except (x509.ExtensionNotFound, ValueError):
        return None


def subject_key_id(certificate: x509.Certificate) -> bytes:
    """The subject's key identifier, empty when it has none."""
    found = _subject_key(certificate)
    return found.digest if found else b""


def authority_key_id(certificate: x509.Certificate) -> bytes | None:
    """The identifier of the key that signed it, None when it does not say."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    except (x509.ExtensionNotFound, ValueError):
        return None
    return found.value.key_identifier


def is_root(certificate: x509.Certificate) -> bool:
    """Whether it names no other key as its signer."""
    return authority_key_id(certificate) in (None, subject_key_id(certificate))


def chain(text: bytes) -> list[x509.Certificate]:
    """PEM certificates from the leaf to the root; raises Invalid if they are not one chain."""
    found = [load_certificate(block.content) for block in blocks(text)]
    parents: dict[int, int] = {}
    for at, certificate in enumerate(found):
        wanted = authority_key_id(certificate) or b""
        for other, candidate in enumerate(found):
            if other != at and wanted == subject_key_id(candidate):
                parents[at] = other
                break
    leaves = [at for at in range(len(found)) if at not in parents.values()]
    if len(leaves) != 1:
        raise Invalid(
            "bad-chain",
            "found multiple leaf or disjunct certificates"
            if leaves
            else "no leaf certificate found",
        )
    ordered, at = [found[leaves[0]]], leaves[0]
    while at in parents:
        at = parents[at]
        ordered.append(found[at])
        if len(ordered) > len(found):
            raise Invalid("bad-chain", "the certificates sign each other in a circle")
    return ordered


def alternative_names(certificate: x509.Certificate) -> list[str]:
    """DNS names, IP addresses, mail addresses and URIs a certificate is for, in that order."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [
        *names.get_values_for_type(x509.DNSName),
        *(str(each) for each in names.get_values_for_type(x509.IPAddress)),
        *names.get_values_for_type(x509.RFC822Name),
        *names.get_values_for_type(x509.UniformResourceIdentifier),
    ]


def common_name_text(names: Sequence[bytes]) -> tuple[str, ...]:
    """Names given as bytes, as text; raises Invalid."""
    try:
        return tuple(each.decode() for each in names)
    except UnicodeDecodeError:
        raise Invalid("bad-name", "a name is no text") from None
