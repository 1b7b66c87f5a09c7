"""What makes a JWT acceptable: signature, times, issuer, audience and bound claims. Pure.

Formats: RFC 7515, RFC 7517, RFC 7519. Signatures are PyJWT's; times are checked here, against a
clock that is an argument, with Vault's three leeways.
"""

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import jwt as pyjwt
import orjson

from strongroom.crypto.public_keys import public_key_pem
from strongroom.model.errors import Denied, Invalid, Refusal
from strongroom.store.auth.token_roles import glob_matches

# A key that the verifier shares with the signer would let the verifier's owner sign.
ALGORITHMS: Final = (
    "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "EdDSA",
)  # fmt: skip
MAX_TOKEN: Final = 64 * 1024
MAX_KEYS: Final = 64
# RFC 6901, 4.
_INDEX: Final = re.compile(r"[0-9]{1,9}")
SKEW_SECONDS: Final = 60
MISSING_END_SECONDS: Final = 150
MISSING_START_SECONDS: Final = 150

Claims = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Key:
    """A public key and the id it has in its set, "" for one that was configured by itself."""

    id: str
    value: Any


def keys_of_set(keys: Any) -> list[Key]:  # noqa: ANN401 - JSON
    """The usable keys of a JSON Web Key set; what is not for signatures is left out.

    A key that says for which algorithm it is verifies that one alone; for another the token says
    it, as where the key was configured by itself.
    """
    found = []
    for each in keys[:MAX_KEYS] if isinstance(keys, list) else ():
        if not isinstance(each, dict) or (each.get("use") or "sig") != "sig":
            continue
        try:
            key = pyjwt.PyJWK(each)
        except (pyjwt.PyJWTError, TypeError, ValueError):
            continue
        if key.algorithm_name in ALGORITHMS:
            found.append(Key(str(each.get("kid") or ""), key if each.get("alg") else key.key))
    return found


def keys_of_pems(pems: Iterable[str]) -> list[Key]:
    """Keys from public keys or certificates as PEM; raises Invalid(`bad-key`)."""
    return [Key("", public_key_pem(each)) for each in pems]


def key_id(token: str) -> str:
    """The id of the key that a token says it is signed with; raises Denied for no JWT."""
    if len(token) > MAX_TOKEN:
        raise Denied("not-a-jwt", "the token is too long")
    try:
        return str(pyjwt.get_unverified_header(token).get("kid") or "")
    except pyjwt.PyJWTError:
        raise Denied("not-a-jwt", "malformed jwt: must have three parts") from None


def verified_claims(token: str, keys: Sequence[Key], algorithms: Sequence[str] = ()) -> Claims:
    """The claims of a token that one of the keys signed.

    Raises Denied(`not-a-jwt`, `bad-signature`).
    """
    wanted, allowed = key_id(token), list(algorithms or ALGORITHMS)
    named = [key for key in keys if key.id == wanted] if wanted else []
    for key in named or [key for key in keys if not wanted or not key.id]:
        try:
            payload = pyjwt.PyJWS().decode(token, key.value, algorithms=allowed)
            claims = orjson.loads(payload)
        except (pyjwt.PyJWTError, ValueError, TypeError):
            continue
        if isinstance(claims, dict):
            return claims
    raise Denied("bad-signature", "no known key successfully validated the token signature")


def is_signed(token: str, keys: Sequence[Key], algorithms: Sequence[str] = ()) -> bool:
    """Whether one of the keys signed a token; no key has signed an empty one."""
    try:
        return bool(token) and verified_claims(token, keys, algorithms) is not None
    except Denied:
        return False


def unverified_claims(token: str) -> Claims:
    """What a token says of itself, for who has it checked elsewhere; raises Denied for no JWT."""
    parts = token.split(".")
    try:
        if len(token) > MAX_TOKEN or len(parts) != 3:
            raise ValueError
        claims = orjson.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        claims = None
    if not isinstance(claims, dict):
        raise Denied("not-a-jwt", "malformed jwt: must have three parts")
    return claims


@dataclass(frozen=True, slots=True)
class Leeways:
    """Seconds of grace: 0 means Vault's default, a negative number none."""

    skew: int = 0
    end: int = 0
    start: int = 0


