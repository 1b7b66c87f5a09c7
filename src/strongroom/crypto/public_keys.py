"""Public keys as PEM, from a key or from the certificate that carries it."""

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from strongroom.model.errors import Invalid


def public_key_pem(text: str) -> str:
    """The public key of a PEM public key or certificate; raises Invalid(`bad-key`)."""
    data = text.strip().encode()
    try:
        if b"CERTIFICATE" in data[:64]:
            key = x509.load_pem_x509_certificate(data).public_key()
        else:
            key = serialization.load_pem_public_key(data)  # type: ignore[assignment]
    except (ValueError, UnsupportedAlgorithm):
        raise Invalid("bad-key", "not a PEM public key or certificate") from None
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.PEM, form).decode()
