"""`auth/token`: create, look up, renew and revoke tokens.

API: https://developer.hashicorp.com/vault/api-docs/auth/token.
"""

from collections.abc import Sequence
from typing import Final

from strongroom.model.errors import Conflict, Denied, Invalid
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.context import Context
from strongroom.store.engine.contract import TokenRow, Transaction
from strongroom.store.sessions import invalid_token
from strongroom.store.tokens import (
    Grant,
    auth_object,
    clean_policies,
    describe,
    renewed_row,
)

METADATA_BYTES: Final = 512 * 1024


class TokenAuth:
    """The backend of the one `token/` mount."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint("create", {"update": self._create}),
            Endpoint("create-orphan", {"update": self._create_orphan}, sudo=True),
            Endpoint("lookup-self", {"read": self._lookup_self, "update": self._lookup_self}),
            Endpoint("lookup", {"read": self._lookup, "update": self._lookup}),
            Endpoint("lookup-accessor", {"update": self._lookup_accessor}),
            Endpoint("renew-self", {"update": self._renew_self}),
            Endpoint("renew", {"update": self._renew}),
            Endpoint("renew-accessor", {"update": self._renew_accessor}),
            Endpoint("revoke-self", {"update": self._revoke_self}),
            Endpoint("revoke", {"update": self._revoke}),
            Endpoint("revoke-accessor", {"update": self._revoke_accessor}),
            Endpoint("revoke-orphan", {"update": self._revoke_orphan}, sudo=True),
            Endpoint("accessors", {"list": self._accessors}, sudo=True),
        )

    def exists(self, call: Call) -> bool:  # noqa: ARG002 - every write here is an update
        return True

    async def _create(self, call: Call) -> Result:
        return await self._make(call, orphan=call.flag("no_parent"))

    async def _create_orphan(self, call: Call) -> Result:
        return await self._make(call, orphan=True)

    async def _make(self, call: Call, *, orphan: bool) -> Result:
        caller = call.caller
        powerful = caller.is_root or caller.decide(call.path, "sudo").allowed
        if orphan and call.rest == "create" and not powerful:
            raise Invalid("needs-sudo", "root or sudo privileges required to create an orphan")
        grant = self._grant(call, powerful=powerful)
        token = call.text("id")
        if token and (not powerful or "." in token or token.startswith(("s.", "hvs."))):
            raise Invalid("bad-token-id", "a token id needs sudo and may not look like a token")
        now = self._context.clock.now()

        def write(transaction: Transaction) -> tuple[TokenRow, str]:
            if token and transaction.token(self._context.sessions.token_id(token)):
                raise Conflict("token-exists", "cannot create a token with a duplicate ID")
            parent = None if orphan else caller.row.id
            if parent is not None and transaction.token(parent) is None:
                raise invalid_token()
            return self._context.issue(transaction, grant, parent, token)

        row, text = await self._context.engine.transact(write)
        return Result(auth=auth_object(row, text, now))

    def _grant(self, call: Call, *, powerful: bool) -> Grant:
        caller = call.caller
        asked = call.texts("policies")
        plain = not call.flag("no_default_policy")
        policies = clean_policies(asked or caller.row.policies, with_default=plain)
        beyond = set(policies) - set(caller.row.policies) - {"default"}
        if beyond and not powerful:
            raise Invalid("beyond-parent", "child policies must be subset of parent")
        if "root" in policies and not caller.is_root:
            raise Invalid("beyond-parent", "only root tokens can create root tokens")
        if call.text("type") not in ("", "service", "default"):
            raise Invalid("bad-parameter", "the only token type here is service")
        period = call.seconds("period")
        if period and not powerful:
            raise Invalid("needs-sudo", "root or sudo privileges required to create periodic token")
        meta = call.data.get("meta") or call.data.get("metadata") or {}
        if not isinstance(meta, dict) or not all(isinstance(each, str) for each in meta.values()):
            raise Invalid("bad-parameter", "meta must be a map of strings")
        if sum(len(key) + len(value) for key, value in meta.items()) > METADATA_BYTES:
            raise Invalid("too-much-metadata", "the token metadata is too large")
        name = call.text("display_name")
        return Grant(
            policies=policies,
            display_name=f"token-{name}" if name else "token",
            path=call.path,
            metadata=meta,
            ttl=call.seconds("ttl"),
            explicit_max_ttl=call.seconds("explicit_max_ttl"),
            period=period,
            uses=_count(call.integer("num_uses")),
            renewable=call.flag("renewable", default=True),
        )

    # lookups

    def _found(self, row: TokenRow | None) -> TokenRow:
        now = self._context.clock.now()
        if row is None or (row.expires is not None and row.expires <= now) or row.uses_left < 0:
            raise Denied("bad-token", "bad token")
        return row

    def _by_text(self, call: Call) -> tuple[TokenRow, str]:
        token = call.text("token")
        if not token:
            raise Invalid("no-token", "missing token")
        return self._found(self._context.view.token(self._context.sessions.token_id(token))), token

    def _by_accessor(self, call: Call) -> TokenRow:
        accessor = call.text("accessor")
        if not accessor:
            raise Invalid("no-accessor", "missing accessor")
        try:
            return self._found(self._context.view.token_by_accessor(accessor))
        except Denied:
            raise Denied("bad-accessor", "invalid accessor") from None

    def _lookup_self(self, call: Call) -> Result:
        return Result(describe(call.caller.row, self._context.clock.now(), call.token))

    def _lookup(self, call: Call) -> Result:
        row, token = self._by_text(call)
        return Result(describe(row, self._context.clock.now(), token))

    def _lookup_accessor(self, call: Call) -> Result:
        return Result(describe(self._by_accessor(call), self._context.clock.now()))

    def _accessors(self, call: Call) -> Result:  # noqa: ARG002
        return Result({"keys": list(self._context.view.accessors())})

    # renewal

    async def _renew_self(self, call: Call) -> Result:
        return await self._renewed(call, call.caller.row, "")

    async def _renew(self, call: Call) -> Result:
        return await self._renewed(call, *self._by_text(call))

    async def _renew_accessor(self, call: Call) -> Result:
        return await self._renewed(call, self._by_accessor(call), "")

    async def _renewed(self, call: Call, row: TokenRow, token: str) -> Result:
        now = self._context.clock.now()
        increment = call.seconds("increment")

        def write(transaction: Transaction) -> TokenRow:
            current = self._found(transaction.token(row.id))
            grant = _grant_of(current, transaction)
            renewed = renewed_row(current, grant, increment, now)
            transaction.put_token(renewed)
            return renewed

        return Result(auth=auth_object(await self._context.engine.transact(write), token, now))

    # revocation

    async def _revoke_self(self, call: Call) -> None:
        await self._revoked(call.caller.row)

    async def _revoke(self, call: Call) -> None:
        await self._revoked(self._by_text(call)[0])

    async def _revoke_accessor(self, call: Call) -> None:
        await self._revoked(self._by_accessor(call))

    async def _revoke_orphan(self, call: Call) -> None:
        await self._revoked(self._by_text(call)[0], orphan=True)

    async def _revoked(self, row: TokenRow, *, orphan: bool = False) -> None:
        await self._context.engine.transact(lambda each: each.delete_token(row.id, orphan=orphan))


def _count(value: int) -> int:
    if value < 0:
        raise Invalid("bad-parameter", "num_uses must not be negative")
    return value


def _grant_of(row: TokenRow, transaction: Transaction) -> Grant:
    """What bounds a renewal: the role it came from, as it is now."""
    max_ttl, mount = 0, row.path.removeprefix("auth/").rpartition("/")[0] + "/"
    if row.role:
        for each in transaction.mounts():
            if each.kind == "auth" and each.path == mount:
                role = transaction.document(each.uuid, "role", row.role) or {}
                max_ttl = int(role.get("token_max_ttl") or 0)
    return Grant(
        policies=row.policies,
        display_name=row.display_name,
        path=row.path,
        ttl=row.ttl,
        max_ttl=max_ttl,
        explicit_max_ttl=row.explicit_max_ttl,
        period=row.period,
    )
