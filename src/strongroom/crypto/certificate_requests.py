"""Requests for certificates (RFC 2986) signed by a key pair, and the chain that comes back."""

import itertools
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from strongroom.crypto.signatures import load_key_pair, load_public_key
from strongroom.model.errors import Invalid

LONGEST_CHAIN: Final = 10
_HASHES: Final[dict[str, hashes.SHA384 | hashes.SHA512 | None]] = {
    "ed25519": None,
    "ecdsa-p384": hashes.SHA384(),
    "ecdsa-p521": hashes.SHA512(),
}


def certificate_request(kind: str, der: bytes, template: str = "") -> str:
    """A request in PEM for the pair; subject and extensions are the template's.

    Raises Invalid(`bad-csr`, `no-private-key`).
    """
    key = load_key_pair(kind, der)
    builder = x509.CertificateSigningRequestBuilder()
    try:
        if template:
            asked = x509.load_pem_x509_csr(template.encode())
            builder = builder.subject_name(asked.subject)
            for each in asked.extensions:
                builder = builder.add_extension(each.value, each.critical)
        else:
            builder = builder.subject_name(x509.Name([]))
        made = builder.sign(key, _HASHES.get(kind, hashes.SHA256()))
    except (ValueError, TypeError, x509.UnsupportedGeneralNameType):
        raise Invalid("bad-csr", "could not parse the csr parameter as PEM") from None
    return made.public_bytes(serialization.Encoding.PEM).decode()


def checked_chain(kind: str, der: bytes, chain: str) -> str:
    """The chain in PEM, if its first certificate is of the pair's public key.

    Each of the others must have issued the one before it. Raises Invalid(`bad-chain`).
    """
    try:
        certificates = x509.load_pem_x509_certificates(chain.encode())
    except ValueError:
        raise Invalid("bad-chain", "could not parse certificate_chain as PEM") from None
    if len(certificates) > LONGEST_CHAIN:
        raise Invalid("bad-chain", f"the chain has more than {LONGEST_CHAIN} certificates")
    if certificates[0].public_key() != load_public_key(kind, der):
        raise Invalid(
            "bad-chain", "the public key of the first certificate is not that of the transit key"
        )
    for below, above in itertools.pairwise(certificates):
        try:
            below.verify_directly_issued_by(above)
        except Exception:  # noqa: BLE001 - ValueError, TypeError or InvalidSignature: no chain
            raise Invalid(
                "bad-chain", "a certificate of the chain was not issued by the next one"
            ) from None
    encoded = (each.public_bytes(serialization.Encoding.PEM) for each in certificates)
    return b"".join(encoded).decode()
