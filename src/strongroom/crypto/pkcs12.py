"""PKCS #12 files (RFC 7292): read of any usual kind, written with AES-256 and SHA-256."""

from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import (
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)

from strongroom.crypto.certificates import first_certificate
from strongroom.crypto.private_keys import PrivateKey, load_private_key
from strongroom.model.errors import Invalid

ROUNDS: Final = 2048


def open_pkcs12(
    content: bytes, password: bytes
) -> tuple[PrivateKey, x509.Certificate, list[x509.Certificate]]:
    """Key, its certificate and the others; raises Invalid(`bad-pkcs12`)."""
    for attempt in (password, None) if not password else (password,):
        try:
            key, certificate, others = pkcs12.load_key_and_certificates(content, attempt)
        except (ValueError, TypeError):
            continue
        if key is None or (certificate is None and not others):
            raise Invalid("bad-pkcs12", "the PKCS #12 file has no key with a certificate")
        every = ([certificate] if certificate else []) + others
        return key, every[0], every[1:]  # type: ignore[return-value]
    raise Invalid("bad-pkcs12", "the PKCS #12 file cannot be opened with this password")


def _encryption(password: bytes) -> KeySerializationEncryption:
    if not password:
        return NoEncryption()
    return (
        PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(ROUNDS)
        .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
        .hmac_hash(hashes.SHA256())
        .build(password)
    )


def make_pkcs12(certificates: bytes, key: bytes, password: bytes, *, whole_chain: bool) -> bytes:
    """A file of PEM certificate(s) and PEM key, whose certificate is the first; raises Invalid."""
    certificate, rest = first_certificate(certificates)
    others = _all(rest) if whole_chain else []
    try:
        return pkcs12.serialize_key_and_certificates(
            None,
            load_private_key(key),
            certificate,
            others,
            _encryption(password),
        )
    except ValueError:
        raise Invalid("bad-pkcs12", "certificate and key do not belong together") from None


def make_truststore(certificates: bytes, password: bytes) -> bytes:
    """A Java trust store of PEM certificates; raises Invalid."""
    entries = [
        pkcs12.PKCS12Certificate(each, each.subject.rfc4514_string().encode())
        for each in _all(certificates)
    ]
    if not entries:
        raise Invalid("bad-certificate", "there is no PEM block")
    return pkcs12.serialize_java_truststore(entries, _encryption(password))


def _all(text: bytes) -> list[x509.Certificate]:
    found = []
    while text:
        certificate, text = first_certificate(text)
        found.append(certificate)
    return found
