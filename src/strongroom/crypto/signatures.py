"""Key pairs by name: signing, verifying, RSA encryption. Private keys travel as PKCS #8 DER.

Ed25519 (RFC 8032), ECDSA (FIPS 186-5), RSA-PSS, PKCS #1 v1.5 and OAEP (RFC 8017).
"""

from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import (
    NoDigestInfo,
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)

from strongroom.crypto.aead import Tampered
from strongroom.model.errors import Invalid

_CURVES: Final[dict[str, ec.EllipticCurve]] = {
    "ecdsa-p256": ec.SECP256R1(),
    "ecdsa-p384": ec.SECP384R1(),
    "ecdsa-p521": ec.SECP521R1(),
}
_RSA: Final = {"rsa-2048": 2048, "rsa-3072": 3072, "rsa-4096": 4096}
KEY_PAIRS: Final = ("ed25519", *_CURVES, *_RSA)
HASHES: Final[dict[str, type[hashes.HashAlgorithm]]] = {
    "sha1": hashes.SHA1,
    "sha2-224": hashes.SHA224,
    "sha2-256": hashes.SHA256,
    "sha2-384": hashes.SHA384,
    "sha2-512": hashes.SHA512,
    "sha3-224": hashes.SHA3_224,
    "sha3-256": hashes.SHA3_256,
    "sha3-384": hashes.SHA3_384,
    "sha3-512": hashes.SHA3_512,
}
# The input is signed as it is, without saying by which hash it was made (PKCS #1 v1.5 alone).
NO_HASH: Final = "none"
_MOST_DIGITS: Final = 4
_SEQUENCE: Final = 0x30
PublicKey = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey
PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class SignatureForm:
    """How a signature is made. `prehashed`: the message is the digest already.

    `pss` or `pkcs1v15` for RSA; `jws` for ECDSA means r and s one after the other. `salt_length`
    is `auto`, `hash` or a number of bytes.
    """

    hash_name: str = "sha2-256"
    prehashed: bool = False
    pss: bool = True
    jws: bool = False
    salt_length: str = "auto"


def new_key_pair(kind: str) -> bytes:
    """A private key as PKCS #8 DER."""
    key: PrivateKey
    if kind == "ed25519":
        key = ed25519.Ed25519PrivateKey.generate()
    elif kind in _CURVES:
        key = ec.generate_private_key(_CURVES[kind])
    else:
        key = rsa.generate_private_key(65537, _RSA[kind])
    return _der(key)


def ed25519_from_seed(seed: bytes) -> bytes:
    """The key pair of a derived seed."""
    return _der(ed25519.Ed25519PrivateKey.from_private_bytes(seed))


def _der(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def load_key_pair(kind: str, der: bytes, *, from_outside: bool = False) -> PrivateKey:
    """Read a private key of a kind; raises Invalid(`bad-key`, `no-private-key`).

    Whether the parts of an RSA key belong together takes tenths of a second to find out: it is
    asked once, of a key `from_outside`, and not at each use of one that was kept.
    """
    if is_public_only(der):
        raise Invalid("no-private-key", "only the public half of the key was imported")
    try:
        key = serialization.load_der_private_key(
            der, None, unsafe_skip_rsa_key_validation=not from_outside
        )
    except (ValueError, TypeError):
        raise Invalid("bad-key", "the key is not PKCS #8") from None
    _check_kind(kind, key)
    return key  # type: ignore[return-value]


def is_public_only(der: bytes) -> bool:
    """Whether these bytes are a public key (SubjectPublicKeyInfo) and no pair."""
    # PKCS #8 begins with its version, a public key with the identifier of its algorithm.
    if len(der) < 4 or der[0] != _SEQUENCE:
        return False
    # A length of 128 and more says in how many bytes it stands (X.690, 8.1.3).
    start = 2 + (der[1] & 0x7F if der[1] & 0x80 else 0)
    return der[start : start + 1] == bytes([_SEQUENCE])


def check_key(kind: str, der: bytes) -> None:
    """Raise Invalid(`bad-key`) for a key from outside, pair or public, that is not of a kind."""
    if is_public_only(der):
        load_public_key(kind, der)
    else:
        load_key_pair(kind, der, from_outside=True)


def load_public_key(kind: str, der: bytes) -> PublicKey:
    """The public key of a pair, or a public key alone; raises Invalid(`bad-key`)."""
    if not is_public_only(der):
        return load_key_pair(kind, der).public_key()
    try:
        key = serialization.load_der_public_key(der)
    except (ValueError, TypeError):
        raise Invalid("bad-key", "the public key cannot be read") from None
    _check_kind(kind, key)
    return key  # type: ignore[return-value]


def public_key_der(kind: str, pem: str) -> bytes:
    """A public key of a kind, given as PEM; raises Invalid(`bad-key`)."""
    try:
        key = serialization.load_pem_public_key(pem.encode())
    except (ValueError, TypeError):
        raise Invalid("bad-key", "the public key is not PEM") from None
    _check_kind(kind, key)
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _check_kind(kind: str, key: object) -> None:
    if kind == "ed25519":
        fits = isinstance(key, ed25519.Ed25519PrivateKey | ed25519.Ed25519PublicKey)
    elif kind in _CURVES:
        curves = ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey
        fits = isinstance(key, curves) and key.curve.name == _CURVES[kind].name
    else:
        fits = isinstance(key, rsa.RSAPrivateKey | rsa.RSAPublicKey) and key.key_size == _RSA[kind]
    if not fits:
        raise Invalid("bad-key", f"the key is not of type {kind}")


def public_key_text(kind: str, der: bytes) -> str:
    """PEM, or base64 of the 32 bytes for Ed25519, as Vault shows them."""
    import base64

    public = load_public_key(kind, der)
    if isinstance(public, ed25519.Ed25519PublicKey):
        return base64.b64encode(public.public_bytes_raw()).decode()
    return public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()


def private_key_text(der: bytes) -> str:
    """As Vault exports it: base64 of seed and public key for Ed25519, else the type's own PEM."""
    import base64

    key = serialization.load_der_private_key(der, None, unsafe_skip_rsa_key_validation=True)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        whole = key.private_bytes_raw() + key.public_key().public_bytes_raw()
        return base64.b64encode(whole).decode()
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    ).decode()


