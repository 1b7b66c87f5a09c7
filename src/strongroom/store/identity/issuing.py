"""Identity tokens: a caller's entity as a JWT that others verify by published keys.

API: https://developer.hashicorp.com/vault/api-docs/secret/identity/tokens. What is published
follows OpenID Connect Discovery 1.0 and RFC 7517.
"""

import asyncio
import re
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from strongroom.model.errors import Invalid, Refusal
from strongroom.store.auth.jwt_verify import key_id, keys_of_set, verified_claims
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.context import Context
from strongroom.store.engine.contract import Transaction, View
from strongroom.store.envelope import listed, present
from strongroom.store.identity import named_keys
from strongroom.store.identity.claims import check_template, claims_of, template_text
from strongroom.store.identity.key_rotation import KEY_KIND
from strongroom.store.identity.named_keys import DAY, KINDS, Document, Pair
from strongroom.store.identity.resolve import identity_of
from strongroom.store.parameters import Fields, fields

CONFIG, KEY, ROLE = "oidc-config", KEY_KIND, "oidc-role"
DEFAULT_KEY: Final = "default"
UNDER_ISSUER: Final = "/v1/identity/oidc"
SECONDS_OF_ROTATION: Final[Fields] = fields(seconds="verification_ttl")
ROLE_FIELDS: Final[Fields] = fields(text="key template client_id", seconds="ttl")
ISSUER_SET: Final = (
    'If "issuer" is set explicitly, all tokens must be validated against that address, including'
    ' those issued by secondary clusters. Setting issuer to "" will restore the default behavior'
    " of using the cluster's api_addr as the issuer."
)
_NAME: Final = re.compile(r"\w(?:[\w.-]*\w)?", re.ASCII)


