"""The authorization code flow of OpenID Connect with PKCE: where to send a person, and the end.

What has to be remembered between the two is sealed into the `state` parameter itself, so nothing
is kept for people who never come back, and any node can answer the callback.
Formats: OpenID Connect Core 1.0 section 3.1, RFC 7636, OAuth 2.0 Form Post Response Mode.
"""

import base64
import binascii
import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import SplitResult, quote, urlencode, urlsplit

import orjson

from strongroom.crypto.aead import Tampered
from strongroom.crypto.tokens import constant_time_equal
from strongroom.model.errors import Denied, Invalid, Refusal, Unavailable
from strongroom.store.auth.jwt_config import FORM_POST, SECRET, leeways_of
from strongroom.store.auth.jwt_verify import (
    Claims,
    as_invalid,
    check_times,
    key_id,
    verified_claims,
)
from strongroom.store.auth.key_sets import KeySets
from strongroom.store.call import Call
from strongroom.store.context import Context
from strongroom.store.engine.barrier import Barrier

STATE_SECONDS: Final = 600.0  # As Vault's.
MAX_STATE: Final = 8192
# What every issuer signs ID tokens with unless it is told otherwise (OpenID Connect Core, 3.1.3.7).
USUAL_ALGORITHMS: Final = ("RS256",)
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_TABLE: Final = "oidc state"


@dataclass(frozen=True, slots=True)
class Begun:
    """A login that was begun."""

    role: str
    redirect_uri: str
    nonce: str
    verifier: str
    client_nonce: str
    expires: float


