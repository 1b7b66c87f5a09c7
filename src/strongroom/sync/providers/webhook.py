"""The webhook provider: one HTTP request for each secret, templated by the store.

Fields: https://external-secrets.io/latest/provider/webhook/. JSONPath is RFC 9535. Secrets that
are put into requests must be labelled for it, for the store's author chooses where they go.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import quote_plus, urlsplit

import orjson

from strongroom.model.clock import Clock
from strongroom.model.errors import Denied, Invalid, NotFound, Refusal, Unavailable
from strongroom.model.secret import Secret
from strongroom.sync.durations import parse_duration
from strongroom.sync.json_query import first_found
from strongroom.sync.providers.contract import (
    Fetched,
    Find,
    OneByOne,
    Provider,
    Pushed,
    PushTarget,
    Traits,
)
from strongroom.sync.providers.fields import Fields
from strongroom.sync.providers.references import References, Surroundings
from strongroom.sync.providers.retries import CALL_SECONDS
from strongroom.sync.spec import RemoteRef
from strongroom.sync.values import Parsed, as_bytes
from strongroom.template.engine import Template
from strongroom.template.engine import compile as compiled
from strongroom.template.values import Map, Value
from strongroom.wire.client import TIMEOUT_SECONDS, HttpClient
from strongroom.wire.http import Response
from strongroom.wire.ntlm import CODES, Account, NtlmClient, need_library
from strongroom.wire.rest import refusal_of

# Secrets without this label are not sent anywhere.
Label = tuple[str, str]
LABEL: Final[Label] = ("external-secrets.io/type", "webhook")
_NAME: Final = "webhook"
# The groups of names a template sees: remoteRef, and each of the store's secrets.
Groups = Mapping[str, Mapping[str, bytes]]


@dataclass(frozen=True, slots=True)
class WebhookTemplates:
    """The parts of a request and of the way to its answer, parsed."""

    url: Template
    body: Template | None
    headers: Mapping[str, Template]
    path: Template | None
    method: str = ""
    timeout: float = TIMEOUT_SECONDS

    @classmethod
    def from_spec(cls, spec: Fields) -> "WebhookTemplates":
        """Read `spec.provider.webhook`; raises Invalid with the template at fault."""

        def parsed(part: Fields, name: str) -> Template | None:
            text = part.text(name)
            return compiled(text, f"{part.where}.{name}") if text else None

        result = spec.part("result") or Fields({}, f"{spec.where}.result")
        headers = spec.labels("headers")
        timeout = spec.text("timeout")
        return cls(
            url=compiled(spec.required("url"), f"{spec.where}.url"),
            body=parsed(spec, "body"),
            headers={
                name: compiled(text, f"{spec.where}.headers.{name}")
                for name, text in headers.items()
            },
            path=parsed(result, "jsonPath"),
            method=spec.text("method").upper(),
            timeout=_seconds(timeout) if timeout else TIMEOUT_SECONDS,
        )


def _seconds(timeout: str) -> float:
    """Of a request; 0 is as long as it may take, which is not for ever: a worker waits for it."""
    return min(parse_duration(timeout, "timeout") or CALL_SECONDS, CALL_SECONDS)


@dataclass(frozen=True, slots=True)
class Call:
    """One request, rendered; its parts may hold secrets."""

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    def digest(self) -> bytes:
        """Tells it from any other."""
        parts = (self.method, self.url, repr(sorted(self.headers.items())))
        made = hashlib.sha256(repr(parts).encode())
        made.update(self.body)
        return made.digest()


async def build(
    spec: Fields, references: References, around: Surroundings, *, label: Label = LABEL
) -> Provider:
    """The provider of `spec.provider.webhook`; raises Invalid. `label` lets a Secret be sent."""
    templates = WebhookTemplates.from_spec(spec)
    secrets = {each.required("name"): each.needed("secretRef") for each in spec.parts("secrets")}
    ca = await references.authority(spec)
    sent = SentSecrets(secrets, references, label)
    login = NtlmLogin.from_spec(
        spec,
        sent,
        lambda: HttpClient(ca_data=ca, route=replace(references.route, one_connection=True)),
    )
    http = HttpClient(ca_data=ca, route=references.route)
    return WebhookProvider(templates, sent, http, around.clock, login)


@dataclass(frozen=True, slots=True)
class SentSecrets:
    """The Secrets that requests may hold, by the names templates know them by."""

    selectors: Mapping[str, Fields]
    references: References
    label: Label

    @property
    def asking(self) -> str:
        """The namespace that asks."""
        return self.references.asking

    async def read(self) -> dict[str, Mapping[str, bytes]]:
        """Their data; raises Denied(`not-for-webhooks`) for one without the label."""
        found: dict[str, Mapping[str, bytes]] = {}
        for name, selector in self.selectors.items():
            found[name] = await self._labelled(selector)
        return found

    async def text(self, selector: Fields) -> str:
        """One key's text, without the line end that editors add; raises as `read`, and Invalid."""
        key = selector.required("key")
        data = await self._labelled(selector)
        try:
            found = data.get(key, b"").decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise Invalid("bad-secret", f"{selector.where} points to no text") from None
        if not found:
            raise Invalid(
                "credential-missing",
                f"{selector.where} points to nothing: no key {key} in it, or an empty one",
            )
        return found

    async def _labelled(self, selector: Fields) -> Mapping[str, bytes]:
        item = await self.references.whole_secret(selector)
        key, value = self.label
        if item.labels.get(key) != value:
            raise Denied(
                "not-for-webhooks",
                f"the Secret {selector.text('name')} is not labelled {key}={value}",
                hint="label it if it may be sent to the URL",
            )
        return item.data


