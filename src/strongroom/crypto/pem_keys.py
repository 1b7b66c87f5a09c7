"""What private keys and certificates in files turn into: JSON Web Keys, and what signs a login.

JWK: RFC 7517 and 7518; a certificate's thumbprint: RFC 7515, 4.1.7.
"""

import base64
import hashlib
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.crypto.certificates import load_certificate
from strongroom.crypto.pem import blocks
from strongroom.crypto.pkcs12 import open_pkcs12
from strongroom.crypto.private_keys import load_private_key, load_private_key_der, pkcs8_text
from strongroom.model.errors import Invalid

_CURVES: Final = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
_BEGIN: Final = b"-----BEGIN"


def private_jwk(content: bytes) -> dict[str, Any]:
    """The JWK of a PEM key, RSA or EC; bytes that are no PEM are a symmetric key.

    Raises Invalid(`bad-key`) for PEM of another kind or under a passphrase.
    """
    if _BEGIN not in content:
        return {"kty": "oct", "k": _text(content)}
    key = load_private_key(content)
    if isinstance(key, rsa.RSAPrivateKey):
        return _rsa(key)
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        return _ec(key)
    raise Invalid("bad-key", "the private key is neither RSA nor on a NIST curve")


def _rsa(key: rsa.RSAPrivateKey) -> dict[str, Any]:
    private = key.private_numbers()
    public = private.public_numbers
    numbers = {
        "n": public.n,
        "e": public.e,
        "d": private.d,
        "p": private.p,
        "q": private.q,
        "dp": private.dmp1,
        "dq": private.dmq1,
        "qi": private.iqmp,
    }
    return {"kty": "RSA"} | {
        name: _text(each.to_bytes((each.bit_length() + 7) // 8, "big"))
        for name, each in numbers.items()
    }


def _ec(key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    private = key.private_numbers()
    public = private.public_numbers
    size = (key.curve.key_size + 7) // 8
    numbers = {"x": public.x, "y": public.y, "d": private.private_value}
    return {"kty": "EC", "crv": _CURVES[key.curve.name]} | {
        name: _text(each.to_bytes(size, "big")) for name, each in numbers.items()
    }


def certificate_and_key(content: bytes) -> tuple[bytes, str]:
    """A certificate in DER and its private key in PEM, of one PEM text or PKCS #12 file.

    Raises Invalid with the part that is missing or cannot be read.
    """
    if _BEGIN not in content:
        key, certificate, _ = open_pkcs12(content, b"")
        return certificate.public_bytes(Encoding.DER), pkcs8_text(key).decode()
    der = first_certificate_der(content)
    keys = [each.content for each in blocks(content) if each.kind.endswith("PRIVATE KEY")]
    if der is None or not keys:
        raise Invalid("bad-certificate", "there is no PEM certificate with its private key")
    load_certificate(der)
    return der, pkcs8_text(load_private_key_der(keys[0])).decode()


def first_certificate_der(content: bytes) -> bytes | None:
    """The first certificate of a PEM text, in DER; None when there is none."""
    found = (each.content for each in blocks(content) if each.kind == "CERTIFICATE")
    return next(found, None)


def leaf_der(content: bytes) -> bytes | None:
    """The certificate of a PEM text or an open PKCS #12 file, in DER; None when there is none."""
    if _BEGIN in content:
        return first_certificate_der(content)
    try:
        return open_pkcs12(content, b"")[1].public_bytes(Encoding.DER)
    except Invalid:
        return None


def thumbprint(der: bytes) -> str:
    """The `x5t` of a certificate: a name, not a proof."""
    return _text(hashlib.sha1(der).digest())  # noqa: S324 - the form's own hash


def _text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
