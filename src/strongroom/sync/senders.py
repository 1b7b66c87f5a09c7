"""Who may send notices: whoever knows the shared token, or has an identity that an issuer signs.

Google signs what Pub/Sub pushes (https://cloud.google.com/pubsub/docs/authenticate-push-subscriptions),
Microsoft Entra ID what Event Grid delivers
(https://learn.microsoft.com/azure/event-grid/secure-webhook-delivery).
"""

import base64
import binascii
import hmac
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import parse_qs

import yaml

from strongroom.model.clock import Clock
from strongroom.model.errors import Denied, Invalid, Throttled, TooLarge
from strongroom.model.secret import Secret
from strongroom.sync.notices import NOTICE_BYTES
from strongroom.sync.providers.fields import Fields
from strongroom.wire.http import Request

# Notices that one address may send: steadily, and at once.
PER_SECOND: Final = 20.0
BURST: Final = 100.0
ADDRESSES: Final = 1000
Claims = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SignedSender:
    """An identity: who signs it, for whom, and what it says of itself.

    `claims` are exact; of a list any value will do. `ca` is PEM for an issuer of one's own.
    """

    issuer: str
    audience: str
    claims: Claims
    ca: str = ""


class Verify(Protocol):
    """Proves tokens by what issuers publish."""

    def issuer_of(self, token: str) -> str:
        """Who a token says that it is from; raises Denied for what is no token."""

    async def claims(self, token: str, sender: SignedSender) -> Claims:
        """What the sender's issuer signed, for its audience and in its time.

        Raises Denied, or Unavailable when the issuer's keys cannot be had.
        """


def read_senders(text: str) -> tuple[SignedSender, ...]:
    """A YAML list of `issuer`, `audience`, `claims` and perhaps `caFile`; raises Invalid."""
    try:
        given = yaml.safe_load(text)
    except yaml.YAMLError:
        raise Invalid("bad-senders", "the list of senders is no YAML") from None
    if not isinstance(given, list) or not given:
        raise Invalid("bad-senders", "the list of senders must be a list")
    return tuple(_sender(Fields(each, f"senders[{at}]")) for at, each in enumerate(given))


def _sender(spec: Fields) -> SignedSender:
    issuer, claims = spec.required("issuer"), spec.needed("claims").raw()
    if not issuer.startswith("https://"):
        raise spec.bad("issuer", "must be an https address, as the token has it")
    if not claims:
        # An issuer such as Google's signs for everybody, whatever audience they ask for.
        raise spec.bad("claims", "must say which identity of the issuer is meant")
    file, ca = spec.text("caFile"), ""
    if file:
        try:
            ca = Path(file).read_text()
        except OSError as error:
            raise spec.bad("caFile", f"cannot be read: {error.strerror}") from None
    return SignedSender(issuer, spec.required("audience"), dict(claims), ca)


def check_claims(claims: Claims, wanted: Claims) -> None:
    """Refuse another identity; raises Denied(`wrong-identity`) that names the claim. Pure.

    An e-mail address counts only when its issuer has verified it.
    """
    whole = dict(wanted) | ({"email_verified": True} if "email" in wanted else {})
    for name, value in whole.items():
        options = value if isinstance(value, list) else [value]
        given = claims.get(name)
        if not any(type(given) is type(each) and given == each for each in options):
            raise Denied("wrong-identity", f"the claim {name} is not that of a known sender")


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled: float


class Gatekeeper:
    """Sizes and rates, before anybody is asked who he is."""

    def __init__(self, clock: Clock, per_second: float = PER_SECOND, burst: float = BURST) -> None:
        self._clock = clock
        self._per_second, self._burst = per_second, burst
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def check(self, request: Request) -> None:
        """Raises TooLarge or Throttled."""
        if len(request.body) > NOTICE_BYTES:
            raise TooLarge("notice-too-large", f"a notice has at most {NOTICE_BYTES} bytes")
        now = self._clock.monotonic()
        bucket = self._buckets.setdefault(request.peer, _Bucket(self._burst, now))
        self._buckets.move_to_end(request.peer)
        if len(self._buckets) > ADDRESSES:
            self._buckets.popitem(last=False)
        passed = now - bucket.filled
        bucket.tokens = min(self._burst, bucket.tokens + passed * self._per_second)
        bucket.filled = now
        if bucket.tokens < 1:
            wait = (1 - bucket.tokens) / self._per_second
            raise Throttled("notices-too-fast", "too many notices", retry_after=wait)
        bucket.tokens -= 1


@dataclass(frozen=True, slots=True)
class Senders:
    """Everybody who may send: by the shared token, or signed."""

    token: Secret | None = field(default=None, repr=False)
    signed: Sequence[SignedSender] = ()
    verify: Verify | None = None

    async def check(self, request: Request) -> None:
        """Raises Denied with the reason, or Unavailable when an issuer cannot be asked."""
        bearer = _bearer(request)
        if self._knows_token(request, bearer):
            return
        if self.verify is not None and bearer.count(".") == 2:
            await self._check_signed(self.verify, bearer)
            return
        if request.headers.get("x-amz-sns-message-type"):
            raise Denied(
                "sns-not-served",
                "notices of SNS are not served",
                hint="send EventBridge events by an API destination",
            )
        if self.token is None and self.verify is None:
            raise Denied("no-senders", "this operator knows no senders of notices")
        raise Denied("unknown-sender", "the token is missing or wrong")

    def _knows_token(self, request: Request, bearer: str) -> bool:
        if self.token is None:
            return False
        query = request.target.partition("?")[2]
        given = (
            bearer,
            request.headers.get("x-api-key", ""),
            _password(request),
            (parse_qs(query).get("token") or [""])[0],
        )
        wanted = self.token.reveal()
        return any(hmac.compare_digest(each.encode(), wanted) for each in given if each)

    async def _check_signed(self, verify: Verify, token: str) -> None:
        issuer = verify.issuer_of(token)
        known = [each for each in self.signed if each.issuer == issuer]
        refusal = Denied("unknown-issuer", "the token is from no known issuer")
        for each in known:
            try:
                check_claims(await verify.claims(token, each), each.claims)
            except Denied as denied:
                refusal = denied
            else:
                return
        raise refusal


def _bearer(request: Request) -> str:
    scheme, _, rest = request.headers.get("authorization", "").partition(" ")
    return rest.strip() if scheme.lower() == "bearer" else ""


def _password(request: Request) -> str:
    """The password of basic authentication (RFC 7617); the user may have any name."""
    scheme, _, rest = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(rest.strip(), validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""