@dataclass(frozen=True, slots=True)
class NtlmLogin:
    """`auth.ntlm`: where the account is kept, and what opens the connection of one request."""

    username: Fields
    password: Fields
    sent: SentSecrets
    connect: Callable[[], HttpClient]

    @classmethod
    def from_spec(
        cls, spec: Fields, sent: SentSecrets, connect: Callable[[], HttpClient]
    ) -> "NtlmLogin | None":
        """Of `spec.provider.webhook`, None without `auth`. Raises Invalid and `no-ntlm`."""
        auth = spec.part("auth")
        if auth is None:
            return None
        for name in auth.names():
            if name != "ntlm":
                raise auth.bad(name, "is not served: use ntlm, or headers with a token")
        ntlm = auth.needed("ntlm")
        selectors = [ntlm.needed(name) for name in ("usernameSecret", "passwordSecret")]
        for selector in selectors:
            for name in ("name", "key"):
                selector.required(name)
        need_library()
        return cls(selectors[0], selectors[1], sent, connect)

    async def account(self) -> Account:
        """As it is now, so that a password that was changed counts for the next request."""
        name = await self.sent.text(self.username)
        return Account(name, Secret(await self.sent.text(self.password)))


class WebhookProvider(OneByOne):
    """One store's endpoint. Implements Provider."""

    traits = Traits("ReadWrite", by_property=True, marked=False)

    def __init__(
        self,
        templates: WebhookTemplates,
        secrets: SentSecrets,
        http: HttpClient,
        clock: Clock,
        login: NtlmLogin | None = None,
    ) -> None:
        """With a `login`, each request goes over a connection of its own and not by `http`."""
        self._login = login
        self._templates = templates
        self._secrets = secrets
        self._http = http
        self._clock = clock
        # Digests of what was written last, by key and property; they stay in memory.
        self._pushed: dict[tuple[str, str], bytes] = {}

    async def validate(self) -> None:
        # No request is harmless everywhere; what a request needs must be there.
        await self._groups({})
        if self._login is not None:
            await self._login.account()

    # reading

    async def fetch(self, ref: RemoteRef) -> Fetched:
        if ref.metadata:
            raise Invalid("no-metadata", "the webhook provider has no metadata")
        groups = await self._groups(
            {
                "key": ref.key,
                "version": ref.version,
                "property": ref.property,
                "namespace": self._secrets.asking,
            }
        )
        call = self._call(groups, "GET", self._templates.body)
        reply = await self._answered(call, ref.key)
        value = self._picked(reply.body, groups)
        # The property was part of the request: the answer is its value.
        return Fetched(
            ref.key, ref.version, {ref.property: value} if ref.property else Parsed(value)
        )

    async def find(self, wanted: Find) -> Mapping[str, Fetched]:  # noqa: ARG002
        raise Invalid("no-find", "the webhook provider cannot find secrets; name them by key")

    def _picked(self, body: bytes, groups: Groups) -> bytes:
        if self._templates.path is None:
            return body
        path = self._templates.path.render_value(_values(groups)).decode(errors="replace")
        if not path:
            return body
        try:
            said = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise Unavailable("bad-reply", "the reply of the webhook is not JSON") from None
        first = first_found(path, said)
        # A list is taken for the matches of a filter, of which the first counts.
        while isinstance(first, list):
            if not first:
                raise Invalid("no-result", f"result.jsonPath {path!r} finds an empty list")
            first = first[0]
        return as_bytes(first)

    # writing

    async def push(self, target: PushTarget, value: Secret) -> Pushed:
        groups = await self._groups(_named(target))
        if await self._holds(target, value.reveal()):
            return Pushed(changed=False)
        groups["remoteRef"] = {**groups["remoteRef"], target.key: value.reveal()}
        call = self._call(groups, "POST", self._templates.body)
        if self._templates.body is None:
            call = Call(call.method, call.url, call.headers, value.reveal())
        await self._answered(call, target.key)
        # An endpoint that cannot be read is written to each time, and may be told the same.
        place, digest = (target.key, target.property), call.digest()
        before, self._pushed[place] = self._pushed.get(place), digest
        return Pushed(changed=before != digest)

    async def _holds(self, target: PushTarget, value: bytes) -> bool:
        """Whether the endpoint answers with the value already, where a read changes nothing.

        With a method of the store's own a read may be what a write is.
        """
        if self._templates.method:
            return False
        try:
            held = await self._held(target, None)
        except Refusal:
            # It may know of no reads; what is wrong with it is said by the write.
            return False
        return held == value or _same_object(held, value)

    async def _held(self, target: PushTarget, body: Template | None) -> bytes:
        """What the endpoint answers of a place to whoever asks in the words of reads or pushes."""
        named = {
            "key": target.key, "version": "", "property": target.property, "secretKey": "",
            "namespace": self._secrets.asking, **_named(target),
        }  # fmt: skip
        groups = await self._groups(named)
        reply = await self._answered(self._call(groups, "GET", body), target.key)
        return self._picked(reply.body, groups)

    async def delete(self, target: PushTarget) -> None:
        groups = await self._groups(_named(target))
        call = self._call(groups, "DELETE", None)
        try:
            await self._answered(Call("DELETE", call.url, call.headers, b""), target.key)
        except NotFound:
            return

    async def exists(self, target: PushTarget) -> bool:
        if self._templates.method not in ("", "GET"):
            # The question would be a write without a value, over what is to be left alone.
            raise Invalid(
                "no-exists",
                f"a webhook store with the method {self._templates.method} cannot be asked whether"
                " something is there",
                hint="leave spec.provider.webhook.method out, or push with updatePolicy Replace",
            )
        try:
            await self._held(target, self._templates.body)
        except NotFound:
            return False
        return True

    async def close(self) -> None:
        await self._http.close()

    # one request

    async def _groups(self, ref: Mapping[str, str]) -> dict[str, Mapping[str, bytes]]:
        groups: dict[str, Mapping[str, bytes]] = {
            "remoteRef": {name: each.encode() for name, each in ref.items()}
        }
        return groups | await self._secrets.read()

    def _call(self, groups: Groups, method: str, body: Template | None) -> Call:
        values = _values(groups)
        escaped = dict(groups)
        escaped["remoteRef"] = {
            name: each if name == "namespace" else quote_plus(each).encode()
            for name, each in groups["remoteRef"].items()
        }
        url = self._templates.url.render_value(_values(escaped)).decode(errors="replace")
        if urlsplit(url).scheme not in ("http", "https"):
            raise Invalid("bad-url", "spec.provider.webhook.url does not become an HTTP address")
        headers = {
            name: each.render_value(values).decode(errors="replace").strip()
            for name, each in self._templates.headers.items()
        }
        content = body.render_value(values) if body else b""
        return Call(self._templates.method or method, url, headers, content)

    async def _answered(self, call: Call, key: str) -> Response:
        sender: HttpClient | NtlmClient = self._http
        if self._login is not None:
            sender = NtlmClient(self._login.connect, await self._login.account())
        try:
            reply = await sender.request(
                call.method,
                call.url,
                headers=call.headers,
                body=call.body or None,
                timeout=self._templates.timeout,
            )
        except Refusal as refusal:
            if refusal.code in CODES:
                raise
            # The address may hold a secret, so only its host is named.
            where = urlsplit(call.url).hostname
            raise Unavailable("unreachable", f"no answer from {where} for {key}") from refusal
        if reply.status >= 300:
            # Nor is the endpoint's sentence believed to be free of what it was sent.
            bare = Response(reply.status, b"", reply.headers)
            raise refusal_of(bare, _NAME, self._clock.now())
        return reply


def _named(target: PushTarget) -> dict[str, str]:
    """What a template of a push may name; what is empty is not there, as for the other program."""
    parts = {"remoteKey": target.key, "secretKey": target.secret_key, "property": target.property}
    return {name: each for name, each in parts.items() if each}


def _same_object(one: bytes, other: bytes) -> bool:
    """Whether both are JSON objects, and the same."""
    try:
        parsed = orjson.loads(one)
        return isinstance(parsed, dict) and parsed == orjson.loads(other)
    except orjson.JSONDecodeError:
        return False


def _values(groups: Groups) -> Value:
    return Map(
        "map[string]string",
        {
            name.encode(): Map("string", {key.encode(): each for key, each in group.items()})
            for name, group in groups.items()
        },
    )