def sign(kind: str, der: bytes, message: bytes, form: SignatureForm) -> bytes:
    """The signature; raises Invalid for a hash or length that does not fit."""
    key = load_key_pair(kind, der)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(message)
    try:
        if isinstance(key, ec.EllipticCurvePrivateKey):
            made = key.sign(message, ec.ECDSA(_hash(form)))
            return _to_jws(key, made) if form.jws else made
        return key.sign(message, _padding(form), _rsa_hash(form))
    except (OverflowError, ValueError):
        raise Invalid("bad-digest", _unfit(key, form)) from None


def verify(kind: str, der: bytes, message: bytes, signature: bytes, form: SignatureForm) -> bool:
    """Whether the signature is right."""
    public = load_public_key(kind, der)
    try:
        if isinstance(public, ed25519.Ed25519PublicKey):
            public.verify(signature, message)
        elif isinstance(public, ec.EllipticCurvePublicKey):
            made = _from_jws(public, signature) if form.jws else signature
            public.verify(made, message, ec.ECDSA(_hash(form)))
        else:
            form_hash: Any = _rsa_hash(form)  # The library's types leave NoDigestInfo out here.
            public.verify(signature, message, _padding(form, verifies=True), form_hash)
    except (InvalidSignature, OverflowError, ValueError):
        return False
    return True


def _hash_named(name: str) -> hashes.HashAlgorithm:
    made = HASHES.get(name)
    if made is None:
        raise Invalid("bad-hash", f"unsupported hash algorithm {name!r}")
    return made()


def _hash(form: SignatureForm) -> hashes.HashAlgorithm | Prehashed:
    made = _hash_named(form.hash_name)
    return Prehashed(made) if form.prehashed else made


def _rsa_hash(form: SignatureForm) -> hashes.HashAlgorithm | Prehashed | NoDigestInfo:
    if form.hash_name != NO_HASH:
        return _hash(form)
    if form.pss or not form.prehashed:
        raise Invalid(
            "bad-hash",
            "hash_algorithm=none requires prehashed=true and signature_algorithm=pkcs1v15",
        )
    return NoDigestInfo()


def _padding(form: SignatureForm, *, verifies: bool = False) -> padding.AsymmetricPadding:
    """`auto` makes a salt as long as the hash, and verifies one of any length."""
    if not form.pss:
        return padding.PKCS1v15()
    algorithm = _hash_named(form.hash_name)
    if form.salt_length == "auto" and verifies:
        return padding.PSS(padding.MGF1(algorithm), padding.PSS.AUTO)
    if form.salt_length in ("auto", "hash"):
        return padding.PSS(padding.MGF1(algorithm), algorithm.digest_size)
    digits = form.salt_length
    if not (digits.isascii() and digits.isdigit() and len(digits) <= _MOST_DIGITS):
        raise Invalid("bad-salt-length", "salt_length is auto, hash or a number of bytes")
    return padding.PSS(padding.MGF1(algorithm), int(digits))