class OidcFlow:
    """Begin and end, for every mount."""

    def __init__(self, context: Context, barrier: Barrier, key_sets: KeySets) -> None:
        self._context = context
        self._barrier = barrier
        self._sets = key_sets

    async def auth_url(
        self, call: Call, config: Mapping[str, Any], name: str, role: Mapping[str, Any]
    ) -> str:
        """Where the person logs in; raises Invalid for a redirect that the role does not allow."""
        redirect = call.text("redirect_uri")
        if not redirect:
            raise Invalid("no-redirect", "missing redirect_uri")
        if not is_allowed_redirect(redirect, role["allowed_redirect_uris"]):
            raise Invalid("bad-redirect", f"unauthorized redirect_uri: {redirect}")
        if not config["oidc_client_id"]:
            raise Invalid("not-configured", "OIDC login is not configured for this mount")
        found = await self._discovery(config)
        begun = Begun(
            role=name,
            redirect_uri=redirect,
            nonce=secrets.token_urlsafe(24),
            verifier=secrets.token_urlsafe(48),
            client_nonce=call.text("client_nonce"),
            expires=self._context.clock.now() + STATE_SECONDS,
        )
        digest = hashlib.sha256(begun.verifier.encode()).digest()
        query = {
            "client_id": config["oidc_client_id"],
            "response_type": "code",
            "scope": " ".join(dict.fromkeys(["openid", *role["oidc_scopes"]])),
            "redirect_uri": redirect,
            "state": self._seal(call, begun),
            "nonce": begun.nonce,
            "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("="),
            "code_challenge_method": "S256",
        }
        if config["oidc_response_mode"] == FORM_POST:
            query["response_mode"] = FORM_POST
        if role["max_age"]:
            query["max_age"] = str(role["max_age"])
        endpoint = str(found.get("authorization_endpoint") or "")
        return endpoint + ("&" if "?" in endpoint else "?") + urlencode(query)

    async def _discovery(self, config: Mapping[str, Any]) -> dict[str, Any]:
        return await self._sets.discovery(
            config["oidc_discovery_url"], config["oidc_discovery_ca_pem"]
        )

    def _seal(self, call: Call, begun: Begun) -> str:
        kept = {name: getattr(begun, name) for name in Begun.__slots__}
        sealed = self._barrier.seal(_TABLE, call.mount.uuid, 0, orjson.dumps(kept))
        return base64.urlsafe_b64encode(sealed).decode().rstrip("=")

    def begun(self, call: Call) -> Begun:
        """The login a callback is about; raises Invalid for one that is over or somebody else's."""
        begun = self.opened(call)
        given = call.text("client_nonce").encode()
        if not constant_time_equal(begun.client_nonce.encode(), given):
            raise Invalid("bad-client-nonce", "invalid client_nonce")
        return begun

    def opened(self, call: Call) -> Begun:
        """The login that the state is of, whoever brings it; raises Invalid for one that is over.

        An issuer's form has no client nonce: only who began the login knows it.
        """
        state = call.text("state")
        if not state or len(state) > MAX_STATE:
            raise Invalid("no-state", "missing state parameter")
        try:
            padded = state + "=" * (-len(state) % 4)
            sealed = base64.b64decode(padded, altchars=b"-_", validate=True)
            kept = orjson.loads(self._barrier.open(_TABLE, call.mount.uuid, 0, sealed))
        except (Tampered, binascii.Error, ValueError):
            raise Invalid("bad-state", "Expired or missing OAuth state.") from None
        begun = Begun(**kept)
        if begun.expires <= self._context.clock.now():
            raise Invalid("bad-state", "Expired or missing OAuth state.")
        return begun

    async def claims(
        self, call: Call, config: Mapping[str, Any], role: Mapping[str, Any], begun: Begun
    ) -> tuple[Claims, str]:
        """The verified claims of the person who came back, and what was wrong with the user info.

        It adds to the ID token and proves nothing, so a login goes on without it, as in Vault; a
        role that needs one of its claims refuses it then. Raises Invalid for whatever is wrong
        with the code or the token, Unavailable when the issuer does not answer.
        """
        code = code_of(call)
        found = await self._discovery(config)
        try:
            tokens = await self._exchange(config, found, begun, code)
        except Unavailable as refusal:
            raise as_invalid(refusal, "Error exchanging oidc code") from None
        token = str(tokens.get("id_token") or "")
        try:
            claims = await self._id_claims(config, role, found, begun, token)
        except Unavailable:
            raise
        except Refusal as refusal:
            raise as_invalid(refusal, "error validating token") from None
        try:
            return await self._with_user_info(
                config, found, claims, str(tokens.get("access_token") or "")
            ), ""
        except Unavailable as refusal:
            return claims, f"the user info could not be read: {refusal.message}"

    async def _exchange(
        self, config: Mapping[str, Any], found: Mapping[str, Any], begun: Begun, code: str
    ) -> dict[str, Any]:
        client, secret = config["oidc_client_id"], config[SECRET]
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": begun.redirect_uri,
            "code_verifier": begun.verifier,
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        methods = found.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        if "client_secret_basic" in methods:
            pair = f"{quote(client, safe='')}:{quote(secret, safe='')}".encode()
            headers["Authorization"] = "Basic " + base64.b64encode(pair).decode()
        else:
            form |= {"client_id": client, "client_secret": secret}
        return await self._sets.ask(
            "POST",
            str(found.get("token_endpoint") or ""),
            config["oidc_discovery_ca_pem"],
            headers=headers,
            body=urlencode(form).encode(),
        )

    async def _id_claims(
        self,
        config: Mapping[str, Any],
        role: Mapping[str, Any],
        found: Mapping[str, Any],
        begun: Begun,
        token: str,
    ) -> Claims:
        ca, now = config["oidc_discovery_ca_pem"], self._context.clock.now()
        keys = await self._sets.keys(str(found.get("jwks_uri") or ""), ca, key_id(token))
        claims = verified_claims(token, keys, config["jwt_supported_algs"] or USUAL_ALGORITHMS)
        check_times(claims, leeways_of(role), now)
        audiences = claims.get("aud")
        audiences = [audiences] if isinstance(audiences, str) else audiences or []
        client = config["oidc_client_id"]
        if claims.get("iss") != found.get("issuer"):
            raise Denied("bad-issuer", "invalid issuer (iss) claim")
        if client not in audiences or claims.get("azp", client) != client:
            raise Denied("bad-audience", "the token is for another client")
        if not constant_time_equal(str(claims.get("nonce")).encode(), begun.nonce.encode()):
            raise Denied("bad-nonce", "invalid nonce")
        if role["max_age"]:
            at = claims.get("auth_time")
            if not isinstance(at, int | float) or now - at > role["max_age"] + 60:
                raise Denied("too-old", "the person logged in too long ago")
        return claims

    async def _with_user_info(
        self, config: Mapping[str, Any], found: Mapping[str, Any], claims: Claims, token: str
    ) -> Claims:
        url = str(found.get("userinfo_endpoint") or "")
        if not url or not token:
            return claims
        headers = {"Authorization": f"Bearer {token}"}
        said = await self._sets.ask("GET", url, config["oidc_discovery_ca_pem"], headers=headers)
        if said.get("sub") != claims.get("sub"):
            raise Invalid("other-subject", "the user info is about somebody else")
        return {**said, **claims}


def code_of(call: Call) -> str:
    """The code that the issuer sent; raises Invalid where it refused, or sent none."""
    if call.text("error"):
        raise Invalid("issuer-refused", "the OIDC provider refused the login")
    code = call.text("code")
    if not code:
        raise Invalid("no-code", "no code parameter provided")
    return code


def is_allowed_redirect(uri: str, allowed: list[str]) -> bool:
    """Whether a redirect is one of the allowed; for a loopback one the port may differ.

    A listener on the person's own machine takes any free port (RFC 8252, 7.3).
    """
    if uri in allowed:
        return True
    given = _parts(uri)
    if (
        given is None
        or given.scheme != "http"
        or given.hostname not in ("localhost", "127.0.0.1", "::1")
    ):
        return False
    if given.username or given.password or given.fragment:
        return False
    for each in allowed:
        other = _parts(each)
        same = (given.scheme, given.hostname, given.path, given.query)
        if other and same == (other.scheme, other.hostname, other.path, other.query):
            return True
    return False


def _parts(uri: str) -> SplitResult | None:
    """An address taken apart; None for one that is none, such as `http://[`."""
    try:
        return urlsplit(uri)
    except ValueError:
        return None
