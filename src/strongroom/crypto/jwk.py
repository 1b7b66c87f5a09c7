"""JSON Web Keys (RFC 7517, 7518, 8037) as PEM."""

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from strongroom.model.errors import Invalid

_CURVES: Final[Mapping[str, ec.EllipticCurve]] = {
    "P-256": ec.SECP256R1(),
    "P-384": ec.SECP384R1(),
    "P-521": ec.SECP521R1(),
}
_PRIVATE: Final = ("d",)


def jwk_public_pem(text: bytes) -> bytes:
    """A public key as PEM; raises Invalid(`bad-jwk`) for a private or symmetric one."""
    fields = _fields(text)
    if any(name in fields for name in _PRIVATE):
        raise Invalid("bad-jwk", "the JWK is a private key")
    try:
        key = _public(fields)
        return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    except (KeyError, ValueError, TypeError):
        raise Invalid("bad-jwk", "the JWK cannot be read") from None


def jwk_private_pem(text: bytes) -> bytes:
    """A private key as PKCS #8 PEM; raises Invalid(`bad-jwk`)."""
    fields = _fields(text)
    if "d" not in fields:
        raise Invalid("bad-jwk", "the JWK is no private key")
    try:
        key = _private(fields)
        return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    except (KeyError, ValueError, TypeError):
        raise Invalid("bad-jwk", "the JWK cannot be read") from None


def _fields(text: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        raise Invalid("bad-jwk", "the JWK is no JSON") from None
    if not isinstance(found, dict):
        raise Invalid("bad-jwk", "the JWK is no JSON object")
    return found


def _bytes(fields: Mapping[str, Any], name: str) -> bytes:
    text = str(fields[name])
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise ValueError(name) from None


def _number(fields: Mapping[str, Any], name: str) -> int:
    return int.from_bytes(_bytes(fields, name), "big")


PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def _public(fields: Mapping[str, Any]) -> PublicKey:
    kind = fields["kty"]
    if kind == "RSA":
        return rsa.RSAPublicNumbers(_number(fields, "e"), _number(fields, "n")).public_key()
    if kind == "EC":
        return _point(fields).public_key()
    if kind == "OKP" and fields["crv"] == "Ed25519":
        return ed25519.Ed25519PublicKey.from_public_bytes(_bytes(fields, "x"))
    raise ValueError("kty")


def _point(fields: Mapping[str, Any]) -> ec.EllipticCurvePublicNumbers:
    curve = _CURVES[fields["crv"]]
    return ec.EllipticCurvePublicNumbers(_number(fields, "x"), _number(fields, "y"), curve)


def _private(fields: Mapping[str, Any]) -> PrivateKey:
    kind = fields["kty"]
    if kind == "RSA":
        return _rsa(fields)
    if kind == "EC":
        return ec.EllipticCurvePrivateNumbers(_number(fields, "d"), _point(fields)).private_key()
    if kind == "OKP" and fields["crv"] == "Ed25519":
        return ed25519.Ed25519PrivateKey.from_private_bytes(_bytes(fields, "d"))
    raise ValueError("kty")


def _rsa(fields: Mapping[str, Any]) -> rsa.RSAPrivateKey:
    public = rsa.RSAPublicNumbers(_number(fields, "e"), _number(fields, "n"))
    exponent = _number(fields, "d")
    if "p" in fields and "q" in fields:
        first, second = _number(fields, "p"), _number(fields, "q")
    else:
        first, second = rsa.rsa_recover_prime_factors(public.n, public.e, exponent)
    return rsa.RSAPrivateNumbers(
        first,
        second,
        exponent,
        rsa.rsa_crt_dmp1(exponent, first),
        rsa.rsa_crt_dmq1(exponent, second),
        rsa.rsa_crt_iqmp(first, second),
        public,
    ).private_key()
