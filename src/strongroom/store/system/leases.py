"""`sys/leases/`: look up, renew and revoke what was handed out with an end; tokens as well.

The lease of a token is its path and, after `/h`, its hash.
API: https://developer.hashicorp.com/vault/api-docs/system/leases.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from strongroom.model.errors import Invalid
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.context import Context
from strongroom.store.engine.contract import TokenRow, Transaction, View
from strongroom.store.envelope import listed
from strongroom.store.leases import PAGE, children, describe
from strongroom.store.leasing import Leases
from strongroom.store.parameters import fields
from strongroom.store.routing import full_path
from strongroom.store.tokens import describe as describe_token

HASH_CHARACTERS: Final = 64
STUCK: Final = 10_000
RENEW: Final = fields(text="lease_id url_lease_id", seconds="increment")
REVOKE: Final = fields(text="lease_id url_lease_id", flag="sync")
# The path was decided about: an id beside the one in it would lead to another lease.
RENEW_NAMED: Final = fields(seconds="increment")
REVOKE_NAMED: Final = fields(flag="sync")
TIDY_STARTED: Final = (
    "Tidy operation successfully started. Any information from the operation will be printed to"
    " Vault's server logs."
)


class LeaseEndpoints:
    """The endpoints."""

    def __init__(self, context: Context, leases: Leases) -> None:
        self._context = context
        self._leases = leases

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint("leases", {"read": self._stuck}, sudo=True, takes=fields(text="type")),
            Endpoint("leases/count", {"read": self._count}, takes=fields(text="type")),
            Endpoint("leases/tidy", {"update": self._tidy}),
            Endpoint("leases/lookup", {"update": self._lookup}, takes=fields(text="lease_id")),
            Endpoint("leases/lookup/{prefix*}", {"list": self._list}, sudo=True),
            # The names before Vault 0.8 (sys/renew, sys/revoke) are not there: rules about
            # sys/leases/ would not hold for them.
            Endpoint("leases/renew", {"update": self._renew}, takes=RENEW),
            Endpoint("leases/renew/{id*}", {"update": self._renew}, takes=RENEW_NAMED),
            Endpoint("leases/revoke", {"update": self._revoke}, takes=REVOKE),
            Endpoint("leases/revoke/{id*}", {"update": self._revoke}, takes=REVOKE_NAMED),
            Endpoint(
                "leases/revoke-prefix/{prefix*}",
                {"update": self._revoke_prefix},
                sudo=True,
                takes=fields(flag="sync"),
            ),
            Endpoint("leases/revoke-force/{prefix*}", {"update": self._revoke_force}, sudo=True),
        )

    # looking

    def _lookup(self, call: Call) -> Result:
        lease_id, now = _lease_id(call), self._context.clock.now()
        row = self._context.view.lease(lease_id)
        if row is not None and row.state in ("live", "revoking", "irrevocable"):
            return Result(describe(row, now))
        token = _token_of(self._context.view, lease_id)
        if token is None or (token.expires is not None and token.expires <= now):
            raise Invalid("no-lease", "invalid lease")
        said = describe_token(token, now)
        return Result(
            {
                "id": lease_id,
                "issue_time": said["issue_time"],
                "expire_time": said["expire_time"],
                "last_renewal": said.get("last_renewal"),
                "renewable": said["renewable"],
                "ttl": said["ttl"],
            }
        )

    async def _list(self, call: Call) -> Result:
        view, folder = self._context.view, call.args["prefix"].strip("/")
        now = self._context.clock.now()
        prefix = f"{folder}/" if folder else ""

        def token_leases(after: str) -> list[str]:
            start = after if "/h" in after and after != prefix else ""
            rows = view.token_ids(folder, after=start, limit=PAGE, now=now)
            return [f"{path}/h{token_id.hex()}" for path, token_id in rows]

        keys = await children(prefix, lambda after: view.lease_ids(prefix, after=after, limit=PAGE))
        keys += await children(prefix, token_leases)
        return listed(sorted(set(keys)), long=True)

    def _count(self, call: Call) -> Result:
        if call.text("type") != "irrevocable":
            raise Invalid("bad-type", 'the type of leases to count must be "irrevocable"')
        rows = self._context.view.stuck_leases(STUCK)
        mounts = {each.uuid: full_path(each) for each in self._context.view.mounts()}
        counts = Counter(mounts.get(row.mount, row.mount) for row in rows)
        return Result({"lease_count": len(rows), "counts": dict(counts)})

    def _stuck(self, call: Call) -> Result:
        if call.text("type") != "irrevocable":
            raise Invalid("bad-type", 'the type of leases to list must be "irrevocable"')
        rows = self._context.view.stuck_leases(STUCK)
        leases = [{"lease_id": row.id, "error": row.error} for row in rows]
        return Result({"lease_count": len(rows), "leases": leases})

    # changing

    async def _renew(self, call: Call) -> Result:
        lease_id = _lease_id(call)
        if _token_of(self._context.view, lease_id) is not None:
            raise Invalid("token-lease", "tokens cannot be renewed through this endpoint")
        lease = await self._leases.renew(lease_id, call.seconds("increment"))
        answer = self._leases.answer({}, lease)
        answer.data = None
        return answer

    async def _revoke(self, call: Call) -> Result:
        lease_id = _lease_id(call)
        token = _token_of(self._context.view, lease_id)
        now = self._context.clock.now()
        if token is not None:
            await self._context.engine.transact(lambda each: each.delete_token(token.id, now=now))
            return Result(status=204)
        if call.flag("sync", default=True):
            await self._leases.revoke_now(lease_id)
            return Result(status=204)

        def later(transaction: Transaction) -> None:
            if transaction.lease(lease_id) is not None:
                transaction.revoke_leases(now, prefix=lease_id)

        await self._context.engine.transact(later)
        return Result(status=202)

    async def _revoke_prefix(self, call: Call) -> Result:
        prefix, now = _prefix(call), self._context.clock.now()
        sync = call.flag("sync", default=True)

        def write(transaction: Transaction) -> None:
            transaction.revoke_tokens(prefix)
            if not sync:
                transaction.revoke_leases(now, prefix=f"{prefix}/")

        await self._context.engine.transact(write)
        if not sync:
            return Result(status=202)
        await self._revoke_all(prefix, force=False)
        return Result(status=204)

    async def _revoke_force(self, call: Call) -> Result:
        prefix = _prefix(call)
        await self._context.engine.transact(lambda each: each.revoke_tokens(prefix))
        await self._revoke_all(prefix, force=True)
        return Result(status=204)

    async def _revoke_all(self, prefix: str, *, force: bool) -> None:
        after = ""
        while ids := self._context.view.lease_ids(f"{prefix}/", after=after, limit=PAGE):
            for lease_id in ids:
                await self._leases.revoke_now(lease_id, force=force)
            after = ids[-1]

    async def _tidy(self, call: Call) -> Result:  # noqa: ARG002 - the shape of a handler
        now = self._context.clock.now()
        await self._context.engine.transact(lambda each: each.revoke_abandoned_leases(now))
        return Result(status=202, warnings=(TIDY_STARTED,))


def _lease_id(call: Call) -> str:
    lease_id = call.args.get("id") or call.text("lease_id") or call.text("url_lease_id")
    if not lease_id:
        raise Invalid("no-lease-id", "lease_id must be specified")
    return lease_id


def _prefix(call: Call) -> str:
    prefix = call.args["prefix"].strip("/")
    if not prefix:
        raise Invalid("no-prefix", "the prefix must not be empty")
    return prefix


def _token_of(view: View, lease_id: str) -> TokenRow | None:
    """The token whose lease this is."""
    path, _, name = lease_id.rpartition("/h")
    if len(name) != HASH_CHARACTERS or not set(name) <= set("0123456789abcdef"):
        return None
    token: Any = view.token(bytes.fromhex(name))
    return token if token is not None and token.path == path else None
