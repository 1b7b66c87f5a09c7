"""Named keys that sign identity tokens: which pair signs, which are published, when they change.

Pure. A key is a document that is read and written whole. The pair that signs next is published
before it signs, so that whoever keeps the published keys for a while knows it in time; a pair that
has signed stays published until the last token that it may have signed is over.

Fields: https://developer.hashicorp.com/vault/api-docs/secret/identity/tokens. Public keys are
those of RFC 7517.
"""

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import jwt as pyjwt
from jwt.algorithms import get_default_algorithms

from strongroom.crypto.signatures import load_key_pair, load_public_key, new_key_pair
from strongroom.model.errors import Invalid
from strongroom.store.call import Call
from strongroom.store.parameters import Fields, fields

# Kinds of key pairs by the algorithm of RFC 7518 and RFC 8037.
KINDS: Final = {
    "RS256": "rsa-2048",
    "RS384": "rsa-2048",
    "RS512": "rsa-2048",
    "ES256": "ecdsa-p256",
    "ES384": "ecdsa-p384",
    "ES512": "ecdsa-p521",
    "EdDSA": "ed25519",
}
DAY: Final = 24 * 3600
LEAST_PERIOD: Final = 60
KEY: Final[Fields] = fields(
    seconds="rotation_period verification_ttl", texts="allowed_client_ids", text="algorithm"
)
ANY_CLIENT: Final = "*"

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Pair:
    """A new key pair: its id, and the private key as PKCS #8."""

    algorithm: str
    id: str
    private: bytes


def new_pair(algorithm: str, new_id: Callable[[], object]) -> Pair:
    """A pair for an algorithm; one for RSA takes a tenth of a second."""
    return Pair(algorithm, str(new_id()), new_key_pair(KINDS[algorithm]))


def settings_from(call: Call, old: Mapping[str, Any] | None) -> Document:
    """What a write of a key says, on top of what it was; raises Invalid."""
    before = old or {}
    period = call.seconds("rotation_period", before.get("rotation_period", DAY))
    verification = call.seconds("verification_ttl", before.get("verification_ttl", DAY))
    algorithm = call.text("algorithm") or before.get("algorithm", "RS256")
    if period < LEAST_PERIOD:
        raise Invalid("bad-period", "rotation_period must be at least one minute")
    if not 0 <= verification <= 10 * period:
        raise Invalid(
            "bad-verification", "verification_ttl cannot be longer than 10x rotation_period"
        )
    if algorithm not in KINDS:
        raise Invalid(
            "bad-algorithm", "unknown signing algorithm", hint=f"one of {', '.join(sorted(KINDS))}"
        )
    given = call.data.get("allowed_client_ids") is not None
    clients = call.texts("allowed_client_ids") if given else before.get("allowed_client_ids", ())
    return {
        "rotation_period": period,
        "verification_ttl": verification,
        "algorithm": algorithm,
        "allowed_client_ids": sorted(set(clients)),
    }


def default_settings() -> Document:
    """Those of the key `default`, which is made when a role first names it."""
    return {
        "rotation_period": DAY,
        "verification_ttl": DAY,
        "algorithm": "RS256",
        "allowed_client_ids": [ANY_CLIENT],
    }


def show(key: Mapping[str, Any]) -> Document:
    """What the API says of a key; no part of a pair is in it."""
    names = ("rotation_period", "verification_ttl", "algorithm", "allowed_client_ids")
    return {name: key[name] for name in names}


def begun(settings: Document, signing: Pair, following: Pair, now: float) -> Document:
    """A key with its first two pairs."""
    return {
        **settings,
        "signing": _kept(signing),
        "next": _kept(following),
        "retired": [],
        "rotated": now,
    }


def needs_pairs(key: Mapping[str, Any] | None, settings: Mapping[str, Any]) -> bool:
    """Whether a key that is written with these settings signs with pairs that it has not."""
    return key is None or settings["algorithm"] != key["algorithm"]


def with_new_pairs(
    key: Document | None, settings: Document, pairs: tuple[Pair, Pair], now: float
) -> Document:
    """A new key, or one with another algorithm, which signs with new pairs from now on."""
    fresh = begun(settings, *pairs, now)
    if key is None:
        return fresh
    return {**fresh, "retired": _retired(key, now, key["verification_ttl"])}


def rotated(key: Document, following: Pair, now: float, seconds: int) -> Document:
    """The pair that was next signs; the one before stays published for so many seconds."""
    return {
        **key,
        "signing": key["next"],
        "next": _kept(following),
        "retired": _retired(key, now, seconds),
        "rotated": now,
    }


def rotated_when_due(key: Document, following: Pair, now: float) -> Document:
    """The same once the time of the pair that signs is over, and the key as it is until then."""
    return rotated(key, following, now, key["verification_ttl"]) if is_due(key, now) else key


def is_due(key: Mapping[str, Any], now: float) -> bool:
    """Whether the pair that signs has done so for its time."""
    return bool(now >= key["rotated"] + key["rotation_period"])


def allows(key: Mapping[str, Any], client_id: str) -> bool:
    """Whether tokens for a client may be signed."""
    return ANY_CLIENT in key["allowed_client_ids"] or client_id in key["allowed_client_ids"]


def sign(key: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
    """A compact JWS (RFC 7515) of these claims."""
    pair = key["signing"]
    private = load_key_pair(KINDS[pair["algorithm"]], base64.b64decode(pair["private"]))
    headers = {"kid": pair["jwk"]["kid"]}
    return pyjwt.encode(dict(claims), private, algorithm=pair["algorithm"], headers=headers)


def published(key: Mapping[str, Any], now: float) -> Iterator[Document]:
    """The public keys by which tokens are verified, as JWKs."""
    yield key["signing"]["jwk"]
    yield key["next"]["jwk"]
    yield from (each["jwk"] for each in key["retired"] if now < each["until"])


def _kept(pair: Pair) -> Document:
    """A pair as it is stored, with its public key as it is published."""
    public = load_public_key(KINDS[pair.algorithm], pair.private)
    jwk: Any = get_default_algorithms()[pair.algorithm].to_jwk(public, as_dict=True)
    jwk.pop("key_ops", None)
    return {
        "algorithm": pair.algorithm,
        "private": base64.b64encode(pair.private).decode(),
        "jwk": {**jwk, "use": "sig", "kid": pair.id, "alg": pair.algorithm},
    }


def _retired(key: Mapping[str, Any], now: float, seconds: int) -> list[Document]:
    """What was retired and is not over, and the pair that signed until now, without its secret."""
    last = {"jwk": key["signing"]["jwk"], "until": now + seconds}
    return [*(each for each in key["retired"] if now < each["until"]), last]