def check_times(claims: Claims, leeways: Leeways, now: float) -> None:
    """Refuse a token before or after its time; raises Denied.

    An end that is missing is the start and `leeways.end`, a start that is missing the end less
    `leeways.start`; one of the three times must be there.
    """
    skew = _grace(leeways.skew, SKEW_SECONDS)
    issued, start, end = (_time(claims, name) for name in ("iat", "nbf", "exp"))
    if not (issued or start or end):
        raise Denied(
            "no-times",
            "no issued at (iat), not before (nbf), or expiration time (exp) claims in token",
        )
    if not end:
        end = max(issued, start) + _grace(leeways.end, MISSING_END_SECONDS)
    if not start:
        start = issued or end - _grace(leeways.start, MISSING_START_SECONDS)
    if now > end + skew:
        raise Denied("expired", "invalid expiration time (exp) claim: token is expired")
    if issued and now < issued - skew:
        raise Denied("too-early", "invalid issued at (iat) claim: token issued in the future")
    if now < start - skew:
        raise Denied("too-early", "invalid not before (nbf) claim: token not yet valid")


def _grace(seconds: int, usual: int) -> int:
    return usual if seconds == 0 else max(0, seconds)


def _time(claims: Claims, name: str) -> float:
    value = claims.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise Denied("bad-time", f"the {name} claim is not a time")
    return float(value)


def check_audience(claims: Claims, bound: Sequence[str]) -> None:
    """An audience is bound by both sides or by neither; raises Denied."""
    given = claims.get("aud")
    audiences = [given] if isinstance(given, str) else given or []
    if not isinstance(audiences, list):
        raise Denied("bad-audience", "the audience (aud) claim is neither text nor a list")
    if audiences and not bound:
        raise Denied(
            "unbound-audience", "audience claim found in JWT but no audiences bound to the role"
        )
    if bound and not set(map(str, audiences)) & set(bound):
        raise Denied(
            "bad-audience",
            "invalid audience (aud) claim: audience claim does not match any bound audience",
        )


def claim(claims: Claims, name: str) -> Any:  # noqa: ANN401 - JSON
    """A claim by name, or by JSON pointer (RFC 6901) when it begins with a slash; None."""
    if not name.startswith("/"):
        return claims.get(name)
    value: Any = claims
    for raw in name[1:].split("/"):
        part = raw.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and _INDEX.fullmatch(part) and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def check_bound(claims: Claims, bound: Mapping[str, Any], *, globs: bool) -> None:
    """Refuse unless each bound claim has one of its values; raises Denied naming the claim."""
    for name, wanted in bound.items():
        given = claim(claims, name)
        if given is None:
            raise Denied("missing-claim", f'claim "{name}" is missing')
        values = given if isinstance(given, list) else [given]
        allowed = wanted if isinstance(wanted, list) else [wanted]
        if not any(_same(each, one, globs=globs) for each in values for one in allowed):
            raise Denied(
                "bound-claim", f'claim "{name}" does not match any associated bound claim values'
            )


def _same(given: Any, wanted: Any, *, globs: bool) -> bool:  # noqa: ANN401 - JSON
    if isinstance(given, str) and isinstance(wanted, str):
        return glob_matches(wanted, given) if globs else given == wanted
    return type(given) is type(wanted) and bool(given == wanted)


def text_claim(claims: Claims, name: str) -> str:
    """A claim that must be text; raises Denied."""
    value = claim(claims, name)
    if value is None:
        raise Denied("missing-claim", f'claim "{name}" not found in token')
    if not isinstance(value, str) or not value:
        raise Denied("bad-claim", f'claim "{name}" could not be converted to string')
    return value


def group_names(claims: Claims, name: str) -> tuple[str, ...]:
    """The groups a token names; () without a groups claim in the role. Raises Denied."""
    if not name:
        return ()
    value = claim(claims, name)
    if value is None:
        raise Denied("missing-claim", f'"{name}" claim not found in token')
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(each, str) for each in values):
        raise Denied("bad-claim", f'"{name}" claim could not be converted to string list')
    return tuple(values)


def mapped(claims: Claims, mappings: Mapping[str, str]) -> dict[str, str]:
    """Metadata from claims; a claim that is not there is left out. Raises Denied."""
    found = {}
    for name, key in mappings.items():
        value = claim(claims, name)
        if value is None:
            continue
        if not isinstance(value, str | bool | int | float):
            raise Denied("bad-claim", f'error converting claim "{name}" to string')
        found[key] = str(value).lower() if isinstance(value, bool) else str(value)
    return found


def as_invalid(error: Refusal, what: str) -> Invalid:
    """The 400 that the JWT method answers with, where a check raised."""
    return Invalid(error.code, f"{what}: {error.message}")