class IdentityTokens:
    """The endpoints under `identity/oidc/`. `address` is the store's own, for its issuer."""

    def __init__(self, context: Context, new_id: Callable[[], uuid.UUID], address: str) -> None:
        self._context = context
        self._new_id = new_id
        self._address = address
        # Keys that are being rotated: who comes meanwhile signs with the pair that is there.
        self._rotating: set[tuple[str, str]] = set()

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint(
                "oidc/config",
                {"read": self._read_config, "update": self._write_config},
                takes=fields(text="issuer"),
            ),
            Endpoint("oidc/key", {"list": lambda call: self._names(call, KEY)}),
            Endpoint(
                "oidc/key/{name}",
                {"read": self._read_key, "update": self._write_key, "delete": self._delete_key},
                takes=named_keys.KEY,
            ),
            Endpoint("oidc/key/{name}/rotate", {"update": self._rotate}, takes=SECONDS_OF_ROTATION),
            Endpoint("oidc/role", {"list": lambda call: self._names(call, ROLE)}),
            Endpoint(
                "oidc/role/{name}",
                {"read": self._read_role, "update": self._write_role, "delete": self._delete_role},
                takes=ROLE_FIELDS,
            ),
            Endpoint("oidc/token/{name}", {"read": self._token}),
            Endpoint(
                "oidc/introspect",
                {"update": self._introspect},
                takes=fields(text="token client_id"),
            ),
            Endpoint(
                "oidc/.well-known/openid-configuration", {"read": self._discovery}, public=True
            ),
            Endpoint("oidc/.well-known/keys", {"read": self._keys}, public=True),
        )

    # configuration

    def _issuer(self, view: View, mount: str) -> str:
        """The `iss` of tokens; raises Invalid where nobody has said what it is."""
        base = (view.document(mount, CONFIG, "") or {}).get("issuer") or self._address
        if not base:
            raise Invalid(
                "no-issuer",
                "the store does not know its own address",
                hint="set api_addr, or write identity/oidc/config issuer=https://store:8200",
            )
        return f"{base.rstrip('/')}{UNDER_ISSUER}"

    def _read_config(self, call: Call) -> Result:
        kept = self._context.view.document(call.mount.uuid, CONFIG, "") or {}
        return Result({"issuer": kept.get("issuer", "")})

    async def _write_config(self, call: Call) -> Result | None:
        issuer = call.text("issuer")
        if issuer:
            parts = urlsplit(issuer)
            if (
                parts.scheme not in ("http", "https")
                or not parts.hostname
                or (parts.path or parts.query or parts.fragment or parts.username)
            ):
                raise Invalid(
                    "bad-issuer",
                    "invalid issuer, which must include only a scheme, host, and optional port"
                    " (e.g. https://example.com:8200)",
                )
        await self._context.engine.transact(
            lambda each: each.put_document(call.mount.uuid, CONFIG, "", {"issuer": issuer})
        )
        return Result(warnings=(ISSUER_SET,)) if issuer else None

    def _names(self, call: Call, kind: str) -> Result:
        return listed(self._context.view.document_names(call.mount.uuid, kind))

    # keys

    async def _new_pair(self, algorithm: str) -> Pair:
        return await asyncio.to_thread(named_keys.new_pair, algorithm, self._new_id)

    async def _new_pairs(self, algorithm: str) -> tuple[Pair, Pair]:
        return await self._new_pair(algorithm), await self._new_pair(algorithm)

    def _read_key(self, call: Call) -> Result:
        key = present(self._context.view.document(call.mount.uuid, KEY, call.args["name"]))
        return Result(named_keys.show(key))

    async def _write_key(self, call: Call) -> None:
        name = _name(call)
        pairs: tuple[Pair, Pair] | None = None
        while algorithm := await self._without_pairs(call, name, pairs):
            pairs = await self._new_pairs(algorithm)

    async def _without_pairs(self, call: Call, name: str, pairs: tuple[Pair, Pair] | None) -> str:
        """Write a key; where it needs pairs that are not given, say of which algorithm instead.

        Pairs take a while and are made outside the transaction, which alone knows what is needed.
        """
        mount, now = call.mount.uuid, self._context.clock.now()

        def write(transaction: Transaction) -> str:
            old = transaction.document(mount, KEY, name)
            settings = named_keys.settings_from(call, old)
            _check_lifetimes(transaction, mount, name, settings["verification_ttl"])
            algorithm: str = settings["algorithm"]
            if not named_keys.needs_pairs(old, settings):
                made = {**(old or {}), **settings}
            elif pairs is None or pairs[0].algorithm != algorithm:
                return algorithm
            else:
                made = named_keys.with_new_pairs(old, settings, pairs, now)
            transaction.put_document(mount, KEY, name, made)
            return ""

        return await self._context.engine.transact(write)

    async def _delete_key(self, call: Call) -> None:
        name, mount = call.args["name"], call.mount.uuid

        def write(transaction: Transaction) -> None:
            roles = [role for role, _ in _roles_of(transaction, mount, name)]
            if roles:
                raise Invalid(
                    "key-in-use",
                    f'unable to delete key "{name}" because it is currently referenced by these'
                    f" roles: {', '.join(roles)}",
                )
            transaction.delete_document(mount, KEY, name)

        await self._context.engine.transact(write)

    async def _rotate(self, call: Call) -> None:
        seconds = call.seconds("verification_ttl", -1)
        if "verification_ttl" in call.data and seconds < 0:
            raise Invalid("bad-verification", "verification_ttl must not be negative")

        def turned(key: Document, following: Pair, now: float) -> Document:
            kept = seconds if seconds >= 0 else key["verification_ttl"]
            return named_keys.rotated(key, following, now, kept)

        await self._turned(call.mount.uuid, call.args["name"], turned)

    async def _turned(
        self, mount: str, name: str, turned: Callable[[Document, Pair, float], Document]
    ) -> Document:
        """Change a key in a way that takes a new pair; raises Invalid where there is none."""
        found = self._context.view.document(mount, KEY, name)
        if found is None:
            raise Invalid("no-such-key", f'no named key found at "{name}"')
        following = await self._new_pair(found["algorithm"])
        now = self._context.clock.now()

        def write(transaction: Transaction) -> Document:
            key = transaction.document(mount, KEY, name)
            if key is None:
                raise Invalid("no-such-key", f'no named key found at "{name}"')
            key = turned(key, following, now)
            transaction.put_document(mount, KEY, name, key)
            return key

        return await self._context.engine.transact(write)

    # roles

    def _read_role(self, call: Call) -> Result:
        role = present(self._context.view.document(call.mount.uuid, ROLE, call.args["name"]))
        return Result(role)

    async def _write_role(self, call: Call) -> None:
        name, mount = _name(call), call.mount.uuid
        template = template_text(call.text("template"))
        check_template(template)
        kept = self._context.view.document(mount, KEY, DEFAULT_KEY)
        missing = call.text("key") == DEFAULT_KEY and kept is None
        pairs = await self._new_pairs("RS256") if missing else None
        now = self._context.clock.now()

        def write(transaction: Transaction) -> None:
            old = transaction.document(mount, ROLE, name) or {}
            role: dict[str, Any] = {
                "key": call.text("key") or old.get("key", ""),
                "template": template if "template" in call.data else old.get("template", ""),
                "client_id": call.text("client_id") or old.get("client_id") or self._new_id().hex,
                "ttl": call.seconds("ttl", old.get("ttl", DAY)),
            }
            if not role["key"]:
                raise Invalid("no-key", "the key parameter is required")
            key = transaction.document(mount, KEY, role["key"])
            if key is None and pairs is not None:
                key = named_keys.begun(named_keys.default_settings(), *pairs, now)
                transaction.put_document(mount, KEY, DEFAULT_KEY, key)
            if key is None:
                raise Invalid("no-such-key", "cannot find the role's key")
            if not 0 < role["ttl"] <= key["verification_ttl"]:
                raise Invalid(
                    "bad-ttl",
                    "a role's token ttl cannot be longer than the verification_ttl of the key it"
                    " references",
                )
            transaction.put_document(mount, ROLE, name, role)

        await self._context.engine.transact(write)

    async def _delete_role(self, call: Call) -> None:
        await self._context.engine.transact(
            lambda each: each.delete_document(call.mount.uuid, ROLE, call.args["name"])
        )

    # tokens

    async def _token(self, call: Call) -> Result:
        view, name, mount = self._context.view, call.args["name"], call.mount.uuid
        role = view.document(mount, ROLE, name)
        if role is None:
            raise Invalid("no-such-role", f'role "{name}" not found')
        entity_id = call.caller.row.entity_id
        identity = identity_of(view, entity_id) if entity_id else None
        if identity is None:
            raise Invalid(
                "no-entity",
                "no entity associated with the request's token",
                hint="log in by an auth method; root tokens and their children have no entity",
            )
        key = view.document(mount, KEY, role["key"])
        if key is None:
            raise Invalid("no-such-key", f'key "{role["key"]}" not found')
        if not named_keys.allows(key, role["client_id"]):
            raise Invalid(
                "client-not-allowed",
                f'the key "{role["key"]}" does not list the client ID of the role "{name}" as an'
                " allowed client ID",
            )
        issuer, now = self._issuer(view, mount), self._context.clock.now()
        claims = {
            **claims_of(role["template"], identity, now),
            "iss": issuer,
            "sub": identity.entity.id,
            "aud": role["client_id"],
            "iat": int(now),
            "exp": int(now) + role["ttl"],
            "namespace": "root",
        }
        if named_keys.is_due(key, now) and (mount, role["key"]) not in self._rotating:
            key = await self._rotated_if_due(mount, role["key"])
        token = named_keys.sign(key, claims)
        return Result({"client_id": role["client_id"], "token": token, "ttl": role["ttl"]})

    async def _rotated_if_due(self, mount: str, name: str) -> Document:
        """Rotate a key whose time has come; another process may have done it meanwhile."""

        self._rotating.add((mount, name))
        try:
            return await self._turned(mount, name, named_keys.rotated_when_due)
        finally:
            self._rotating.discard((mount, name))

    def _published(self, view: View, mount: str) -> list[Document]:
        now = self._context.clock.now()
        keys = (view.document(mount, KEY, name) for name in view.document_names(mount, KEY))
        return [jwk for key in keys if key for jwk in named_keys.published(key, now)]

    def _introspect(self, call: Call) -> Result:
        try:
            self._check(call, call.text("token"))
        except Refusal as refusal:
            said = {"active": False, "error": refusal.message}
            return Result(raw=orjson.dumps(said) + b"\n")
        return Result(raw=b'{"active":true}\n')

    def _check(self, call: Call, token: str) -> None:
        """Raise a refusal for a token that is not ours, or good no more."""
        view, mount = self._context.view, call.mount.uuid
        wanted = key_id(token)
        keys = [each for each in self._published(view, mount) if each["kid"] == wanted]
        claims = verified_claims(token, keys_of_set(keys), tuple(KINDS))
        client_id = call.text("client_id")
        if claims.get("iss") != self._issuer(view, mount):
            raise Invalid("bad-issuer", "the token is of another issuer")
        if not claims.get("exp", 0) > self._context.clock.now():
            raise Invalid("expired", "token is expired")
        if client_id and claims.get("aud") != client_id:
            raise Invalid("bad-audience", "the token is for another client")
        identity = identity_of(view, str(claims.get("sub")))
        if identity is None or identity.entity.disabled:
            raise Invalid("no-entity", "the entity is gone or disabled")

    def _discovery(self, call: Call) -> Result:
        issuer = self._issuer(self._context.view, call.mount.uuid)
        said: dict[str, Any] = {
            "issuer": issuer,
            "jwks_uri": f"{issuer}/.well-known/keys",
            "id_token_signing_alg_values_supported": list(KINDS),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
        }
        return Result(raw=orjson.dumps(said) + b"\n")

    def _keys(self, call: Call) -> Result:
        said = {"keys": self._published(self._context.view, call.mount.uuid)}
        return Result(raw=orjson.dumps(said) + b"\n")


def _name(call: Call) -> str:
    name = call.args["name"]
    if not _NAME.fullmatch(name):
        raise Invalid(
            "bad-name",
            "a name has letters, digits, '_', '-' and '.', and none of the last two at its ends",
        )
    return name


def _roles_of(view: View, mount: str, key: str) -> list[tuple[str, Document]]:
    """The roles that sign with a key, with their names."""
    found = ((name, view.document(mount, ROLE, name)) for name in view.document_names(mount, ROLE))
    return [(name, role) for name, role in found if role and role["key"] == key]


def _check_lifetimes(view: View, mount: str, key: str, seconds: int) -> None:
    """Raise Invalid where tokens of a key's roles would live longer than it is published."""
    if any(role["ttl"] > seconds for _, role in _roles_of(view, mount, key)):
        raise Invalid(
            "key-in-use",
            f'unable to update key "{key}" because it is currently referenced by one or more'
            f" roles with a token ttl greater than {seconds} seconds",
        )
