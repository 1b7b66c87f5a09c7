"""Which keys of a set count, and for which algorithms."""

import json
from base64 import urlsafe_b64encode
from typing import Any

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from strongroom.model.errors import Denied
from strongroom.store.auth.jwt_verify import keys_of_set, verified_claims

RSA = rsa.generate_private_key(65537, 2048)
P384 = ec.generate_private_key(ec.SECP384R1())
SHARED = b"a secret that everybody can read in the set"


def jwk(key: Any, **more: object) -> dict[str, Any]:
    form = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
    return {**json.loads(form.to_jwk(key.public_key())), "kid": "k", **more}


def signed(key: Any, algorithm: str) -> str:
    return pyjwt.encode({"sub": "ada"}, key, algorithm, headers={"kid": "k"})


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"])
def test_a_key_that_names_no_algorithm_is_for_each_of_its_type(algorithm: str) -> None:
    """`alg` is optional (RFC 7517, 4.4)."""
    token = signed(RSA, algorithm)
    assert verified_claims(token, keys_of_set([jwk(RSA)])) == {"sub": "ada"}
    assert verified_claims(token, keys_of_set([jwk(RSA, alg=algorithm)])) == {"sub": "ada"}
    with pytest.raises(Denied):
        verified_claims(token, keys_of_set([jwk(RSA)]), ["ES256"])
    other = "RS512" if algorithm == "RS256" else "RS256"
    with pytest.raises(Denied):
        verified_claims(token, keys_of_set([jwk(RSA, alg=other)]))


def test_a_curve_is_for_its_own_algorithm() -> None:
    assert verified_claims(signed(P384, "ES384"), keys_of_set([jwk(P384)])) == {"sub": "ada"}
    _, body, mark = signed(P384, "ES384").split(".")
    other = urlsafe_b64encode(b'{"alg":"ES256","kid":"k"}').decode().rstrip("=")
    for token in (f"{other}.{body}.{mark}", signed(RSA, "RS256")):
        with pytest.raises(Denied):
            verified_claims(token, keys_of_set([jwk(P384)]))


def test_a_key_that_is_not_for_signatures_is_none() -> None:
    """RFC 7517, 4.2: `use` may be left out."""
    assert keys_of_set([jwk(RSA, use="enc")]) == []
    assert [len(keys_of_set([jwk(RSA, use=each)])) for each in ("sig", None, "")] == [1, 1, 1]


def test_a_shared_key_in_a_set_is_none() -> None:
    text = urlsafe_b64encode(SHARED).decode().rstrip("=")
    assert keys_of_set([{"kty": "oct", "kid": "k", "k": text}]) == []
    assert keys_of_set([{"kty": "oct", "kid": "k", "k": text, "alg": "HS256"}]) == []


@pytest.mark.parametrize(
    "broken",
    [
        7,
        {},
        {"kty": "RSA", "n": "!", "e": "AQAB"},
        {"kty": "RSA", "n": 5, "e": "AQAB"},
        {"kty": ["RSA"]},
        {"kty": "RSA", "alg": {"name": "RS256"}, "n": "AA", "e": "AQAB"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "EC", "crv": {}, "x": "AA", "y": "AA"},
        {"kty": "OKP", "crv": "X25519", "x": "AA"},
    ],
)
def test_a_broken_key_spoils_no_other(broken: object) -> None:
    keys = keys_of_set([broken, jwk(RSA)])
    assert verified_claims(signed(RSA, "RS256"), keys) == {"sub": "ada"}


@pytest.mark.parametrize("keys", [None, 5, {"a": 1}, "keys", []])
def test_what_is_no_list_has_no_keys(keys: object) -> None:
    assert keys_of_set(keys) == []
