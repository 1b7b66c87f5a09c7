"""Private keys as PEM of every usual kind: made, read, and written in one form.

Forms: PKCS #1 (RFC 8017), SEC 1 (RFC 5915), PKCS #8 (RFC 5208), and OpenSSL's for DSA.
"""

from collections.abc import Mapping
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)

from strongroom.crypto.pem import next_block
from strongroom.model.errors import Invalid

SigningKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
PrivateKey = SigningKey | dsa.DSAPrivateKey
_KINDS: Final = (
    rsa.RSAPrivateKey,
    ec.EllipticCurvePrivateKey,
    ed25519.Ed25519PrivateKey,
    dsa.DSAPrivateKey,
)
_HASHES: Final[Mapping[str, type[hashes.SHA1 | hashes.SHA256 | hashes.SHA512]]] = {
    "SHA1": hashes.SHA1,
    "SHA256": hashes.SHA256,
    "SHA512": hashes.SHA512,
}


def new_private_key(kind: str, bits: int = 2048) -> PrivateKey:
    """A key of kind rsa, dsa, ecdsa (P-256) or ed25519; raises Invalid for another."""
    if kind == "rsa":
        return rsa.generate_private_key(65537, bits)
    if kind == "dsa":
        return dsa.generate_private_key(2048)
    if kind == "ecdsa":
        return ec.generate_private_key(ec.SECP256R1())
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    raise Invalid("unknown-key-kind", "there is no such kind of key")


def private_key_text(key: PrivateKey) -> bytes:
    """PEM in the form usual for the kind; PKCS #8 for Ed25519."""
    traditional = not isinstance(key, ed25519.Ed25519PrivateKey)
    form = PrivateFormat.TraditionalOpenSSL if traditional else PrivateFormat.PKCS8
    return key.private_bytes(Encoding.PEM, form, NoEncryption())


def pkcs8_text(key: PrivateKey) -> bytes:
    """PEM in PKCS #8."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_key_text(key: PrivateKey) -> bytes:
    """The public half as PEM (SubjectPublicKeyInfo)."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def load_private_key_der(der: bytes) -> PrivateKey:
    """A key in PKCS #1, PKCS #8 or SEC 1; raises Invalid(`bad-key`)."""
    try:
        key = load_der_private_key(der, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Invalid("bad-key", "the private key cannot be read") from None
    if not isinstance(key, _KINDS):
        raise Invalid("bad-key", "the private key is of an unsupported kind")
    return key


def load_private_key(text: bytes) -> PrivateKey:
    """The key of the first PEM block; raises Invalid(`bad-key`)."""
    block, _ = next_block(text)
    if block is None or not block.kind.endswith("PRIVATE KEY"):
        raise Invalid("bad-key", "there is no PEM block with a private key")
    return load_private_key_der(block.content)


def rsa_oaep_decrypt(key: PrivateKey, ciphertext: bytes, hash_name: str) -> bytes:
    """RSA-OAEP (RFC 8017) with SHA1, SHA256 or SHA512; raises Invalid."""
    if not isinstance(key, rsa.RSAPrivateKey):
        raise Invalid("bad-key", "the private key is no RSA key")
    algorithm = _HASHES.get(hash_name, hashes.SHA256)()
    try:
        return key.decrypt(ciphertext, padding.OAEP(padding.MGF1(algorithm), algorithm, None))
    except ValueError:
        raise Invalid("bad-ciphertext", "the RSA ciphertext cannot be decrypted") from None
