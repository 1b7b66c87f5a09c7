"""`auth/token`: create, look up, renew and revoke tokens.

API: https://developer.hashicorp.com/vault/api-docs/auth/token.
"""

import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from strongroom.model.errors import Conflict, Denied, Invalid
from strongroom.store.auth.renewal import renewal_grant
from strongroom.store.auth.token_create import Asker, Wanted, decide_new_token
from strongroom.store.auth.token_roles import KIND, TokenRoles
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.context import Context, Issued
from strongroom.store.engine.contract import TokenRow, Transaction
from strongroom.store.identity.at_login import LoginAlias, entity_for
from strongroom.store.parameters import fields
from strongroom.store.sessions import invalid_token
from strongroom.store.tokens import BATCH, auth_object, describe, is_over, renewed_row

TIDIED_AT_ONCE: Final = 5000

TOKEN: Final = fields(text="token")
ACCESSOR: Final = fields(text="accessor")
RENEW: Final = fields(TOKEN, seconds="increment")
CREATE: Final = fields(
    text="id display_name type entity_alias",
    seconds="ttl lease explicit_max_ttl period",
    texts="policies bound_cidrs",
    object="meta metadata",
    flag="no_parent no_default_policy renewable",
    number="num_uses",
)


# What has to be asked of others before the transaction of a renewal; raises a Refusal.
BeforeRenewal = Callable[[TokenRow, Call], Awaitable[None]]


