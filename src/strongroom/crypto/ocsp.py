"""Questions to OCSP responders, and what their answers are worth. Pure.

Formats: RFC 6960, asked as RFC 5019 has it (one certificate, SHA-1 as the index, no nonce, so that
an answer may come from a responder's store). An answer counts when it is signed by the issuer, by
somebody whom the issuer lets sign answers, or by an authority that the caller trusts for it.
"""

import base64
import binascii
import datetime
import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import (
    AuthorityInformationAccessOID,
    ExtendedKeyUsageOID,
    ExtensionOID,
    SignatureAlgorithmOID,
)

from strongroom.crypto.client_certificates import has_issued, is_in_time, read_certificates
from strongroom.model.errors import Invalid

SKEW_SECONDS: Final = 300.0
# What an answer is good for that does not say how long it is.
FRESH_SECONDS: Final = 3600.0
_WEAK: Final = (hashes.MD5, hashes.SHA1)


class Standing(enum.Enum):
    """What a responder knows of a certificate."""

    GOOD = "good"
    REVOKED = "revoked"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Answer:
    """A standing, and until when it holds in epoch seconds."""

    standing: Standing
    until: float


def responders(certificate: x509.Certificate) -> tuple[str, ...]:
    """The addresses that a certificate's issuer wrote into it, over HTTP."""
    try:
        kind = ExtensionOID.AUTHORITY_INFORMATION_ACCESS
        access = certificate.extensions.get_extension_for_oid(kind).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    if not isinstance(access, x509.AuthorityInformationAccess):
        return ()
    found = (
        each.access_location.value
        for each in access
        if each.access_method == AuthorityInformationAccessOID.OCSP
        and isinstance(each.access_location, x509.UniformResourceIdentifier)
    )
    return tuple(each for each in found if each.startswith(("http://", "https://")))


def read_authorities(text: str) -> tuple[x509.Certificate, ...]:
    """Certificates as PEM, or as PEM in base64; raises Invalid(`bad-certificate`)."""
    if not text.strip():
        return ()
    if "-----" not in text:
        try:
            text = base64.b64decode(text, validate=True).decode()
        except (binascii.Error, ValueError):
            raise Invalid("bad-certificate", "failed to parse certificate") from None
    return tuple(read_certificates(text))


def question(certificate: x509.Certificate, issuer: x509.Certificate) -> bytes:
    """A request in DER."""
    # SHA-1 is the index that every responder knows; nothing rests on it.
    sha1 = hashes.SHA1()  # noqa: S303
    return _request(certificate, issuer, sha1).public_bytes(Encoding.DER)


def _request(
    certificate: x509.Certificate, issuer: x509.Certificate, algorithm: hashes.HashAlgorithm
) -> ocsp.OCSPRequest:
    builder = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, algorithm)
    return builder.build()


def read_answer(
    data: bytes,
    certificate: x509.Certificate,
    issuer: x509.Certificate,
    authorities: Sequence[x509.Certificate],
    now: float,
) -> Answer:
    """What a responder says in DER; raises Invalid(`bad-ocsp-answer`) when it is worth nothing."""
    try:
        response = ocsp.load_der_ocsp_response(data)
        if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise _worthless(f"it answers {response.response_status.name.lower()}")
        if not any(
            _signs(each.public_key(), response)
            for each in _signers(response, issuer, authorities, now)
        ):
            raise _worthless("its answer is not signed by anybody who may")
        return _latest(response, certificate, issuer, now)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _worthless("what it answers cannot be read") from None


def _worthless(why: str) -> Invalid:
    return Invalid("bad-ocsp-answer", why)


def _signers(
    response: ocsp.OCSPResponse,
    issuer: x509.Certificate,
    authorities: Sequence[x509.Certificate],
    now: float,
) -> Iterator[x509.Certificate]:
    """Whose signature counts: an answer's own certificates only when one of the others vouches."""
    yield issuer
    yield from (each for each in authorities if is_in_time(each, now))
    for each in response.certificates:
        vouched = any(has_issued(above, each) for above in (issuer, *authorities))
        if vouched and is_in_time(each, now) and _may_answer(each):
            yield each


def _may_answer(certificate: x509.Certificate) -> bool:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return ExtendedKeyUsageOID.OCSP_SIGNING in usage


def _signs(key: object, response: ocsp.OCSPResponse) -> bool:
    """Whether the answer is signed by this key, with a hash that nobody can forge.

    Raises Invalid(`bad-ocsp-answer`) for RSA-PSS: its parameters cannot be read from an answer.
    """
    signature, signed = response.signature, response.tbs_response_bytes
    try:
        if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
            key.verify(signature, signed)
            return True
        if response.signature_algorithm_oid == SignatureAlgorithmOID.RSASSA_PSS:
            raise _worthless("its answer is signed with RSA-PSS, which is not read here")
        algorithm = response.signature_hash_algorithm
        if algorithm is None or isinstance(algorithm, _WEAK):
            return False
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, signed, padding.PKCS1v15(), algorithm)
            return True
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, signed, ec.ECDSA(algorithm))
            return True
    except InvalidSignature:
        pass
    return False


def _latest(
    response: ocsp.OCSPResponse, certificate: x509.Certificate, issuer: x509.Certificate, now: float
) -> Answer:
    """The worst that the answer says of the certificate and that holds now."""
    about = [each for each in response.responses if _is_about(each, certificate, issuer)]
    if not about:
        raise _worthless("its answer is about another certificate")
    found = [
        Answer(_STANDINGS[each.certificate_status], _until(each.next_update_utc, made))
        for each in about
        if (made := each.this_update_utc.timestamp()) <= now + SKEW_SECONDS
    ]
    now_good = [each for each in found if each.until > now - SKEW_SECONDS]
    if not now_good:
        raise _worthless("its answer is out of date")
    return min(now_good, key=lambda each: _WORST_FIRST.index(each.standing))


_STANDINGS: Final = {
    ocsp.OCSPCertStatus.GOOD: Standing.GOOD,
    ocsp.OCSPCertStatus.REVOKED: Standing.REVOKED,
    ocsp.OCSPCertStatus.UNKNOWN: Standing.UNKNOWN,
}
_WORST_FIRST: Final = (Standing.REVOKED, Standing.UNKNOWN, Standing.GOOD)


def _until(next_update: datetime.datetime | None, made: float) -> float:
    return next_update.timestamp() if next_update else made + FRESH_SECONDS


def _is_about(
    single: ocsp.OCSPSingleResponse, certificate: x509.Certificate, issuer: x509.Certificate
) -> bool:
    wanted = _request(certificate, issuer, single.hash_algorithm)
    return (single.serial_number, single.issuer_name_hash, single.issuer_key_hash) == (
        wanted.serial_number,
        wanted.issuer_name_hash,
        wanted.issuer_key_hash,
    )