def _unfit(key: PrivateKey, form: SignatureForm) -> str:
    if isinstance(key, rsa.RSAPrivateKey) and not form.prehashed:
        return "the hash and its salt are too long for the key"
    if form.hash_name == NO_HASH:
        return "the input is too long for the key"
    return "the input does not have the length of its hash"


def _to_jws(key: ec.EllipticCurvePrivateKey, made: bytes) -> bytes:
    size = (key.curve.key_size + 7) // 8
    first, second = decode_dss_signature(made)
    return first.to_bytes(size, "big") + second.to_bytes(size, "big")


def _from_jws(key: ec.EllipticCurvePublicKey, made: bytes) -> bytes:
    size = (key.curve.key_size + 7) // 8
    if len(made) != 2 * size:
        raise ValueError("length")
    return encode_dss_signature(
        int.from_bytes(made[:size], "big"), int.from_bytes(made[size:], "big")
    )


def _oaep(hash_name: str) -> padding.OAEP:
    made = _hash_named(hash_name)
    return padding.OAEP(padding.MGF1(made), made, None)


def rsa_encrypt(kind: str, der: bytes, plaintext: bytes, hash_name: str = "sha2-256") -> bytes:
    """OAEP; raises Invalid when the plaintext is too long for the key."""
    key = load_public_key(kind, der)
    assert isinstance(key, rsa.RSAPublicKey)  # noqa: S101 - the caller checked the kind
    try:
        return key.encrypt(plaintext, _oaep(hash_name))
    except ValueError:
        raise Invalid("too-long", "the plaintext is too long for this key") from None


def rsa_decrypt(kind: str, der: bytes, ciphertext: bytes, hash_name: str = "sha2-256") -> bytes:
    """OAEP; raises Tampered."""
    key = load_key_pair(kind, der)
    assert isinstance(key, rsa.RSAPrivateKey)  # noqa: S101 - the caller checked the kind
    try:
        return key.decrypt(ciphertext, _oaep(hash_name))
    except ValueError:
        raise Tampered("a ciphertext") from None


def digest(hash_name: str, message: bytes) -> bytes:
    """A plain hash; raises Invalid."""
    hasher = hashes.Hash(_hash_named(hash_name))
    hasher.update(message)
    return hasher.finalize()


def sign_rs256(private_pem: str, message: bytes) -> bytes:
    """RS256 of JSON Web Tokens (RFC 7518, 3.3); raises Invalid(`bad-key`)."""
    try:
        key = serialization.load_pem_private_key(private_pem.encode(), None)
    except (ValueError, TypeError):
        raise Invalid("bad-key", "the private key is not PEM") from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise Invalid("bad-key", "the private key is not an RSA key")
    return key.sign(message, padding.PKCS1v15(), hashes.SHA256())


def rsa_encrypt_to_public(public_pem: str, plaintext: bytes) -> bytes:
    """OAEP with SHA-256 under a public key; raises Invalid(`bad-key`)."""
    try:
        key = serialization.load_pem_public_key(public_pem.encode())
    except ValueError:
        raise Invalid("bad-key", "the public key is not PEM") from None
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size < 2048:
        raise Invalid("bad-key", "an RSA key of at least 2048 bits is needed")
    return key.encrypt(plaintext, _oaep("sha2-256"))


def rsa_decrypt_with_pem(private_pem: str, ciphertext: bytes) -> bytes:
    """What was encrypted to the public key; raises Invalid(`bad-key`) or Tampered."""
    try:
        key = serialization.load_pem_private_key(private_pem.encode(), None)
    except (ValueError, TypeError):
        raise Invalid("bad-key", "the private key is not PEM without a passphrase") from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise Invalid("bad-key", "the private key is not an RSA key")
    try:
        return key.decrypt(ciphertext, _oaep("sha2-256"))
    except ValueError:
        raise Tampered("a value for this key") from None


def rsa_public_numbers(der: bytes) -> tuple[bytes, bytes]:
    """Modulus and exponent of an RSA pair, big-endian, as a JSON Web Key has them (RFC 7518)."""
    key = serialization.load_der_private_key(der, None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise Invalid("bad-key", "the key is not an RSA key")
    numbers = key.public_key().public_numbers()
    return _big_endian(numbers.n), _big_endian(numbers.e)


def _big_endian(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")