class TokenAuth:
    """The backend of the one `token/` mount."""

    def __init__(self, context: Context, before_renewal: BeforeRenewal) -> None:
        self._context = context
        self._before_renewal = before_renewal
        self._roles = TokenRoles(context)

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint("create", {"update": self._create}, takes=CREATE),
            Endpoint("create-orphan", {"update": self._create_orphan}, sudo=True, takes=CREATE),
            Endpoint("create/{role_name}", {"update": self._create}, takes=CREATE),
            Endpoint(
                "lookup-self",
                {"read": self._lookup_self, "update": self._lookup_self},
                takes=TOKEN,
            ),
            Endpoint("lookup", {"read": self._lookup, "update": self._lookup}, takes=TOKEN),
            Endpoint("lookup-accessor", {"update": self._lookup_accessor}, takes=ACCESSOR),
            Endpoint("renew-self", {"update": self._renew_self}, takes=RENEW),
            Endpoint("renew", {"update": self._renew}, takes=RENEW),
            Endpoint("renew/{token}", {"update": self._renew}, takes=RENEW),
            Endpoint(
                "renew-accessor",
                {"update": self._renew_accessor},
                takes=fields(ACCESSOR, seconds="increment"),
            ),
            Endpoint("revoke-self", {"update": self._revoke_self}, takes=TOKEN),
            Endpoint("revoke", {"update": self._revoke}, takes=TOKEN),
            Endpoint("revoke-accessor", {"update": self._revoke_accessor}, takes=ACCESSOR),
            Endpoint("revoke-orphan", {"update": self._revoke_orphan}, sudo=True, takes=TOKEN),
            Endpoint("accessors", {"list": self._accessors}, sudo=True),
            Endpoint("tidy", {"update": self._tidy}),
            *self._roles.endpoints,
        )

    def exists(self, call: Call) -> bool:
        return self._roles.exists(call) if call.rest.startswith("roles/") else True

    # creation

    async def _create(self, call: Call) -> Result:
        return await self._make(call, orphan_path=False)

    async def _create_orphan(self, call: Call) -> Result:
        return await self._make(call, orphan_path=True)

    async def _make(self, call: Call, *, orphan_path: bool) -> Result:
        caller = call.caller
        powerful = caller.is_root or caller.decide(call.path, "sudo", lowered=call.lowered).allowed
        asker = Asker(caller.row, powerful, self._context.bounds(call.mount))

        def write(transaction: Transaction) -> tuple[Issued, Wanted]:
            role = None
            if name := call.args.get("role_name", "").lower():
                role = transaction.document(call.mount.uuid, KIND, name)
                if role is None:
                    raise Invalid("no-such-role", f"unknown role {name}")
            wanted = decide_new_token(call, asker, role, orphan_path=orphan_path)
            token = wanted.token
            if token and transaction.token(self._context.sessions.token_id(token)):
                raise Conflict("token-exists", "cannot create a token with a duplicate ID")
            parent, now = None if wanted.orphan else caller.row.id, self._context.clock.now()
            if parent is not None:
                # It may have been revoked since the request came, by itself or with a prefix.
                elder = transaction.token(parent)
                if elder is None or is_over(elder, now):
                    raise invalid_token()
            grant = wanted.grant
            if wanted.entity_alias:
                alias = LoginAlias(wanted.entity_alias)
                entity = entity_for(transaction, call.mount, alias, now)
                grant = dataclasses.replace(grant, entity_id=entity)
            issued = self._context.grant(
                transaction, grant, asker.bounds, parent=parent, token=token
            )
            return issued, wanted

        issued, wanted = await self._context.engine.transact(write)
        missing = [each for each in issued.row.policies if self._is_missing(each)]
        gone = tuple(f'Policy "{name}" does not exist' for name in missing)
        return Result(
            auth=self._auth(issued.row, issued.text),
            display_name=issued.row.display_name,
            warnings=(*wanted.warnings, *issued.warnings, *gone),
        )

    def _is_missing(self, policy: str) -> bool:
        return policy != "root" and self._context.view.policy(policy) is None

    def _auth(self, row: TokenRow, token: str) -> dict[str, Any]:
        # Looked at after the write: an instant earlier a second more would seem to be left.
        now = self._context.clock.now()
        return auth_object(row, token, now, self._context.sessions.identity_policies(row))

    # lookups

    def _found(self, row: TokenRow | None) -> TokenRow:
        if row is None or is_over(row, self._context.clock.now()):
            raise Denied("bad-token", "bad token")
        return row

    def _by_text(self, call: Call) -> tuple[TokenRow, str]:
        token = call.args.get("token") or call.text("token") or call.token
        return self._found(self._context.sessions.row_of(token)), token

    def _by_accessor(self, call: Call) -> TokenRow:
        accessor = call.text("accessor")
        if not accessor:
            raise Invalid("no-accessor", "missing accessor")
        row = self._context.view.token_by_accessor(accessor)
        if row is None or is_over(row, self._context.clock.now()):
            raise Invalid("bad-accessor", "invalid accessor")
        return row

    def _described(self, row: TokenRow, token: str = "") -> Result:
        policies = self._context.sessions.identity_policies(row)
        return Result(describe(row, self._context.clock.now(), token, policies))

    def _lookup_self(self, call: Call) -> Result:
        return self._described(call.caller.row, call.token)

    def _lookup(self, call: Call) -> Result:
        return self._described(*self._by_text(call))

    def _lookup_accessor(self, call: Call) -> Result:
        return self._described(self._by_accessor(call))

    async def _accessors(self, call: Call) -> Result:  # noqa: ARG002
        keys = list(self._context.view.accessors(self._context.clock.now()))
        return Result({"keys": keys}, long=True)

    # renewal

    async def _renew_self(self, call: Call) -> Result:
        return await self._renewed(call, call.caller.row, call.token)

    async def _renew(self, call: Call) -> Result:
        try:
            row, token = self._by_text(call)
        except Denied:
            raise Invalid("no-token", "token not found") from None
        return await self._renewed(call, row, token)

    async def _renew_accessor(self, call: Call) -> Result:
        return await self._renewed(call, self._by_accessor(call), "")

    async def _renewed(self, call: Call, row: TokenRow, token: str) -> Result:
        increment = call.seconds("increment")
        if increment < 0:
            raise Invalid("bad-parameter", "increment must be positive")
        if row.type == BATCH:
            raise Invalid("batch-token", "batch tokens cannot be renewed")
        await self._before_renewal(row, call)
        now = self._context.clock.now()

        def write(transaction: Transaction) -> tuple[TokenRow, tuple[str, ...]]:
            current = self._found(transaction.token(row.id))
            grant, bounds = renewal_grant(current, transaction, self._context.system, call, now)
            renewed, warnings = renewed_row(current, grant, bounds, increment, now)
            transaction.put_token(renewed)
            return renewed, warnings

        renewed, warnings = await self._context.engine.transact(write)
        auth = self._auth(renewed, token)
        return Result(auth=auth, display_name=renewed.display_name, warnings=warnings)

    # revocation

    async def _revoke_self(self, call: Call) -> None:
        await self._revoked(call.caller.row)

    async def _revoke(self, call: Call) -> None:
        if not call.text("token"):
            raise Invalid("no-token", "missing token ID")
        row = self._context.sessions.row_of(call.text("token"))
        # A token that is gone already is what the caller wants.
        if row is not None:
            await self._revoked(row)

    async def _revoke_accessor(self, call: Call) -> Result | None:
        try:
            row = self._by_accessor(call)
        except Invalid as refusal:
            if refusal.code != "bad-accessor":
                raise
            # Gone already, which is what the caller wants, or a slip: the reply says which it did.
            return Result(warnings=("No token found with this accessor",))
        await self._revoked(row)
        return None

    async def _revoke_orphan(self, call: Call) -> None:
        if not call.text("token"):
            raise Invalid("no-token", "missing token ID")
        try:
            row, _ = self._by_text(call)
        except Denied:
            raise Invalid("no-token", "token to revoke not found") from None
        await self._revoked(row, orphan=True)

    async def _revoked(self, row: TokenRow, *, orphan: bool = False) -> None:
        if row.type == BATCH:
            raise Invalid("batch-token", "batch tokens cannot be revoked")
        await self._context.engine.transact(lambda each: each.delete_token(row.id, orphan=orphan))

    async def _tidy(self, call: Call) -> Result:  # noqa: ARG002
        now = self._context.clock.now()
        await self._context.engine.transact(
            lambda each: each.delete_expired_tokens(now, TIDIED_AT_ONCE)
        )
        said = (
            "Tidy operation successfully started. Any information from the operation will be"
            " printed to Vault's server logs."
        )
        return Result(warnings=(said,), status=202)
